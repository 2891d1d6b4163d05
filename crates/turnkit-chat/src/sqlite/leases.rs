//! Workers, the log that they dispatch to, and the leases that they hold (PROTOCOL 4.2).

use std::collections::{HashMap, HashSet};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};
use turnkit_id::{ExecutionId, LogId};

use super::rows::{column, execution_id, unsigned};
use super::workers::{Worker, is_over};
use super::{Fault, deletion};
use crate::store::{Claim, Claimed, Joined, Lease, Renewed, unnamed_log};
use crate::{StoreError, StoreErrorKind};

/// The open turns that a worker holds.
pub(super) const HELD: &str = "SELECT execution_id, epoch, claimed_at FROM turnkit_turns
    WHERE worker = ?1 AND state = 'open' AND released = 0";
/// The open turns, the oldest first, and who holds each.
pub(super) const OPEN: &str = "SELECT execution_id, iif(released, NULL, worker) FROM turnkit_turns
    WHERE state = 'open' ORDER BY number";

/// Makes `worker` one that dispatches to `log`, and forgets those of which the system tells that they have ended.
pub(super) fn join(db: &Connection, worker: &Worker, log: &LogId) -> rusqlite::Result<Joined> {
    let now = worker.now();
    let mut is_alone = true;
    for (id, renewed_at) in all(db)? {
        if id == worker.id {
            continue;
        }
        if worker.is_gone(&id) {
            db.prepare_cached("DELETE FROM turnkit_workers WHERE id = ?1")?.execute([&id])?;
        } else if !is_over(renewed_at, now) {
            is_alone = false;
        }
    }
    if let Some(known) = log_id(db)?.filter(|known| known != log && !is_alone) {
        return Ok(Joined::OtherLog(known));
    }
    let sql = "INSERT INTO turnkit_log (id, log_id) VALUES (1, ?1)
        ON CONFLICT (id) DO UPDATE SET log_id = excluded.log_id";
    db.prepare_cached(sql)?.execute([log.as_str()])?;
    heartbeat(db, worker, now)?;
    Ok(Joined::Member)
}

fn heartbeat(db: &Connection, worker: &Worker, now: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO turnkit_workers (id, renewed_at) VALUES (?1, ?2)
        ON CONFLICT (id) DO UPDATE SET renewed_at = excluded.renewed_at";
    db.prepare_cached(sql)?.execute(params![worker.id, now]).map(drop)
}

/// One write for the worker, one read of the open turns that it holds, and a write for each that it does not drive any more.
/// Says also whether there were such.
pub(super) fn renew(
    db: &Connection,
    worker: &Worker,
    held: Vec<Lease>,
) -> Result<(Renewed, bool), Fault> {
    must_have_joined(db, worker)?;
    let now = worker.now();
    heartbeat(db, worker, now)?;
    let mut ours: HashMap<ExecutionId, u64> = HashMap::with_capacity(held.len());
    let mut forgotten = Vec::new();
    let named: HashSet<&ExecutionId> = held.iter().map(|lease| &lease.execution_id).collect();
    let mut statement = db.prepare_cached(HELD)?;
    let mut rows = statement.query([&worker.id])?;
    while let Some(row) = rows.next()? {
        let (id, claimed_at) = (execution_id(row, 0)?, row.get(2)?);
        if named.contains(&id) || !is_over(claimed_at, now) {
            ours.insert(id, unsigned(row, 1)?);
        } else {
            forgotten.push(id);
        }
    }
    for id in &forgotten {
        let sql = "UPDATE turnkit_turns SET released = 1 WHERE execution_id = ?1";
        db.prepare_cached(sql)?.execute([id.as_str()])?;
    }
    let is_lost = |lease: &Lease| ours.get(&lease.execution_id) != Some(&lease.epoch);
    let lost = held.into_iter().filter(is_lost).map(|lease| lease.execution_id).collect();
    let log = log_id(db)?.unwrap_or_else(unnamed_log);
    Ok((Renewed { lost, log }, !forgotten.is_empty()))
}

pub(super) fn move_log(db: &Connection, from: &LogId, to: &LogId) -> rusqlite::Result<LogId> {
    let sql = "UPDATE turnkit_log SET log_id = ?2 WHERE log_id = ?1";
    db.prepare_cached(sql)?.execute([from.as_str(), to.as_str()])?;
    Ok(log_id(db)?.unwrap_or_else(unnamed_log))
}

pub(super) fn claim(db: &Connection, worker: &Worker, claim: &Claim) -> Result<Claimed, Fault> {
    must_have_joined(db, worker)?;
    deletion::must_not_be_gone(db, &claim.execution_id)?;
    let granted = |ran, epoch| {
        let lease = Lease { execution_id: claim.execution_id.clone(), epoch };
        if ran { Claimed::Run(lease) } else { Claimed::Attach(lease) }
    };
    let (id, nonce) = (claim.execution_id.as_str(), claim.nonce.to_be_bytes());
    // The same claim again: its answer was lost.
    let sql = "SELECT ran, epoch FROM turnkit_turns
        WHERE execution_id = ?1 AND state = 'open' AND worker = ?2 AND nonce = ?3";
    let again = db.prepare_cached(sql)?.query_row(params![id, worker.id, nonce], |row| {
        Ok(granted(row.get(0)?, unsigned(row, 1)?))
    });
    if let Some(again) = again.optional()? {
        return Ok(again);
    }
    let sql = "SELECT worker FROM turnkit_turns WHERE execution_id = ?1 AND state = 'open' AND NOT released";
    let holder = db.prepare_cached(sql)?.query_row([id], |row| row.get::<_, Option<String>>(0));
    if let Some(holder) = holder.optional()?.flatten()
        && worker.lives(db, &holder)?
    {
        return Ok(Claimed::Refused);
    }
    // No transaction can come between: this one has been a writer's from its beginning.
    let sql = "UPDATE turnkit_turns SET epoch = epoch + 1, worker = ?3, nonce = ?4, ran = NOT dispatched, dispatched = 1,
            claimed_at = ?5, released = 0
        WHERE execution_id = ?1 AND state = 'open' AND epoch = ?2 AND (dispatched OR ?6)
        RETURNING ran, epoch";
    let seen = column(claim.seen_epoch)?;
    let values = params![id, seen, worker.id, nonce, worker.now(), claim.may_run];
    let taken = db
        .prepare_cached(sql)?
        .query_row(values, |row| Ok(granted(row.get(0)?, unsigned(row, 1)?)))
        .optional()?;
    Ok(taken.unwrap_or(Claimed::Refused))
}

pub(super) fn release(db: &Connection, lease: &Lease) -> rusqlite::Result<()> {
    let sql = "UPDATE turnkit_turns SET released = 1 WHERE execution_id = ?1 AND epoch = ?2";
    let values = params![lease.execution_id.as_str(), column(lease.epoch)?];
    db.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn unattended(
    db: &Connection,
    worker: &Worker,
    limit: usize,
) -> rusqlite::Result<Vec<ExecutionId>> {
    let mut living = HashSet::new();
    for (id, _) in all(db)? {
        if worker.lives(db, &id)? {
            living.insert(id);
        }
    }
    let mut statement = db.prepare_cached(OPEN)?;
    let mut rows = statement.query([])?;
    let mut free = Vec::new();
    while free.len() < limit
        && let Some(row) = rows.next()?
    {
        let holder: Option<String> = row.get(1)?;
        if !holder.is_some_and(|holder| living.contains(&holder)) {
            free.push(execution_id(row, 0)?);
        }
    }
    Ok(free)
}

fn all(db: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement = db.prepare_cached("SELECT id, renewed_at FROM turnkit_workers")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn log_id(db: &Connection) -> rusqlite::Result<Option<LogId>> {
    let sql = "SELECT log_id FROM turnkit_log";
    let text = db.prepare_cached(sql)?.query_row([], |row| row.get::<_, String>(0)).optional()?;
    let broken = |error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error));
    text.map(|text| LogId::parse(&text).map_err(broken)).transpose()
}

fn must_have_joined(db: &Connection, worker: &Worker) -> Result<(), Fault> {
    let sql = "SELECT 1 FROM turnkit_workers WHERE id = ?1";
    if db.prepare_cached(sql)?.exists([&worker.id])? {
        return Ok(());
    }
    Err(StoreError::because(StoreErrorKind::Broken, "the handle has not joined").into())
}
