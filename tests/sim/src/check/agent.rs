//! The agent ran at most once.

use std::collections::BTreeMap;

use turnkit_id::ExecutionId;

use super::Violation;
use crate::history::{Fact, Record};

const PROMISE: &str = "the agent ran at most once";

/// What is known about one execution's run.
#[derive(Clone, Copy, Default)]
struct Run {
    is_asked: bool,
    is_answered: bool,
    is_forgotten: bool,
}

/// No execution is run twice.
///
/// Where the substrate forgets everything it may be, as long as no run of it was ever answered: then nobody can know that
/// there was one (PROTOCOL 4.1).
#[must_use]
pub fn ran_at_most_once(records: &[Record]) -> Vec<Violation> {
    let mut runs: BTreeMap<ExecutionId, Run> = BTreeMap::new();
    let mut broken = Vec::new();
    for record in records {
        match &record.fact {
            Fact::AgentAsked { execution } => {
                let run = runs.entry(execution.clone()).or_default();
                if run.is_asked && (run.is_answered || !run.is_forgotten) {
                    let detail = format!("{execution} ran again at {:?}", record.at);
                    broken.push(Violation::new(PROMISE, detail));
                }
                *run = Run { is_asked: true, ..Run::default() };
            }
            Fact::Answered { execution } => {
                runs.entry(execution.clone()).or_default().is_answered = true;
            }
            Fact::LogLost => runs.values_mut().for_each(|run| run.is_forgotten = true),
            _ => {}
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::story::{id, records};

    fn asked() -> Fact {
        Fact::AgentAsked { execution: id("e") }
    }

    fn answered() -> Fact {
        Fact::Answered { execution: id("e") }
    }

    fn broken(facts: impl IntoIterator<Item = Fact>) -> usize {
        ran_at_most_once(&records(facts)).len()
    }

    #[test]
    fn a_second_run_is_found() {
        assert_eq!(broken([asked(), answered()]), 0);
        assert_eq!(broken([asked(), asked()]), 1);
        assert_eq!(broken([asked(), answered(), asked()]), 1);
        assert_eq!(broken([asked(), Fact::AgentAsked { execution: id("f") }]), 0);
    }

    #[test]
    fn a_substrate_that_forgot_excuses_only_a_run_that_nobody_knew_of() {
        assert_eq!(broken([asked(), Fact::LogLost, asked()]), 0);
        assert_eq!(broken([asked(), answered(), Fact::LogLost, asked()]), 1);
        assert_eq!(broken([asked(), Fact::LogLost, asked(), asked()]), 1);
    }
}
