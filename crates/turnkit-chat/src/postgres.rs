//! The store in PostgreSQL, for the processes of any number of machines.
//!
//! The database may be the product's own: turnkit keeps to tables whose names begin with `turnkit_`, in the first schema of the
//! `search_path`. The product's statements can be part of turnkit's transactions ([`InTransaction`]), or use its connections
//! ([`PostgresStore::read`], [`PostgresStore::write`]).
//!
//! Each call is one transaction on a connection of a pool. A transaction that writes about a session has the session's row locked from its
//! first statement on, so what is decided by what was read is decided once; a claim is one statement, and locks its turn. All times are the server's (`clock_timestamp()`), leases too.
//! What was undone because of others (a deadlock) is done again; what the database is too busy for is [`Busy`](StoreErrorKind::Busy); where the
//! answer to a commit is lost, the call is [`OutcomeUnknown`](StoreErrorKind::OutcomeUnknown), and made again it answers as if it had not been made
//! before. Each statement is bounded to a third of a lease.
//!
//! Nothing of a session of PostgreSQL is relied on beyond a transaction, so a proxy that pools transactions may stand in between. Statements
//! of transactions that write are prepared where each finds itself in the session in which its connection began, and not elsewhere. One
//! connection listens for what other processes tell (`LISTEN`); where nothing is heard, the log says so, and the database is looked into each
//! second.
//!
//! # What is promised
//! What a commit of PostgreSQL promises. Where the server is set up not to wait for its disk (`synchronous_commit = off`), turnkit's
//! transactions wait all the same. A failover to a synchronous standby loses nothing that was told; one to an asynchronous standby may lose
//! the latest commits, also those of answers that were told as saved. Several hosts can be named: the one that takes writes is used.
//!
//! # TLS
//! As the URL's `sslmode` says: `disable`, `prefer` (the default) or `require`. Where TLS is spoken the server's certificate is verified, as the
//! platform does it; `SSL_CERT_FILE` names a private authority.
//!
//! # Tables
//! To be read, and referred to by foreign keys; not to be written. PostgreSQL's text holds no NUL: it is kept as U+10FFFF and `0`.
//!
//! - `turnkit_sessions`: `number`, the order of opening; `id`; `name`, its owner's name for it; `tenant_id` and `user_id`, whose it is; `title`; `next_index`, the
//!   index of its next turn; `queue_paused`; `created_at`; `active_at`, when something was last accepted, saved or ended in it.
//! - `turnkit_turns`: `number`, the order of acceptance; `session_id` and `turn_index`; `parent_index`, the turn that it goes on
//!   from; `turn_id`, the client's name for it; `client_id`, what a front end named it where that is no `turn_id`;
//!   `execution_id`; `agent`; `state`, one of `open`, `complete`, `stopped` and `failed`; `dispatched` and `stop_asked`;
//!   `failure_code` and `failure_message`; `created_at` and `ended_at`. The lease, and the claim that began it: `epoch`,
//!   `worker`, `nonce`, `ran`, `claimed_at`, `released`. `first_asked`, the SHA-256 of what its first request said, where it was
//!   edited in the queue. `said_bytes`, bytes of the text of question and answer, where the answer is whole and not blank; `said_before` and
//!   `said_bytes_before`, how many such turns are before it in its branch, and their bytes. `lane`, its own index, or that of its parent's
//!   lane where it is the first turn that has gone on from its parent.
//! - `turnkit_queue`: turns that wait, in the order of `number`: `session_id`, `turn_id`, `client_id`, `agent`, `message`; `after_id`
//!   and `replaces_id`, the turns that it was to follow or to stand in for; `first_asked`; `created_at`. Those that were removed
//!   keep their names, with `removed`.
//! - `turnkit_messages`: `execution_id` and `role`, `user` or `assistant`; `session_id` and `turn_index`; `text`; `parts`, a JSON
//!   array, and `summary`, a JSON object, of an answer of which there is more than its text: where there is one text
//!   part it may be empty, and has the `text` then; `status`, `complete` or what became of an answer that is not whole; `created_at`.
//! - `turnkit_deleted_sessions`, what is remembered of a deleted session: `id`, `tenant_id`, `user_id`, `name`, `deleted_at`.
//!   `turnkit_deleted_executions`: `execution_id`, `session_id`; `erased`, once the substrate has erased it.
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
//! A database of a newer schema is refused ([`StoreErrorKind::Newer`]), and one of an older schema is migrated when it is opened, in one
//! transaction. What is deleted is gone from the tables at once, from their files when PostgreSQL vacuums them, and from its write-ahead log
//! and backups when these are.

mod connections;
mod deletion;
mod faults;
mod feed;
mod interactions;
mod leases;
mod queue;
mod rows;
mod schema;
mod sessions;
mod sign_ins;
mod tls;
mod transaction;
mod turns;
mod values;
mod wakes;

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turnkit::Persisted;
use turnkit_id::{ExecutionId, LogId};
use uuid::Uuid;

pub use tokio_postgres;
use tokio_postgres::Transaction;

use self::connections::{Pool, Server};
use self::faults::Fault;
use self::transaction::{Access, BOUNDS, Tx, Work};
use self::values::text;
use crate::store::{
    Accepted, Bell, ChatStore, Claim, Claimed, Decision, Deletion, Digest, EndedBy, FeedPage,
    FeedRead, Find, Found, History, HistoryLimits, Intended, Intent, Joined, Lease, MessagePage,
    NewRow, QueueChange, QueueChanged, Renewed, SessionList, SessionPage, SessionState,
    SessionUpdate, Siblings, SignIns, StoreError, StoreErrorKind, Stored, Told, Veto, Wish,
};
use crate::{Answer, Ending, Principal, SessionId, SessionInfo, Turn, TurnRef};

/// How long a handle that closes tries to take itself from the database.
const LEAVE: Duration = Duration::from_secs(3);

/// Sessions and turns in a PostgreSQL database. Cheap to clone; clones are the same worker's handle.
///
/// It needs tokio. When the last clone is dropped the handle closes as [`close`](ChatStore::close) does it, but nobody waits for that.
#[derive(Clone)]
pub struct PostgresStore {
    worker: Arc<Worker>,
    product: Option<Arc<dyn InTransaction>>,
}

/// How a [`PostgresStore`] is opened.
#[derive(Clone)]
pub struct Builder {
    url: String,
    connections: usize,
}

/// What the product writes about a turn, inside turnkit's own transactions: with them, or not at all (PROTOCOL 4.2).
///
/// Each is called once for each execution as far as the database shows: a call whose transaction is undone may come again. A turn that was
/// queued is accepted when it comes out of the queue, within the transaction that ends the turn before it. None is called where nothing is
/// written: for a turn that is known, an answer that is saved, an ending that comes late.
///
/// An error or a panic undoes the transaction, and is an error of the call that wrote. The session's row is locked meanwhile, and each
/// statement is bounded, so they are to be short: no network, no waiting. A statement must not end the transaction. Behind a proxy that
/// pools transactions nothing may be prepared: use `query_typed` and `execute_typed`.
pub trait InTransaction: Send + Sync + 'static {
    /// A turn is accepted, with its user's message.
    ///
    /// # Errors
    /// A [`Veto`] refuses it, and nothing is kept. After an error of the product's statements nothing is kept either. A turn that
    /// comes out of the queue is kept instead, as failed with what the veto says, or with the code `not_accepted`; what these
    /// statements wrote is undone.
    fn accepted<'t>(
        &'t self,
        transaction: &'t Transaction<'t>,
        turn: &'t Turn,
    ) -> BoxFuture<'t, Result<(), NotAccepted>> {
        let _ = (transaction, turn);
        Box::pin(std::future::ready(Ok(())))
    }

    /// The turn's whole answer is saved. It may have [`ended`](Self::ended) before, without one. Its questions and inputs have ended by then.
    ///
    /// # Errors
    /// One of the product's statements: then the answer is not saved.
    fn saved<'t>(
        &'t self,
        transaction: &'t Transaction<'t>,
        turn: &'t Turn,
        answer: &'t Answer,
    ) -> BoxFuture<'t, Result<(), tokio_postgres::Error>> {
        let _ = (transaction, turn, answer);
        Box::pin(std::future::ready(Ok(())))
    }

    /// A session is about to be deleted. What the product keeps of it is to be deleted here, above all rows that refer to turnkit's:
    /// where a foreign key still does, the session stays.
    ///
    /// # Errors
    /// One of the product's statements: then nothing is deleted.
    fn deleted<'t>(
        &'t self,
        transaction: &'t Transaction<'t>,
        owner: &'t Principal,
        session: &'t SessionId,
    ) -> BoxFuture<'t, Result<(), tokio_postgres::Error>> {
        let _ = (transaction, owner, session);
        Box::pin(std::future::ready(Ok(())))
    }

    /// The turn has ended without a whole answer.
    ///
    /// # Errors
    /// One of the product's statements: then the turn stays open.
    fn ended<'t>(
        &'t self,
        transaction: &'t Transaction<'t>,
        turn: &'t Turn,
        ending: &'t Ending,
    ) -> BoxFuture<'t, Result<(), tokio_postgres::Error>> {
        let _ = (transaction, turn, ending);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Why a turn is not accepted: `?` makes it of both.
#[derive(Debug)]
pub enum NotAccepted {
    /// The product refuses it, and its client is told why.
    Veto(Veto),
    /// The product's statements failed.
    Failed(tokio_postgres::Error),
}

impl From<Veto> for NotAccepted {
    fn from(veto: Veto) -> NotAccepted {
        NotAccepted::Veto(veto)
    }
}

impl From<tokio_postgres::Error> for NotAccepted {
    fn from(error: tokio_postgres::Error) -> NotAccepted {
        NotAccepted::Failed(error)
    }
}

impl Builder {
    /// How many connections it has at most, beside the one that listens. Default: 16; at least 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Builder {
        self.connections = connections.max(1);
        self
    }

    /// Whether the URL can be one, as far as that can be told without asking anybody.
    ///
    /// # Errors
    /// [`Broken`](StoreErrorKind::Broken), with what is wrong and without the URL; [`Unavailable`](StoreErrorKind::Unavailable) where the URL
    /// asks for TLS and nobody does the cryptography.
    pub fn check(&self) -> Result<(), StoreError> {
        Server::parse(&self.url).map(drop).map_err(|fault| fault.error)
    }

    /// Opens the database; see [`PostgresStore::open`].
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`].
    pub async fn open(&self) -> Result<PostgresStore, StoreError> {
        let shared = Shared::open(self).await.map_err(|fault| fault.error)?;
        let worker = Arc::new(Worker(Arc::new(shared)));
        worker.0.tasks.spawn(wakes::tell(Arc::clone(&worker.0)));
        worker.0.tasks.spawn(wakes::listen(Arc::clone(&worker.0)));
        Ok(PostgresStore { worker, product: None })
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// Closes the handle when the last clone of it is dropped.
struct Worker(Arc<Shared>);

/// What the clones of a handle, their calls and their tasks share.
struct Shared {
    pool: Pool,
    /// The worker's id.
    worker: String,
    /// What bounds each transaction.
    bounds: String,
    /// Whether statements are prepared, where a session is known to be a connection's own.
    prepares: AtomicBool,
    /// Rings when there may be a turn that nobody drives.
    freed: Bell,
    /// How often this handle has heard it.
    heard: AtomicU64,
    /// There is something to tell the other handles.
    to_tell: Notify,
    closing: CancellationToken,
    /// Calls under way, and the tasks of this handle.
    tasks: TaskTracker,
    left: OnceCell<()>,
}

impl Shared {
    async fn open(builder: &Builder) -> Result<Shared, Fault> {
        let pool = Server::parse(&builder.url)?.pool(builder.connections);
        let is_lax = schema::migrate(&mut *connections::get(&pool).await?).await?;
        let bounds = if is_lax {
            format!("{BOUNDS}, set_config('synchronous_commit', 'on', true)")
        } else {
            BOUNDS.to_owned()
        };
        Ok(Shared {
            pool,
            worker: Uuid::new_v4().to_string(),
            bounds,
            prepares: AtomicBool::new(true),
            freed: Bell::default(),
            heard: AtomicU64::new(0),
            to_tell: Notify::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            left: OnceCell::new(),
        })
    }

    fn tell_freed(&self) {
        self.freed.ring();
        self.to_tell.notify_one();
    }

    /// Takes no more calls, waits for those under way, and takes the worker from the database, and with it every lease that it holds. Where that
    /// fails, the clock tells the same a little later.
    async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        let leave = async {
            self.tasks.wait().await;
            let leaving = async {
                let connection = connections::get(&self.pool).await?;
                let sql = format!(
                    "DELETE FROM turnkit_workers WHERE id = '{0}'; NOTIFY turnkit_freed, '{0}'",
                    self.worker
                );
                Ok::<_, Fault>(connection.batch_execute(&sql).await?)
            };
            match tokio::time::timeout(LEAVE, leaving).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => {
                    let error = &fault.error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot take a worker that ends from the database");
                }
                Err(_) => {
                    tracing::warn!("cannot take a worker that ends from the database in time");
                }
            }
            self.pool.close();
            self.freed.ring();
        };
        self.left.get_or_init(|| Box::pin(leave)).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.closing.cancel();
        if let Ok(runtime) = Handle::try_current() {
            let shared = Arc::clone(&self.0);
            runtime.spawn(async move { shared.close().await });
        }
    }
}

impl PostgresStore {
    /// Opens the database that `url` names, `postgres://user:password@host:port/database?option=value`, and brings it to the newest schema where
    /// it has to be. Options are those of [`tokio_postgres::Config`]; a socket's directory is the option `host`.
    ///
    /// # Errors
    /// [`Unavailable`](StoreErrorKind::Unavailable) where the server cannot be reached, refuses the user, or takes no writes;
    /// [`Newer`](StoreErrorKind::Newer), and the database stays as it is; [`Broken`](StoreErrorKind::Broken) for what is no URL, a server
    /// before PostgreSQL 13, and an encoding other than UTF-8; [`Busy`](StoreErrorKind::Busy) where another process migrates it.
    pub async fn open(url: impl Into<String>) -> Result<PostgresStore, StoreError> {
        PostgresStore::builder(url).open().await
    }

    /// What can be set before it is opened.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder { url: url.into(), connections: 16 }
    }

    /// This store, with the product's statements in its transactions. Clones that were made before do not have them.
    #[must_use]
    pub fn within(mut self, product: impl InTransaction) -> PostgresStore {
        self.product = Some(Arc::new(product));
        self
    }

    /// Runs the product's own statements in a transaction that sees one moment and writes nothing.
    ///
    /// Dropped, they run to their end. They are given 6 s, and each statement 5 s.
    ///
    /// # Errors
    /// What `statements` fails with, as a [`StoreError`] whose source says it. A panic is one too.
    pub async fn read<T, F>(&self, statements: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t Transaction<'t>) -> BoxFuture<'t, Result<T, tokio_postgres::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.run(Access::Read, statements, |tx, statements| Box::pin(own(tx, "read", statements)))
            .await
    }

    /// Runs the product's own statements in a transaction. Where they fail, nothing of them stays. They are run again where the transaction
    /// was undone because of others.
    ///
    /// Dropped, they run to their end. They are given 6 s, and each statement 5 s. They must not end the transaction.
    ///
    /// # Errors
    /// What `statements` fails with, as a [`StoreError`] whose source says it. A panic is one too.
    pub async fn write<T, F>(&self, statements: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t Transaction<'t>) -> BoxFuture<'t, Result<T, tokio_postgres::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.run(Access::Write, statements, |tx, statements| Box::pin(own(tx, "write", statements)))
            .await
    }

    /// Does `work` on a task of its own, so that it is done whole or not at all whoever leaves.
    fn run<I, T>(&self, access: Access, input: I, work: Work<I, T>) -> Stored<'_, T>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (shared, product) = (Arc::clone(&self.worker.0), self.product.clone());
        Box::pin(async move {
            if shared.closing.is_cancelled() {
                return Err(connections::closed().error);
            }
            let tasks = shared.tasks.clone();
            let done = tasks.spawn(async move {
                transaction::run(&shared, product.as_deref(), access, &input, work).await
            });
            match done.await {
                Ok(done) => done.map_err(|fault| fault.error),
                Err(error) => Err(StoreError::because(StoreErrorKind::OutcomeUnknown, error)),
            }
        })
    }

    fn writes<I, T>(&self, input: I, work: Work<I, T>) -> Stored<'_, T>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.run(Access::Write, input, work)
    }

    fn reads<I, T>(&self, input: I, work: Work<I, T>) -> Stored<'_, T>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.run(Access::Read, input, work)
    }
}

/// Runs statements of the product's alone.
async fn own<T, F>(tx: &mut Tx<'_>, method: &'static str, statements: &F) -> Result<T, Fault>
where
    F: for<'t> Fn(&'t Transaction<'t>) -> BoxFuture<'t, Result<T, tokio_postgres::Error>>,
{
    tx.write("SELECT", &[]).await?;
    let done = Tx::guarded(statements(&tx.transaction)).await?;
    done.map_err(|error| Fault::of_product(method, &error))
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("worker", &self.worker.0.worker)
            .finish_non_exhaustive()
    }
}

impl ChatStore for PostgresStore {
    fn join(&self, log: LogId) -> Stored<'_, Joined> {
        self.writes(log, |tx, log| Box::pin(leases::join(tx, log)))
    }

    fn renew(&self, held: Vec<Lease>) -> Stored<'_, Renewed> {
        self.writes(held, |tx, held| Box::pin(leases::renew(tx, held)))
    }

    fn move_log(&self, from: LogId, to: LogId) -> Stored<'_, LogId> {
        self.writes((from, to), |tx, (from, to)| Box::pin(leases::move_log(tx, from, to)))
    }

    fn open_session(&self, owner: Principal, id: SessionId) -> Stored<'_, ()> {
        self.writes((owner, id), |tx, (owner, id)| Box::pin(sessions::open(tx, owner, id)))
    }

    fn named(
        &self,
        owner: Principal,
        name: String,
        open: Option<SessionId>,
    ) -> Stored<'_, Option<SessionId>> {
        let access = if open.is_some() { Access::Write } else { Access::Read };
        self.run(access, (owner, name, open), |tx, (owner, name, open)| {
            Box::pin(sessions::named(tx, owner, name, open.as_ref()))
        })
    }

    fn sessions(&self, owner: Principal, page: SessionPage) -> Stored<'_, SessionList> {
        Box::pin(async move {
            let input = (owner, page);
            let list = self
                .reads(input.clone(), |tx, (owner, page)| Box::pin(sessions::list(tx, owner, page)))
                .await?;
            if let Some(list) = list {
                return Ok(list);
            }
            let made = self.writes(input, |tx, (owner, page)| {
                Box::pin(async move {
                    feed::make(tx, owner).await?;
                    sessions::list(tx, owner, page).await
                })
            });
            let gone =
                || StoreError::because(StoreErrorKind::Broken, "a feed that was just made is gone");
            made.await?.ok_or_else(gone)
        })
    }

    fn update_session(
        &self,
        owner: Principal,
        id: SessionId,
        update: SessionUpdate,
    ) -> Stored<'_, Option<SessionInfo>> {
        self.writes((owner, id, update), |tx, (owner, id, update)| {
            Box::pin(sessions::update(tx, owner, id, update))
        })
    }

    fn session(
        &self,
        owner: Principal,
        id: SessionId,
        page: MessagePage,
    ) -> Stored<'_, Option<SessionState>> {
        self.reads((owner, id, page), |tx, (owner, id, page)| {
            Box::pin(sessions::state_of(tx, owner, id, *page))
        })
    }

    fn accept(&self, new: NewRow) -> Stored<'_, Accepted> {
        self.writes(new, |tx, new| Box::pin(turns::accept(tx, new)))
    }

    fn change_queued(
        &self,
        owner: Principal,
        at: TurnRef,
        change: QueueChange,
    ) -> Stored<'_, QueueChanged> {
        self.writes((owner, at, change), |tx, (owner, at, change)| {
            Box::pin(queue::change(tx, owner, at, change))
        })
    }

    fn find(&self, what: Find) -> Stored<'_, Found> {
        self.reads(what, |tx, what| Box::pin(rows::find(tx, what)))
    }

    fn name_turn(&self, owner: Principal, at: TurnRef, name: String) -> Stored<'_, ()> {
        self.writes((owner, at, name), |tx, (owner, at, name)| {
            Box::pin(turns::name(tx, owner, at, name))
        })
    }

    fn siblings(&self, owner: Principal, at: TurnRef) -> Stored<'_, Option<Siblings>> {
        self.reads((owner, at), |tx, (owner, at)| Box::pin(turns::siblings(tx, owner, at)))
    }

    fn claim(&self, claim: Claim) -> Stored<'_, Claimed> {
        self.writes(claim, |tx, claim| Box::pin(leases::claim(tx, claim)))
    }

    fn release(&self, lease: Lease) -> Stored<'_, ()> {
        self.writes(lease, |tx, lease| Box::pin(leases::release(tx, lease)))
    }

    fn save(&self, execution_id: ExecutionId, answer: Answer) -> Stored<'_, Persisted> {
        self.writes((execution_id, answer), |tx, (id, answer)| {
            Box::pin(turns::save(tx, id, answer))
        })
    }

    fn end(&self, by: EndedBy, ending: Ending) -> Stored<'_, bool> {
        self.writes((by, ending), |tx, (by, ending)| Box::pin(turns::end(tx, by, ending)))
    }

    fn note(&self, execution_id: ExecutionId, told: Vec<Told>) -> Stored<'_, ()> {
        self.writes((execution_id, told), |tx, (id, told)| {
            Box::pin(interactions::note(tx, id, told))
        })
    }

    fn intend(&self, owner: Principal, at: TurnRef, wish: Wish) -> Stored<'_, Intended> {
        self.writes((owner, at, wish), |tx, (owner, at, wish)| {
            Box::pin(interactions::intend(tx, owner, at, wish))
        })
    }

    fn decide(&self, intent: u64, decision: Decision) -> Stored<'_, ()> {
        self.writes((intent, decision), |tx, (intent, decision)| {
            Box::pin(interactions::decide(tx, *intent, *decision))
        })
    }

    fn undecided(&self, after: u64, limit: usize) -> Stored<'_, Vec<Intent>> {
        self.reads((after, limit), |tx, &(after, limit)| {
            Box::pin(interactions::undecided(tx, after, limit))
        })
    }

    fn ask_to_stop(&self, execution_id: ExecutionId) -> Stored<'_, ()> {
        self.writes(execution_id, |tx, id| Box::pin(turns::ask_to_stop(tx, id)))
    }

    fn saved(&self, execution_id: ExecutionId) -> Stored<'_, Option<Answer>> {
        self.reads(execution_id, |tx, id| Box::pin(turns::saved(tx, id)))
    }

    fn unattended(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.reads(limit, |tx, limit| Box::pin(leases::unattended(tx, *limit)))
    }

    fn history(&self, turn: Turn, limits: HistoryLimits) -> Stored<'_, History> {
        self.reads((turn, limits), |tx, (turn, limits)| {
            Box::pin(sessions::history(tx, turn, *limits))
        })
    }

    /// Ready when any handle on the database has given up a lease or opened a turn that had waited, or a lease has run out.
    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.worker.0.freed.rung(&self.worker.0.heard))
    }

    fn feed(&self, owner: Principal, read: FeedRead) -> Stored<'_, FeedPage> {
        Box::pin(async move {
            let input = (owner, read);
            let page = self
                .reads(input.clone(), |tx, (owner, read)| Box::pin(feed::read(tx, owner, read)))
                .await?;
            if let Some(page) = page {
                return Ok(page);
            }
            let made = self.writes(input, |tx, (owner, read)| {
                Box::pin(async move {
                    feed::make(tx, owner).await?;
                    feed::read(tx, owner, read).await
                })
            });
            let gone =
                || StoreError::because(StoreErrorKind::Broken, "a feed that was just made is gone");
            made.await?.ok_or_else(gone)
        })
    }

    /// Of the transactions that are seen as committed: it changes as soon as one more is, not before.
    fn version(&self) -> Stored<'_, u64> {
        self.reads((), |tx, ()| {
            Box::pin(async move {
                let row = tx.one("SELECT pg_current_snapshot()::text", &[]).await?;
                let mut hasher = DefaultHasher::new();
                text(&row, 0)?.hash(&mut hasher);
                Ok(hasher.finish())
            })
        })
    }

    fn delete_session(&self, deletion: Deletion) -> Stored<'_, bool> {
        self.writes(deletion, |tx, deletion| Box::pin(deletion::delete(tx, deletion)))
    }

    fn idle_sessions(
        &self,
        since: SystemTime,
        limit: usize,
    ) -> Stored<'_, Vec<(Principal, SessionId)>> {
        self.reads((since, limit), |tx, (since, limit)| {
            Box::pin(deletion::idle(tx, *since, *limit))
        })
    }

    fn to_erase(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.reads(limit, |tx, limit| Box::pin(deletion::to_erase(tx, *limit)))
    }

    fn erased(&self, executions: Vec<ExecutionId>) -> Stored<'_, ()> {
        self.writes(executions, |tx, executions| Box::pin(deletion::erased(tx, executions)))
    }

    /// Whether it can be read, is of this version, and takes writes.
    fn check(&self) -> Stored<'_, ()> {
        self.writes((), |tx, ()| {
            Box::pin(async move {
                // First of all, as the bounds go with it.
                let row = tx.one("SELECT current_setting('transaction_read_only')", &[]).await?;
                schema::steps_taken(&tx.transaction).await?;
                if text(&row, 0)? == "on" {
                    let why = "the database takes no writes";
                    return Err(Fault::because(StoreErrorKind::Unavailable, why));
                }
                Ok(())
            })
        })
    }

    /// Waits for calls under way, and until the worker is taken from the database: 3 s at most.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.worker.0.close())
    }

    fn sign_ins(&self) -> Option<&dyn SignIns> {
        Some(self)
    }
}

impl SignIns for PostgresStore {
    fn sign_in(&self, secret: Digest, token: Digest, lasts: Duration) -> Stored<'_, ()> {
        self.writes((secret, token, lasts), |tx, (secret, token, lasts)| {
            Box::pin(sign_ins::insert(tx, secret, token, *lasts))
        })
    }

    fn signed_in(&self, secret: Digest) -> Stored<'_, Option<Digest>> {
        self.reads(secret, |tx, secret| Box::pin(sign_ins::token(tx, secret)))
    }

    fn sign_out(&self, secret: Digest) -> Stored<'_, ()> {
        self.writes(secret, |tx, secret| Box::pin(sign_ins::delete(tx, secret)))
    }
}
