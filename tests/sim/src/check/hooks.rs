//! The hooks of a saved turn run once, and only then.

use std::collections::BTreeMap;

use turnkit_id::ExecutionId;

use super::Violation;
use crate::history::{Fact, Hooked, Record};

const PROMISE: &str = "hooks run once, in their order";

/// `on_turn_complete` ran at most once and only after the answer was saved; it was saved at most once; and an attempt that
/// ran to its end flushed its traces, last of all.
#[must_use]
pub fn run_once(records: &[Record]) -> Vec<Violation> {
    let mut ran: BTreeMap<&ExecutionId, Vec<Hooked>> = BTreeMap::new();
    let mut broken = Vec::new();
    for record in records {
        if let Fact::Hooked { execution, hook } = &record.fact {
            let before = ran.entry(execution).or_default();
            let why = misplaced(before, *hook);
            broken.extend(why.map(|why| Violation::new(PROMISE, format!("{execution}: {hook:?} {why}"))));
            before.push(*hook);
        }
    }
    broken
}

fn misplaced(before: &[Hooked], hook: Hooked) -> Option<&'static str> {
    match hook {
        Hooked::Saved if before.contains(&Hooked::Saved) => Some("a second time"),
        Hooked::Completed if before.contains(&Hooked::Completed) => Some("a second time"),
        Hooked::Completed if !before.contains(&Hooked::Saved) => Some("before the answer was saved"),
        Hooked::AlreadySaved if !before.contains(&Hooked::Saved) => Some("before the answer was saved"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::story::{id, records};

    fn broken(hooks: &[Hooked]) -> usize {
        let facts = hooks.iter().map(|hook| Fact::Hooked { execution: id("e"), hook: *hook });
        run_once(&records(facts)).len()
    }

    #[test]
    fn two_attempts_that_share_one_answer_are_fine() {
        use Hooked::{AlreadySaved, Completed, Failed, Flushed, Saved};
        assert_eq!(broken(&[Failed, Flushed, Saved, Completed, Flushed, AlreadySaved, Flushed]), 0);
    }

    #[test]
    fn a_hook_that_runs_twice_or_too_early_is_found() {
        use Hooked::{AlreadySaved, Completed, Saved};
        assert_eq!(broken(&[Saved, Saved]), 1);
        assert_eq!(broken(&[Saved, Completed, Completed]), 1);
        assert_eq!(broken(&[Completed]), 1);
        assert_eq!(broken(&[AlreadySaved]), 1);
    }
}
