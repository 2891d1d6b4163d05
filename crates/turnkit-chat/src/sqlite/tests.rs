//! What is SQLite's own: the contract suite tries the rest on every store.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rusqlite::{Transaction, TransactionBehavior};
use tempfile::TempDir;

use super::*;
use crate::store::{FeedId, LEASE};
use crate::{Failure, NewTurn, Role, TurnState};

/// A directory with a database that lives as long as it does.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("chat.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path()).unwrap()
    }

    /// A connection of somebody else's.
    fn connection(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn owner() -> Principal {
    Principal::new("tenant", "user")
}

fn asked(session: &str, turn: NewTurn) -> NewRow {
    let at = TurnRef::new(SessionId::new(session), turn.turn_id);
    NewRow::new(owner(), at, turn.message, turn.agent.unwrap_or_default())
}

async fn open_session(store: &SqliteStore, id: &str) {
    store.open_session(owner(), SessionId::new(id)).await.unwrap();
}

async fn accept(store: &SqliteStore, session: &str, turn_id: &str) -> Turn {
    match store.accept(asked(session, NewTurn::new(turn_id, "hello"))).await.unwrap() {
        Accepted::New(row) => row.turn,
        other => panic!("not new: {other:?}"),
    }
}

async fn claim(store: &SqliteStore, turn: &Turn, nonce: u128, seen_epoch: u64) -> Claimed {
    let execution_id = turn.execution_id.clone();
    store.claim(Claim { execution_id, nonce, seen_epoch, may_run: true }).await.unwrap()
}

async fn join(store: &SqliteStore) {
    assert_eq!(store.join(LogId::parse("log").unwrap()).await.unwrap(), Joined::Member);
}

fn ending() -> Ending {
    Ending::failed(Failure { code: Some("code".to_owned()), message: "why".to_owned() }, "part")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn count(db: &Connection, table: &str) -> u32 {
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn sources(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

// Files.

#[tokio::test]
async fn a_file_that_is_made_is_private_and_so_is_all_beside_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    open_session(&store, "s").await;
    for file in ["chat.db", "chat.db-wal", "chat.db-shm"] {
        assert_eq!(mode(&fixture.directory.path().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&fixture.directory.path().join("chat.db.workers")), 0o700);
}

#[tokio::test]
async fn a_file_of_the_product_keeps_its_mode_its_version_and_its_tables() {
    let fixture = Fixture::new();
    let product = fixture.connection();
    let tables =
        "CREATE TABLE sessions (id TEXT, cookie TEXT); INSERT INTO sessions VALUES ('a', 'b');
        PRAGMA user_version = 2;";
    product.execute_batch(tables).unwrap();
    drop(product);
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let store = fixture.open();
    open_session(&store, "s").await;
    assert_eq!(mode(&fixture.path()), 0o640);
    let product = fixture.connection();
    let version: u32 = product.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!((version, count(&product, "sessions")), (2, 1));
}

#[test]
fn a_missing_directory_is_named() {
    let fixture = Fixture::new();
    let error = SqliteStore::open(fixture.directory.path().join("missing/chat.db")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let text = sources(&error);
    assert!(text.contains("the directory") && text.contains("missing is missing"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_broken_and_stays_as_it_is() {
    let fixture = Fixture::new();
    let text = "no database at all, ".repeat(100);
    fs::write(fixture.path(), &text).unwrap();
    let error = SqliteStore::open(fixture.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Broken, "{}", sources(&error));
    assert_eq!(fs::read_to_string(fixture.path()).unwrap(), text);
}

#[tokio::test]
async fn closing_leaves_one_file_and_every_later_call_fails() {
    let fixture = Fixture::new();
    let store = fixture.open();
    open_session(&store, "s").await;
    join(&store).await;
    store.close().await;
    store.close().await;
    assert_eq!(fixture.files(), ["chat.db", "chat.db.workers"]);
    assert_eq!(fs::read_dir(fixture.directory.path().join("chat.db.workers")).unwrap().count(), 0);
    let page = SessionPage { before: None, limit: 1, archived: None };
    let errors = [
        store.check().await.unwrap_err(),
        store.sessions(owner(), page).await.unwrap_err(),
        store.open_session(owner(), SessionId::new("t")).await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == StoreErrorKind::Unavailable));
    assert_eq!(count(&fixture.connection(), "turnkit_workers"), 0);
}

// The schema.

#[test]
fn a_newer_database_is_refused_and_left_as_it_is() {
    let fixture = Fixture::new();
    let tables = "CREATE TABLE turnkit_schema (id INTEGER PRIMARY KEY, version INTEGER NOT NULL);
        INSERT INTO turnkit_schema VALUES (1, 99);";
    fixture.connection().execute_batch(tables).unwrap();
    let before = fs::read(fixture.path()).unwrap();
    let error = SqliteStore::open(fixture.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Newer);
    assert!(sources(&error).contains("schema 99"), "{}", sources(&error));
    assert_eq!(fs::read(fixture.path()).unwrap(), before);
}

#[test]
fn many_open_a_new_database_at_once() {
    let fixture = Fixture::new();
    let path = fixture.path();
    thread::scope(|scope| {
        let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| SqliteStore::open(&path))).collect();
        for one in opened {
            one.join().unwrap().unwrap();
        }
    });
    assert_eq!(count(&fixture.connection(), "turnkit_schema"), 1);
}

/// The schema of the binary before this crate, as it made it, with a session of three turns.
const UNPREFIXED: &str = include_str!("unprefixed.sql");

#[tokio::test]
async fn a_database_of_the_binary_before_this_crate_goes_on() {
    let fixture = Fixture::new();
    fixture.connection().execute_batch(UNPREFIXED).unwrap();
    let store = fixture.open();

    let listed = store
        .sessions(owner(), SessionPage { before: None, limit: 9, archived: None })
        .await
        .unwrap();
    let titles: Vec<_> =
        listed.sessions.iter().map(|one| (one.id.as_str(), one.title.as_deref())).collect();
    assert_eq!(titles, [("empty", None), ("s", Some("first question"))]);

    let page = MessagePage::newest(9);
    let session = store.session(owner(), SessionId::new("s"), page).await.unwrap().unwrap();
    let said: Vec<_> = session
        .messages
        .iter()
        .map(|message| (message.turn_index, message.role, message.text.as_str(), message.state))
        .collect();
    assert_eq!(
        said,
        [
            (0, Role::User, "first question", TurnState::Complete),
            (0, Role::Assistant, "first answer", TurnState::Complete),
            (1, Role::User, "second question", TurnState::Complete),
            (1, Role::Assistant, "half an answ", TurnState::Failed),
            (2, Role::User, "third question", TurnState::Complete),
        ]
    );
    assert_eq!(session.messages[3].failure.as_ref().unwrap().code.as_deref(), Some("agent_failed"));

    let open = session.open.unwrap();
    assert!(open.dispatched && open.stop_asked && !open.is_held);
    join(&store).await;
    let taken = claim(&store, &open.turn, 1, 0).await;
    assert!(matches!(taken, Claimed::Attach(_)), "its agent runs already: {taken:?}");
    store.save(open.turn.execution_id.clone(), Answer::new("third answer")).await.unwrap();
    assert_eq!(accept(&store, "s", "fourth").await.index, 3);
    assert_eq!(store.signed_in([1; 32]).await.unwrap(), Some([2; 32]));

    // It is as old as what was said in it, not older.
    let idle = store.idle_sessions(SystemTime::UNIX_EPOCH, 9).await.unwrap();
    assert_eq!(idle, []);

    let db = fixture.connection();
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'turnkit~_%' ESCAPE '~'";
    let others: u32 = db.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!((version, others), (0, 0));
}

#[test]
fn tables_that_only_look_like_the_old_ones_are_the_products_own() {
    let fixture = Fixture::new();
    let db = fixture.connection();
    db.execute_batch(UNPREFIXED).unwrap();
    db.execute_batch("ALTER TABLE sessions ADD COLUMN cookie TEXT").unwrap();
    drop(fixture.open());
    assert_eq!((count(&db, "sessions"), count(&db, "turnkit_sessions")), (2, 0));
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 3);
}

#[test]
fn old_databases_of_each_version_are_known() {
    for (version, without) in [
        (
            1,
            "ALTER TABLE turns DROP COLUMN stop_asked; DROP TABLE sign_ins; PRAGMA user_version = 1;",
        ),
        (2, "DROP TABLE sign_ins; PRAGMA user_version = 2;"),
    ] {
        let fixture = Fixture::new();
        let db = fixture.connection();
        db.execute_batch(UNPREFIXED).unwrap();
        db.execute_batch(without).unwrap();
        drop(fixture.open());
        assert_eq!(count(&db, "turnkit_turns"), 3, "version {version}");
    }
}

#[tokio::test]
async fn what_a_worker_asks_every_few_seconds_reads_indexes_alone() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let db = fixture.connection();
    let plan = |sql: &str| -> String {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    };
    let held = plan(&leases::HELD.replace("?1", "'w'"));
    assert_eq!(held, "SEARCH turnkit_turns USING COVERING INDEX turnkit_held_turns (worker=?)");
    let open = plan(leases::OPEN);
    assert_eq!(open, "SCAN turnkit_turns USING COVERING INDEX turnkit_open_turns");
}

// Connections.

#[tokio::test]
async fn what_is_told_to_be_saved_outlives_a_loss_of_power() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let level = store
        .write(|tx| tx.query_row("PRAGMA synchronous", [], |row| row.get::<_, u32>(0)))
        .await
        .unwrap();
    assert_eq!(level, 2, "FULL");
}

#[tokio::test]
async fn what_waits_is_committed_together_and_a_piece_that_fails_undoes_itself_alone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.write(|tx| tx.execute_batch("CREATE TABLE kept (n INTEGER)")).await.unwrap();
    // Holds the writer until all others have queued up, which begin once it is held.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let holder = store.clone();
    let first = tokio::spawn(async move {
        let hold = move |_: &Transaction<'_>| Ok(begun.send(()).is_ok() && wait.recv().is_ok());
        holder.write(hold).await
    });
    has_begun.await.unwrap();
    let pieces = join_all((0..10_i64).map(|n| {
        let path = fixture.path();
        store.write(move |tx| {
            tx.execute("INSERT INTO kept VALUES (?1)", [n])?;
            match n {
                3 => Err(rusqlite::Error::InvalidQuery),
                5 => panic!("the fifth"),
                // What the others of its transaction wrote is not committed, and so nobody else sees it.
                _ => Ok((count(tx, "kept"), count(&Connection::open(&path).unwrap(), "kept"))),
            }
        })
    }));
    let (first, pieces, sent) = tokio::join!(first, pieces, async move { go.send(()) });
    assert!(first.unwrap().unwrap() && sent.is_ok());
    let seen: Vec<_> = pieces.iter().flatten().copied().collect();
    assert_eq!(seen, [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0)]);
    let failed: Vec<_> =
        (0..).zip(&pieces).filter(|(_, one)| one.is_err()).map(|(n, _)| n).collect();
    assert_eq!(failed, [3, 5]);
    let text = sources(pieces[5].as_ref().unwrap_err());
    assert!(text.contains("panicked: the fifth"), "{text}");
    let kept = store.read(|db| Ok(count(db, "kept"))).await.unwrap();
    assert_eq!(kept, 8);
}

#[tokio::test]
async fn readers_go_on_while_another_process_writes_and_writers_are_told_busy() {
    let fixture = Fixture::new();
    let brief = SqliteStore::builder().busy_timeout(Duration::from_millis(10));
    let store = brief.open(fixture.path()).unwrap();
    open_session(&store, "s").await;
    let mut other = fixture.connection();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let page = MessagePage::newest(1);
    assert!(store.session(owner(), SessionId::new("s"), page).await.unwrap().is_some());
    let error = store.open_session(owner(), SessionId::new("t")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy);
    drop(lock);
    open_session(&store, "t").await;
}

#[tokio::test]
async fn statements_of_a_caller_that_left_are_run() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.write(|tx| tx.execute_batch("CREATE TABLE kept (n INTEGER)")).await.unwrap();
    let left = store.write(|tx| tx.execute("INSERT INTO kept VALUES (1)", []));
    assert!(left.now_or_never().is_none(), "it was handed over, and nobody waits for it");
    let after = store.write(|tx| Ok(count(tx, "kept"))).await.unwrap();
    assert_eq!(after, 1);
}

#[tokio::test]
async fn a_piece_that_ends_the_transaction_leaves_the_outcome_unknown() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let error = store.write(|tx| tx.execute_batch("COMMIT")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown);
    open_session(&store, "s").await;
}

#[tokio::test]
async fn text_comes_back_byte_for_byte() {
    let fixture = Fixture::new();
    let store = fixture.open();
    open_session(&store, "s").await;
    let turn = accept(&store, "s", "t").await;
    let text = "a\0b'\"; DROP TABLE turnkit_turns; -- \u{1F980}\r\n\u{FFFD}";
    store.save(turn.execution_id.clone(), Answer::new(text)).await.unwrap();
    assert_eq!(store.saved(turn.execution_id).await.unwrap(), Some(Answer::new(text)));
}

// Workers.

#[tokio::test]
async fn the_leases_of_a_handle_that_is_gone_are_free_at_once() {
    let fixture = Fixture::new();
    let (store, beside) = (fixture.open(), fixture.open());
    join(&store).await;
    join(&beside).await;
    open_session(&store, "s").await;
    let turn = accept(&store, "s", "t").await;
    assert!(matches!(claim(&store, &turn, 1, 0).await, Claimed::Run(_)));
    assert_eq!(beside.unattended(9).await.unwrap(), []);
    assert_eq!(claim(&beside, &turn, 2, 1).await, Claimed::Refused);
    let woken = beside.woken();
    drop(store);
    woken.await;
    assert_eq!(beside.unattended(9).await.unwrap(), std::slice::from_ref(&turn.execution_id));
    assert!(matches!(claim(&beside, &turn, 3, 1).await, Claimed::Attach(_)));
}

#[tokio::test]
async fn a_worker_that_was_killed_is_dead_at_once_and_its_row_goes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    // What a process leaves that had no time to say goodbye: its row, and a file that nobody locks.
    let now = store.worker.now();
    store
        .write(move |tx| tx.execute("INSERT INTO turnkit_workers VALUES ('killed', ?1)", [now]))
        .await
        .unwrap();
    let left = fixture.directory.path().join("chat.db.workers/killed.lock");
    fs::write(&left, "").unwrap();
    join(&store).await;
    let workers = store.read(|db| Ok(count(db, "turnkit_workers"))).await.unwrap();
    assert_eq!(workers, 1, "itself");
    drop(fixture.open());
    assert!(!left.exists(), "who opens it next clears the file away");
}

#[tokio::test]
async fn links_to_a_database_lead_to_the_same_workers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let link = fixture.directory.path().join("link.db");
    std::os::unix::fs::symlink(fixture.path(), &link).unwrap();
    let beside = SqliteStore::open(link).unwrap();
    join(&store).await;
    let other = beside.join(LogId::parse("another").unwrap()).await.unwrap();
    assert_eq!(other, Joined::OtherLog(LogId::parse("log").unwrap()));
}

#[tokio::test]
async fn in_place_the_clock_alone_tells_who_lives() {
    let fixture = Fixture::new();
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let open = || {
        let clock = Arc::clone(&clock);
        let now = move || SystemTime::UNIX_EPOCH + Duration::from_millis(clock.load(Relaxed));
        SqliteStore::in_place(fixture.path(), now).unwrap()
    };
    let (store, beside) = (open(), open());
    join(&store).await;
    join(&beside).await;
    open_session(&store, "s").await;
    let turn = accept(&store, "s", "t").await;
    assert!(matches!(claim(&store, &turn, 1, 0).await, Claimed::Run(_)));
    assert_eq!(claim(&beside, &turn, 2, 1).await, Claimed::Refused);
    clock.fetch_add(u64::try_from(LEASE.as_millis()).unwrap() + 1, Relaxed);
    assert_eq!(beside.unattended(9).await.unwrap(), std::slice::from_ref(&turn.execution_id));
    let renewed = beside.renew(Vec::new()).await.unwrap();
    assert_eq!(renewed, Renewed { lost: Vec::new(), log: LogId::parse("log").unwrap() });
    let Claimed::Attach(lease) = claim(&beside, &turn, 3, 1).await else {
        panic!("a lease that has run out is free");
    };
    assert_eq!(lease.epoch, 2);
    let late = Lease { execution_id: turn.execution_id.clone(), epoch: 1 };
    let renewed = store.renew(vec![late.clone()]).await.unwrap();
    assert_eq!(renewed.lost, [turn.execution_id]);
    assert!(!store.end(EndedBy::Lease(late), ending()).await.unwrap(), "its epoch is over");
    assert!(!fixture.files().contains(&"chat.db.workers".to_owned()));
}

// The product's statements.

/// A product that takes a credit for each turn and writes a bill for each answer.
struct Billing;

const BILLING: &str = "CREATE TABLE credit (n INTEGER NOT NULL); INSERT INTO credit VALUES (2);
    CREATE TABLE bills (execution_id TEXT NOT NULL REFERENCES turnkit_turns (execution_id), text TEXT NOT NULL);
    CREATE TABLE endings (execution_id TEXT NOT NULL, partial TEXT NOT NULL);";

impl InTransaction for Billing {
    fn accepted(&self, tx: &Transaction<'_>, turn: &Turn) -> Result<(), NotAccepted> {
        assert_ne!(turn.message, "panic", "as asked");
        if tx.execute("UPDATE credit SET n = n - 1 WHERE n > 0", [])? == 0 {
            let (code, message) = ("no_credit".to_owned(), "there is no credit left".to_owned());
            return Err(Veto { status: 402, code, message }.into());
        }
        Ok(())
    }

    fn saved(&self, tx: &Transaction<'_>, turn: &Turn, answer: &Answer) -> rusqlite::Result<()> {
        let values = (turn.execution_id.as_str(), &answer.text);
        tx.execute("INSERT INTO bills VALUES (?1, ?2)", values)?;
        if answer.text == "fail" { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
    }

    fn ended(&self, tx: &Transaction<'_>, turn: &Turn, ending: &Ending) -> rusqlite::Result<()> {
        let values = (turn.execution_id.as_str(), &ending.partial.text);
        tx.execute("INSERT INTO endings VALUES (?1, ?2)", values).map(drop)
    }
}

async fn billed(fixture: &Fixture) -> SqliteStore {
    let store = fixture.open().within(Billing);
    store.write(|tx| tx.execute_batch(BILLING)).await.unwrap();
    for session in ["a", "b", "c"] {
        open_session(&store, session).await;
    }
    store
}

async fn credit(store: &SqliteStore) -> i64 {
    store.read(|db| db.query_row("SELECT n FROM credit", [], |row| row.get(0))).await.unwrap()
}

#[tokio::test]
async fn a_turn_is_paid_once_and_refused_without_credit() {
    let fixture = Fixture::new();
    let store = billed(&fixture).await;
    let turn = accept(&store, "a", "t").await;
    let again = store.accept(asked("a", NewTurn::new("t", "hello"))).await.unwrap();
    assert!(matches!(again, Accepted::Known(row) if row.turn == turn));
    assert_eq!(credit(&store).await, 1);
    accept(&store, "b", "t").await;
    let refused = store.accept(asked("c", NewTurn::new("t", "hello"))).await.unwrap();
    assert!(matches!(refused, Accepted::Refused(Veto { status: 402, .. })), "{refused:?}");
    let at = TurnRef::new(SessionId::new("c"), "t");
    assert_eq!(store.find(Find::Named(owner(), at)).await.unwrap(), Found::NoTurn);
    store.write(|tx| tx.execute("UPDATE credit SET n = 1", [])).await.unwrap();
    assert_eq!(accept(&store, "c", "t").await.index, 0, "a refused turn takes no index");
}

#[tokio::test]
async fn a_panic_of_the_product_keeps_nothing_and_the_store_goes_on() {
    let fixture = Fixture::new();
    let store = billed(&fixture).await;
    let error = store.accept(asked("a", NewTurn::new("t", "panic"))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Broken);
    assert_eq!(credit(&store).await, 2);
    assert_eq!(accept(&store, "a", "t").await.index, 0);
}

#[tokio::test]
async fn an_answer_is_billed_once_also_after_an_ending() {
    let fixture = Fixture::new();
    let store = billed(&fixture).await;
    let turn = accept(&store, "a", "t").await;
    let id = &turn.execution_id;
    for expected in [true, false] {
        let ended = store.end(EndedBy::Log(id.clone()), ending()).await.unwrap();
        assert_eq!(ended, expected);
    }
    let error = store.save(id.clone(), Answer::new("fail")).await.unwrap_err();
    assert!(sources(&error).contains("run the product's statements in `saved`"));
    assert_eq!(store.saved(id.clone()).await.unwrap(), None, "not without its bill");
    let saves = join_all((0..16).map(|_| store.save(id.clone(), Answer::new("whole")))).await;
    let won = saves.iter().filter(|one| matches!(one, Ok(Persisted::Saved))).count();
    assert_eq!(won, 1);
    let counts = store.read(|db| Ok((count(db, "bills"), count(db, "endings")))).await.unwrap();
    assert_eq!(counts, (1, 1));
}

/// Somebody takes the file away, or puts another one in its place, while a store has it open.
#[tokio::test]
async fn nothing_is_told_saved_that_went_into_a_file_which_is_not_there_any_more() {
    type Mischief = fn(&Fixture);
    let mischiefs: [Mischief; 3] = [
        |fixture| fs::remove_file(fixture.path()).unwrap(),
        |fixture| fs::rename(fixture.path(), fixture.directory.path().join("moved.db")).unwrap(),
        |fixture| {
            let backup = fixture.directory.path().join("backup.db");
            Connection::open(&backup).unwrap().execute_batch("CREATE TABLE other (a)").unwrap();
            fs::rename(backup, fixture.path()).unwrap();
        },
    ];
    for mischief in mischiefs {
        let fixture = Fixture::new();
        let store = fixture.open();
        open_session(&store, "s").await;
        let turn = accept(&store, "s", "t").await;
        mischief(&fixture);
        let saved = store.save(turn.execution_id, Answer::new("hello")).await.unwrap_err();
        assert_eq!(saved.kind(), StoreErrorKind::Unavailable);
        let why = std::error::Error::source(&saved).unwrap().to_string();
        assert!(why.contains("while it was open"), "{why}");
        assert_eq!(store.check().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        let before = fixture.files();
        store.close().await;
        let gone: Vec<_> = before.iter().filter(|file| !fixture.files().contains(file)).collect();
        assert!(gone.is_empty(), "what lies there now may be another store's: {gone:?}");
    }
}

#[test]
fn a_damaged_database_is_refused_in_a_line_that_says_so() {
    let fixture = Fixture::new();
    let refused = || {
        let error = SqliteStore::open(fixture.path()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Broken);
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.starts_with("the database is damaged, restore a backup: "), "{why}");
        assert!(!why.contains('\n') && why.len() < 300, "{why}");
        why
    };
    drop(fixture.open());
    for (lost, why) in [
        ("TABLE turnkit_sign_ins", "turnkit_sign_ins.created_at is missing"),
        ("INDEX turnkit_open_turn_of_session", "turnkit_open_turn_of_session is missing"),
    ] {
        let db = fixture.connection();
        let sql = "SELECT sql FROM sqlite_schema WHERE name = ?1";
        let name = lost.split_once(' ').unwrap().1;
        let sql: String = db.query_row(sql, [name], |row| row.get(0)).unwrap();
        db.execute_batch(&format!("DROP {lost}")).unwrap();
        assert!(refused().ends_with(why));
        db.execute_batch(&sql).unwrap();
        for index in [
            "turnkit_sign_ins_of_token ON turnkit_sign_ins (token, created_at)",
            "turnkit_sign_ins_by_end ON turnkit_sign_ins (ends_at)",
        ] {
            db.execute_batch(&format!("CREATE INDEX IF NOT EXISTS {index}")).unwrap();
        }
        drop(fixture.open());
    }

    let db = fixture.connection();
    db.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at) SELECT 's' || i, i, 't', 'u', i FROM n;
         PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .unwrap();
    drop(db);
    let mut bytes = fs::read(fixture.path()).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 20 * 4096].fill(0xa5);
    fs::write(fixture.path(), bytes).unwrap();
    refused();
}

// How much is read and kept.

/// Each statement of this module, as it stands in its source, finds what it wants by an index: with 20,000 sessions, or 2,000 turns in one,
/// as with 20.
#[test]
fn every_statement_searches_by_an_index() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let db = fixture.connection();
    let (mut statements, mut scans) = (0, Vec::new());
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sqlite")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_source = path.extension().is_some_and(|end| end == "rs");
        if !is_source || ["schema.rs", "tests.rs"].contains(&name) {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        // A quotation mark within a literal is none that ends it.
        let code = code.collect::<Vec<_>>().join("\n").replace("\\\"", "\u{1}");
        for literal in code.split('"').skip(1).step_by(2) {
            let literal = &literal.replace('\u{1}', "\"");
            let first = literal.split_whitespace().next().unwrap_or_default();
            if !["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&first) {
                continue;
            }
            let columns =
                if name == "interactions.rs" { interactions::COLUMNS } else { queue::COLUMNS };
            for sql in filled_in(&literal.replace("{COLUMNS}", columns)) {
                statements += 1;
                let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                let mut rows = plan.raw_query();
                while let Some(row) = rows.next().unwrap() {
                    let step: String = row.get(3).unwrap();
                    // Of an execution's questions and inputs there are a few.
                    let sorts_a_few = name == "interactions.rs" && step.contains("TEMP B-TREE");
                    if !is_small(&step) && !sorts_a_few {
                        scans.push(format!("{name}: {step}: {sql}"));
                    }
                }
            }
        }
    }
    assert!(statements > 80, "{statements} statements were found");
    assert!(scans.is_empty(), "{}", scans.join("\n"));
}

/// A statement with everything that is put into it.
fn filled_in(sql: &str) -> Vec<String> {
    let mut filled = vec![sql.replace("{MAX_SIBLINGS}", "256")];
    for (name, fillings) in [
        ("{of_archive}", &["", "AND archived = ?5"][..]),
        ("{of_session}", &["AND ?4 = ''", "AND e.session_id = ?4"]),
        (
            "{condition}",
            &[
                "t.session_id = ?1 AND t.turn_id = ?2",
                "t.session_id = ?1 AND t.turn_index = ?2",
                "t.session_id = ?1 AND t.state = 'open'",
                "t.execution_id = ?1",
                "s.tenant_id = ?1 AND s.user_id = ?2 AND t.turn_id = ?3 ORDER BY t.number DESC LIMIT 1",
            ],
        ),
    ] {
        if filled[0].contains(name) {
            let with = |sql: &String| {
                fillings.iter().map(|filling| sql.replace(name, filling)).collect::<Vec<_>>()
            };
            filled = filled.iter().flat_map(with).collect();
        }
    }
    filled
}

/// A step of a plan that reads no more than it is to give: it searches, goes over what was found before, over an index of that which is
/// open or left to do, or over the rows of a table that has a few.
fn is_small(step: &str) -> bool {
    let Some(scanned) = step.strip_prefix("SCAN ") else {
        return !step.contains("TEMP B-TREE");
    };
    let of_partial = [
        "turnkit_open_turns",
        "turnkit_held_turns",
        "turnkit_unerased",
        "turnkit_unscrubbed",
        "turnkit_undecided_intents",
    ];
    let found = ["CONSTANT ROW", "b", "branch", "behind", "up", "down"];
    let few = ["turnkit_workers", "turnkit_log", "turnkit_schema"];
    few.contains(&scanned)
        || found.contains(&scanned)
        || scanned.starts_with('(')
        || of_partial.iter().any(|index| scanned.ends_with(&format!("INDEX {index}")))
}

/// PROTOCOL 4.2, "A feed": who was away for 10,000 entries misses nothing and gets nothing twice while two workers write on; who was away
/// for more than 50,000 is told to read everything anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_feed_goes_on_after_10_000_entries_and_expires_after_50_000() {
    const FILLED: u64 = 49_000;
    const WRITES: u64 = 1_250;
    let fixture = Fixture::new();
    let stores = [fixture.open(), fixture.open()];
    for session in 0..4 {
        open_session(&stores[0], &format!("s{session}")).await;
    }
    let fill = "WITH RECURSIVE n (i) AS (SELECT 5 UNION ALL SELECT i + 1 FROM n WHERE i < 49000)
        INSERT INTO turnkit_feed_entries (feed, number, change, session_id, at)
        SELECT feed, i, 'session.updated', 's' || (i % 4), i FROM n, turnkit_feeds;
        UPDATE turnkit_feeds SET newest = 49000;";
    stores[0].write(move |tx| tx.execute_batch(fill)).await.unwrap();
    let read = async |store: &SqliteStore, after: Option<FeedId>, session, limit| {
        store.feed(owner(), FeedRead { after, session, limit }).await.unwrap()
    };
    let FeedPage::Entries(_, end) = read(&stores[0], None, None, 0).await else { panic!() };
    let place = |number| Some(FeedId { feed: end.feed.clone(), number });
    assert_eq!(end.number, FILLED);

    let writers: Vec<_> = stores
        .iter()
        .cloned()
        .zip(1_u64..)
        .map(|(store, worker)| {
            tokio::spawn(async move {
                for burst in 0..WRITES / 50 {
                    let writes = (0..50).map(|step| {
                        let number = (burst * 50 + step).wrapping_mul(0x9E37_79B9 + worker) >> 7;
                        let id = SessionId::new(format!("s{}", number % 4));
                        let title = Some(format!("{worker} {burst} {step}"));
                        let update = SessionUpdate { title, archived: None };
                        store.update_session(owner(), id, update)
                    });
                    for written in join_all(writes).await {
                        assert!(written.unwrap().is_some());
                    }
                }
            })
        })
        .collect();
    let newest = FILLED + 2 * WRITES;
    let (mut after, mut told) = (FILLED - 10_000, Vec::new());
    while after < newest {
        let store = &stores[usize::try_from(after % 2).unwrap()];
        let limit = usize::try_from(1 + after.wrapping_mul(0x9E37_79B9) % 400).unwrap();
        let FeedPage::Entries(entries, at) = read(store, place(after), None, limit).await else {
            panic!("the place {after} is held for older than what is kept")
        };
        assert_eq!(at.number, entries.last().map_or(after, |last| last.number));
        after = at.number;
        told.extend(entries.into_iter().map(|entry| (entry.number, entry.session_id)));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let numbers: Vec<u64> = told.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (FILLED - 9_999..=newest).collect::<Vec<_>>());

    let of_one = SessionId::new("s1");
    let page = read(&stores[1], place(FILLED - 10_000), Some(of_one.clone()), usize::MAX).await;
    let FeedPage::Entries(entries, _) = page else { panic!() };
    let wanted: Vec<u64> =
        told.iter().filter(|(_, session)| *session == of_one).map(|(number, _)| *number).collect();
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), wanted);

    // Dropped in pieces: 50,000 at least are kept.
    for (number, is_kept) in
        [(0, false), (999, false), (1_000, true), (newest, true), (newest + 1, false)]
    {
        let page = read(&stores[0], place(number), None, 1).await;
        assert_eq!(page != FeedPage::Expired, is_kept, "{number}");
    }
    let other = Some(FeedId { feed: "0".repeat(32), number: newest });
    assert_eq!(read(&stores[0], other, None, 1).await, FeedPage::Expired);
}
