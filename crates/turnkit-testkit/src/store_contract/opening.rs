//! The rules about handles: opened, closed, left in the middle of a call.

use std::panic::resume_unwind;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use turnkit::Persisted;
use turnkit_chat::store::{
    Accepted, Claimed, Decision, Deletion, EndedBy, FeedRead, Find, HistoryLimits, Joined, Lease,
    MessagePage, QueueChange, SessionPage, SessionUpdate, Wish,
};
use turnkit_chat::{Answer, ChatStore, Role, StoreErrorKind, TurnRef, TurnState};
use turnkit_id::ExecutionId;

use super::bench::{
    Bench, Rule, TASKS, asked, count, dropped_after, ending, log, open, owner, session_id, told,
};
use super::{Schema, StoreFixture, Written};

/// Calls of a store have fewer awaits than this.
const AWAITS: usize = 1_000;

/// A call whose future is dropped, at any of its awaits, has happened whole or not at all; the same call then answers as one whose answer
/// was lost, and both handles go on.
///
/// Broken by a store that writes in two steps, that undoes nothing when it is dropped, or that keeps a lock or a connection then.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn a_dropped_future_leaves_all_or_nothing<F: StoreFixture>(fixture: F) {
    let place =
        "`ChatStore`: each method is one transaction, and dropping its future leaves it either way";
    let rule = Rule { name: "a_dropped_future_leaves_all_or_nothing", place };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    let mut number = 0;
    for at_once in [true, false] {
        for polls in 0..AWAITS {
            let mut ends = 0;
            let mut session = || {
                number += 1;
                session_id(number)
            };
            let calls = 8;
            let how = |call: &str| format!("of a `{call}` that was dropped after {polls} polls");
            let look_for =
                "a call of several steps, of which some were done: all of it is one transaction";

            let id = session();
            let open = store.open_session(owner(), id.clone());
            ends += usize::from(dropped_after(polls, at_once, open).await.is_some());
            rule.ask("open_session", || store.open_session(owner(), id.clone())).await;

            let (at, new) = (how("accept"), asked(&id, "turn", "hello"));
            let accept = store.accept(new.clone());
            ends += usize::from(dropped_after(polls, at_once, accept).await.is_some());
            for handle in [other, store] {
                let again = rule.ask("accept", || handle.accept(new.clone())).await;
                let is_kept = |again: &Accepted| matches!(again, Accepted::New(row) | Accepted::Known(row) if row.turn.index == 0);
                rule.holds(&at, &again, "the turn, with the index 0", is_kept, look_for);
            }
            let said: Vec<_> =
                bench.messages(&id).await.iter().map(|message| message.role).collect();
            rule.same(&at, &said, &vec![Role::User], look_for);
            let execution =
                ExecutionId::derive("tenant", id.as_str(), 0).expect("a valid execution id");
            bench.wrote(&at, &execution, Written { accepted: 1, ..Written::default() }).await;

            let (at, turn) = (how("claim"), bench.row(&execution).await.turn);
            let claim = bench.claim(&turn, 0);
            ends += usize::from(
                dropped_after(polls, at_once, store.claim(claim.clone())).await.is_some(),
            );
            let lease = Lease { execution_id: execution.clone(), epoch: 1 };
            let again = rule.ask("claim", || store.claim(claim.clone())).await;
            rule.same(&at, &again, &Claimed::Run(lease.clone()), look_for);
            let row = bench.row(&execution).await;
            rule.same(&at, &(row.epoch, row.dispatched, row.is_held), &(1, true, true), look_for);

            let at = how("renew");
            let renew = store.renew(vec![lease.clone()]);
            ends += usize::from(dropped_after(polls, at_once, renew).await.is_some());
            let renewed = bench.renew(store, slice::from_ref(&lease)).await;
            rule.same(&at, &renewed.lost, &vec![], look_for);

            let at = how("release");
            ends += usize::from(
                dropped_after(polls, at_once, store.release(lease.clone())).await.is_some(),
            );
            bench.release(store, &lease).await;
            let row = bench.row(&execution).await;
            rule.same(&at, &(row.epoch, row.is_held), &(1, false), look_for);

            let at = how("ask_to_stop");
            let ask = store.ask_to_stop(execution.clone());
            ends += usize::from(dropped_after(polls, at_once, ask).await.is_some());
            rule.ask("ask_to_stop", || store.ask_to_stop(execution.clone())).await;
            let row = bench.row(&execution).await;
            rule.same(&at, &(row.stop_asked, row.state), &(true, TurnState::Open), look_for);

            let at = how("end");
            let by = EndedBy::Log(execution.clone());
            let end = store.end(by.clone(), ending("told", "part"));
            ends += usize::from(dropped_after(polls, at_once, end).await.is_some());
            rule.ask("end", || store.end(by.clone(), ending("told", "part"))).await;
            let row = bench.row(&execution).await;
            let parts: Vec<_> =
                bench.messages(&id).await.into_iter().map(|message| message.text).collect();
            let came = (row.state, row.failure.is_some(), parts);
            let kept = vec!["hello".to_owned(), "part".to_owned()];
            rule.same(&at, &came, &(TurnState::Failed, true, kept), look_for);
            bench.wrote(&at, &execution, Written { accepted: 1, saved: 0, ended: 1 }).await;

            let at = how("save");
            let save = store.save(execution.clone(), Answer::new("whole"));
            let first = dropped_after(polls, at_once, save).await;
            ends += usize::from(first.is_some());
            let again =
                rule.ask("save", || store.save(execution.clone(), Answer::new("whole"))).await;
            if let Some(Ok(Persisted::Saved)) = first {
                rule.same(&at, &again, &Persisted::AlreadySaved, look_for);
            }
            for handle in [store, other] {
                let saved = rule.ask("saved", || handle.saved(execution.clone())).await;
                rule.same(&at, &saved, &Some(Answer::new("whole")), look_for);
            }
            let row = bench.row(&execution).await;
            rule.same(&at, &(row.state, row.failure), &(TurnState::Complete, None), look_for);
            bench.wrote(&at, &execution, Written { accepted: 1, saved: 1, ended: 1 }).await;

            for handle in [store, other] {
                rule.ask("check", || handle.check()).await;
            }
            if ends == calls {
                break;
            }
        }
    }
}

/// A handle that is closed holds nothing: its leases are free at once, and its log binds nobody. Every later call of it fails, but another
/// close; other handles go on.
///
/// Broken by a store that leaves the leases of a closed worker to run out, or that goes on without a worker.
pub async fn a_closed_handle_holds_nothing_and_does_nothing<F: StoreFixture>(fixture: F) {
    let rule = Rule {
        name: "a_closed_handle_holds_nothing_and_does_nothing",
        place: "`ChatStore::close`; PROTOCOL 4.2, \"A lease is free\"",
    };
    let bench = Bench::new(rule, fixture).await;
    let [closed, other] = &bench.stores;
    let turn = bench.turn(0).await;
    let lease = bench.hold(closed, &turn, 0).await;
    closed.close().await;
    closed.close().await;
    let at = "once its worker has closed";
    let look_for = "the leases of a worker that has ended: they are free at once";
    rule.same(at, &bench.unattended(other, 9).await, &vec![turn.execution_id.clone()], look_for);
    let id = || turn.execution_id.clone();
    let at = || TurnRef::new(session_id(0), "turn");
    let page = SessionPage { before: None, limit: 9, archived: None };
    let of_turns = MessagePage::newest(9);
    let deletion = Deletion { owner: owner(), session_id: session_id(0), if_idle_since: None };
    let read = FeedRead { after: None, session: None, limit: 9 };
    let limits = HistoryLimits::default();
    let wish = Wish::Input { id: "input".to_owned(), message: "hello".to_owned() };
    let decision = Decision { status: 202, outcome: None };
    let mut errors = vec![
        ("check", closed.check().await.err()),
        ("join", closed.join(log("log")).await.err()),
        ("renew", closed.renew(Vec::new()).await.err()),
        ("move_log", closed.move_log(log("log"), log("new")).await.err()),
        ("open_session", closed.open_session(owner(), session_id(9)).await.err()),
        ("named", closed.named(owner(), "name".to_owned(), None).await.err()),
        ("sessions", closed.sessions(owner(), page).await.err()),
        (
            "update_session",
            closed.update_session(owner(), session_id(0), SessionUpdate::default()).await.err(),
        ),
        ("session", closed.session(owner(), session_id(0), of_turns).await.err()),
        ("accept", closed.accept(asked(&session_id(0), "next", "hello")).await.err()),
        ("change_queued", closed.change_queued(owner(), at(), QueueChange::Remove).await.err()),
        ("find", closed.find(Find::Named(owner(), at())).await.err()),
        ("siblings", closed.siblings(owner(), at()).await.err()),
        ("claim", closed.claim(bench.claim(&turn, 1)).await.err()),
        ("release", closed.release(lease.clone()).await.err()),
        ("save", closed.save(id(), Answer::new("whole")).await.err()),
        ("end", closed.end(EndedBy::Lease(lease), ending("own", "")).await.err()),
        ("note", closed.note(id(), Vec::new()).await.err()),
        ("intend", closed.intend(owner(), at(), wish).await.err()),
        ("decide", closed.decide(0, decision).await.err()),
        ("undecided", closed.undecided(0, 9).await.err()),
        ("ask_to_stop", closed.ask_to_stop(id()).await.err()),
        ("saved", closed.saved(id()).await.err()),
        ("unattended", closed.unattended(9).await.err()),
        ("history", closed.history(turn.clone(), limits).await.err()),
        ("feed", closed.feed(owner(), read).await.err()),
        ("version", closed.version().await.err()),
        ("delete_session", closed.delete_session(deletion).await.err()),
        ("idle_sessions", closed.idle_sessions(SystemTime::now(), 9).await.err()),
        ("to_erase", closed.to_erase(9).await.err()),
        ("erased", closed.erased(Vec::new()).await.err()),
    ];
    if let Some(sign_ins) = closed.sign_ins() {
        let (secret, token) = ([1; 32], [2; 32]);
        let lasts = Duration::from_secs(60);
        errors.extend([
            ("sign_in", sign_ins.sign_in(secret, token, lasts).await.err()),
            ("signed_in", sign_ins.signed_in(secret).await.err()),
            ("sign_out", sign_ins.sign_out(secret).await.err()),
        ]);
    }
    for (call, error) in errors {
        match error {
            Some(error) if error.kind() == StoreErrorKind::Unavailable => {}
            came => {
                let came = came.map_or("an answer".to_owned(), |error| told(&error));
                let look_for =
                    "a closed handle that goes on, without a worker whose leases could be told";
                rule.broken(
                    format_args!("in `{call}` of a closed handle"),
                    "an error of the kind `Unavailable`",
                    came,
                    look_for,
                )
            }
        }
    }
    let row = bench.row(&turn.execution_id).await;
    rule.same(
        "after all that",
        &(row.state, row.epoch),
        &(TurnState::Open, 1),
        "a closed handle that has written",
    );
    bench.hold(other, &turn, 1).await;
    other.close().await;
    let third = open(rule, &bench.fixture).await;
    let joined = rule.ask("join", || third.join(log("other"))).await;
    let look_for = "the worker of a closed handle: it has ended, and holds the log for nobody";
    rule.same("of another log once all have closed", &joined, &Joined::Member, look_for);
}

/// A database that a newer version has written is refused with an error of the kind `Newer`, and stays as it is.
///
/// Broken by a store that compares no version, or migrates before it does. There is nothing to try of a store with
/// [`NoSchema`](super::NoSchema), and its test says so.
#[expect(clippy::print_stdout, reason = "a rule that cannot be tried says so in its test's output")]
pub async fn a_newer_schema_is_left_alone<F: StoreFixture>(fixture: F) {
    let place = "`StoreErrorKind::Newer`";
    let rule = Rule { name: "a_newer_schema_is_left_alone", place };
    if !F::Schema::IS_KEPT {
        println!("the store declares `NoSchema`: no newer version can have written its data");
        return;
    }
    F::Schema::make_newer(&fixture).await;
    let before = F::Schema::dump(&fixture).await;
    for _ in 0..3 {
        let opened = rule.try_ask("open", || Box::pin(fixture.open())).await;
        match opened {
            Err(error) if error.kind() == StoreErrorKind::Newer => {}
            came => {
                let came = came.map_or_else(|error| told(&error), |_| "a handle".to_owned());
                let look_for =
                    "the version in the database, which is read before anything is written";
                rule.broken(
                    "of a database of a newer schema",
                    "an error of the kind `Newer`",
                    came,
                    look_for,
                )
            }
        }
        let after = F::Schema::dump(&fixture).await;
        if after != before {
            let look_for =
                "a write before the version was read: a migration, a setting, a worker's row";
            rule.broken("of a database of a newer schema", "all as it was", "a change", look_for)
        }
    }
}

/// Any number of handles that open a new database at once, or one of an older schema, all get a handle, and all have the same data:
/// one of them migrates.
///
/// Broken by a store that looks for the schema and makes it then, in two steps.
pub async fn many_open_the_database_at_once<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2; the store's own words about its schema";
    let rule = Rule { name: "many_open_the_database_at_once", place };
    F::Schema::make_older(&fixture).await;
    let fixture = Arc::new(fixture);
    let opens = (0..TASKS).map(|_| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move { open(rule, &*fixture).await })
    });
    let mut stores = Vec::new();
    for opened in opens.collect::<Vec<_>>() {
        stores.push(opened.await.unwrap_or_else(|error| resume_unwind(error.into_panic())));
    }
    let at = format!("of {TASKS} handles that were opened at once");
    let look_for =
        "a schema that is looked for and then made: who comes second waits, and finds it made";
    for (number, store) in stores.iter().enumerate() {
        let joined = rule.ask("join", || store.join(log("log"))).await;
        rule.same(&at, &joined, &Joined::Member, look_for);
        let id = session_id(number);
        rule.ask("open_session", || store.open_session(owner(), id.clone())).await;
    }
    for store in &stores {
        let page = SessionPage { before: None, limit: 1_000, archived: None };
        let listed = rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
        let found =
            count(&listed.sessions, |info| (0..TASKS).any(|number| info.id == session_id(number)));
        rule.same(&at, &found, &TASKS, look_for);
    }
}
