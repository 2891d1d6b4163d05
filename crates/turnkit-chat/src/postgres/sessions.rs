//! Sessions, and what was said in them.

use std::sync::Arc;

use tokio_postgres::Row;

use super::faults::Fault;
use super::transaction::Tx;
use super::values::{execution_id, optional_text, state, text, unsigned};
use super::{deletion, feed, interactions, queue, rows};
use crate::store::{
    Change, FeedPage, FeedRead, History, HistoryBuilder, HistoryLimits, MAX_SIBLINGS, MessagePage,
    PAGE_BYTES, SessionList, SessionPage, SessionState, SessionUpdate, answer_bytes, said_in,
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

/// Locks the owner's session: whatever is read of it after this is as it stays until the end of the transaction. Gives the index of its
/// next turn; `None` where the owner has no such session.
pub(super) async fn lock(
    tx: &mut Tx<'_>,
    owner: &Principal,
    id: &SessionId,
) -> Result<Option<u64>, Fault> {
    let sql = "SELECT next_index FROM turnkit_sessions WHERE id = $1 AND tenant_id = $2 AND user_id = $3 FOR NO KEY UPDATE";
    let values = [id.into(), (&owner.tenant_id).into(), (&owner.user_id).into()];
    tx.row(sql, &values).await?.map(|row| unsigned(&row, 0)).transpose()
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
        "SELECT id, title, archived, created_at FROM turnkit_sessions
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
    let (id, title) = (SessionId::new(text(row, 0)?), optional_text(row, 1)?);
    Ok(SessionInfo { id, title, archived: row.try_get(2)?, created_at: row.try_get(3)? })
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
    let sql = "SELECT id, title, archived, created_at FROM turnkit_sessions
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

/// A branch: the turn at index `$2` of the session `$1`, and its ancestors.
const BRANCH: &str = "WITH RECURSIVE branch (turn_index, parent_index) AS (
        SELECT turn_index, parent_index FROM turnkit_turns WHERE session_id = $1 AND turn_index = $2
        UNION ALL
        SELECT t.turn_index, t.parent_index FROM branch b
            JOIN turnkit_turns t ON t.session_id = $1 AND t.turn_index = b.parent_index
    )";

/// Of a turn the newest child, of that one the newest, and so on.
const NEWEST_DESCENDANT: &str = "WITH RECURSIVE descendant (turn_index) AS (
        SELECT $2
        UNION ALL
        SELECT (SELECT max(c.turn_index) FROM turnkit_turns c WHERE c.session_id = $1 AND c.parent_index = d.turn_index)
            FROM descendant d WHERE d.turn_index IS NOT NULL
    ) SELECT max(turn_index) FROM descendant";

/// Newest first out of the database, so that the bounds on the page cut off what is oldest. The bound on its bytes is kept in the database
/// as well: what is beyond it is not fetched.
async fn messages(
    tx: &mut Tx<'_>,
    session: &SessionId,
    page: MessagePage,
) -> Result<Vec<Message>, Fault> {
    let tip = match page.branch {
        None => rows::newest_index(tx, session).await?,
        Some(branch) => {
            let row = tx.one(NEWEST_DESCENDANT, &[session.into(), branch.into()]).await?;
            Some(unsigned(&row, 0)?)
        }
    };
    let Some(tip) = tip else {
        return Ok(Vec::new());
    };
    // The branch is walked no further than the page goes. Siblings are looked up in two ways, each by the index: `IS NOT DISTINCT FROM`
    // takes none.
    let sql = format!(
        "WITH RECURSIVE branch (turn_index, parent_index, taken) AS (
            SELECT turn_index, parent_index, (turn_index < $3)::int FROM turnkit_turns WHERE session_id = $1 AND turn_index = $2
            UNION ALL
            SELECT t.turn_index, t.parent_index, b.taken + (t.turn_index < $3)::int FROM branch b
                JOIN turnkit_turns t ON t.session_id = $1 AND t.turn_index = b.parent_index WHERE b.taken < $4),
        page AS (
            SELECT turn_index FROM branch WHERE turn_index < $3 ORDER BY turn_index DESC LIMIT $4),
        sized AS (
            SELECT p.turn_index, coalesce(sum(sum(octet_length(m.text) + coalesce(octet_length(m.parts), 0)))
                OVER (ORDER BY p.turn_index DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS newer
            FROM page p JOIN turnkit_messages m ON m.session_id = $1 AND m.turn_index = p.turn_index
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

/// White space as Unicode has it, and as [`str::trim`] knows it.
const BLANK: &str = "\u{9}\u{a}\u{b}\u{c}\u{d} \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";

pub(super) async fn history(
    tx: &mut Tx<'_>,
    turn: &Turn,
    limits: HistoryLimits,
) -> Result<History, Fault> {
    let Some(parent) = turn.parent else {
        return Ok(History::default());
    };
    // JSON takes more than the text, and a turn that is cut half of the bound at most: what could be within it is fetched, and of the rest
    // its size.
    let sql = format!(
        "{BRANCH}, told AS (
            SELECT b.turn_index, asked.text AS asked, answer.text AS answer,
                CASE WHEN strpos(answer.parts, '\"type\":\"input\"') > 0 THEN answer.parts END AS parts,
                octet_length(asked.text) + octet_length(answer.text) AS bytes
            FROM branch b
            JOIN turnkit_messages asked ON asked.session_id = $1 AND asked.turn_index = b.turn_index AND asked.role = 'user'
            JOIN turnkit_messages answer
                ON answer.session_id = $1 AND answer.turn_index = b.turn_index AND answer.role = 'assistant'
            WHERE answer.status = 'complete' AND btrim(answer.text, $5) <> ''),
        placed AS (
            SELECT told.*, row_number() OVER (ORDER BY turn_index DESC) <= $3 AND coalesce(sum(least(bytes, $4 / 2))
                OVER (ORDER BY turn_index DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) <= $4 + 64 AS fits
            FROM told)
        SELECT CASE WHEN fits THEN asked END, CASE WHEN fits THEN answer END, CASE WHEN fits THEN parts END, NULL::text, bytes::int8
        FROM placed ORDER BY turn_index DESC"
    );
    let values = [
        (&turn.session_id).into(),
        parent.into(),
        u64::from(limits.turns).into(),
        limits.bytes.into(),
        BLANK.into(),
    ];
    let mut history = HistoryBuilder::new(limits);
    for row in tx.rows(&sql, &values).await? {
        match optional_text(&row, 0)? {
            // Of the parts nothing is needed, unless there are inputs among them.
            Some(asked) if !history.is_full() => {
                history.take(said_in(&asked, &rows::answer(&row, 1)?));
            }
            _ => history.omit(unsigned(&row, 4)?),
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

#[cfg(test)]
mod tests {
    use super::BLANK;

    #[test]
    fn blank_is_blank_to_both() {
        let blank: String =
            (0..=0x10_FFFF).filter_map(char::from_u32).filter(|c| c.is_whitespace()).collect();
        assert_eq!(BLANK, blank);
    }
}
