//! Sessions: a user's conversations.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError};
use crate::principal::Principal;

/// Characters of the first message that serve as a session's title.
const TITLE: u32 = 80;

/// A conversation as its owner's list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// The beginning of the first message, once there is one.
    pub(crate) title: Option<String>,
    /// Unix milliseconds.
    pub(crate) created_at: i64,
}

/// Which sessions to list: the newest `limit`, of those older than the session `before`.
#[derive(Clone, Debug)]
pub(crate) struct SessionPage {
    pub(crate) before: Option<String>,
    pub(crate) limit: u32,
}

impl Store {
    /// Makes a session for `owner` and gives its id.
    pub(crate) async fn create_session(&self, owner: Principal) -> Result<String, StoreError> {
        let (id, now) = ((self.environment.ids)(), self.now());
        self.writer.run(move |db| insert(db, &owner, id, now)).await
    }

    pub(crate) async fn sessions(
        &self,
        owner: Principal,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        self.reader.run(move |db| list(db, &owner, &page)).await
    }
}

pub(super) fn is_owner(
    db: &Connection,
    owner: &Principal,
    session: &str,
) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sessions WHERE id = ?1 AND tenant_id = ?2 AND user_id = ?3";
    let mut statement = db.prepare_cached(sql)?;
    statement.exists(params![session, owner.tenant_id, owner.user_id])
}

fn insert(db: &Connection, owner: &Principal, id: String, now: i64) -> rusqlite::Result<String> {
    let sql = "INSERT INTO sessions (id, tenant_id, user_id, created_at) VALUES (?1, ?2, ?3, ?4)";
    db.prepare_cached(sql)?.execute(params![id, owner.tenant_id, owner.user_id, now])?;
    Ok(id)
}

fn list(db: &Connection, owner: &Principal, page: &SessionPage) -> rusqlite::Result<Vec<Session>> {
    let Some((created_at, id)) = upper_bound(db, owner, page)? else {
        return Ok(Vec::new());
    };
    let sql = "SELECT id, created_at,
            (SELECT substr(text, 1, ?6) FROM messages WHERE session_id = id AND turn_index = 0 AND role = 'user')
        FROM sessions
        WHERE tenant_id = ?1 AND user_id = ?2 AND (created_at, id) < (?3, ?4)
        ORDER BY created_at DESC, id DESC LIMIT ?5";
    let mut statement = db.prepare_cached(sql)?;
    let bounds = params![owner.tenant_id, owner.user_id, created_at, id, page.limit, TITLE];
    statement.query_map(bounds, read)?.collect()
}

/// The place before which the page ends; `None` where the session that it names does not exist.
fn upper_bound(
    db: &Connection,
    owner: &Principal,
    page: &SessionPage,
) -> rusqlite::Result<Option<(i64, String)>> {
    let Some(before) = &page.before else {
        return Ok(Some((i64::MAX, String::new())));
    };
    let sql =
        "SELECT created_at, id FROM sessions WHERE id = ?1 AND tenant_id = ?2 AND user_id = ?3";
    db.prepare_cached(sql)?
        .query_row(params![before, owner.tenant_id, owner.user_id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session { id: row.get(0)?, created_at: row.get(1)?, title: row.get(2)? })
}
