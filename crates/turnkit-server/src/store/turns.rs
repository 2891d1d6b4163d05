//! Turns: accepted once, dispatched once, ended once (PROTOCOL 4.2).

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use turnkit_id::{ExecutionId, IdError};

use super::sessions::is_owner;
use super::{MessageStatus, Role, Store, StoreError};
use crate::principal::Principal;

/// A turn as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) owner: Principal,
    pub(crate) session_id: String,
    /// The client's own name for it: `turnId`.
    pub(crate) id: String,
    /// Its place in the session, counted from 0.
    pub(crate) index: u64,
    pub(crate) execution_id: ExecutionId,
    pub(crate) agent: String,
    pub(crate) message: String,
    pub(crate) state: TurnState,
    /// Whether an attempt may have asked the substrate to run it.
    pub(crate) dispatched: bool,
    /// Whether a user has asked to stop it.
    pub(crate) stop_asked: bool,
    /// The worker that drives it, or that drove it last.
    pub(crate) lease: Option<String>,
    /// Why it was stopped or failed.
    pub(crate) failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnState {
    Open,
    Complete,
    Stopped,
    Failed,
}

impl TurnState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TurnState::Open => "open",
            TurnState::Complete => "complete",
            TurnState::Stopped => "stopped",
            TurnState::Failed => "failed",
        }
    }
}

/// Why a turn has no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Option<String>,
    pub(crate) message: String,
}

/// A turn that a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct NewTurn {
    pub(crate) owner: Principal,
    pub(crate) session_id: String,
    pub(crate) turn_id: String,
    pub(crate) agent: String,
    pub(crate) message: String,
    /// The worker that will drive it.
    pub(crate) worker: String,
}

/// What became of a [`NewTurn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It is in the database now, with the user's message.
    New(Turn),
    /// The same turn was accepted before.
    Known(Turn),
    /// The session has a turn with this id and another message or agent.
    Conflict,
    /// Another turn of the session is open.
    Running { turn_id: String },
    /// The owner has no such session.
    NoSession,
}

/// A worker's wish to drive an open turn.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) execution_id: ExecutionId,
    pub(crate) worker: String,
    /// The lease that the worker saw, and found to be its own, dead or none.
    pub(crate) seen: Option<String>,
    /// Whether it would start the agent.
    pub(crate) may_run: bool,
}

/// What a worker may do with the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// Start the agent: nobody did, and after this nobody else will.
    Run,
    /// Attach to the execution.
    Attach,
    /// Not drive it: the turn has ended, another worker was faster, or it would have to be started.
    Refused,
}

/// How a turn ends without an answer.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) execution_id: ExecutionId,
    /// Only the turn's worker ends it.
    pub(crate) worker: String,
    pub(crate) status: MessageStatus,
    pub(crate) failure: Failure,
    /// What there is of the answer.
    pub(crate) partial: String,
}

impl Store {
    /// Inserts the turn and the user's message, or says why not, in one transaction.
    pub(crate) async fn accept_turn(&self, new: NewTurn) -> Result<Accepted, StoreError> {
        let now = self.now();
        self.writer.run(move |db| accept(db, new, now)).await
    }

    /// The turn `turn_id` of a session of `owner`.
    pub(crate) async fn turn(
        &self,
        owner: Principal,
        session: String,
        turn_id: String,
    ) -> Result<Option<Turn>, StoreError> {
        self.reader
            .run(move |db| {
                let turn = by_turn_id(db, &session, &turn_id)?;
                Ok(turn.filter(|turn| turn.owner == owner))
            })
            .await
    }

    pub(crate) async fn turn_of_execution(
        &self,
        execution: ExecutionId,
    ) -> Result<Option<Turn>, StoreError> {
        self.reader.run(move |db| by_execution(db, &execution)).await
    }

    /// The open turn of a session; the outer `None` says that `owner` has no such session.
    pub(crate) async fn open_turn(
        &self,
        owner: Principal,
        session: String,
    ) -> Result<Option<Option<Turn>>, StoreError> {
        self.reader
            .run(move |db| {
                let is_owner = is_owner(db, &owner, &session)?;
                is_owner.then(|| open_turn(db, &session)).transpose()
            })
            .await
    }

    /// At most `limit` open turns, oldest first, each with its lease.
    pub(crate) async fn open_turns(
        &self,
        limit: usize,
    ) -> Result<Vec<(ExecutionId, Option<String>)>, StoreError> {
        let sql = "SELECT execution_id, lease FROM turns WHERE state = 'open' ORDER BY created_at LIMIT ?1";
        self.reader
            .run(move |db| {
                let mut statement = db.prepare_cached(sql)?;
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                statement
                    .query_map([limit], |row| Ok((execution_id(row, 0)?, row.get(1)?)))?
                    .collect()
            })
            .await
    }

    /// Takes the lease of an open turn, and marks it as dispatched where the agent is to be started.
    pub(crate) async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.writer.run(move |db| take_lease(db, &claim)).await
    }

    /// Notes that a user has asked to stop the turn, where it is still open.
    pub(crate) async fn ask_to_stop(&self, execution: ExecutionId) -> Result<(), StoreError> {
        let sql = "UPDATE turns SET stop_asked = 1 WHERE execution_id = ?1 AND state = 'open'";
        let work = move |db: &Connection| db.prepare_cached(sql)?.execute([execution.as_str()]);
        self.writer.run(work).await.map(drop)
    }

    /// Saves the assistant's whole answer and ends the turn, once for each execution. A partial answer that was kept before
    /// gives way. Says whether this call saved it.
    pub(crate) async fn save_answer(
        &self,
        execution: ExecutionId,
        text: String,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        self.writer.run(move |db| save_answer(db, &execution, &text, now)).await
    }

    /// Ends an open turn without an answer, and keeps what there is of it. Says whether the turn was open and the worker's.
    pub(crate) async fn end_turn(&self, ending: Ending) -> Result<bool, StoreError> {
        let now = self.now();
        self.writer.run(move |db| end_turn(db, &ending, now)).await
    }
}

fn accept(db: &Connection, new: NewTurn, now: i64) -> rusqlite::Result<Accepted> {
    if !is_owner(db, &new.owner, &new.session_id)? {
        return Ok(Accepted::NoSession);
    }
    if let Some(known) = by_turn_id(db, &new.session_id, &new.turn_id)? {
        let same = known.message == new.message && known.agent == new.agent;
        return Ok(if same { Accepted::Known(known) } else { Accepted::Conflict });
    }
    if let Some(open) = open_turn(db, &new.session_id)? {
        return Ok(Accepted::Running { turn_id: open.id });
    }
    insert(db, new, now).map(Accepted::New)
}

fn insert(db: &Connection, new: NewTurn, now: i64) -> rusqlite::Result<Turn> {
    let turn = first_row(db, new)?;
    let index = turn.index.cast_signed();
    let sql = "INSERT INTO turns (session_id, turn_index, turn_id, execution_id, agent, lease, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let id = turn.execution_id.as_str();
    db.prepare_cached(sql)?.execute(params![
        turn.session_id,
        index,
        turn.id,
        id,
        turn.agent,
        turn.lease,
        now
    ])?;
    let sql = "INSERT INTO messages (execution_id, role, session_id, turn_index, text, status, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (role, status) = (Role::User.as_str(), MessageStatus::Complete.as_str());
    db.prepare_cached(sql)?.execute(params![
        id,
        role,
        turn.session_id,
        index,
        turn.message,
        status,
        now
    ])?;
    Ok(turn)
}

fn first_row(db: &Connection, new: NewTurn) -> rusqlite::Result<Turn> {
    let index = next_index(db, &new.session_id)?;
    let execution_id = ExecutionId::derive(new.owner.project(), &new.session_id, index)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok(Turn {
        owner: new.owner,
        session_id: new.session_id,
        id: new.turn_id,
        index,
        execution_id,
        agent: new.agent,
        message: new.message,
        state: TurnState::Open,
        dispatched: false,
        stop_asked: false,
        lease: Some(new.worker),
        failure: None,
    })
}

fn next_index(db: &Connection, session: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(turn_index) + 1, 0) FROM turns WHERE session_id = ?1";
    db.prepare_cached(sql)?.query_row([session], |row| unsigned(row, 0))
}

/// Two conditional updates, of which at most one finds its row: so a turn is dispatched once, whoever else claims it.
fn take_lease(db: &Connection, claim: &Claim) -> rusqlite::Result<Claimed> {
    if claim.may_run && update_lease(db, claim, false)? {
        return Ok(Claimed::Run);
    }
    Ok(if update_lease(db, claim, true)? { Claimed::Attach } else { Claimed::Refused })
}

fn update_lease(db: &Connection, claim: &Claim, dispatched: bool) -> rusqlite::Result<bool> {
    let sql = "UPDATE turns SET lease = ?1, dispatched = 1
        WHERE execution_id = ?2 AND state = 'open' AND lease IS ?3 AND dispatched = ?4";
    let values = params![claim.worker, claim.execution_id.as_str(), claim.seen, dispatched];
    Ok(db.prepare_cached(sql)?.execute(values)? == 1)
}

fn save_answer(
    db: &Connection,
    execution: &ExecutionId,
    text: &str,
    now: i64,
) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO messages (execution_id, role, session_id, turn_index, text, status, created_at)
        SELECT execution_id, 'assistant', session_id, turn_index, ?2, 'complete', ?3 FROM turns WHERE execution_id = ?1
        ON CONFLICT (execution_id, role) DO UPDATE
            SET text = excluded.text, status = excluded.status, created_at = excluded.created_at
            WHERE status <> 'complete'";
    if db.prepare_cached(sql)?.execute(params![execution.as_str(), text, now])? == 0 {
        return already_saved(db, execution).map(|()| false);
    }
    let sql = "UPDATE turns SET state = 'complete', failure_code = NULL, failure_message = NULL, ended_at = ?2
        WHERE execution_id = ?1";
    db.prepare_cached(sql)?.execute(params![execution.as_str(), now])?;
    Ok(true)
}

/// Nothing was written: because the answer is there, or because the turn is not, which is an error.
fn already_saved(db: &Connection, execution: &ExecutionId) -> rusqlite::Result<()> {
    let sql = "SELECT 1 FROM messages WHERE execution_id = ?1 AND role = 'assistant'";
    db.prepare_cached(sql)?.query_row([execution.as_str()], |_| Ok(()))
}

fn end_turn(db: &Connection, ending: &Ending, now: i64) -> rusqlite::Result<bool> {
    let (id, status) = (ending.execution_id.as_str(), ending.status.as_str());
    let sql = "UPDATE turns SET state = ?3, failure_code = ?4, failure_message = ?5, ended_at = ?6
        WHERE execution_id = ?1 AND lease = ?2 AND state = 'open'";
    let Failure { code, message } = &ending.failure;
    let ended =
        db.prepare_cached(sql)?.execute(params![id, ending.worker, status, code, message, now])?;
    if ended == 0 {
        return Ok(false);
    }
    let sql = "INSERT INTO messages (execution_id, role, session_id, turn_index, text, status, created_at)
        SELECT execution_id, 'assistant', session_id, turn_index, ?2, ?3, ?4 FROM turns WHERE execution_id = ?1";
    db.prepare_cached(sql)?.execute(params![id, ending.partial, status, now])?;
    Ok(true)
}

fn by_turn_id(db: &Connection, session: &str, turn_id: &str) -> rusqlite::Result<Option<Turn>> {
    select(db, "t.session_id = ?1 AND t.turn_id = ?2", [session, turn_id])
}

fn by_execution(db: &Connection, execution: &ExecutionId) -> rusqlite::Result<Option<Turn>> {
    select(db, "t.execution_id = ?1", [execution.as_str()])
}

fn open_turn(db: &Connection, session: &str) -> rusqlite::Result<Option<Turn>> {
    select(db, "t.session_id = ?1 AND t.state = 'open'", [session])
}

fn select(db: &Connection, condition: &str, values: impl Params) -> rusqlite::Result<Option<Turn>> {
    let sql = format!(
        "SELECT s.tenant_id, s.user_id, t.session_id, t.turn_id, t.turn_index, t.execution_id, t.agent, m.text,
            t.state, t.dispatched, t.stop_asked, t.lease, t.failure_code, t.failure_message
        FROM turns t
        JOIN sessions s ON s.id = t.session_id
        JOIN messages m ON m.execution_id = t.execution_id AND m.role = 'user'
        WHERE {condition}"
    );
    db.prepare_cached(&sql)?.query_row(values, read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Turn> {
    Ok(Turn {
        owner: Principal { tenant_id: row.get(0)?, user_id: row.get(1)? },
        session_id: row.get(2)?,
        id: row.get(3)?,
        index: unsigned(row, 4)?,
        execution_id: execution_id(row, 5)?,
        agent: row.get(6)?,
        message: row.get(7)?,
        state: row.get(8)?,
        dispatched: row.get(9)?,
        stop_asked: row.get(10)?,
        lease: row.get(11)?,
        failure: failure(row, 12)?,
    })
}

/// The failure in the two columns that begin at `column`: code and message.
pub(super) fn failure(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Failure>> {
    let (code, message): (_, Option<String>) = (row.get(column)?, row.get(column + 1)?);
    Ok(message.map(|message| Failure { code, message }))
}

/// SQLite's integers are signed; what stands here never is negative.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn execution_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ExecutionId> {
    let text: String = row.get(column)?;
    ExecutionId::parse(&text).map_err(|error: IdError| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

impl FromSql for TurnState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<TurnState> {
        match value.as_str()? {
            "open" => Ok(TurnState::Open),
            "complete" => Ok(TurnState::Complete),
            "stopped" => Ok(TurnState::Stopped),
            "failed" => Ok(TurnState::Failed),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
