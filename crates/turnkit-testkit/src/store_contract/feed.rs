//! The rule about a user's feed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::yield_now;
use turnkit_chat::store::{
    Change, Deletion, EndedBy, FeedEntry, FeedId, FeedPage, FeedRead, Find, Found, MessagePage,
    NewRow, QueueChange,
};
use turnkit_chat::{Answer, ChatStore, Principal, SessionId, TurnRef, TurnState};

use super::StoreFixture;
use super::bench::{Bench, Rule, TASKS, asked, ending, owner, session_id};

const PLACE: &str = "PROTOCOL 4.2, \"A feed\"; `ChatStore::feed`";
/// Sessions in which the tasks are at work.
const SESSIONS: usize = 3;
/// What each task does.
const STEPS: u64 = 24;

impl Rule {
    async fn page<S: ChatStore>(self, store: &S, read: FeedRead) -> FeedPage {
        self.ask("feed", || store.feed(owner(), read.clone())).await
    }

    /// Entries after this place, as far as one page goes, and where to go on.
    async fn after<S: ChatStore>(
        self,
        store: &S,
        after: FeedId,
        limit: usize,
    ) -> (Vec<FeedEntry>, FeedId) {
        let read = FeedRead { after: Some(after), session: None, limit };
        match self.page(store, read).await {
            FeedPage::Entries(entries, at) => (entries, at),
            FeedPage::Expired => {
                let look_for =
                    "a place that is held for older than what is kept, or beyond the end";
                self.broken(
                    "of a place that the feed has given out",
                    "entries",
                    "`Expired`",
                    look_for,
                )
            }
        }
    }

    async fn end<S: ChatStore>(self, store: &S) -> FeedId {
        let read = FeedRead { after: None, session: None, limit: 9 };
        match self.page(store, read).await {
            FeedPage::Entries(entries, at) if entries.is_empty() => at,
            came => self.broken(
                "of the feed's end",
                "no entries, and a place",
                format!("{came:?}"),
                "a read without a place: it begins at the end",
            ),
        }
    }
}

/// A number that looks like chance, and is the same each time.
fn drawn(task: usize, step: u64) -> u64 {
    let of_task = (task as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut number = of_task ^ (step + 1).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    for _ in 0..3 {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
    }
    number
}

/// Something that users and workers do.
async fn step<S: ChatStore>(rule: Rule, store: &S, task: usize, step: u64) {
    let number = drawn(task, step);
    let session = session_id(usize::try_from(number % SESSIONS as u64).unwrap_or_default());
    let newest = MessagePage::newest(0);
    let state = rule.ask("session", || store.session(owner(), session.clone(), newest)).await;
    let Some(state) = state else { return };
    match (number / 16) % 6 {
        0 | 1 => {
            let new = asked(&session, &format!("t{task}-{step}"), "hello");
            let new = NewRow { queue: true, ..new };
            rule.ask("accept", || store.accept(new.clone())).await;
        }
        2 => {
            if let Some(open) = state.open {
                let id = open.turn.execution_id;
                rule.ask("save", || store.save(id.clone(), Answer::new("whole"))).await;
            }
        }
        3 => {
            if let Some(open) = state.open {
                let by = EndedBy::Log(open.turn.execution_id);
                rule.ask("end", || store.end(by.clone(), ending("told", "part"))).await;
            }
        }
        4 => {
            if let Some(waiting) = state.queue.turns.last() {
                let at = TurnRef::new(session.clone(), waiting.turn_id.clone());
                let change = if number.is_multiple_of(2) {
                    QueueChange::Remove
                } else {
                    QueueChange::Edit { message: Some("edited".to_owned()), agent: None }
                };
                let ask = || store.change_queued(owner(), at.clone(), change.clone());
                rule.ask("change_queued", ask).await;
            }
        }
        _ => {
            if let Some(open) = state.open {
                let id = open.turn.execution_id;
                rule.ask("ask_to_stop", || store.ask_to_stop(id.clone())).await;
            }
        }
    }
}

/// Whoever follows a feed, over whichever handle and in pages of any size, while others write over both, gets every entry once and in the
/// order of their numbers; and what was told last of a turn is how it stands. A place of another feed, and one beyond the end, is told.
/// Of what was deleted nothing is told but that it was.
///
/// Broken by a store that takes numbers from a sequence, whose later one can be committed first, or that tells of what it did not do.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn a_feed_tells_everything_once_and_in_order<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "a_feed_tells_everything_once_and_in_order", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    let begin = rule.end(&**store).await;
    rule.same(
        "of the feed over another handle",
        &rule.end(&**other).await,
        &begin,
        "a feed that is made twice",
    );
    for number in 0..SESSIONS {
        bench.session(number).await;
    }
    // Two follow, the others write.
    let writing = Arc::new(AtomicUsize::new(TASKS - 2));
    let followed = bench
        .race(|task, store| {
            let (writing, begin) = (Arc::clone(&writing), begin.clone());
            async move {
                if task >= 2 {
                    for number in 0..STEPS {
                        step(rule, &*store, task, number).await;
                    }
                    writing.fetch_sub(1, Ordering::SeqCst);
                    return Vec::new();
                }
                let (mut seen, mut at) = (Vec::new(), begin);
                loop {
                    let is_last = writing.load(Ordering::SeqCst) == 0;
                    let (entries, next) = rule.after(&*store, at, 1 + task * 6).await;
                    at = next;
                    if entries.is_empty() && is_last {
                        return seen;
                    }
                    seen.extend(
                        entries
                            .into_iter()
                            .map(|entry| (entry.number, entry.change, entry.turn_id)),
                    );
                    yield_now().await;
                }
            }
        })
        .await;
    let (whole, end) = rule.after(&**other, begin.clone(), 100_000).await;
    let told: Vec<_> =
        whole.iter().map(|entry| (entry.number, entry.change, entry.turn_id.clone())).collect();
    let numbers: Vec<u64> = whole.iter().map(|entry| entry.number).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    rule.same(
        "of the numbers of all entries",
        &numbers,
        &sorted,
        "a number that is given twice, or out of order",
    );
    for seen in &followed[..2] {
        let look_for = "an entry that is committed before one with a smaller number: the counter is a row, raised in the transaction itself";
        rule.same_list("of entries that were followed while others wrote", seen, &told, look_for);
    }
    let mut last: BTreeMap<(SessionId, String), Change> = BTreeMap::new();
    for entry in &whole {
        if let Some(turn_id) = &entry.turn_id {
            last.insert((entry.session_id.clone(), turn_id.clone()), entry.change);
        }
    }
    for ((session, turn_id), change) in last {
        let named = Find::Named(owner(), TurnRef::new(session, turn_id.clone()));
        let stands = match rule.ask("find", || store.find(named.clone())).await {
            Found::Turn(row) if row.state == TurnState::Open => Some("open"),
            Found::Turn(row) => Some(row.state.as_str()),
            Found::Queued(_) => Some("queued"),
            _ => None,
        };
        let look_for =
            "a change that is told without having happened, or happens without being told";
        rule.same(
            format_args!("of the last entry of turn {turn_id}"),
            &change.state(),
            &stands,
            look_for,
        );
    }

    let look_for = "the rules of a place: it is one of this feed, and not beyond its end";
    for after in [
        FeedId { feed: "0".repeat(32), number: 0 },
        FeedId { number: end.number + 1, ..end.clone() },
    ] {
        let read = FeedRead { after: Some(after), session: None, limit: 9 };
        rule.same(
            "of a place that the feed never gave out",
            &rule.page(&**store, read).await,
            &FeedPage::Expired,
            look_for,
        );
    }
    let state = bench.state_of(&session_id(0), MessagePage::newest(0)).await;
    rule.same(
        "of the feed in a session's state",
        &state.feed,
        &end,
        "the end of the feed at that moment",
    );
    let foreign = Principal::new("tenant", "other");
    let read = FeedRead { after: Some(begin.clone()), session: None, limit: 9 };
    let theirs = rule.ask("feed", || other.feed(foreign.clone(), read.clone())).await;
    rule.same(
        "of another user's place",
        &theirs,
        &FeedPage::Expired,
        "a feed that is told to others",
    );

    let deletion = Deletion { owner: owner(), session_id: session_id(1), if_idle_since: None };
    rule.ask("delete_session", || store.delete_session(deletion.clone())).await;
    let (left, _) = rule.after(&**other, begin, 100_000).await;
    let mut wanted: Vec<_> = told
        .into_iter()
        .zip(&whole)
        .filter(|(_, entry)| entry.session_id != session_id(1))
        .map(|(told, _)| told)
        .collect();
    wanted.push((end.number + 1, Change::SessionDeleted, None));
    let left: Vec<_> =
        left.into_iter().map(|entry| (entry.number, entry.change, entry.turn_id)).collect();
    let look_for =
        "entries about what was deleted: they go with it, and that it was deleted is told";
    rule.same_list("of the feed after a deletion", &left, &wanted, look_for);
    let read = FeedRead { after: Some(end), session: Some(session_id(0)), limit: 9 };
    let of_session = rule.page(&**store, read).await;
    let is_empty =
        |page: &FeedPage| matches!(page, FeedPage::Entries(entries, _) if entries.is_empty());
    rule.holds(
        "of one session after a deletion of another",
        &of_session,
        "no entries",
        is_empty,
        "the session in the condition",
    );
}
