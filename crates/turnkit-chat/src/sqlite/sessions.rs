//! Sessions, and what was said in them.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, params};

use super::Fault;
use super::rows::{self, column, state, unsigned};
use super::workers::Worker;
use crate::store::{HistoryLimits, MessagePage, PAGE_BYTES, SessionPage, SessionState, json_len};
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
    let sql =
        "INSERT INTO turnkit_sessions (id, tenant_id, user_id, created_at) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (id) DO UPDATE SET id = id
            WHERE tenant_id = excluded.tenant_id AND user_id = excluded.user_id AND next_index = 0";
    let values = params![id.as_str(), owner.tenant_id, owner.user_id, now];
    if db.prepare_cached(sql)?.execute(values)? == 0 {
        let twice = "a session's id was given out twice";
        return Err(StoreError::because(StoreErrorKind::Broken, twice).into());
    }
    Ok(())
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
) -> rusqlite::Result<Option<SessionState>> {
    if !is_owner(db, owner, id)? {
        return Ok(None);
    }
    let open = rows::open_of_session(db, worker, id)?;
    Ok(Some(SessionState { messages: messages(db, id, page)?, open }))
}

/// Newest first out of the database, so that the bounds on the page cut off what is oldest.
fn messages(
    db: &Connection,
    session: &SessionId,
    page: MessagePage,
) -> rusqlite::Result<Vec<Message>> {
    let sql =
        "SELECT m.role, m.text, m.status, m.turn_index, t.turn_id, m.execution_id, m.created_at,
            t.failure_code, t.failure_message
        FROM turnkit_messages m JOIN turnkit_turns t ON t.execution_id = m.execution_id
        WHERE m.session_id = ?1 AND m.turn_index < ?2 ORDER BY m.turn_index DESC, m.role ASC";
    let before = page.before.and_then(|index| i64::try_from(index).ok()).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![session.as_str(), before])?;
    let (mut newest_first, mut bytes) = (Vec::<Message>::new(), 0);
    let (mut turns, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        let turn_index = unsigned(row, 3)?;
        // A turn is never torn: the user's message comes along with the answer to it.
        if last != Some(turn_index) {
            if turns == page.turns || bytes > PAGE_BYTES {
                break;
            }
            (turns, last) = (turns + 1, Some(turn_index));
        }
        let role: String = row.get(0)?;
        let state = state(row, 2)?;
        let message = Message {
            role: if role == Role::User.as_str() { Role::User } else { Role::Assistant },
            text: row.get(1)?,
            state,
            turn_index,
            turn_id: row.get(4)?,
            execution_id: rows::execution_id(row, 5)?,
            created_at: time(row.get(6)?),
            failure: match state {
                TurnState::Complete => None,
                _ => rows::failure(row, 7)?,
            },
        };
        bytes += message.text.len();
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
    let sql = "SELECT asked.text, answer.text FROM turnkit_messages asked
        JOIN turnkit_messages answer ON answer.execution_id = asked.execution_id AND answer.role = 'assistant'
        WHERE asked.session_id = ?1 AND asked.turn_index < ?2 AND asked.role = 'user'
        ORDER BY asked.turn_index DESC";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![turn.session_id.as_str(), column(turn.index)?])?;
    let (mut newest_first, mut turns, mut bytes) = (Vec::new(), 0, 0);
    while turns < limits.turns
        && let Some(row) = rows.next()?
    {
        let asked = Said { role: Role::User, content: row.get(0)? };
        let answer = Said { role: Role::Assistant, content: row.get(1)? };
        if answer.content.trim().is_empty() {
            continue;
        }
        bytes += json_len(&asked) + json_len(&answer);
        if bytes > limits.bytes {
            break;
        }
        turns += 1;
        newest_first.extend([answer, asked]);
    }
    newest_first.reverse();
    Ok(newest_first)
}

fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
