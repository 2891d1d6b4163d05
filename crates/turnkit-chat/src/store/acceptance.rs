//! Whether a turn is accepted, and where it goes: run now, wait, or not at all (PROTOCOL 4.2, "A turn has a parent", "A queue").
//!
//! One rule for all stores. Each reads the facts in the transaction that accepts the turn, and does what the verdict says.

use super::asked::{Asked, Fingerprint};
use super::{Accepted, MAX_QUEUED, TurnRow};

/// What a session has, as far as the acceptance of one turn goes.
pub(crate) struct Facts<K, W> {
    /// What there is under the turn's own name.
    pub(crate) own: Own<K, W>,
    /// What there is under the [name of its place](Asked::place), where it has one.
    pub(crate) place: Place,
    /// The name of the open turn.
    pub(crate) open: Option<String>,
    /// The index of the newest turn.
    pub(crate) newest: Option<u64>,
    /// How many turns wait.
    pub(crate) waiting: usize,
    pub(crate) is_paused: bool,
}

/// What a session has under the name of a turn that it is asked for.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, for as long as it is looked at"
)]
pub(crate) enum Own<K, W> {
    /// A turn with an index, and what its first request said, where it was edited in the queue.
    Begun {
        row: TurnRow,
        known_as: Option<K>,
    },
    /// A turn that waits, as the store has it.
    Waiting(W),
    /// The name of one that was removed from the queue.
    Removed,
    None,
}

/// What a session has under the name of a turn that another one is to follow, or to stand in for.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Begun { index: u64, parent: Option<u64>, is_open: bool },
    Waiting,
    Removed,
    None,
}

#[derive(Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, for as long as it is looked at"
)]
pub(crate) enum Verdict<W> {
    /// Nothing is written.
    Told(Accepted),
    /// It is asked for again, and waits.
    Queued(W),
    /// It is opened, behind this parent.
    Open { parent: Option<u64> },
    /// It goes behind those that wait, and the queue goes on. Where no turn is open, the first that waits is opened.
    Wait { opens_next: bool },
}

/// What becomes of a turn that asks for this, and [may wait](super::NewRow::queue) or not.
pub(crate) fn decide<K: Fingerprint, W: AsRef<Asked<K>>>(
    asked: &Asked<K>,
    may_wait: bool,
    facts: Facts<K, W>,
) -> Verdict<W> {
    let Facts { own, place, open, newest, waiting, is_paused } = facts;
    match own {
        Own::Begun { row, known_as } => {
            let is_same = asked.says_what(&row.turn.message, &row.turn.agent, known_as.as_ref())
                && is_behind(row.turn.parent, asked, place);
            return Verdict::Told(if is_same { Accepted::Known(row) } else { Accepted::Conflict });
        }
        Own::Waiting(waiting) => {
            let known = waiting.as_ref();
            let is_same = asked.says_what(&known.message, &known.agent, known.known_as.as_ref())
                && asked.place().is_none_or(|_| {
                    (&asked.after, &asked.replaces) == (&known.after, &known.replaces)
                });
            return if is_same {
                Verdict::Queued(waiting)
            } else {
                Verdict::Told(Accepted::Conflict)
            };
        }
        Own::Removed => return Verdict::Told(Accepted::Removed),
        Own::None => {}
    }
    if let Some(name) = asked.place() {
        let is_open = match place {
            Place::None | Place::Removed => return Verdict::Told(Accepted::NoParent),
            Place::Waiting => true,
            Place::Begun { is_open, .. } => is_open,
        };
        if asked.replaces.is_some() && is_open {
            return Verdict::Told(Accepted::Running { turn_id: name.to_owned() });
        }
    }
    let opens_next = open.is_none();
    if opens_next && waiting == 0 {
        return Verdict::Open { parent: parent(asked, place, newest) };
    }
    if let Some(turn_id) = open.filter(|_| !may_wait && !is_paused) {
        return Verdict::Told(Accepted::Running { turn_id });
    }
    // The first that waits makes room where it can be opened.
    if waiting >= MAX_QUEUED + usize::from(opens_next) {
        return Verdict::Told(Accepted::QueueFull);
    }
    Verdict::Wait { opens_next }
}

/// Whether a request that names a place means the one behind this parent. One that names none means any.
fn is_behind<K>(parent: Option<u64>, asked: &Asked<K>, place: Place) -> bool {
    match place {
        Place::Begun { parent: of_replaced, .. } if asked.replaces.is_some() => {
            of_replaced == parent
        }
        Place::Begun { index, .. } => Some(index) == parent,
        // It was to follow a turn that was removed since, and follows another one.
        Place::Removed => asked.replaces.is_none(),
        Place::Waiting | Place::None => asked.place().is_none(),
    }
}

/// The parent of a turn that is opened. One that was to follow a turn which was removed from the queue since follows the one before it.
pub(crate) fn parent<K>(asked: &Asked<K>, place: Place, newest: Option<u64>) -> Option<u64> {
    match place {
        Place::Begun { parent, .. } if asked.replaces.is_some() => parent,
        Place::Begun { index, .. } => Some(index),
        Place::Waiting | Place::Removed | Place::None => newest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnkit_id::ExecutionId;

    use crate::store::memory::Words;
    use crate::{Principal, SessionId, Turn, TurnRef};

    type Known = Own<Words, Asked<Words>>;

    fn asks(message: &str, after: Option<&str>, replaces: Option<&str>) -> Asked<Words> {
        Asked {
            message: message.to_owned(),
            agent: "agent".to_owned(),
            after: after.map(str::to_owned),
            replaces: replaces.map(str::to_owned),
            client_id: None,
            known_as: None,
        }
    }

    fn plain() -> Asked<Words> {
        asks("hello", None, None)
    }

    fn after() -> Asked<Words> {
        asks("hello", Some("one"), None)
    }

    fn instead() -> Asked<Words> {
        asks("hello", None, Some("one"))
    }

    fn row(asked: Asked<Words>, parent: Option<u64>) -> TurnRow {
        let at = TurnRef::new(SessionId::new("session"), "own");
        let owner = Principal::new("tenant", "user");
        let id = ExecutionId::derive("tenant", "session", 8).unwrap();
        let turn = Turn::new(owner, at, 8, id, asked.agent, asked.message);
        TurnRow::accepted(Turn { parent, ..turn })
    }

    fn begun(mut asked: Asked<Words>, parent: Option<u64>) -> Known {
        let known_as = asked.known_as.take();
        Own::Begun { row: row(asked, parent), known_as }
    }

    /// What is edited is known by what its first request said.
    fn edited(mut asked: Asked<Words>) -> Asked<Words> {
        assert!(asked.edit(Some("edited".to_owned()), None));
        asked
    }

    /// Turn 3, behind turn 2.
    const ENDED: Place = Place::Begun { index: 3, parent: Some(2), is_open: false };
    const OPEN: Place = Place::Begun { index: 3, parent: Some(2), is_open: true };

    #[test]
    fn a_turn_that_is_asked_for_again_is_the_same_one_or_a_conflict() {
        let known = |asked, parent| Verdict::Told(Accepted::Known(row(asked, parent)));
        let (conflict, queued) = (|| Verdict::Told(Accepted::Conflict), Verdict::Queued);
        for (own, asked, place, verdict) in vec![
            (begun(plain(), Some(7)), plain(), Place::None, known(plain(), Some(7))),
            (begun(plain(), Some(7)), asks("other", None, None), Place::None, conflict()),
            (begun(plain(), Some(3)), after(), ENDED, known(plain(), Some(3))),
            (begun(plain(), Some(3)), after(), OPEN, known(plain(), Some(3))),
            (begun(plain(), Some(2)), after(), ENDED, conflict()),
            (begun(plain(), Some(7)), after(), Place::Removed, known(plain(), Some(7))),
            (begun(plain(), Some(7)), after(), Place::Waiting, conflict()),
            (begun(plain(), Some(7)), after(), Place::None, conflict()),
            (begun(plain(), Some(2)), instead(), ENDED, known(plain(), Some(2))),
            (begun(plain(), Some(3)), instead(), ENDED, conflict()),
            (begun(plain(), Some(7)), instead(), Place::Removed, conflict()),
            (begun(plain(), None), instead(), Place::None, conflict()),
            (
                begun(edited(plain()), Some(7)),
                plain(),
                Place::None,
                known(edited(plain()), Some(7)),
            ),
            (begun(edited(plain()), Some(7)), asks("edited", None, None), Place::None, conflict()),
            (Own::Waiting(after()), plain(), Place::None, queued(after())),
            (Own::Waiting(after()), after(), ENDED, queued(after())),
            (Own::Waiting(after()), instead(), ENDED, conflict()),
            (Own::Waiting(plain()), after(), ENDED, conflict()),
            (Own::Waiting(plain()), asks("other", None, None), Place::None, conflict()),
            (Own::Waiting(edited(plain())), plain(), Place::None, queued(edited(plain()))),
            (Own::Waiting(edited(plain())), asks("edited", None, None), Place::None, conflict()),
            (Own::Removed, plain(), Place::None, Verdict::Told(Accepted::Removed)),
        ] {
            let at = format!("{asked:?} is {verdict:?}");
            // Whatever else there is in the session.
            let (open, newest) = (Some("open".to_owned()), Some(9));
            let facts = Facts { own, place, open, newest, waiting: MAX_QUEUED, is_paused: true };
            assert_eq!(decide(&asked, false, facts), verdict, "{at}");
        }
    }

    #[test]
    fn a_new_turn_is_opened_or_waits_or_is_refused() {
        let running = |name: &str| Verdict::Told(Accepted::Running { turn_id: name.to_owned() });
        let no_parent = || Verdict::Told(Accepted::NoParent);
        let queue_full = || Verdict::Told(Accepted::QueueFull);
        let (full, wait) = (MAX_QUEUED, |opens_next| Verdict::Wait { opens_next });
        let opened = |parent| Verdict::Open { parent };
        for (asked, place, open, waiting, is_paused, [at_once, may_wait]) in [
            (plain(), Place::None, false, 0, false, [opened(Some(9)), opened(Some(9))]),
            (after(), ENDED, false, 0, false, [opened(Some(3)), opened(Some(3))]),
            (instead(), ENDED, false, 0, false, [opened(Some(2)), opened(Some(2))]),
            (after(), Place::None, false, 0, false, [no_parent(), no_parent()]),
            (after(), Place::Removed, false, 0, false, [no_parent(), no_parent()]),
            (instead(), Place::None, true, 0, false, [no_parent(), no_parent()]),
            (plain(), Place::None, true, 0, false, [running("open"), wait(false)]),
            (after(), OPEN, true, 0, false, [running("open"), wait(false)]),
            (after(), Place::Waiting, true, 1, false, [running("open"), wait(false)]),
            (instead(), OPEN, true, 0, false, [running("one"), running("one")]),
            (instead(), Place::Waiting, true, 1, false, [running("one"), running("one")]),
            (instead(), ENDED, true, 0, false, [running("open"), wait(false)]),
            (plain(), Place::None, true, full, false, [running("open"), queue_full()]),
            // A queue that was paused goes on with any turn.
            (plain(), Place::None, true, 1, true, [wait(false), wait(false)]),
            (plain(), Place::None, false, 1, true, [wait(true), wait(true)]),
            (plain(), Place::None, false, full, true, [wait(true), wait(true)]),
            (plain(), Place::None, true, full, true, [queue_full(), queue_full()]),
            (plain(), Place::None, false, full + 1, true, [queue_full(), queue_full()]),
        ] {
            for (wanted, may_wait) in [(at_once, false), (may_wait, true)] {
                let at = format!("{asked:?} beside {waiting} that wait, may wait {may_wait}");
                let open = open.then(|| "open".to_owned());
                let own = Known::None;
                let facts = Facts { own, place, open, newest: Some(9), waiting, is_paused };
                assert_eq!(decide(&asked, may_wait, facts), wanted, "{at}");
            }
        }
    }
}
