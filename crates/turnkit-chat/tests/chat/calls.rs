//! The calls of a chat, without HTTP.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;
use turnkit::{Produced, TurnProducer as _};
use turnkit_chat::store::{ChatStore as _, SessionPage};
use turnkit_chat::{
    Answer, Chat, Ending, Hooks, NewTurn, Principal, Refusal, Started, Turn, TurnRef, TurnState,
};
use turnkit_sandbox::{RunRequest, SandboxClient};

use crate::rig::{ALL, Rig};

async fn lines(started: Started) -> Vec<String> {
    let chunks: Vec<_> = started.stream().unwrap().body.map(Result::unwrap).collect().await;
    let text = String::from_utf8(chunks.concat()).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_turn_runs_once_is_seen_whole_and_is_saved() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    let first = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    let again = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    let at = TurnRef::new(session.clone(), "t");
    let rest = chat.resume(&rig.ann, &at, 3).await.unwrap();
    rig.gate.add_permits(5);
    let (first, again, rest) = tokio::join!(lines(first), lines(again), lines(rest));
    assert_eq!(first, again);
    assert_eq!(first[3..], rest);
    assert!(first.last().unwrap().contains("session.run.completed"));
    assert_eq!(rig.runs(), 1);
    let answer = ("w0 w1 w2 w3 ".to_owned(), TurnState::Complete);
    assert_eq!(rig.answer(&chat, &session).await, Some(answer));
}

/// Takes its time once a turn has ended: longer than leases go without being renewed.
struct Slow(mpsc::UnboundedSender<TurnState>);

impl Hooks for Slow {
    async fn on_turn_complete(&self, _: &Turn, _: &Answer) {
        sleep(Duration::from_secs(20)).await;
        self.0.send(TurnState::Complete).unwrap();
    }

    async fn on_turn_ended(&self, _: &Turn, ending: &Ending) {
        sleep(Duration::from_secs(20)).await;
        self.0.send(ending.state()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_between_an_ending_and_its_telling_cuts_nothing() {
    let rig = Rig::new();
    let (ended, mut endings) = mpsc::unbounded_channel();
    let chat = Chat::builder(rig.store.beside(), rig.agents()).hooks(Slow(ended));
    let (chat, attendant) = chat.build().await.unwrap();
    tokio::spawn(attendant);
    rig.gate.add_permits(10);
    for (message, state, last) in [
        ("hello", TurnState::Complete, "session.run.completed"),
        ("fail", TurnState::Failed, "session.run.failed"),
    ] {
        let session = chat.open_session(&rig.ann).await.unwrap();
        let turn = chat.start(&rig.ann, &session, NewTurn::new("t", message)).await.unwrap();
        let lines = lines(turn).await;
        assert!(lines.last().unwrap().contains(last), "{lines:?}");
        assert_eq!(endings.try_recv(), Ok(state));
    }
}

#[tokio::test]
async fn without_an_attendant_no_turn_is_started() {
    let rig = Rig::new();
    let (chat, attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    attending.abort();
    let _ = attending.await;
    let refused = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap_err();
    assert!(matches!(refused, Refusal::Unattended), "{refused:?}");
    assert!(chat.session(&rig.ann, &session, ALL).await.unwrap().open.is_none());
}

#[tokio::test]
async fn another_users_session_does_not_exist() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    for bob in [Principal::new("acme", "bob"), Principal::new("other", "ann")] {
        let refused = chat.start(&bob, &session, NewTurn::new("t", "hello")).await.unwrap_err();
        assert!(matches!(refused, Refusal::NoSession));
        let refused = chat.session(&bob, &session, ALL).await.unwrap_err();
        assert!(matches!(refused, Refusal::NoSession));
        let at = TurnRef::new(session.clone(), "t");
        assert!(matches!(chat.stop(&bob, &at).await.unwrap_err(), Refusal::NoSession));
        assert!(matches!(chat.resume(&bob, &at, 0).await.unwrap_err(), Refusal::NoSession));
    }
}

#[tokio::test]
async fn a_stopped_turn_keeps_all_that_its_readers_have_seen() {
    let rig = Rig::new();
    // A word that the agent says while its cancel is on the way. Another client sees it before the cancel arrives.
    let (gate, is_seen) = (Arc::clone(&rig.gate), Arc::new(Notify::new()));
    let seen = Arc::clone(&is_seen);
    let late = move |request: axum::extract::Request, next: axum::middleware::Next| {
        let (gate, seen) = (Arc::clone(&gate), Arc::clone(&seen));
        async move {
            if request.uri().path().ends_with("/cancel") {
                gate.add_permits(1);
                seen.notified().await;
            }
            next.run(request).await
        }
    };
    let routes = rig.substrate.router().layer(axum::middleware::from_fn(late));
    let agents = SandboxClient::over(routes).build().unwrap();
    let (chat, attendant) = Chat::builder(rig.store.beside(), agents).build().await.unwrap();
    tokio::spawn(attendant);
    let session = chat.open_session(&rig.ann).await.unwrap();
    let _driven = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    let at = TurnRef::new(session.clone(), "t");
    // As another process does, which writes nothing down.
    let execution = chat.turn(&rig.ann, &at).await.unwrap().execution_id;
    let mut reader = rig.agents().attach(execution);
    let mut read_to = async |word: &str| {
        loop {
            match reader.next().await.unwrap() {
                Produced::Event(event) if event.as_json().contains(word) => break,
                Produced::Event(_) => {}
                ended @ Produced::Done { .. } => panic!("{ended:?}"),
            }
        }
    };
    rig.gate.add_permits(2);
    read_to("w1").await;
    let stopping = chat.stop(&rig.ann, &at);
    let stopped = async {
        read_to("w2").await;
        is_seen.notify_one();
    };
    let (stopped, ()) = tokio::join!(stopping, stopped);
    assert_eq!(stopped.unwrap().state, TurnState::Stopped);
    let answer = ("w0 w1 w2 ".to_owned(), TurnState::Stopped);
    assert_eq!(rig.answer(&chat, &session).await, Some(answer));
}

#[tokio::test]
async fn a_turn_is_stopped_and_keeps_what_there_is() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    let stream = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    rig.gate.add_permits(2);
    let mut body = stream.stream().unwrap().body;
    let mut seen = String::new();
    while !seen.contains("w1") {
        seen.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    let at = TurnRef::new(session.clone(), "t");
    let stopped = chat.stop(&rig.ann, &at).await.unwrap();
    assert_eq!(stopped.state, TurnState::Stopped);
    let answer = ("w0 w1 ".to_owned(), TurnState::Stopped);
    assert_eq!(rig.answer(&chat, &session).await, Some(answer));
}

#[tokio::test]
async fn an_ending_that_the_log_tells_is_written_past_a_worker_that_hangs() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    let hanging = rig.store.beside();
    let execution_id = rig.claimed_by(&hanging, &session, "fail").await;
    // It has started the run and never looks again, but its lease is fresh.
    let mut run =
        rig.agents().run(RunRequest::new(execution_id, "fail").session_id(session.as_str()));
    rig.gate.add_permits(5);
    assert!(run.next().await.is_ok());
    let at = TurnRef::new(session.clone(), "t");
    let told = lines(chat.resume(&rig.ann, &at, 0).await.unwrap()).await;
    assert!(told.last().unwrap().contains("no_words"), "{told:?}");
    let answer = ("w0 w1 w2 w3 ".to_owned(), TurnState::Failed);
    assert_eq!(rig.answer(&chat, &session).await, Some(answer));
    rig.gate.add_permits(5);
    let next = chat.start(&rig.ann, &session, NewTurn::new("u", "hello")).await;
    assert!(
        matches!(next, Ok(Started::Stream(_))),
        "told a final failure, then a new turn: {next:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_a_worker_that_died_is_driven_on_without_a_client() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    // It may have sent the run, and nobody else ever sends it.
    let dead = rig.store.beside();
    rig.claimed_by(&dead, &session, "hello").await;
    drop(dead);
    let at = TurnRef::new(session.clone(), "t");
    let told = lines(chat.resume(&rig.ann, &at, 0).await.unwrap()).await;
    assert!(told.last().unwrap().contains("execution_lost"), "{told:?}");
    assert_eq!(rig.runs(), 0, "what may have run once is not run again");
    assert_eq!(rig.answer(&chat, &session).await.unwrap().1, TurnState::Failed);
}

#[tokio::test]
async fn what_is_sent_during_a_turn_runs_in_order_each_once() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    let first = chat.start(&rig.ann, &session, NewTurn::new("t0", "hello")).await.unwrap();
    for (place, id) in (1..).zip(["t1", "t2", "t3"]) {
        let turn = NewTurn::new(id, format!("message {id}")).queued();
        let Started::Queued(queued) = chat.start(&rig.ann, &session, turn).await.unwrap() else {
            panic!("{id} does not wait")
        };
        assert_eq!(queued.position, place);
    }
    let beside = chat.start(&rig.ann, &session, NewTurn::new("t4", "hello")).await.unwrap_err();
    assert!(matches!(beside, Refusal::Running { .. }), "{beside:?}");
    let at = |id: &str| TurnRef::new(session.clone(), id);
    chat.edit_queued(&rig.ann, &at("t1"), Some("edited".to_owned()), None).await.unwrap();
    chat.remove_queued(&rig.ann, &at("t2")).await.unwrap();
    let again = chat.start(&rig.ann, &session, NewTurn::new("t2", "message t2").queued()).await;
    assert!(matches!(again, Err(Refusal::Removed)), "{again:?}");
    // Nobody reads along: the attendant drives what comes out of the queue.
    drop(first);
    rig.gate.add_permits(15);
    let saved = async {
        loop {
            let state = chat.session(&rig.ann, &session, ALL).await.unwrap();
            if state.open.is_none() && state.queue.turns.is_empty() {
                return state.messages;
            }
            tokio::task::yield_now().await;
        }
    };
    let told: Vec<_> =
        saved.await.into_iter().map(|message| (message.turn_index, message.text)).collect();
    let answer = "w0 w1 w2 w3 ";
    let wanted =
        [(0, "hello"), (0, answer), (1, "edited"), (1, answer), (2, "message t3"), (2, answer)];
    assert_eq!(told, wanted.map(|(index, text)| (index, text.to_owned())));
    assert_eq!(rig.runs(), 3);
    let late = chat.remove_queued(&rig.ann, &at("t1")).await.unwrap_err();
    assert!(matches!(late, Refusal::Started), "{late:?}");
}

#[tokio::test]
async fn a_stop_keeps_what_waits_until_something_new_is_said() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    let _first = chat.start(&rig.ann, &session, NewTurn::new("t0", "hello")).await.unwrap();
    let waits = NewTurn::new("t1", "later").queued();
    assert!(matches!(chat.start(&rig.ann, &session, waits.clone()).await, Ok(Started::Queued(_))));
    let at = TurnRef::new(session.clone(), "t1");
    assert!(matches!(chat.stop(&rig.ann, &at).await, Err(Refusal::Queued)));
    let at = TurnRef::new(session.clone(), "t0");
    assert_eq!(chat.stop(&rig.ann, &at).await.unwrap().state, TurnState::Stopped);
    let state = chat.session(&rig.ann, &session, ALL).await.unwrap();
    assert!(state.open.is_none() && state.queue.is_paused && state.queue.turns.len() == 1);
    // The agent that was stopped takes some of these.
    rig.gate.add_permits(15);
    let next = chat.start(&rig.ann, &session, NewTurn::new("t2", "and now")).await.unwrap();
    assert!(matches!(next, Started::Queued(_)), "behind what waits: {next:?}");
    let told = loop {
        match chat.resume(&rig.ann, &TurnRef::new(session.clone(), "t2"), 0).await.unwrap() {
            Started::Queued(_) => tokio::task::yield_now().await,
            stream @ Started::Stream(_) => break lines(stream).await,
        }
    };
    assert!(told.last().unwrap().contains("session.run.completed"), "{told:?}");
    assert_eq!(chat.session(&rig.ann, &session, ALL).await.unwrap().messages.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_answered_in_time_although_the_substrate_hangs() {
    let rig = Rig::new();
    let hangs = |request: axum::extract::Request, next: axum::middleware::Next| async {
        if request.uri().path().ends_with("/cancel") {
            std::future::pending::<()>().await;
        }
        next.run(request).await
    };
    let routes = rig.substrate.router().layer(axum::middleware::from_fn(hangs));
    let agents = SandboxClient::over(routes).build().unwrap();
    let (chat, attendant) = Chat::builder(rig.store.beside(), agents).build().await.unwrap();
    tokio::spawn(attendant);
    let session = chat.open_session(&rig.ann).await.unwrap();
    let _body = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    let since = tokio::time::Instant::now();
    let stopped = chat.stop(&rig.ann, &TurnRef::new(session, "t")).await.unwrap();
    assert!(since.elapsed() <= Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(stopped.state, TurnState::Stopped);
}

#[tokio::test]
async fn a_session_that_is_deleted_while_it_runs_ends_honestly_for_everybody() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let (elsewhere, _attending_too) = rig.worker().await;
    let session = chat.open_named(&rig.ann, "chat").await.unwrap();
    let driven = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    let waits = NewTurn::new("later", "later").queued();
    chat.start(&rig.ann, &session, waits).await.unwrap();
    let at = TurnRef::new(session.clone(), "t");
    let read = elsewhere.resume(&rig.ann, &at, 0).await.unwrap();
    rig.gate.add_permits(2);
    let bob = Principal::new("acme", "bob");
    assert!(matches!(chat.delete_session(&bob, &session).await, Err(Refusal::NoSession)));
    chat.delete_session(&rig.ann, &session).await.unwrap();
    let (driven, read) = tokio::join!(lines(driven), lines(read));
    for told in [driven, read] {
        let last = told.last().unwrap();
        assert!(last.contains(r#""code":"session_deleted""#), "{told:?}");
        assert!(last.contains(r#""retryable":false"#), "{told:?}");
    }
    chat.drained().await;
    let again = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap_err();
    assert!(matches!(again, Refusal::NoSession), "{again:?}");
    assert!(matches!(chat.resume(&rig.ann, &at, 0).await, Err(Refusal::NoSession)));
    assert!(matches!(chat.open_named(&rig.ann, "chat").await, Err(Refusal::NoSession)));
    chat.delete_session(&rig.ann, &session).await.unwrap();
    // The agent was stopped, and nothing of its words is left.
    while !rig.store.to_erase(9).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let execution = turnkit_id::ExecutionId::derive("acme", session.as_str(), 0).unwrap();
    let status = rig.agents().status(&execution).await.unwrap_err();
    assert!(format!("{status:?}").contains("execution_expired"), "{status:?}");
    assert_eq!(rig.runs(), 1);
}

#[tokio::test]
async fn an_answer_that_is_saved_too_late_is_told_as_deleted() {
    let rig = Rig::new();
    let (chat, attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    let stream = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    // Nobody erases anything: the driver reads the whole answer, and finds nowhere to save it.
    attending.abort();
    let _ = attending.await;
    chat.delete_session(&rig.ann, &session).await.unwrap();
    rig.gate.add_permits(5);
    let told = lines(stream).await;
    let last = told.last().unwrap();
    assert!(last.contains("session_deleted") && last.contains(r#""retryable":false"#), "{told:?}");
    assert_eq!(rig.store.to_erase(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_user_leaves_nothing_behind_and_others_keep_what_is_theirs() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let bob = Principal::new("acme", "bob");
    for who in [&rig.ann, &bob] {
        for _ in 0..70 {
            chat.open_session(who).await.unwrap();
        }
    }
    chat.delete_user(&rig.ann).await.unwrap();
    let page = SessionPage { before: None, limit: 100, archived: None };
    assert!(chat.sessions(&rig.ann, page.clone()).await.unwrap().sessions.is_empty());
    assert_eq!(chat.sessions(&bob, page).await.unwrap().sessions.len(), 70);
}
