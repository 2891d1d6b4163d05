//! An execution as the producer of a turn: the adapter, and what the product's own row adds to what it says.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use turnkit::{Produced, TurnProducer};
use turnkit_id::LogId;
use turnkit_sandbox::{Error, RunRequest, SandboxTurn};

use super::attempt::Conduct;
use super::deletion::{DELETED, SESSION_DELETED};
use super::interactions::{RETRY, Recorder};
use crate::store::{Find, Found, History, StoreError, TurnRow, unnamed_log};
use crate::{Failure, Role, Said, TurnState};

/// The events of one turn's execution.
pub(super) struct Execution {
    conduct: Arc<Conduct>,
    inner: SandboxTurn,
    part: Part,
    has_begun: bool,
    /// Of the attempt that drives the turn.
    recorder: Option<Recorder>,
}

/// What this attempt is to the execution.
pub(super) enum Part {
    /// It starts the run. The turn's one dispatch.
    Run(Run),
    /// It drives the turn on, after an attempt that may have started the run.
    Attach,
    /// It reads along.
    Read {
        /// Whether the answer was saved when it began: then it waits for no event longer than [`PATIENCE`].
        is_saved: bool,
    },
}

/// How long the log of a turn whose answer is saved may take for an event, before the answer is told instead: all its events are
/// there, if they can be read at all. And how long a reader waits for the ending of a turn whose log is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a reader that has lost the log looks whether the turn has ended.
const LOOK: Duration = Duration::from_millis(250);

/// What goes with the run.
pub(super) struct Run {
    /// What was said before.
    pub(super) history: History,
    /// The log that the turn is dispatched to.
    pub(super) log: LogId,
}

impl Execution {
    pub(super) fn new(conduct: Arc<Conduct>, part: Part) -> Execution {
        let (agents, turn) = (&conduct.turns.agents, &conduct.turn);
        let inner = match &part {
            Part::Run(run) => start(&conduct, run),
            Part::Attach => {
                agents.attach_or_bind(turn.execution_id.clone()).answering(&turn.message)
            }
            Part::Read { .. } => {
                let asked = Arc::clone(&conduct);
                let is_due = move || is_due(Arc::clone(&asked));
                agents.join(turn.execution_id.clone(), is_due).answering(&turn.message)
            }
        };
        let drives = !matches!(part, Part::Read { .. });
        let recorder = drives.then(|| Recorder::new(Arc::clone(&conduct)));
        Execution { conduct, inner, part, has_begun: false, recorder }
    }

    /// The adapter's next answer. What could not be written of questions is tried again meanwhile: while one is pending there may be no
    /// next event for days.
    async fn produced(&mut self) -> Result<Produced, Error> {
        let Some(recorder) = &mut self.recorder else {
            return self.inner.next().await;
        };
        let mut next = pin!(self.inner.next());
        loop {
            tokio::select! {
                biased;
                produced = &mut next => {
                    if let Ok(Produced::Event(event)) = &produced {
                        recorder.read(event).await;
                    }
                    return produced;
                }
                // In a block of its own the timer is made where it is waited for, and not for each event.
                () = async { sleep(RETRY).await }, if recorder.is_behind() => recorder.catch_up().await,
            }
        }
    }

    /// The adapter has given up. Says what the turn's failure is, or goes on with a run that has run nowhere.
    async fn failed(&mut self, error: Error) -> Result<(), ExecutionError> {
        if matches!(error, Error::Failed(_) | Error::Cancelled(_)) {
            self.conduct.log_has_ended.store(true, Relaxed);
        }
        // What is erased is cancelled or lost to all who read it, and they are told why. Where the row cannot be read, no ending can be
        // written either: nobody is told of one, and the turn stays open.
        if !error.is_retryable() {
            let row = row(&self.conduct).await?;
            // Whoever has the lease by now says how the turn ends; an attempt that has lost it is a reader of that.
            if self.conduct.has_lost_lease(row.as_ref()) {
                self.part = Part::Read { is_saved: false };
            }
        }
        match (&mut self.part, &error) {
            (Part::Run(run), Error::LogChanged(_)) => {
                self.conduct.turns.log_doubted.notify_one();
                // The first request of the turn's one dispatch was refused: it has run nowhere, and may be sent to the log that
                // there is now. Any later request may follow one that an earlier log has taken.
                if self.inner.requests() == 1
                    && let Ok(Some(log)) = self.conduct.turns.agents.log_id().await
                    && log != run.log
                {
                    run.log = log;
                    self.inner = start(&self.conduct, run);
                    return Ok(());
                }
                Err(ExecutionError::LogChanged)
            }
            // The row knows best how the turn has ended, where it has.
            (Part::Read { .. }, _) if !error.is_retryable() => {
                // Whoever drives the turn may be gone.
                self.conduct.turns.unattended.notify_one();
                let until = Instant::now() + PATIENCE;
                loop {
                    match row(&self.conduct).await? {
                        Some(TurnRow { failure: Some(failure), .. }) => {
                            return Err(ExecutionError::Ended(failure));
                        }
                        Some(row) if row.state == TurnState::Complete => {
                            return Err(ExecutionError::Saved);
                        }
                        // A log that is lost ends the turn for whoever drives it, and a reader must not say so before.
                        Some(row)
                            if row.state == TurnState::Open
                                && !self.conduct.log_has_ended.load(Relaxed) =>
                        {
                            if Instant::now() >= until {
                                return Err(ExecutionError::Open(error));
                            }
                            sleep(LOOK).await;
                        }
                        row => return Err(self.told_by(error, row.as_ref())),
                    }
                }
            }
            (_, Error::Cancelled(_)) => {
                let row = row(&self.conduct).await?;
                Err(self.told_by(error, row.as_ref()))
            }
            _ => Err(error.into()),
        }
    }

    /// Who cancels a run for a user notes it in the row first. Without that note, a run that was cancelled before it began was
    /// bound by an attempt that had found it lost.
    fn told_by(&self, error: Error, row: Option<&TurnRow>) -> ExecutionError {
        if matches!(error, Error::Cancelled(_)) {
            if !self.inner.has_begun() && !row.is_some_and(|row| row.stop_asked) {
                return ExecutionError::NeverBegan;
            }
            self.conduct.log_was_cancelled.store(true, Relaxed);
        }
        error.into()
    }
}

/// The turn's one dispatch. Its answer may be late or lost while a reader has its first event already: then the adapter attaches,
/// and never asks for the run again.
fn start(conduct: &Conduct, run: &Run) -> SandboxTurn {
    let turn = &conduct.turn;
    let History { said, omitted, agent_session } = &run.history;
    let history = said.iter().map(|Said { role, content }| {
        let role = match role {
            Role::User => turnkit_sandbox::Role::User,
            Role::Assistant => turnkit_sandbox::Role::Assistant,
        };
        (role, content)
    });
    let mut request = RunRequest::new(turn.execution_id.clone(), &turn.message)
        .session_id(turn.session_id.as_str())
        .agent(&turn.agent)
        .history(history)
        .history_omitted(omitted.turns, omitted.bytes);
    if let Some(session) = agent_session {
        request = request.metadata(json!({ "agentSessionId": session }));
    }
    if run.log != unnamed_log() {
        request = request.log_id(run.log.clone());
    }
    let started = conduct.turns.agents.run(request);
    match conduct.turns.driven.find(&turn.execution_id) {
        Some(driven) => started.begun_when(async move { driven.begun().await }),
        None => started,
    }
}

async fn row(conduct: &Conduct) -> Result<Option<TurnRow>, ExecutionError> {
    let id = conduct.turn.execution_id.clone();
    match conduct.turns.store.find(Find::Execution(id)).await {
        Ok(Found::Turn(row)) => Ok(Some(row)),
        Ok(Found::Gone) => Err(ExecutionError::Deleted),
        Ok(_) => Ok(None),
        Err(error) => Err(ExecutionError::Unknown(error)),
    }
}

/// Whether the substrate may still be asked to run the turn, or is being asked (PROTOCOL 4.2). A store that cannot tell at the moment is
/// asked again: "no" would be final.
async fn is_due(conduct: Arc<Conduct>) -> bool {
    match row(&conduct).await {
        Ok(Some(row)) => row.state == TurnState::Open && (!row.dispatched || row.is_held),
        Ok(None) | Err(ExecutionError::Deleted) => false,
        Err(_) => true,
    }
}

impl TurnProducer for Execution {
    type Error = ExecutionError;

    async fn next(&mut self) -> Result<Produced, ExecutionError> {
        loop {
            let next = match &self.part {
                Part::Read { is_saved: true } => {
                    timeout(PATIENCE, self.inner.next()).await.map_err(|_| ExecutionError::Saved)?
                }
                _ => self.produced().await,
            };
            match next {
                Err(error) => self.failed(error).await?,
                Ok(produced) => {
                    if !mem::replace(&mut self.has_begun, true) {
                        let id = &self.conduct.turn.execution_id;
                        self.conduct.turns.driven.find(id).inspect(|driven| driven.note_begun());
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
            ExecutionError::Sandbox(error) | ExecutionError::Open(error) => Some(error.code()),
            ExecutionError::Ended(failure) => failure.code.as_deref(),
            ExecutionError::Deleted => Some(SESSION_DELETED),
            _ => Some("execution_lost"),
        }
    }

    fn is_retryable(error: &ExecutionError) -> bool {
        match error {
            ExecutionError::Sandbox(error) => error.is_retryable(),
            ExecutionError::Saved | ExecutionError::Open(_) | ExecutionError::Unknown(_) => true,
            _ => false,
        }
    }

    fn is_lost(error: &ExecutionError) -> bool {
        matches!(error, ExecutionError::Saved)
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
    /// Its session was deleted.
    #[error("{DELETED}")]
    Deleted,
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
    /// This reader cannot go on, and nobody has written down yet that the turn has ended.
    #[error("{0}; the turn is still open: ask again")]
    Open(#[source] Error),
    /// The attempt has failed, and the row that would say more could not be read.
    #[error("the database could not be asked how this turn has ended: ask again")]
    Unknown(#[source] StoreError),
}
