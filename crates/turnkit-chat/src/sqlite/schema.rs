//! The tables and how they come about.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::Fault;
use crate::{StoreError, StoreErrorKind};

/// One step each; the row of `turnkit_schema` counts the steps taken. A step that has been released never changes.
const STEPS: &[&str] = &[
    r"
    CREATE TABLE turnkit_log (
        id      INTEGER PRIMARY KEY CHECK (id = 1),
        log_id  TEXT NOT NULL
    ) STRICT;

    CREATE TABLE turnkit_workers (
        id          TEXT NOT NULL PRIMARY KEY,
        renewed_at  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE turnkit_sessions (
        number      INTEGER PRIMARY KEY,
        id          TEXT NOT NULL UNIQUE,
        tenant_id   TEXT NOT NULL,
        user_id     TEXT NOT NULL,
        title       TEXT,
        next_index  INTEGER NOT NULL DEFAULT 0,
        created_at  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX turnkit_sessions_of_user ON turnkit_sessions (tenant_id, user_id, number);

    CREATE TABLE turnkit_turns (
        number           INTEGER PRIMARY KEY,
        session_id       TEXT NOT NULL REFERENCES turnkit_sessions (id),
        turn_index       INTEGER NOT NULL,
        turn_id          TEXT NOT NULL,
        execution_id     TEXT NOT NULL UNIQUE,
        agent            TEXT NOT NULL,
        state            TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'stopped', 'failed')),
        dispatched       INTEGER NOT NULL DEFAULT 0 CHECK (dispatched IN (0, 1)),
        stop_asked       INTEGER NOT NULL DEFAULT 0 CHECK (stop_asked IN (0, 1)),
        epoch            INTEGER NOT NULL DEFAULT 0,
        worker           TEXT,
        nonce            BLOB,
        ran              INTEGER CHECK (ran IN (0, 1)),
        claimed_at       INTEGER,
        released         INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1)),
        failure_code     TEXT,
        failure_message  TEXT,
        created_at       INTEGER NOT NULL,
        ended_at         INTEGER,
        UNIQUE (session_id, turn_index),
        UNIQUE (session_id, turn_id)
    ) STRICT;
    CREATE UNIQUE INDEX turnkit_open_turn_of_session ON turnkit_turns (session_id) WHERE state = 'open';
    -- Both hold all that is asked of them: a worker with ten thousand open turns reads them every five seconds.
    CREATE INDEX turnkit_open_turns ON turnkit_turns (number, worker, released, execution_id) WHERE state = 'open';
    CREATE INDEX turnkit_held_turns ON turnkit_turns (worker, execution_id, epoch, claimed_at)
        WHERE state = 'open' AND released = 0;

    CREATE TABLE turnkit_messages (
        execution_id  TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        role          TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        session_id    TEXT NOT NULL,
        turn_index    INTEGER NOT NULL,
        text          TEXT NOT NULL,
        status        TEXT NOT NULL CHECK (status IN ('complete', 'stopped', 'failed')),
        created_at    INTEGER NOT NULL,
        PRIMARY KEY (execution_id, role)
    ) STRICT;
    CREATE UNIQUE INDEX turnkit_messages_of_session ON turnkit_messages (session_id, turn_index, role);

    CREATE TABLE turnkit_sign_ins (
        secret      BLOB NOT NULL UNIQUE,
        token       BLOB NOT NULL,
        created_at  INTEGER NOT NULL,
        ends_at     INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX turnkit_sign_ins_of_token ON turnkit_sign_ins (token, created_at);
    CREATE INDEX turnkit_sign_ins_by_end ON turnkit_sign_ins (ends_at);
",
    r"
    ALTER TABLE turnkit_sessions ADD COLUMN name TEXT NOT NULL DEFAULT '';
    UPDATE turnkit_sessions SET name = id;
    CREATE UNIQUE INDEX turnkit_sessions_by_name ON turnkit_sessions (tenant_id, user_id, name);

    ALTER TABLE turnkit_turns ADD COLUMN parent_index INTEGER;
    ALTER TABLE turnkit_turns ADD COLUMN client_id TEXT;
    UPDATE turnkit_turns SET parent_index = turn_index - 1 WHERE turn_index > 0;
    CREATE INDEX turnkit_turns_by_name ON turnkit_turns (turn_id);
    CREATE INDEX turnkit_siblings ON turnkit_turns (session_id, parent_index, turn_index);

    ALTER TABLE turnkit_messages ADD COLUMN parts TEXT;
    ALTER TABLE turnkit_messages ADD COLUMN summary TEXT;
",
    r"
    ALTER TABLE turnkit_sessions ADD COLUMN queue_paused INTEGER NOT NULL DEFAULT 0 CHECK (queue_paused IN (0, 1));
    ALTER TABLE turnkit_turns ADD COLUMN first_asked BLOB;

    CREATE TABLE turnkit_queue (
        number       INTEGER PRIMARY KEY,
        session_id   TEXT NOT NULL REFERENCES turnkit_sessions (id),
        turn_id      TEXT NOT NULL,
        client_id    TEXT,
        agent        TEXT NOT NULL,
        message      TEXT NOT NULL,
        after_id     TEXT,
        replaces_id  TEXT,
        first_asked  BLOB,
        created_at   INTEGER NOT NULL,
        removed      INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1)),
        UNIQUE (session_id, turn_id)
    ) STRICT;
    CREATE INDEX turnkit_waiting_turns ON turnkit_queue (session_id, number) WHERE removed = 0;
",
    r"
    ALTER TABLE turnkit_sessions ADD COLUMN active_at INTEGER NOT NULL DEFAULT 0;
    UPDATE turnkit_sessions SET active_at = coalesce(
        (SELECT max(max(t.created_at, coalesce(t.ended_at, 0))) FROM turnkit_turns t WHERE t.session_id = turnkit_sessions.id),
        created_at);
    CREATE INDEX turnkit_sessions_by_activity ON turnkit_sessions (active_at);

    CREATE TABLE turnkit_deleted_sessions (
        id          TEXT NOT NULL PRIMARY KEY,
        tenant_id   TEXT NOT NULL,
        user_id     TEXT NOT NULL,
        name        TEXT NOT NULL,
        deleted_at  INTEGER NOT NULL,
        scrubbed    INTEGER NOT NULL DEFAULT 0 CHECK (scrubbed IN (0, 1))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX turnkit_deleted_names ON turnkit_deleted_sessions (tenant_id, user_id, name);
    CREATE INDEX turnkit_tombstones_by_age ON turnkit_deleted_sessions (deleted_at);
    CREATE INDEX turnkit_unscrubbed ON turnkit_deleted_sessions (id) WHERE scrubbed = 0;

    CREATE TABLE turnkit_deleted_executions (
        execution_id  TEXT NOT NULL PRIMARY KEY,
        session_id    TEXT NOT NULL,
        erased        INTEGER NOT NULL CHECK (erased IN (0, 1))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX turnkit_unerased ON turnkit_deleted_executions (execution_id) WHERE erased = 0;
    CREATE INDEX turnkit_deleted_of_session ON turnkit_deleted_executions (session_id, erased);
",
    r"
    CREATE TABLE turnkit_feeds (
        tenant_id  TEXT NOT NULL,
        user_id    TEXT NOT NULL,
        feed       TEXT NOT NULL UNIQUE,
        newest     INTEGER NOT NULL DEFAULT 0,
        dropped    INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant_id, user_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO turnkit_feeds (tenant_id, user_id, feed)
        SELECT tenant_id, user_id, lower(hex(randomblob(16))) FROM (SELECT DISTINCT tenant_id, user_id FROM turnkit_sessions);

    CREATE TABLE turnkit_feed_entries (
        feed        TEXT NOT NULL,
        number      INTEGER NOT NULL,
        change      TEXT NOT NULL,
        state       TEXT,
        session_id  TEXT NOT NULL,
        turn_id     TEXT,
        at          INTEGER NOT NULL,
        PRIMARY KEY (feed, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX turnkit_feed_of_session ON turnkit_feed_entries (session_id, number);
",
    r"
    CREATE TABLE turnkit_questions (
        number          INTEGER PRIMARY KEY,
        execution_id    TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        session_id      TEXT NOT NULL,
        interaction_id  TEXT NOT NULL,
        question        TEXT NOT NULL,
        outcome         TEXT,
        UNIQUE (execution_id, interaction_id)
    ) STRICT;
    CREATE INDEX turnkit_questions_of_session ON turnkit_questions (session_id);

    CREATE TABLE turnkit_intents (
        number        INTEGER PRIMARY KEY,
        execution_id  TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        session_id    TEXT NOT NULL,
        kind          TEXT NOT NULL CHECK (kind IN ('answer', 'input')),
        subject       TEXT NOT NULL,
        outcome       TEXT,
        content       TEXT,
        user_id       TEXT NOT NULL,
        created_at    INTEGER NOT NULL,
        status        INTEGER
    ) STRICT;
    CREATE INDEX turnkit_intents_of_execution ON turnkit_intents (execution_id, kind, subject);
    CREATE INDEX turnkit_intents_of_session ON turnkit_intents (session_id);
    CREATE INDEX turnkit_undecided_intents ON turnkit_intents (number) WHERE status IS NULL;

    ALTER TABLE turnkit_feed_entries ADD COLUMN interaction_id TEXT;
",
    r"
    ALTER TABLE turnkit_sessions ADD COLUMN archived INTEGER NOT NULL DEFAULT 0 CHECK (archived IN (0, 1));
    CREATE INDEX turnkit_sessions_by_archive ON turnkit_sessions (tenant_id, user_id, archived, number);

    ALTER TABLE turnkit_turns ADD COLUMN said_bytes INTEGER;
    UPDATE turnkit_turns SET said_bytes =
        (SELECT length(CAST(asked.text AS BLOB)) + length(CAST(answer.text AS BLOB))
            FROM turnkit_messages asked
            JOIN turnkit_messages answer ON answer.execution_id = asked.execution_id AND answer.role = 'assistant'
            WHERE asked.execution_id = turnkit_turns.execution_id AND asked.role = 'user'
                AND trim(answer.text, char(9, 10, 11, 12, 13, 32)) <> '')
        WHERE state = 'complete';
    -- A branch is walked over this alone: who begins a new turn walks all of it.
    CREATE INDEX turnkit_branches ON turnkit_turns (session_id, turn_index, parent_index, said_bytes);
",
    r"
    -- A turn knows its place, so that nobody walks a branch to count it or to find one (ADR 0058).
    ALTER TABLE turnkit_turns ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE turnkit_turns ADD COLUMN said_before INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE turnkit_turns ADD COLUMN said_bytes_before INTEGER NOT NULL DEFAULT 0;
    WITH RECURSIVE placed (session_id, turn_index, lane, said_before, said_bytes_before, said_bytes) AS (
        SELECT session_id, turn_index, turn_index, 0, 0, said_bytes FROM turnkit_turns WHERE parent_index IS NULL
        UNION ALL
        SELECT t.session_id, t.turn_index,
            iif(t.turn_index = (SELECT min(s.turn_index) FROM turnkit_turns s
                WHERE s.session_id = t.session_id AND s.parent_index = t.parent_index), p.lane, t.turn_index),
            p.said_before + (p.said_bytes IS NOT NULL), p.said_bytes_before + coalesce(p.said_bytes, 0), t.said_bytes
        FROM placed p JOIN turnkit_turns t ON t.session_id = p.session_id AND t.parent_index = p.turn_index)
    UPDATE turnkit_turns SET lane = p.lane, said_before = p.said_before, said_bytes_before = p.said_bytes_before
        FROM placed p WHERE p.session_id = turnkit_turns.session_id AND p.turn_index = turnkit_turns.turn_index;
    DROP INDEX turnkit_branches;
    CREATE INDEX turnkit_lanes ON turnkit_turns (session_id, lane, turn_index);
    -- The turns that begin a lane.
    CREATE INDEX turnkit_forks ON turnkit_turns (session_id, parent_index, turn_index DESC) WHERE lane = turn_index;
",
    r"
    -- Names that turns were given beside their own (ADR 0092).
    CREATE TABLE turnkit_turn_names (
        number        INTEGER PRIMARY KEY,
        session_id    TEXT NOT NULL,
        name          TEXT NOT NULL,
        execution_id  TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        UNIQUE (session_id, name)
    ) STRICT;
    CREATE INDEX turnkit_turns_by_given_name ON turnkit_turn_names (name);
    CREATE INDEX turnkit_names_of_turn ON turnkit_turn_names (execution_id, number);
",
    "-- From here on the one text part of an answer may be empty, and be told by the text of its row: a version that does not know it would show an empty part.",
];

/// The schema of a database that a newer version has written.
#[derive(Debug, thiserror::Error)]
#[error("read schema {found} of turnkit's tables: this version knows up to {known}")]
struct Newer {
    found: u32,
    known: u32,
}

/// How many steps the database has taken, without any lock on it. One that has taken more than are known is refused.
pub(super) fn steps_taken(db: &Connection) -> Result<u32, Fault> {
    if !has_table(db, "turnkit_schema")? {
        return Ok(0);
    }
    let sql = "SELECT version FROM turnkit_schema";
    let found = db.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0);
    if found > known() {
        let newer = Newer { found, known: known() };
        return Err(StoreError::because(StoreErrorKind::Newer, newer).into());
    }
    Ok(found)
}

/// Brings the database to the newest schema, in one transaction. What the binary of before kept under other names moves here.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    if steps_taken(connection)? == known() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another handle may have been faster, while this one waited for the lock.
    let taken = steps_taken(&transaction)?;
    for (before, step) in STEPS.iter().enumerate().skip(taken as usize) {
        transaction.execute_batch(step)?;
        if before == 0 {
            let sql = "CREATE TABLE turnkit_schema (
                    id       INTEGER PRIMARY KEY CHECK (id = 1),
                    version  INTEGER NOT NULL
                ) STRICT";
            transaction.execute_batch(sql)?;
            // Behind the first step, so that the later ones do for these rows what they do for all.
            if let Some(version) = unprefixed_version(&transaction)? {
                move_unprefixed(&transaction, version)?;
            }
        }
    }
    let sql = "INSERT INTO turnkit_schema (id, version) VALUES (1, ?1)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version";
    transaction.execute(sql, [known()])?;
    Ok(transaction.commit()?)
}

/// The first table, column or index of ours that a database of the newest schema lacks.
pub(super) fn missing(db: &Connection) -> rusqlite::Result<Option<String>> {
    let mut fresh = Connection::open_in_memory()?;
    let transaction = fresh.transaction()?;
    STEPS.iter().try_for_each(|step| transaction.execute_batch(step))?;
    let there = parts(db)?;
    Ok(parts(&transaction)?.into_iter().find(|part| !there.contains(part)))
}

/// `table.column` and `index`, of ours.
fn parts(db: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let sql = r"SELECT owner.name || '.' || part.name FROM sqlite_schema owner JOIN pragma_table_info(owner.name) part
            WHERE owner.type = 'table' AND owner.name LIKE 'turnkit\_%' ESCAPE '\'
        UNION SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'turnkit\_%' ESCAPE '\'";
    db.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

fn has_table(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
}

/// The tables of the binary before this crate, whose names had no prefix, and their columns. The third came with version 2 of
/// them, the last with version 3.
const UNPREFIXED: [(&str, &str); 4] = [
    ("sessions", "id tenant_id user_id created_at"),
    ("messages", "execution_id role session_id turn_index text status created_at"),
    (
        "turns",
        "session_id turn_index turn_id execution_id agent state dispatched lease failure_code failure_message \
         created_at ended_at",
    ),
    ("sign_ins", "secret token created_at ends_at"),
];

/// The version of those tables, where the database has them: `user_version` and every column must be as that binary left them,
/// or they are the product's own.
fn unprefixed_version(db: &Connection) -> rusqlite::Result<Option<u32>> {
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if !(1..=3).contains(&version) {
        return Ok(None);
    }
    for (table, columns) in UNPREFIXED {
        let expected = match (table, version) {
            ("turns", 2 | 3) => format!("{columns} stop_asked"),
            ("sign_ins", 1 | 2) => continue,
            _ => columns.to_owned(),
        };
        let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
        let names: rusqlite::Result<Vec<String>> =
            statement.query_map([table], |row| row.get(0))?.collect();
        if names?.join(" ") != expected {
            return Ok(None);
        }
    }
    Ok(Some(version))
}

/// Moves the rows, and drops those tables. The worker of each open turn was one of another binary, which has ended: its lease
/// is free.
fn move_unprefixed(transaction: &Transaction<'_>, version: u32) -> rusqlite::Result<()> {
    let stop_asked = if version == 1 { "0" } else { "stop_asked" };
    transaction.execute_batch(&format!(
        "INSERT INTO turnkit_sessions (id, tenant_id, user_id, title, next_index, created_at)
            SELECT id, tenant_id, user_id,
                (SELECT substr(text, 1, 80) FROM messages WHERE session_id = s.id AND turn_index = 0 AND role = 'user'),
                (SELECT coalesce(max(turn_index) + 1, 0) FROM turns WHERE session_id = s.id),
                created_at
            FROM sessions s ORDER BY created_at, id;
        INSERT INTO turnkit_turns (session_id, turn_index, turn_id, execution_id, agent, state, dispatched, stop_asked,
                failure_code, failure_message, created_at, ended_at)
            SELECT session_id, turn_index, turn_id, execution_id, agent, state, dispatched, {stop_asked},
                failure_code, failure_message, created_at, ended_at
            FROM turns ORDER BY created_at, session_id, turn_index;
        INSERT INTO turnkit_messages (execution_id, role, session_id, turn_index, text, status, created_at)
            SELECT execution_id, role, session_id, turn_index, text, status, created_at FROM messages;
        DROP TABLE messages;
        DROP TABLE turns;
        DROP TABLE sessions;
        PRAGMA user_version = 0;"
    ))?;
    if version == 3 {
        transaction.execute_batch(
            "INSERT INTO turnkit_sign_ins (secret, token, created_at, ends_at)
                SELECT secret, token, created_at, ends_at FROM sign_ins ORDER BY rowid;
            DROP TABLE sign_ins;",
        )?;
    }
    Ok(())
}
