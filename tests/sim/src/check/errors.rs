//! Which failures of a turn tell the truth.

use std::time::Duration;

use turnkit_id::ExecutionId;

use super::outline::{self, Outline};
use crate::plan::Plan;

/// Why what a failed turn says of itself is not true; none where it is.
///
/// `at`: when it was said.
pub(super) fn untrue(
    plan: &Plan,
    outline: &Outline,
    turn: &str,
    execution: &ExecutionId,
    code: Option<&str>,
    at: Duration,
) -> Option<String> {
    let said = |code: &str| outline.lives(execution).iter().any(|life| has_ended_with(life, code));
    let is_true = match code {
        Some("cancelled") => outline.stops.get(turn).is_some_and(|stop| *stop <= at),
        Some("execution_lost") => is_lost(plan, outline, execution, at),
        Some("session_deleted") => outline.deleted(execution).is_some_and(|deleted| deleted <= at),
        // Whether it may say so is looked at apart.
        Some("timeout") => said("timeout"),
        Some("runner_lost") => said("runner_lost") && outline.kills.iter().any(|kill| *kill <= at),
        Some(code) => plan.scripts(turn).any(|script| script.code() == Some(code)),
        None => false,
    };
    (!is_true).then(|| format!("{turn} says {code:?} of {execution}, and nothing bears it out"))
}

fn has_ended_with(life: &outline::Execution, code: &str) -> bool {
    life.terminal().and_then(outline::code).as_deref() == Some(code)
}

/// The substrate has forgotten it; or nobody ever asked the agent for it, as a worker was killed that had claimed it, or was not told of
/// its claim by a database that was in trouble for longer than it is asked.
fn is_lost(plan: &Plan, outline: &Outline, execution: &ExecutionId, at: Duration) -> bool {
    let before = |times: &[Duration]| times.iter().any(|time| *time <= at);
    let is_unasked = !outline.asked.contains_key(execution);
    before(&outline.losses)
        || (is_unasked && (plan.busy_writes > 0 || before(&outline.worker_kills)))
}
