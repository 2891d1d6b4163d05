//! What became of an attempt, for the log and the counters.

use turnkit::{ClientOutcome, TurnOutcome, code};

use crate::metrics::{Counter, Metrics};

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

/// Notes the end of an attempt. The engine's own spans name the turn; nothing here holds a text.
pub(crate) fn note(metrics: &Metrics, outcome: &TurnOutcome) {
    counter(metrics, Kind::of(outcome)).one();
    metrics.lines.add(outcome.events);
    metrics.hook_errors.add(outcome.hook_errors.len() as u64);
    match outcome.client {
        ClientOutcome::Left { .. } => metrics.clients_left.one(),
        ClientOutcome::Stalled { .. } => metrics.clients_stalled.one(),
        _ => {}
    }
}

fn counter(metrics: &Metrics, kind: Kind) -> &Counter {
    match kind {
        Kind::Completed => &metrics.outcomes_completed,
        Kind::Replayed => &metrics.outcomes_replayed,
        Kind::Abandoned => &metrics.outcomes_abandoned,
        Kind::Cancelled => &metrics.outcomes_cancelled,
        Kind::Failed { retryable: true } => &metrics.outcomes_retryable,
        Kind::Failed { retryable: false } => &metrics.outcomes_failed,
    }
}
