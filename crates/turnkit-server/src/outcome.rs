//! What became of an attempt, for traces and counters.

use turnkit::{TurnOutcome, code};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Completed,
    Replayed,
    Abandoned,
    Cancelled,
    /// It failed.
    Failed {
        /// Whether another attempt may mend it.
        retryable: bool,
    },
}

impl Kind {
    pub(crate) fn of(outcome: &TurnOutcome) -> Kind {
        match &outcome.result {
            Ok(_) if outcome.replayed => Kind::Replayed,
            Ok(_) => Kind::Completed,
            Err(error) if error.code() == Some(code::ABANDONED) => Kind::Abandoned,
            Err(error) if error.code() == Some(code::CANCELLED) => Kind::Cancelled,
            Err(error) => Kind::Failed { retryable: error.is_retryable() },
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Completed => "completed",
            Kind::Replayed => "replayed",
            Kind::Abandoned => "abandoned",
            Kind::Cancelled => "cancelled",
            Kind::Failed { .. } => "failed",
        }
    }
}
