//! The rule about places in branches: pages, and what a history leaves out.

use turnkit_chat::store::{
    Accepted, Deletion, EndedBy, History, HistoryLimits, MessagePage, NewRow, Omitted,
};
use turnkit_chat::{Answer, ChatStore, Role, SessionId, Turn};

use super::StoreFixture;
use super::bench::{Bench, Rule, asked, ending, owner};

/// Where a turn goes on.
enum On {
    /// From the newest one.
    Newest,
    After(&'static str),
    /// In the place of this one.
    Instead(&'static str),
}

/// What comes of a turn.
#[derive(PartialEq)]
enum Comes {
    Answer,
    /// An answer that is white space.
    Blank,
    Failure,
    /// A failure, and the answer once all these turns have come.
    Late,
}

/// A conversation with every kind of fork: in its first turn, twice in a row, within a branch that was left, and behind a branch's end.
const TURNS: [(&str, On, Comes); 17] = [
    ("a0", On::Newest, Comes::Answer),
    ("a1", On::Newest, Comes::Answer),
    ("a2", On::Newest, Comes::Late),
    ("a3", On::Newest, Comes::Blank),
    ("a4", On::Newest, Comes::Answer),
    ("a5", On::Newest, Comes::Answer),
    ("b2", On::Instead("a2"), Comes::Answer),
    ("b3", On::Newest, Comes::Late),
    ("b4", On::Newest, Comes::Answer),
    ("c4", On::After("a3"), Comes::Answer),
    ("c5", On::Newest, Comes::Failure),
    ("d0", On::Instead("a0"), Comes::Answer),
    ("d1", On::Newest, Comes::Answer),
    ("a6", On::After("a5"), Comes::Failure),
    ("e6", On::Instead("a6"), Comes::Answer),
    ("e7", On::Newest, Comes::Answer),
    ("b5", On::After("b4"), Comes::Answer),
];

/// A page of a branch begins where the one before it has ended, with nothing of other branches; and what the limits leave out of a history is
/// what was said in the turn's own branch: also where an answer came after other turns had gone on, and however many branches there are.
///
/// Broken by a store that counts over the session, or keeps a count that a late answer does not change.
///
/// # Panics
/// Where the rule is broken.
pub async fn a_branch_has_its_own_pages_and_count<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A turn has a parent\", \"What was said before goes with the run\"; `ChatStore::session`, `ChatStore::history`";
    let rule = Rule { name: "a_branch_has_its_own_pages_and_count", place };
    let bench = Bench::new(rule, fixture).await;
    let [session, other] = [bench.session(0).await, bench.session(1).await];
    let (turns, parents) = converse(&bench, &session).await;
    converse(&bench, &other).await;
    let deletion = Deletion { owner: owner(), session_id: other, if_idle_since: None };
    rule.ask("delete_session", || bench.store().delete_session(deletion.clone())).await;
    let ancestors = |of: usize| std::iter::successors(Some(of), |turn| parents[*turn]);

    for (index, turn) in turns.iter().enumerate() {
        let is_said = |turn: &usize| matches!(TURNS[*turn].2, Comes::Answer | Comes::Late);
        let said: Vec<usize> = ancestors(index).skip(1).filter(is_said).collect();
        for limit in [0, 1, 2] {
            let limits = HistoryLimits { turns: limit, ..HistoryLimits::default() };
            let ask = || bench.stores[1].history(turn.clone(), limits);
            let History { said: sent, omitted, .. } = rule.ask("history", ask).await;
            let at = format!("of what was said before `{}` within {limit} turns", turn.turn_id);
            let (newest, left_out) = said.split_at(said.len().min(limit as usize));
            let mut oldest_first = newest.iter().rev().flat_map(|turn| {
                let (name, ..) = TURNS[*turn];
                [(Role::User, format!("ask {name}")), (Role::Assistant, format!("answer {name}"))]
            });
            let is_it = sent
                .iter()
                .all(|said| oldest_first.next() == Some((said.role, said.content.clone())))
                && oldest_first.next().is_none();
            let look_for =
                "turns of another branch, or none where a page of the branch would begin";
            rule.holds(&at, &sent, "the newest of its branch", |_| is_it, look_for);
            let bytes = left_out.len() * ("ask a0".len() + "answer a0".len());
            let wanted = Omitted { turns: left_out.len() as u64, bytes: bytes as u64 };
            let look_for =
                "a count over the session, or one that an answer which comes late does not change";
            rule.same(at, &omitted, &wanted, look_for);
        }
    }

    let newest_child = |of: &usize| parents.iter().rposition(|parent| *parent == Some(*of));
    for branch in std::iter::once(None).chain((0..turns.len()).map(Some)) {
        let tip = branch.unwrap_or(turns.len() - 1);
        let Some(tip) = std::iter::successors(Some(tip), newest_child).last() else { continue };
        for before in [None, Some(0), Some(3), Some(6), Some(9), Some(12), Some(15)] {
            let is_older = |turn: &usize| before.is_none_or(|before| *turn < before);
            let mut wanted: Vec<_> =
                ancestors(tip).filter(is_older).take(2).map(|turn| TURNS[turn].0).collect();
            wanted.reverse();
            let [branch, before] = [branch, before].map(|index| index.map(|index| index as u64));
            let page = MessagePage { branch, before, turns: 2 };
            let messages = bench.state_of(&session, page).await.messages;
            let asked = messages.iter().filter(|message| message.role == Role::User);
            let came: Vec<_> = asked.map(|message| &*message.turn_id).collect();
            let look_for = "a page of another branch, or one that begins at another place than the newest turn before it";
            rule.same(format_args!("of {page:?}"), &came, &wanted, look_for);
        }
    }
}

/// Takes the turns of [`TURNS`] to their ends, and tells each one's parent.
async fn converse<F: StoreFixture>(
    bench: &Bench<F>,
    session: &SessionId,
) -> (Vec<Turn>, Vec<Option<usize>>) {
    let (rule, store) = (bench.rule, bench.store());
    let (mut turns, mut parents) = (Vec::<Turn>::new(), Vec::<Option<usize>>::new());
    let place_of = |name: &str| TURNS.iter().position(|(known, ..)| *known == name);
    for (index, (name, on, comes)) in TURNS.iter().enumerate() {
        let mut new = asked(session, name, &format!("ask {name}"));
        let parent = match on {
            On::Newest => index.checked_sub(1),
            On::After(after) => place_of(after),
            On::Instead(replaced) => place_of(replaced).and_then(|replaced| parents[replaced]),
        };
        new = match on {
            On::Newest => new,
            On::After(after) => NewRow { after: Some((*after).to_owned()), ..new },
            On::Instead(replaced) => NewRow { replaces: Some((*replaced).to_owned()), ..new },
        };
        let accepted = rule.ask("accept", || store.accept(new.clone())).await;
        let Accepted::New(row) = accepted else {
            let at = format!("of `{name}`");
            rule.broken(at, "`New`", format!("{accepted:?}"), "a turn that goes on from an old one")
        };
        let id = row.turn.execution_id.clone();
        match comes {
            Comes::Answer | Comes::Blank => {
                let blank = *comes == Comes::Blank;
                let text = if blank { " \n".to_owned() } else { format!("answer {name}") };
                rule.ask("save", || store.save(id.clone(), Answer::new(&text))).await;
            }
            Comes::Failure | Comes::Late => {
                let (by, ending) = (EndedBy::Log(id), ending("told", "a part"));
                rule.ask("end", || store.end(by.clone(), ending.clone())).await;
            }
        }
        turns.push(row.turn);
        parents.push(parent);
    }
    for ((name, _, comes), turn) in TURNS.iter().zip(&turns) {
        if *comes == Comes::Late {
            let (id, answer) = (&turn.execution_id, Answer::new(format!("answer {name}")));
            rule.ask("save", || store.save(id.clone(), answer.clone())).await;
        }
    }
    (turns, parents)
}
