//! An execution as the producer of a turn: the adapter, and what the product's own row adds to what it says.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use turnkit::{Produced, TurnProducer};
use turnkit_id::LogId;
use turnkit_sandbox::{Error, RunRequest, SandboxTurn};

use super::attempt::Conduct;
use super::driven::Driven;
use crate::store::{Find, Found, StoreError, TurnRow, unnamed_log};
use crate::{Failure, Said, TurnState};

/// The first wait of a reader that came before the substrate had accepted the run, and the longest one.
const EARLY: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));
/// How long an attempt waits for what it asks the substrate beside the stream.
const ASIDE: Duration = Duration::from_secs(10);

/// The events of one turn's execution.
pub(super) struct Execution {
    conduct: Arc<Conduct>,
    inner: SandboxTurn,
    part: Part,
    has_begun: bool,
    asks_last: bool,
    wait: Duration,
}

/// What this attempt is to the execution.
pub(super) enum Part {
    /// It starts the run. The turn's one dispatch.
    Run(Run),
    /// It drives the turn on, after an attempt that may have started the run.
    Attach,
    /// It reads along.
    Read,
}

/// What goes with the run.
pub(super) struct Run {
    /// What was said before.
    pub(super) history: Vec<Said>,
    /// The log that the turn is dispatched to.
    pub(super) log: LogId,
}

impl Execution {
    pub(super) fn new(conduct: Arc<Conduct>, part: Part) -> Execution {
        let inner = match &part {
            Part::Run(run) => start(&conduct, run),
            Part::Attach | Part::Read => attach(&conduct),
        };
        Execution { conduct, inner, part, has_begun: false, asks_last: false, wait: EARLY.0 }
    }

    /// What the adapter gives. The answer to a run may be late or lost while a reader has its first event already: who knows
    /// that there is a run attaches to it, and never asks for it again.
    async fn ask(&mut self) -> Result<Produced, Error> {
        let is_unanswered_run = matches!(self.part, Part::Run(_)) && !self.has_begun;
        if is_unanswered_run && let Some(driven) = self.driven() {
            tokio::select! {
                // The reader first: polled before it, the adapter might send the run again in this very moment.
                biased;
                () = driven.begun() => {}
                produced = self.inner.next() => return produced,
            }
            self.part = Part::Attach;
            self.inner = attach(&self.conduct);
        }
        self.inner.next().await
    }

    fn driven(&self) -> Option<Arc<Driven>> {
        self.conduct.turns.driven.find(&self.conduct.turn.execution_id)
    }

    /// The adapter has given up. Says what the turn's failure is, or waits to ask again.
    async fn failed(&mut self, error: Error) -> Result<(), ExecutionError> {
        if matches!(error, Error::Failed(_) | Error::Cancelled(_)) {
            self.conduct.log_has_ended.store(true, Relaxed);
        }
        match (&mut self.part, &error) {
            (Part::Run(run), Error::LogChanged(_)) => {
                self.conduct.turns.log_doubted.notify_one();
                // The first request of the turn's one dispatch was refused: it has run nowhere, and may be sent to the log that
                // there is now. Any later request may follow one that an earlier log has taken.
                if self.inner.requests() == 1
                    && let Ok(Ok(Some(log))) =
                        timeout(ASIDE, self.conduct.turns.agents.log_id()).await
                    && log != run.log
                {
                    run.log = log;
                    self.inner = start(&self.conduct, run);
                    return Ok(());
                }
                return Err(ExecutionError::LogChanged);
            }
            (Part::Read, _) if !error.is_retryable() => return self.read_failed(error).await,
            (Part::Attach, Error::Lost(_)) => self.bind().await,
            (_, Error::Cancelled(_)) => {
                let row = self.row().await?;
                return Err(self.cancelled(error, row.as_ref()));
            }
            _ => {}
        }
        Err(error.into())
    }

    /// Who cancels a run for a user notes it in the row first. Without that note, a run that was cancelled before it began was
    /// bound by an attempt that had found it lost.
    fn cancelled(&self, error: Error, row: Option<&TurnRow>) -> ExecutionError {
        if !matches!(error, Error::Cancelled(_)) {
            return error.into();
        }
        if !self.has_begun && !row.is_some_and(|row| row.stop_asked) {
            return ExecutionError::NeverBegan;
        }
        self.conduct.log_was_cancelled.store(true, Relaxed);
        error.into()
    }

    async fn row(&mut self) -> Result<Option<TurnRow>, ExecutionError> {
        let id = self.conduct.turn.execution_id.clone();
        match self.conduct.turns.store.find(Find::Execution(id)).await {
            Ok(Found::Turn(row)) => Ok(Some(row)),
            Ok(Found::NoTurn | Found::NoSession) => Ok(None),
            Err(error) => Err(ExecutionError::Unknown(error)),
        }
    }

    /// The turn is about to end as lost. Its run may still be under way to the substrate, sent by a process that died:
    /// cancelling an unknown id keeps it from starting (PROTOCOL 3.1).
    async fn bind(&mut self) {
        let execution_id = &self.conduct.turn.execution_id;
        match timeout(ASIDE, self.conduct.turns.agents.cancel(execution_id)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%execution_id, %error, "failed to bind a lost execution");
            }
            Err(_) => tracing::warn!(%execution_id, "failed to bind a lost execution in time"),
        }
    }

    /// The row knows best how the turn has ended, where it has; and a turn that is driven may not have been accepted by the
    /// substrate yet.
    async fn read_failed(&mut self, error: Error) -> Result<(), ExecutionError> {
        let row = self.row().await?;
        let is_early = matches!(error, Error::Lost(_)) && !self.has_begun;
        match row {
            // The turn's driver has dispatched the run, and the substrate has not accepted it yet (PROTOCOL 4.2). Asked again as
            // long as the run is due; and once more when it no longer is, as it may have been accepted since it was asked for.
            Some(row) if is_early && (is_due(&row) || !mem::replace(&mut self.asks_last, true)) => {
                sleep(self.wait).await;
                self.wait = (self.wait * 2).min(EARLY.1);
                self.inner = attach(&self.conduct);
                Ok(())
            }
            Some(TurnRow { failure: Some(failure), .. }) => Err(ExecutionError::Ended(failure)),
            Some(row) if row.state == TurnState::Complete => Err(ExecutionError::Saved),
            row => Err(self.cancelled(error, row.as_ref())),
        }
    }
}

/// Whether the substrate may still be asked to run the turn, or is being asked.
fn is_due(row: &TurnRow) -> bool {
    row.state == TurnState::Open && (!row.dispatched || row.is_held)
}

impl TurnProducer for Execution {
    type Error = ExecutionError;

    async fn next(&mut self) -> Result<Produced, ExecutionError> {
        loop {
            match self.ask().await {
                Err(error) => self.failed(error).await?,
                Ok(produced) => {
                    if !mem::replace(&mut self.has_begun, true)
                        && let Some(driven) = self.driven()
                    {
                        driven.note_begun();
                    }
                    if matches!(produced, Produced::Done { .. }) {
                        self.conduct.log_has_ended.store(true, Relaxed);
                    }
                    return Ok(produced);
                }
            }
        }
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }

    fn prompt(&self) -> Option<&str> {
        Some(&self.conduct.turn.message)
    }

    fn error_code(error: &ExecutionError) -> Option<&str> {
        match error {
            ExecutionError::Sandbox(error) => Some(error.code()),
            ExecutionError::Ended(failure) => failure.code.as_deref(),
            _ => Some("execution_lost"),
        }
    }

    fn is_retryable(error: &ExecutionError) -> bool {
        match error {
            ExecutionError::Sandbox(error) => error.is_retryable(),
            ExecutionError::Ended(_) | ExecutionError::NeverBegan | ExecutionError::LogChanged => {
                false
            }
            ExecutionError::Saved | ExecutionError::Unknown(_) => true,
        }
    }

    fn is_temporary(error: &ExecutionError) -> bool {
        matches!(error, ExecutionError::Sandbox(error) if error.is_temporary())
    }
}

/// Why an attempt gets no more events.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecutionError {
    /// The adapter says so.
    #[error(transparent)]
    Sandbox(#[from] Error),
    /// The turn has ended without an answer before, and ends in the same way for everyone.
    #[error("{}", .0.message)]
    Ended(Failure),
    /// It is cancelled, and no user wanted that.
    #[error(
        "the execution was cancelled before its first event, although nobody had asked to stop the turn"
    )]
    NeverBegan,
    /// The run was sent, and the substrate has lost its log since.
    #[error(
        "the substrate has lost what it remembered, and may have run this turn before: it is not run again"
    )]
    LogChanged,
    /// The answer was saved after this attempt had looked: the next attempt gets it.
    #[error("the events of this turn cannot be read, but its answer is saved: ask again")]
    Saved,
    /// The attempt has failed, and the row that would say more could not be read.
    #[error("the database could not be asked how this turn has ended: ask again")]
    Unknown(#[source] StoreError),
}

fn start(conduct: &Conduct, run: &Run) -> SandboxTurn {
    let turn = &conduct.turn;
    let mut request = RunRequest::new(turn.execution_id.clone(), &turn.message)
        .session_id(turn.session_id.as_str())
        .agent(&turn.agent);
    if run.log != unnamed_log() {
        request = request.log_id(run.log.clone());
    }
    if !run.history.is_empty() {
        let said =
            |Said { role, content }: &Said| json!({ "role": role.as_str(), "content": content });
        request = request.member("history", run.history.iter().map(said).collect::<Value>());
    }
    conduct.turns.agents.run(request)
}

fn attach(conduct: &Conduct) -> SandboxTurn {
    let turn = &conduct.turn;
    conduct.turns.agents.attach(turn.execution_id.clone()).answering(&turn.message)
}
