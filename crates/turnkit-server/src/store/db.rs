//! The database connections, and the threads that own them.
//!
//! SQLite blocks, and it has one writer at a time. So one thread writes: it takes what has queued up while it was busy and
//! commits it as one transaction, each piece behind a savepoint of its own. A thousand turns that begin in the same moment
//! cost a few syncs to the disk, not a thousand. Another thread reads, and is never held up by a commit.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::StoreError;
use crate::environment::{Environment, Pause};

/// Work that may wait for the thread. Who has more waits in line.
const QUEUE: usize = 1_024;
/// Pieces of work in one transaction.
const BATCH: usize = 256;

/// A connection, and the way to hand it work. It is closed when the last handle is gone.
#[derive(Clone)]
pub(super) enum Db {
    /// Owned by a thread of its own.
    Thread(mpsc::Sender<Box<dyn Job>>),
    /// Used by whoever has work, who blocks meanwhile: for simulations, where no thread may run beside the test.
    Inline(Arc<Inline>),
}

impl Db {
    /// One that runs all work that waits in one transaction, and one that runs each piece of work in a read transaction.
    /// `open` tracks their threads, until each has closed its connection.
    pub(super) fn writer_and_reader(
        writer: Connection,
        reader: Connection,
        environment: &Environment,
        open: &TaskTracker,
    ) -> Result<(Db, Db), StoreError> {
        if !environment.threads {
            let inline = |connection, batch| Db::inline(connection, batch, environment);
            return Ok((inline(writer, write_batch), inline(reader, read_batch)));
        }
        let (closing, reader_closed) = oneshot::channel::<()>();
        let open_still = open.token();
        let reader = Db::spawn("turnkit-db-read", move |queue| {
            drop(serve_always(reader, queue, read_batch));
            drop((closing, open_still));
        })?;
        let open_still = open.token();
        let writer = Db::spawn("turnkit-db-write", move |queue| {
            let connection = serve_always(writer, queue, write_batch);
            // Who closes last folds the log into the one file, and a reader may not write.
            let _ = reader_closed.blocking_recv();
            drop(connection);
            drop(open_still);
        })?;
        Ok((writer, reader))
    }

    /// Runs `work` on the connection. For a writer, the answer comes once the work is committed, or not at all.
    /// Cancel: work that has been handed over runs even when nobody waits for it any more.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Work { task: Some(work), result: None, reply });
        match self {
            Db::Thread(jobs) => jobs.send(job).await.map_err(|_| StoreError::Closed)?,
            Db::Inline(inline) => inline.run(job).await,
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn is_alive(&self) -> bool {
        match self {
            Db::Thread(jobs) => !jobs.is_closed(),
            Db::Inline(_) => true,
        }
    }

    fn inline(connection: Connection, batch: RunBatch, environment: &Environment) -> Db {
        let (connection, pause) = (Mutex::new(connection), environment.pause.clone());
        Db::Inline(Arc::new(Inline { connection, batch, pause }))
    }

    fn spawn(
        name: &str,
        serve: impl FnOnce(mpsc::Receiver<Box<dyn Job>>) + Send + 'static,
    ) -> Result<Db, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(move || serve(queue)).map_err(StoreError::Thread)?;
        Ok(Db::Thread(jobs))
    }
}

/// A connection without a thread.
pub(super) struct Inline {
    connection: Mutex<Connection>,
    batch: RunBatch,
    pause: Option<Pause>,
}

impl Inline {
    async fn run(&self, job: Box<dyn Job>) {
        self.pause().await;
        self.run_now(job);
        self.pause().await;
    }

    fn run_now(&self, job: Box<dyn Job>) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        serve(&mut connection, &mut vec![job], self.batch);
    }

    async fn pause(&self) {
        if let Some(pause) = &self.pause {
            pause().await;
        }
    }
}

type RunBatch = fn(&mut Connection, &mut [Box<dyn Job>]) -> rusqlite::Result<()>;

/// A piece of work whose result is told only when it is known to last.
pub(super) trait Job: Send {
    fn run(&mut self, connection: &Connection) -> bool;
    fn reply(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Work<T, F> {
    task: Option<F>,
    result: Option<rusqlite::Result<T>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Work<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = self.task.take().map(|task| task(connection));
        matches!(self.result, Some(Ok(_)))
    }

    fn reply(self: Box<Self>, committed: Result<(), StoreError>) {
        let own = match self.result {
            Some(result) => result.map_err(StoreError::from),
            None => Err(StoreError::Closed),
        };
        let result = committed.and(own);
        // Nobody may be waiting any more; the work is done all the same.
        let _ = self.reply.send(result);
    }
}

fn serve_always(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    batch: RunBatch,
) -> Connection {
    let mut jobs = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
        serve(&mut connection, &mut jobs, batch);
    }
    connection
}

fn serve(connection: &mut Connection, jobs: &mut Vec<Box<dyn Job>>, batch: RunBatch) {
    let committed = batch(connection, jobs).map_err(Arc::new);
    for job in jobs.drain(..) {
        job.reply(committed.clone().map_err(StoreError::Commit));
    }
}

fn write_batch(connection: &mut Connection, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in jobs {
        run_behind_savepoint(&mut transaction, job.as_mut())?;
    }
    transaction.commit()
}

/// One job's failure undoes that job alone. An error such as a full disk has ended the whole transaction:
/// letting go of the savepoint then fails, and with it the batch.
fn run_behind_savepoint(
    transaction: &mut Transaction<'_>,
    job: &mut dyn Job,
) -> rusqlite::Result<()> {
    let mut savepoint = transaction.savepoint()?;
    if !job.run(&savepoint) {
        savepoint.rollback()?;
    }
    savepoint.commit()
}

fn read_batch(connection: &mut Connection, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    for job in jobs {
        let transaction = connection.transaction()?;
        job.run(&transaction);
    }
    Ok(())
}
