//! Sessions, and what was said in them.

use std::sync::Arc;

use tokio_postgres::Row;

use super::faults::Fault;
use super::transaction::Tx;
use super::values::{execution_id, optional_text, state, text, unsigned};
use super::{deletion, feed, interactions, queue, rows};
use crate::store::{
    Change, FeedPage, FeedRead, History, HistoryBuilder, HistoryLimits, MAX_SIBLINGS, MessagePage,
    Omitted, PAGE_BYTES, SessionList, SessionPage, SessionState, SessionUpdate, answer_bytes,
    said_in,
};
use crate::{Message, Principal, Role, SessionId, SessionInfo, Summary, Turn, TurnState};

pub(super) async fn open(tx: &mut Tx<'_>, owner: &Principal, id: &SessionId) -> Result<(), Fault> {
    let sql = "INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at, active_at)
        SELECT $1, $1, $2, $3, clock_timestamp(), clock_timestamp()
        WHERE NOT EXISTS (SELECT 1 FROM turnkit_deleted_sessions WHERE id = $1)
        ON CONFLICT (id) DO NOTHING";
    let values = [id.into(), (&owner.tenant_id).into(), (&owner.user_id).into()];
    if tx.write(sql, &values).await? > 0 {
        tx.tell(owner, id, Change::SessionUpdated, None);
        return Ok(());
    }
    // Asked again, as its answer was lost.
    let sql = "SELECT 1 FROM turnkit_sessions WHERE id = $1 AND tenant_id = $2 AND user_id = $3 AND next_index = 0";
    if tx.exists(sql, &values).await? {
        return Ok(());
    }
    Err(Fault::broken("a session's id was given out twice"))
}

/// What was asked for: a name, and the id under which its session is opened where there is none.
pub(super) async fn named(
    tx: &mut Tx<'_>,
    owner: &Principal,
    name: &str,
    open: Option<&SessionId>,
) -> Result<Option<SessionId>, Fault> {
    let sql = "SELECT id FROM turnkit_sessions WHERE tenant_id = $1 AND user_id = $2 AND name = $3";
    let whose = [(&owner.tenant_id).into(), (&owner.user_id).into(), name.into()];
    if let Some(row) = tx.row(sql, &whose).await? {
        return Ok(Some(SessionId::new(text(&row, 0)?)));
    }
    let Some(id) = open else {
        return Ok(None);
    };
    if deletion::rests(tx, owner, name).await? {
        return Ok(None);
    }
    let insert =
        "INSERT INTO turnkit_sessions (id, name, tenant_id, user_id, created_at, active_at)
        VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp())
        ON CONFLICT (tenant_id, user_id, name) DO NOTHING";
    let values = [id.into(), name.into(), (&owner.tenant_id).into(), (&owner.user_id).into()];
    if tx.write(insert, &values).await? > 0 {
        tx.tell(owner, id, Change::SessionUpdated, None);
        return Ok(Some(id.clone()));
    }
    // Somebody else has opened it since, and may have deleted it again.
    let known = tx.row(sql, &whose).await?;
    known.map(|row| Ok(SessionId::new(text(&row, 0)?))).transpose()
}

/// Notes that something was saved or ended in the session.
pub(super) async fn touch(tx: &mut Tx<'_>, id: &SessionId) -> Result<(), Fault> {
    let sql = "UPDATE turnkit_sessions SET active_at = clock_timestamp() WHERE id = $1";
    tx.write(sql, &[id.into()]).await.map(drop)
}

/// A session's own row, as it is once it is locked.
pub(super) struct SessionRow {
    /// The index of its next turn.
    pub(super) next_index: u64,
    /// Whether its queue is held up.
    pub(super) is_paused: bool,
}

/// Locks the owner's session: whatever is read of it after this is as it stays until the end of the transaction. `None` where the owner has
/// no such session.
pub(super) async fn lock(
    tx: &mut Tx<'_>,
    owner: &Principal,
    id: &SessionId,
) -> Result<Option<SessionRow>, Fault> {
    let sql = "SELECT next_index, queue_paused FROM turnkit_sessions
        WHERE id = $1 AND tenant_id = $2 AND user_id = $3 FOR NO KEY UPDATE";
    let values = [id.into(), (&owner.tenant_id).into(), (&owner.user_id).into()];
    let Some(row) = tx.row(sql, &values).await? else { return Ok(None) };
    Ok(Some(SessionRow { next_index: unsigned(&row, 0)?, is_paused: row.try_get(1)? }))
}

pub(super) async fn is_owner(
    tx: &mut Tx<'_>,
    owner: &Principal,
    id: &SessionId,
) -> Result<bool, Fault> {
    number(tx, owner, id).await.map(|number| number.is_some())
}

/// The place of a session among all, in the order in which they were opened.
async fn number(tx: &mut Tx<'_>, owner: &Principal, id: &SessionId) -> Result<Option<u64>, Fault> {
    let sql =
        "SELECT number FROM turnkit_sessions WHERE id = $1 AND tenant_id = $2 AND user_id = $3";
    let values = [id.into(), (&owner.tenant_id).into(), (&owner.user_id).into()];
    tx.row(sql, &values).await?.map(|row| unsigned(&row, 0)).transpose()
}

/// What was asked for; `None` where the user has no feed yet.
pub(super) async fn list(
    tx: &mut Tx<'_>,
    owner: &Principal,
    page: &SessionPage,
) -> Result<Option<SessionList>, Fault> {
    let read = FeedRead { after: None, session: None, limit: 0 };
    let Some(FeedPage::Entries(_, feed)) = feed::read(tx, owner, &read).await? else {
        return Ok(None);
    };
    let before = match &page.before {
        None => u64::MAX,
        // Before what is not there is nothing.
        Some(id) => number(tx, owner, id).await?.unwrap_or(0),
    };
    let of_archive = match page.archived {
        None => "",
        Some(true) => "AND archived = true",
        Some(false) => "AND archived = false",
    };
    let sql = format!(
        "SELECT id, name, title, archived, created_at FROM turnkit_sessions
        WHERE tenant_id = $1 AND user_id = $2 AND number < $3 {of_archive} ORDER BY number DESC LIMIT $4"
    );
    let values = [
        (&owner.tenant_id).into(),
        (&owner.user_id).into(),
        before.into(),
        u64::from(page.limit).into(),
    ];
    let rows = tx.rows(&sql, &values).await?;
    let sessions = rows.iter().map(info).collect::<Result<_, Fault>>()?;
    Ok(Some(SessionList { sessions, feed }))
}

fn info(row: &Row) -> Result<SessionInfo, Fault> {
    Ok(SessionInfo {
        id: SessionId::new(text(row, 0)?),
        name: text(row, 1)?,
        title: optional_text(row, 2)?,
        archived: row.try_get(3)?,
        created_at: row.try_get(4)?,
    })
}

pub(super) async fn update(
    tx: &mut Tx<'_>,
    owner: &Principal,
    id: &SessionId,
    update: &SessionUpdate,
) -> Result<Option<SessionInfo>, Fault> {
    let SessionUpdate { title, archived } = update;
    let archived = archived.map(|archived| archived.to_string());
    let sql = "UPDATE turnkit_sessions SET title = coalesce($4, title), archived = coalesce($5::boolean, archived)
        WHERE id = $1 AND tenant_id = $2 AND user_id = $3
            AND (title IS DISTINCT FROM coalesce($4, title) OR archived <> coalesce($5::boolean, archived))";
    let values = [
        id.into(),
        (&owner.tenant_id).into(),
        (&owner.user_id).into(),
        title.into(),
        (&archived).into(),
    ];
    if tx.write(sql, &values).await? > 0 {
        tx.tell(owner, id, Change::SessionUpdated, None);
    }
    of_owner(tx, owner, id).await
}

async fn of_owner(
    tx: &mut Tx<'_>,
    owner: &Principal,
    id: &SessionId,
) -> Result<Option<SessionInfo>, Fault> {
    let sql = "SELECT id, name, title, archived, created_at FROM turnkit_sessions
        WHERE id = $1 AND tenant_id = $2 AND user_id = $3";
    let values = [id.into(), (&owner.tenant_id).into(), (&owner.user_id).into()];
    tx.row(sql, &values).await?.as_ref().map(info).transpose()
}

pub(super) async fn state_of(
    tx: &mut Tx<'_>,
    owner: &Principal,
    id: &SessionId,
    page: MessagePage,
) -> Result<Option<SessionState>, Fault> {
    let Some(info) = of_owner(tx, owner, id).await? else {
        return Ok(None);
    };
    let open = rows::open_of_session(tx, id).await?;
    let pending = match &open {
        Some(row) => interactions::pending(tx, &row.turn.execution_id).await?,
        None => Vec::new(),
    };
    let queue = queue::of_session(tx, id).await?;
    let messages = messages(tx, id, page).await?;
    let feed = feed::end(tx, owner).await?;
    Ok(Some(SessionState { info, messages, open, pending, queue, feed }))
}

/// The end of the branch that a turn is in: of each turn the newest child. Behind the turn only those are looked for, in its lane, at
/// which another lane begins.
const NEWEST_DESCENDANT: &str = "WITH RECURSIVE down (turn_index) AS (
        SELECT $2
        UNION ALL
        SELECT (SELECT f.turn_index FROM turnkit_turns f
            JOIN turnkit_turns p ON p.session_id = $1 AND p.turn_index = f.parent_index
            WHERE f.session_id = $1 AND f.lane = f.turn_index AND f.parent_index >= b.turn_index AND p.lane = b.lane
            ORDER BY f.parent_index, f.turn_index DESC LIMIT 1)
        FROM down JOIN turnkit_turns b ON b.session_id = $1 AND b.turn_index = down.turn_index
    ) SELECT turn_index FROM turnkit_turns WHERE session_id = $1 AND lane =
        (SELECT lane FROM turnkit_turns WHERE session_id = $1 AND turn_index = (SELECT max(turn_index) FROM down))
        ORDER BY turn_index DESC LIMIT 1";

/// Newest first out of the database, so that the bounds on the page cut off what is oldest. The bound on its bytes is kept in the database
/// as well, where a text counts once: at most about twice as much is fetched as a page has.
async fn messages(
    tx: &mut Tx<'_>,
    session: &SessionId,
    page: MessagePage,
) -> Result<Vec<Message>, Fault> {
    let tip = match page.branch {
        None => rows::newest_index(tx, session).await?,
        Some(branch) => {
            let row = tx.row(NEWEST_DESCENDANT, &[session.into(), branch.into()]).await?;
            row.map(|row| unsigned(&row, 0)).transpose()?
        }
    };
    let Some(tip) = tip else {
        return Ok(Vec::new());
    };
    // The page begins with the newest turn of the branch that is older than `$3`: on the way there are the turns behind which the branch has
    // changed its lane. Siblings are looked up in two ways, each by the index: `IS NOT DISTINCT FROM` takes none.
    let sql = format!(
        "WITH RECURSIVE up (lane, newest) AS (
            SELECT lane, turn_index FROM turnkit_turns WHERE session_id = $1 AND turn_index = $2
            UNION ALL
            SELECT p.lane, p.turn_index FROM up
                JOIN turnkit_turns f ON f.session_id = $1 AND f.turn_index = up.lane
                JOIN turnkit_turns p ON p.session_id = $1 AND p.turn_index = f.parent_index
                WHERE up.lane >= $3),
        page (turn_index, parent_index, place) AS (
            SELECT turn_index, parent_index, 1 FROM turnkit_turns WHERE session_id = $1 AND turn_index = (
                SELECT (SELECT max(t.turn_index) FROM turnkit_turns t
                        WHERE t.session_id = $1 AND t.lane = up.lane AND t.turn_index <= least(up.newest, $3 - 1))
                    FROM up WHERE up.lane < $3)
            UNION ALL
            SELECT t.turn_index, t.parent_index, p.place + 1 FROM page p
                JOIN turnkit_turns t ON t.session_id = $1 AND t.turn_index = p.parent_index WHERE p.place < $4),
        sized AS (
            SELECT p.turn_index, coalesce(sum(sum(octet_length(m.text) + coalesce(octet_length(m.parts), 0)))
                OVER (ORDER BY p.turn_index DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS newer
            FROM page p JOIN turnkit_messages m ON m.session_id = $1 AND m.turn_index = p.turn_index
            WHERE p.place <= $4
            GROUP BY p.turn_index)
        SELECT m.role, m.status, t.turn_index, t.turn_id, t.execution_id, m.created_at, t.failure_code, t.failure_message,
            m.text, m.parts, m.summary, t.client_id,
            CASE WHEN t.parent_index IS NULL
                THEN (SELECT count(*) FROM turnkit_turns s WHERE s.session_id = $1 AND s.parent_index IS NULL)
                ELSE (SELECT count(*) FROM turnkit_turns s WHERE s.session_id = $1 AND s.parent_index = t.parent_index) END,
            CASE WHEN t.parent_index IS NULL
                THEN (SELECT string_agg(s.turn_id, ',' ORDER BY s.turn_index) FROM (SELECT s.turn_id, s.turn_index FROM turnkit_turns s
                    WHERE s.session_id = $1 AND s.parent_index IS NULL ORDER BY s.turn_index DESC LIMIT {MAX_SIBLINGS}) s)
                ELSE (SELECT string_agg(s.turn_id, ',' ORDER BY s.turn_index) FROM (SELECT s.turn_id, s.turn_index FROM turnkit_turns s
                    WHERE s.session_id = $1 AND s.parent_index = t.parent_index ORDER BY s.turn_index DESC LIMIT {MAX_SIBLINGS}) s) END
        FROM sized z
        JOIN turnkit_turns t ON t.session_id = $1 AND t.turn_index = z.turn_index
        JOIN turnkit_messages m ON m.session_id = $1 AND m.turn_index = z.turn_index
        WHERE z.newer <= $5
        ORDER BY t.turn_index DESC, m.role"
    );
    let values = [
        session.into(),
        tip.into(),
        page.before.unwrap_or(u64::MAX).into(),
        u64::from(page.turns).into(),
        PAGE_BYTES.into(),
    ];
    let rows = tx.rows(&sql, &values).await?;
    let (mut newest_first, mut bytes) = (Vec::<Message>::with_capacity(rows.len()), 0);
    let mut last = None;
    for row in &rows {
        let turn_index = unsigned(row, 2)?;
        // A turn is never torn: the user's message comes along with the answer to it.
        if last != Some(turn_index) {
            if bytes > PAGE_BYTES {
                break;
            }
            last = Some(turn_index);
        }
        let is_user = text(row, 0)? == Role::User.as_str();
        let state = state(row, 1)?;
        let answer = rows::answer(row, 8)?;
        bytes += answer_bytes(&answer);
        // Names of turns hold no comma.
        let (siblings, newest) = (unsigned(row, 12)?, text(row, 13)?);
        // Roles come in the order of the alphabet: the answer before what it answers.
        newest_first.push(Message {
            role: if is_user { Role::User } else { Role::Assistant },
            text: answer.text,
            parts: if is_user { Arc::default() } else { answer.parts },
            summary: answer.summary,
            state,
            turn_index,
            turn_id: text(row, 3)?,
            client_id: optional_text(row, 11)?,
            siblings,
            sibling_ids: if siblings > 1 {
                newest.split(',').map(str::to_owned).collect()
            } else {
                Vec::new()
            },
            execution_id: execution_id(row, 4)?,
            created_at: row.try_get(5)?,
            failure: match state {
                TurnState::Complete => None,
                _ => rows::failure(row, 6)?,
            },
            input: None,
        });
    }
    newest_first.reverse();
    Ok(newest_first)
}

pub(super) async fn history(
    tx: &mut Tx<'_>,
    turn: &Turn,
    limits: HistoryLimits,
) -> Result<History, Fault> {
    let Some(parent) = turn.parent else {
        return Ok(History::default());
    };
    // JSON takes more than the text, and a turn that is cut half of the bound at most: what could be within it is fetched, and of the first
    // that could not how many there are up to it.
    let sql = "WITH RECURSIVE branch (turn_index, parent_index, said_bytes, said_before, said_bytes_before, taken) AS (
            SELECT turn_index, parent_index, said_bytes, said_before, said_bytes_before, (said_bytes IS NOT NULL)::int
                FROM turnkit_turns WHERE session_id = $1 AND turn_index = $2
            UNION ALL
            SELECT t.turn_index, t.parent_index, t.said_bytes, t.said_before, t.said_bytes_before,
                    b.taken + (t.said_bytes IS NOT NULL)::int
                FROM branch b JOIN turnkit_turns t ON t.session_id = $1 AND t.turn_index = b.parent_index
                WHERE b.said_before > 0 AND b.taken <= $3),
        placed AS (
            SELECT b.*, taken <= $3 AND coalesce(sum(least(said_bytes, $4 / 2))
                OVER (ORDER BY turn_index DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) <= $4 + 64 AS fits
            FROM branch b WHERE said_bytes IS NOT NULL)
        SELECT asked.text, answer.text, CASE WHEN strpos(answer.parts, '\"type\":\"input\"') > 0 THEN answer.parts END, NULL::text,
            p.said_before + 1, p.said_bytes_before + p.said_bytes
        FROM placed p
        LEFT JOIN turnkit_messages asked
            ON p.fits AND asked.session_id = $1 AND asked.turn_index = p.turn_index AND asked.role = 'user'
        LEFT JOIN turnkit_messages answer
            ON p.fits AND answer.session_id = $1 AND answer.turn_index = p.turn_index AND answer.role = 'assistant'
        ORDER BY p.turn_index DESC";
    let values = [
        (&turn.session_id).into(),
        parent.into(),
        u64::from(limits.turns).into(),
        limits.bytes.into(),
    ];
    let mut history = HistoryBuilder::new(limits);
    for row in tx.rows(sql, &values).await? {
        match optional_text(&row, 0)? {
            // Of the parts nothing is needed, unless there are inputs among them.
            Some(asked) if !history.is_full() => {
                history.take(said_in(&asked, &rows::answer(&row, 1)?));
            }
            _ => {
                history.omit(Omitted { turns: unsigned(&row, 4)?, bytes: unsigned(&row, 5)? });
                break;
            }
        }
    }
    let sql = "SELECT answer.summary FROM turnkit_turns before JOIN turnkit_messages answer
            ON answer.execution_id = before.execution_id AND answer.role = 'assistant'
        WHERE before.session_id = $1 AND before.turn_index = $2 AND before.agent = $3 AND before.state = 'complete'
            AND NOT EXISTS (SELECT 1 FROM turnkit_turns other WHERE other.session_id = $1 AND other.parent_index = $2
                AND other.agent = $3 AND other.turn_index <> $4)";
    let values =
        [(&turn.session_id).into(), parent.into(), (&turn.agent).into(), turn.index.into()];
    let summary = match tx.row(sql, &values).await? {
        Some(row) => optional_text(&row, 0)?,
        None => None,
    };
    let summary = summary.and_then(|json| Summary::from_json(&json).ok());
    Ok(history.build(summary.and_then(|summary| summary.agent_session_id)))
}
