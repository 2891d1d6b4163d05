//! Which turn of a session goes on from which, so that a place in a branch is found without a walk over all of it.
//!
//! Turns with the same parent are siblings. A turn, its first child, the first child of that one and so on are a *lane*: a conversation in
//! which nothing is ever said anew is one lane, and each sibling that comes later begins another. So a turn's lane never changes, and a way
//! up or down a branch goes from lane to lane; how many turns lie between is nothing to it. The stores in SQL do the same by a column.

use std::collections::{BTreeSet, HashMap};

/// Turns are known by their index: a child's is higher than its parent's.
#[derive(Default)]
pub(super) struct Branches {
    turns: Vec<Turn>,
    /// Siblings by their parent, the oldest first.
    children: HashMap<Option<u64>, Vec<u64>>,
    /// Turns that have more than one child.
    forks: BTreeSet<u64>,
    /// The turns of a lane, by its first one; the oldest first.
    lanes: HashMap<u64, Vec<u64>>,
}

#[derive(Clone, Copy)]
struct Turn {
    parent: Option<u64>,
    lane: u64,
}

impl Branches {
    /// Adds the next turn.
    pub(super) fn push(&mut self, parent: Option<u64>) {
        let index = self.turns.len() as u64;
        let siblings = self.children.entry(parent).or_default();
        let goes_on = parent.filter(|_| siblings.is_empty());
        if let Some(parent) = parent.filter(|_| !siblings.is_empty()) {
            self.forks.insert(parent);
        }
        siblings.push(index);
        let lane = goes_on.and_then(|parent| self.get(parent)).map_or(index, |turn| turn.lane);
        self.lanes.entry(lane).or_default().push(index);
        self.turns.push(Turn { parent, lane });
    }

    fn get(&self, index: u64) -> Option<Turn> {
        self.turns.get(usize::try_from(index).ok()?).copied()
    }

    pub(super) fn newest(&self) -> Option<u64> {
        (self.turns.len() as u64).checked_sub(1)
    }

    /// The turns that go on from this one, or begin the session; the oldest first.
    pub(super) fn children(&self, parent: Option<u64>) -> &[u64] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// A turn and its ancestors, the newest first.
    pub(super) fn up(&self, from: Option<u64>) -> impl Iterator<Item = u64> {
        std::iter::successors(from, |index| self.get(*index)?.parent)
    }

    /// Where a branch ends that is named by one of its turns: of each turn it goes on with the newest child.
    pub(super) fn newest_descendant(&self, of: u64) -> Option<u64> {
        let mut at = of;
        loop {
            let lane = self.get(at)?.lane;
            let is_on_the_way = |fork: &&u64| self.get(**fork).is_some_and(|it| it.lane == lane);
            match self.forks.range(at..).find(is_on_the_way) {
                Some(fork) => at = *self.children(Some(*fork)).last()?,
                None => return self.lanes.get(&lane)?.last().copied(),
            }
        }
    }

    /// The newest turn older than `before` among `tip` and its ancestors.
    pub(super) fn newest_before(&self, tip: u64, before: u64) -> Option<u64> {
        let mut at = tip;
        loop {
            let lane = self.get(at)?.lane;
            if lane < before {
                let turns = self.lanes.get(&lane)?;
                let older = turns.partition_point(|turn| *turn < before && *turn <= at);
                return turns.get(older.checked_sub(1)?).copied();
            }
            at = self.get(lane)?.parent?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each way between lanes is the one that a walk from turn to turn takes, in trees of any shape.
    #[test]
    fn lanes_lead_where_a_walk_leads() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for shape in 0..60 {
            let mut branches = Branches::default();
            for index in 0..40_u64 {
                // Of few branches and of many.
                let goes_on = index > 0 && random(1 + shape % 6) == 0;
                let parent =
                    if goes_on { Some(index - 1) } else { random(index + 1).checked_sub(1) };
                branches.push(parent);
            }
            for of in 0..40 {
                let walk = |at: &u64| branches.children(Some(*at)).last().copied();
                let tip = std::iter::successors(Some(of), walk).last();
                assert_eq!(branches.newest_descendant(of), tip, "of {of} in shape {shape}");
                for before in 0..42 {
                    let walked = branches.up(Some(of)).find(|turn| *turn < before);
                    let found = branches.newest_before(of, before);
                    assert_eq!(found, walked, "of {of} before {before} in shape {shape}");
                }
            }
            assert_eq!(
                (branches.newest_descendant(40), branches.newest_before(40, 9)),
                (None, None)
            );
        }
    }
}
