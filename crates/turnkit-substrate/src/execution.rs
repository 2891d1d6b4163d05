//! One run of an agent, from its start to its one terminal event, whoever reads it (PROTOCOL 3.1).

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{task::coop, time};
use turnkit_agent::{
    AgentError, CANCEL_GRACE, CancelHandle, ErasedAgent, EventStream, RunRequest, code,
};
use turnkit_wire::{EncodeError, Event};

use crate::{
    Clock, events,
    log::{AppendError, Ending, ExecutionKey, LogError, LogReader, LogWriter, State, Status},
    runs::Permit,
    stop::Stop,
};

/// Everything that one run needs.
pub(crate) struct Run {
    pub(crate) key: ExecutionKey,
    pub(crate) agent: Arc<dyn ErasedAgent>,
    pub(crate) writer: Box<dyn LogWriter>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timeout: Duration,
    pub(crate) max_event: usize,
}

impl Run {
    /// Runs the agent in a task of its own, which no reader holds.
    pub(crate) fn spawn(self, request: RunRequest, mut permit: Permit) {
        let stopped = permit.enlist(&self.key);
        let agent = request.identifier();
        tracing::info!(execution_id = %self.key.id, scope = %self.key.scope, agent, "run started");
        tokio::spawn(async move {
            self.drive(request, stopped).await;
            drop(permit);
        });
    }

    async fn drive(mut self, request: RunRequest, stopped: impl Future<Output = Stop>) {
        let (handle, cancel) = CancelHandle::new();
        let run = turnkit_agent::Run::new(request, cancel);
        let mut events = match start(&*self.agent, run) {
            Ok(events) => events,
            Err(outcome) => return self.end(outcome).await,
        };
        let fenced = self.writer.fenced();
        let pump = pump(&mut events, &mut *self.writer, self.max_event);
        let outcome = tokio::select! {
            biased;
            stop = stopped => Outcome::Stopped(stop),
            () = fenced => Outcome::Fenced,
            // Before the agent: one that is always ready uses up what tokio lets a task do at a time.
            () = time::sleep(self.timeout) => Outcome::Stopped(Stop::TimedOut),
            outcome = AssertUnwindSafe(pump).catch_unwind() => outcome.unwrap_or_else(panicked),
        };
        let is_at_work = matches!(outcome, Outcome::Stopped(_) | Outcome::Fenced);
        if is_at_work {
            handle.cancel();
        }
        self.end(outcome).await;
        if is_at_work {
            wind_down(events).await;
        }
    }

    /// Stores the terminal event.
    async fn end(self, outcome: Outcome) {
        let terminal = match outcome.terminal(&self) {
            Ok(Some(terminal)) => terminal,
            Ok(None) => return,
            Err(error) => return self.report(&error),
        };
        let (ending, event) = terminal;
        let (id, scope) = (&self.key.id, &self.key.scope);
        match self.writer.end(ending, &event).await {
            Ok(last) => {
                tracing::info!(execution_id = %id, %scope, %last, end = event.kind(), "run ended");
            }
            Err(error) => {
                tracing::error!(execution_id = %id, %scope, %error, "a run could not be ended");
            }
        }
    }

    fn report(&self, error: &EncodeError) {
        tracing::error!(execution_id = %self.key.id, %error, "a terminal event could not be encoded");
    }
}

/// Waits until the execution has ended, and says how.
pub(crate) async fn ended(reader: &dyn LogReader) -> Result<Status, LogError> {
    loop {
        let status = reader.status().await?;
        if status.state != State::Running {
            return Ok(status);
        }
        reader.next(status.last.seq).await?;
    }
}

/// How a run came to its end.
enum Outcome {
    Completed,
    Failed(AgentError),
    Stopped(Stop),
    /// Someone else ends the log.
    Fenced,
}

impl Outcome {
    fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::Failed(AgentError::new(code, message))
    }

    /// The terminal event that tells it; none where it is not this run's to tell.
    fn terminal(&self, run: &Run) -> Result<Option<(Ending, Event)>, EncodeError> {
        let (id, now) = (&run.key.id, run.clock.unix_ms());
        let failed = |error: &AgentError| Ok((Ending::Failed, events::failed(id, error, now)?));
        let terminal = match self {
            Self::Completed => (Ending::Completed, events::completed(id, now)?),
            Self::Failed(error) => failed(error)?,
            Self::Stopped(Stop::Cancelled) => (Ending::Cancelled, events::cancelled(id, now)?),
            Self::Stopped(Stop::TimedOut) => {
                let message = format!("the run took longer than {:?}", run.timeout);
                failed(&AgentError::new("timeout", message))?
            }
            Self::Stopped(Stop::ShuttingDown) => {
                let message = "the substrate is shutting down";
                failed(&AgentError::new("shutting_down", message).temporary())?
            }
            Self::Fenced => return Ok(None),
        };
        Ok(Some(terminal))
    }
}

impl From<AgentError> for Outcome {
    fn from(error: AgentError) -> Self {
        Self::Failed(error)
    }
}

impl From<AppendError> for Outcome {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full(bound) => Self::failed("log_full", format!("{bound} is used up")),
            AppendError::Fenced => Self::Fenced,
            AppendError::Frame(error) => Self::failed("invalid_event", error.to_string()),
            AppendError::Store(error) => {
                tracing::error!(%error, "the log's store failed");
                AgentError::new("log_failed", "the log cannot be reached").temporary().into()
            }
        }
    }
}

fn start(agent: &dyn ErasedAgent, run: turnkit_agent::Run) -> Result<EventStream, Outcome> {
    let events = AssertUnwindSafe(|| agent.run_boxed(run));
    std::panic::catch_unwind(events).map_err(panicked)
}

/// Stores the agent's events until there are no more. An agent that is always ready leaves its thread to others now and then.
async fn pump(events: &mut EventStream, writer: &mut dyn LogWriter, max_event: usize) -> Outcome {
    while let Some(event) = events.next().await {
        let stored = match event {
            Ok(event) => append(writer, &event, max_event).await,
            Err(error) => Err(error.into()),
        };
        if let Err(outcome) = stored {
            return outcome;
        }
        coop::consume_budget().await;
    }
    Outcome::Completed
}

async fn append(
    writer: &mut dyn LogWriter,
    event: &Event,
    max_event: usize,
) -> Result<(), Outcome> {
    let length = event.as_json().len();
    if length > max_event {
        let message =
            format!("the agent sent an event of {length} bytes; the limit is {max_event}");
        return Err(Outcome::failed(code::EVENT_TOO_LARGE, message));
    }
    if event.class().is_reserved() {
        let message = format!("the agent sent {}, which is the substrate's own", event.kind());
        return Err(Outcome::failed("reserved_event", message));
    }
    writer.append(event).await?;
    Ok(())
}

/// Lets a stopped agent come to its own end; nothing that it still says is stored.
async fn wind_down(mut events: EventStream) {
    let rest = async {
        while events.next().await.is_some() {
            coop::consume_budget().await;
        }
    };
    // Whether it ended, panicked or took too long: it is dropped now.
    let _ = time::timeout(CANCEL_GRACE, AssertUnwindSafe(rest).catch_unwind()).await;
}

/// The panic's text may hold anything, so nobody is told.
fn panicked(_: Box<dyn Any + Send>) -> Outcome {
    Outcome::failed("panic", "the agent panicked")
}
