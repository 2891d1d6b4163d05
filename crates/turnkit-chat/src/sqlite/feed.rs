//! What has changed, for each user in the order of commits (PROTOCOL 4.2, "A feed").

use rusqlite::{Connection, OptionalExtension, Row, params};
use turnkit_id::ExecutionId;

use super::{Fault, rows, sessions};
use crate::store::{Change, FEED_KEPT, FEED_PAGE_BYTES, FeedEntry, FeedId, FeedPage, FeedRead};
use crate::{Principal, SessionId, StoreError, StoreErrorKind};

/// How many entries are dropped at once: an entry more does not cost a search each time.
const PIECE: u64 = 1_000;

/// Tells the session's owner of a change in it; `turn_id` names the turn that has changed. Transactions that write come one after the
/// other, from their beginning to their commit, so the order of the numbers is that of the commits.
pub(super) fn tell(
    db: &Connection,
    session: &SessionId,
    turn_id: Option<&str>,
    change: Change,
    now: i64,
) -> rusqlite::Result<()> {
    tell_of(db, session, turn_id, None, change, now)
}

/// Tells the session's owner of a change, which may be about a question of the turn's agent.
pub(super) fn tell_of(
    db: &Connection,
    session: &SessionId,
    turn_id: Option<&str>,
    interaction: Option<&str>,
    change: Change,
    now: i64,
) -> rusqlite::Result<()> {
    let sql = "SELECT tenant_id, user_id FROM turnkit_sessions WHERE id = ?1";
    let read = |row: &Row<'_>| Ok(Principal { tenant_id: row.get(0)?, user_id: row.get(1)? });
    let owner = db.prepare_cached(sql)?.query_row([session.as_str()], read)?;
    tell_owner(db, &owner, session, turn_id, interaction, change, now)
}

pub(super) fn tell_owner(
    db: &Connection,
    owner: &Principal,
    session: &SessionId,
    turn_id: Option<&str>,
    interaction: Option<&str>,
    change: Change,
    now: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO turnkit_feeds (tenant_id, user_id, feed, newest) VALUES (?1, ?2, lower(hex(randomblob(16))), 1)
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET newest = newest + 1 RETURNING feed, newest";
    let values = params![owner.tenant_id, owner.user_id];
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, rows::unsigned(row, 1)?));
    let (feed, number) = db.prepare_cached(sql)?.query_row(values, read)?;
    let sql =
        "INSERT INTO turnkit_feed_entries (feed, number, change, state, session_id, turn_id, at, interaction_id)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (name, state) = (change.as_str(), change.state());
    let (number_column, session) = (rows::column(number)?, session.as_str());
    let values = params![feed, number_column, name, state, session, turn_id, now, interaction];
    db.prepare_cached(sql)?.execute(values)?;
    if number > FEED_KEPT && number % PIECE == 0 {
        let dropped = rows::column(number - FEED_KEPT)?;
        let sql = "DELETE FROM turnkit_feed_entries WHERE feed = ?1 AND number <= ?2";
        db.prepare_cached(sql)?.execute(params![feed, dropped])?;
        let sql = "UPDATE turnkit_feeds SET dropped = ?2 WHERE feed = ?1";
        db.prepare_cached(sql)?.execute(params![feed, dropped])?;
    }
    Ok(())
}

/// Forgets what was told of a session.
pub(super) fn forget(db: &Connection, session: &SessionId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM turnkit_feed_entries WHERE session_id = ?1";
    db.prepare_cached(sql)?.execute([session.as_str()]).map(drop)
}

/// Makes the feed of a user who has none.
pub(super) fn make(db: &Connection, owner: &Principal) -> rusqlite::Result<()> {
    let sql = "INSERT INTO turnkit_feeds (tenant_id, user_id, feed) VALUES (?1, ?2, lower(hex(randomblob(16))))
        ON CONFLICT (tenant_id, user_id) DO NOTHING";
    db.prepare_cached(sql)?.execute(params![owner.tenant_id, owner.user_id]).map(drop)
}

/// Where the feed ends, and the number up to which entries are not kept; `None` where the user has none.
fn ends(db: &Connection, owner: &Principal) -> rusqlite::Result<Option<(FeedId, u64)>> {
    let sql =
        "SELECT feed, newest, dropped FROM turnkit_feeds WHERE tenant_id = ?1 AND user_id = ?2";
    let read = |row: &Row<'_>| {
        let end = FeedId { feed: row.get(0)?, number: rows::unsigned(row, 1)? };
        Ok((end, rows::unsigned(row, 2)?))
    };
    let values = params![owner.tenant_id, owner.user_id];
    db.prepare_cached(sql)?.query_row(values, read).optional()
}

/// Where the feed of a user ends, who may have none.
pub(super) fn end_of(db: &Connection, owner: &Principal) -> rusqlite::Result<Option<FeedId>> {
    Ok(ends(db, owner)?.map(|(end, _)| end))
}

/// Where the feed of a user who has sessions ends.
pub(super) fn end(db: &Connection, owner: &Principal) -> Result<FeedId, Fault> {
    let missing =
        || StoreError::because(StoreErrorKind::Broken, "a session whose owner has no feed");
    Ok(end_of(db, owner)?.ok_or_else(missing)?)
}

/// What was asked for; `None` where the user has no feed yet.
pub(super) fn read(
    db: &Connection,
    owner: &Principal,
    read: &FeedRead,
) -> rusqlite::Result<Option<FeedPage>> {
    let Some((end, dropped)) = ends(db, owner)? else {
        return Ok(None);
    };
    let Some(after) = &read.after else {
        return Ok(Some(FeedPage::Entries(Vec::new(), end)));
    };
    if after.feed != end.feed || !(dropped..=end.number).contains(&after.number) {
        return Ok(Some(FeedPage::Expired));
    }
    let (of_session, session) = match &read.session {
        Some(session) => ("AND e.session_id = ?4", session.as_str()),
        None => ("AND ?4 = ''", ""),
    };
    let sql = format!(
        "SELECT e.number, e.change, e.state, e.session_id, e.turn_id, e.at, t.turn_index, t.execution_id,
            (SELECT count(*) FROM turnkit_queue before
                WHERE before.session_id = q.session_id AND before.number <= q.number AND before.removed = 0),
            CASE WHEN e.change IN ('turn.accepted', 'turn.queued', 'turn.changed') THEN coalesce(m.text, q.message) END,
            q.number, e.interaction_id, CASE WHEN e.change = 'interaction.pending' THEN a.question END
        FROM turnkit_feed_entries e
        LEFT JOIN turnkit_turns t ON t.session_id = e.session_id AND t.turn_id = e.turn_id
        LEFT JOIN turnkit_messages m ON m.execution_id = t.execution_id AND m.role = 'user'
        LEFT JOIN turnkit_queue q ON q.session_id = e.session_id AND q.turn_id = e.turn_id AND q.removed = 0
        LEFT JOIN turnkit_questions a ON a.execution_id = t.execution_id AND a.interaction_id = e.interaction_id AND a.outcome IS NULL
        WHERE e.feed = ?1 AND e.number > ?2 {of_session} ORDER BY e.number LIMIT ?3"
    );
    // One more, to know whether there is one.
    let limit = i64::try_from(read.limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = db.prepare_cached(&sql)?;
    let values = params![after.feed, rows::column(after.number)?, limit, session];
    let mut rows = statement.query(values)?;
    let (mut entries, mut bytes) = (Vec::<FeedEntry>::new(), 0);
    while let Some(row) = rows.next()? {
        if entries.len() == read.limit || bytes > FEED_PAGE_BYTES {
            let number = entries.last().map_or(after.number, |last| last.number);
            let at = FeedId { number, feed: end.feed };
            return Ok(Some(FeedPage::Entries(entries, at)));
        }
        let entry = entry(row)?;
        let texts = [&entry.message, &entry.question].into_iter().flatten();
        bytes += texts.map(String::len).sum::<usize>();
        entries.push(entry);
    }
    Ok(Some(FeedPage::Entries(entries, end)))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<FeedEntry> {
    let (name, state): (String, Option<String>) = (row.get(1)?, row.get(2)?);
    let unknown =
        || rusqlite::Error::InvalidColumnType(1, name.clone(), rusqlite::types::Type::Text);
    let index = rows::optional_index(row, 6)?;
    let begun: Option<(u64, ExecutionId)> = index
        .map(|index| Ok::<_, rusqlite::Error>((index, rows::execution_id(row, 7)?)))
        .transpose()?;
    let waits = row.get::<_, Option<i64>>(10)?.is_some();
    Ok(FeedEntry {
        number: rows::unsigned(row, 0)?,
        change: Change::parse(&name, state.as_deref()).ok_or_else(unknown)?,
        session_id: SessionId::new(row.get::<_, String>(3)?),
        turn_id: row.get(4)?,
        at: sessions::time(row.get(5)?),
        begun,
        position: if waits { Some(rows::unsigned(row, 8)?) } else { None },
        message: row.get(9)?,
        interaction: row.get(11)?,
        question: row.get(12)?,
    })
}
