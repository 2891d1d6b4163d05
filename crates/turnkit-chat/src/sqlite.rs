//! The store in a SQLite file, for the processes of one machine.
//!
//! The file may be the product's own: turnkit keeps to tables whose names begin with `turnkit_`, has its schema's version in one
//! of them and leaves `user_version` to the product. The product's statements can be part of turnkit's transactions
//! ([`InTransaction`]), or use its connections ([`SqliteStore::read`], [`SqliteStore::write`]).
//!
//! A store has two threads: one writes, and commits what has queued up meanwhile as one transaction; one reads. The file is in
//! WAL mode, and each commit is synced to the disk before it is told. The file lies on a local disk: SQLite's locks, and those
//! of the workers in the directory `<file>.workers/`, do not work over a network. A file that is not there is made with mode
//! 0600, one that is there keeps its mode, and SQLite gives `-wal` and `-shm` that of the file. A database that is damaged, or
//! lacks a table of ours, is not opened; and a file that is deleted, moved or replaced under its store is not written any more: every
//! call is [`Unavailable`](StoreErrorKind::Unavailable) from then on.
//!
//! # Tables
//! To be read, by [`SqliteStore::read`] or any other connection, and referred to by foreign keys; not to be written. Times are
//! Unix milliseconds.
//!
//! - `turnkit_sessions`: `number`, the order of opening; `id`; `name`, its owner's name for it; `tenant_id` and `user_id`, whose it is; `title`; `archived`, 0 or 1;
//!   `next_index`, the index of its next turn; `queue_paused`, 0 or 1; `created_at`; `active_at`, when something was last accepted, saved or ended in it.
//! - `turnkit_turns`: `number`, the order of acceptance; `session_id` and `turn_index`; `parent_index`, the turn that it goes on
//!   from; `turn_id`, the client's name for it; `client_id`, what a front end named it where that is no `turn_id`;
//!   `execution_id`; `agent`; `state`, one of `open`, `complete`, `stopped` and `failed`; `dispatched` and `stop_asked`, 0 or 1;
//!   `failure_code` and `failure_message`; `created_at` and `ended_at`. The lease, and the claim that began it: `epoch`,
//!   `worker`, `nonce`, `ran`, `claimed_at`, `released`. `first_asked`, the SHA-256 of what its first request said, where it was
//!   edited in the queue. `said_bytes`, bytes of the text of question and answer, where the answer is whole and not blank; `said_before` and
//!   `said_bytes_before`, how many such turns are before it in its branch, and their bytes. `lane`, its own index, or that of its parent's
//!   lane where it is the first turn that has gone on from its parent.
//! - `turnkit_queue`: turns that wait, in the order of `number`: `session_id`, `turn_id`, `client_id`, `agent`, `message`; `after_id`
//!   and `replaces_id`, the turns that it was to follow or to stand in for; `first_asked`; `created_at`. Those that were removed
//!   keep their names, with `removed` 1.
//! - `turnkit_messages`: `execution_id` and `role`, `user` or `assistant`; `session_id` and `turn_index`; `text`; `parts`, a JSON
//!   array, and `summary`, a JSON object, of an answer of which there is more than its text: where there is one text
//!   part it may be empty, and has the `text` then; `status`, `complete` or what became of an answer that is not whole; `created_at`.
//! - `turnkit_deleted_sessions`, what is remembered of a deleted session: `id`, `tenant_id`, `user_id`, `name`, `deleted_at`; `scrubbed`, 1
//!   once the file holds nothing more of it. `turnkit_deleted_executions`: `execution_id`, `session_id`; `erased`, 1 once the
//!   substrate has erased it.
//! - `turnkit_feeds`, a row for each user: `tenant_id`, `user_id`; `feed`, its random name; `newest`, the counter of its entries;
//!   `dropped`, the number up to which they are not kept. `turnkit_feed_entries`: `feed` and `number`; `change` and `state`, what is told;
//!   `session_id`, `turn_id`, `at`, `interaction_id`.
//! - `turnkit_turn_names`, the names that turns were given beside their own: `number`, in the order in which they were given; `session_id`, `name`,
//!   `execution_id`.
//! - `turnkit_questions`, those of open turns: `number`, in the order in which they were asked; `execution_id`, `session_id`, `interaction_id`;
//!   `question`, the data of its `interaction`; `outcome`, once it is not pending any more.
//! - `turnkit_intents`, what users wanted to be passed on into turns: `number`; `execution_id`, `session_id`; `kind`, `answer` or `input`;
//!   `subject`, the id of the question or of the input; `outcome` and `content`, what was to be said; `user_id` and `created_at`, who said
//!   so, and when; `status`, what the substrate has answered, or 410 where the turn ended before that.
//! - `turnkit_sign_ins`: `secret` and `token`, the SHA-256 of each; `created_at` and `ends_at`.
//! - `turnkit_workers`: `id`; `renewed_at`, its last heartbeat.
//! - `turnkit_log`: one row, with `log_id`, the log that executions are dispatched to (PROTOCOL 3.5).
//! - `turnkit_schema`: one row, with `version`, that of these tables.
//!
//! A database of a newer schema is refused ([`StoreErrorKind::Newer`]), and one of an older schema is migrated when it is
//! opened. The tables of the binary before this crate, whose names had no prefix, are moved into these once.

mod connections;
mod damage;
mod deletion;
mod feed;
mod file_watch;
mod interactions;
mod leases;
mod queue;
mod rows;
mod schema;
mod sessions;
mod sign_ins;
mod turns;
mod workers;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{fmt, fs, io, thread};

use futures_core::future::BoxFuture;
use turnkit::Persisted;
use turnkit_id::{ExecutionId, LogId};

pub use rusqlite;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};

use self::connections::{Connections, Piece, Side};
use self::file_watch::FileWatch;
use self::workers::Worker;
use crate::store::{
    Accepted, ChatStore, Claim, Claimed, Decision, Deletion, Digest, EndedBy, FeedPage, FeedRead,
    Find, Found, History, HistoryLimits, Intended, Intent, Joined, Lease, MessagePage, NewRow,
    QueueChange, QueueChanged, Renewed, SessionList, SessionPage, SessionState, SessionUpdate,
    Siblings, SignIns, StoreError, StoreErrorKind, Stored, Told, Veto, Wish,
};
use crate::{Answer, Ending, Principal, SessionId, SessionInfo, Turn, TurnRef};

/// The longest time that a call waits for the lock of another process: with it, any answer comes within 10 s.
const MAX_BUSY: Duration = Duration::from_secs(8);

/// Sessions and turns in a SQLite file. Cheap to clone; clones are the same worker's handle.
///
/// When the last clone is dropped the handle closes as [`close`](ChatStore::close) does it, but nobody waits for that. Call
/// `close` before the process ends, so that nothing but the one file is left.
#[derive(Clone)]
pub struct SqliteStore {
    connections: Arc<Connections>,
    worker: Arc<Worker>,
    product: Option<Arc<dyn InTransaction>>,
    file: Arc<PathBuf>,
}

/// How a [`SqliteStore`] is opened.
#[derive(Clone, Debug)]
pub struct Builder {
    busy_timeout: Duration,
}

/// What the product writes about a turn, inside turnkit's own transactions: with them, or not at all (PROTOCOL 4.2).
///
/// Each is called once for each execution as far as the database shows: a call whose transaction is rolled back may come
/// again. A turn that was queued is accepted when it comes out of the queue, within the transaction that ends the turn before it. None is called where nothing is written: for a turn that is known, an answer that is saved, an ending that comes late.
///
/// An error or a panic undoes this turn's writes alone, and is an error of the call that wrote. All of it runs on the store's
/// one thread that writes, so it is to be short: no network, no waiting. A statement must not end the transaction. Foreign keys
/// are enforced; one that is deferred is checked at the commit, and fails whatever is committed with it.
pub trait InTransaction: Send + Sync + 'static {
    /// A turn is accepted, with its user's message.
    ///
    /// # Errors
    /// A [`Veto`] refuses it, and nothing is kept. After an error of the product's statements nothing is kept either. A turn that
    /// comes out of the queue is kept instead, as failed with what the veto says, or with the code `not_accepted`; what these
    /// statements wrote is undone.
    fn accepted(&self, transaction: &Transaction<'_>, turn: &Turn) -> Result<(), NotAccepted> {
        let _ = (transaction, turn);
        Ok(())
    }

    /// The turn's whole answer is saved. It may have [`ended`](Self::ended) before, without one.
    ///
    /// # Errors
    /// One of the product's statements: then the answer is not saved.
    fn saved(
        &self,
        transaction: &Transaction<'_>,
        turn: &Turn,
        answer: &Answer,
    ) -> rusqlite::Result<()> {
        let _ = (transaction, turn, answer);
        Ok(())
    }

    /// A session is about to be deleted. What the product keeps of it is to be deleted here, above all rows that refer to turnkit's:
    /// where a foreign key still does, the session stays.
    ///
    /// # Errors
    /// One of the product's statements: then nothing is deleted.
    fn deleted(
        &self,
        transaction: &Transaction<'_>,
        owner: &Principal,
        session: &SessionId,
    ) -> rusqlite::Result<()> {
        let _ = (transaction, owner, session);
        Ok(())
    }

    /// The turn has ended without a whole answer.
    ///
    /// # Errors
    /// One of the product's statements: then the turn stays open.
    fn ended(
        &self,
        transaction: &Transaction<'_>,
        turn: &Turn,
        ending: &Ending,
    ) -> rusqlite::Result<()> {
        let _ = (transaction, turn, ending);
        Ok(())
    }
}

/// Why a turn is not accepted: `?` makes it of both.
#[derive(Debug)]
pub enum NotAccepted {
    /// The product refuses it, and its client is told why.
    Veto(Veto),
    /// The product's statements failed.
    Failed(rusqlite::Error),
}

impl From<Veto> for NotAccepted {
    fn from(veto: Veto) -> NotAccepted {
        NotAccepted::Veto(veto)
    }
}

impl From<rusqlite::Error> for NotAccepted {
    fn from(error: rusqlite::Error) -> NotAccepted {
        NotAccepted::Failed(error)
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { busy_timeout: Duration::from_secs(5) }
    }
}

impl Builder {
    /// How long a call waits for the lock of another process before it is [`Busy`](StoreErrorKind::Busy). Default: 5 s; at
    /// most 8 s.
    #[must_use]
    pub fn busy_timeout(mut self, time: Duration) -> Builder {
        self.busy_timeout = time.min(MAX_BUSY);
        self
    }

    /// Opens the database in the file `path`. Blocks; see [`SqliteStore::open`].
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        let (file, writer, reader) = self.connect(path.as_ref())?;
        let watch = FileWatch::new(&file)
            .map_err(|error| unavailable(format!("cannot find {}", file.display()), error))?;
        let (worker, lock) =
            Worker::register(&file, Arc::new(SystemTime::now)).map_err(|error| {
                unavailable(format!("cannot lock a worker's file beside {}", file.display()), error)
            })?;
        let worker = Arc::new(worker);
        let threads =
            Connections::threads(writer, reader, Arc::clone(&worker), Arc::new(watch), lock);
        let connections =
            threads.map_err(|error| unavailable("cannot start a thread".to_owned(), error))?;
        Ok(SqliteStore::new(file, worker, connections))
    }

    /// The path as all handles know it, and its two connections, at the newest schema.
    fn connect(&self, path: &Path) -> Result<(PathBuf, Connection, Connection), StoreError> {
        // Within a process one at a time: to close a file that was just made would let go of another's locks on it.
        static OPENING: Mutex<()> = Mutex::new(());
        let _one = OPENING.lock().unwrap_or_else(PoisonError::into_inner);

        make_file(path)?;
        // Whatever links lead to it: its workers must meet.
        let file = fs::canonicalize(path)
            .map_err(|error| unavailable(format!("cannot find {}", path.display()), error))?;
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |access| -> Result<Connection, Fault> {
            let connection = Connection::open_with_flags(&file, flags | access)?;
            connection.busy_timeout(self.busy_timeout)?;
            connection.set_prepared_statement_cache_capacity(64);
            Ok(connection)
        };
        let prepared = (|| {
            let mut writer = open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            // A newer database is left as it is, also in its mode.
            schema::steps_taken(&writer)?;
            self.use_wal(&writer)?;
            // A client that was told `completed` can rely on it, also after a loss of power.
            writer.pragma_update(None, "synchronous", "FULL")?;
            writer.pragma_update(None, "foreign_keys", true)?;
            // What is deleted is overwritten, not only forgotten.
            writer.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
            schema::migrate(&mut writer)?;
            let reader = open(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            damage::check(&reader)?;
            Ok::<_, Fault>((writer, reader))
        })();
        let (writer, reader) = prepared.map_err(|fault| fault.0)?;
        Ok((file, writer, reader))
    }

    /// Another handle that opens a new file at the same time may be about to do the same, and there SQLite waits for nobody.
    fn use_wal(&self, writer: &Connection) -> Result<(), Fault> {
        let since = Instant::now();
        loop {
            let mode = writer.pragma_update_and_check(None, "journal_mode", "WAL", |row| {
                row.get::<_, String>(0)
            });
            match mode {
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(mode) => {
                    let text = format!("its journal stays in mode {mode}, and only wal will do");
                    return Err(StoreError::because(StoreErrorKind::Broken, text).into());
                }
                Err(error)
                    if kind_of(&error) == StoreErrorKind::Busy
                        && since.elapsed() < self.busy_timeout =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Makes the file, private to its user, where it is not there.
fn make_file(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let missing = directory.filter(|directory| !directory.is_dir());
            Err(unavailable(
                match missing {
                    Some(directory) => format!("the directory {} is missing", directory.display()),
                    None => format!("cannot make {}", path.display()),
                },
                error,
            ))
        }
    }
}

impl SqliteStore {
    /// Opens the database in the file `path`, which is made and brought to the newest schema where it has to be.
    ///
    /// It blocks, for a moment as a rule: call it before the product serves, or on a thread that may block.
    ///
    /// # Errors
    /// [`Unavailable`](StoreErrorKind::Unavailable) where the file cannot be used: its directory is missing, say;
    /// [`Newer`](StoreErrorKind::Newer), and the file stays as it is; [`Broken`](StoreErrorKind::Broken) for a file that is no
    /// database; [`Busy`](StoreErrorKind::Busy) where another process keeps it locked.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        Builder::default().open(path)
    }

    /// What can be set before it is opened.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens it without threads and without the workers' locks, by the time that `clock` says: for simulations. Whoever
    /// calls a method blocks, and a lock of another connection is `Busy` at once.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    #[cfg(any(test, feature = "simulation"))]
    pub fn in_place(
        path: impl AsRef<Path>,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Result<SqliteStore, StoreError> {
        let builder = SqliteStore::builder().busy_timeout(Duration::ZERO);
        let (file, writer, reader) = builder.connect(path.as_ref())?;
        let worker = Arc::new(Worker::by_clock(&file, Arc::new(clock)));
        let connections = Connections::in_place(writer, reader, Arc::clone(&worker));
        Ok(SqliteStore::new(file, worker, connections))
    }

    fn new(file: PathBuf, worker: Arc<Worker>, connections: Connections) -> SqliteStore {
        let (connections, file) = (Arc::new(connections), Arc::new(file));
        SqliteStore { connections, worker, product: None, file }
    }

    /// This store, with the product's statements in its transactions. Clones that were made before do not have them.
    #[must_use]
    pub fn within(mut self, product: impl InTransaction) -> SqliteStore {
        self.product = Some(Arc::new(product));
        self
    }

    /// Runs the product's own statements on the connection that reads, all in one transaction: they see one moment.
    ///
    /// Dropped, the statements run all the same. Others that read wait meanwhile.
    ///
    /// # Errors
    /// What `statements` fails with, as a [`StoreError`] whose source it is. A panic is one too.
    pub async fn read<T, F>(&self, statements: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.on(Side::Read, move |tx| statements(tx)).await
    }

    /// Runs the product's own statements in a transaction of the connection that writes. Where they fail, nothing of them
    /// stays.
    ///
    /// Dropped, the statements run all the same. Others that write wait meanwhile. They must not end the transaction.
    ///
    /// # Errors
    /// What `statements` fails with, as a [`StoreError`] whose source it is. A panic is one too.
    pub async fn write<T, F>(&self, statements: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.on(Side::Write, statements).await
    }

    async fn on<T, E, F>(&self, side: Side, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        E: Into<Fault>,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        self.connections.run(side, move |tx| Piece::from(work(tx))).await
    }

    fn writes<T, E, F>(&self, work: F) -> Stored<'_, T>
    where
        T: Send + 'static,
        E: Into<Fault> + 'static,
        F: FnOnce(&Transaction<'_>, &Worker) -> Result<T, E> + Send + 'static,
    {
        let worker = Arc::clone(&self.worker);
        Box::pin(self.on(Side::Write, move |tx| work(tx, &worker)))
    }

    /// Work that writes, and says whether there may be a turn now that nobody drives.
    fn frees<T, E, F>(&self, work: F) -> Stored<'_, T>
    where
        T: Send + 'static,
        E: Into<Fault> + 'static,
        F: FnOnce(&Transaction<'_>, &Worker) -> Result<(T, bool), E> + Send + 'static,
    {
        Box::pin(async move {
            let (done, freed) = self.writes(work).await?;
            if freed {
                self.worker.freed.ring();
            }
            Ok(done)
        })
    }

    fn reads<T, E, F>(&self, work: F) -> Stored<'_, T>
    where
        T: Send + 'static,
        E: Into<Fault> + 'static,
        F: FnOnce(&Connection, &Worker) -> Result<T, E> + Send + 'static,
    {
        let worker = Arc::clone(&self.worker);
        Box::pin(self.on(Side::Read, move |tx| work(tx, &worker)))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("file", &self.file)
            .field("worker", &self.worker.id)
            .finish_non_exhaustive()
    }
}

impl ChatStore for SqliteStore {
    fn join(&self, log: LogId) -> Stored<'_, Joined> {
        self.writes(move |db, worker| leases::join(db, worker, &log))
    }

    fn renew(&self, held: Vec<Lease>) -> Stored<'_, Renewed> {
        self.frees(move |db, worker| leases::renew(db, worker, held))
    }

    fn move_log(&self, from: LogId, to: LogId) -> Stored<'_, LogId> {
        self.writes(move |db, _| leases::move_log(db, &from, &to))
    }

    fn open_session(&self, owner: Principal, id: SessionId) -> Stored<'_, ()> {
        self.writes(move |db, worker| sessions::open(db, &owner, &id, worker.now()))
    }

    fn named(
        &self,
        owner: Principal,
        name: String,
        open: Option<SessionId>,
    ) -> Stored<'_, Option<SessionId>> {
        if open.is_none() {
            return self
                .reads(move |db, worker| sessions::named(db, &owner, &name, None, worker.now()));
        }
        self.writes(move |db, worker| sessions::named(db, &owner, &name, open, worker.now()))
    }

    fn sessions(&self, owner: Principal, page: SessionPage) -> Stored<'_, SessionList> {
        Box::pin(async move {
            let (who, what) = (owner.clone(), page.clone());
            if let Some(list) = self.reads(move |db, _| sessions::list(db, &who, &what)).await? {
                return Ok(list);
            }
            let made = self.writes(move |db, _| {
                feed::make(db, &owner)?;
                sessions::list(db, &owner, &page)
            });
            made.await?.ok_or_else(feed_is_gone)
        })
    }

    fn update_session(
        &self,
        owner: Principal,
        id: SessionId,
        update: SessionUpdate,
    ) -> Stored<'_, Option<SessionInfo>> {
        self.writes(move |db, worker| sessions::update(db, &owner, &id, &update, worker.now()))
    }

    fn session(
        &self,
        owner: Principal,
        id: SessionId,
        page: MessagePage,
    ) -> Stored<'_, Option<SessionState>> {
        self.reads(move |db, worker| sessions::state_of(db, worker, &owner, &id, page))
    }

    fn accept(&self, new: NewRow) -> Stored<'_, Accepted> {
        let (worker, product) = (Arc::clone(&self.worker), self.product.clone());
        Box::pin(async move {
            let accept =
                move |tx: &Transaction<'_>| turns::accept(tx, &worker, product.as_deref(), new);
            let (accepted, freed) = self.connections.run(Side::Write, accept).await?;
            if freed {
                self.worker.freed.ring();
            }
            Ok(accepted)
        })
    }

    fn change_queued(
        &self,
        owner: Principal,
        at: TurnRef,
        change: QueueChange,
    ) -> Stored<'_, QueueChanged> {
        self.writes(move |db, worker| queue::change(db, worker, &owner, &at, change))
    }

    fn find(&self, what: Find) -> Stored<'_, Found> {
        self.reads(move |db, worker| rows::find(db, worker, &what))
    }

    fn name_turn(&self, owner: Principal, at: TurnRef, name: String) -> Stored<'_, ()> {
        self.writes(move |db, _| turns::name(db, &owner, &at, &name))
    }

    fn siblings(&self, owner: Principal, at: TurnRef) -> Stored<'_, Option<Siblings>> {
        self.reads(move |db, worker| turns::siblings(db, worker, &owner, &at))
    }

    fn claim(&self, claim: Claim) -> Stored<'_, Claimed> {
        self.writes(move |db, worker| leases::claim(db, worker, &claim))
    }

    fn release(&self, lease: Lease) -> Stored<'_, ()> {
        self.frees(move |db, _| leases::release(db, &lease).map(|()| ((), true)))
    }

    fn save(&self, execution_id: ExecutionId, answer: Answer) -> Stored<'_, Persisted> {
        let product = self.product.clone();
        self.frees(move |tx, worker| {
            turns::save(tx, worker, product.as_deref(), &execution_id, &answer)
        })
    }

    fn end(&self, by: EndedBy, ending: Ending) -> Stored<'_, bool> {
        let product = self.product.clone();
        self.frees(move |tx, worker| turns::end(tx, worker, product.as_deref(), &by, &ending))
    }

    fn note(&self, execution_id: ExecutionId, told: Vec<Told>) -> Stored<'_, ()> {
        self.writes(move |db, worker| interactions::note(db, worker, &execution_id, told))
    }

    fn intend(&self, owner: Principal, at: TurnRef, wish: Wish) -> Stored<'_, Intended> {
        self.writes(move |db, worker| interactions::intend(db, worker, owner, &at, wish))
    }

    fn decide(&self, intent: u64, decision: Decision) -> Stored<'_, ()> {
        self.writes(move |db, worker| interactions::decide(db, worker, intent, decision))
    }

    fn undecided(&self, after: u64, limit: usize) -> Stored<'_, Vec<Intent>> {
        self.reads(move |db, _| interactions::undecided(db, after, limit))
    }

    fn ask_to_stop(&self, execution_id: ExecutionId) -> Stored<'_, ()> {
        self.writes(move |db, worker| turns::ask_to_stop(db, worker, &execution_id))
    }

    fn saved(&self, execution_id: ExecutionId) -> Stored<'_, Option<Answer>> {
        self.reads(move |db, _| turns::saved(db, &execution_id))
    }

    fn unattended(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.reads(move |db, worker| leases::unattended(db, worker, limit))
    }

    fn history(&self, turn: Turn, limits: HistoryLimits) -> Stored<'_, History> {
        self.reads(move |db, _| sessions::history(db, &turn, limits))
    }

    /// Ready when a handle of this process, or this one, has given up a lease or opened a turn that had waited.
    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.worker.freed.rung(&self.worker.heard))
    }

    fn feed(&self, owner: Principal, read: FeedRead) -> Stored<'_, FeedPage> {
        Box::pin(async move {
            let (who, what) = (owner.clone(), read.clone());
            let page = self.reads(move |db, _| feed::read(db, &who, &what)).await?;
            if let Some(page) = page {
                return Ok(page);
            }
            let made = self.writes(move |db, _| {
                feed::make(db, &owner)?;
                feed::read(db, &owner, &read)
            });
            made.await?.ok_or_else(feed_is_gone)
        })
    }

    /// What SQLite counts of the commits of all other connections, that which writes here among them.
    fn version(&self) -> Stored<'_, u64> {
        self.reads(|db, _| {
            let read = |row: &rusqlite::Row<'_>| rows::unsigned(row, 0);
            db.prepare_cached("PRAGMA data_version")?.query_row([], read)
        })
    }

    fn delete_session(&self, deletion: Deletion) -> Stored<'_, bool> {
        let product = self.product.clone();
        Box::pin(async move {
            let delete = move |tx: &Transaction<'_>, worker: &Worker| {
                deletion::delete(tx, worker, product.as_deref(), &deletion)
            };
            let is_deleted = self.writes(delete).await?;
            if is_deleted && !self.scrub().await? {
                tracing::debug!(
                    "a reader keeps the log of the database from being cut: it is tried again"
                );
            }
            Ok(is_deleted)
        })
    }

    fn idle_sessions(
        &self,
        since: SystemTime,
        limit: usize,
    ) -> Stored<'_, Vec<(Principal, SessionId)>> {
        self.reads(move |db, _| deletion::idle(db, since, limit))
    }

    fn to_erase(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.reads(move |db, _| deletion::to_erase(db, limit))
    }

    fn erased(&self, executions: Vec<ExecutionId>) -> Stored<'_, ()> {
        self.writes(move |db, worker| deletion::erased(db, worker, &executions))
    }

    /// Cuts the log that SQLite writes ahead to nothing. What was deleted is overwritten in the file itself.
    fn scrub(&self) -> Stored<'_, bool> {
        Box::pin(async move {
            if !self.reads(|db, _| deletion::is_to_scrub(db)).await? {
                return Ok(true);
            }
            if !self.connections.truncate_log(&self.file).await? {
                return Ok(false);
            }
            self.writes(|db, _| deletion::scrubbed(db)).await?;
            Ok(true)
        })
    }

    fn check(&self) -> Stored<'_, ()> {
        if !self.connections.are_open() {
            let closed = StoreError::because(StoreErrorKind::Unavailable, "the handle is closed");
            return Box::pin(std::future::ready(Err(closed)));
        }
        self.reads(|db, _| schema::steps_taken(db).map(drop))
    }

    /// Waits until both connections are closed: where no other handle has the database open, one file is left.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.connections.close())
    }

    fn sign_ins(&self) -> Option<&dyn SignIns> {
        Some(self)
    }
}

impl SignIns for SqliteStore {
    fn sign_in(&self, secret: Digest, token: Digest, lasts: Duration) -> Stored<'_, ()> {
        let lasts = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
        self.writes(move |db, worker| sign_ins::insert(db, secret, token, lasts, worker.now()))
    }

    fn signed_in(&self, secret: Digest) -> Stored<'_, Option<Digest>> {
        self.reads(move |db, worker| sign_ins::token(db, secret, worker.now()))
    }

    fn sign_out(&self, secret: Digest) -> Stored<'_, ()> {
        self.writes(move |db, _| sign_ins::delete(db, secret))
    }
}

fn feed_is_gone() -> StoreError {
    StoreError::because(StoreErrorKind::Broken, "a feed that was just made is gone")
}

/// An error inside a transaction. It keeps rusqlite's out of the public [`StoreError`].
struct Fault(StoreError);

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault(StoreError::because(kind_of(&error), without_statement(error)))
    }
}

/// An error names what is wrong; the whole statement, of many lines, is no help to whoever reads a log.
#[cfg_attr(
    not(feature = "bundled"),
    expect(
        clippy::missing_const_for_fn,
        reason = "an SQLite of the system may have no such error"
    )
)]
fn without_statement(error: rusqlite::Error) -> rusqlite::Error {
    match error {
        #[cfg(feature = "bundled")]
        rusqlite::Error::SqlInputError { error, msg, .. } => {
            rusqlite::Error::SqliteFailure(error, Some(msg))
        }
        error => error,
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault(error)
    }
}

/// Tells the product's statements from turnkit's own, in a log.
#[derive(Debug, thiserror::Error)]
#[error("run the product's statements in `{method}`")]
struct OwnStatements {
    method: &'static str,
    #[source]
    source: rusqlite::Error,
}

impl OwnStatements {
    fn failed(method: &'static str, source: rusqlite::Error) -> Fault {
        let kind = kind_of(&source);
        Fault(StoreError::because(kind, OwnStatements { method, source }))
    }
}

/// What one can do about an error before a commit: nothing was done.
fn kind_of(error: &rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory,
        ) => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Broken,
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Unusable {
    what: String,
    #[source]
    source: io::Error,
}

fn unavailable(what: String, source: io::Error) -> StoreError {
    StoreError::because(StoreErrorKind::Unavailable, Unusable { what, source })
}
