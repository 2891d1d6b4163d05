//! Where sessions, turns and messages are kept.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io};

#[cfg(feature = "postgres")]
use turnkit_chat::postgres::PostgresStore;
use turnkit_chat::sqlite::SqliteStore;
use turnkit_chat::{BuildError, Chat, ChatBuilder};
use turnkit_sandbox::SandboxClient;

use crate::StartError;

/// What servers before the log had an id lock in their data directory.
const EARLIER_LOCK: &str = "substrate.lock";
/// The database file inside the data directory.
pub(crate) const FILE: &str = "turnkit.db";

/// Where a [`Server`](crate::Server) keeps sessions, turns and messages.
#[derive(Clone)]
pub enum DatabaseChoice {
    /// In a SQLite file in this directory, which the servers of one machine share.
    Sqlite(PathBuf),
    /// In the PostgreSQL database of this URL, which the servers of any number of machines share. Behind the feature `postgres`.
    #[cfg(feature = "postgres")]
    Postgres(String),
}

impl<P: Into<PathBuf>> From<P> for DatabaseChoice {
    fn from(directory: P) -> DatabaseChoice {
        DatabaseChoice::Sqlite(directory.into())
    }
}

/// The directory; without the URL, which may hold a password.
impl fmt::Debug for DatabaseChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseChoice::Sqlite(directory) => f.debug_tuple("Sqlite").field(directory).finish(),
            #[cfg(feature = "postgres")]
            DatabaseChoice::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// What it is called where something is wrong with it.
impl fmt::Display for DatabaseChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseChoice::Sqlite(directory) => {
                write!(f, "the database in {}", directory.display())
            }
            #[cfg(feature = "postgres")]
            DatabaseChoice::Postgres(_) => f.write_str("the database in PostgreSQL (--database)"),
        }
    }
}

impl DatabaseChoice {
    /// Opens it: a chat over it, to be set up and built.
    pub(crate) async fn chat(
        &self,
        busy_timeout: Duration,
        agents: SandboxClient,
    ) -> Result<ChatBuilder, StartError> {
        let unusable = |source| StartError::Database { database: self.clone(), source };
        match self {
            DatabaseChoice::Sqlite(directory) => {
                make(directory)?;
                let file = directory.join(FILE);
                let store = SqliteStore::builder().busy_timeout(busy_timeout).open(&file);
                let store = store.map_err(unusable)?;
                warn_of_readers(&file);
                Ok(Chat::builder(store, agents))
            }
            #[cfg(feature = "postgres")]
            DatabaseChoice::Postgres(url) => {
                Ok(Chat::builder(PostgresStore::open(url).await.map_err(unusable)?, agents))
            }
        }
    }

    /// Why a chat over it could not be built.
    pub(crate) fn refused(&self, error: BuildError) -> StartError {
        match error {
            BuildError::OtherLog => StartError::InUse { database: self.clone() },
            BuildError::Store(source) => StartError::Database { database: self.clone(), source },
        }
    }

    /// Whether it could be one, as far as that can be told without asking anybody.
    #[cfg(feature = "postgres")]
    pub(crate) fn check(&self) -> Result<(), turnkit_chat::StoreError> {
        match self {
            DatabaseChoice::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            DatabaseChoice::Postgres(url) => PostgresStore::builder(url).check(),
        }
    }
}

/// Makes the directory where it is missing, readable by its owner alone: what users wrote is nobody else's business.
fn make(directory: &Path) -> Result<(), StartError> {
    let path = || directory.to_owned();
    let mut made = fs::DirBuilder::new();
    made.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut made, 0o700);
    made.create(directory).map_err(|error| {
        let source = match error.kind() {
            // Where it is there and is none, the system says merely that it exists.
            io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
            _ => error,
        };
        StartError::Directory { path: path(), source }
    })?;
    // A server of an earlier version would go on with tables that are about to be moved.
    match fs::File::open(directory.join(EARLIER_LOCK)).map(|lock| lock.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => Err(StartError::InUse { database: path().into() }),
        Ok(Err(TryLockError::Error(source))) => Err(StartError::Directory { path: path(), source }),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// A database that others made, or an earlier version, keeps its mode.
#[cfg(unix)]
fn warn_of_readers(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "others may read what users wrote: chmod 600 this file, its -wal and its -shm");
    }
}

/// There are no modes.
#[cfg(not(unix))]
fn warn_of_readers(_: &Path) {}
