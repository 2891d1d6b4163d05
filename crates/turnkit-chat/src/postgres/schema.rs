//! The tables and how they come about.

use tokio_postgres::{Client, Transaction};

use super::faults::Fault;
use crate::{StoreError, StoreErrorKind};

/// One step each; the row of `turnkit_schema` counts the steps taken. A step that has been released never changes.
const STEPS: &[&str] = &[
    r"
    CREATE TABLE turnkit_log (
        id      SMALLINT PRIMARY KEY CHECK (id = 1),
        log_id  TEXT NOT NULL
    );

    CREATE TABLE turnkit_workers (
        id          TEXT PRIMARY KEY,
        renewed_at  TIMESTAMPTZ NOT NULL
    );

    CREATE TABLE turnkit_sessions (
        number        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id            TEXT NOT NULL UNIQUE,
        name          TEXT NOT NULL,
        tenant_id     TEXT NOT NULL,
        user_id       TEXT NOT NULL,
        title         TEXT,
        next_index    BIGINT NOT NULL DEFAULT 0,
        queue_paused  BOOLEAN NOT NULL DEFAULT false,
        created_at    TIMESTAMPTZ NOT NULL,
        active_at     TIMESTAMPTZ NOT NULL,
        UNIQUE (tenant_id, user_id, name)
    );
    CREATE INDEX turnkit_sessions_of_user ON turnkit_sessions (tenant_id, user_id, number);
    CREATE INDEX turnkit_sessions_by_activity ON turnkit_sessions (active_at);

    CREATE TABLE turnkit_turns (
        number           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        session_id       TEXT NOT NULL REFERENCES turnkit_sessions (id),
        turn_index       BIGINT NOT NULL,
        parent_index     BIGINT,
        turn_id          TEXT NOT NULL,
        client_id        TEXT,
        execution_id     TEXT NOT NULL UNIQUE,
        agent            TEXT NOT NULL,
        first_asked      BYTEA,
        state            TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'complete', 'stopped', 'failed')),
        dispatched       BOOLEAN NOT NULL DEFAULT false,
        stop_asked       BOOLEAN NOT NULL DEFAULT false,
        epoch            BIGINT NOT NULL DEFAULT 0,
        worker           TEXT,
        nonce            BYTEA,
        ran              BOOLEAN,
        claimed_at       TIMESTAMPTZ,
        released         BOOLEAN NOT NULL DEFAULT false,
        failure_code     TEXT,
        failure_message  TEXT,
        created_at       TIMESTAMPTZ NOT NULL,
        ended_at         TIMESTAMPTZ,
        UNIQUE (session_id, turn_index),
        UNIQUE (session_id, turn_id)
    );
    CREATE UNIQUE INDEX turnkit_open_turn_of_session ON turnkit_turns (session_id) WHERE state = 'open';
    CREATE INDEX turnkit_open_turns ON turnkit_turns (number) WHERE state = 'open';
    CREATE INDEX turnkit_held_turns ON turnkit_turns (worker) WHERE state = 'open' AND NOT released;
    CREATE INDEX turnkit_turns_by_name ON turnkit_turns (turn_id);
    CREATE INDEX turnkit_siblings ON turnkit_turns (session_id, parent_index, turn_index);

    CREATE TABLE turnkit_messages (
        execution_id  TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        role          TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        session_id    TEXT NOT NULL,
        turn_index    BIGINT NOT NULL,
        text          TEXT NOT NULL,
        parts         TEXT,
        summary       TEXT,
        status        TEXT NOT NULL CHECK (status IN ('complete', 'stopped', 'failed')),
        created_at    TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (execution_id, role),
        UNIQUE (session_id, turn_index, role)
    );

    CREATE TABLE turnkit_queue (
        number       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        session_id   TEXT NOT NULL REFERENCES turnkit_sessions (id),
        turn_id      TEXT NOT NULL,
        client_id    TEXT,
        agent        TEXT NOT NULL,
        message      TEXT NOT NULL,
        after_id     TEXT,
        replaces_id  TEXT,
        first_asked  BYTEA,
        created_at   TIMESTAMPTZ NOT NULL,
        removed      BOOLEAN NOT NULL DEFAULT false,
        UNIQUE (session_id, turn_id)
    );
    CREATE INDEX turnkit_waiting_turns ON turnkit_queue (session_id, number) WHERE NOT removed;

    CREATE TABLE turnkit_deleted_sessions (
        id          TEXT PRIMARY KEY,
        tenant_id   TEXT NOT NULL,
        user_id     TEXT NOT NULL,
        name        TEXT NOT NULL,
        deleted_at  TIMESTAMPTZ NOT NULL
    );
    CREATE INDEX turnkit_deleted_names ON turnkit_deleted_sessions (tenant_id, user_id, name);
    CREATE INDEX turnkit_tombstones_by_age ON turnkit_deleted_sessions (deleted_at);

    CREATE TABLE turnkit_deleted_executions (
        execution_id  TEXT PRIMARY KEY,
        session_id    TEXT NOT NULL,
        erased        BOOLEAN NOT NULL
    );
    CREATE INDEX turnkit_unerased ON turnkit_deleted_executions (execution_id) WHERE NOT erased;
    CREATE INDEX turnkit_deleted_of_session ON turnkit_deleted_executions (session_id, erased);

    CREATE TABLE turnkit_feeds (
        tenant_id  TEXT NOT NULL,
        user_id    TEXT NOT NULL,
        feed       TEXT NOT NULL UNIQUE,
        newest     BIGINT NOT NULL DEFAULT 0,
        dropped    BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant_id, user_id)
    );

    CREATE TABLE turnkit_feed_entries (
        feed            TEXT NOT NULL,
        number          BIGINT NOT NULL,
        change          TEXT NOT NULL,
        state           TEXT,
        session_id      TEXT NOT NULL,
        turn_id         TEXT,
        at              TIMESTAMPTZ NOT NULL,
        interaction_id  TEXT,
        PRIMARY KEY (feed, number)
    );
    CREATE INDEX turnkit_feed_of_session ON turnkit_feed_entries (session_id, number);

    CREATE TABLE turnkit_questions (
        number          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        execution_id    TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        session_id      TEXT NOT NULL,
        interaction_id  TEXT NOT NULL,
        question        TEXT NOT NULL,
        outcome         TEXT,
        UNIQUE (execution_id, interaction_id)
    );
    CREATE INDEX turnkit_questions_of_session ON turnkit_questions (session_id);

    CREATE TABLE turnkit_intents (
        number        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        execution_id  TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        session_id    TEXT NOT NULL,
        kind          TEXT NOT NULL CHECK (kind IN ('answer', 'input')),
        subject       TEXT NOT NULL,
        outcome       TEXT,
        content       TEXT,
        user_id       TEXT NOT NULL,
        created_at    TIMESTAMPTZ NOT NULL,
        status        BIGINT
    );
    CREATE INDEX turnkit_intents_of_execution ON turnkit_intents (execution_id, kind, subject);
    CREATE INDEX turnkit_intents_of_session ON turnkit_intents (session_id);
    CREATE INDEX turnkit_undecided_intents ON turnkit_intents (number) WHERE status IS NULL;

    CREATE TABLE turnkit_sign_ins (
        number      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        secret      BYTEA NOT NULL UNIQUE,
        token       BYTEA NOT NULL,
        created_at  TIMESTAMPTZ NOT NULL,
        ends_at     TIMESTAMPTZ NOT NULL
    );
    CREATE INDEX turnkit_sign_ins_of_token ON turnkit_sign_ins (token, created_at);
    CREATE INDEX turnkit_sign_ins_by_end ON turnkit_sign_ins (ends_at);
",
    r"
    ALTER TABLE turnkit_sessions ADD COLUMN archived BOOLEAN NOT NULL DEFAULT false;
    CREATE INDEX turnkit_sessions_by_archive ON turnkit_sessions (tenant_id, user_id, archived, number);
",
    r"
    -- A turn knows its place, so that nobody walks a branch to count it or to find one (ADR 0058).
    ALTER TABLE turnkit_turns ADD COLUMN said_bytes BIGINT;
    UPDATE turnkit_turns t SET said_bytes = octet_length(asked.text) + octet_length(answer.text)
        FROM turnkit_messages asked, turnkit_messages answer
        WHERE t.state = 'complete' AND asked.execution_id = t.execution_id AND asked.role = 'user'
            AND answer.execution_id = t.execution_id AND answer.role = 'assistant'
            AND btrim(answer.text, E'\u0009\u000a\u000b\u000c\u000d\u0020\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000') <> '';
    ALTER TABLE turnkit_turns ADD COLUMN said_before BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE turnkit_turns ADD COLUMN said_bytes_before BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE turnkit_turns ADD COLUMN lane BIGINT;
    WITH RECURSIVE placed (session_id, turn_index, lane, said_before, said_bytes_before, said_bytes) AS (
        SELECT session_id, turn_index, turn_index, 0::int8, 0::int8, said_bytes FROM turnkit_turns WHERE parent_index IS NULL
        UNION ALL
        SELECT t.session_id, t.turn_index,
            CASE WHEN t.turn_index = (SELECT min(s.turn_index) FROM turnkit_turns s
                WHERE s.session_id = t.session_id AND s.parent_index = t.parent_index) THEN p.lane ELSE t.turn_index END,
            p.said_before + (p.said_bytes IS NOT NULL)::int, p.said_bytes_before + coalesce(p.said_bytes, 0), t.said_bytes
        FROM placed p JOIN turnkit_turns t ON t.session_id = p.session_id AND t.parent_index = p.turn_index)
    UPDATE turnkit_turns t SET lane = p.lane, said_before = p.said_before, said_bytes_before = p.said_bytes_before
        FROM placed p WHERE p.session_id = t.session_id AND p.turn_index = t.turn_index;
    -- Without a default: a server of an older version that still runs can accept no turn without its place.
    ALTER TABLE turnkit_turns ALTER COLUMN lane SET NOT NULL;
    CREATE INDEX turnkit_lanes ON turnkit_turns (session_id, lane, turn_index);
    -- The turns that begin a lane.
    CREATE INDEX turnkit_forks ON turnkit_turns (session_id, parent_index, turn_index DESC) WHERE lane = turn_index;
",
    r"
    -- Names that turns were given beside their own (ADR 0092).
    CREATE TABLE turnkit_turn_names (
        number        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        session_id    TEXT NOT NULL,
        name          TEXT NOT NULL,
        execution_id  TEXT NOT NULL REFERENCES turnkit_turns (execution_id),
        UNIQUE (session_id, name)
    );
    CREATE INDEX turnkit_turns_by_given_name ON turnkit_turn_names (name);
    CREATE INDEX turnkit_names_of_turn ON turnkit_turn_names (execution_id, number);
",
    "-- From here on the one text part of an answer may be empty, and be told by the text of its row: a version that does not know it would show an empty part.",
];

/// PostgreSQL 13, the first that tells its snapshots.
const OLDEST: i32 = 130_000;
/// The advisory lock of whoever migrates: `turnkit` in ASCII.
const LOCK: i64 = 0x0074_7572_6e6b_6974;

/// The schema of a database that a newer version has written.
#[derive(Debug, thiserror::Error)]
#[error("read schema {found} of turnkit's tables: this version knows up to {known}")]
struct Newer {
    found: i64,
    known: i64,
}

/// Brings the database to the newest schema, in one transaction under a lock. Says whether commits are to be made to wait for the disk, as
/// the server is set up not to.
pub(super) async fn migrate(client: &mut Client) -> Result<bool, Fault> {
    let transaction = client.transaction().await?;
    let sql =
        "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'),
        current_setting('synchronous_commit')";
    let row = transaction.query_typed_one(sql, &[]).await?;
    let (version, encoding): (i32, &str) = (row.try_get(0)?, row.try_get(1)?);
    if version < OLDEST {
        let name = format!("PostgreSQL {}, where 13 is the oldest that will do", version / 10_000);
        return Err(Fault::broken(name));
    }
    if encoding != "UTF8" {
        return Err(Fault::broken(format!(
            "the database's encoding is {encoding}, and only UTF8 will do (CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0)"
        )));
    }
    let is_lax = row.try_get::<_, &str>(2)? == "off";
    // A newer database is left as it is.
    if steps_taken(&transaction).await? == known() {
        return Ok(is_lax);
    }
    transaction.batch_execute("SET LOCAL lock_timeout = '5s'").await?;
    transaction.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    // Another handle may have been faster, while this one waited for the lock.
    let taken = steps_taken(&transaction).await?;
    for step in STEPS.iter().skip(usize::try_from(taken).unwrap_or(0)) {
        transaction.batch_execute(step).await?;
    }
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS turnkit_schema (
            id       SMALLINT PRIMARY KEY CHECK (id = 1),
            version  BIGINT NOT NULL
        );
        INSERT INTO turnkit_schema (id, version) VALUES (1, {})
            ON CONFLICT (id) DO UPDATE SET version = excluded.version",
        known()
    );
    transaction.batch_execute(&sql).await?;
    transaction.commit().await.map_err(|error| Fault::at_commit(&error))?;
    Ok(is_lax)
}

/// How many steps the database has taken. One that has taken more than are known is refused.
pub(super) async fn steps_taken(transaction: &Transaction<'_>) -> Result<i64, Fault> {
    // By the rows of the catalog: what a name leads to is remembered for the whole transaction, also that it led nowhere.
    let sql =
        "SELECT 1 FROM pg_class WHERE relname = 'turnkit_schema' AND pg_table_is_visible(oid)";
    if transaction.query_typed_opt(sql, &[]).await?.is_none() {
        return Ok(0);
    }
    let sql = "SELECT coalesce(max(version), 0)::int8 FROM turnkit_schema";
    let found = transaction.query_typed_one(sql, &[]).await?.try_get(0)?;
    if found > known() {
        let newer = Newer { found, known: known() };
        return Err(StoreError::because(StoreErrorKind::Newer, newer).into());
    }
    Ok(found)
}

fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::STEPS;

    /// An answer is blank to the step that looks for text in old ones as it is to [`str::trim`].
    #[test]
    fn white_space_is_what_unicode_has() {
        let blank = (0..=0x10_FFFF).filter_map(char::from_u32).filter(|c| c.is_whitespace());
        let blank: Vec<_> = blank.map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        assert!(STEPS[2].contains(&format!("E'{}'", blank.concat())), "{blank:?}");
    }
}
