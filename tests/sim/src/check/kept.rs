//! What the database holds in the end: the whole answer of a completed execution, once, and the truth about all others.

use std::collections::BTreeMap;

use serde::Deserialize;
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use super::{
    Violation, errors,
    outline::{self, Outline},
};
use crate::{
    history::{ClientAct, Fact, Kept, Record},
    plan::{Plan, Turn},
    script::Script,
};

const SAVED: &str = "told completed, so saved";
const ANSWERED: &str = "a completed execution ends up saved";
const WHOLE: &str = "what is saved is the answer of one execution";
const HONEST: &str = "an error is honest";
const AGREE: &str = "client and database agree";
const KEPT: &str = "an accepted turn is kept";
const AT_REST: &str = "everything comes to rest";

/// What clients were told, what the executions came to, and what the database holds agree.
#[must_use]
pub fn is_whole(plan: &Plan, records: &[Record]) -> Vec<Violation> {
    let outline = &Outline::of(records);
    let kept = kept(records);
    let mut broken = Vec::new();
    for (turn, told) in told(records, outline) {
        match kept.get(turn) {
            Some(kept) => broken.extend(disagreement(turn, &told, kept, outline)),
            None if kept.is_empty() || told.is_deleted => {}
            None => broken.push(Violation::new(KEPT, format!("{turn} is not in the database"))),
        }
    }
    for (turn, kept) in kept {
        match plan.script_for(&kept.asked) {
            Some((script, _)) => broken.extend(untrue(plan, outline, turn, script, kept)),
            None => broken.push(Violation::new(KEPT, format!("{turn} says {:?}", kept.asked))),
        }
    }
    broken
}

/// No client had to give up or waits for ever, and no turn stays open.
#[must_use]
pub fn is_at_rest(records: &[Record]) -> Vec<Violation> {
    let restless = records.iter().filter_map(|record| match &record.fact {
        Fact::Client { client, act: ClientAct::GaveUp } => Some(format!("{client} gave up")),
        Fact::Panicked => Some("somebody panicked".to_owned()),
        Fact::Endless => Some("the clients never ended".to_owned()),
        Fact::StillOpen { turns } => Some(format!("{turns:?} are still open")),
        _ => None,
    });
    restless.map(|why| Violation::new(AT_REST, why)).collect()
}

/// What the clients of a turn were told in the end.
#[derive(Default)]
struct Told {
    completed: bool,
    failed: bool,
    /// Its session was deleted.
    is_deleted: bool,
}

fn told<'a>(records: &'a [Record], outline: &Outline) -> BTreeMap<&'a str, Told> {
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for record in records {
        match &record.fact {
            Fact::Client { client, act: ClientAct::Body { execution, .. } } => {
                let told = told.entry(&client.turn).or_default();
                let execution = execution.as_ref();
                told.is_deleted |= execution.is_some_and(|id| outline.deleted(id).is_some());
            }
            Fact::Client { client, act: ClientAct::Line(event) } => {
                let told = told.entry(&client.turn).or_default();
                told.completed |= event.kind() == "session.run.completed";
                told.failed |= event.kind() == "session.run.failed" && is_final(event);
            }
            _ => {}
        }
    }
    told
}

/// Whether a failure is none that another attempt mends, nor the stop that somebody asked for: a stop may come in the very
/// moment in which another attempt saves the answer.
fn is_final(event: &Event) -> bool {
    #[derive(Deserialize)]
    struct Failed {
        retryable: bool,
        code: Option<String>,
    }
    let failed = event.data::<Failed>();
    failed.is_ok_and(|failed| !failed.retryable && failed.code.as_deref() != Some("cancelled"))
}

fn kept(records: &[Record]) -> BTreeMap<&str, &Kept> {
    let kept = records.iter().filter_map(|record| match &record.fact {
        Fact::Kept { turn, answer: Some(kept) } => Some((turn.as_str(), kept)),
        _ => None,
    });
    kept.collect()
}

fn disagreement(turn: &str, told: &Told, kept: &Kept, outline: &Outline) -> Option<Violation> {
    let is_complete = kept.status == "complete";
    if told.completed && !is_complete {
        return Some(Violation::new(SAVED, format!("{turn} is {:?}", kept.status)));
    }
    let may_differ = ExecutionId::parse(&kept.execution).is_ok_and(|id| may_differ(outline, &id));
    let is_denied = told.failed && is_complete && !may_differ;
    is_denied.then(|| {
        Violation::new(AGREE, format!("{turn} is complete, and a client was told it failed"))
    })
}

/// Where the log was lost, or the runner behind its `result`, one attempt may have read the end before, and another come too
/// late for it.
fn may_differ(outline: &Outline, execution: &ExecutionId) -> bool {
    let is_lost_at_the_end =
        |life: &outline::Execution| life.may_be_whole() && !life.has_completed();
    outline.was_lost(execution) || outline.lives(execution).iter().any(is_lost_at_the_end)
}

fn untrue(
    plan: &Plan,
    outline: &Outline,
    turn: &str,
    script: &Script,
    kept: &Kept,
) -> Option<Violation> {
    let Ok(execution) = ExecutionId::parse(&kept.execution) else {
        return Some(Violation::new(KEPT, format!("{turn} has no execution id")));
    };
    // Each message that was put into it has cut its answer in two.
    if kept.messages > 1 + kept.inputs.len() {
        return Some(Violation::new(WHOLE, format!("{turn} has {} answers", kept.messages)));
    }
    match kept.status.as_str() {
        "complete" => incomplete(outline, turn, &execution, script, kept),
        "failed" | "stopped" => unsaved(outline, turn, &execution, script)
            .or_else(|| spliced(plan, turn, script, kept))
            .or_else(|| {
                let code = kept.code.as_deref();
                let untrue = errors::untrue(plan, outline, turn, &execution, code, NEVER_ENDS);
                untrue.map(|why| Violation::new(HONEST, why))
            }),
        status => Some(Violation::new(KEPT, format!("{turn} has no answer: {status:?}"))),
    }
}

const NEVER_ENDS: std::time::Duration = std::time::Duration::MAX;

/// What is saved as whole is the whole of an execution.
fn incomplete(
    outline: &Outline,
    turn: &str,
    execution: &ExecutionId,
    script: &Script,
    kept: &Kept,
) -> Option<Violation> {
    let may_be_whole = outline.lives(execution).iter().any(outline::Execution::may_be_whole);
    let is_answer = script.answer() == Some(kept.text.as_str());
    (!may_be_whole || !is_answer)
        .then(|| Violation::new(WHOLE, format!("{turn} is saved as {:?}", kept.text)))
}

/// An answer that the agent finished is saved, unless the user stopped the turn or the log is gone.
fn unsaved(
    outline: &Outline,
    turn: &str,
    execution: &ExecutionId,
    script: &Script,
) -> Option<Violation> {
    let has_completed =
        outline.lives(execution).last().is_some_and(outline::Execution::has_completed);
    let is_due = has_completed
        && script.answer().is_some()
        && !outline.stops.contains_key(turn)
        && !outline.was_lost(execution);
    is_due.then(|| {
        Violation::new(ANSWERED, format!("{turn} is not saved, and {execution} has completed"))
    })
}

/// A partial text is the beginning of the answer.
/// Where the agent asks or is told something, that puts a blank line there, wherever it comes (PROTOCOL 2.3).
fn spliced(plan: &Plan, turn: &str, script: &Script, kept: &Kept) -> Option<Violation> {
    let is_broken = |turn: &Turn| !turn.asks.is_empty() || !turn.inputs.is_empty();
    let asks = plan.turns().any(|planned| planned.id == turn && is_broken(planned));
    let unbroken = |text: &str| if asks { text.replace("\n\n", "") } else { text.to_owned() };
    let is_part = unbroken(&script.text).starts_with(&unbroken(&kept.text))
        || script.answer() == Some(kept.text.as_str());
    (!is_part).then(|| Violation::new(WHOLE, format!("{turn} keeps {:?}", kept.text)))
}

#[cfg(test)]
mod tests;
