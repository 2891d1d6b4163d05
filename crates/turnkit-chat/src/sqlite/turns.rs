//! Turns: accepted once, ended once (PROTOCOL 4.2). With each goes what the product itself writes about it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use turnkit::Persisted;
use turnkit_id::ExecutionId;

use super::connections::Piece;
use super::queue::{self, Named};
use super::rows::{self, column, unsigned};
use super::workers::Worker;
use super::{
    Fault, InTransaction, NotAccepted, OwnStatements, deletion, feed, interactions, sessions,
};
use crate::store::acceptance::{self, Facts, Own, Verdict};
use crate::store::asked::Asked;
use crate::store::{
    Accepted, Change, EndedBy, MAX_NAMES, NewRow, Siblings, TurnRow, answer_columns, not_accepted,
    said_bytes,
};
use crate::{
    Answer, Ending, Principal, SessionId, StoreError, StoreErrorKind, Turn, TurnRef, TurnState,
};

/// Says also whether a turn that had waited is open now.
pub(super) fn accept(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    new: NewRow,
) -> Piece<(Accepted, bool)> {
    let turn = match place(tx, worker, product, new) {
        Ok(Placed::Open(turn)) => turn,
        Ok(Placed::Told(accepted, freed)) => return Piece::Keep((accepted, freed)),
        Err(fault) => return Piece::Undo(Err(fault.0)),
    };
    match product.map_or(Ok(()), |product| product.accepted(tx, &turn)) {
        Ok(()) => {}
        Err(NotAccepted::Veto(veto)) => return Piece::Undo(Ok((Accepted::Refused(veto), false))),
        Err(NotAccepted::Failed(error)) => {
            return Piece::Undo(Err(OwnStatements::failed("accepted", error).0));
        }
    }
    Piece::Keep((Accepted::New(TurnRow::accepted(turn)), false))
}

/// What becomes of a turn that is to be accepted.
enum Placed {
    /// It is open. The product is still to be asked.
    Open(Turn),
    /// It waits, was accepted before, or is not accepted; and whether another one that had waited is open now.
    Told(Accepted, bool),
}

fn place(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    new: NewRow,
) -> Result<Placed, Fault> {
    let NewRow {
        owner,
        session_id,
        turn_id,
        message,
        agent,
        after,
        replaces,
        client_id,
        queue,
        title,
    } = new;
    let told = |accepted| Ok(Placed::Told(accepted, false));
    if !sessions::is_owner(tx, &owner, &session_id)? {
        return told(Accepted::NoSession);
    }
    let at = TurnRef { session_id, turn_id };
    let asked = Asked { message, agent, after, replaces, client_id, known_as: None };
    let own = match rows::by_name(tx, worker, &at)? {
        Some(row) => {
            let sql = "SELECT first_asked FROM turnkit_turns WHERE execution_id = ?1";
            let id = row.turn.execution_id.as_str();
            let known_as = tx.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
            Own::Begun { row, known_as }
        }
        None => match queue::named(tx, &at)? {
            Some(Named::Waiting(waiting)) => Own::Waiting(waiting),
            Some(Named::Removed) => Own::Removed,
            None => Own::None,
        },
    };
    let sql = "SELECT turn_id FROM turnkit_turns WHERE session_id = ?1 AND state = 'open'";
    let open = tx.prepare_cached(sql)?.query_row([at.session_id.as_str()], |row| row.get(0));
    let (waiting, is_paused) = queue::length(tx, &at.session_id)?;
    let facts = Facts {
        own,
        place: queue::place_of(tx, &at.session_id, &asked)?,
        open: open.optional()?,
        newest: rows::newest_index(tx, &at.session_id)?,
        waiting,
        is_paused,
    };
    let opens_next = match acceptance::decide(&asked, queue, facts) {
        Verdict::Told(accepted) => return told(accepted),
        Verdict::Queued(waiting) => {
            return told(Accepted::Queued(queue::told(tx, &at.session_id, waiting)?));
        }
        Verdict::Open { parent } => {
            // One that has waited comes behind others, and the first of these has named the session.
            sessions::name(tx, &at.session_id, title.as_deref())?;
            let turn = insert(tx, worker, owner, at, asked, parent, worker.now())?;
            return Ok(Placed::Open(turn));
        }
        Verdict::Wait { opens_next } => opens_next,
    };
    queue::push(tx, &at, &asked, worker.now())?;
    feed::tell(tx, &at.session_id, Some(&at.turn_id), Change::Queued, worker.now())?;
    sessions::touch(tx, &at.session_id, worker.now())?;
    queue::set_paused(tx, &at.session_id, false, worker.now())?;
    let freed = opens_next && open_next(tx, worker, product, &at.session_id)?;
    let accepted = match queue::named(tx, &at)? {
        Some(Named::Waiting(waiting)) => {
            Accepted::Queued(queue::told(tx, &at.session_id, waiting)?)
        }
        // All before it were refused by the product.
        _ => match rows::by_name(tx, worker, &at)? {
            Some(row) => Accepted::Known(row),
            None => return Err(rusqlite::Error::QueryReturnedNoRows.into()),
        },
    };
    Ok(Placed::Told(accepted, freed))
}

/// Inserts an open turn and the user's message, which was written at `written_at`.
fn insert(
    db: &Connection,
    worker: &Worker,
    owner: Principal,
    at: TurnRef,
    asked: Asked,
    parent: Option<u64>,
    written_at: i64,
) -> Result<Turn, Fault> {
    let Asked { message, agent, client_id, known_as, .. } = asked;
    let sql = "UPDATE turnkit_sessions SET next_index = next_index + 1, active_at = ?2
        WHERE id = ?1 RETURNING next_index - 1";
    let values = params![at.session_id.as_str(), worker.now()];
    let index = db.prepare_cached(sql)?.query_row(values, |row| unsigned(row, 0))?;
    let execution_id = ExecutionId::derive(&owner.tenant_id, at.session_id.as_str(), index)
        .map_err(|error| StoreError::because(StoreErrorKind::Broken, error))?;
    let turn =
        Turn { parent, client_id, ..Turn::new(owner, at, index, execution_id, agent, message) };
    let (id, session) = (turn.execution_id.as_str(), turn.session_id.as_str());
    let (parent, index) = (turn.parent.map(column).transpose()?, column(index)?);
    // Its lane is its parent's where it is the first child, and what was said before it is what was said until its parent's end.
    let sql = "SELECT iif(EXISTS (SELECT 1 FROM turnkit_turns s WHERE s.session_id = ?1 AND s.parent_index = ?2), ?3, p.lane),
            p.said_before + (p.said_bytes IS NOT NULL), p.said_bytes_before + coalesce(p.said_bytes, 0)
        FROM turnkit_turns p WHERE p.session_id = ?1 AND p.turn_index = ?2";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let place =
        db.prepare_cached(sql)?.query_row(params![session, parent, index], read).optional()?;
    let (lane, said_before, said_bytes_before): (i64, i64, i64) = place.unwrap_or((index, 0, 0));
    let sql = "INSERT INTO turnkit_turns (session_id, turn_index, turn_id, execution_id, agent, created_at, parent_index, client_id,
            first_asked, lane, said_before, said_bytes_before)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let values = params![
        session,
        index,
        turn.turn_id,
        id,
        turn.agent,
        worker.now(),
        parent,
        turn.client_id,
        known_as,
        lane,
        said_before,
        said_bytes_before
    ];
    db.prepare_cached(sql)?.execute(values)?;
    let sql = "INSERT INTO turnkit_messages (execution_id, role, session_id, turn_index, text, status, created_at)
        VALUES (?1, 'user', ?2, ?3, ?4, 'complete', ?5)";
    let values = params![id, session, index, turn.message, written_at];
    db.prepare_cached(sql)?.execute(values)?;
    feed::tell(db, &turn.session_id, Some(&turn.turn_id), Change::Accepted, worker.now())?;
    Ok(turn)
}

/// Opens the first turn that waits in the session, unless its queue is paused. Says whether one is open now. One that the product
/// refuses has failed, and the next one is tried.
fn open_next(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    session: &SessionId,
) -> Result<bool, Fault> {
    while let Some((owner, waiting)) = queue::pop(tx, session)? {
        let place = queue::place_of(tx, session, &waiting.asked)?;
        let newest = rows::newest_index(tx, session)?;
        let parent = acceptance::parent(&waiting.asked, place, newest);
        let at = TurnRef::new(session.clone(), waiting.turn_id);
        let turn = insert(tx, worker, owner, at, waiting.asked, parent, waiting.created_at)?;
        let Some(product) = product else {
            return Ok(true);
        };
        // What it wrote before it refused is undone, and nothing else: the turn before this one has ended, whatever comes of this.
        tx.execute_batch("SAVEPOINT turnkit_next")?;
        let asked = catch_unwind(AssertUnwindSafe(|| product.accepted(tx, &turn)));
        let failure = match asked {
            Ok(Ok(())) => {
                tx.execute_batch("RELEASE turnkit_next")?;
                return Ok(true);
            }
            Ok(Err(NotAccepted::Veto(veto))) => veto.into_failure(),
            Ok(Err(NotAccepted::Failed(_))) | Err(_) => {
                if let Ok(Err(NotAccepted::Failed(error))) = &asked {
                    let execution_id = &turn.execution_id;
                    tracing::error!(%execution_id, %error, "the product's statements failed to accept a turn that had waited");
                }
                not_accepted()
            }
        };
        tx.execute_batch("ROLLBACK TO turnkit_next; RELEASE turnkit_next")?;
        let sql = "UPDATE turnkit_turns SET state = 'failed', failure_code = ?2, failure_message = ?3, ended_at = ?4
            WHERE execution_id = ?1";
        let id = &turn.execution_id;
        let values = params![id.as_str(), failure.code, failure.message, worker.now()];
        tx.prepare_cached(sql)?.execute(values)?;
        write_answer(tx, worker, id, &Answer::new(""), TurnState::Failed)?;
        tell_ended(tx, worker, &turn, TurnState::Failed)?;
    }
    Ok(false)
}

/// Says also whether a turn that had waited is open now.
pub(super) fn save(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    id: &ExecutionId,
    answer: &Answer,
) -> Result<(Persisted, bool), Fault> {
    deletion::must_not_be_gone(tx, id)?;
    let sql = "SELECT 1 FROM turnkit_turns WHERE execution_id = ?1 AND state = 'open'";
    let was_open = tx.prepare_cached(sql)?.exists([id.as_str()])?;
    let sql = "UPDATE turnkit_turns SET state = 'complete', failure_code = NULL, failure_message = NULL, ended_at = ?2
        WHERE execution_id = ?1 AND state <> 'complete'";
    if tx.prepare_cached(sql)?.execute(params![id.as_str(), worker.now()])? == 0 {
        must_exist(tx, id, "an answer of no turn")?;
        return Ok((Persisted::AlreadySaved, false));
    }
    write_answer(tx, worker, id, answer, TurnState::Complete)?;
    let turn = turn(tx, worker, id)?;
    if let Some(bytes) = said_bytes(&turn.message, answer) {
        let bytes = column(bytes)?;
        let sql = "UPDATE turnkit_turns SET said_bytes = ?2 WHERE execution_id = ?1";
        tx.prepare_cached(sql)?.execute(params![id.as_str(), bytes])?;
        if !was_open {
            // Turns may have come behind it meanwhile: they have more said before them now.
            let sql = "WITH RECURSIVE behind (turn_index) AS (
                    SELECT turn_index FROM turnkit_turns WHERE session_id = ?1 AND parent_index = ?2
                    UNION ALL
                    SELECT t.turn_index FROM behind CROSS JOIN turnkit_turns t
                        ON t.session_id = ?1 AND t.parent_index = behind.turn_index)
                UPDATE turnkit_turns SET said_before = said_before + 1, said_bytes_before = said_bytes_before + ?3
                WHERE session_id = ?1 AND turn_index IN (SELECT turn_index FROM behind)";
            let values = params![turn.session_id.as_str(), column(turn.index)?, bytes];
            tx.prepare_cached(sql)?.execute(values)?;
        }
    }
    if let Some(product) = product {
        product.saved(tx, &turn, answer).map_err(|error| OwnStatements::failed("saved", error))?;
    }
    sessions::touch(tx, &turn.session_id, worker.now())?;
    tell_ended(tx, worker, &turn, TurnState::Complete)?;
    if !was_open {
        return Ok((Persisted::Saved, false));
    }
    interactions::close(tx, worker, &turn, answer)?;
    Ok((Persisted::Saved, open_next(tx, worker, product, &turn.session_id)?))
}

/// Says also whether a turn that had waited is open now.
pub(super) fn end(
    tx: &Transaction<'_>,
    worker: &Worker,
    product: Option<&dyn InTransaction>,
    by: &EndedBy,
    ending: &Ending,
) -> Result<(bool, bool), Fault> {
    let id = by.execution_id();
    deletion::must_not_be_gone(tx, id)?;
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
        return Ok((false, false));
    }
    write_answer(tx, worker, id, &ending.partial, ending.state())?;
    let turn = turn(tx, worker, id)?;
    if let Some(product) = product {
        product.ended(tx, &turn, ending).map_err(|error| OwnStatements::failed("ended", error))?;
    }
    sessions::touch(tx, &turn.session_id, worker.now())?;
    tell_ended(tx, worker, &turn, ending.state())?;
    interactions::close(tx, worker, &turn, &ending.partial)?;
    Ok((true, open_next(tx, worker, product, &turn.session_id)?))
}

fn tell_ended(
    db: &Connection,
    worker: &Worker,
    turn: &Turn,
    state: TurnState,
) -> rusqlite::Result<()> {
    feed::tell(db, &turn.session_id, Some(&turn.turn_id), Change::Ended(state), worker.now())
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
    let (parts, summary) = answer_columns::of(answer);
    let values = params![id.as_str(), answer.text, parts, summary, state.as_str(), worker.now()];
    db.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn name(
    db: &Connection,
    owner: &Principal,
    at: &TurnRef,
    name: &str,
) -> rusqlite::Result<()> {
    if !sessions::is_owner(db, owner, &at.session_id)? {
        return Ok(());
    }
    let sql = "INSERT INTO turnkit_turn_names (session_id, name, execution_id)
        SELECT session_id, ?3, execution_id FROM turnkit_turns WHERE session_id = ?1 AND turn_id = ?2
        ON CONFLICT DO NOTHING";
    db.prepare_cached(sql)?.execute(params![at.session_id.as_str(), at.turn_id, name])?;
    let sql = "DELETE FROM turnkit_turn_names WHERE number IN (
        SELECT n.number FROM turnkit_turns t JOIN turnkit_turn_names n ON n.execution_id = t.execution_id
            WHERE t.session_id = ?1 AND t.turn_id = ?2 ORDER BY n.number DESC LIMIT -1 OFFSET ?3)";
    let kept = i64::try_from(MAX_NAMES).unwrap_or(i64::MAX);
    let values = params![at.session_id.as_str(), at.turn_id, kept];
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

pub(super) fn ask_to_stop(
    db: &Connection,
    worker: &Worker,
    id: &ExecutionId,
) -> rusqlite::Result<()> {
    let sql = "UPDATE turnkit_turns SET stop_asked = 1 WHERE execution_id = ?1 AND state = 'open'";
    db.prepare_cached(sql)?.execute([id.as_str()])?;
    // Also where the turn has ended while the stop was under way: then the one that was opened runs, and none after it.
    let sql = "SELECT t.session_id FROM turnkit_turns t WHERE t.execution_id = ?1 AND NOT EXISTS (
        SELECT 1 FROM turnkit_turns later
        WHERE later.session_id = t.session_id AND later.turn_index > t.turn_index AND later.state <> 'open')";
    let session = db.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get::<_, String>(0));
    match session.optional()? {
        Some(session) => queue::set_paused(db, &SessionId::new(session), true, worker.now()),
        None => Ok(()),
    }
}

pub(super) fn saved(db: &Connection, id: &ExecutionId) -> Result<Option<Answer>, Fault> {
    deletion::must_not_be_gone(db, id)?;
    let sql = "SELECT text, parts, summary FROM turnkit_messages
        WHERE execution_id = ?1 AND role = 'assistant' AND status = 'complete'";
    Ok(db.prepare_cached(sql)?.query_row([id.as_str()], |row| rows::answer(row, 0)).optional()?)
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
