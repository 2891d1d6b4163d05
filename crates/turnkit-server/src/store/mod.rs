//! What the product keeps: sessions, turns and messages, in SQLite (PROTOCOL 4.2).
//!
//! The product keeps no stream: a turn's events live in the substrate's log. What a turn means is decided elsewhere; here
//! are the conditional updates that make it true once, whoever asks and however often.

mod db;
mod history;
mod messages;
mod schema;
mod sessions;
mod sign_ins;
mod turns;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};
use tokio_util::task::TaskTracker;

use self::db::Db;
pub(crate) use self::history::Said;
pub(crate) use self::messages::{Message, MessagePage, MessageStatus, Role};
pub(crate) use self::sessions::{Session, SessionPage};
pub(crate) use self::sign_ins::SignIn;
pub(crate) use self::turns::{Accepted, Claim, Claimed, Ending, Failure, NewTurn, Turn, TurnState};

use crate::environment::Environment;

/// The database file inside the data directory.
pub(crate) const FILE: &str = "turnkit.db";

/// A handle to the database; cheap to clone. Every method may be called from any task: blocking work happens on the
/// store's own threads.
#[derive(Clone)]
pub(crate) struct Store {
    // In the order in which they have to be closed.
    reader: Db,
    writer: Db,
    pub(crate) environment: Environment,
}

impl Store {
    /// Opens the database at `path`, made and brought to the newest schema where it has to be. `open` tracks the threads,
    /// until each has closed its connection.
    pub(crate) fn open(
        path: &Path,
        environment: Environment,
        open: &TaskTracker,
    ) -> Result<Store, StoreError> {
        let mut connection = connect(path, OpenFlags::default(), &environment)?;
        schema::migrate(&mut connection)?;
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, &environment)?;
        let (writer, reader) = Db::writer_and_reader(connection, reader, &environment, open)?;
        Ok(Store { reader, writer, environment })
    }

    /// Unix milliseconds.
    pub(crate) fn now(&self) -> i64 {
        let since =
            (self.environment.clock)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    /// Whether the database still takes work.
    pub(crate) fn is_alive(&self) -> bool {
        self.writer.is_alive() && self.reader.is_alive()
    }
}

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("use the database: it has schema {found}, and this version knows up to {known}")]
    Newer { found: u32, known: u32 },
    #[error("start a database thread")]
    Thread(#[source] std::io::Error),
    #[error("use the database")]
    Sqlite(#[from] rusqlite::Error),
    #[error("commit to the database")]
    Commit(#[source] Arc<rusqlite::Error>),
    #[error("use the database: it is closed")]
    Closed,
}

fn connect(
    path: &Path,
    flags: OpenFlags,
    environment: &Environment,
) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(environment.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(64);
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A client that was told `completed` can rely on it, also after a loss of power.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
    }
    Ok(connection)
}
