//! Turns: accepted once, ended once (PROTOCOL 4.2). With each goes what the product itself writes about it.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use turnkit::Persisted;
use turnkit_id::ExecutionId;

use super::connections::Piece;
use super::rows::{self, column, unsigned};
use super::workers::Worker;
use super::{Fault, InTransaction, NotAccepted, OwnStatements, sessions};
use crate::store::{Accepted, EndedBy, NewRow, Siblings, TITLE, TurnRow};
use crate::{Answer, Ending, Principal, StoreError, StoreErrorKind, Turn, TurnRef, TurnState};

pub(super) fn accept(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    new: NewRow,
) -> Piece<Accepted> {
    let turn = match insert(tx, worker, new) {
        Ok(Ok(turn)) => turn,
        Ok(Err(not_new)) => return Piece::Keep(not_new),
        Err(fault) => return Piece::Undo(Err(fault.0)),
    };
    match product.map_or(Ok(()), |product| product.accepted(tx, &turn)) {
        Ok(()) => {}
        Err(NotAccepted::Veto(veto)) => return Piece::Undo(Ok(Accepted::Refused(veto))),
        Err(NotAccepted::Failed(error)) => {
            return Piece::Undo(Err(OwnStatements::failed("accepted", error).0));
        }
    }
    Piece::Keep(Accepted::New(TurnRow {
        turn,
        state: TurnState::Open,
        dispatched: false,
        stop_asked: false,
        epoch: 0,
        is_held: false,
        failure: None,
    }))
}

/// Inserts the turn and the user's message, or says why not.
fn insert(db: &Connection, worker: &Worker, new: NewRow) -> Result<Result<Turn, Accepted>, Fault> {
    let NewRow { owner, session_id, turn_id, message, agent, after, replaces, client_id } = new;
    if !sessions::is_owner(db, &owner, &session_id)? {
        return Ok(Err(Accepted::NoSession));
    }
    let at = TurnRef { session_id, turn_id };
    let named = |name: &String| {
        rows::by_name(db, worker, &TurnRef::new(at.session_id.clone(), name.as_str()))
    };
    let asked_parent = match (&replaces, &after) {
        (Some(replaced), _) => Some(named(replaced)?.map(|row| row.turn.parent)),
        (None, Some(after)) => Some(named(after)?.map(|row| Some(row.turn.index))),
        (None, None) => None,
    };
    if let Some(known) = rows::by_name(db, worker, &at)? {
        let is_same = known.turn.message == message
            && known.turn.agent == agent
            && asked_parent.is_none_or(|parent| parent == Some(known.turn.parent));
        return Ok(Err(if is_same { Accepted::Known(known) } else { Accepted::Conflict }));
    }
    if asked_parent == Some(None) {
        return Ok(Err(Accepted::NoParent));
    }
    let sql = "SELECT turn_id FROM turnkit_turns WHERE session_id = ?1 AND state = 'open'";
    let open = db.prepare_cached(sql)?.query_row([at.session_id.as_str()], |row| row.get(0));
    if let Some(turn_id) = open.optional()? {
        return Ok(Err(Accepted::Running { turn_id }));
    }

    let sql = "UPDATE turnkit_sessions SET next_index = next_index + 1, title = coalesce(title, ?2)
        WHERE id = ?1 RETURNING next_index - 1";
    let title: String = message.chars().take(TITLE).collect();
    let values = params![at.session_id.as_str(), title];
    let index = db.prepare_cached(sql)?.query_row(values, |row| unsigned(row, 0))?;
    let execution_id = ExecutionId::derive(&owner.tenant_id, at.session_id.as_str(), index)
        .map_err(|error| StoreError::because(StoreErrorKind::Broken, error))?;
    let newest = || rows::newest_index(db, &at.session_id);
    let parent = asked_parent.flatten().map_or_else(newest, Ok)?;
    let turn =
        Turn { parent, client_id, ..Turn::new(owner, at, index, execution_id, agent, message) };
    let (id, session, now) = (turn.execution_id.as_str(), turn.session_id.as_str(), worker.now());
    let sql = "INSERT INTO turnkit_turns (session_id, turn_index, turn_id, execution_id, agent, created_at, parent_index, client_id)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let parent = turn.parent.map(column).transpose()?;
    let values =
        params![session, column(index)?, turn.turn_id, id, turn.agent, now, parent, turn.client_id];
    db.prepare_cached(sql)?.execute(values)?;
    let sql = "INSERT INTO turnkit_messages (execution_id, role, session_id, turn_index, text, status, created_at)
        VALUES (?1, 'user', ?2, ?3, ?4, 'complete', ?5)";
    let values = params![id, session, column(index)?, turn.message, now];
    db.prepare_cached(sql)?.execute(values)?;
    Ok(Ok(turn))
}

pub(super) fn save(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    id: &ExecutionId,
    answer: &Answer,
) -> Result<Persisted, Fault> {
    let sql = "UPDATE turnkit_turns SET state = 'complete', failure_code = NULL, failure_message = NULL, ended_at = ?2
        WHERE execution_id = ?1 AND state <> 'complete'";
    if tx.prepare_cached(sql)?.execute(params![id.as_str(), worker.now()])? == 0 {
        must_exist(tx, id, "an answer of no turn")?;
        return Ok(Persisted::AlreadySaved);
    }
    write_answer(tx, worker, id, answer, TurnState::Complete)?;
    if let Some(product) = product {
        let turn = turn(tx, worker, id)?;
        product.saved(tx, &turn, answer).map_err(|error| OwnStatements::failed("saved", error))?;
    }
    Ok(Persisted::Saved)
}

pub(super) fn end(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    by: &EndedBy,
    ending: &Ending,
) -> Result<bool, Fault> {
    let id = by.execution_id();
    let epoch = match by {
        EndedBy::Log(_) => None,
        EndedBy::Lease(lease) => Some(column(lease.epoch)?),
    };
    let sql = "UPDATE turnkit_turns SET state = ?2, failure_code = ?3, failure_message = ?4, ended_at = ?5
        WHERE execution_id = ?1 AND state = 'open' AND epoch = coalesce(?6, epoch)";
    let (state, failure) = (ending.state().as_str(), &ending.failure);
    let values = params![id.as_str(), state, failure.code, failure.message, worker.now(), epoch];
    if tx.prepare_cached(sql)?.execute(values)? == 0 {
        must_exist(tx, id, "an ending of no turn")?;
        return Ok(false);
    }
    write_answer(tx, worker, id, &ending.partial, ending.state())?;
    if let Some(product) = product {
        let turn = turn(tx, worker, id)?;
        product.ended(tx, &turn, ending).map_err(|error| OwnStatements::failed("ended", error))?;
    }
    Ok(true)
}

/// Writes what there is of an answer, over a part of it that was kept before.
fn write_answer(
    db: &Connection,
    worker: &Worker,
    id: &ExecutionId,
    answer: &Answer,
    state: TurnState,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO turnkit_messages (execution_id, role, session_id, turn_index, text, parts, summary, status, created_at)
        SELECT execution_id, 'assistant', session_id, turn_index, ?2, ?3, ?4, ?5, ?6 FROM turnkit_turns WHERE execution_id = ?1
        ON CONFLICT (execution_id, role) DO UPDATE
            SET text = excluded.text, parts = excluded.parts, summary = excluded.summary, status = excluded.status,
                created_at = excluded.created_at";
    let (parts, summary) = rows::answer_columns(answer);
    let values = params![id.as_str(), answer.text, parts, summary, state.as_str(), worker.now()];
    db.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn siblings(
    db: &Connection,
    worker: &Worker,
    owner: &Principal,
    at: &TurnRef,
) -> rusqlite::Result<Option<Siblings>> {
    if !sessions::is_owner(db, owner, &at.session_id)? {
        return Ok(None);
    }
    let sql = "SELECT count(*), max(s.turn_index) FROM turnkit_turns t
        JOIN turnkit_turns s ON s.session_id = t.session_id AND s.parent_index IS t.parent_index
        WHERE t.session_id = ?1 AND t.turn_id = ?2";
    let values = params![at.session_id.as_str(), at.turn_id];
    let (count, newest): (u64, Option<i64>) =
        db.prepare_cached(sql)?.query_row(values, |row| Ok((unsigned(row, 0)?, row.get(1)?)))?;
    let Some(newest) = newest else {
        return Ok(None);
    };
    let newest = rows::by_index(db, worker, &at.session_id, newest)?;
    Ok(newest.map(|newest| Siblings { count, newest }))
}

pub(super) fn ask_to_stop(db: &Connection, id: &ExecutionId) -> rusqlite::Result<()> {
    let sql = "UPDATE turnkit_turns SET stop_asked = 1 WHERE execution_id = ?1 AND state = 'open'";
    db.prepare_cached(sql)?.execute([id.as_str()]).map(drop)
}

pub(super) fn saved(db: &Connection, id: &ExecutionId) -> rusqlite::Result<Option<Answer>> {
    let sql = "SELECT text, parts, summary FROM turnkit_messages
        WHERE execution_id = ?1 AND role = 'assistant' AND status = 'complete'";
    db.prepare_cached(sql)?.query_row([id.as_str()], |row| rows::answer(row, 0)).optional()
}

fn turn(db: &Connection, worker: &Worker, id: &ExecutionId) -> Result<Turn, Fault> {
    let row = rows::by_execution(db, worker, id)?;
    Ok(row.ok_or(rusqlite::Error::QueryReturnedNoRows)?.turn)
}

fn must_exist(db: &Connection, id: &ExecutionId, otherwise: &'static str) -> Result<(), Fault> {
    let sql = "SELECT 1 FROM turnkit_turns WHERE execution_id = ?1";
    if db.prepare_cached(sql)?.exists([id.as_str()])? {
        return Ok(());
    }
    Err(StoreError::because(StoreErrorKind::Broken, otherwise).into())
}
