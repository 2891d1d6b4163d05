//! What became of an attempt, for the log and the counters.

use turnkit::{ClientOutcome, TurnOutcome, code};

use crate::metrics::{Counter, Metrics};

/// Notes the end of an attempt. The engine's own spans name the turn; nothing here holds a text.
pub(crate) fn note(metrics: &Metrics, outcome: &TurnOutcome) {
    counter(metrics, outcome).one();
    metrics.lines.add(outcome.events);
    metrics.hook_errors.add(outcome.hook_errors.len() as u64);
    match outcome.client {
        ClientOutcome::Left { .. } => metrics.clients_left.one(),
        ClientOutcome::Stalled { .. } => metrics.clients_stalled.one(),
        _ => {}
    }
}

fn counter<'a>(metrics: &'a Metrics, outcome: &TurnOutcome) -> &'a Counter {
    match &outcome.result {
        Ok(_) if outcome.replayed => &metrics.outcomes_replayed,
        Ok(_) => &metrics.outcomes_completed,
        Err(error) if error.code() == Some(code::ABANDONED) => &metrics.outcomes_abandoned,
        Err(error) if error.code() == Some(code::CANCELLED) => &metrics.outcomes_cancelled,
        Err(error) if error.is_retryable() => &metrics.outcomes_retryable,
        Err(_) => &metrics.outcomes_failed,
    }
}
