//! The log of an execution, behind one trait: append, then deliver; readers pull by cursor (PROTOCOL 3.1, 3.5).

mod frame;
mod inbox;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;

use std::{fmt, pin::Pin, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use thiserror::Error;
use turnkit_id::{ExecutionId, LogId};
use turnkit_wire::{Event, sse::InvalidFrame};

use self::inbox::SLOT;
pub use self::inbox::{Change, Content, MAX_UNTAKEN, Post, Slot, SlotState};
use crate::{Cursor, EventId, Limits, Scope};

/// What every operation of a log gives back: a boxed future, so that a log is an object.
pub type LogFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the events of executions live.
///
/// # Contract
/// - **One id, one run, one log.** Of any number of [`start`](Self::start)s of one key, exactly one gets a
///   [`LogWriter`]; all others get the reader of the same log.
/// - **Append, then deliver.** A reader sees an event only once it is stored, and sees it as the frame that was encoded at
///   its append. The first event is stored with the start itself, so no log is ever empty.
/// - **Nothing of a running execution is evicted**, nor of an ended one within its retention while the budgets hold. A log is
///   dropped whole, and from then on its id is *spent* until its binding is over; only then is it unknown again.
/// - **Fenced.** Epochs grow with each writer of a log, and only the latest one can append.
/// - **Its id is its memory.** [`id`](Self::id) is the same for as long as the log remembers what it has bound, on each node
///   that shares it, and another one once it has forgotten. A start that names another id binds nothing, and no start slips
///   between the comparison and the binding.
/// - **One event for each slot.** Of any number of [`post`](Self::post)s into one [`Slot`], one sets it, whoever asks on whichever
///   node; its event comes into the log by the writer alone, and what was posted and not appended at the end never does.
/// - **A lost writer is told.** A log whose writer is gone without an end gets `execution.failed` with the code
///   `runner_lost` at the next epoch. Nothing is run again.
///
/// `turnkit_testkit::log_contract!` runs this contract against any store.
///
/// Futures may be dropped at any await: what was stored stays stored, nothing is stored twice.
pub trait ExecutionLog: Send + Sync + 'static {
    /// The limits that this log keeps, and a substrate over it.
    fn limits(&self) -> &Limits;

    /// Its id now. A store may lose its memory while it is open, so the answer is not to be kept for a later start: it is what
    /// that start has to name.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn id(&self) -> LogFuture<'_, Result<LogId, LogError>>;

    /// Whether its store can be written now. One that is in the process always can, as by default.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn is_writable(&self) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Binds `key` to a new log that holds `opening.first`, or finds the one that it is bound to. What `key` is bound to
    /// outweighs the id that `opening` names.
    ///
    /// # Errors
    /// [`LogError::Full`] where a budget has no room left and no ended execution can make any.
    fn start<'a>(
        &'a self,
        key: &'a ExecutionKey,
        opening: Opening,
    ) -> LogFuture<'a, Result<Start, LogError>>;

    /// What `key` is bound to. Binds nothing.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn find<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<Found, LogError>>;

    /// Fences off the writer of a running execution and becomes its writer, at the next epoch. `None` unless it runs.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn take_over<'a>(
        &'a self,
        key: &'a ExecutionKey,
    ) -> LogFuture<'a, Result<Option<Box<dyn LogWriter>>, LogError>>;

    /// Drops the events of `key`, whose id is spent from then on for as long as any other; one that is bound to nothing is spent too.
    /// Says whether it is: what runs is left as it is, and has to be ended first.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn erase<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<bool, LogError>>;

    /// Puts an `interaction.answered` or an `input` into its slot, if nothing is in it, for the runner of a running execution to
    /// append: see [`LogWriter::posted`]. Where the slot is set already, the runner is woken once more.
    ///
    /// # Errors
    /// [`LogError::Full`] where a budget has no room left.
    fn post<'a>(
        &'a self,
        key: &'a ExecutionKey,
        slot: &'a Slot,
        event: &'a Event,
    ) -> LogFuture<'a, Result<Post, LogError>>;

    /// Drops what is over. A log also does so by itself at each [`start`](Self::start) and [`find`](Self::find).
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn sweep(&self) -> LogFuture<'_, Result<(), LogError>>;

    /// What `scope` takes of its budget, or all scopes of the server's.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn usage<'a>(&'a self, scope: Option<&'a Scope>) -> LogFuture<'a, Result<Usage, LogError>>;
}

/// The one who may append to an execution's log. Dropping it before its end loses the run: see [`ExecutionLog`].
pub trait LogWriter: Send {
    /// The epoch of the ids that it gives.
    fn epoch(&self) -> u64;

    /// Stores `event` as the next one; readers see it from then on.
    ///
    /// # Errors
    /// [`AppendError::Full`] where a bound or budget is reached, and the log can then only be ended;
    /// [`AppendError::Fenced`] where another writer took over, or the log has ended.
    fn append<'a>(&'a mut self, event: &'a Event) -> LogFuture<'a, Result<EventId, AppendError>> {
        self.append_with(event, Change::None)
    }

    /// Stores `event` as the next one, and in the same step what it does to the inbox (PROTOCOL 3.6).
    ///
    /// # Errors
    /// As for [`append`](Self::append); [`AppendError::AskedBefore`] where the id of a question is not new.
    fn append_with<'a>(
        &'a mut self,
        event: &'a Event,
        change: Change<'a>,
    ) -> LogFuture<'a, Result<EventId, AppendError>>;

    /// Stores `events` as the next ones, as if each was appended after the other: of a batch that is refused, those before the one
    /// that is refused are stored. A log that is asked over a network does this in one step.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    fn append_all<'a>(&'a mut self, events: &'a [Event]) -> LogFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            for event in events {
                self.append(event).await?;
            }
            Ok(())
        })
    }

    /// What was posted and is not appended yet, the oldest first, and at least one; waits where there is nothing. To be appended
    /// in this order, each by [`Change::Tells`]. Dropping the future takes nothing. Never resolves where the log is gone.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn posted(&self) -> LogFuture<'static, Result<Vec<(Slot, Event)>, LogError>>;

    /// The ids of the inputs in the log that the agent has not taken, the oldest first: what the terminal event names.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn untaken(&self) -> LogFuture<'_, Result<Vec<String>, LogError>>;

    /// Resolves when another writer has taken over, or the log is gone: nothing can be appended any more. A log whose writers
    /// are told of it by their next append alone, as by default, never resolves it.
    fn fenced(&self) -> LogFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    /// Stores the terminal event, which always fits, and ends the log. Its retention begins.
    ///
    /// # Errors
    /// [`AppendError::Fenced`] as for [`append`](Self::append).
    fn end(
        self: Box<Self>,
        ending: Ending,
        terminal: &Event,
    ) -> LogFuture<'_, Result<EventId, AppendError>>;
}

/// One execution's log, to be read by any number of readers, each at its own pace and at no cost to the others.
pub trait LogReader: Send + Sync {
    /// Of the body that the execution was started with; `None` where it was bound without one.
    fn fingerprint(&self) -> Option<Fingerprint>;

    /// How the execution stands.
    ///
    /// # Errors
    /// [`LogError::Expired`] once the log was dropped.
    fn status(&self) -> LogFuture<'_, Result<Status, LogError>>;

    /// Where a reader with this cursor goes on.
    ///
    /// # Errors
    /// [`LogError::Expired`] once the log was dropped.
    fn locate(&self, cursor: Cursor) -> LogFuture<'_, Result<Position, LogError>>;

    /// How a slot of the inbox stands; `None` where there is none of this id.
    ///
    /// # Errors
    /// [`LogError::Expired`] once the log was dropped.
    fn slot<'a>(&'a self, slot: &'a Slot) -> LogFuture<'a, Result<Option<SlotState>, LogError>>;

    /// The numbers of the events whose questions wait for an answer in the log, the oldest first; none once it has ended.
    ///
    /// # Errors
    /// [`LogError::Expired`] once the log was dropped.
    fn pending(&self) -> LogFuture<'_, Result<Vec<u64>, LogError>>;

    /// The stored frames after event number `after`, as many as are at hand in one piece; waits for one where there is none.
    ///
    /// `None` after the terminal event. Dropping the future reads nothing.
    ///
    /// # Errors
    /// [`LogError::Expired`] once the log was dropped: a reader that was not at its end is cut off.
    fn next(&self, after: u64) -> LogFuture<'_, Result<Option<Page>, LogError>>;
}

/// Where an execution lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionKey {
    /// Whose it is.
    pub scope: Scope,
    /// Its id, unique within the scope.
    pub id: ExecutionId,
}

/// What a log begins with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Of the body that starts it. `None` binds the id without a run.
    pub fingerprint: Option<Fingerprint>,
    /// Its first event, `execution.started`.
    pub first: Event,
    /// Its agent takes input (PROTOCOL 3.6).
    pub takes_input: bool,
    /// The [`id`](ExecutionLog::id) that the log must have. `None` binds in any.
    pub log_id: Option<LogId>,
}

/// The answer to [`ExecutionLog::start`].
pub enum Start {
    /// The id is bound now, and the caller is the one who runs it.
    Started {
        /// For the runner.
        writer: Box<dyn LogWriter>,
        /// For whoever asked.
        reader: Arc<dyn LogReader>,
    },
    /// It was bound before, and its log is still there.
    Exists(Arc<dyn LogReader>),
    /// It was bound before, and its log is gone.
    Spent,
    /// It is bound to nothing, and the log has another id than the one that was named: nothing has changed.
    LogChanged,
}

/// The answer to [`ExecutionLog::find`].
pub enum Found {
    /// The id is bound to nothing.
    Unknown,
    /// Its log is there, running or ended.
    Retained(Arc<dyn LogReader>),
    /// Its log is gone, and the id still bound.
    Spent,
}

/// The SHA-256 of a request's body: what tells an attach from a conflict (PROTOCOL 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these bytes.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// How an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it runs, or how it ended.
    pub state: State,
    /// The id of the last event in its log.
    pub last: EventId,
    /// When it was bound, in Unix milliseconds.
    pub started_at: u64,
    /// When it ended, in Unix milliseconds.
    pub ended_at: Option<u64>,
    /// Its agent takes input (PROTOCOL 3.6).
    pub takes_input: bool,
}

/// Whether an execution runs, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no terminal event yet.
    Running,
    /// The last event is terminal.
    Ended(Ending),
}

impl State {
    /// Its name on the wire (PROTOCOL 3.1).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended(Ending::Completed) => "completed",
            Self::Ended(Ending::Failed) => "failed",
            Self::Ended(Ending::Cancelled) => "cancelled",
        }
    }
}

/// Which terminal event a log ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `execution.completed`.
    Completed,
    /// `execution.failed`.
    Failed,
    /// `execution.cancelled`.
    Cancelled,
}

/// Where a cursor stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// There is, or will be, something after this `seq` (0: before the first event).
    After(u64),
    /// At the terminal event: nothing will ever follow.
    AtEnd,
    /// The log does not hold this event.
    NotHeld,
}

/// Frames of consecutive events, in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The frames, encoded at append.
    pub frames: Bytes,
    /// The `seq` of the last of them.
    pub last: u64,
}

/// What a log takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Executions whose log is there.
    pub executions: u64,
    /// Ids that are spent and still bound.
    pub bindings: u64,
    /// Bytes charged for both.
    pub bytes: u64,
}

/// Why a log gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// A budget has no room for another execution, or for what is posted into one.
    #[error("take more: {0} is used up")]
    Full(Bound),
    /// The first event does not fit into a frame.
    #[error("start an execution: its first event does not fit into a frame")]
    Frame(#[source] InvalidFrame),
    /// The log was dropped after its retention, or to make room.
    #[error("read an execution whose events are gone")]
    Expired,
    /// The store itself failed.
    #[error("reach the log's store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why an event is not in the log.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A bound or a budget is reached.
    #[error("append an event: {0} is used up")]
    Full(Bound),
    /// A question of this id was asked before.
    #[error("append a question whose id was used before")]
    AskedBefore,
    /// Another writer took over, or the log has ended.
    #[error("append an event to a log that has another writer or has ended")]
    Fenced,
    /// The event does not fit into a frame.
    #[error("append an event: it does not fit into a frame")]
    Frame(#[from] InvalidFrame),
    /// The store itself failed.
    #[error("reach the log's store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Which limit was reached, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`Limits::events_per_execution`].
    EventsPerExecution(u64),
    /// [`Limits::bytes_per_execution`].
    BytesPerExecution(u64),
    /// [`Limits::bytes_per_scope`].
    BytesPerScope(u64),
    /// [`Limits::bytes_in_all`].
    BytesInAll(u64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EventsPerExecution(events) => {
                write!(f, "the limit of {events} events per execution")
            }
            Self::BytesPerExecution(bytes) => write!(f, "the limit of {bytes} bytes per execution"),
            Self::BytesPerScope(bytes) => write!(f, "the budget of {bytes} bytes of this scope"),
            Self::BytesInAll(bytes) => write!(f, "the budget of {bytes} bytes of this server"),
        }
    }
}
