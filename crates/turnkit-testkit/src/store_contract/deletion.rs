//! The rules about deleting sessions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use turnkit::Persisted;
use turnkit_chat::store::{
    Accepted, Claimed, Deletion, EndedBy, Find, Found, MessagePage, NAME_RESTS, SessionPage,
    TOMBSTONE,
};
use turnkit_chat::{
    Answer, ChatStore, Principal, SessionId, StoreError, StoreErrorKind, Turn, TurnRef,
};
use turnkit_id::ExecutionId;

use super::StoreFixture;
use super::bench::{Bench, Rule, TASKS, asked, count, ending, owner, session_id, told};

const PLACE: &str = "PROTOCOL 4.2, \"Deletion is two steps\"; `ChatStore::delete_session` and what is said of `Gone`";

fn deletion(session_id: &SessionId) -> Deletion {
    Deletion { owner: owner(), session_id: session_id.clone(), if_idle_since: None }
}

impl Rule {
    fn is_gone<T: fmt::Debug>(self, at: &str, came: Result<T, StoreError>) {
        match came {
            Err(error) if error.kind() == StoreErrorKind::Gone => {}
            came => {
                let came = came.map_or_else(|error| told(&error), |came| format!("{came:?}"));
                let look_for = "the tombstone: whoever drives or reads a deleted turn writes nothing, and is told why";
                self.broken(at, "an error of the kind `Gone`", came, look_for)
            }
        }
    }
}

impl<F: StoreFixture> Bench<F> {
    async fn to_erase(&self) -> Vec<ExecutionId> {
        let mut left = self.rule.ask("to_erase", || self.stores[1].to_erase(1_000)).await;
        left.sort();
        left
    }

    async fn listed(&self) -> Vec<SessionId> {
        let (store, page) =
            (self.store(), SessionPage { before: None, limit: 100, archived: None });
        let listed = self.rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
        listed.sessions.into_iter().map(|info| info.id).collect()
    }
}

/// A session that is deleted is gone at once, for everybody and in one piece; whoever still saves, ends, claims or looks up one of its turns
/// is told so, and writes nothing. What was dispatched is remembered until it is erased.
///
/// Broken by a store that removes in steps, or whose late writers bring something back.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn what_is_deleted_is_gone<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "what_is_deleted_is_gone", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    for round in 0..24 {
        let session = bench.session(round).await;
        let first = bench.accept(&session, "t0").await;
        bench.hold(store, &first, 0).await;
        let id = first.execution_id.clone();
        rule.ask("save", || store.save(id.clone(), Answer::new("whole"))).await;
        let open = bench.accept(&session, "t1").await;
        // In every other round the turn was never dispatched, and there is nothing to erase of it, unless a stop has bound its id.
        let lease = if round % 2 == 0 { Some(bench.hold(store, &open, 0).await) } else { None };
        let is_stopped = round % 3 == 2;
        if is_stopped {
            rule.ask("ask_to_stop", || store.ask_to_stop(open.execution_id.clone())).await;
        }
        let mut queued = asked(&session, "t2", "later");
        queued.queue = true;
        rule.ask("accept", || store.accept(queued.clone())).await;
        let mine = deletion(&session);
        for stranger in [Principal::new("tenant", "other"), Principal::new("other", "user")] {
            let theirs = Deletion { owner: stranger, ..mine.clone() };
            let came = rule.ask("delete_session", || other.delete_session(theirs.clone())).await;
            let look_for = "the principal in the condition: tenant and user, both of them";
            rule.same("of another user's session", &came, &false, look_for);
        }
        bench.row(&open.execution_id).await;

        let has_begun = Arc::new(AtomicBool::new(lease.is_some()));
        let answers = bench
            .race(|task, store| {
                let (mine, id) = (mine.clone(), open.execution_id.clone());
                let (has_begun, claim) = (Arc::clone(&has_begun), bench.claim(&open, 0));
                async move {
                    match task % 4 {
                        0 | 1 => {
                            rule.ask("delete_session", || store.delete_session(mine.clone())).await
                        }
                        2 => match rule
                            .try_ask("save", || store.save(id.clone(), Answer::new("late")))
                            .await
                        {
                            Ok(persisted) => persisted == Persisted::Saved,
                            Err(_) => false,
                        },
                        // Of those that never began one may begin now.
                        _ if !has_begun.load(Relaxed) => {
                            let claimed = rule.try_ask("claim", || store.claim(claim.clone()));
                            if let Ok(Claimed::Run(_) | Claimed::Attach(_)) = claimed.await {
                                has_begun.store(true, Relaxed);
                            }
                            false
                        }
                        _ => {
                            let by = EndedBy::Log(id.clone());
                            let ended = rule
                                .try_ask("end", || store.end(by.clone(), ending("told", "part")));
                            ended.await.unwrap_or(false)
                        }
                    }
                }
            })
            .await;
        let at = format!("of {} deletions beside as many saves, endings and claims", TASKS / 2);
        let deletions: Vec<bool> = answers
            .iter()
            .enumerate()
            .filter(|(task, _)| task % 4 < 2)
            .map(|(_, one)| *one)
            .collect();
        let look_for =
            "a deletion that is asked again: it succeeds for as long as the tombstone is there";
        rule.same(&at, &count(&deletions, |one| *one), &(TASKS / 2), look_for);

        let at = "of a deleted session";
        let look_for = "rows that are left: a deletion is one transaction, and later writes find the tombstone";
        let page = MessagePage::newest(9);
        let ask = || other.session(owner(), session.clone(), page);
        rule.same(at, &rule.ask("session", ask).await, &None, look_for);
        rule.same(at, &bench.listed().await, &vec![], look_for);
        for turn_id in ["t0", "t1", "t2"] {
            let named = Find::Named(owner(), TurnRef::new(session.clone(), turn_id));
            let found = rule.ask("find", || store.find(named.clone())).await;
            rule.same(at, &found, &Found::NoSession, look_for);
            let new = asked(&session, turn_id, "hello");
            let accepted = rule.ask("accept", || other.accept(new.clone())).await;
            rule.same(at, &accepted, &Accepted::NoSession, "a turn of a session that is gone");
        }
        for Turn { execution_id: id, .. } in [&first, &open] {
            let found = rule.ask("find", || other.find(Find::Execution(id.clone()))).await;
            rule.same("of a deleted turn that is looked for", &found, &Found::Gone, look_for);
            rule.is_gone(
                "of a late answer",
                rule.try_ask("save", || other.save(id.clone(), Answer::new("late"))).await,
            );
            let by = lease.clone().filter(|lease| lease.execution_id == *id);
            let by = by.map_or_else(|| EndedBy::Log(id.clone()), EndedBy::Lease);
            let end = || store.end(by.clone(), ending("late", "part"));
            rule.is_gone("of a late ending", rule.try_ask("end", end).await);
            let claim = bench.claim(&first, 1);
            rule.is_gone(
                "of a late claim",
                rule.try_ask("claim", || other.claim(claim.clone())).await,
            );
            rule.is_gone(
                "of a late lookup",
                rule.try_ask("saved", || store.saved(id.clone())).await,
            );
            rule.ask("ask_to_stop", || store.ask_to_stop(id.clone())).await;
        }
        let opened =
            rule.try_ask("open_session", || store.open_session(owner(), session.clone())).await;
        let look_for = "a session's id that is given out twice";
        rule.holds("of a deleted session's id", &opened, "an error", Result::is_err, look_for);

        let mut wanted = vec![first.execution_id.clone()];
        let is_somewhere = has_begun.load(Relaxed) || is_stopped;
        wanted.extend(is_somewhere.then(|| open.execution_id.clone()));
        wanted.sort();
        let look_for = "what was dispatched or stopped: it is remembered until the substrate has erased it, and nothing else";
        rule.same("of what is to be erased", &bench.to_erase().await, &wanted, look_for);
        let ids = wanted.clone();
        rule.ask("erased", || store.erased(ids.clone())).await;
        rule.same("of what is erased", &bench.to_erase().await, &vec![], look_for);
    }
    let unknown = deletion(&session_id(77));
    let came = rule.ask("delete_session", || store.delete_session(unknown.clone())).await;
    rule.same("of no session", &came, &false, "a session that never was");
    rule.ask("scrub", || store.scrub()).await;
}

/// The name of a deleted session opens none for 24 h, and a new one then. A session is deleted for its age only where nothing happened in it
/// since. A tombstone is forgotten once it is old and all of it is erased.
///
/// Broken by a store that frees names at once, or deletes what is in use.
pub async fn a_deleted_name_rests_and_what_is_idle_can_go<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "a_deleted_name_rests_and_what_is_idle_can_go", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    let named = async |open: Option<usize>| {
        let open = open.map(session_id);
        rule.ask("named", || other.named(owner(), "chat".to_owned(), open.clone())).await
    };
    rule.same("of a new name", &named(Some(1)).await, &Some(session_id(1)), "a name that is free");
    let turn = bench.accept(&session_id(1), "t").await;
    bench.hold(store, &turn, 0).await;
    let mine = deletion(&session_id(1));
    rule.ask("delete_session", || store.delete_session(mine.clone())).await;
    let look_for =
        "the name of what was deleted: for 24 h it opens nothing, not even a new session";
    let hour = Duration::from_secs(3_600);
    for _ in 0..2 {
        rule.same("of a name that rests", &named(Some(2)).await, &None, look_for);
        rule.same("of a name that rests", &named(None).await, &None, look_for);
        bench.fixture.advance(NAME_RESTS.saturating_sub(hour) / 2).await;
    }
    let theirs = Principal::new("tenant", "other");
    let open = || other.named(theirs.clone(), "chat".to_owned(), Some(session_id(3)));
    let opened = rule.ask("named", open).await;
    rule.same("of another user's", &opened, &Some(session_id(3)), "the owner of a name");
    bench.fixture.advance(hour).await;
    let look_for = "a name that is free again: it opens a new session";
    rule.same("of a name after 24 h", &named(Some(4)).await, &Some(session_id(4)), look_for);

    bench.fixture.advance(TOMBSTONE).await;
    bench.session(5).await;
    let five = deletion(&session_id(5));
    rule.ask("delete_session", || store.delete_session(five.clone())).await;
    let find = Find::Execution(turn.execution_id.clone());
    let found = rule.ask("find", || store.find(find.clone())).await;
    let look_for = "a tombstone with something left to erase: it stays, however old it is";
    rule.same("of an old turn that is not erased", &found, &Found::Gone, look_for);
    rule.ask("erased", || store.erased(vec![turn.execution_id.clone()])).await;
    let found = rule.ask("find", || store.find(find.clone())).await;
    rule.same("once it is erased", &found, &Found::NoTurn, "tombstones that are kept for ever");

    bench.session(6).await;
    bench.session(7).await;
    let used = bench.accept(&session_id(7), "t").await;
    bench.fixture.advance(100 * hour).await;
    bench.session(8).await;
    let newest = SessionPage { before: None, limit: 1, archived: None };
    let listed = rule.ask("sessions", || store.sessions(owner(), newest.clone())).await;
    let Some(newest) = listed.sessions.first() else {
        rule.broken(
            "of a session that was just opened",
            "its place in the list",
            "nothing",
            look_for,
        )
    };
    let since = newest.created_at - hour;
    let idle = async || rule.ask("idle_sessions", || other.idle_sessions(since, 9)).await;
    let ids = |idle: Vec<(Principal, SessionId)>| -> Vec<String> {
        idle.into_iter().map(|(owner, id)| format!("{} {id}", owner.user_id)).collect()
    };
    let all = [("other", 3), ("user", 4), ("user", 6), ("user", 7)];
    let all: Vec<String> =
        all.map(|(user, number)| format!("{user} {}", session_id(number))).to_vec();
    let look_for = "when something was last accepted, saved or ended in a session";
    rule.same(
        "of sessions in which nothing happened for an hour",
        &ids(idle().await),
        &all,
        look_for,
    );
    let id = used.execution_id;
    rule.ask("save", || store.save(id.clone(), Answer::new("whole"))).await;
    rule.same("once one of them is used", &ids(idle().await), &all[..3].to_vec(), look_for);
    for (number, wanted) in [(6, true), (7, false)] {
        let deletion = Deletion { if_idle_since: Some(since), ..deletion(&session_id(number)) };
        let came = rule.ask("delete_session", || store.delete_session(deletion.clone())).await;
        let look_for = "a session that was used after it was found idle: it stays";
        rule.same(format_args!("of session {number} if it is idle"), &came, &wanted, look_for);
    }
    let left: Vec<SessionId> = [8, 7, 4].map(session_id).to_vec();
    rule.same("after all that", &bench.listed().await, &left, look_for);
}
