//! A chat over the store in memory and a substrate in the same process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use turnkit::TurnProducer as _;
use turnkit_chat::store::memory::MemoryStore;
use turnkit_chat::store::{Accepted, ChatStore as _, Claim, Claimed, MessagePage, NewRow};
use turnkit_chat::{
    Chat, NewTurn, Principal, Refusal, Role, SessionId, TurnRef, TurnState, TurnStream,
};
use turnkit_id::ExecutionId;
use turnkit_sandbox::{RunRequest, SandboxClient};
use turnkit_substrate::{Agent, AgentError, Run, Substrate};
use turnkit_wire::Event;

const ALL: MessagePage = MessagePage { before: None, turns: 50 };

/// Says four words, each when it is let to.
#[derive(Clone)]
struct Words(Arc<Semaphore>);

impl Agent for Words {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let (gate, fails) = (Arc::clone(&self.0), run.request().message().contains("fail"));
        stream::unfold(0, move |at| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                let data =
                    json!({ "part": { "id": "p", "type": "text" }, "delta": format!("w{at} ") });
                match at {
                    0..4 => Some((Ok(Event::new("message.part.updated", &data).unwrap()), at + 1)),
                    4 if fails => Some((Err(AgentError::new("no_words", "no more words")), 5)),
                    _ => None,
                }
            }
        })
    }
}

struct Rig {
    substrate: Substrate,
    gate: Arc<Semaphore>,
    store: MemoryStore,
    ann: Principal,
}

impl Rig {
    fn new() -> Rig {
        let gate = Arc::new(Semaphore::new(0));
        let substrate = Substrate::builder().agent("default", Words(Arc::clone(&gate)));
        let substrate = substrate.build().unwrap();
        Rig { substrate, gate, store: MemoryStore::new(), ann: Principal::new("acme", "ann") }
    }

    fn agents(&self) -> SandboxClient {
        SandboxClient::over(self.substrate.router()).build().unwrap()
    }

    /// A turn that `worker` has accepted and claimed, and that it alone may dispatch.
    async fn claimed_by(
        &self,
        worker: &MemoryStore,
        session: &SessionId,
        message: &str,
    ) -> ExecutionId {
        worker.join(self.agents().log_id().await.unwrap().unwrap()).await.unwrap();
        let accepted = worker.accept(NewRow {
            owner: self.ann.clone(),
            session_id: session.clone(),
            turn_id: "t".to_owned(),
            message: message.to_owned(),
            agent: "default".to_owned(),
        });
        let Accepted::New(row) = accepted.await.unwrap() else { panic!("it is new") };
        let execution_id = row.turn.execution_id;
        let claim =
            Claim { execution_id: execution_id.clone(), nonce: 1, seen_epoch: 0, may_run: true };
        assert!(matches!(worker.claim(claim).await.unwrap(), Claimed::Run(_)));
        execution_id
    }

    async fn worker(&self) -> (Chat, JoinHandle<()>) {
        let chat = Chat::builder(self.store.beside(), self.agents());
        let (chat, attendant) = chat.build().await.unwrap();
        let attending = tokio::spawn(attendant);
        tokio::task::yield_now().await;
        (chat, attending)
    }

    fn runs(&self) -> u64 {
        self.substrate.stats().runs_started
    }

    async fn answer(&self, chat: &Chat, session: &SessionId) -> Option<(String, TurnState)> {
        let state = chat.session(&self.ann, session, ALL).await.unwrap();
        let answer = state.messages.into_iter().find(|message| message.role == Role::Assistant)?;
        Some((answer.text, answer.state))
    }
}

async fn lines(stream: TurnStream) -> Vec<String> {
    let chunks: Vec<_> = stream.body.map(Result::unwrap).collect().await;
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
async fn a_turn_is_stopped_and_keeps_what_there_is() {
    let rig = Rig::new();
    let (chat, _attending) = rig.worker().await;
    let session = chat.open_session(&rig.ann).await.unwrap();
    let stream = chat.start(&rig.ann, &session, NewTurn::new("t", "hello")).await.unwrap();
    rig.gate.add_permits(2);
    let mut body = stream.body;
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
    assert!(next.is_ok(), "told a final failure, then a new turn: {next:?}");
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
