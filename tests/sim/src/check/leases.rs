//! What the product's store has granted: a turn is dispatched once, an epoch has one winner, and what is over ends nothing
//! (PROTOCOL 4.2).

use std::collections::BTreeMap;

use turnkit_id::ExecutionId;

use super::Violation;
use crate::history::{Fact, Record, Stored};

const DISPATCHED: &str = "a turn is dispatched once";
const EPOCH: &str = "an epoch that was seen has one winner";
const FENCED: &str = "an epoch that is over ends and frees nothing";
const ONCE: &str = "a turn is saved once and ended once";

/// What is known of one turn.
#[derive(Default)]
struct Row {
    /// Which claim has begun each epoch.
    epochs: BTreeMap<u64, u64>,
    /// Which claim was told to run.
    run: Option<u64>,
    saved: bool,
    ended: bool,
}

impl Row {
    fn take(&mut self, stored: Stored) -> Option<(&'static str, String)> {
        match stored {
            Stored::Claimed { claim, seen, epoch, runs } => {
                if epoch != seen + 1 {
                    let why =
                        format!("claim {claim} had seen epoch {seen}, and was granted {epoch}");
                    return Some((EPOCH, why));
                }
                let winner = *self.epochs.entry(epoch).or_insert(claim);
                if winner != claim {
                    let why = format!("claims {winner} and {claim} have both begun epoch {epoch}");
                    return Some((EPOCH, why));
                }
                let first = if runs { *self.run.get_or_insert(claim) } else { claim };
                (first != claim).then(|| {
                    (DISPATCHED, format!("claims {first} and {claim} were both told to run it"))
                })
            }
            Stored::Ended { epoch: Some(epoch) }
                if self.epochs.keys().next_back().is_some_and(|last| *last > epoch) =>
            {
                Some((FENCED, format!("epoch {epoch} has ended it, and is over")))
            }
            Stored::Released { epoch, freed } => (epoch != freed)
                .then(|| (FENCED, format!("epoch {epoch} is over, and has freed epoch {freed}"))),
            Stored::Ended { .. } => std::mem::replace(&mut self.ended, true)
                .then(|| (ONCE, "it was ended a second time".to_owned())),
            Stored::Saved => std::mem::replace(&mut self.saved, true)
                .then(|| (ONCE, "it was saved a second time".to_owned())),
        }
    }
}

/// No two claims were told the same, and no late one was granted.
#[must_use]
pub fn are_granted_once(records: &[Record]) -> Vec<Violation> {
    let mut rows: BTreeMap<&ExecutionId, Row> = BTreeMap::new();
    let broken = records.iter().filter_map(|record| {
        let Fact::Stored { execution, stored } = &record.fact else { return None };
        let (promise, why) = rows.entry(execution).or_default().take(*stored)?;
        Some(Violation::new(promise, format!("{execution} at {:?}: {why}", record.at)))
    });
    broken.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::story::{id, records};

    fn claimed(claim: u64, seen: u64, epoch: u64, runs: bool) -> Stored {
        Stored::Claimed { claim, seen, epoch, runs }
    }

    fn broken(stored: &[Stored]) -> Vec<&'static str> {
        let facts =
            stored.iter().map(|stored| Fact::Stored { execution: id("e"), stored: *stored });
        are_granted_once(&records(facts)).into_iter().map(|broken| broken.promise).collect()
    }

    #[test]
    fn a_claim_that_is_asked_again_and_one_after_another_are_fine() {
        let ended = Stored::Ended { epoch: Some(2) };
        let (first, second) = (claimed(1, 0, 1, true), claimed(2, 1, 2, false));
        assert_eq!(broken(&[first, first, second, ended, Stored::Saved]), Vec::<&str>::new());
        let late = Stored::Ended { epoch: None };
        assert_eq!(broken(&[first, second, late]), Vec::<&str>::new());
    }

    #[test]
    fn two_that_get_the_same_and_one_that_comes_late_are_found() {
        let first = claimed(1, 0, 1, true);
        assert_eq!(broken(&[first, claimed(2, 0, 1, true)]), [EPOCH]);
        assert_eq!(broken(&[first, claimed(2, 1, 2, true)]), [DISPATCHED]);
        assert_eq!(broken(&[first, claimed(2, 0, 2, false)]), [EPOCH]);
        let second = claimed(2, 1, 2, false);
        assert_eq!(broken(&[first, second, Stored::Ended { epoch: Some(1) }]), [FENCED]);
        let released = |epoch| Stored::Released { epoch, freed: 2 };
        assert_eq!(broken(&[first, second, released(1), released(2)]), [FENCED]);
        assert_eq!(broken(&[first, Stored::Saved, Stored::Saved]), [ONCE]);
        let ended = Stored::Ended { epoch: None };
        assert_eq!(broken(&[first, ended, ended]), [ONCE]);
    }
}
