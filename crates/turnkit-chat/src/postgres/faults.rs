//! Why a transaction came to nothing, and what helps.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::{StoreError, StoreErrorKind};

/// An error inside a transaction, or at its commit. It keeps the driver's out of the public [`StoreError`].
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: StoreError,
    pub(super) remedy: Remedy,
    /// Whether the connection on which it came is of no use any more.
    pub(super) spoils: bool,
}

/// What a store does about a fault before it tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// The transaction is done again: it was undone because of others.
    Again,
    /// The transaction is done on another connection: on this one nothing was.
    Elsewhere,
    /// The transaction is done again with nothing prepared, as all are from then on: the session was given to others as well.
    Unprepared,
}

/// What PostgreSQL says, without the values of a row: they may be what a user has said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

impl Fault {
    pub(super) fn of(kind: StoreErrorKind) -> Fault {
        Fault { error: StoreError::new(kind), remedy: Remedy::None, spoils: false }
    }

    pub(super) fn because(kind: StoreErrorKind, what: impl Into<String>) -> Fault {
        let error = StoreError::because(kind, Told(what.into()));
        Fault { error, remedy: Remedy::None, spoils: false }
    }

    /// What stands in the database is not what should.
    pub(super) fn broken(what: impl Into<String>) -> Fault {
        Fault::because(StoreErrorKind::Broken, what)
    }

    /// The answer to a commit: what the server refuses is undone; where nothing comes, or the server was told to end, it may be done.
    pub(super) fn at_commit(error: &Error) -> Fault {
        match error.code() {
            Some(code) if !ends_connection(code) => Fault::from_server(error),
            _ => Fault::because(StoreErrorKind::OutcomeUnknown, told(error)).spoiling(),
        }
    }

    /// An error of the product's own statements.
    pub(super) fn of_product(method: &'static str, error: &Error) -> Fault {
        let (kind, remedy) = judge(error);
        let source = OwnStatements { method, source: Told(told(error)) };
        let spoils = spoils_connection(error);
        Fault { error: StoreError::because(kind, source), remedy, spoils }
    }

    /// This fault, after which the connection is of no use any more.
    pub(super) fn spoiling(self) -> Fault {
        Fault { spoils: true, ..self }
    }

    /// Whether the error is about the moment, and not about what was asked.
    pub(super) fn passes(&self) -> bool {
        matches!(self.error.kind(), StoreErrorKind::Busy | StoreErrorKind::Unavailable)
    }

    pub(super) fn from_server(error: &Error) -> Fault {
        let (kind, remedy) = judge(error);
        let spoils = spoils_connection(error);
        Fault { error: StoreError::because(kind, Told(told(error))), remedy, spoils }
    }
}

/// Before a commit: nothing was done.
impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::from_server(&error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault { error, remedy: Remedy::None, spoils: false }
    }
}

/// Tells the product's statements from turnkit's own, in a log.
#[derive(Debug, thiserror::Error)]
#[error("run the product's statements in `{method}`")]
struct OwnStatements {
    method: &'static str,
    #[source]
    source: Told,
}

/// Whether a connection can still be used after this error.
fn spoils_connection(error: &Error) -> bool {
    error.as_db_error().is_none_or(|error| {
        ends_connection(error.code())
            || *error.code() == SqlState::READ_ONLY_SQL_TRANSACTION
            || is_about_names(error.code())
            || matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
    })
}

/// The server ends the connection with it.
fn ends_connection(code: &SqlState) -> bool {
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::DATABASE_DROPPED,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ]
    .contains(code)
}

/// The session has statements that somebody else has prepared, or lacks those that it had.
fn is_about_names(code: &SqlState) -> bool {
    [SqlState::DUPLICATE_PSTATEMENT, SqlState::INVALID_SQL_STATEMENT_NAME].contains(code)
}

/// What one can do about an error before a commit.
fn judge(error: &Error) -> (StoreErrorKind, Remedy) {
    let Some(code) = error.code() else {
        let is_lost = error.is_closed()
            || error.source().is_some_and(<dyn std::error::Error>::is::<io::Error>);
        return if is_lost {
            (StoreErrorKind::Unavailable, Remedy::Elsewhere)
        } else {
            (StoreErrorKind::Broken, Remedy::None)
        };
    };
    match code {
        code if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED]
            .contains(code) =>
        {
            (StoreErrorKind::Busy, Remedy::Again)
        }
        code if is_about_names(code) => (StoreErrorKind::Busy, Remedy::Unprepared),
        code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            (StoreErrorKind::Unavailable, Remedy::Elsewhere)
        }
        code if ends_connection(code) => (StoreErrorKind::Busy, Remedy::Elsewhere),
        code if [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
        ]
        .contains(code) =>
        {
            (StoreErrorKind::Busy, Remedy::None)
        }
        // Connections, resources, what an operator does, the system; and who may not, or may not yet.
        code if ["08", "53", "57", "58", "28"]
            .iter()
            .any(|class| code.code().starts_with(class))
            || [SqlState::UNDEFINED_DATABASE, SqlState::INSUFFICIENT_PRIVILEGE].contains(code) =>
        {
            (StoreErrorKind::Unavailable, Remedy::None)
        }
        _ => (StoreErrorKind::Broken, Remedy::None),
    }
}

fn told(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
