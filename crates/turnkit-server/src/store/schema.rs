//! The tables and how they come about.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// One step each; `PRAGMA user_version` counts the steps taken. A step that has been released never changes.
const MIGRATIONS: &[&str] = &[
    r"
    CREATE TABLE sessions (
        id          TEXT NOT NULL PRIMARY KEY,
        tenant_id   TEXT NOT NULL,
        user_id     TEXT NOT NULL,
        created_at  INTEGER NOT NULL  -- Unix milliseconds, as every time here
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_of_user ON sessions (tenant_id, user_id, created_at, id);

    CREATE TABLE turns (
        session_id       TEXT NOT NULL REFERENCES sessions (id),
        turn_index       INTEGER NOT NULL,
        turn_id          TEXT NOT NULL,
        execution_id     TEXT NOT NULL UNIQUE,
        agent            TEXT NOT NULL,
        state            TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'stopped', 'failed')),
        dispatched       INTEGER NOT NULL DEFAULT 0 CHECK (dispatched IN (0, 1)),
        lease            TEXT,        -- the worker that drives the turn
        failure_code     TEXT,
        failure_message  TEXT,
        created_at       INTEGER NOT NULL,
        ended_at         INTEGER,
        PRIMARY KEY (session_id, turn_index),
        UNIQUE (session_id, turn_id)
    ) STRICT;
    CREATE UNIQUE INDEX open_turn_of_session ON turns (session_id) WHERE state = 'open';

    CREATE TABLE messages (
        execution_id  TEXT NOT NULL REFERENCES turns (execution_id),
        role          TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        session_id    TEXT NOT NULL,
        turn_index    INTEGER NOT NULL,
        text          TEXT NOT NULL,
        status        TEXT NOT NULL CHECK (status IN ('complete', 'stopped', 'failed')),
        created_at    INTEGER NOT NULL,
        PRIMARY KEY (execution_id, role)
    ) STRICT;
    CREATE UNIQUE INDEX messages_of_session ON messages (session_id, turn_index, role);
",
    r"
    -- Whether a user has asked to stop the turn; set before the substrate is told.
    ALTER TABLE turns ADD COLUMN stop_asked INTEGER NOT NULL DEFAULT 0 CHECK (stop_asked IN (0, 1));
",
    r"
    CREATE TABLE sign_ins (
        secret      BLOB NOT NULL UNIQUE,  -- SHA-256 of what the cookie holds
        token       BLOB NOT NULL,         -- SHA-256 of the user's token
        created_at  INTEGER NOT NULL,
        ends_at     INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sign_ins_of_token ON sign_ins (token, created_at);
    CREATE INDEX sign_ins_by_end ON sign_ins (ends_at);
",
];

/// Brings the database to the newest schema, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for step in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        let version: u32 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version as usize, MIGRATIONS.len());
    }

    #[test]
    fn a_database_of_the_first_version_keeps_what_it_holds() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let rows = "INSERT INTO sessions VALUES ('s', 'tenant', 'user', 7);
            INSERT INTO turns (session_id, turn_index, turn_id, execution_id, agent, created_at)
                VALUES ('s', 0, 't', 'e', 'demo', 8);";
        connection.execute_batch(rows).unwrap();
        migrate(&mut connection).unwrap();
        let sql = "SELECT user_id, turn_id, stop_asked FROM sessions JOIN turns ON session_id = id";
        let read = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        assert_eq!(read.unwrap(), ("user".to_owned(), "t".to_owned(), false));
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection).unwrap_err();
        assert!(
            matches!(error, StoreError::Newer { found: 99, known } if known as usize == MIGRATIONS.len())
        );
    }
}
