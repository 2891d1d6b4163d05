//! Questions of agents and messages into turns, over real sockets: a substrate, a product beside it, and its clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use turnkit_chat::store::memory::MemoryStore;
use turnkit_chat::store::{Accepted, ChatStore as _, Claim, Claimed, Intended, NewRow, Wish};
use turnkit_chat::{Chat, LocalUser, Principal, SessionId, TurnRef};
use turnkit_client::{Client, Error, Message, NewAnswer, NewTurn, OpenTurn, Update};
use turnkit_sandbox::{Retry, SandboxClient};
use turnkit_substrate::{Agent, AgentError, Run, Substrate, Takes};
use turnkit_wire::Event;
use turnkit_wire::interaction::{Interaction, Kind};
use turnkit_wire::write::Json;

/// An agent whose runs the test drives.
struct Driven {
    runs: mpsc::UnboundedSender<Driver>,
    takes: Takes,
}

/// A run of it.
struct Driver {
    history: Value,
    inbox: turnkit_substrate::Inbox,
    steps: mpsc::UnboundedSender<Event>,
}

impl Agent for Driven {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let (steps, stepped) = mpsc::unbounded_channel();
        let inbox = run.inbox().clone();
        let history = run.request().member("history").unwrap();
        let history = history.map(|json| serde_json::from_str(json.get()).unwrap());
        let history = history.unwrap_or_default();
        self.runs.send(Driver { history, inbox, steps }).unwrap();
        stream::unfold(stepped, async |mut stepped| Some((Ok(stepped.recv().await?), stepped)))
    }

    fn takes(&self) -> Takes {
        self.takes
    }
}

impl Driver {
    fn text(&self, delta: &str) {
        let data = json!({ "part": { "id": "p", "type": "text" }, "delta": delta });
        self.steps.send(Event::new("message.part.updated", &data).unwrap()).unwrap();
    }

    fn ask(&self, question: &Interaction<'_>) {
        self.steps.send(question.event()).unwrap();
    }

    /// The data of the next event that the agent is told.
    async fn told(&self) -> Value {
        let told = self.inbox.next().await.unwrap();
        serde_json::from_str(told.event().data_json().unwrap()).unwrap()
    }
}

/// A product and its substrate, each on a port of its own.
struct Rig {
    store: MemoryStore,
    substrate: String,
    runs: Mutex<mpsc::UnboundedReceiver<Driver>>,
    /// Whether answers and inputs come to the substrate.
    is_cut: Arc<AtomicBool>,
    _served: JoinHandle<()>,
}

/// A worker of the product, and a client of it.
struct Worker {
    chat: Chat,
    client: Client,
    _attending: JoinHandle<()>,
    _served: JoinHandle<()>,
}

const BOTH: Takes = Takes { answers: true, input: true };

async fn serve(router: axum::Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

impl Rig {
    async fn new(takes: Takes) -> Rig {
        let (sender, runs) = mpsc::unbounded_channel();
        let agent = Driven { runs: sender, takes };
        let substrate = Substrate::builder().agent("default", agent).build().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        let cuts = from_fn(move |request: Request, next: Next| {
            let path = request.uri().path();
            let is_about_questions = path.contains("/interactions/") || path.ends_with("/input");
            let is_cut = is_about_questions && cut.load(SeqCst);
            async move {
                if is_cut {
                    return StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
                next.run(request).await
            }
        });
        let (substrate, served) = serve(substrate.router().layer(cuts)).await;
        let (store, runs) = (MemoryStore::new(), Mutex::new(runs));
        Rig { store, substrate, runs, is_cut, _served: served }
    }

    async fn worker(&self) -> Worker {
        self.worker_of(4_096).await
    }

    async fn worker_of(&self, max_turns: usize) -> Worker {
        let agents =
            SandboxClient::builder(&self.substrate).retry_after_answer(Retry::AFTER_ANSWER);
        let chat = Chat::builder(self.store.beside(), agents.build().unwrap());
        let (chat, attendant) = chat.max_turns(max_turns).build().await.unwrap();
        let attending = tokio::spawn(attendant);
        tokio::task::yield_now().await;
        let (url, served) = serve(chat.router::<(), LocalUser>()).await;
        let client = Client::builder(url).build().unwrap();
        Worker { chat, client, _attending: attending, _served: served }
    }

    async fn run(&self) -> Driver {
        self.runs.lock().await.recv().await.unwrap()
    }
}

impl Worker {
    /// A session, and a turn in it that is followed to its end.
    async fn turn(&self) -> (String, JoinHandle<Vec<String>>) {
        let session = self.client.create_session().await.unwrap();
        let followed = self.send(&session, &NewTurn::new("t", "hello"));
        (session, followed)
    }

    /// The types of the turn's events, to its end.
    fn send(&self, session: &str, turn: &NewTurn) -> JoinHandle<Vec<String>> {
        let mut turn = self.client.send(session, turn).unwrap();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(update) = turn.next().await.unwrap() {
                match update {
                    Update::Event { event, .. } => seen.push(event.kind().to_owned()),
                    Update::Completed { .. } => seen.push("completed".to_owned()),
                    Update::Failed { .. } => seen.push("failed".to_owned()),
                    _ => {}
                }
            }
            seen
        })
    }

    /// The open turn, once it is so.
    async fn open_until(&self, session: &str, is_so: impl Fn(&OpenTurn) -> bool) -> OpenTurn {
        loop {
            let open = self.client.open_turns(session).await.unwrap().pop();
            if let Some(open) = open.filter(&is_so) {
                return open;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn answer(&self, session: &str, id: &str, answer: NewAnswer) -> Result<(), Error> {
        self.client.answer(session, "t", id, &answer).await.map(drop)
    }

    async fn said(&self, session: &str) -> Vec<(String, String)> {
        let messages = self.client.messages(session, None).await.unwrap();
        messages.into_iter().map(|message| (message.role, message.text)).collect()
    }
}

fn refused(answer: Result<(), Error>) -> (u16, String) {
    match answer.unwrap_err() {
        Error::Refused(refusal) => (refusal.status(), refusal.code().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn said<const N: usize>(wanted: [(&str, &str); N]) -> Vec<(String, String)> {
    wanted.map(|(role, text)| (role.to_owned(), text.to_owned())).to_vec()
}

#[tokio::test]
async fn a_question_is_answered_once_whoever_answers_and_is_kept_with_the_answer() {
    let rig = Rig::new(BOTH).await;
    let (one, other) = (rig.worker().await, rig.worker().await);
    let local = Principal::from(LocalUser);
    let mut feed = other.chat.events(&local, None, None).await.unwrap();
    let (session, followed) = one.turn().await;
    let run = rig.run().await;
    run.text("Before. ");
    run.ask(&Interaction::new(Kind::Approval, "q").title("May I?"));
    let open = other.open_until(&session, |open| !open.pending.is_empty()).await;
    assert_eq!(open.pending, [json!({ "id": "q", "kind": "approval", "title": "May I?" })]);
    assert!(open.accepts_input);

    let (yes, no) = tokio::join!(
        one.answer(&session, "q", NewAnswer::accepted()),
        other.answer(&session, "q", NewAnswer::declined())
    );
    let taken = if yes.is_ok() { "accepted" } else { "declined" };
    let lost = if yes.is_ok() { no } else { yes };
    let Err(Error::Refused(lost)) = lost else { panic!("one answer is taken: {lost:?}") };
    assert_eq!((lost.code(), lost.outcome()), ("interaction_answered", Some(taken)));
    let told = run.told().await;
    assert_eq!(told, json!({ "id": "q", "outcome": taken, "by": "local" }));
    // Who was told 200 sees no question any more.
    assert!(one.open_until(&session, |_| true).await.pending.is_empty());
    assert_eq!(
        refused(one.answer(&session, "never", NewAnswer::accepted()).await).1,
        "interaction_not_found"
    );

    run.text("After.");
    drop(run);
    let seen = followed.await.unwrap();
    assert_eq!(seen.last().unwrap(), "completed");
    let again = if taken == "accepted" { NewAnswer::accepted() } else { NewAnswer::declined() };
    one.answer(&session, "q", again).await.unwrap();
    let late = other.answer(&session, "q", NewAnswer::cancelled()).await;
    assert_eq!(refused(late), (409, "interaction_answered".to_owned()));
    let messages = other.client.messages(&session, None).await.unwrap();
    let Message { text, parts, .. } = messages.last().unwrap();
    assert_eq!(text, "Before. After.");
    let kept: Vec<&Value> = parts.iter().filter(|part| part["type"] != "text").collect();
    let asked = json!({ "type": "interaction", "id": "q", "kind": "approval", "title": "May I?" });
    let answered =
        json!({ "type": "interaction.answered", "id": "q", "outcome": taken, "by": "local" });
    assert_eq!(kept, [&asked, &answered]);
    let mut changes = Vec::new();
    while changes.last().is_none_or(|(change, _)| *change != "turn.ended") {
        let entries = feed.next().await.unwrap();
        changes.extend(entries.into_iter().map(|entry| {
            (
                entry.change.as_str(),
                entry.interaction.map(|id| format!("{id} {:?}", entry.change.state())),
            )
        }));
    }
    let of_question: Vec<_> =
        changes.into_iter().filter_map(|(what, of)| Some((what, of?))).collect();
    let answered = format!("q {:?}", Some(taken));
    let pending = "q Some(\"pending\")".to_owned();
    assert_eq!(of_question, [("interaction.pending", pending), ("interaction.answered", answered)]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_says_where_and_a_stop_ends_the_question() {
    let rig = Rig::new(BOTH).await;
    let worker = rig.worker().await;
    let (session, followed) = worker.turn().await;
    let run = rig.run().await;
    let schema = r#"{"type":"object","properties":{"age":{"type":"integer","minimum":0}},"required":["age"]}"#;
    let schema = Json::verify(schema).unwrap();
    run.ask(&Interaction::new(Kind::Question, "q").schema(&schema));
    worker.open_until(&session, |open| !open.pending.is_empty()).await;
    let misfit = json!({ "age": -1 });
    let given = worker.answer(&session, "q", NewAnswer::accepted().data(misfit)).await;
    let Err(Error::Refused(refusal)) = given else { panic!("it does not fit: {given:?}") };
    let told = (refusal.status(), refusal.code(), refusal.field());
    assert_eq!(told, (422, "invalid_answer", Some("data.age")));
    let state = worker.client.cancel(&session, "t").await.unwrap().state;
    assert_eq!(state, "stopped");
    let late = worker.answer(&session, "q", NewAnswer::declined()).await;
    assert_eq!(refused(late), (410, "interaction_gone".to_owned()));
    assert_eq!(followed.await.unwrap().last().unwrap(), "failed");
}

#[tokio::test]
async fn a_message_into_a_turn_stands_between_the_halves_of_its_answer_or_becomes_a_turn() {
    let rig = Rig::new(BOTH).await;
    let worker = rig.worker().await;
    let (session, followed) = worker.turn().await;
    let run = rig.run().await;
    run.text("One.");
    let input =
        async |id: &str, message: &str| worker.client.input(&session, "t", id, message).await;
    input("i1", "and then?").await.unwrap();
    input("i1", "and then?").await.unwrap();
    assert_eq!(refused(input("i1", "something else").await).1, "input_conflict");
    assert_eq!(run.told().await, json!({ "id": "i1", "message": "and then?", "by": "local" }));
    run.text("Two.");
    // The agent never asks for this one.
    input("i2", "too late").await.unwrap();
    drop(run);
    assert_eq!(followed.await.unwrap().last().unwrap(), "completed");
    let next = rig.run().await;
    let history = json!([
        { "role": "user", "content": "hello" },
        { "role": "assistant", "content": "One." },
        { "role": "user", "content": "and then?" },
        { "role": "assistant", "content": "Two." },
    ]);
    assert_eq!(next.history, history);
    let open = worker.open_until(&session, |_| true).await;
    assert_eq!(open.turn_id, "i2");
    next.text("Three.");
    drop(next);
    // Sent by a client that was told it is too late, it is the turn that there is.
    let again = worker.send(&session, &NewTurn::new("i2", "too late"));
    assert_eq!(again.await.unwrap().last().unwrap(), "completed");
    let wanted = said([
        ("user", "hello"),
        ("assistant", "One."),
        ("user", "and then?"),
        ("assistant", "Two."),
        ("user", "too late"),
        ("assistant", "Three."),
    ]);
    assert_eq!(worker.said(&session).await, wanted);
    let messages = worker.client.messages(&session, None).await.unwrap();
    assert_eq!(messages[2].input.as_deref(), Some("i1"));
    assert_eq!(messages[2].turn_id, "t");
    let ended = input("i3", "nobody hears this").await;
    assert_eq!(refused(ended), (410, "execution_ended".to_owned()));
}

#[tokio::test]
async fn what_was_noted_is_passed_on_although_its_process_has_died() {
    let rig = Rig::new(BOTH).await;
    let first = rig.worker().await;
    let (session, followed) = first.turn().await;
    let run = rig.run().await;
    run.ask(&Interaction::new(Kind::Approval, "q"));
    first.open_until(&session, |open| !open.pending.is_empty()).await;
    // A process notes what its user wants, and dies before it can pass that on.
    let at = TurnRef::new(SessionId::new(&session), "t");
    let wish = Wish::Answer {
        interaction: "q".to_owned(),
        outcome: turnkit_wire::interaction::Outcome::Accepted,
        data: None,
    };
    let noted = rig.store.beside().intend(Principal::from(LocalUser), at, wish).await.unwrap();
    assert!(matches!(noted, Intended::Noted(_)), "{noted:?}");
    assert_eq!(rig.store.undecided(0, 9).await.unwrap().len(), 1);
    let second = rig.worker().await;
    assert_eq!(run.told().await["outcome"], "accepted");
    drop(run);
    followed.await.unwrap();
    drop(second);
    assert!(rig.store.undecided(0, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_passed_on_yet_waits_and_is_in_nobodys_way() {
    let rig = Rig::new(BOTH).await;
    let worker = rig.worker().await;
    // A process has claimed a turn, and has not sent its run yet.
    let (other, local) = (rig.store.beside(), Principal::from(LocalUser));
    let agents = SandboxClient::builder(&rig.substrate).build().unwrap();
    other.join(agents.log_id().await.unwrap().unwrap()).await.unwrap();
    let at = TurnRef::new(SessionId::new("early"), "t");
    other.open_session(local.clone(), at.session_id.clone()).await.unwrap();
    let new = NewRow::new(local.clone(), at.clone(), "hello", "default");
    let Accepted::New(row) = other.accept(new).await.unwrap() else { panic!("it is new") };
    let execution_id = row.turn.execution_id;
    let claim = Claim { execution_id, nonce: 1, seen_epoch: 0, may_run: true };
    assert!(matches!(other.claim(claim).await.unwrap(), Claimed::Run(_)));
    for number in 0..=200 {
        let wish = Wish::Input { id: format!("i{number}"), message: "hello".to_owned() };
        other.intend(local.clone(), at.clone(), wish).await.unwrap();
    }
    // Were it refused, it would be sent as a turn, and could still go into the run from another device.
    let refusal = worker.client.input("early", "t", "i0", "hello").await;
    assert_eq!(refused(refusal), (503, "unavailable".to_owned()));

    let (session, followed) = worker.turn().await;
    let run = rig.run().await;
    run.ask(&Interaction::new(Kind::Approval, "q"));
    worker.open_until(&session, |open| !open.pending.is_empty()).await;
    let wish = Wish::Answer {
        interaction: "q".to_owned(),
        outcome: turnkit_wire::interaction::Outcome::Accepted,
        data: None,
    };
    let at = TurnRef::new(SessionId::new(&session), "t");
    assert!(matches!(other.intend(local, at, wish).await.unwrap(), Intended::Noted(_)));
    let _second = rig.worker().await;
    assert_eq!(run.told().await["outcome"], "accepted");
    drop(run);
    followed.await.unwrap();
    assert_eq!(rig.store.undecided(0, 999).await.unwrap().len(), 201);
}

#[tokio::test]
async fn an_answer_that_the_substrate_cannot_be_told_now_is_told_later() {
    let rig = Rig::new(BOTH).await;
    let worker = rig.worker().await;
    let (session, followed) = worker.turn().await;
    let run = rig.run().await;
    run.ask(&Interaction::new(Kind::Approval, "q"));
    worker.open_until(&session, |open| !open.pending.is_empty()).await;
    rig.is_cut.store(true, SeqCst);
    let away = worker.answer(&session, "q", NewAnswer::declined()).await;
    assert_eq!(refused(away), (503, "unavailable".to_owned()));
    // It answers nothing.
    assert!(!worker.open_until(&session, |_| true).await.pending.is_empty());
    rig.is_cut.store(false, SeqCst);
    assert_eq!(run.told().await["outcome"], "declined");
    let late = worker.answer(&session, "q", NewAnswer::accepted()).await;
    assert_eq!(refused(late), (409, "interaction_answered".to_owned()));
    drop(run);
    followed.await.unwrap();
}

#[tokio::test]
async fn a_turn_that_waits_takes_nobodys_place() {
    let rig = Rig::new(BOTH).await;
    let worker = rig.worker_of(1).await;
    let (session, followed) = worker.turn().await;
    let run = rig.run().await;
    let other = worker.client.create_session().await.unwrap();
    let refusal = worker.client.start(&other, &NewTurn::new("t", "hello")).await.unwrap_err();
    assert_eq!(refusal.code(), "too_many_turns");
    run.ask(&Interaction::new(Kind::Approval, "q"));
    worker.open_until(&session, |open| !open.pending.is_empty()).await;
    assert_eq!((worker.chat.running(), worker.chat.waiting()), (1, 1));
    let beside = worker.client.start(&session, &NewTurn::new("u", "hello")).await.unwrap_err();
    assert_eq!(beside.code(), "turn_running");
    let second = worker.send(&other, &NewTurn::new("t", "hello"));
    drop(rig.run().await);
    second.await.unwrap();
    worker.answer(&session, "q", NewAnswer::accepted()).await.unwrap();
    run.told().await;
    drop(run);
    followed.await.unwrap();
    assert_eq!(worker.chat.waiting(), 0);
}

#[tokio::test]
async fn what_looks_like_a_question_of_an_agent_that_takes_no_answers_is_none() {
    let rig = Rig::new(Takes::default()).await;
    let worker = rig.worker().await;
    let (session, followed) = worker.turn().await;
    let run = rig.run().await;
    run.ask(&Interaction::new(Kind::Approval, "q"));
    run.text("done");
    let refusal = worker.client.input(&session, "t", "i", "hello").await;
    assert_eq!(refused(refusal), (409, "input_not_accepted".to_owned()));
    let open = worker.open_until(&session, |_| true).await;
    assert!(open.pending.is_empty() && !open.accepts_input);
    drop(run);
    let seen = followed.await.unwrap();
    assert!(seen.contains(&"interaction".to_owned()), "{seen:?}");
    assert_eq!(worker.chat.waiting(), 0);
}
