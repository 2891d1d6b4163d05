//! The promises of PROTOCOL 4.3, each a function from what happened to what was broken.
//!
//! | promise | where |
//! |---|---|
//! | the agent ran at most once | [`agent`] |
//! | one log per execution, replayed strictly after a cursor, no id for two events, nothing delivered that is not in it | [`log`] |
//! | what a client has drawn is the events of the one execution, or the saved answer, or ends in one honest error | [`drawn`] |
//! | told `completed` implies saved; a completed execution ends up saved; nothing spliced; every turn ends; nobody panics | [`kept`] |
//! | the hooks of a saved turn run once, and only then | [`hooks`] |
//! | one answer is taken, once, and everybody hears it from the log (3.6, 4.2) | [`questions`] |
//! | an input reaches its agent once and is kept once; turns that wait run in their order; nothing of a deleted session comes back; a run's time does not count its waits (3.6, 4.2) | [`beside`] |
//! | a turn is dispatched once, an epoch has one winner, what is over ends and frees nothing (4.2) | [`leases`] |

pub mod agent;
pub mod beside;
pub mod drawn;
mod errors;
pub mod hooks;
pub mod kept;
pub mod leases;
pub mod log;
mod outline;
pub mod questions;
#[cfg(test)]
mod story;

use std::fmt;

pub(crate) use self::outline::is_terminal;
use crate::{history::Record, plan::Plan};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub promise: &'static str,
    /// How.
    pub detail: String,
}

impl Violation {
    fn new(promise: &'static str, detail: impl Into<String>) -> Self {
        Self { promise, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.detail)
    }
}

/// Every promise that was broken.
#[must_use]
pub fn all(plan: &Plan, records: &[Record]) -> Vec<Violation> {
    let mut broken = agent::ran_at_most_once(records);
    broken.extend(log::is_one_log(records));
    broken.extend(log::is_replayed_strictly(records));
    broken.extend(drawn::is_the_execution(plan, records));
    broken.extend(kept::is_whole(plan, records));
    broken.extend(kept::is_at_rest(records));
    broken.extend(hooks::run_once(plan, records));
    broken.extend(leases::are_granted_once(records));
    broken.extend(questions::are_answered_once(records));
    broken.extend(beside::is_said_once(plan, records));
    broken.extend(beside::run_in_turn(plan, records));
    broken.extend(beside::stays_deleted(records));
    broken.extend(beside::waits_in_its_own_time(records));
    broken
}
