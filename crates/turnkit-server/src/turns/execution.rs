//! An execution as the producer of a turn: the adapter, and what the product's own row adds to what it says.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use turnkit::{Produced, TurnProducer};
use turnkit_sandbox::{Error, Refusal, RunRequest, SandboxClient, SandboxTurn};

use super::Turns;
use crate::store::{Failure, Turn, TurnState};

/// The first wait of a reader that came before the substrate had accepted the run, and the longest one.
const EARLY: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// The events of one turn's execution.
pub(super) struct Execution {
    turns: Arc<Turns>,
    turn: Turn,
    inner: SandboxTurn,
    part: Part,
    has_begun: bool,
    wait: Duration,
}

/// What this attempt is to the execution.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It starts the run. The turn's one dispatch.
    Run,
    /// It drives the turn on, after an attempt that may have started the run.
    Attach,
    /// It reads along.
    Read,
}

impl Execution {
    pub(super) fn new(turns: Arc<Turns>, turn: Turn, part: Part) -> Execution {
        let inner = match part {
            Part::Run => turns.sandbox.run(request(&turn)),
            Part::Attach | Part::Read => attach(&turns.sandbox, &turn),
        };
        Execution {
            turns,
            turn,
            inner,
            part,
            has_begun: false,
            wait: EARLY.0,
        }
    }

    /// The substrate does not have the execution, or not what follows the cursor. Says why, or waits to ask again.
    async fn lost(&mut self, refusal: Refusal) -> Result<(), ExecutionError> {
        match self.part {
            Part::Run => {}
            Part::Attach => self.bind().await,
            Part::Read => return self.read_lost(refusal).await,
        }
        Err(Error::Lost(refusal).into())
    }

    /// The turn is about to end as lost. Its run may still be under way to the substrate, sent by a process that died:
    /// cancelling an unknown id keeps it from starting (PROTOCOL 3.1).
    async fn bind(&mut self) {
        if let Err(error) = self.turns.sandbox.cancel(&self.turn.execution_id).await {
            tracing::warn!(execution_id = %self.turn.execution_id, %error, "failed to bind a lost execution");
        }
    }

    async fn read_lost(&mut self, refusal: Refusal) -> Result<(), ExecutionError> {
        let id = self.turn.execution_id.clone();
        let row = self
            .turns
            .store
            .turn_of_execution(id)
            .await
            .map_err(|_| ExecutionError::Unknown)?;
        let Some(row) = row else {
            return Err(Error::Lost(refusal).into());
        };
        match (row.state, row.failure.clone()) {
            (TurnState::Complete, _) => Err(ExecutionError::Saved),
            (TurnState::Stopped | TurnState::Failed, Some(failure)) => {
                Err(ExecutionError::Ended(failure))
            }
            _ if self.turns.is_driven(&row) && !self.has_begun => self.come_again().await,
            _ => Err(Error::Lost(refusal).into()),
        }
    }

    /// The turn's driver has dispatched the run, and the substrate has not accepted it yet (PROTOCOL 4.2).
    async fn come_again(&mut self) -> Result<(), ExecutionError> {
        sleep(self.wait).await;
        self.wait = (self.wait * 2).min(EARLY.1);
        self.inner = attach(&self.turns.sandbox, &self.turn);
        Ok(())
    }
}

impl TurnProducer for Execution {
    type Error = ExecutionError;

    async fn next(&mut self) -> Result<Produced, ExecutionError> {
        loop {
            match self.inner.next().await {
                Err(Error::Lost(refusal)) => self.lost(refusal).await?,
                produced => {
                    self.has_begun = true;
                    return Ok(produced?);
                }
            }
        }
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }

    fn prompt(&self) -> Option<&str> {
        Some(&self.turn.message)
    }

    fn error_code(error: &ExecutionError) -> Option<&str> {
        match error {
            ExecutionError::Sandbox(error) => Some(error.code()),
            ExecutionError::Ended(failure) => failure.code.as_deref(),
            ExecutionError::Saved | ExecutionError::Unknown => Some("execution_lost"),
        }
    }

    fn is_retryable(error: &ExecutionError) -> bool {
        match error {
            ExecutionError::Sandbox(error) => error.is_retryable(),
            ExecutionError::Ended(_) => false,
            ExecutionError::Saved | ExecutionError::Unknown => true,
        }
    }
}

/// Why an attempt gets no more events.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecutionError {
    /// The adapter says so.
    #[error(transparent)]
    Sandbox(#[from] Error),
    /// The events are gone; so the turn ends as it did when they were there.
    #[error("{}", .0.message)]
    Ended(Failure),
    /// The events are gone, and the answer was saved after this attempt had looked: the next attempt gets it.
    #[error("the events of this turn are gone, but its answer is saved: ask again")]
    Saved,
    /// The events are gone, and the row that would say more could not be read.
    #[error("the events of this turn are gone, and the database could not be asked: ask again")]
    Unknown,
}

fn request(turn: &Turn) -> RunRequest {
    RunRequest::new(turn.execution_id.clone(), &turn.message)
        .session_id(&turn.session_id)
        .agent(&turn.agent)
}

fn attach(sandbox: &SandboxClient, turn: &Turn) -> SandboxTurn {
    sandbox
        .attach(turn.execution_id.clone())
        .answering(&turn.message)
}
