//! The table of PROTOCOL 2, shared with implementations in other languages: `tests/vectors/turn-order.json`.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::pending,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use turnkit::{
    Answer, BoxError, ChatTurn, ClientLeft, ClientOutcome, Event, FinalText, Hook, Persisted,
    Produced, RawText, TurnBody, TurnContext, TurnError, TurnHandle, TurnHooks, TurnOutcome,
    TurnProducer, wire::ndjson,
};
use turnkit_testkit::turn;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[expect(dead_code, reason = "for readers")]
    section: String,
    #[serde(default)]
    turn: Settings,
    producer: VecDeque<Step>,
    #[serde(default)]
    hooks: HashMap<String, Reaction>,
    order: Vec<Value>,
    outcome: Outcome,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Settings {
    resume_after: u64,
    client_left: Option<String>,
    max_text: Option<usize>,
}

/// What the producer does next.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
enum Step {
    Event(String),
    Done(String),
    Fails(Failure),
    Panics(String),
    Waits,
    Cancel,
    Leave,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    message: String,
    code: Option<String>,
    retryable: bool,
}

/// What a hook does: what comes from outside meanwhile, then how it ends.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reaction {
    cancel: bool,
    leave: bool,
    answer: Option<String>,
    fails: Option<String>,
    panics: Option<String>,
    hangs: bool,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Outcome {
    ok: Option<String>,
    error: Option<Value>,
    events: u64,
    replayed: bool,
    hook_errors: Vec<String>,
    client: Option<Value>,
}

/// One attempt, as all that take part in it see it.
struct Stage {
    hooks: HashMap<String, Reaction>,
    log: Mutex<Vec<Value>>,
    handle: Mutex<Option<TurnHandle>>,
    client: Mutex<Option<TurnBody>>,
    received: Mutex<Vec<u8>>,
}

impl Stage {
    fn note(&self, entry: Value) {
        self.log.lock().unwrap().push(entry);
    }

    fn cancel(&self) {
        self.handle.lock().unwrap().as_ref().unwrap().cancel();
    }

    /// The client reads what there is, and leaves.
    fn leave(&self) {
        self.read();
        self.client.lock().unwrap().take();
    }

    /// Reads what there is. Says whether the body has ended.
    fn read(&self) -> bool {
        let mut client = self.client.lock().unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        while let Some(body) = client.as_mut() {
            match body.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.received.lock().unwrap().extend(&chunk),
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
        false
    }

    async fn answer(&self, hook: Hook) -> Result<Option<String>, BoxError> {
        let answer = self.hooks.get(hook.as_str()).cloned().unwrap_or_default();
        if answer.cancel {
            self.cancel();
        }
        if answer.leave {
            self.leave();
        }
        if answer.hangs {
            pending::<()>().await;
        }
        end(answer)
    }
}

fn end(answer: Reaction) -> Result<Option<String>, BoxError> {
    if let Some(text) = answer.panics {
        panic!("{text}");
    }
    answer.fails.map_or(Ok(answer.answer), |error| Err(error.into()))
}

struct Producer {
    steps: VecDeque<Step>,
    asked: bool,
    stage: Arc<Stage>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl TurnProducer for Producer {
    type Error = Failure;

    async fn next(&mut self) -> Result<Produced, Failure> {
        if !std::mem::replace(&mut self.asked, true) {
            self.stage.note(json!(["ask"]));
        }
        loop {
            match self.steps.pop_front() {
                Some(Step::Event(json)) => {
                    return Ok(Event::from_json(json.as_bytes()).unwrap().into());
                }
                Some(Step::Done(text)) => return Ok(Produced::Done { final_text: Some(text) }),
                Some(Step::Fails(failure)) => return Err(failure),
                Some(Step::Panics(text)) => panic!("{text}"),
                Some(Step::Waits) => pending().await,
                Some(Step::Cancel) => self.stage.cancel(),
                Some(Step::Leave) => self.stage.leave(),
                None => return Ok(Produced::Done { final_text: None }),
            }
        }
    }

    async fn cancel(&mut self) {
        self.stage.note(json!(["cancel"]));
    }

    fn error_code(error: &Failure) -> Option<&str> {
        error.code.as_deref()
    }

    fn is_retryable(error: &Failure) -> bool {
        error.retryable
    }
}

impl TurnHooks for Stage {
    async fn find_completed(&self, _: &TurnContext) -> Result<Option<Answer>, BoxError> {
        self.note(json!(["find_completed"]));
        Ok(self.answer(Hook::FindCompleted).await?.map(Answer::from))
    }

    fn on_event(&self, _: &TurnContext, event: &Event) -> Result<(), BoxError> {
        self.note(json!(["line", event.as_json()]));
        let answer = self.hooks.get("on_event").cloned().unwrap_or_default();
        end(answer).map(drop)
    }

    async fn transform_final_text(
        &self,
        _: &TurnContext,
        text: RawText,
    ) -> Result<String, BoxError> {
        self.note(json!(["transform_final_text", text.as_str()]));
        let answer = self.answer(Hook::TransformFinalText).await?;
        Ok(answer.unwrap_or_else(|| text.into_string()))
    }

    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        self.note(json!(["persist_assistant_message", text.as_str()]));
        let answer = self.answer(Hook::PersistAssistantMessage).await?;
        Ok(answer.map_or(Persisted::Saved, |_| Persisted::AlreadySaved))
    }

    async fn on_turn_complete(&self, _: &TurnContext, text: &FinalText) -> Result<(), BoxError> {
        self.note(json!(["on_turn_complete", text.as_str()]));
        self.answer(Hook::OnTurnComplete).await.map(drop)
    }

    async fn on_turn_failed(
        &self,
        _: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> Result<(), BoxError> {
        let mut told = described(failure);
        told["message"] = failure.to_string().into();
        told["partial"] = partial.as_str().into();
        self.note(json!(["on_turn_failed", told]));
        self.answer(Hook::OnTurnFailed).await.map(drop)
    }

    async fn trace_flush(&self, _: &TurnContext) -> Result<(), BoxError> {
        if self.read() {
            self.note(json!(["body ends"]));
        }
        self.note(json!(["trace_flush"]));
        self.answer(Hook::TraceFlush).await.map(drop)
    }
}

fn described(failure: &TurnError) -> Value {
    let phase = failure.phase().as_str();
    match failure.code() {
        Some(code) => json!({ "phase": phase, "code": code, "retryable": failure.is_retryable() }),
        None => json!({ "phase": phase, "retryable": failure.is_retryable() }),
    }
}

impl From<TurnOutcome> for Outcome {
    fn from(outcome: TurnOutcome) -> Self {
        Self {
            error: outcome.result.as_ref().err().map(described),
            ok: outcome.result.ok().map(FinalText::into_string),
            events: outcome.events,
            replayed: outcome.replayed,
            hook_errors: outcome.hook_errors.iter().map(|error| error.hook().to_string()).collect(),
            client: match outcome.client {
                ClientOutcome::Left { after_events } => Some(json!({ "left": after_events })),
                ClientOutcome::InvalidCursor { events } => Some(json!({ "invalidCursor": events })),
                _ => None,
            },
        }
    }
}

fn configured(settings: &Settings) -> ChatTurn {
    let turn = turn().resume_after(settings.resume_after);
    let turn = turn.on_client_left(match settings.client_left.as_deref() {
        None => ClientLeft::Continue,
        Some("cancel") => ClientLeft::Cancel,
        Some("abandon") => ClientLeft::Abandon,
        Some(other) => panic!("no such policy: {other}"),
    });
    match settings.max_text {
        Some(bytes) => turn.max_text(bytes),
        None => turn,
    }
}

async fn check(case: Case) {
    let stage = Arc::new(Stage {
        hooks: case.hooks,
        log: Mutex::default(),
        handle: Mutex::default(),
        client: Mutex::default(),
        received: Mutex::default(),
    });
    let producer = Producer { steps: case.producer, asked: false, stage: stage.clone() };
    let (body, driver) = configured(&case.turn).start(producer, stage.clone());
    *stage.handle.lock().unwrap() = Some(driver.handle());
    *stage.client.lock().unwrap() = Some(body);
    let outcome = Outcome::from(driver.await);
    check_lines(&case.name, &case.order, &stage, &outcome);
    let shown = |entry: Value| match entry[0].as_str() {
        Some("skipped") => json!(["line", entry[1]]),
        _ => entry,
    };
    let order: Vec<Value> = case.order.into_iter().map(shown).collect();
    assert_eq!(*stage.log.lock().unwrap(), order, "{}", case.name);
    assert_eq!(outcome, case.outcome, "{}", case.name);
}

/// The client got each `line` of the order, or those before it left.
fn check_lines(name: &str, order: &[Value], stage: &Stage, outcome: &Outcome) {
    stage.read();
    let mut decoder = ndjson::Decoder::new();
    decoder.push(std::mem::take(&mut *stage.received.lock().unwrap()).into());
    let received: Vec<Event> =
        std::iter::from_fn(|| decoder.next_event()).map(Result::unwrap).collect();
    let lines = order.iter().filter(|entry| entry[0] == "line");
    let mut lines: Vec<&str> = lines.map(|entry| entry[1].as_str().unwrap()).collect();
    if let Some(left) = outcome.client.as_ref().and_then(|client| client["left"].as_u64()) {
        lines.truncate(usize::try_from(left).unwrap());
    }
    assert_eq!(received.iter().map(Event::as_json).collect::<Vec<_>>(), lines, "{name}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_goes_as_the_table_says() {
    let table = include_str!("../../../tests/vectors/turn-order.json");
    let cases: Vec<Case> = serde_json::from_str(table).unwrap();
    assert!(cases.len() >= 47);
    for case in cases {
        check(case).await;
    }
}
