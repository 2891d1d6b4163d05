//! Producers, hooks and hosts that do what nobody should: the turn still ends as it must (PROTOCOL 2.2, 2.4).
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and what it tests panics"
)]

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use turnkit::{
    BoxError, Event, FinalText, Persisted, Produced, Sleep, Timer, TurnContext, TurnHandle,
    TurnHooks, TurnOutcome, TurnProducer, producer,
};
use turnkit_testkit::{BodyReader, Recorder, Script, events, turn};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

/// Runs an attempt to its end: the types of the lines that its client read, and the outcome.
async fn run(
    producer: impl TurnProducer + 'static,
    hooks: impl TurnHooks + 'static,
) -> (Vec<String>, TurnOutcome) {
    let (body, driver) = turn().start(producer, hooks);
    let mut client = BodyReader::new(body);
    let (lines, outcome) = tokio::join!(client.rest(), driver);
    (lines.iter().map(|event| event.kind().to_owned()).collect(), outcome)
}

/// Does as it is told, once; a `next` that waits holds a bomb.
struct Producer {
    panics_with_bomb: bool,
    bomb: Option<Bomb>,
}

impl TurnProducer for Producer {
    type Error = BoxError;

    async fn next(&mut self) -> Result<Produced, BoxError> {
        if self.panics_with_bomb {
            std::panic::panic_any(Bomb);
        }
        if self.bomb.is_some() {
            return Ok(Produced::Done { final_text: Some("ok".into()) });
        }
        let _bomb = Bomb;
        pending().await
    }
}

#[tokio::test]
async fn a_next_that_panics_when_it_is_dropped_is_a_cancel_all_the_same() {
    let hooks = Arc::new(Recorder::new());
    let producer = Producer { panics_with_bomb: false, bomb: None };
    let (body, mut driver) = turn().start(producer, hooks.clone());
    assert!(futures::poll!(&mut driver).is_pending());
    driver.handle().cancel();
    let outcome = driver.await;
    assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
    assert_eq!(hooks.log()[1..], [r#"on_turn_failed cancelled """#, "trace_flush"]);
    assert_eq!(BodyReader::new(body).rest().await.last().unwrap().kind(), "session.run.failed");
}

#[tokio::test]
async fn a_panic_whose_payload_panics_is_one_panic() {
    let producer = Producer { panics_with_bomb: true, bomb: None };
    let (lines, outcome) = run(producer, Recorder::new()).await;
    assert_eq!(outcome.result.unwrap_err().code(), Some("panic"));
    assert_eq!(lines, ["session.run.started", "error", "session.run.failed"]);
}

#[tokio::test]
async fn a_producer_that_panics_when_it_is_dropped_does_not_take_the_outcome_with_it() {
    let producer = Producer { panics_with_bomb: false, bomb: Some(Bomb) };
    let (lines, outcome) = run(producer, Recorder::new()).await;
    assert_eq!(outcome.result.unwrap().as_str(), "ok");
    assert_eq!(lines, ["session.run.started", "session.run.completed"]);
}

/// Its `on_turn_complete` hangs, and panics when it is dropped; and so do these hooks themselves.
struct Hooks {
    _bomb: Bomb,
}

impl TurnHooks for Hooks {
    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        _: &FinalText,
    ) -> Result<Persisted, BoxError> {
        Ok(Persisted::Saved)
    }

    async fn on_turn_complete(&self, _: &TurnContext, _: &FinalText) -> Result<(), BoxError> {
        let _bomb = Bomb;
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_that_panic_when_they_are_dropped_change_nothing() {
    let (lines, outcome) = run(Script::new().text("hi"), Hooks { _bomb: Bomb }).await;
    assert_eq!(outcome.result.unwrap().as_str(), "hi");
    assert_eq!(outcome.hook_errors.len(), 1);
    assert_eq!(lines.last().unwrap(), "session.run.completed");
}

/// A timer that cannot look further ahead than a year, as one that adds to an instant.
#[derive(Clone, Default)]
struct Short(Arc<Mutex<Vec<Duration>>>);

impl Timer for Short {
    fn now(&self) -> Duration {
        Duration::from_secs(1) * u32::try_from(self.0.lock().unwrap().len()).unwrap()
    }

    fn sleep(&self, after: Duration) -> Sleep {
        assert!(after < Duration::from_secs(365 * 24 * 3600), "{after:?} is too far away");
        self.0.lock().unwrap().push(after);
        Box::pin(pending())
    }
}

#[tokio::test]
async fn for_ever_is_never_asked_of_a_timer() {
    let big = |n: u32| events::event("big", &serde_json::json!([n, "x".repeat(200_000)]));
    let turn =
        turn().timer(Short::default()).client_stall(Duration::MAX).hook_timeout(Duration::MAX);
    let script = Script::new().events((0..5).map(big)).text("hi");
    let (mut body, driver) = turn.start(script, Recorder::new());
    let driver = Slow(Box::pin(driver), 0);
    let reading = async {
        let mut chunks = 0;
        while body.next().await.is_some() {
            chunks += 1;
            tokio::task::yield_now().await;
        }
        chunks
    };
    let (chunks, outcome) = tokio::join!(reading, driver);
    assert!(chunks >= 6);
    assert_eq!(outcome.result.unwrap().as_str(), "hi");
    assert_eq!(outcome.client, turnkit::ClientOutcome::Attached);
}

/// Polls every other time only, so that a waiting driver is seen to wait.
struct Slow<F>(Pin<Box<F>>, u32);

impl<F: Future> Future for Slow<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1 += 1;
        if self.1.is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0.as_mut().poll(cx)
    }
}

/// A waker that owns something which reaches the turn when it is dropped, as the waker of a task owns the task.
struct Owner(#[expect(dead_code, reason = "for its drop")] Box<dyn std::any::Any + Send + Sync>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

fn owning(value: impl Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Owner(Box::new(value))))
}

/// Cancels when it is dropped.
struct Cancels(TurnHandle);

impl Drop for Cancels {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[test]
fn a_waker_that_owns_the_turn_may_be_dropped_by_it() {
    let (mut body, mut driver) = turn().start(Script::new().wait(pending()), Recorder::new());
    let owns_the_turn = || owning(Cancels(driver.handle()));
    let wakers = [owns_the_turn(), owns_the_turn(), owns_the_turn(), owns_the_turn()];
    let [first, second, third, fourth] = wakers;
    assert!(driver.poll_unpin(&mut Context::from_waker(&first)).is_pending());
    drop(first);
    assert!(driver.poll_unpin(&mut Context::from_waker(&second)).is_pending());
    drop(second);
    assert!(body.poll_next_unpin(&mut Context::from_waker(&third)).is_ready());
    assert!(body.poll_next_unpin(&mut Context::from_waker(&third)).is_pending());
    drop(third);
    assert!(body.poll_next_unpin(&mut Context::from_waker(&fourth)).is_pending());
    drop(fourth);
    drop(body);
    let outcome = futures::executor::block_on(driver);
    assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
}

#[test]
fn a_handle_that_outlives_the_driver_keeps_no_waker() {
    let (body, mut driver) = turn().start(Script::new().wait(pending()), Recorder::new());
    let handle = driver.handle();
    let task = Arc::new(());
    let waker = owning(task.clone());
    assert!(driver.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop((driver, waker));
    assert_eq!(Arc::strong_count(&task), 1);
    drop((handle, body));
}

struct Saves;

impl TurnHooks for Saves {
    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        _: &FinalText,
    ) -> Result<Persisted, BoxError> {
        Ok(Persisted::Saved)
    }
}

/// The memory of a line that reaches the turn when it is dropped.
struct Memory(Vec<u8>, #[expect(dead_code, reason = "for its drop")] Cancels);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn a_line_that_owns_the_turn_may_be_dropped_by_it() {
    let handle = Arc::new(Mutex::new(None::<TurnHandle>));
    let given = handle.clone();
    let event = async move {
        let line = format!("{{\"type\":\"x\",\"data\":\"{}\"}}\n", "x".repeat(10_000));
        let cancels = Cancels(given.lock().unwrap().clone().unwrap());
        let memory = Bytes::from_owner(Memory(line.into_bytes(), cancels));
        Ok::<_, BoxError>(Event::from_bytes(memory)?.into())
    };
    let stream = futures::stream::once(event).chain(futures::stream::pending());
    let (body, mut driver) = turn().start(producer::from_stream(stream), Saves);
    *handle.lock().unwrap() = Some(driver.handle());
    let waker = Waker::noop();
    assert!(driver.poll_unpin(&mut Context::from_waker(waker)).is_pending());
    drop(body);
    let outcome = futures::executor::block_on(driver);
    assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
}
