//! The two connections, and the threads that own them.
//!
//! SQLite blocks, and it has one writer at a time. So one thread writes: it takes what has queued up while it was busy and
//! commits it as one transaction, each piece behind a savepoint of its own. A thousand turns that begin in the same moment
//! cost a few syncs to the disk, not a thousand. Another thread reads, and is never held up by a commit.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::file_watch::{FileWatch, Gone};
use super::workers::{Lock, Worker};
use super::{Fault, deletion, kind_of};
use crate::{StoreError, StoreErrorKind};

/// Pieces of work that may wait for a thread. Who has more waits in line.
const QUEUE: usize = 1_024;
/// How long a checkpoint waits for those who read an older moment.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// Pieces of work in one transaction.
const BATCH: usize = 256;

/// What a piece of work leaves behind.
pub(super) enum Piece<T> {
    /// What it wrote stays, and its answer is told once that is committed.
    Keep(T),
    /// What it wrote is undone.
    Undo(Result<T, StoreError>),
}

impl<T, E: Into<Fault>> From<Result<T, E>> for Piece<T> {
    fn from(result: Result<T, E>) -> Piece<T> {
        match result {
            Ok(value) => Piece::Keep(value),
            Err(error) => Piece::Undo(Err(error.into().0)),
        }
    }
}

/// The connections of one handle.
pub(super) enum Connections {
    /// Each is owned by a thread of its own, until its queue is taken away here.
    Threads { writer: Queue, reader: Queue, open: TaskTracker },
    /// Used by whoever has work, who blocks meanwhile: for simulations, where no thread may run beside the test.
    #[cfg(any(test, feature = "simulation"))]
    InPlace { both: Mutex<Option<InPlace>> },
}

type Queue = Mutex<Option<mpsc::Sender<Job>>>;

/// Which connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// All that waits is one transaction.
    Write,
    /// Each piece of work is a transaction that sees one moment.
    Read,
}

impl Connections {
    /// Starts the threads. The one that writes keeps the worker's lock, and when it ends it takes the worker from the database.
    pub(super) fn threads(
        mut writer: Connection,
        mut reader: Connection,
        worker: Arc<Worker>,
        file: Arc<FileWatch>,
        lock: Lock,
    ) -> io::Result<Connections> {
        let open = TaskTracker::new();
        open.close();
        let (closing, reader_closed) = oneshot::channel::<()>();
        let (token, watched) = (open.token(), Arc::clone(&file));
        let jobs_to_read = spawn("turnkit-db-read", move |mut queue| {
            let mut jobs = Vec::with_capacity(BATCH);
            while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
                serve(&mut reader, Side::Read, Some(&watched), &mut jobs, None);
            }
            leave_other_file(&reader, &watched);
            drop(reader);
            drop((closing, token));
        })?;
        let token = open.token();
        let jobs_to_write = spawn("turnkit-db-write", move |mut queue| {
            let mut jobs = Vec::with_capacity(BATCH);
            while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
                serve(&mut writer, Side::Write, Some(&file), &mut jobs, Some(&mut queue));
            }
            leave(&writer, &worker);
            leave_other_file(&writer, &file);
            // Who closes last folds the log into the one file, and a reader may not write.
            let _ = reader_closed.blocking_recv();
            drop(writer);
            drop(lock);
            worker.freed.ring();
            drop(token);
        })?;
        let (writer, reader) = (Mutex::new(Some(jobs_to_write)), Mutex::new(Some(jobs_to_read)));
        Ok(Connections::Threads { writer, reader, open })
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn in_place(
        writer: Connection,
        reader: Connection,
        worker: Arc<Worker>,
    ) -> Connections {
        Connections::InPlace { both: Mutex::new(Some(InPlace { reader, writer, worker })) }
    }

    /// Runs `work` on a connection. A writer's answer comes once the work is committed, or not at all.
    /// Cancel: work that has been handed over runs even when nobody waits for it any more.
    pub(super) async fn run<T, F>(&self, side: Side, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Piece<T> + Send + 'static,
    {
        let piece = Arc::new(Mutex::new(None));
        let left = Arc::clone(&piece);
        let committed = self.done(
            side,
            Box::new(move |transaction| {
                let piece = work(transaction);
                let is_kept = matches!(piece, Piece::Keep(_));
                *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(piece);
                is_kept
            }),
        );
        let committed = committed.await;
        let piece = piece.lock().unwrap_or_else(PoisonError::into_inner).take();
        match piece {
            Some(Piece::Undo(Err(own))) => Err(own),
            Some(Piece::Keep(value) | Piece::Undo(Ok(value))) => committed.map(|()| value),
            None => Err(committed.err().unwrap_or_else(closed)),
        }
    }

    /// Hands the task over, and waits for what became of its transaction. Compiled once for all kinds of answers.
    async fn done(&self, side: Side, task: Task) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job { task: Some(task), panicked: None, reply };
        match self {
            Connections::Threads { writer, reader, .. } => {
                let queue = if side == Side::Write { writer } else { reader };
                let queue = queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
                queue.ok_or_else(closed)?.send(job).await.map_err(|_| closed())?;
            }
            #[cfg(any(test, feature = "simulation"))]
            Connections::InPlace { both } => {
                let mut both = both.lock().unwrap_or_else(PoisonError::into_inner);
                let both = both.as_mut().ok_or_else(closed)?;
                let connection =
                    if side == Side::Write { &mut both.writer } else { &mut both.reader };
                serve(connection, side, None, &mut vec![job], None);
            }
        }
        let lost = || StoreError::because(StoreErrorKind::OutcomeUnknown, "its thread has ended");
        answer.await.map_err(|_| lost())?
    }

    /// Whether the connections still take work.
    pub(super) fn are_open(&self) -> bool {
        match self {
            Connections::Threads { writer, reader, .. } => {
                [writer, reader].into_iter().all(|queue| {
                    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.as_ref().is_some_and(|queue| !queue.is_closed())
                })
            }
            #[cfg(any(test, feature = "simulation"))]
            Connections::InPlace { both } => {
                both.lock().unwrap_or_else(PoisonError::into_inner).is_some()
            }
        }
    }

    /// Cuts the log to nothing, on a connection of its own: a checkpoint runs in no transaction. Says whether it could.
    pub(super) async fn truncate_log(&self, file: &Arc<PathBuf>) -> Result<bool, StoreError> {
        let truncated = match self {
            Connections::Threads { .. } => {
                let file = Arc::clone(file);
                let work = move || deletion::truncate_log(&file, CHECKPOINT);
                let lost = |_| {
                    let error =
                        StoreError::because(StoreErrorKind::Unavailable, "its thread has ended");
                    Err(Fault(error))
                };
                tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
            }
            #[cfg(any(test, feature = "simulation"))]
            Connections::InPlace { .. } => deletion::truncate_log(file, Duration::ZERO),
        };
        truncated.map_err(|fault| fault.0)
    }

    /// Takes no more work, and waits until what was taken is done and both connections are closed.
    pub(super) async fn close(&self) {
        match self {
            Connections::Threads { writer, reader, open } => {
                for queue in [writer, reader] {
                    drop(queue.lock().unwrap_or_else(PoisonError::into_inner).take());
                }
                open.wait().await;
            }
            #[cfg(any(test, feature = "simulation"))]
            Connections::InPlace { both } => {
                drop(both.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        }
    }
}

fn spawn(
    name: &str,
    serve: impl FnOnce(mpsc::Receiver<Job>) + Send + 'static,
) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    thread::Builder::new().name(name.to_owned()).spawn(move || serve(queue))?;
    Ok(jobs)
}

/// Connections without threads. The reader is closed first: it may not fold the log into the file.
#[cfg(any(test, feature = "simulation"))]
pub(super) struct InPlace {
    reader: Connection,
    writer: Connection,
    worker: Arc<Worker>,
}

#[cfg(any(test, feature = "simulation"))]
impl Drop for InPlace {
    fn drop(&mut self) {
        leave(&self.writer, &self.worker);
        self.worker.freed.ring();
    }
}

/// Takes the worker from the database, and with it every lease that it holds. Where that fails, its lock, or else the clock,
/// tells the same a little later.
fn leave(writer: &Connection, worker: &Worker) {
    if let Err(error) = writer.execute("DELETE FROM turnkit_workers WHERE id = ?1", [&worker.id]) {
        tracing::warn!(%error, "cannot take a worker that ends from the database");
    }
}

/// Who closes a database last folds its log into it and removes that, by its name. Where another file has taken the place, the log of
/// that name is that one's.
fn leave_other_file(connection: &Connection, file: &FileWatch) {
    if file.check().is_err() {
        let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = connection.set_db_config(keep_log, true) {
            tracing::warn!(%error, "cannot close a database without folding its log");
        }
    }
}

fn closed() -> StoreError {
    StoreError::because(StoreErrorKind::Unavailable, "the handle is closed")
}

/// A piece of work. Says whether what it wrote is to stay.
type Task = Box<dyn FnOnce(&Transaction<'_>) -> bool + Send>;

/// A task whose result is told only when it is known to last.
pub(super) struct Job {
    task: Option<Task>,
    panicked: Option<StoreError>,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Job {
    /// Says whether what it wrote is to stay.
    fn run(&mut self, transaction: &Transaction<'_>) -> bool {
        let Some(task) = self.task.take() else { return false };
        // What a panic leaves half done is undone with the piece.
        catch_unwind(AssertUnwindSafe(|| task(transaction))).unwrap_or_else(|panic| {
            self.panicked = Some(StoreError::because(StoreErrorKind::Broken, panicked(&*panic)));
            false
        })
    }

    fn reply(self, committed: Result<(), StoreError>) {
        // Nobody may be waiting any more; the work is done all the same.
        let _ = self.reply.send(self.panicked.map_or(committed, Err));
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a statement's closure panicked: {}", text.unwrap_or("no text"))
}

/// Why nothing of a batch can be said to be done.
struct Failed {
    kind: StoreErrorKind,
    source: Arc<dyn Error + Send + Sync>,
}

impl Failed {
    /// The file is not the one that was opened.
    fn other_file(gone: Gone) -> Failed {
        Failed { kind: StoreErrorKind::Unavailable, source: Arc::new(gone) }
    }

    /// Before the commit: all is undone.
    fn undone(error: rusqlite::Error) -> Failed {
        Failed { kind: kind_of(&error), source: Arc::new(error) }
    }

    /// At the commit. Where its last page or the sync of it failed, it may be on the disk all the same.
    fn at_commit(error: rusqlite::Error) -> Failed {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
            Some(ErrorCode::ConstraintViolation) => StoreErrorKind::Broken,
            _ => StoreErrorKind::OutcomeUnknown,
        };
        Failed { kind, source: Arc::new(error) }
    }
}

/// Runs the jobs and answers them. Where a lock of somebody else's kept them out, so are those answered that have queued up
/// meanwhile: they have waited for the same lock, and no answer may take much longer than that.
fn serve(
    connection: &mut Connection,
    side: Side,
    file: Option<&FileWatch>,
    jobs: &mut Vec<Job>,
    queue: Option<&mut mpsc::Receiver<Job>>,
) {
    let done = match side {
        Side::Write => write_batch(connection, file, jobs),
        Side::Read => read_batch(connection, file, jobs),
    };
    // Before anybody is answered: who then asks again is not among them.
    if let (Err(Failed { kind: StoreErrorKind::Busy, .. }), Some(queue)) = (&done, queue) {
        while let Ok(job) = queue.try_recv() {
            jobs.push(job);
        }
    }
    for job in jobs.drain(..) {
        job.reply(match &done {
            Ok(()) => Ok(()),
            Err(failed) => Err(StoreError::because(failed.kind, Arc::clone(&failed.source))),
        });
    }
}

fn write_batch(
    connection: &mut Connection,
    file: Option<&FileWatch>,
    jobs: &mut [Job],
) -> Result<(), Failed> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(Failed::undone)?;
    let statement = |sql: &str| transaction.prepare_cached(sql)?.execute([]);
    for job in jobs {
        statement("SAVEPOINT turnkit_piece").map_err(Failed::undone)?;
        let is_kept = job.run(&transaction);
        // A full disk ends the whole transaction, and so may statements that are not ours.
        let undone = if is_kept { Ok(0) } else { statement("ROLLBACK TO turnkit_piece") };
        let released = undone.and_then(|_| statement("RELEASE turnkit_piece"));
        released.map_err(|error| Failed {
            kind: StoreErrorKind::OutcomeUnknown,
            source: Arc::new(error),
        })?;
    }
    // As late as can be: what is committed to another file than the path's is told as saved, and lost.
    file.map_or(Ok(()), FileWatch::check).map_err(Failed::other_file)?;
    transaction.commit().map_err(Failed::at_commit)
}

fn read_batch(
    connection: &mut Connection,
    file: Option<&FileWatch>,
    jobs: &mut [Job],
) -> Result<(), Failed> {
    file.map_or(Ok(()), FileWatch::check).map_err(Failed::other_file)?;
    for job in jobs {
        job.run(&connection.transaction().map_err(Failed::undone)?);
    }
    Ok(())
}
