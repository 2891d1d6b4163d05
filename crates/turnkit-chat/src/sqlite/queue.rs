//! Turns that wait, and the names of those that were removed from the queue (PROTOCOL 4.2, "A queue").

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::workers::Worker;
use super::{feed, rows, sessions};
use crate::store::acceptance::Place;
use crate::store::asked::Asked;
use crate::store::{Change, Found, Queue, QueueChange, QueueChanged};
use crate::{Principal, QueuedTurn, SessionId, TurnRef};

/// A turn that waits.
pub(super) struct Waiting {
    pub(super) number: i64,
    pub(super) turn_id: String,
    pub(super) asked: Asked,
    pub(super) created_at: i64,
}

impl AsRef<Asked> for Waiting {
    fn as_ref(&self) -> &Asked {
        &self.asked
    }
}

/// What there is under a name that no turn with an index has.
pub(super) enum Named {
    Waiting(Waiting),
    Removed,
}

pub(super) const COLUMNS: &str = "q.number, q.turn_id, q.message, q.agent, q.after_id, q.replaces_id, q.client_id, q.first_asked, q.created_at";

fn waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    let asked = Asked {
        message: row.get(2)?,
        agent: row.get(3)?,
        after: row.get(4)?,
        replaces: row.get(5)?,
        client_id: row.get(6)?,
        known_as: row.get(7)?,
    };
    Ok(Waiting { number: row.get(0)?, turn_id: row.get(1)?, asked, created_at: row.get(8)? })
}

fn queued(waiting: Waiting, position: u64) -> QueuedTurn {
    let Waiting { turn_id, asked: Asked { message, agent, client_id, .. }, created_at, .. } =
        waiting;
    let created_at = sessions::time(created_at);
    QueuedTurn::new(turn_id, position, message, agent, client_id, created_at)
}

pub(super) fn named(db: &Connection, at: &TurnRef) -> rusqlite::Result<Option<Named>> {
    let sql = format!(
        "SELECT {COLUMNS}, q.removed FROM turnkit_queue q WHERE q.session_id = ?1 AND q.turn_id = ?2"
    );
    let values = params![at.session_id.as_str(), at.turn_id];
    let read = |row: &Row<'_>| {
        Ok(if row.get(9)? { Named::Removed } else { Named::Waiting(waiting(row)?) })
    };
    db.prepare_cached(&sql)?.query_row(values, read).optional()
}

pub(super) fn find(db: &Connection, at: &TurnRef) -> rusqlite::Result<Found> {
    Ok(match named(db, at)? {
        Some(Named::Waiting(waiting)) => Found::Queued(told(db, &at.session_id, waiting)?),
        Some(Named::Removed) => Found::Removed,
        None => Found::NoTurn,
    })
}

/// What the session has under the name of the turn that another one is to stand in for, or to follow.
pub(super) fn place_of(
    db: &Connection,
    session: &SessionId,
    asked: &Asked,
) -> rusqlite::Result<Place> {
    let Some(name) = asked.place() else {
        return Ok(Place::None);
    };
    let sql = "SELECT turn_index, parent_index, state = 'open' FROM turnkit_turns WHERE session_id = ?1 AND turn_id = ?2";
    let begun = db.prepare_cached(sql)?.query_row(params![session.as_str(), name], |row| {
        let (index, parent) = (rows::unsigned(row, 0)?, rows::optional_index(row, 1)?);
        Ok(Place::Begun { index, parent, is_open: row.get(2)? })
    });
    Ok(match begun.optional()? {
        Some(begun) => begun,
        None => match named(db, &TurnRef::new(session.clone(), name))? {
            Some(Named::Waiting(_)) => Place::Waiting,
            Some(Named::Removed) => Place::Removed,
            None => Place::None,
        },
    })
}

/// A turn that waits, with its place.
pub(super) fn told(
    db: &Connection,
    session: &SessionId,
    waiting: Waiting,
) -> rusqlite::Result<QueuedTurn> {
    let sql =
        "SELECT count(*) FROM turnkit_queue WHERE session_id = ?1 AND number <= ?2 AND removed = 0";
    let values = params![session.as_str(), waiting.number];
    let position: u32 = db.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    Ok(queued(waiting, position.into()))
}

/// How many wait in the session, and whether they are held up.
pub(super) fn length(db: &Connection, session: &SessionId) -> rusqlite::Result<(usize, bool)> {
    let sql = "SELECT queue_paused, (SELECT count(*) FROM turnkit_queue WHERE session_id = ?1 AND removed = 0)
        FROM turnkit_sessions WHERE id = ?1";
    db.prepare_cached(sql)?
        .query_row([session.as_str()], |row| Ok((row.get::<_, u32>(1)? as usize, row.get(0)?)))
}

pub(super) fn of_session(db: &Connection, session: &SessionId) -> rusqlite::Result<Queue> {
    let sql = format!(
        "SELECT {COLUMNS} FROM turnkit_queue q WHERE q.session_id = ?1 AND q.removed = 0 ORDER BY q.number"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([session.as_str()], waiting)?;
    let turns = rows.zip(1..).map(|(row, position)| Ok(queued(row?, position)));
    let turns = turns.collect::<rusqlite::Result<_>>()?;
    let (_, is_paused) = length(db, session)?;
    Ok(Queue { turns, is_paused })
}

pub(super) fn push(db: &Connection, at: &TurnRef, asked: &Asked, now: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO turnkit_queue (session_id, turn_id, client_id, agent, message, after_id, replaces_id, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let Asked { message, agent, after, replaces, client_id, .. } = asked;
    let values = params![
        at.session_id.as_str(),
        at.turn_id,
        client_id,
        agent,
        message,
        after,
        replaces,
        now
    ];
    db.prepare_cached(sql)?.execute(values).map(drop)
}

/// Takes the first that waits, and whose it is, unless they are held up.
pub(super) fn pop(
    db: &Connection,
    session: &SessionId,
) -> rusqlite::Result<Option<(Principal, Waiting)>> {
    let sql = format!(
        "SELECT {COLUMNS}, s.tenant_id, s.user_id FROM turnkit_queue q JOIN turnkit_sessions s ON s.id = q.session_id
        WHERE q.session_id = ?1 AND q.removed = 0 AND s.queue_paused = 0 ORDER BY q.number LIMIT 1"
    );
    let read = |row: &Row<'_>| {
        let owner = Principal { tenant_id: row.get(9)?, user_id: row.get(10)? };
        Ok((owner, waiting(row)?))
    };
    let first = db.prepare_cached(&sql)?.query_row([session.as_str()], read).optional()?;
    if let Some((_, waiting)) = &first {
        let sql = "DELETE FROM turnkit_queue WHERE number = ?1";
        db.prepare_cached(sql)?.execute([waiting.number])?;
    }
    Ok(first)
}

/// Holds up those that wait, if any do, or lets them go on.
pub(super) fn set_paused(
    db: &Connection,
    session: &SessionId,
    is_paused: bool,
    now: i64,
) -> rusqlite::Result<()> {
    let (waiting, was_paused) = length(db, session)?;
    let is_paused = is_paused && waiting > 0;
    if is_paused == was_paused {
        return Ok(());
    }
    let sql = "UPDATE turnkit_sessions SET queue_paused = ?2 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![session.as_str(), is_paused])?;
    // That nothing is left to wait for is told by what was removed.
    if waiting > 0 { feed::tell(db, session, None, Change::SessionUpdated, now) } else { Ok(()) }
}

pub(super) fn change(
    db: &Connection,
    worker: &Worker,
    owner: &Principal,
    at: &TurnRef,
    change: QueueChange,
) -> rusqlite::Result<QueueChanged> {
    if !sessions::is_owner(db, owner, &at.session_id)? {
        return Ok(QueueChanged::NoSession);
    }
    let mut waiting = match named(db, at)? {
        Some(Named::Waiting(waiting)) => waiting,
        Some(Named::Removed) => return Ok(QueueChanged::Removed),
        None => {
            let sql = "SELECT 1 FROM turnkit_turns WHERE session_id = ?1 AND turn_id = ?2";
            let values = params![at.session_id.as_str(), at.turn_id];
            let is_there = db.prepare_cached(sql)?.exists(values)?;
            return Ok(if is_there { QueueChanged::Started } else { QueueChanged::NoTurn });
        }
    };
    match change {
        QueueChange::Edit { message, agent } => {
            if waiting.asked.edit(message, agent) {
                let sql = "UPDATE turnkit_queue SET message = ?2, agent = ?3, first_asked = ?4 WHERE number = ?1";
                let Asked { message, agent, known_as, .. } = &waiting.asked;
                let values = params![waiting.number, message, agent, known_as];
                db.prepare_cached(sql)?.execute(values)?;
                feed::tell(db, &at.session_id, Some(&at.turn_id), Change::Edited, worker.now())?;
            }
            Ok(QueueChanged::Edited(told(db, &at.session_id, waiting)?))
        }
        QueueChange::Remove => {
            // Its name stays, and nothing of what it said.
            let sql = "UPDATE turnkit_queue SET removed = 1, message = '', agent = '', client_id = NULL, first_asked = NULL
                WHERE number = ?1";
            db.prepare_cached(sql)?.execute([waiting.number])?;
            let (_, is_paused) = length(db, &at.session_id)?;
            set_paused(db, &at.session_id, is_paused, worker.now())?;
            feed::tell(db, &at.session_id, Some(&at.turn_id), Change::Removed, worker.now())?;
            Ok(QueueChanged::Removed)
        }
    }
}
