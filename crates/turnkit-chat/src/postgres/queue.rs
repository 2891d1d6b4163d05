//! Turns that wait, and the names of those that were removed from the queue (PROTOCOL 4.2, "A queue"). What writes here has the row of the
//! session locked.

use std::time::SystemTime;

use tokio_postgres::Row;

use super::faults::Fault;
use super::sessions;
use super::transaction::Tx;
use super::values::{digest, optional_text, optional_unsigned, text, unsigned};
use crate::store::acceptance::Place;
use crate::store::{Change, Found, Queue, QueueChange, QueueChanged, asked::Asked};
use crate::{Principal, QueuedTurn, SessionId, TurnRef};

/// A turn that waits.
pub(super) struct Waiting {
    pub(super) number: i64,
    pub(super) turn_id: String,
    pub(super) asked: Asked,
    pub(super) created_at: SystemTime,
}

impl AsRef<Asked> for Waiting {
    fn as_ref(&self) -> &Asked {
        &self.asked
    }
}

/// What there is under a name that no turn with an index has.
pub(super) enum Named {
    Waiting(Box<Waiting>),
    Removed,
}

const COLUMNS: &str = "q.number, q.turn_id, q.message, q.agent, q.after_id, q.replaces_id, q.client_id, q.first_asked, q.created_at";

fn waiting(row: &Row) -> Result<Waiting, Fault> {
    let asked = Asked {
        message: text(row, 2)?,
        agent: text(row, 3)?,
        after: optional_text(row, 4)?,
        replaces: optional_text(row, 5)?,
        client_id: optional_text(row, 6)?,
        known_as: digest(row, 7)?,
    };
    let (number, created_at) = (row.try_get(0)?, row.try_get(8)?);
    Ok(Waiting { number, turn_id: text(row, 1)?, asked, created_at })
}

fn queued(waiting: Waiting, position: u64) -> QueuedTurn {
    let Waiting { turn_id, asked: Asked { message, agent, client_id, .. }, created_at, .. } =
        waiting;
    QueuedTurn::new(turn_id, position, message, agent, client_id, created_at)
}

pub(super) async fn named(
    tx: &mut Tx<'_>,
    session: &SessionId,
    turn_id: &str,
) -> Result<Option<Named>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS}, q.removed FROM turnkit_queue q WHERE q.session_id = $1 AND q.turn_id = $2"
    );
    let Some(row) = tx.row(&sql, &[session.into(), turn_id.into()]).await? else {
        return Ok(None);
    };
    let is_removed: bool = row.try_get(9)?;
    Ok(Some(if is_removed { Named::Removed } else { Named::Waiting(Box::new(waiting(&row)?)) }))
}

pub(super) async fn find(tx: &mut Tx<'_>, at: &TurnRef) -> Result<Found, Fault> {
    Ok(match named(tx, &at.session_id, &at.turn_id).await? {
        Some(Named::Waiting(waiting)) => Found::Queued(told(tx, &at.session_id, *waiting).await?),
        Some(Named::Removed) => Found::Removed,
        None => Found::NoTurn,
    })
}

/// What the session has under the name of the turn that another one is to stand in for, or to follow.
pub(super) async fn place_of(
    tx: &mut Tx<'_>,
    session: &SessionId,
    asked: &Asked,
) -> Result<Place, Fault> {
    let Some(name) = asked.place() else {
        return Ok(Place::None);
    };
    let sql = "SELECT turn_index, parent_index, state = 'open' FROM turnkit_turns WHERE session_id = $1 AND turn_id = $2";
    if let Some(row) = tx.row(sql, &[session.into(), name.into()]).await? {
        let (index, parent) = (unsigned(&row, 0)?, optional_unsigned(&row, 1)?);
        return Ok(Place::Begun { index, parent, is_open: row.try_get(2)? });
    }
    Ok(match named(tx, session, name).await? {
        Some(Named::Waiting(_)) => Place::Waiting,
        Some(Named::Removed) => Place::Removed,
        None => Place::None,
    })
}

/// A turn that waits, with its place.
pub(super) async fn told(
    tx: &mut Tx<'_>,
    session: &SessionId,
    waiting: Waiting,
) -> Result<QueuedTurn, Fault> {
    let sql =
        "SELECT count(*) FROM turnkit_queue WHERE session_id = $1 AND number <= $2 AND NOT removed";
    let position = unsigned(&tx.one(sql, &[session.into(), waiting.number.into()]).await?, 0)?;
    Ok(queued(waiting, position))
}

/// How many wait in the session, and whether they are held up.
pub(super) async fn length(tx: &mut Tx<'_>, session: &SessionId) -> Result<(u64, bool), Fault> {
    let sql = "SELECT (SELECT count(*) FROM turnkit_queue WHERE session_id = $1 AND NOT removed), queue_paused
        FROM turnkit_sessions WHERE id = $1";
    let row = tx.one(sql, &[session.into()]).await?;
    Ok((unsigned(&row, 0)?, row.try_get(1)?))
}

pub(super) async fn of_session(tx: &mut Tx<'_>, session: &SessionId) -> Result<Queue, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM turnkit_queue q WHERE q.session_id = $1 AND NOT q.removed ORDER BY q.number"
    );
    let rows = tx.rows(&sql, &[session.into()]).await?;
    let turns = rows.iter().zip(1..).map(|(row, position)| Ok(queued(waiting(row)?, position)));
    let turns = turns.collect::<Result<_, Fault>>()?;
    let (_, is_paused) = length(tx, session).await?;
    Ok(Queue { turns, is_paused })
}

pub(super) async fn push(tx: &mut Tx<'_>, at: &TurnRef, asked: &Asked) -> Result<(), Fault> {
    let sql = "INSERT INTO turnkit_queue (session_id, turn_id, client_id, agent, message, after_id, replaces_id, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())";
    let Asked { message, agent, after, replaces, client_id, .. } = asked;
    let values = [
        (&at.session_id).into(),
        (&at.turn_id).into(),
        client_id.into(),
        agent.into(),
        message.into(),
        after.into(),
        replaces.into(),
    ];
    tx.write(sql, &values).await.map(drop)
}

/// Takes the first that waits, unless they are held up.
pub(super) async fn pop(tx: &mut Tx<'_>, session: &SessionId) -> Result<Option<Waiting>, Fault> {
    let sql = format!(
        "DELETE FROM turnkit_queue q WHERE q.number = (
            SELECT f.number FROM turnkit_queue f JOIN turnkit_sessions s ON s.id = f.session_id
            WHERE f.session_id = $1 AND NOT f.removed AND NOT s.queue_paused ORDER BY f.number LIMIT 1)
        RETURNING {COLUMNS}"
    );
    tx.row(&sql, &[session.into()]).await?.map(|row| waiting(&row)).transpose()
}

/// Holds up those that wait, if any do, or lets them go on.
pub(super) async fn set_paused(
    tx: &mut Tx<'_>,
    owner: &Principal,
    session: &SessionId,
    is_paused: bool,
) -> Result<(), Fault> {
    let (waiting, was_paused) = length(tx, session).await?;
    let is_paused = is_paused && waiting > 0;
    if is_paused == was_paused {
        return Ok(());
    }
    let sql = "UPDATE turnkit_sessions SET queue_paused = $2 WHERE id = $1";
    tx.write(sql, &[session.into(), is_paused.into()]).await?;
    // That nothing is left to wait for is told by what was removed.
    if waiting > 0 {
        tx.tell(owner, session, Change::SessionUpdated, None);
    }
    Ok(())
}

pub(super) async fn change(
    tx: &mut Tx<'_>,
    owner: &Principal,
    at: &TurnRef,
    change: &QueueChange,
) -> Result<QueueChanged, Fault> {
    let TurnRef { session_id, turn_id } = at;
    if sessions::lock(tx, owner, session_id).await?.is_none() {
        return Ok(QueueChanged::NoSession);
    }
    let mut waiting = match named(tx, session_id, turn_id).await? {
        Some(Named::Waiting(waiting)) => waiting,
        Some(Named::Removed) => return Ok(QueueChanged::Removed),
        None => {
            let sql = "SELECT 1 FROM turnkit_turns WHERE session_id = $1 AND turn_id = $2";
            let is_there = tx.exists(sql, &[session_id.into(), turn_id.into()]).await?;
            return Ok(if is_there { QueueChanged::Started } else { QueueChanged::NoTurn });
        }
    };
    match change {
        QueueChange::Edit { message, agent } => {
            if waiting.asked.edit(message.clone(), agent.clone()) {
                let sql = "UPDATE turnkit_queue SET message = $2, agent = $3, first_asked = $4 WHERE number = $1";
                let Asked { message, agent, known_as, .. } = &waiting.asked;
                let values = [waiting.number.into(), message.into(), agent.into(), known_as.into()];
                tx.write(sql, &values).await?;
                tx.tell(owner, session_id, Change::Edited, Some(turn_id));
            }
            Ok(QueueChanged::Edited(told(tx, session_id, *waiting).await?))
        }
        QueueChange::Remove => {
            // Its name stays, and nothing of what it said.
            let sql = "UPDATE turnkit_queue SET removed = true, message = '', agent = '', client_id = NULL, first_asked = NULL
                WHERE number = $1";
            tx.write(sql, &[waiting.number.into()]).await?;
            let (_, is_paused) = length(tx, session_id).await?;
            set_paused(tx, owner, session_id, is_paused).await?;
            tx.tell(owner, session_id, Change::Removed, Some(turn_id));
            Ok(QueueChanged::Removed)
        }
    }
}
