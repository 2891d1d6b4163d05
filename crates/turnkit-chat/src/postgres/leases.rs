//! Workers, the log that they dispatch to, and the leases that they hold, all by the server's clock (PROTOCOL 4.2).

use std::collections::HashMap;

use turnkit_id::{ExecutionId, LogId};

use super::deletion;
use super::faults::Fault;
use super::transaction::Tx;
use super::values::{Value, execution_id, text, unsigned};
use crate::StoreErrorKind;
use crate::store::{Claim, Claimed, Joined, LEASE, Lease, Renewed, unnamed_log};

/// [`LEASE`] in SQL.
const SPAN: &str = "interval '15 seconds'";
const _: () = assert!(LEASE.as_secs() == 15 && LEASE.subsec_nanos() == 0);

/// Whether the worker in this column lives: it has joined, and has renewed within [`LEASE`].
pub(super) fn living(column: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM turnkit_workers w WHERE w.id = {column} AND w.renewed_at >= clock_timestamp() - {SPAN})"
    )
}

/// Makes this handle a worker that dispatches to `log`, and forgets those that have ended long ago. The row of the log is locked, so of
/// two that join with two logs the second one sees the first.
pub(super) async fn join(tx: &mut Tx<'_>, log: &LogId) -> Result<Joined, Fault> {
    let name: Value<'_> = log.as_str().into();
    let sql = "INSERT INTO turnkit_log (id, log_id) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
    tx.write(sql, &[log.as_str().into()]).await?;
    let known = text(&tx.one("SELECT log_id FROM turnkit_log FOR UPDATE", &[]).await?, 0)?;
    if known != log.as_str() {
        let sql = format!(
            "SELECT 1 FROM turnkit_workers WHERE id <> $1 AND renewed_at >= clock_timestamp() - {SPAN} LIMIT 1"
        );
        if tx.exists(&sql, &[tx.worker.into()]).await? {
            return Ok(Joined::OtherLog(parsed(&known)?));
        }
        tx.write("UPDATE turnkit_log SET log_id = $1", &[name]).await?;
    }
    let sql = "DELETE FROM turnkit_workers WHERE renewed_at < clock_timestamp() - interval '1 day'";
    tx.write(sql, &[]).await?;
    let sql = "INSERT INTO turnkit_workers (id, renewed_at) VALUES ($1, clock_timestamp())
        ON CONFLICT (id) DO UPDATE SET renewed_at = excluded.renewed_at";
    tx.write(sql, &[tx.worker.into()]).await?;
    Ok(Joined::Member)
}

pub(super) async fn renew(tx: &mut Tx<'_>, held: &[Lease]) -> Result<Renewed, Fault> {
    let sql = "UPDATE turnkit_workers SET renewed_at = clock_timestamp() WHERE id = $1";
    if tx.write(sql, &[tx.worker.into()]).await? == 0 {
        return Err(not_joined());
    }
    // In one step: a lease that this worker claims meanwhile anew is not the one that is released.
    let sql = format!(
        "UPDATE turnkit_turns SET released = true
        WHERE worker = $1 AND state = 'open' AND NOT released AND claimed_at < clock_timestamp() - {SPAN} AND execution_id <> ALL ($2)"
    );
    let named = held.iter().map(|lease| Some(lease.execution_id.as_str())).collect();
    let released = tx.write(&sql, &[tx.worker.into(), Value::Texts(named)]).await?;
    tx.freed = released > 0;
    let sql = "SELECT execution_id, epoch FROM turnkit_turns WHERE worker = $1 AND state = 'open' AND NOT released";
    let mut ours = HashMap::new();
    for row in tx.rows(sql, &[tx.worker.into()]).await? {
        ours.insert(execution_id(&row, 0)?, unsigned(&row, 1)?);
    }
    let lost = held.iter().filter(|lease| ours.get(&lease.execution_id) != Some(&lease.epoch));
    let lost = lost.map(|lease| lease.execution_id.clone()).collect();
    Ok(Renewed { lost, log: named_log(tx).await? })
}

pub(super) async fn move_log(tx: &mut Tx<'_>, from: &LogId, to: &LogId) -> Result<LogId, Fault> {
    let sql = "UPDATE turnkit_log SET log_id = $2 WHERE log_id = $1";
    tx.write(sql, &[from.as_str().into(), to.as_str().into()]).await?;
    named_log(tx).await
}

pub(super) async fn claim(tx: &mut Tx<'_>, claim: &Claim) -> Result<Claimed, Fault> {
    let Claim { execution_id: id, nonce, seen_epoch, may_run } = claim;
    let nonce = nonce.to_be_bytes();
    let living = living("t.worker");
    // The turn's own row is all that it needs: of two claims the one that waited for the other's commit finds another epoch.
    let sql = format!(
        "UPDATE turnkit_turns t SET epoch = epoch + 1, worker = $3, nonce = $4, ran = NOT dispatched, dispatched = true,
            claimed_at = clock_timestamp(), released = false
        WHERE execution_id = $1 AND state = 'open' AND epoch = $2 AND (dispatched OR $5) AND (released OR NOT {living})
            AND EXISTS (SELECT 1 FROM turnkit_workers WHERE id = $3)
        RETURNING ran, epoch"
    );
    let values =
        [id.into(), (*seen_epoch).into(), tx.worker.into(), (&nonce).into(), (*may_run).into()];
    let mut taken = tx.row(&sql, &values).await?;
    // Why not is asked only then.
    if taken.is_none() {
        let sql = "SELECT 1 FROM turnkit_workers WHERE id = $1";
        if !tx.exists(sql, &[tx.worker.into()]).await? {
            return Err(not_joined());
        }
        deletion::must_not_be_gone(tx, id).await?;
        // The same claim again: its answer was lost.
        let sql = "SELECT ran, epoch FROM turnkit_turns WHERE execution_id = $1 AND state = 'open' AND worker = $2 AND nonce = $3";
        taken = tx.row(sql, &[id.into(), tx.worker.into(), (&nonce).into()]).await?;
    }
    let Some(taken) = taken else {
        return Ok(Claimed::Refused);
    };
    let lease = Lease { execution_id: id.clone(), epoch: unsigned(&taken, 1)? };
    Ok(if taken.try_get(0)? { Claimed::Run(lease) } else { Claimed::Attach(lease) })
}

pub(super) async fn release(tx: &mut Tx<'_>, lease: &Lease) -> Result<(), Fault> {
    let sql = "UPDATE turnkit_turns SET released = true WHERE execution_id = $1 AND epoch = $2";
    tx.write(sql, &[(&lease.execution_id).into(), lease.epoch.into()]).await?;
    tx.freed = true;
    Ok(())
}

/// The open turns whose lease is free.
pub(super) fn free() -> String {
    format!("t.state = 'open' AND (t.released OR NOT {})", living("t.worker"))
}

pub(super) async fn unattended(tx: &mut Tx<'_>, limit: usize) -> Result<Vec<ExecutionId>, Fault> {
    let sql = format!(
        "SELECT t.execution_id FROM turnkit_turns t WHERE {} ORDER BY t.number LIMIT $1",
        free()
    );
    let rows = tx.rows(&sql, &[limit.into()]).await?;
    rows.iter().map(|row| execution_id(row, 0)).collect()
}

async fn named_log(tx: &mut Tx<'_>) -> Result<LogId, Fault> {
    match tx.row("SELECT log_id FROM turnkit_log", &[]).await? {
        Some(row) => parsed(&text(&row, 0)?),
        None => Ok(unnamed_log()),
    }
}

fn parsed(log: &str) -> Result<LogId, Fault> {
    LogId::parse(log).map_err(|error| Fault::broken(error.to_string()))
}

fn not_joined() -> Fault {
    Fault::because(StoreErrorKind::Broken, "the handle has not joined")
}
