//! What has changed, for each user in the order of commits (PROTOCOL 4.2, "A feed").

use tokio_postgres::Row;
use uuid::Uuid;

use super::faults::Fault;
use super::transaction::{Told, Tx};
use super::values::{Value, execution_id, optional_text, optional_unsigned, text, unsigned};
use crate::store::{Change, FEED_KEPT, FEED_PAGE_BYTES, FeedEntry, FeedId, FeedPage, FeedRead};
use crate::{Principal, SessionId};

/// How many entries are dropped at once: an entry more does not cost a search each time.
const PIECE: u64 = 1_000;

/// Writes what a transaction tells, as its last statement. From then to the commit it has the row of the user's counter, so the order of
/// the numbers is that of the commits.
pub(super) async fn write(
    tx: &mut Tx<'_>,
    owner: &Principal,
    session: &SessionId,
    changes: &[Told],
) -> Result<(), Fault> {
    let sql = "WITH counter AS (
            INSERT INTO turnkit_feeds (tenant_id, user_id, feed, newest) VALUES ($1, $2, $3, $4)
            ON CONFLICT (tenant_id, user_id) DO UPDATE SET newest = turnkit_feeds.newest + $4 RETURNING feed, newest)
        INSERT INTO turnkit_feed_entries (feed, number, change, state, session_id, turn_id, at, interaction_id)
        SELECT c.feed, c.newest - $4 + e.place, e.change, e.state, $5, e.turn_id, clock_timestamp(), e.interaction_id
        FROM counter c, unnest($6, $7, $8, $9) WITH ORDINALITY AS e (change, state, turn_id, interaction_id, place)
        RETURNING feed, number";
    let feed = new_name();
    let values = [
        (&owner.tenant_id).into(),
        (&owner.user_id).into(),
        (&feed).into(),
        changes.len().into(),
        session.into(),
        Value::Texts(changes.iter().map(|told| Some(told.change.as_str())).collect()),
        Value::Texts(changes.iter().map(|told| told.change.state()).collect()),
        Value::Texts(changes.iter().map(|told| told.turn_id.as_deref()).collect()),
        Value::Texts(changes.iter().map(|told| told.interaction.as_deref()).collect()),
    ];
    for row in tx.rows(sql, &values).await? {
        let (feed, number) = (text(&row, 0)?, unsigned(&row, 1)?);
        if number > FEED_KEPT && number % PIECE == 0 {
            let dropped = number - FEED_KEPT;
            let sql = "DELETE FROM turnkit_feed_entries WHERE feed = $1 AND number <= $2";
            tx.write(sql, &[(&feed).into(), dropped.into()]).await?;
            let sql = "UPDATE turnkit_feeds SET dropped = $2 WHERE feed = $1";
            tx.write(sql, &[(&feed).into(), dropped.into()]).await?;
        }
    }
    Ok(())
}

fn new_name() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Forgets what was told of a session.
pub(super) async fn forget(tx: &mut Tx<'_>, session: &SessionId) -> Result<(), Fault> {
    let sql = "DELETE FROM turnkit_feed_entries WHERE session_id = $1";
    tx.write(sql, &[session.into()]).await.map(drop)
}

/// Makes the feed of a user who has none.
pub(super) async fn make(tx: &mut Tx<'_>, owner: &Principal) -> Result<(), Fault> {
    let sql = "INSERT INTO turnkit_feeds (tenant_id, user_id, feed) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id, user_id) DO NOTHING";
    let feed = new_name();
    let values = [(&owner.tenant_id).into(), (&owner.user_id).into(), (&feed).into()];
    tx.write(sql, &values).await.map(drop)
}

/// Where the feed ends, and the number up to which entries are not kept; `None` where the user has none.
async fn ends(tx: &mut Tx<'_>, owner: &Principal) -> Result<Option<(FeedId, u64)>, Fault> {
    let sql =
        "SELECT feed, newest, dropped FROM turnkit_feeds WHERE tenant_id = $1 AND user_id = $2";
    let row = tx.row(sql, &[(&owner.tenant_id).into(), (&owner.user_id).into()]).await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let end = FeedId { feed: text(&row, 0)?, number: unsigned(&row, 1)? };
    Ok(Some((end, unsigned(&row, 2)?)))
}

/// Where the feed of a user who has sessions ends.
pub(super) async fn end(tx: &mut Tx<'_>, owner: &Principal) -> Result<FeedId, Fault> {
    let end = ends(tx, owner).await?.map(|(end, _)| end);
    end.ok_or_else(|| Fault::broken("a session whose owner has no feed"))
}

/// What was asked for; `None` where the user has no feed yet.
pub(super) async fn read(
    tx: &mut Tx<'_>,
    owner: &Principal,
    read: &FeedRead,
) -> Result<Option<FeedPage>, Fault> {
    let Some((end, dropped)) = ends(tx, owner).await? else {
        return Ok(None);
    };
    let Some(after) = &read.after else {
        return Ok(Some(FeedPage::Entries(Vec::new(), end)));
    };
    if after.feed != end.feed || !(dropped..=end.number).contains(&after.number) {
        return Ok(Some(FeedPage::Expired));
    }
    // The messages of a page have a bound in the database as well: what is beyond it is not fetched.
    let sql = "WITH entries AS (
            SELECT e.number, e.change, e.state, e.session_id, e.turn_id, e.at, t.turn_index, t.execution_id,
                CASE WHEN q.number IS NULL THEN NULL ELSE (SELECT count(*) FROM turnkit_queue before
                    WHERE before.session_id = q.session_id AND before.number <= q.number AND NOT before.removed) END AS place,
                CASE WHEN e.change IN ('turn.accepted', 'turn.queued', 'turn.changed') THEN coalesce(m.text, q.message) END AS message,
                e.interaction_id, CASE WHEN e.change = 'interaction.pending' THEN a.question END AS question
            FROM turnkit_feed_entries e
            LEFT JOIN turnkit_turns t ON t.session_id = e.session_id AND t.turn_id = e.turn_id
            LEFT JOIN turnkit_messages m ON m.execution_id = t.execution_id AND m.role = 'user'
            LEFT JOIN turnkit_queue q ON q.session_id = e.session_id AND q.turn_id = e.turn_id AND NOT q.removed
            LEFT JOIN turnkit_questions a
                ON a.execution_id = t.execution_id AND a.interaction_id = e.interaction_id AND a.outcome IS NULL
            WHERE e.feed = $1 AND e.number > $2 AND ($4::text IS NULL OR e.session_id = $4) ORDER BY e.number LIMIT $3),
        sized AS (
            SELECT *, coalesce(sum(coalesce(octet_length(message), 0) + coalesce(octet_length(question), 0)) OVER (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                AS bytes
            FROM entries)
        SELECT number, change, state, session_id, turn_id, at, turn_index, execution_id, place,
            CASE WHEN bytes <= $5 THEN message END, bytes > $5, interaction_id, CASE WHEN bytes <= $5 THEN question END
        FROM sized ORDER BY number";
    let session = read.session.as_ref().map(SessionId::as_str);
    // One more, to know whether there is one.
    let limit = read.limit.saturating_add(1);
    let values = [
        (&after.feed).into(),
        after.number.into(),
        limit.into(),
        Value::Text(session),
        FEED_PAGE_BYTES.into(),
    ];
    let rows = tx.rows(sql, &values).await?;
    let mut entries = Vec::<FeedEntry>::with_capacity(rows.len());
    for row in &rows {
        if entries.len() == read.limit || row.try_get(10)? {
            let number = entries.last().map_or(after.number, |last| last.number);
            let at = FeedId { number, feed: end.feed };
            return Ok(Some(FeedPage::Entries(entries, at)));
        }
        entries.push(entry(row)?);
    }
    Ok(Some(FeedPage::Entries(entries, end)))
}

fn entry(row: &Row) -> Result<FeedEntry, Fault> {
    let (name, state) = (text(row, 1)?, optional_text(row, 2)?);
    let unknown = || Fault::broken(format!("a feed that tells of {name:?}"));
    let index = optional_unsigned(row, 6)?;
    Ok(FeedEntry {
        number: unsigned(row, 0)?,
        change: Change::parse(&name, state.as_deref()).ok_or_else(unknown)?,
        session_id: SessionId::new(text(row, 3)?),
        turn_id: optional_text(row, 4)?,
        at: row.try_get(5)?,
        begun: index.map(|index| Ok::<_, Fault>((index, execution_id(row, 7)?))).transpose()?,
        position: optional_unsigned(row, 8)?,
        message: optional_text(row, 9)?,
        interaction: optional_text(row, 11)?,
        question: optional_text(row, 12)?,
    })
}
