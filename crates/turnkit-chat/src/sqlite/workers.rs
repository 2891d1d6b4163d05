//! Which workers live. A lease belongs to a worker, and a worker that has died holds none (PROTOCOL 4.2).
//!
//! Each handle locks a file of its own in `<database>.workers/` for as long as it lives. The operating system lets go of
//! the lock however the process ends, so a killed worker is known to be dead at once. One that hangs keeps its lock: it is
//! dead once it has not renewed for [`LEASE`].

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use crate::store::{Bell, LEASE, unix_millis};

pub(super) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

const EXTENSION: &str = "lock";

/// One handle among the workers of a database.
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) clock: Clock,
    /// Rings in every handle that this process has on the database when there may be a turn that nobody drives.
    pub(super) freed: Arc<Bell>,
    /// How often this handle has heard it.
    pub(super) heard: AtomicU64,
    /// Where the workers' locks are. Without any, the clock alone tells who lives.
    locks: Option<PathBuf>,
}

/// A worker's lock, given up when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Worker {
    /// A worker of the database `file`, and its lock.
    pub(super) fn register(file: &Path, clock: Clock) -> io::Result<(Worker, Lock)> {
        let mut directory = file.as_os_str().to_owned();
        directory.push(".workers");
        let directory = PathBuf::from(directory);
        make_private(&directory)?;
        remove_dead(&directory)?;
        let id = Uuid::new_v4().to_string();
        let lock = Lock::new(&directory, &id)?;
        Ok((Worker::new(file, id, clock, Some(directory)), lock))
    }

    fn new(file: &Path, id: String, clock: Clock, locks: Option<PathBuf>) -> Worker {
        let freed = freed(file);
        let heard = AtomicU64::new(freed.times());
        Worker { id, clock, freed, heard, locks }
    }

    /// A worker of the database `file` that lives as long as `clock` says.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn by_clock(file: &Path, clock: Clock) -> Worker {
        Worker::new(file, Uuid::new_v4().to_string(), clock, None)
    }

    /// Unix milliseconds.
    pub(super) fn now(&self) -> i64 {
        unix_millis((self.clock)())
    }

    /// Whether the worker `id` lives: it has joined, has renewed within [`LEASE`], and has its lock.
    pub(super) fn lives(&self, db: &Connection, id: &str) -> rusqlite::Result<bool> {
        let sql = "SELECT renewed_at FROM turnkit_workers WHERE id = ?1";
        let renewed: Option<i64> =
            db.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
        Ok(renewed.is_some_and(|at| !is_over(at, self.now())) && !self.is_gone(id))
    }

    /// Whether the system tells that the worker `id` has ended. In doubt it has not: its turns then wait, and none is driven
    /// twice.
    pub(super) fn is_gone(&self, id: &str) -> bool {
        let Some(directory) = self.locks.as_ref().filter(|_| self.id != id) else {
            return false;
        };
        let is_locked = is_locked(&lock_path(directory, id)).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell whether a worker lives");
            true
        });
        !is_locked
    }
}

/// Whether a lease that was renewed at `renewed` has run out.
pub(super) fn is_over(renewed: i64, now: i64) -> bool {
    u128::try_from(now.saturating_sub(renewed)).is_ok_and(|since| since > LEASE.as_millis())
}

impl Lock {
    /// Makes the file under a passing name and locks it before it gets its own, so that nobody finds it unlocked.
    fn new(directory: &Path, id: &str) -> io::Result<Lock> {
        let passing = directory.join(id).with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&passing)?;
        file.lock()?;
        let path = lock_path(directory, id);
        fs::rename(&passing, &path)?;
        Ok(Lock { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays behind is unlocked, and so as good as gone.
        let _ = fs::remove_file(&self.path);
    }
}

/// The bell of the database `file`, the same for every handle in this process.
fn freed(file: &Path) -> Arc<Bell> {
    static BELLS: LazyLock<Mutex<HashMap<PathBuf, Weak<Bell>>>> = LazyLock::new(Mutex::default);
    let mut bells = BELLS.lock().unwrap_or_else(PoisonError::into_inner);
    bells.retain(|_, bell| bell.strong_count() > 0);
    if let Some(bell) = bells.get(file).and_then(Weak::upgrade) {
        return bell;
    }
    let bell: Arc<Bell> = Arc::default();
    bells.insert(file.to_owned(), Arc::downgrade(&bell));
    bell
}

fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn lock_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(id).with_extension(EXTENSION)
}

fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared, so that two workers that ask at the same time do not take each other for the owner.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_dead(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_lock = path.extension().is_some_and(|extension| extension == EXTENSION);
        if is_lock && !is_locked(&path)? {
            match fs::remove_file(&path) {
                // Another worker that starts at the same time has been faster.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
