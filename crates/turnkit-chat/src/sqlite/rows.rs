//! Turns as their rows say.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, Params, Row, params};
use turnkit_id::ExecutionId;

use super::workers::Worker;
use super::{deletion, queue, sessions};
use crate::store::{Find, Found, TurnRow, answer_columns};
use crate::{Answer, Failure, Principal, SessionId, Turn, TurnRef, TurnState};

pub(super) fn find(db: &Connection, worker: &Worker, what: &Find) -> rusqlite::Result<Found> {
    let row = match what {
        Find::Execution(id) if deletion::is_gone(db, id)? => return Ok(Found::Gone),
        Find::Execution(id) => by_execution(db, worker, id)?,
        Find::OfUser(owner, turn_id) => {
            let newest = |named: &str| {
                let condition = format!(
                    "s.tenant_id = ?1 AND s.user_id = ?2 AND {named} ORDER BY t.number DESC LIMIT 1"
                );
                select(db, worker, &condition, params![owner.tenant_id, owner.user_id, turn_id])
            };
            match newest("t.turn_id = ?3")? {
                None => newest(
                    "t.execution_id IN (SELECT execution_id FROM turnkit_turn_names WHERE name = ?3)",
                )?,
                row => row,
            }
        }
        Find::Named(owner, at) if sessions::is_owner(db, owner, &at.session_id)? => {
            match by_name(db, worker, at)? {
                None => match queue::find(db, at)? {
                    Found::NoTurn => by_given_name(db, worker, at)?,
                    waits => return Ok(waits),
                },
                row => row,
            }
        }
        Find::Named(..) => return Ok(Found::NoSession),
    };
    Ok(row.map_or(Found::NoTurn, Found::Turn))
}

pub(super) fn by_name(
    db: &Connection,
    worker: &Worker,
    at: &TurnRef,
) -> rusqlite::Result<Option<TurnRow>> {
    let values = params![at.session_id.as_str(), at.turn_id];
    select(db, worker, "t.session_id = ?1 AND t.turn_id = ?2", values)
}

fn by_given_name(
    db: &Connection,
    worker: &Worker,
    at: &TurnRef,
) -> rusqlite::Result<Option<TurnRow>> {
    let condition = "t.execution_id = (SELECT execution_id FROM turnkit_turn_names WHERE session_id = ?1 AND name = ?2)";
    select(db, worker, condition, params![at.session_id.as_str(), at.turn_id])
}

pub(super) fn by_index(
    db: &Connection,
    worker: &Worker,
    session: &SessionId,
    index: i64,
) -> rusqlite::Result<Option<TurnRow>> {
    let values = params![session.as_str(), index];
    select(db, worker, "t.session_id = ?1 AND t.turn_index = ?2", values)
}

/// The index of the session's newest turn, if it has any.
pub(super) fn newest_index(db: &Connection, session: &SessionId) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT max(turn_index) FROM turnkit_turns WHERE session_id = ?1";
    db.prepare_cached(sql)?.query_row([session.as_str()], |row| optional_index(row, 0))
}

pub(super) fn by_execution(
    db: &Connection,
    worker: &Worker,
    id: &ExecutionId,
) -> rusqlite::Result<Option<TurnRow>> {
    select(db, worker, "t.execution_id = ?1", [id.as_str()])
}

pub(super) fn open_of_session(
    db: &Connection,
    worker: &Worker,
    id: &SessionId,
) -> rusqlite::Result<Option<TurnRow>> {
    select(db, worker, "t.session_id = ?1 AND t.state = 'open'", [id.as_str()])
}

fn select(
    db: &Connection,
    worker: &Worker,
    condition: &str,
    values: impl Params,
) -> rusqlite::Result<Option<TurnRow>> {
    let sql = format!(
        "SELECT s.tenant_id, s.user_id, t.session_id, t.turn_id, t.turn_index, t.execution_id, t.agent, m.text,
            t.state, t.dispatched, t.stop_asked, t.epoch, t.failure_code, t.failure_message,
            iif(t.state = 'open' AND NOT t.released, t.worker, NULL), t.parent_index, t.client_id,
            EXISTS (SELECT 1 FROM turnkit_questions q WHERE q.execution_id = t.execution_id AND q.outcome IS NULL)
        FROM turnkit_turns t
        JOIN turnkit_sessions s ON s.id = t.session_id
        JOIN turnkit_messages m ON m.execution_id = t.execution_id AND m.role = 'user'
        WHERE {condition}"
    );
    let read = |row: &Row<'_>| {
        let holder: Option<String> = row.get(14)?;
        Ok(TurnRow {
            turn: Turn {
                owner: Principal { tenant_id: row.get(0)?, user_id: row.get(1)? },
                session_id: SessionId::new(row.get::<_, String>(2)?),
                turn_id: row.get(3)?,
                index: unsigned(row, 4)?,
                parent: optional_index(row, 15)?,
                client_id: row.get(16)?,
                execution_id: execution_id(row, 5)?,
                agent: row.get(6)?,
                message: row.get(7)?,
            },
            state: state(row, 8)?,
            dispatched: row.get(9)?,
            stop_asked: row.get(10)?,
            epoch: unsigned(row, 11)?,
            is_held: holder.map_or(Ok(false), |holder| worker.lives(db, &holder))?,
            is_waiting: row.get(17)?,
            failure: failure(row, 12)?,
        })
    };
    db.prepare_cached(&sql)?.query_row(values, read).optional()
}

/// The answer in the three columns that begin at `column`: text, parts and summary.
pub(super) fn answer(row: &Row<'_>, column: usize) -> rusqlite::Result<Answer> {
    let answer = answer_columns::read(row.get(column)?, row.get(column + 1)?, row.get(column + 2)?);
    answer.map_err(|(_, error)| Error::FromSqlConversionFailure(column, Type::Text, error))
}

/// The failure in the two columns that begin at `column`: code and message.
pub(super) fn failure(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Failure>> {
    let (code, message): (_, Option<String>) = (row.get(column)?, row.get(column + 1)?);
    Ok(message.map(|message| Failure { code, message }))
}

pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<TurnState> {
    let name: String = row.get(column)?;
    let unknown = || Error::InvalidColumnType(column, name.clone(), Type::Text);
    TurnState::parse(&name).ok_or_else(unknown)
}

pub(super) fn execution_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ExecutionId> {
    let text: String = row.get(column)?;
    ExecutionId::parse(&text)
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

pub(super) fn optional_index(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => unsigned(row, column).map(Some),
    }
}

/// SQLite's integers are signed; what stands here never is negative.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| Error::IntegralValueOutOfRange(column, value))
}

/// A number as SQLite keeps it.
pub(super) fn column(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))
}
