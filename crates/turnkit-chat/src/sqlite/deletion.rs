//! What is deleted, and what is remembered of it (PROTOCOL 4.2, "Deletion is two steps").

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use turnkit_id::ExecutionId;

use super::workers::Worker;
use super::{Fault, InTransaction, OwnStatements, feed, rows, sessions};
use crate::store::{Change, Deletion, NAME_RESTS, TOMBSTONE, unix_millis};
use crate::{Principal, SessionId, StoreError, StoreErrorKind};

/// Whether the execution is one of a deleted session.
pub(super) fn is_gone(db: &Connection, id: &ExecutionId) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM turnkit_deleted_executions WHERE execution_id = ?1";
    db.prepare_cached(sql)?.exists([id.as_str()])
}

/// An error where the execution is one of a deleted session.
pub(super) fn must_not_be_gone(db: &Connection, id: &ExecutionId) -> Result<(), Fault> {
    if is_gone(db, id)? {
        return Err(StoreError::new(StoreErrorKind::Gone).into());
    }
    Ok(())
}

/// Whether the name is one of a session that was deleted a while ago, and opens no other one yet.
pub(super) fn rests(
    db: &Connection,
    owner: &Principal,
    name: &str,
    now: i64,
) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM turnkit_deleted_sessions
        WHERE tenant_id = ?1 AND user_id = ?2 AND name = ?3 AND deleted_at > ?4";
    let values = params![owner.tenant_id, owner.user_id, name, before(now, NAME_RESTS)];
    db.prepare_cached(sql)?.exists(values)
}

fn before(now: i64, span: Duration) -> i64 {
    now.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn delete(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    deletion: &Deletion,
) -> Result<bool, Fault> {
    let Deletion { owner, session_id, if_idle_since } = deletion;
    let id = session_id.as_str();
    if !sessions::is_owner(tx, owner, session_id)? {
        let sql = "SELECT 1 FROM turnkit_deleted_sessions WHERE id = ?1 AND tenant_id = ?2 AND user_id = ?3";
        let values = params![id, owner.tenant_id, owner.user_id];
        return Ok(tx.prepare_cached(sql)?.exists(values)?);
    }
    if let Some(since) = if_idle_since {
        let sql = "SELECT 1 FROM turnkit_sessions WHERE id = ?1 AND active_at > ?2";
        if tx.prepare_cached(sql)?.exists(params![id, unix_millis(*since)])? {
            return Ok(false);
        }
    }
    if let Some(product) = product {
        let deleted = product.deleted(tx, owner, session_id);
        deleted.map_err(|error| OwnStatements::failed("deleted", error))?;
    }
    let now = worker.now();
    let sql = "INSERT INTO turnkit_deleted_sessions (id, tenant_id, user_id, name, deleted_at)
        SELECT id, tenant_id, user_id, name, ?2 FROM turnkit_sessions WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![id, now])?;
    // What was neither dispatched nor stopped is at no substrate, and nobody can claim it any more: a stop binds an id that never ran.
    let sql = "INSERT INTO turnkit_deleted_executions (execution_id, session_id, erased)
        SELECT execution_id, session_id, NOT (dispatched OR stop_asked) FROM turnkit_turns WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([id])?;
    for sql in [
        "DELETE FROM turnkit_turn_names WHERE session_id = ?1",
        "DELETE FROM turnkit_questions WHERE session_id = ?1",
        "DELETE FROM turnkit_intents WHERE session_id = ?1",
        "DELETE FROM turnkit_messages WHERE session_id = ?1",
        "DELETE FROM turnkit_turns WHERE session_id = ?1",
        "DELETE FROM turnkit_queue WHERE session_id = ?1",
        "DELETE FROM turnkit_sessions WHERE id = ?1",
    ] {
        tx.prepare_cached(sql)?.execute([id])?;
    }
    feed::forget(tx, session_id)?;
    feed::tell_owner(tx, owner, session_id, None, None, Change::SessionDeleted, now)?;
    forget(tx, now)?;
    Ok(true)
}

/// Forgets what was deleted long ago, once all of it is erased.
fn forget(db: &Connection, now: i64) -> rusqlite::Result<()> {
    let sql = "SELECT id FROM turnkit_deleted_sessions d WHERE deleted_at < ?1 AND scrubbed = 1
        AND NOT EXISTS (SELECT 1 FROM turnkit_deleted_executions e WHERE e.session_id = d.id AND e.erased = 0)";
    let mut statement = db.prepare_cached(sql)?;
    let old = statement.query_map([before(now, TOMBSTONE)], |row| row.get::<_, String>(0))?;
    for id in old.collect::<rusqlite::Result<Vec<_>>>()? {
        let sql = "DELETE FROM turnkit_deleted_executions WHERE session_id = ?1";
        db.prepare_cached(sql)?.execute([&id])?;
        let sql = "DELETE FROM turnkit_deleted_sessions WHERE id = ?1";
        db.prepare_cached(sql)?.execute([&id])?;
    }
    Ok(())
}

pub(super) fn idle(
    db: &Connection,
    since: SystemTime,
    limit: usize,
) -> rusqlite::Result<Vec<(Principal, SessionId)>> {
    let sql = "SELECT tenant_id, user_id, id FROM turnkit_sessions WHERE active_at <= ?1
        ORDER BY active_at, number LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![unix_millis(since), limit], |row| {
        let owner = Principal { tenant_id: row.get(0)?, user_id: row.get(1)? };
        Ok((owner, SessionId::new(row.get::<_, String>(2)?)))
    })?;
    rows.collect()
}

pub(super) fn to_erase(db: &Connection, limit: usize) -> rusqlite::Result<Vec<ExecutionId>> {
    let sql = "SELECT execution_id FROM turnkit_deleted_executions WHERE erased = 0 ORDER BY execution_id LIMIT ?1";
    let mut statement = db.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([limit], |row| rows::execution_id(row, 0))?;
    rows.collect()
}

pub(super) fn erased(
    db: &Connection,
    worker: &Worker,
    executions: &[ExecutionId],
) -> rusqlite::Result<()> {
    for id in executions {
        let sql = "UPDATE turnkit_deleted_executions SET erased = 1 WHERE execution_id = ?1";
        db.prepare_cached(sql)?.execute([id.as_str()])?;
    }
    forget(db, worker.now())
}

/// Whether there are deletions of which the log that SQLite writes ahead may still hold something.
pub(super) fn is_to_scrub(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM turnkit_deleted_sessions WHERE scrubbed = 0")?.exists([])
}

pub(super) fn scrubbed(db: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE turnkit_deleted_sessions SET scrubbed = 1 WHERE scrubbed = 0";
    db.prepare_cached(sql)?.execute([]).map(drop)
}

/// Copies the log into the file, where what was deleted is overwritten, and cuts it to nothing. Says whether it could: whoever reads an
/// older moment keeps it from that. Blocks.
pub(super) fn truncate_log(file: &Path, busy_timeout: Duration) -> Result<bool, Fault> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(busy_timeout)?;
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    let is_busy: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(is_busy == Some(0))
}
