//! What is deleted, and what is remembered of it (PROTOCOL 4.2, "Deletion is two steps").

use std::time::SystemTime;

use turnkit_id::ExecutionId;

use super::faults::Fault;
use super::feed;
use super::transaction::Tx;
use super::values::{Value, execution_id, text};
use crate::store::{Change, Deletion, NAME_RESTS, TOMBSTONE};
use crate::{Principal, SessionId, StoreErrorKind};

const _: () = assert!(NAME_RESTS.as_secs() == 24 * 3_600 && TOMBSTONE.as_secs() == 25 * 3_600);

/// Whether the execution is one of a deleted session.
pub(super) async fn is_gone(tx: &mut Tx<'_>, id: &ExecutionId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM turnkit_deleted_executions WHERE execution_id = $1";
    tx.exists(sql, &[id.into()]).await
}

/// An error where the execution is one of a deleted session.
pub(super) async fn must_not_be_gone(tx: &mut Tx<'_>, id: &ExecutionId) -> Result<(), Fault> {
    if is_gone(tx, id).await? { Err(Fault::of(StoreErrorKind::Gone)) } else { Ok(()) }
}

/// Whether the name is one of a session that was deleted a while ago, and opens no other one yet.
pub(super) async fn rests(tx: &mut Tx<'_>, owner: &Principal, name: &str) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM turnkit_deleted_sessions
        WHERE tenant_id = $1 AND user_id = $2 AND name = $3 AND deleted_at > clock_timestamp() - interval '24 hours'";
    tx.exists(sql, &[(&owner.tenant_id).into(), (&owner.user_id).into(), name.into()]).await
}

pub(super) async fn delete(tx: &mut Tx<'_>, deletion: &Deletion) -> Result<bool, Fault> {
    let Deletion { owner, session_id, if_idle_since } = deletion;
    let whose = [session_id.into(), (&owner.tenant_id).into(), (&owner.user_id).into()];
    let sql = "SELECT active_at FROM turnkit_sessions WHERE id = $1 AND tenant_id = $2 AND user_id = $3 FOR UPDATE";
    let Some(row) = tx.row(sql, &whose).await? else {
        let sql = "SELECT 1 FROM turnkit_deleted_sessions WHERE id = $1 AND tenant_id = $2 AND user_id = $3";
        return tx.exists(sql, &whose).await;
    };
    let active_at: SystemTime = row.try_get(0)?;
    if if_idle_since.is_some_and(|since| active_at > since) {
        return Ok(false);
    }
    if let Some(product) = tx.product {
        let deleted = Tx::guarded(product.deleted(&tx.transaction, owner, session_id)).await?;
        deleted.map_err(|error| Fault::of_product("deleted", &error))?;
    }
    let sql = "INSERT INTO turnkit_deleted_sessions (id, tenant_id, user_id, name, deleted_at)
        SELECT id, tenant_id, user_id, name, clock_timestamp() FROM turnkit_sessions WHERE id = $1";
    tx.write(sql, &[session_id.into()]).await?;
    // What was neither dispatched nor stopped is at no substrate, as a stop binds an id that never ran. A claim locks the turn alone, so they
    // are locked here: who comes later finds none.
    let sql = "INSERT INTO turnkit_deleted_executions (execution_id, session_id, erased)
        SELECT execution_id, session_id, NOT (dispatched OR stop_asked) FROM turnkit_turns WHERE session_id = $1 FOR UPDATE";
    tx.write(sql, &[session_id.into()]).await?;
    for sql in [
        "DELETE FROM turnkit_turn_names WHERE session_id = $1",
        "DELETE FROM turnkit_questions WHERE session_id = $1",
        "DELETE FROM turnkit_intents WHERE session_id = $1",
        "DELETE FROM turnkit_messages WHERE session_id = $1",
        "DELETE FROM turnkit_turns WHERE session_id = $1",
        "DELETE FROM turnkit_queue WHERE session_id = $1",
        "DELETE FROM turnkit_sessions WHERE id = $1",
    ] {
        tx.write(sql, &[session_id.into()]).await?;
    }
    feed::forget(tx, session_id).await?;
    forget(tx).await?;
    tx.tell(owner, session_id, Change::SessionDeleted, None);
    Ok(true)
}

/// Forgets what was deleted long ago, once all of it is erased.
async fn forget(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let sql = "WITH old AS (
            DELETE FROM turnkit_deleted_sessions d WHERE d.deleted_at < clock_timestamp() - interval '25 hours'
                AND NOT EXISTS (SELECT 1 FROM turnkit_deleted_executions e WHERE e.session_id = d.id AND NOT e.erased)
            RETURNING d.id)
        DELETE FROM turnkit_deleted_executions e USING old WHERE e.session_id = old.id";
    tx.write(sql, &[]).await.map(drop)
}

pub(super) async fn idle(
    tx: &mut Tx<'_>,
    since: SystemTime,
    limit: usize,
) -> Result<Vec<(Principal, SessionId)>, Fault> {
    let sql = "SELECT tenant_id, user_id, id FROM turnkit_sessions WHERE active_at <= $1
        ORDER BY active_at, number LIMIT $2";
    let rows = tx.rows(sql, &[since.into(), limit.into()]).await?;
    let idle = rows.iter().map(|row| {
        let owner = Principal { tenant_id: text(row, 0)?, user_id: text(row, 1)? };
        Ok((owner, SessionId::new(text(row, 2)?)))
    });
    idle.collect()
}

pub(super) async fn to_erase(tx: &mut Tx<'_>, limit: usize) -> Result<Vec<ExecutionId>, Fault> {
    let sql = "SELECT execution_id FROM turnkit_deleted_executions WHERE NOT erased ORDER BY execution_id LIMIT $1";
    let rows = tx.rows(sql, &[limit.into()]).await?;
    rows.iter().map(|row| execution_id(row, 0)).collect()
}

pub(super) async fn erased(tx: &mut Tx<'_>, executions: &[ExecutionId]) -> Result<(), Fault> {
    let sql = "UPDATE turnkit_deleted_executions SET erased = true WHERE execution_id = ANY ($1)";
    let ids = executions.iter().map(|id| Some(id.as_str())).collect();
    tx.write(sql, &[Value::Texts(ids)]).await?;
    forget(tx).await
}
