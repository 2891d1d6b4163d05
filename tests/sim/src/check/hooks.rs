//! The hooks of a saved turn run once, and only then.

use std::collections::BTreeMap;

use turnkit_id::ExecutionId;

use super::Violation;
use crate::{
    history::{Fact, Hooked, Record},
    plan::Plan,
};

const PROMISE: &str = "hooks run once, in their order";

/// `on_turn_complete` ran at most once and only after the answer was saved; it was saved at most once; and each attempt that
/// ran to its end flushed its traces.
#[must_use]
pub fn run_once(plan: &Plan, records: &[Record]) -> Vec<Violation> {
    let mut ran: BTreeMap<&ExecutionId, Vec<Hooked>> = BTreeMap::new();
    let mut broken = Vec::new();
    for record in records {
        if let Fact::Hooked { execution, hook } = &record.fact {
            let before = ran.entry(execution).or_default();
            let why = misplaced(before, *hook);
            broken.extend(
                why.map(|why| Violation::new(PROMISE, format!("{execution}: {hook:?} {why}"))),
            );
            before.push(*hook);
        }
    }
    // A worker that is killed takes its attempts along, wherever they are.
    if !plan.kills_a_worker() {
        let unflushed = ran.into_iter().filter(|(_, hooks)| !is_flushed(hooks));
        broken
            .extend(unflushed.map(|(execution, _)| {
                Violation::new(PROMISE, format!("{execution}: not flushed"))
            }));
    }
    broken
}

/// Whether every attempt that saved, found it saved or failed has flushed its traces, too.
fn is_flushed(hooks: &[Hooked]) -> bool {
    let ends = [Hooked::Saved, Hooked::AlreadySaved, Hooked::Failed];
    let ended = hooks.iter().filter(|hook| ends.contains(hook)).count();
    hooks.iter().filter(|hook| **hook == Hooked::Flushed).count() >= ended
}

fn misplaced(before: &[Hooked], hook: Hooked) -> Option<&'static str> {
    match hook {
        Hooked::Saved if before.contains(&Hooked::Saved) => Some("a second time"),
        Hooked::Completed if before.contains(&Hooked::Completed) => Some("a second time"),
        Hooked::Completed if !before.contains(&Hooked::Saved) => {
            Some("before the answer was saved")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::story::{id, records};

    fn calm() -> Plan {
        Plan { faults: Vec::new(), ..Plan::draw(0) }
    }

    fn broken(hooks: &[Hooked]) -> usize {
        let facts = hooks.iter().map(|hook| Fact::Hooked { execution: id("e"), hook: *hook });
        run_once(&calm(), &records(facts)).len()
    }

    #[test]
    fn two_attempts_that_share_one_answer_are_fine() {
        use Hooked::{AlreadySaved, Completed, Failed, Flushed, Saved};
        assert_eq!(broken(&[Failed, Flushed, Saved, Completed, Flushed, AlreadySaved, Flushed]), 0);
    }

    #[test]
    fn a_hook_that_runs_twice_or_too_early_is_found() {
        use Hooked::{Completed, Flushed, Saved};
        assert_eq!(broken(&[Saved, Flushed, Saved, Flushed]), 1);
        assert_eq!(broken(&[Saved, Completed, Completed, Flushed]), 1);
        assert_eq!(broken(&[Completed]), 1);
    }

    #[test]
    fn an_attempt_that_does_not_flush_is_found() {
        use Hooked::{Completed, Failed, Flushed, Saved};
        assert_eq!(broken(&[Saved, Completed]), 1);
        assert_eq!(broken(&[Failed, Saved, Completed, Flushed]), 1);
    }
}
