//! Sessions, and what was said in them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{self, column, state, unsigned};
use super::workers::Worker;
use super::{Fault, deletion, feed, interactions, queue};
use crate::store::{
    Change, HistoryLimits, MessagePage, PAGE_BYTES, SessionPage, SessionState, answer_bytes,
    json_len, said_in,
};
use crate::{
    Message, Principal, Role, Said, SessionId, SessionInfo, StoreError, StoreErrorKind, Turn,
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

pub(super) fn list(
    db: &Connection,
    owner: &Principal,
    page: &SessionPage,
) -> rusqlite::Result<Vec<SessionInfo>> {
    let before = match &page.before {
        None => i64::MAX,
        Some(id) => match number(db, owner, id)? {
            None => return Ok(Vec::new()),
            Some(number) => number,
        },
    };
    let sql = "SELECT id, title, created_at FROM turnkit_sessions
        WHERE tenant_id = ?1 AND user_id = ?2 AND number < ?3 ORDER BY number DESC LIMIT ?4";
    let mut statement = db.prepare_cached(sql)?;
    let values = params![owner.tenant_id, owner.user_id, before, page.limit];
    let rows = statement.query_map(values, |row| {
        let id = SessionId::new(row.get::<_, String>(0)?);
        Ok(SessionInfo { id, title: row.get(1)?, created_at: time(row.get(2)?) })
    })?;
    rows.collect()
}

pub(super) fn state_of(
    db: &Connection,
    worker: &Worker,
    owner: &Principal,
    id: &SessionId,
    page: MessagePage,
) -> Result<Option<SessionState>, Fault> {
    if !is_owner(db, owner, id)? {
        return Ok(None);
    }
    let open = rows::open_of_session(db, worker, id)?;
    let pending = match &open {
        Some(row) => interactions::pending(db, &row.turn.execution_id)?,
        None => Vec::new(),
    };
    let queue = queue::of_session(db, id)?;
    let (messages, feed) = (messages(db, id, page)?, feed::end(db, owner)?);
    Ok(Some(SessionState { messages, open, pending, queue, feed }))
}

/// A branch, newest turn first: the turn at index `?2` of the session `?1`, and its ancestors.
const BRANCH: &str = "WITH RECURSIVE branch (turn_index, parent_index) AS (
        SELECT turn_index, parent_index FROM turnkit_turns WHERE session_id = ?1 AND turn_index = ?2
        UNION ALL
        SELECT t.turn_index, t.parent_index FROM branch b
            CROSS JOIN turnkit_turns t ON t.session_id = ?1 AND t.turn_index = b.parent_index
        ORDER BY 1 DESC
    )";

/// Newest first out of the database, so that the bounds on the page cut off what is oldest.
fn messages(
    db: &Connection,
    session: &SessionId,
    page: MessagePage,
) -> rusqlite::Result<Vec<Message>> {
    let mut tip = match page.branch {
        None => rows::newest_index(db, session)?,
        Some(branch) => Some(branch),
    };
    while let (Some(_), Some(parent)) = (page.branch, tip) {
        let sql =
            "SELECT max(turn_index) FROM turnkit_turns WHERE session_id = ?1 AND parent_index = ?2";
        let values = params![session.as_str(), column(parent)?];
        let child =
            db.prepare_cached(sql)?.query_row(values, |row| rows::optional_index(row, 0))?;
        match child {
            Some(child) => tip = Some(child),
            None => break,
        }
    }
    let Some(tip) = tip else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "{BRANCH} SELECT m.role, m.status, t.turn_index, t.turn_id, t.execution_id, m.created_at, t.failure_code, t.failure_message,
            m.text, m.parts, m.summary, t.client_id,
            (SELECT count(*) FROM turnkit_turns s WHERE s.session_id = ?1 AND s.parent_index IS t.parent_index)
        FROM branch b
        CROSS JOIN turnkit_turns t ON t.session_id = ?1 AND t.turn_index = b.turn_index
        CROSS JOIN turnkit_messages m ON m.session_id = ?1 AND m.turn_index = b.turn_index
        WHERE b.turn_index < ?3"
    );
    let before = page.before.and_then(|index| i64::try_from(index).ok()).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![session.as_str(), column(tip)?, before])?;
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
        let message = Message {
            role: if is_user { Role::User } else { Role::Assistant },
            text: answer.text,
            parts: if is_user { Arc::default() } else { answer.parts },
            summary: answer.summary,
            state,
            turn_index,
            turn_id: row.get(3)?,
            client_id: row.get(11)?,
            siblings: unsigned(row, 12)?,
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
) -> rusqlite::Result<Vec<Said>> {
    let Some(parent) = turn.parent else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "{BRANCH} SELECT asked.text, answer.text, iif(instr(answer.parts, '\"type\":\"input\"'), answer.parts, NULL), NULL FROM branch b
        CROSS JOIN turnkit_messages asked ON asked.session_id = ?1 AND asked.turn_index = b.turn_index AND asked.role = 'user'
        CROSS JOIN turnkit_messages answer
            ON answer.session_id = ?1 AND answer.turn_index = b.turn_index AND answer.role = 'assistant'"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![turn.session_id.as_str(), column(parent)?])?;
    let (mut newest_first, mut turns, mut bytes) = (Vec::new(), 0, 0);
    while turns < limits.turns
        && let Some(row) = rows.next()?
    {
        let message: String = row.get(0)?;
        // Of the parts nothing is needed, unless there are inputs among them.
        let said = said_in(&message, &rows::answer(row, 1)?);
        if said.is_empty() {
            continue;
        }
        bytes += said.iter().map(json_len).sum::<usize>();
        if bytes > limits.bytes {
            break;
        }
        turns += 1;
        newest_first.extend(said.into_iter().rev());
    }
    newest_first.reverse();
    Ok(newest_first)
}

pub(super) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
