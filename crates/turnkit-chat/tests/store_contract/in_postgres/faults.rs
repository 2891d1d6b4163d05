//! Connections that break in the middle of each operation, and servers that are not what they were.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::time::sleep;
use turnkit::Persisted;
use turnkit_chat::postgres::tokio_postgres::{NoTls, connect};
use turnkit_chat::store::{
    Accepted, Claim, Claimed, Deletion, EndedBy, Find, Found, Joined, MessagePage, NewRow,
    QueueChange, QueueChanged, Stored,
};
use turnkit_chat::{ChatStore, Failure, Principal, SessionId, StoreErrorKind, TurnRef, TurnState};
use turnkit_id::LogId;

use super::cutting::{Cut, CuttingProxy};
use super::*;

fn owner() -> Principal {
    Principal::new("tenant", "user")
}

fn new(session: &SessionId, turn_id: &str) -> NewRow {
    NewRow {
        queue: true,
        ..NewRow::new(owner(), TurnRef::new(session.clone(), turn_id), turn_id, "agent")
    }
}

/// What the callers of a store do with what it cannot tell.
async fn settled<'a, T>(ask: impl Fn() -> Stored<'a, T>) -> T {
    for _ in 0..20 {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => match error.kind() {
                StoreErrorKind::Busy
                | StoreErrorKind::Unavailable
                | StoreErrorKind::OutcomeUnknown => {}
                other => panic!("{other:?}: {error} {:?}", std::error::Error::source(&error)),
            },
        }
    }
    panic!("the store does not come to itself")
}

/// A session in which a turn is open and another one waits.
struct Scene {
    session: SessionId,
    empty: SessionId,
    open: ExecutionId,
}

impl Scene {
    async fn set(store: &PostgresStore) -> Scene {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("session-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (session, empty) = (SessionId::new(&id), SessionId::new(format!("{id}-empty")));
        for id in [&session, &empty] {
            settled(|| store.open_session(owner(), id.clone())).await;
        }
        let Accepted::New(row) = settled(|| store.accept(new(&session, "open"))).await else {
            panic!("it is not new")
        };
        let Accepted::Queued(_) = settled(|| store.accept(new(&session, "waits"))).await else {
            panic!("it does not wait")
        };
        Scene { session, empty, open: row.turn.execution_id }
    }

    /// All that can be seen of it, without what is another one each time.
    async fn seen(&self, store: &PostgresStore, database: &Database) -> String {
        let mut seen = String::new();
        for id in [&self.session, &self.empty] {
            let page = MessagePage::newest(99);
            let state = store.session(owner(), id.clone(), page).await.unwrap();
            let Some(state) = state else {
                seen.push_str("none; ");
                continue;
            };
            for message in &state.messages {
                let (role, text, state) = (message.role, &message.text, message.state);
                write!(seen, "{role:?} {text:?} {state:?}; ").unwrap();
            }
            let open =
                state.open.map(|row| (row.turn.turn_id, row.epoch, row.dispatched, row.stop_asked));
            let waits: Vec<_> =
                state.queue.turns.iter().map(|turn| (&turn.turn_id, &turn.message)).collect();
            let is_paused = state.queue.is_paused;
            write!(seen, "open {open:?}, waits {waits:?} {is_paused}; ").unwrap();
        }
        let id = self.session.as_str();
        let entries = format!(
            "SELECT change, state, turn_id FROM turnkit_feed_entries WHERE session_id LIKE '{id}%' ORDER BY number"
        );
        let written = format!(
            "SELECT what, count(*) FROM written WHERE execution_id LIKE '%{id}%' GROUP BY what, execution_id ORDER BY 1, 2"
        );
        seen + &database.sql(&entries) + &database.sql(&written)
    }
}

type Operation = for<'a> fn(&'a PostgresStore, &'a Scene) -> BoxFuture<'a, ()>;

/// Every operation that writes. What it says is checked here, once for all cuts: a caller that asks again may be told that it was done.
const OPERATIONS: [(&str, Operation); 14] = [
    ("join", |store, _| {
        Box::pin(async {
            assert_eq!(settled(|| store.join(LogId::parse("log").unwrap())).await, Joined::Member);
        })
    }),
    ("renew", |store, _| {
        Box::pin(async {
            assert_eq!(settled(|| store.renew(Vec::new())).await.lost, []);
        })
    }),
    ("open_session", |store, scene| {
        Box::pin(async {
            let id = SessionId::new(format!("{}-new", scene.session));
            settled(|| store.open_session(owner(), id.clone())).await;
        })
    }),
    ("named", |store, scene| {
        Box::pin(async {
            let id = SessionId::new(format!("{}-named", scene.session));
            let name = format!("{}-name", scene.session);
            let opened = settled(|| store.named(owner(), name.clone(), Some(id.clone()))).await;
            assert_eq!(opened, Some(id));
        })
    }),
    ("accept", |store, scene| {
        Box::pin(async {
            let accepted = settled(|| store.accept(new(&scene.empty, "new"))).await;
            assert!(
                matches!(accepted, Accepted::New(row) | Accepted::Known(row) if row.turn.index == 0)
            );
        })
    }),
    ("accept to wait", |store, scene| {
        Box::pin(async {
            let accepted = settled(|| store.accept(new(&scene.session, "new"))).await;
            assert!(matches!(accepted, Accepted::Queued(turn) if turn.position == 2));
        })
    }),
    ("edit", |store, scene| {
        Box::pin(async {
            let at = TurnRef::new(scene.session.clone(), "waits");
            let change = QueueChange::Edit { message: Some("edited".to_owned()), agent: None };
            let changed =
                settled(|| store.change_queued(owner(), at.clone(), change.clone())).await;
            assert!(matches!(changed, QueueChanged::Edited(turn) if turn.message == "edited"));
        })
    }),
    ("remove", |store, scene| {
        Box::pin(async {
            let at = TurnRef::new(scene.session.clone(), "waits");
            let changed =
                settled(|| store.change_queued(owner(), at.clone(), QueueChange::Remove)).await;
            assert_eq!(changed, QueueChanged::Removed);
        })
    }),
    ("claim", |store, scene| {
        Box::pin(async {
            let claim =
                Claim { execution_id: scene.open.clone(), nonce: 7, seen_epoch: 0, may_run: true };
            let claimed = settled(|| store.claim(claim.clone())).await;
            let Claimed::Run(lease) = claimed else { panic!("it was granted: {claimed:?}") };
            settled(|| store.release(lease.clone())).await;
        })
    }),
    ("save", |store, scene| {
        Box::pin(async {
            let saved = settled(|| store.save(scene.open.clone(), Answer::new("whole"))).await;
            assert!(matches!(saved, Persisted::Saved | Persisted::AlreadySaved));
        })
    }),
    ("end", |store, scene| {
        Box::pin(async {
            let failure = Failure { code: None, message: "why".to_owned() };
            let ending = Ending::failed(failure, "part");
            settled(|| store.end(EndedBy::Log(scene.open.clone()), ending.clone())).await;
        })
    }),
    ("ask_to_stop", |store, scene| {
        Box::pin(async {
            settled(|| store.ask_to_stop(scene.open.clone())).await;
        })
    }),
    ("delete_session", |store, scene| {
        Box::pin(async {
            let deletion =
                Deletion { owner: owner(), session_id: scene.session.clone(), if_idle_since: None };
            assert!(settled(|| store.delete_session(deletion.clone())).await);
        })
    }),
    ("sign_in", |store, _| {
        Box::pin(async {
            let sign_ins = store.sign_ins().unwrap();
            settled(|| sign_ins.sign_in([1; 32], [2; 32], Duration::from_secs(9))).await;
            assert_eq!(settled(|| sign_ins.signed_in([1; 32])).await, Some([2; 32]));
        })
    }),
];

/// The same is to be seen as if nothing had been cut, and the product's statements have run once.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_anywhere_in_any_operation_leaves_what_an_undisturbed_one_leaves() {
    let database = Database::new();
    let direct = database.open().await.unwrap();
    let proxy = CuttingProxy::start(SERVER.address()).await;
    let url = database.0.replace(&SERVER.address().to_string(), &proxy.address.to_string());
    // One connection, so that it is this operation's that is cut.
    let store = PostgresStore::builder(url).connections(1).open().await.unwrap().within(Writing);
    let log = LogId::parse("log").unwrap();
    for store in [&direct, &store] {
        assert_eq!(settled(|| store.join(log.clone())).await, Joined::Member);
    }
    for (name, operation) in OPERATIONS {
        let undisturbed = Scene::set(&direct).await;
        operation(&direct, &undisturbed).await;
        let id = undisturbed.session.as_str();
        let wanted = undisturbed.seen(&direct, &database).await.replace(id, "session");
        for cut in [Cut::BeforeRequest, Cut::AfterRequest, Cut::AfterCommit] {
            let scene = Scene::set(&direct).await;
            proxy.cut(cut);
            operation(&store, &scene).await;
            assert!(proxy.has_cut(), "{name} has not come to {cut:?}");
            let seen = scene.seen(&direct, &database).await;
            assert_eq!(seen.replace(scene.session.as_str(), "session"), wanted, "{name}, {cut:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_commit_that_is_lost_is_told_as_unknown() {
    let database = Database::new();
    let direct = database.open().await.unwrap();
    let proxy = CuttingProxy::start(SERVER.address()).await;
    let url = database.0.replace(&SERVER.address().to_string(), &proxy.address.to_string());
    let store = PostgresStore::builder(url).connections(1).open().await.unwrap();
    let scene = Scene::set(&direct).await;
    proxy.cut(Cut::AfterCommit);
    let error = store.save(scene.open.clone(), Answer::new("whole")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown);
    let again = store.save(scene.open.clone(), Answer::new("whole")).await.unwrap();
    assert_eq!(again, Persisted::AlreadySaved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_else_and_a_full_pool_are_busy() {
    let database = Database::new();
    let store = PostgresStore::builder(&database.0).connections(1).open().await.unwrap();
    let scene = Scene::set(&store).await;
    let (locked, is_locked) = tokio::sync::oneshot::channel::<()>();
    let (unlock, is_over) = std::sync::mpsc::channel::<()>();
    let (name, id) = (database.name().to_owned(), scene.session.to_string());
    let holder = tokio::task::spawn_blocking(move || {
        let mut psql = SERVER.session(&name);
        psql.send(&format!("BEGIN; SELECT 1 FROM turnkit_sessions WHERE id = '{id}' FOR UPDATE;"));
        locked.send(()).unwrap();
        is_over.recv().ok();
        psql.send("ROLLBACK;");
    });
    is_locked.await.unwrap();
    let asked = || store.accept(new(&scene.session, "more"));
    // The first waits for the lock, the second for the connection.
    let kinds =
        join_all([asked(), asked()]).await.into_iter().map(|asked| asked.unwrap_err().kind());
    assert_eq!(kinds.collect::<Vec<_>>(), [StoreErrorKind::Busy, StoreErrorKind::Busy]);
    unlock.send(()).unwrap();
    holder.await.unwrap();
    assert!(matches!(settled(asked).await, Accepted::Queued(_)));
}

/// As after a failover: whoever was a primary takes no writes any more, or ends its connections.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_ended_and_writes_that_are_refused_are_told_and_pass() {
    let database = Database::new();
    let store = database.open().await.unwrap();
    let scene = Scene::set(&store).await;
    let name = database.name();
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    );
    database.sql(&end);
    // Every connection of the pool is dead, and no caller notices.
    store.check().await.unwrap();
    database.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    database.sql(&end);
    assert_eq!(store.check().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let refused = store.ask_to_stop(scene.open.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    database.sql(&format!(
        "SET TRANSACTION READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only"
    ));
    settled(|| store.ask_to_stop(scene.open.clone())).await;
    let found = store.find(Find::Execution(scene.open.clone())).await.unwrap();
    assert!(matches!(found, Found::Turn(row) if row.stop_asked && row.state == TurnState::Open));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_up_is_heard_by_the_other_handles() {
    let database = Database::new();
    let other = database.open().await.unwrap();
    a_lease_that_is_given_up_is_found(&database, &other, || {}).await;
}

/// Who listens is cut off, and hears nothing of what is told then: it looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_up_while_nobody_hears_is_found() {
    let database = Database::new();
    let other = database.open().await.unwrap();
    a_lease_that_is_given_up_is_found(&database, &other, || {
        let ears = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'LISTEN%'",
            database.name()
        );
        while database.sql(&ears).trim() == "0" {
            std::thread::yield_now();
        }
    })
    .await;
}

/// Who listens stays connected, and what is told is not passed on: it looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_up_while_what_is_told_is_held_back_is_found() {
    let database = Database::new();
    let proxy = CuttingProxy::start(SERVER.address()).await;
    let url = database.0.replace(&SERVER.address().to_string(), &proxy.address.to_string());
    let other = PostgresStore::open(url).await.unwrap();
    a_lease_that_is_given_up_is_found(&database, &other, || proxy.hold_back_what_is_told()).await;
}

/// One handle gives up the lease that it holds, after `happens`, and the other one is woken.
async fn a_lease_that_is_given_up_is_found(
    database: &Database,
    other: &PostgresStore,
    happens: impl FnOnce(),
) {
    let one = database.open().await.unwrap();
    settled(|| one.join(LogId::parse("log").unwrap())).await;
    let scene = Scene::set(&one).await;
    let claim = Claim { execution_id: scene.open.clone(), nonce: 1, seen_epoch: 0, may_run: true };
    assert!(matches!(one.claim(claim).await.unwrap(), Claimed::Run(_)));
    happens();
    let woken = other.woken();
    one.close().await;
    woken.await;
    assert_eq!(other.unattended(9).await.unwrap(), [scene.open]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_is_refused() {
    let name = "other_encoding";
    SERVER.sql(
        "postgres",
        &format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0"),
    );
    let error = PostgresStore::open(SERVER.url(name)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Broken);
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("encoding is SQL_ASCII"), "{why}");
    assert_eq!(
        SERVER.sql(name, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'turnkit%'"),
        "0\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_back_byte_for_byte() {
    let database = Database::new();
    let store = database.open().await.unwrap();
    let scene = Scene::set(&store).await;
    let text = "a\0b'\"; DROP TABLE turnkit_turns; -- \u{1F980}\r\n\u{FFFD}\u{10FFFF}0";
    store.save(scene.open.clone(), Answer::new(text)).await.unwrap();
    assert_eq!(store.saved(scene.open.clone()).await.unwrap(), Some(Answer::new(text)));
    let nobody = SessionId::new("no\0body");
    assert_eq!(store.session(owner(), nobody, MessagePage::newest(1)).await.unwrap(), None);
}

/// PgBouncer gives each transaction whichever session is free, and passes nothing on that is told.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_that_pools_transactions_all_is_as_without() {
    let database = Database::new();
    let direct = database.open().await.unwrap();
    let pooler = SERVER.pooler();
    let url = database.0.replace(&SERVER.address().to_string(), &pooler.address().to_string());
    // Another process had all the sessions before, and has prepared statements in each under the names that this one counts to.
    let mut others = Vec::new();
    for _ in 0..10 {
        let (another, connection) = connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        // Within a transaction each has a session to itself.
        another.batch_execute("BEGIN").await.unwrap();
        let names = "DO $$ BEGIN FOR n IN 0..4999 LOOP EXECUTE format('PREPARE s%s AS SELECT 1', n); END LOOP; END $$";
        another.batch_execute(names).await.unwrap();
        others.push(another);
    }
    for another in &others {
        another.batch_execute("COMMIT").await.unwrap();
    }
    let store = PostgresStore::builder(url).connections(4).open().await.unwrap().within(Writing);
    let log = LogId::parse("log").unwrap();
    for store in [&direct, &store] {
        assert_eq!(settled(|| store.join(log.clone())).await, Joined::Member);
    }
    for (name, operation) in OPERATIONS {
        let mut seen = Vec::new();
        for store in [&direct, &store] {
            let scene = Scene::set(store).await;
            operation(store, &scene).await;
            let id = scene.session.as_str();
            seen.push(scene.seen(store, &database).await.replace(id, "session"));
        }
        assert_eq!(seen[0], seen[1], "{name}");
    }
    let mut prepared = Vec::new();
    for store in [&direct, &store] {
        let sql = "SELECT 1 FROM pg_prepared_statements WHERE statement LIKE '%turnkit_turns%'";
        let rows = store.write(move |tx| Box::pin(tx.query_typed(sql, &[])));
        prepared.push(!rows.await.unwrap().is_empty());
    }
    assert_eq!(prepared, [true, false]);
    let scene = Scene::set(&direct).await;
    let claim = Claim { execution_id: scene.open.clone(), nonce: 1, seen_epoch: 0, may_run: true };
    assert!(matches!(direct.claim(claim).await.unwrap(), Claimed::Run(_)));
    direct.close().await;
    while !store.unattended(99).await.unwrap().contains(&scene.open) {
        store.woken().await;
    }
}

/// The primary dies while answers are saved, and its synchronous standby takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_synchronous_standby_loses_nothing_that_was_told() {
    const WRITERS: usize = 8;
    let (primary, database, standby) = tokio::task::spawn_blocking(|| {
        let primary = PostgresServer::start();
        let (database, standby) = (primary.database(), primary.synchronous_standby());
        (primary, database, standby)
    })
    .await
    .unwrap();
    let [one, other] = [primary.address(), standby.address()].map(|address| address.to_string());
    let url = database.replace(&one, &format!("{one},{other}"));
    let store = PostgresStore::open(url).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let is_promoted = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|number| {
        let (store, told, is_promoted) = (store.clone(), told.clone(), is_promoted.clone());
        tokio::spawn(async move {
            for turn in 0.. {
                let is_last = is_promoted.load(Ordering::Relaxed);
                let session = SessionId::new(format!("session-{number}-{turn}"));
                in_the_end(|| store.open_session(owner(), session.clone())).await;
                let row = match in_the_end(|| store.accept(new(&session, "turn"))).await {
                    Accepted::New(row) | Accepted::Known(row) => row,
                    other => panic!("it was not accepted: {other:?}"),
                };
                let id = row.turn.execution_id;
                in_the_end(|| store.save(id.clone(), Answer::new(session.as_str()))).await;
                told.lock().unwrap().push((id, session));
                if is_last {
                    return;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    while told.lock().unwrap().len() < 5 * WRITERS {
        sleep(Duration::from_millis(5)).await;
    }
    let (primary, standby) = tokio::task::spawn_blocking(move || {
        let mut primary = primary;
        primary.kill();
        standby.promote();
        (primary, standby)
    })
    .await
    .unwrap();
    is_promoted.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let told = std::mem::take(&mut *told.lock().unwrap());
    for (id, session) in told {
        let saved = store.saved(id).await.unwrap();
        assert_eq!(saved, Some(Answer::new(session.as_str())));
    }
    drop((primary, standby));
}

/// Asks until there is an answer: a failover takes seconds.
async fn in_the_end<'a, T>(ask: impl Fn() -> Stored<'a, T>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => match error.kind() {
                StoreErrorKind::Busy
                | StoreErrorKind::Unavailable
                | StoreErrorKind::OutcomeUnknown => sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}: {error} {:?}", std::error::Error::source(&error)),
            },
        }
    }
}
