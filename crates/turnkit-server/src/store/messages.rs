//! Messages: what was said, by the user and by the assistant.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::sessions::is_owner;
use super::turns::{Failure, failure, unsigned};
use super::{Store, StoreError};
use crate::principal::Principal;
use turnkit_id::ExecutionId;

/// Text that one page holds before it ends early: a page is built in memory.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// One message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) text: String,
    pub(crate) status: MessageStatus,
    pub(crate) turn_index: u64,
    pub(crate) turn_id: String,
    pub(crate) execution_id: String,
    /// Unix milliseconds.
    pub(crate) created_at: i64,
    /// Why it is not whole.
    pub(crate) failure: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Assistant,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// Whether a message is whole. A stopped or failed one is what there was of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageStatus {
    Complete,
    Stopped,
    Failed,
}

impl MessageStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            MessageStatus::Complete => "complete",
            MessageStatus::Stopped => "stopped",
            MessageStatus::Failed => "failed",
        }
    }
}

/// Which messages to list: those of the newest `turns` turns, of those before the turn index `before`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessagePage {
    pub(crate) before: Option<u64>,
    pub(crate) turns: u32,
}

impl Store {
    /// The messages of a session, oldest first; `None` where the owner has no such session. A page ends early where its
    /// text is over 8 MiB.
    pub(crate) async fn messages(
        &self,
        owner: Principal,
        session: String,
        page: MessagePage,
    ) -> Result<Option<Vec<Message>>, StoreError> {
        self.reader
            .run(move |db| {
                let is_owner = is_owner(db, &owner, &session)?;
                is_owner.then(|| list(db, &session, page)).transpose()
            })
            .await
    }

    /// The assistant's whole answer of an execution, where it is saved.
    pub(crate) async fn saved_answer(
        &self,
        execution: ExecutionId,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT text FROM messages WHERE execution_id = ?1 AND role = 'assistant' AND status = 'complete'";
        self.reader
            .run(move |db| {
                db.prepare_cached(sql)?.query_row([execution.as_str()], |row| row.get(0)).optional()
            })
            .await
    }
}

/// Newest first out of the database, so that the bound on the page cuts off what is oldest.
fn list(db: &Connection, session: &str, page: MessagePage) -> rusqlite::Result<Vec<Message>> {
    let sql =
        "SELECT m.role, m.text, m.status, m.turn_index, t.turn_id, m.execution_id, m.created_at,
            iif(m.status = 'complete', NULL, t.failure_code), iif(m.status = 'complete', NULL, t.failure_message)
        FROM messages m JOIN turns t ON t.execution_id = m.execution_id
        WHERE m.session_id = ?1 AND m.turn_index < ?2
        ORDER BY m.turn_index DESC, m.role ASC LIMIT ?3";
    let before = page.before.and_then(|index| i64::try_from(index).ok()).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![session, before, page.turns.saturating_mul(2)], read)?;
    let mut messages = take_page(rows)?;
    messages.reverse();
    Ok(messages)
}

fn take_page(
    rows: impl Iterator<Item = rusqlite::Result<Message>>,
) -> rusqlite::Result<Vec<Message>> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    for message in rows {
        let message = message?;
        // A turn is never torn: the user's message comes along with the answer to it.
        if bytes > PAGE_BYTES && message.role == Role::Assistant {
            break;
        }
        bytes += message.text.len();
        messages.push(message);
    }
    Ok(messages)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        role: row.get(0)?,
        text: row.get(1)?,
        status: row.get(2)?,
        turn_index: unsigned(row, 3)?,
        turn_id: row.get(4)?,
        execution_id: row.get(5)?,
        created_at: row.get(6)?,
        failure: failure(row, 7)?,
    })
}

impl FromSql for Role {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Role> {
        match value.as_str()? {
            "user" => Ok(Role::User),
            "assistant" => Ok(Role::Assistant),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

impl FromSql for MessageStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<MessageStatus> {
        match value.as_str()? {
            "complete" => Ok(MessageStatus::Complete),
            "stopped" => Ok(MessageStatus::Stopped),
            "failed" => Ok(MessageStatus::Failed),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
