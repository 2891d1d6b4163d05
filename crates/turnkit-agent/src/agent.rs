use std::{borrow::Cow, pin::Pin, sync::Arc, time::Duration};

use futures_core::Stream;
use turnkit_wire::Event;

use crate::{AgentError, Run, Takes};

/// Something that answers a message with events. The crate's page has an example.
pub trait Agent: Send + Sync + 'static {
    /// The events of one run, in order.
    ///
    /// Every event is stored before any reader sees it, and no reader slows the run down. What is ready without waiting may be asked for
    /// before the events ahead of it are stored. After the end of the stream the
    /// execution is completed, after an `Err` it has failed; nothing is polled after either. `execution.*` events are the
    /// substrate's own: a run that sends one fails with `reserved_event`.
    ///
    /// **Cancelled or timed out**: the execution ends at once, and no later event is stored. The stream is polled on for up
    /// to [`CANCEL_GRACE`], so that an agent that listens to [`Run::cancel`] can stop its work; then it is dropped, which must
    /// stop whatever is left.
    ///
    /// **Panics** here or in the stream end the execution with `execution.failed`, code `panic`.
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static;

    /// What it takes from outside while it runs: whether its `interaction` events are questions that can be answered, and whether
    /// it takes messages into its turn (PROTOCOL 3.6). Nothing by default.
    fn takes(&self) -> Takes {
        Takes::default()
    }

    /// One line about it, for `GET /agents`.
    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
}

impl<T: Agent> Agent for Arc<T> {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        T::run(self, run)
    }

    fn takes(&self) -> Takes {
        T::takes(self)
    }

    fn description(&self) -> Cow<'_, str> {
        T::description(self)
    }
}

/// An agent that was chosen at run time.
impl Agent for Arc<dyn ErasedAgent> {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        (**self).run_boxed(run)
    }

    fn takes(&self) -> Takes {
        (**self).takes_boxed()
    }

    fn description(&self) -> Cow<'_, str> {
        (**self).description_boxed()
    }
}

/// How long a cancelled agent may still work on its own end.
pub const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// An [`Agent`] whose type does not matter any more: what a substrate holds.
pub trait ErasedAgent: Send + Sync + 'static {
    /// [`Agent::run`], boxed.
    fn run_boxed(&self, run: Run) -> EventStream;

    /// [`Agent::takes`].
    fn takes_boxed(&self) -> Takes;

    /// [`Agent::description`].
    fn description_boxed(&self) -> Cow<'_, str>;
}

/// The events of one run of any agent.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, AgentError>> + Send>>;

impl<A: Agent> ErasedAgent for A {
    fn run_boxed(&self, run: Run) -> EventStream {
        Box::pin(self.run(run))
    }

    fn takes_boxed(&self) -> Takes {
        self.takes()
    }

    fn description_boxed(&self) -> Cow<'_, str> {
        self.description()
    }
}
