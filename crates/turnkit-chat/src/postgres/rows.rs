//! Turns as their rows say.

use tokio_postgres::Row;
use turnkit_id::ExecutionId;

use super::faults::Fault;
use super::leases::living;
use super::transaction::Tx;
use super::values::{Value, execution_id, optional_text, optional_unsigned, state, text, unsigned};
use super::{deletion, queue, sessions};
use crate::store::{Find, Found, TurnRow, answer_columns};
use crate::{Answer, Failure, Principal, SessionId, Turn, TurnRef};

pub(super) async fn find(tx: &mut Tx<'_>, what: &Find) -> Result<Found, Fault> {
    let row = match what {
        Find::Execution(id) => {
            let row = by_execution(tx, id).await?;
            if row.is_none() && deletion::is_gone(tx, id).await? {
                return Ok(Found::Gone);
            }
            row
        }
        Find::OfUser(owner, turn_id) => {
            let values = [(&owner.tenant_id).into(), (&owner.user_id).into(), turn_id.into()];
            let newest = |named: &str| {
                format!(
                    "s.tenant_id = $1 AND s.user_id = $2 AND {named} ORDER BY t.number DESC LIMIT 1"
                )
            };
            match select(tx, &newest("t.turn_id = $3"), &values).await? {
                None => {
                    let given = "t.execution_id IN (SELECT execution_id FROM turnkit_turn_names WHERE name = $3)";
                    select(tx, &newest(given), &values).await?
                }
                row => row,
            }
        }
        Find::Named(owner, at) => match by_name(tx, &at.session_id, &at.turn_id).await? {
            Some(row) if row.turn.owner == *owner => Some(row),
            _ if !sessions::is_owner(tx, owner, &at.session_id).await? => {
                return Ok(Found::NoSession);
            }
            _ => match queue::find(tx, at).await? {
                Found::NoTurn => by_given_name(tx, at).await?,
                waits => return Ok(waits),
            },
        },
    };
    Ok(row.map_or(Found::NoTurn, Found::Turn))
}

pub(super) async fn by_name(
    tx: &mut Tx<'_>,
    session: &SessionId,
    turn_id: &str,
) -> Result<Option<TurnRow>, Fault> {
    let values = [session.into(), turn_id.into()];
    select(tx, "t.session_id = $1 AND t.turn_id = $2", &values).await
}

async fn by_given_name(tx: &mut Tx<'_>, at: &TurnRef) -> Result<Option<TurnRow>, Fault> {
    let condition = "t.execution_id = (SELECT execution_id FROM turnkit_turn_names WHERE session_id = $1 AND name = $2)";
    select(tx, condition, &[(&at.session_id).into(), (&at.turn_id).into()]).await
}

pub(super) async fn by_index(
    tx: &mut Tx<'_>,
    session: &SessionId,
    index: u64,
) -> Result<Option<TurnRow>, Fault> {
    let values = [session.into(), index.into()];
    select(tx, "t.session_id = $1 AND t.turn_index = $2", &values).await
}

/// The index of the session's newest turn, if it has any.
pub(super) async fn newest_index(
    tx: &mut Tx<'_>,
    session: &SessionId,
) -> Result<Option<u64>, Fault> {
    let sql = "SELECT max(turn_index) FROM turnkit_turns WHERE session_id = $1";
    optional_unsigned(&tx.one(sql, &[session.into()]).await?, 0)
}

pub(super) async fn by_execution(
    tx: &mut Tx<'_>,
    id: &ExecutionId,
) -> Result<Option<TurnRow>, Fault> {
    select(tx, "t.execution_id = $1", &[id.into()]).await
}

pub(super) async fn open_of_session(
    tx: &mut Tx<'_>,
    id: &SessionId,
) -> Result<Option<TurnRow>, Fault> {
    select(tx, "t.session_id = $1 AND t.state = 'open'", &[id.into()]).await
}

/// The turn of an execution, with the row of its session locked: whatever is read of the session after this is as it stays until the
/// end of the transaction. `None` where there is no such turn, or no more.
pub(super) async fn lock(tx: &mut Tx<'_>, id: &ExecutionId) -> Result<Option<Turn>, Fault> {
    // What was read along with the lock may be older than the lock; of a turn it never changes.
    let row = select(tx, "t.execution_id = $1 FOR NO KEY UPDATE OF s", &[id.into()]).await?;
    Ok(row.map(|row| row.turn))
}

async fn select(
    tx: &mut Tx<'_>,
    condition: &str,
    values: &[Value<'_>],
) -> Result<Option<TurnRow>, Fault> {
    let living = living("t.worker");
    let sql = format!(
        "SELECT s.tenant_id, s.user_id, t.session_id, t.turn_id, t.turn_index, t.execution_id, t.agent, m.text,
            t.state, t.dispatched, t.stop_asked, t.epoch, t.failure_code, t.failure_message,
            t.state = 'open' AND NOT t.released AND {living}, t.parent_index, t.client_id,
            EXISTS (SELECT 1 FROM turnkit_questions q WHERE q.execution_id = t.execution_id AND q.outcome IS NULL)
        FROM turnkit_turns t
        JOIN turnkit_sessions s ON s.id = t.session_id
        JOIN turnkit_messages m ON m.execution_id = t.execution_id AND m.role = 'user'
        WHERE {condition}"
    );
    tx.row(&sql, values).await?.map(|row| turn_row(&row)).transpose()
}

fn turn_row(row: &Row) -> Result<TurnRow, Fault> {
    let owner = Principal { tenant_id: text(row, 0)?, user_id: text(row, 1)? };
    let at = TurnRef { session_id: SessionId::new(text(row, 2)?), turn_id: text(row, 3)? };
    let turn = Turn::new(
        owner,
        at,
        unsigned(row, 4)?,
        execution_id(row, 5)?,
        text(row, 6)?,
        text(row, 7)?,
    );
    let (parent, client_id) = (optional_unsigned(row, 15)?, optional_text(row, 16)?);
    Ok(TurnRow {
        turn: Turn { parent, client_id, ..turn },
        state: state(row, 8)?,
        dispatched: row.try_get(9)?,
        stop_asked: row.try_get(10)?,
        epoch: unsigned(row, 11)?,
        is_held: row.try_get(14)?,
        is_waiting: row.try_get(17)?,
        failure: failure(row, 12)?,
    })
}

/// The answer in the three columns that begin at `column`: text, parts and summary.
pub(super) fn answer(row: &Row, column: usize) -> Result<Answer, Fault> {
    let [parts, summary] = [column + 1, column + 2].map(|column| optional_text(row, column));
    let answer = answer_columns::read(text(row, column)?, parts?, summary?);
    answer.map_err(|(column, error)| Fault::broken(format!("the column {column}: {error}")))
}

/// The failure in the two columns that begin at `column`: code and message.
pub(super) fn failure(row: &Row, column: usize) -> Result<Option<Failure>, Fault> {
    let (code, message) = (optional_text(row, column)?, optional_text(row, column + 1)?);
    Ok(message.map(|message| Failure { code, message }))
}
