//! Sessions, and what was said in them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::rows::{self, column, state, unsigned};
use super::workers::Worker;
use super::{Fault, deletion, feed, interactions, queue};
use crate::store::{
    Change, History, HistoryBuilder, HistoryLimits, MAX_SIBLINGS, MessagePage, Omitted, PAGE_BYTES,
    SessionList, SessionPage, SessionState, SessionUpdate, answer_bytes, said_in,
};
use crate::{
    Message, Principal, Role, SessionId, SessionInfo, StoreError, StoreErrorKind, Summary, Turn,
    TurnState,
};

pub(super) fn open(
    db: &Connection,
    owner: &Principal,
    id: &SessionId,
    now: i64,
) -> Result<(), Fault> {
    let sql = "SELECT 1 FROM turnkit_sessions WHERE id = ?1 AND tenant_id = ?2 AND user_id = ?3 AND next_index = 0";
    let values = params![id.as_str(), owner.tenant_id, owner.user_id];
    if db.prepare_cached(sql)?.exists(values)? {
        // Asked again, as its answer was lost.
        return Ok(());
    }
    let sql = "INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at, active_at)
        SELECT ?1, ?1, ?2, ?3, ?4, ?4 WHERE NOT EXISTS (SELECT 1 FROM turnkit_deleted_sessions WHERE id = ?1)
        ON CONFLICT (id) DO NOTHING";
    let values = params![id.as_str(), owner.tenant_id, owner.user_id, now];
    if db.prepare_cached(sql)?.execute(values)? == 0 {
        let twice = "a session's id was given out twice";
        return Err(StoreError::because(StoreErrorKind::Broken, twice).into());
    }
    Ok(feed::tell(db, id, None, Change::SessionUpdated, now)?)
}

pub(super) fn named(
    db: &Connection,
    owner: &Principal,
    name: &str,
    open: Option<SessionId>,
    now: i64,
) -> rusqlite::Result<Option<SessionId>> {
    let sql = "SELECT id FROM turnkit_sessions WHERE tenant_id = ?1 AND user_id = ?2 AND name = ?3";
    let values = params![owner.tenant_id, owner.user_id, name];
    let known = db.prepare_cached(sql)?.query_row(values, |row| row.get::<_, String>(0));
    if let Some(known) = known.optional()? {
        return Ok(Some(SessionId::new(known)));
    }
    if deletion::rests(db, owner, name, now)? {
        return Ok(None);
    }
    if let Some(id) = &open {
        let sql =
            "INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at, active_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
        let values = params![id.as_str(), name, owner.tenant_id, owner.user_id, now];
        db.prepare_cached(sql)?.execute(values)?;
        feed::tell(db, id, None, Change::SessionUpdated, now)?;
    }
    Ok(open)
}

/// Calls a session that is not called anything so.
pub(super) fn name(db: &Connection, id: &SessionId, title: Option<&str>) -> rusqlite::Result<()> {
    let sql = "UPDATE turnkit_sessions SET title = ?2 WHERE id = ?1 AND title IS NULL";
    db.prepare_cached(sql)?.execute(params![id.as_str(), title]).map(drop)
}

/// Notes that something was accepted, saved or ended in the session.
pub(super) fn touch(db: &Connection, id: &SessionId, now: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE turnkit_sessions SET active_at = ?2 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![id.as_str(), now]).map(drop)
}

pub(super) fn is_owner(
    db: &Connection,
    owner: &Principal,
    id: &SessionId,
) -> rusqlite::Result<bool> {
    number(db, owner, id).map(|number| number.is_some())
}

/// The place of a session among all, in the order in which they were opened.
fn number(db: &Connection, owner: &Principal, id: &SessionId) -> rusqlite::Result<Option<i64>> {
    let sql =
        "SELECT number FROM turnkit_sessions WHERE id = ?1 AND tenant_id = ?2 AND user_id = ?3";
    let values = params![id.as_str(), owner.tenant_id, owner.user_id];
    db.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
}

/// What was asked for; `None` where the user has no feed yet.
pub(super) fn list(
    db: &Connection,
    owner: &Principal,
    page: &SessionPage,
) -> rusqlite::Result<Option<SessionList>> {
    let Some(feed) = feed::end_of(db, owner)? else {
        return Ok(None);
    };
    let before = match &page.before {
        None => i64::MAX,
        // Before what is not there is nothing.
        Some(id) => number(db, owner, id)?.unwrap_or(0),
    };
    let of_archive = page.archived.map_or("", |_| "AND archived = ?5");
    let sql = format!(
        "SELECT id, name, title, archived, created_at FROM turnkit_sessions
        WHERE tenant_id = ?1 AND user_id = ?2 AND number < ?3 {of_archive} ORDER BY number DESC LIMIT ?4"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let values: [&dyn ToSql; 5] =
        [&owner.tenant_id, &owner.user_id, &before, &page.limit, &page.archived];
    let asked = statement.parameter_count();
    let rows = statement.query_map(&values[..asked], info)?;
    Ok(Some(SessionList { sessions: rows.collect::<rusqlite::Result<_>>()?, feed }))
}

fn info(row: &Row<'_>) -> rusqlite::Result<SessionInfo> {
    Ok(SessionInfo {
        id: SessionId::new(row.get::<_, String>(0)?),
        name: row.get(1)?,
        title: row.get(2)?,
        archived: row.get(3)?,
        created_at: time(row.get(4)?),
    })
}

pub(super) fn update(
    db: &Connection,
    owner: &Principal,
    id: &SessionId,
    update: &SessionUpdate,
    now: i64,
) -> rusqlite::Result<Option<SessionInfo>> {
    let sql =
        "UPDATE turnkit_sessions SET title = coalesce(?4, title), archived = coalesce(?5, archived)
        WHERE id = ?1 AND tenant_id = ?2 AND user_id = ?3
            AND (title IS NOT coalesce(?4, title) OR archived <> coalesce(?5, archived))";
    let SessionUpdate { title, archived } = update;
    let values = params![id.as_str(), owner.tenant_id, owner.user_id, title, archived];
    if db.prepare_cached(sql)?.execute(values)? == 1 {
        feed::tell(db, id, None, Change::SessionUpdated, now)?;
    }
    of_owner(db, owner, id)
}

fn of_owner(
    db: &Connection,
    owner: &Principal,
    id: &SessionId,
) -> rusqlite::Result<Option<SessionInfo>> {
    let sql = "SELECT id, name, title, archived, created_at FROM turnkit_sessions
        WHERE id = ?1 AND tenant_id = ?2 AND user_id = ?3";
    let values = params![id.as_str(), owner.tenant_id, owner.user_id];
    db.prepare_cached(sql)?.query_row(values, info).optional()
}

pub(super) fn state_of(
    db: &Connection,
    worker: &Worker,
    owner: &Principal,
    id: &SessionId,
    page: MessagePage,
) -> Result<Option<SessionState>, Fault> {
    let Some(info) = of_owner(db, owner, id)? else {
        return Ok(None);
    };
    let open = rows::open_of_session(db, worker, id)?;
    let pending = match &open {
        Some(row) => interactions::pending(db, &row.turn.execution_id)?,
        None => Vec::new(),
    };
    let queue = queue::of_session(db, id)?;
    let (messages, feed) = (messages(db, id, page)?, feed::end(db, owner)?);
    Ok(Some(SessionState { info, messages, open, pending, queue, feed }))
}

/// The end of the branch that a turn is in: of each turn the newest child. Behind the turn only those are looked for, in its lane, at
/// which another lane begins.
const NEWEST_DESCENDANT: &str = "WITH RECURSIVE down (turn_index) AS (
        SELECT ?2
        UNION ALL
        SELECT (SELECT f.turn_index FROM turnkit_turns f
            CROSS JOIN turnkit_turns p ON p.session_id = ?1 AND p.turn_index = f.parent_index
            WHERE f.session_id = ?1 AND f.lane = f.turn_index AND f.parent_index >= b.turn_index AND p.lane = b.lane
            ORDER BY f.parent_index, f.turn_index DESC LIMIT 1)
        FROM down CROSS JOIN turnkit_turns b ON b.session_id = ?1 AND b.turn_index = down.turn_index
    ) SELECT max(turn_index) FROM turnkit_turns WHERE session_id = ?1 AND lane =
        (SELECT lane FROM turnkit_turns WHERE session_id = ?1 AND turn_index = (SELECT max(turn_index) FROM down))";

/// The newest turn older than `?3` among the one at index `?2` and its ancestors: on the way are the turns behind which the branch has
/// changed its lane.
const NEWEST_BEFORE: &str = "WITH RECURSIVE up (lane, newest) AS (
        SELECT lane, turn_index FROM turnkit_turns WHERE session_id = ?1 AND turn_index = ?2
        UNION ALL
        SELECT p.lane, p.turn_index FROM up
            CROSS JOIN turnkit_turns f ON f.session_id = ?1 AND f.turn_index = up.lane
            CROSS JOIN turnkit_turns p ON p.session_id = ?1 AND p.turn_index = f.parent_index
            WHERE up.lane >= ?3
    ) SELECT (SELECT max(t.turn_index) FROM turnkit_turns t
            WHERE t.session_id = ?1 AND t.lane = up.lane AND t.turn_index <= min(up.newest, ?3 - 1))
        FROM up WHERE up.lane < ?3";

/// Newest first out of the database, so that the bounds on the page cut off what is oldest.
fn messages(
    db: &Connection,
    session: &SessionId,
    page: MessagePage,
) -> rusqlite::Result<Vec<Message>> {
    let tip = match page.branch {
        None => rows::newest_index(db, session)?,
        Some(branch) => {
            let values = params![session.as_str(), column(branch)?];
            db.prepare_cached(NEWEST_DESCENDANT)?
                .query_row(values, |row| rows::optional_index(row, 0))?
        }
    };
    let start = match (tip, page.before) {
        (Some(tip), Some(before)) => {
            let before = i64::try_from(before).unwrap_or(i64::MAX);
            let values = params![session.as_str(), column(tip)?, before];
            let mut statement = db.prepare_cached(NEWEST_BEFORE)?;
            statement.query_row(values, |row| rows::optional_index(row, 0)).optional()?.flatten()
        }
        (tip, _) => tip,
    };
    let Some(start) = start else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "WITH RECURSIVE branch (turn_index, parent_index) AS (
            SELECT turn_index, parent_index FROM turnkit_turns WHERE session_id = ?1 AND turn_index = ?2
            UNION ALL
            SELECT t.turn_index, t.parent_index FROM branch b
                CROSS JOIN turnkit_turns t ON t.session_id = ?1 AND t.turn_index = b.parent_index)
        SELECT m.role, m.status, t.turn_index, t.turn_id, t.execution_id, m.created_at, t.failure_code, t.failure_message,
            m.text, m.parts, m.summary, t.client_id,
            (SELECT count(*) FROM turnkit_turns s WHERE s.session_id = ?1 AND s.parent_index IS t.parent_index),
            (SELECT group_concat(turn_id) FROM (SELECT turn_id FROM turnkit_turns s
                WHERE s.session_id = ?1 AND s.parent_index IS t.parent_index ORDER BY s.turn_index DESC LIMIT {MAX_SIBLINGS}))
        FROM branch b
        CROSS JOIN turnkit_turns t ON t.session_id = ?1 AND t.turn_index = b.turn_index
        CROSS JOIN turnkit_messages m ON m.session_id = ?1 AND m.turn_index = b.turn_index"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![session.as_str(), column(start)?])?;
    let (mut newest_first, mut bytes) = (Vec::<Message>::new(), 0);
    let (mut turns, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        let turn_index = unsigned(row, 2)?;
        // A turn is never torn: the user's message comes along with the answer to it.
        if last != Some(turn_index) {
            if turns == page.turns || bytes > PAGE_BYTES {
                break;
            }
            (turns, last) = (turns + 1, Some(turn_index));
        }
        let role: String = row.get(0)?;
        let is_user = role == Role::User.as_str();
        let state = state(row, 1)?;
        let answer = rows::answer(row, 8)?;
        bytes += answer_bytes(&answer);
        // Names of turns hold no comma.
        let (siblings, newest): (_, String) = (unsigned(row, 12)?, row.get(13)?);
        let message = Message {
            role: if is_user { Role::User } else { Role::Assistant },
            text: answer.text,
            parts: if is_user { Arc::default() } else { answer.parts },
            summary: answer.summary,
            state,
            turn_index,
            turn_id: row.get(3)?,
            client_id: row.get(11)?,
            siblings,
            sibling_ids: if siblings > 1 {
                newest.rsplit(',').map(str::to_owned).collect()
            } else {
                Vec::new()
            },
            execution_id: rows::execution_id(row, 4)?,
            created_at: time(row.get(5)?),
            failure: match state {
                TurnState::Complete => None,
                _ => rows::failure(row, 6)?,
            },
            input: None,
        };
        // Roles come in the order of the alphabet, as they lie in the index: the answer before what it answers.
        newest_first.push(message);
    }
    newest_first.reverse();
    Ok(newest_first)
}

pub(super) fn history(
    db: &Connection,
    turn: &Turn,
    limits: HistoryLimits,
) -> rusqlite::Result<History> {
    let Some(parent) = turn.parent else {
        return Ok(History::default());
    };
    let session = turn.session_id.as_str();
    let mut branch = db.prepare_cached(SAID_BEFORE)?;
    // Of the parts nothing is needed, unless there are inputs among them.
    let mut said = db.prepare_cached(
        "SELECT asked.text, answer.text, iif(instr(answer.parts, '\"type\":\"input\"'), answer.parts, NULL), NULL
        FROM turnkit_messages asked JOIN turnkit_messages answer
            ON answer.session_id = asked.session_id AND answer.turn_index = asked.turn_index AND answer.role = 'assistant'
        WHERE asked.session_id = ?1 AND asked.turn_index = ?2 AND asked.role = 'user'",
    )?;
    let mut rows = branch.query(params![session, column(parent)?])?;
    let mut history = HistoryBuilder::new(limits);
    while let Some(row) = rows.next()? {
        if history.is_full() {
            history.omit(Omitted { turns: unsigned(row, 1)?, bytes: unsigned(row, 2)? });
            break;
        }
        let values = params![session, row.get::<_, i64>(0)?];
        history.take(said.query_row(values, |row| {
            let message: String = row.get(0)?;
            Ok(said_in(&message, &rows::answer(row, 1)?))
        })?);
    }
    Ok(history.build(agent_session(db, turn, parent)?))
}

/// The turns of a branch with an answer that goes with a run, newest first; and of each how many these are up to it, and how much text they
/// have.
const SAID_BEFORE: &str = "WITH RECURSIVE branch (turn_index, parent_index, said_bytes, said_before, said_bytes_before) AS (
        SELECT turn_index, parent_index, said_bytes, said_before, said_bytes_before FROM turnkit_turns
            WHERE session_id = ?1 AND turn_index = ?2
        UNION ALL
        SELECT t.turn_index, t.parent_index, t.said_bytes, t.said_before, t.said_bytes_before FROM branch b
            CROSS JOIN turnkit_turns t ON t.session_id = ?1 AND t.turn_index = b.parent_index
            WHERE b.said_before > 0
    ) SELECT turn_index, said_before + 1, said_bytes_before + said_bytes FROM branch WHERE said_bytes IS NOT NULL";

/// The agent's own session that the turn goes on with. Where another turn has gone on with it, it holds what is not of this branch.
fn agent_session(db: &Connection, turn: &Turn, parent: u64) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT answer.summary FROM turnkit_turns before JOIN turnkit_messages answer
            ON answer.execution_id = before.execution_id AND answer.role = 'assistant'
        WHERE before.session_id = ?1 AND before.turn_index = ?2 AND before.agent = ?3 AND before.state = 'complete'
            AND NOT EXISTS (SELECT 1 FROM turnkit_turns other WHERE other.session_id = ?1 AND other.parent_index = ?2
                AND other.agent = ?3 AND other.turn_index <> ?4)";
    let values =
        params![turn.session_id.as_str(), column(parent)?, turn.agent, column(turn.index)?];
    let summary: Option<Option<String>> =
        db.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
    let summary = summary.flatten().and_then(|json| Summary::from_json(&json).ok());
    Ok(summary.and_then(|summary| summary.agent_session_id))
}

pub(super) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
