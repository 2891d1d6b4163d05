//! Which server processes live. A lease belongs to a worker, and a worker that has died holds none (PROTOCOL 4.2).
//!
//! Each process locks a file of its own in the data directory for as long as it lives. The operating system lets go of
//! the lock however the process ends, so a killed worker is known to be dead at once, without clocks and time-outs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

const EXTENSION: &str = "lock";

/// This process's place among the workers of one data directory; given up when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    id: String,
    directory: PathBuf,
    _lock: File,
}

impl Worker {
    /// Registers this process in `directory`, which is made where it is missing.
    pub(crate) fn register(directory: &Path) -> io::Result<Worker> {
        fs::create_dir_all(directory)?;
        remove_dead(directory)?;
        let id = Uuid::new_v4().to_string();
        let lock = create_locked(directory, &id)?;
        let directory = directory.to_owned();
        Ok(Worker { id, directory, _lock: lock })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether the worker `id` lives. In doubt it does: its turns then wait, and none is driven twice.
    pub(crate) fn is_alive(&self, id: &str) -> bool {
        let path = lock_path(&self.directory, id);
        is_locked(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell whether a worker lives");
            true
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A file that stays behind is unlocked, and so as good as gone.
        let _ = fs::remove_file(lock_path(&self.directory, &self.id));
    }
}

fn lock_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(id).with_extension(EXTENSION)
}

/// Makes the file under a passing name and locks it before it gets its own, so that nobody finds it unlocked.
fn create_locked(directory: &Path, id: &str) -> io::Result<File> {
    let passing = directory.join(id).with_extension("new");
    let file = OpenOptions::new().write(true).create_new(true).open(&passing)?;
    file.lock()?;
    fs::rename(&passing, lock_path(directory, id))?;
    Ok(file)
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
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// Another worker that starts at the same time may have been faster.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_lives_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let observer = Worker::register(directory.path()).unwrap();
        let other = Worker::register(directory.path()).unwrap();
        let id = other.id().to_owned();
        assert!(observer.is_alive(&id));
        assert!(other.is_alive(&id), "a worker sees itself alive");
        drop(other);
        assert!(!observer.is_alive(&id));
    }

    #[test]
    fn a_file_that_a_killed_worker_left_is_dead_and_cleared_away() {
        let directory = tempfile::tempdir().unwrap();
        let left = lock_path(directory.path(), "killed");
        File::create(&left).unwrap();
        let observer = Worker::register(directory.path()).unwrap();
        assert!(!observer.is_alive("killed"));
        assert!(!left.exists());
    }

    #[test]
    fn a_worker_that_never_was_is_dead() {
        let directory = tempfile::tempdir().unwrap();
        let observer = Worker::register(directory.path()).unwrap();
        assert!(!observer.is_alive("nobody"));
    }
}
