//! Agents that do what a test tells them.

use std::sync::{Arc, Mutex};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use turnkit_substrate::{Agent, AgentError, Cancel, Inbox, Run, RunRequest, Takes};
use turnkit_wire::Event;

type Step = Result<Event, AgentError>;

/// An agent whose every run is driven by the test, step by step.
#[derive(Clone)]
pub(crate) struct Driven {
    runs: mpsc::UnboundedSender<Driver>,
    takes: Takes,
}

/// The test's end of one run. Dropping it ends the run.
pub(crate) struct Driver {
    pub(crate) request: RunRequest,
    pub(crate) cancel: Cancel,
    pub(crate) inbox: Inbox,
    steps: mpsc::UnboundedSender<Step>,
}

impl Driven {
    /// The agent, and the runs that it is asked for.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Driver>) {
        let (runs, started) = mpsc::unbounded_channel();
        (Self { runs, takes: Takes::default() }, started)
    }

    /// The same, and it declares that it takes this.
    pub(crate) fn taking(takes: Takes) -> (Self, mpsc::UnboundedReceiver<Driver>) {
        let (agent, started) = Self::new();
        (Self { takes, ..agent }, started)
    }
}

impl Driver {
    pub(crate) fn send(&self, event: Event) {
        self.steps.send(Ok(event)).unwrap();
    }

    pub(crate) fn text(&self, delta: &str) {
        self.send(text(delta));
    }

    pub(crate) fn fail(self, error: AgentError) {
        self.steps.send(Err(error)).unwrap();
    }
}

impl Agent for Driven {
    fn run(&self, run: Run) -> impl Stream<Item = Step> + Send + 'static {
        let (steps, stepped) = mpsc::unbounded_channel();
        let cancel = run.cancel().clone();
        let inbox = run.inbox().clone();
        let driver = Driver { request: run.into_request(), cancel, inbox, steps };
        self.runs.send(driver).unwrap();
        stream::unfold(stepped, async |mut stepped| Some((stepped.recv().await?, stepped))).boxed()
    }

    fn takes(&self) -> Takes {
        self.takes
    }
}

/// An agent that gives the same events to everyone, as fast as they are taken.
#[derive(Clone)]
pub(crate) struct Fixed(pub(crate) Arc<Vec<Event>>);

impl Fixed {
    pub(crate) fn texts(count: usize) -> Self {
        Self(Arc::new((0..count).map(|at| text(&format!("{at} "))).collect()))
    }
}

impl Agent for Fixed {
    fn run(&self, _: Run) -> impl Stream<Item = Step> + Send + 'static {
        let events = Arc::clone(&self.0);
        stream::iter((0..events.len()).map(move |at| Ok(events[at].clone())))
    }
}

/// An agent that panics: at once, or while it streams.
pub(crate) enum Panics {
    AtOnce,
    InTheMiddle,
}

impl Agent for Panics {
    fn run(&self, _: Run) -> impl Stream<Item = Step> + Send + 'static {
        assert!(matches!(self, Self::InTheMiddle), "a secret in a panic");
        let events = Mutex::new(vec![text("one ")]);
        stream::poll_fn(move |_| {
            let event = events.lock().unwrap().pop().expect("a secret in a panic");
            std::task::Poll::Ready(Some(Ok(event)))
        })
    }
}

/// A piece of text.
pub(crate) fn text(delta: &str) -> Event {
    let data = serde_json::json!({ "part": { "id": "prt_1", "type": "text" }, "delta": delta });
    Event::new("message.part.updated", &data).unwrap()
}
