//! Who watches turns: metrics, traces, tests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use turnkit::{Hook, Persisted, TurnOutcome};

use crate::Turn;

/// Watches what becomes of turns in this process, and changes nothing. Its methods run in passing: count, or hand on.
#[expect(unused_variables, reason = "the names are for those who implement it")]
pub trait Observer: Send + Sync + 'static {
    /// A turn was accepted.
    fn accepted(&self, turn: &Turn) {}

    /// An attempt begins; what watches it to its end, if anything does.
    fn attempt(&self, turn: &Turn, attempt: Attempt) -> Option<Arc<dyn AttemptObserver>> {
        None
    }
}

/// Watches one attempt.
#[expect(unused_variables, reason = "the names are for those who implement it")]
pub trait AttemptObserver: Send + Sync {
    /// One more line, also one that a resumed body leaves out.
    fn line(&self) {}

    /// The answer was saved: by this attempt, or by one before it.
    fn persisted(&self, persisted: Persisted) {}

    /// A hook has run, or was dropped while it ran. `began` is counted from the attempt's beginning.
    fn hook(&self, hook: Hook, began: Duration, took: Duration, ok: bool) {}

    /// The attempt has run to its end. One that was cut (its process ends, its lease was lost) never tells.
    fn ended(&self, outcome: &TurnOutcome) {}
}

/// What an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// How it came about.
    pub cause: Cause,
    /// What it is to the execution.
    pub role: Role,
    /// The cursor after which its client reads.
    pub after: u64,
}

impl Attempt {
    /// An attempt, for tests of observers.
    #[must_use]
    pub fn new(cause: Cause, role: Role, after: u64) -> Attempt {
        Attempt { cause, role, after }
    }
}

/// How an attempt came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A client asked for a new turn.
    Accepted,
    /// A client took the turn up.
    Resumed,
    /// Nobody drove the turn, or it is being stopped.
    Swept,
}

/// What an attempt is to its execution (PROTOCOL 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It drives the turn, and starts the run: the turn's one dispatch.
    Run,
    /// It drives the turn on, after an attempt that may have started the run.
    Attach,
    /// It reads along, for as long as its client stays.
    Read,
}

/// All observers of a chat, as one.
#[derive(Clone, Default)]
pub(crate) struct Observers(pub(crate) Vec<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn accepted(&self, turn: &Turn) {
        self.0.iter().for_each(|observer| observer.accepted(turn));
    }

    pub(crate) fn attempt(&self, turn: &Turn, attempt: Attempt) -> Vec<Arc<dyn AttemptObserver>> {
        self.0.iter().filter_map(|observer| observer.attempt(turn, attempt)).collect()
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
