//! Whether a database that is opened is whole.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::{Fault, schema};
use crate::{StoreError, StoreErrorKind};

/// How long SQLite may look at its pages: a start is not to wait for a database of many gigabytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wrong with a database.
#[derive(Debug, thiserror::Error)]
enum Damaged {
    #[error("the database is damaged, restore a backup: {0}")]
    Pages(String),
    #[error("the database is damaged, restore a backup: {0} is missing")]
    Schema(String),
}

/// Refuses a database whose pages do not fit together, or that lacks a table, a column or an index of ours.
pub(super) fn check(db: &Connection) -> Result<(), Fault> {
    if let Some(missing) = schema::missing(db)? {
        return Err(broken(Damaged::Schema(missing)));
    }
    let interrupt = db.get_interrupt_handle();
    let (done, wait) = mpsc::channel::<()>();
    thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let found = db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    match found {
        Ok(found) if found == "ok" => Ok(()),
        // Its first line names the database, and each other one a page.
        Ok(found) => {
            let found: Vec<&str> = found.lines().filter(|line| !line.starts_with("***")).collect();
            Err(broken(Damaged::Pages(found.join("; "))))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            tracing::info!(after = ?PATIENCE, "a part of the database was not checked: it is large");
            Ok(())
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            Err(broken(Damaged::Pages(error.to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

fn broken(damaged: Damaged) -> Fault {
    StoreError::because(StoreErrorKind::Broken, damaged).into()
}
