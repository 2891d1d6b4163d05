//! Turns: accepted once, ended once (PROTOCOL 4.2). With each goes what the product itself writes about it.

use std::time::SystemTime;

use turnkit::Persisted;
use turnkit_id::ExecutionId;

use super::faults::Fault;
use super::interactions::Ended;
use super::queue::{self, Named};
use super::sessions::SessionRow;
use super::transaction::Tx;
use super::values::{Value, digest, optional_text, optional_unsigned, unsigned};
use super::{NotAccepted, deletion, interactions, rows, sessions};
use crate::store::acceptance::{self, Facts, Own, Verdict};
use crate::store::asked::Asked;
use crate::store::{
    Accepted, Change, EndedBy, MAX_NAMES, NewRow, Siblings, TurnRow, answer_columns, not_accepted,
    said_bytes,
};
use crate::{Answer, Ending, Principal, SessionId, Turn, TurnRef, TurnState};

/// A session whose row is locked, and what is to be known of it to insert a turn.
struct Locked<'a> {
    owner: &'a Principal,
    id: &'a SessionId,
    next_index: u64,
}

pub(super) async fn accept(tx: &mut Tx<'_>, new: &NewRow) -> Result<Accepted, Fault> {
    let NewRow { owner, session_id: id, turn_id, .. } = new;
    let Some(SessionRow { next_index, is_paused }) = sessions::lock(tx, owner, id).await? else {
        return Ok(Accepted::NoSession);
    };
    let asked = Asked {
        message: new.message.clone(),
        agent: new.agent.clone(),
        after: new.after.clone(),
        replaces: new.replaces.clone(),
        client_id: new.client_id.clone(),
        known_as: None,
    };
    let sql = "SELECT EXISTS (SELECT 1 FROM turnkit_turns WHERE session_id = $1 AND turn_id = $2),
        EXISTS (SELECT 1 FROM turnkit_queue WHERE session_id = $1 AND turn_id = $2),
        (SELECT turn_id FROM turnkit_turns WHERE session_id = $1 AND state = 'open'),
        (SELECT count(*) FROM turnkit_queue WHERE session_id = $1 AND NOT removed),
        (SELECT max(turn_index) FROM turnkit_turns WHERE session_id = $1)";
    let facts = tx.one(sql, &[id.into(), turn_id.into()]).await?;
    let (is_known, is_queued): (bool, bool) = (facts.try_get(0)?, facts.try_get(1)?);
    // Known ones are few: what there is under the turn's name is looked up where there is something.
    let begun = if is_known { rows::by_name(tx, id, turn_id).await? } else { None };
    let queued = if is_queued { queue::named(tx, id, turn_id).await? } else { None };
    let own = match (begun, queued) {
        (Some(row), _) => {
            let sql = "SELECT first_asked FROM turnkit_turns WHERE execution_id = $1";
            let known_as = digest(&tx.one(sql, &[(&row.turn.execution_id).into()]).await?, 0)?;
            Own::Begun { row, known_as }
        }
        (None, Some(Named::Waiting(waiting))) => Own::Waiting(*waiting),
        (None, Some(Named::Removed)) => Own::Removed,
        (None, None) => Own::None,
    };
    let facts = Facts {
        own,
        place: queue::place_of(tx, id, &asked).await?,
        open: optional_text(&facts, 2)?,
        waiting: usize::try_from(unsigned(&facts, 3)?).unwrap_or(usize::MAX),
        is_paused,
        newest: optional_unsigned(&facts, 4)?,
    };
    let opens_next = match acceptance::decide(&asked, new.queue, facts) {
        Verdict::Told(accepted) => return Ok(accepted),
        Verdict::Queued(waiting) => {
            return Ok(Accepted::Queued(queue::told(tx, id, waiting).await?));
        }
        Verdict::Open { parent } => {
            let session = Locked { owner, id, next_index };
            let title = new.title.as_deref();
            let turn = insert(tx, &session, turn_id, asked, parent, title, None).await?;
            return if_the_product_accepts(tx, turn).await;
        }
        Verdict::Wait { opens_next } => opens_next,
    };
    let at = TurnRef { session_id: id.clone(), turn_id: turn_id.clone() };
    queue::push(tx, &at, &asked).await?;
    tx.tell(owner, id, Change::Queued, Some(turn_id));
    sessions::touch(tx, id).await?;
    queue::set_paused(tx, owner, id, false).await?;
    if opens_next {
        open_next(tx, owner, id).await?;
    }
    match queue::named(tx, id, turn_id).await? {
        Some(Named::Waiting(waiting)) => Ok(Accepted::Queued(queue::told(tx, id, *waiting).await?)),
        // All before it were refused by the product.
        _ => match rows::by_name(tx, id, turn_id).await? {
            Some(row) => Ok(Accepted::Known(row)),
            None => Err(Fault::broken("a turn that was just kept is gone")),
        },
    }
}

/// Asks the product about a turn that was just inserted.
async fn if_the_product_accepts(tx: &mut Tx<'_>, turn: Turn) -> Result<Accepted, Fault> {
    if let Some(product) = tx.product {
        match Tx::guarded(product.accepted(&tx.transaction, &turn)).await? {
            Ok(()) => {}
            Err(NotAccepted::Veto(veto)) => {
                tx.undo = true;
                return Ok(Accepted::Refused(veto));
            }
            Err(NotAccepted::Failed(error)) => {
                return Err(Fault::of_product("accepted", &error));
            }
        }
    }
    Ok(Accepted::New(TurnRow::accepted(turn)))
}

/// Inserts an open turn and the user's message, which was written at `written_at`, or is now.
async fn insert(
    tx: &mut Tx<'_>,
    session: &Locked<'_>,
    turn_id: &str,
    asked: Asked,
    parent: Option<u64>,
    title: Option<&str>,
    written_at: Option<SystemTime>,
) -> Result<Turn, Fault> {
    let Asked { message, agent, client_id, known_as, .. } = asked;
    let Locked { owner, id, next_index: index } = *session;
    let execution_id = ExecutionId::derive(&owner.tenant_id, id.as_str(), index)
        .map_err(|error| Fault::broken(error.to_string()))?;
    let title = title.map(str::to_owned);
    // Its lane is its parent's where it is the first child, and what was said before it is what was said until its parent's end.
    let sql = "WITH counted AS (
            UPDATE turnkit_sessions SET next_index = $2 + 1, title = coalesce(title, $3), active_at = clock_timestamp() WHERE id = $1),
        placed AS (
            SELECT CASE WHEN EXISTS (SELECT 1 FROM turnkit_turns s WHERE s.session_id = $1 AND s.parent_index = $7)
                    THEN $2 ELSE p.lane END AS lane,
                p.said_before + (p.said_bytes IS NOT NULL)::int AS said, p.said_bytes_before + coalesce(p.said_bytes, 0) AS bytes
            FROM turnkit_turns p WHERE p.session_id = $1 AND p.turn_index = $7),
        inserted AS (
            INSERT INTO turnkit_turns (session_id, turn_index, turn_id, execution_id, agent, created_at, parent_index, client_id, first_asked,
                lane, said_before, said_bytes_before)
            VALUES ($1, $2, $4, $5, $6, clock_timestamp(), $7, $8, $9,
                coalesce((SELECT lane FROM placed), $2), coalesce((SELECT said FROM placed), 0),
                coalesce((SELECT bytes FROM placed), 0)))
        INSERT INTO turnkit_messages (execution_id, role, session_id, turn_index, text, status, created_at)
        VALUES ($5, 'user', $1, $2, $10, 'complete', coalesce($11, clock_timestamp()))";
    let values: [Value<'_>; 11] = [
        id.into(),
        index.into(),
        (&title).into(),
        turn_id.into(),
        (&execution_id).into(),
        (&agent).into(),
        parent.into(),
        (&client_id).into(),
        (&known_as).into(),
        (&message).into(),
        written_at.into(),
    ];
    tx.write(sql, &values).await?;
    tx.tell(owner, id, Change::Accepted, Some(turn_id));
    let at = TurnRef { session_id: id.clone(), turn_id: turn_id.to_owned() };
    let turn = Turn::new(owner.clone(), at, index, execution_id, agent, message);
    Ok(Turn { parent, client_id, ..turn })
}

/// Opens the first turn that waits in the session, unless its queue is paused. One that the product refuses has failed, and the next one is
/// tried.
async fn open_next(tx: &mut Tx<'_>, owner: &Principal, id: &SessionId) -> Result<(), Fault> {
    while let Some(waiting) = queue::pop(tx, id).await? {
        let sql =
            "SELECT next_index, (SELECT max(turn_index) FROM turnkit_turns WHERE session_id = $1)
            FROM turnkit_sessions WHERE id = $1";
        let facts = tx.one(sql, &[id.into()]).await?;
        let (next_index, newest) = (unsigned(&facts, 0)?, optional_unsigned(&facts, 1)?);
        let place = queue::place_of(tx, id, &waiting.asked).await?;
        let parent = acceptance::parent(&waiting.asked, place, newest);
        let session = Locked { owner, id, next_index };
        let (name, written_at) = (&waiting.turn_id, Some(waiting.created_at));
        let turn = insert(tx, &session, name, waiting.asked, parent, None, written_at).await?;
        let Some(product) = tx.product else {
            tx.freed = true;
            return Ok(());
        };
        // What it wrote before it refused is undone, and nothing else: the turn before this one has ended, whatever comes of this.
        let savepoint = tx.transaction.savepoint("turnkit_next").await?;
        let failure = match Tx::guarded(product.accepted(&savepoint, &turn)).await {
            Ok(Ok(())) => {
                savepoint.commit().await?;
                tx.freed = true;
                return Ok(());
            }
            Ok(Err(NotAccepted::Veto(veto))) => veto.into_failure(),
            refused => {
                if let Ok(Err(NotAccepted::Failed(error))) = &refused {
                    let fault = Fault::of_product("accepted", error);
                    if fault.passes() {
                        return Err(fault);
                    }
                    let (execution_id, error) = (&turn.execution_id, &fault.error);
                    let error = error as &dyn std::error::Error;
                    tracing::error!(%execution_id, error, "the product's statements failed to accept a turn that had waited");
                }
                not_accepted()
            }
        };
        savepoint.rollback().await?;
        let ended = Ending::failed(failure, "");
        write_end(tx, &turn.execution_id, None, &ended).await?;
        tx.tell(owner, id, Change::Ended(TurnState::Failed), Some(&turn.turn_id));
    }
    Ok(())
}

pub(super) async fn save(
    tx: &mut Tx<'_>,
    id: &ExecutionId,
    answer: &Answer,
) -> Result<Persisted, Fault> {
    let turn = lock(tx, id, "an answer of no turn").await?;
    let ctes = "turn AS (
            SELECT execution_id, session_id, turn_index, stop_asked, state = 'open' AS was_open
            FROM turnkit_turns WHERE execution_id = $1 AND state <> 'complete'),
        ended AS (
            UPDATE turnkit_turns t SET state = 'complete', failure_code = NULL, failure_message = NULL, ended_at = clock_timestamp(),
                said_bytes = $5
            FROM turn WHERE t.execution_id = turn.execution_id),
        kept AS (
            INSERT INTO turnkit_messages AS m (execution_id, role, session_id, turn_index, text, parts, summary, status, created_at)
            SELECT $1, 'assistant', session_id, turn_index, $2, $3, $4, 'complete', clock_timestamp() FROM turn
            ON CONFLICT (execution_id, role) DO UPDATE
                SET text = excluded.text, parts = excluded.parts, summary = excluded.summary, status = excluded.status,
                    created_at = excluded.created_at),
        touched AS (UPDATE turnkit_sessions s SET active_at = clock_timestamp() FROM turn WHERE s.id = turn.session_id)";
    let (parts, summary) = answer_columns::of(answer);
    let said_bytes = said_bytes(&turn.message, answer);
    let values =
        [id.into(), (&answer.text).into(), (&parts).into(), (&summary).into(), said_bytes.into()];
    let Some(ended) = interactions::ended(tx, ctes, &values).await? else {
        return Ok(Persisted::AlreadySaved);
    };
    let was_open = ended.was_open;
    if let Some(bytes) = said_bytes.filter(|_| !was_open) {
        // Turns may have come behind it meanwhile: they have more said before them now.
        let sql = "WITH RECURSIVE behind (turn_index) AS (
                SELECT turn_index FROM turnkit_turns WHERE session_id = $1 AND parent_index = $2
                UNION ALL
                SELECT t.turn_index FROM behind JOIN turnkit_turns t ON t.session_id = $1 AND t.parent_index = behind.turn_index)
            UPDATE turnkit_turns t SET said_before = said_before + 1, said_bytes_before = said_bytes_before + $3
            FROM behind WHERE t.session_id = $1 AND t.turn_index = behind.turn_index";
        tx.write(sql, &[(&turn.session_id).into(), turn.index.into(), bytes.into()]).await?;
    }
    if let Some(product) = tx.product {
        let saved = Tx::guarded(product.saved(&tx.transaction, &turn, answer)).await?;
        saved.map_err(|error| Fault::of_product("saved", &error))?;
    }
    tx.tell(&turn.owner, &turn.session_id, Change::Ended(TurnState::Complete), Some(&turn.turn_id));
    if was_open {
        go_on(tx, &turn, answer, TurnState::Complete, ended).await?;
    }
    Ok(Persisted::Saved)
}

/// Says whether this call has ended the turn.
pub(super) async fn end(tx: &mut Tx<'_>, by: &EndedBy, ending: &Ending) -> Result<bool, Fault> {
    let id = by.execution_id();
    let turn = lock(tx, id, "an ending of no turn").await?;
    let epoch = match by {
        EndedBy::Log(_) => None,
        EndedBy::Lease(lease) => Some(lease.epoch),
    };
    let Some(ended) = write_end(tx, id, epoch, ending).await? else {
        return Ok(false);
    };
    if let Some(product) = tx.product {
        let wrote = Tx::guarded(product.ended(&tx.transaction, &turn, ending)).await?;
        wrote.map_err(|error| Fault::of_product("ended", &error))?;
    }
    tx.tell(&turn.owner, &turn.session_id, Change::Ended(ending.state()), Some(&turn.turn_id));
    go_on(tx, &turn, &ending.partial, ending.state(), ended).await?;
    Ok(true)
}

/// A turn is not open any more: the first turn that waits is opened, those among them that its inputs have become.
async fn go_on(
    tx: &mut Tx<'_>,
    turn: &Turn,
    answer: &Answer,
    state: TurnState,
    ended: Ended,
) -> Result<(), Fault> {
    if interactions::close(tx, turn, answer, state, ended).await? {
        open_next(tx, &turn.owner, &turn.session_id).await?;
    }
    Ok(())
}

/// The turn of an execution, with its session locked; an error where there is none.
async fn lock(tx: &mut Tx<'_>, id: &ExecutionId, otherwise: &str) -> Result<Turn, Fault> {
    if let Some(turn) = rows::lock(tx, id).await? {
        return Ok(turn);
    }
    deletion::must_not_be_gone(tx, id).await?;
    Err(Fault::broken(otherwise))
}

/// Ends an open turn without an answer, under this epoch where there is one, and keeps what there is of an answer. Nothing where it was not
/// this call that ended it.
async fn write_end(
    tx: &mut Tx<'_>,
    id: &ExecutionId,
    epoch: Option<u64>,
    ending: &Ending,
) -> Result<Option<Ended>, Fault> {
    let ctes = "turn AS (
            UPDATE turnkit_turns SET state = $2, failure_code = $3, failure_message = $4, ended_at = clock_timestamp()
            WHERE execution_id = $1 AND state = 'open' AND epoch = coalesce($5, epoch)
            RETURNING execution_id, session_id, turn_index, stop_asked, true AS was_open),
        touched AS (UPDATE turnkit_sessions s SET active_at = clock_timestamp() FROM turn WHERE s.id = turn.session_id),
        kept AS (
            INSERT INTO turnkit_messages AS m (execution_id, role, session_id, turn_index, text, parts, summary, status, created_at)
            SELECT $1, 'assistant', session_id, turn_index, $6, $7, $8, $2, clock_timestamp() FROM turn
            ON CONFLICT (execution_id, role) DO UPDATE
                SET text = excluded.text, parts = excluded.parts, summary = excluded.summary, status = excluded.status,
                    created_at = excluded.created_at)";
    let (failure, partial) = (&ending.failure, &ending.partial);
    let (parts, summary) = answer_columns::of(partial);
    let values = [
        id.into(),
        ending.state().as_str().into(),
        (&failure.code).into(),
        (&failure.message).into(),
        epoch.into(),
        (&partial.text).into(),
        (&parts).into(),
        (&summary).into(),
    ];
    interactions::ended(tx, ctes, &values).await
}

pub(super) async fn name(
    tx: &mut Tx<'_>,
    owner: &Principal,
    at: &TurnRef,
    name: &str,
) -> Result<(), Fault> {
    if sessions::lock(tx, owner, &at.session_id).await?.is_none() {
        return Ok(());
    }
    let sql = "INSERT INTO turnkit_turn_names (session_id, name, execution_id)
        SELECT session_id, $3, execution_id FROM turnkit_turns WHERE session_id = $1 AND turn_id = $2
        ON CONFLICT DO NOTHING";
    tx.write(sql, &[(&at.session_id).into(), (&at.turn_id).into(), name.into()]).await?;
    let sql = "DELETE FROM turnkit_turn_names WHERE number IN (
        SELECT n.number FROM turnkit_turns t JOIN turnkit_turn_names n ON n.execution_id = t.execution_id
            WHERE t.session_id = $1 AND t.turn_id = $2 ORDER BY n.number DESC OFFSET $3)";
    tx.write(sql, &[(&at.session_id).into(), (&at.turn_id).into(), MAX_NAMES.into()]).await?;
    Ok(())
}

pub(super) async fn siblings(
    tx: &mut Tx<'_>,
    owner: &Principal,
    at: &TurnRef,
) -> Result<Option<Siblings>, Fault> {
    if !sessions::is_owner(tx, owner, &at.session_id).await? {
        return Ok(None);
    }
    // Each of the two by the index, which `IS NOT DISTINCT FROM` does not take.
    let sql = "SELECT CASE WHEN t.parent_index IS NULL
                THEN (SELECT count(*) FROM turnkit_turns s WHERE s.session_id = $1 AND s.parent_index IS NULL)
                ELSE (SELECT count(*) FROM turnkit_turns s WHERE s.session_id = $1 AND s.parent_index = t.parent_index) END,
            CASE WHEN t.parent_index IS NULL
                THEN (SELECT max(s.turn_index) FROM turnkit_turns s WHERE s.session_id = $1 AND s.parent_index IS NULL)
                ELSE (SELECT max(s.turn_index) FROM turnkit_turns s WHERE s.session_id = $1 AND s.parent_index = t.parent_index) END
        FROM turnkit_turns t WHERE t.session_id = $1 AND t.turn_id = $2";
    let Some(row) = tx.row(sql, &[(&at.session_id).into(), (&at.turn_id).into()]).await? else {
        return Ok(None);
    };
    let (count, newest) = (unsigned(&row, 0)?, unsigned(&row, 1)?);
    let newest = rows::by_index(tx, &at.session_id, newest).await?;
    Ok(newest.map(|newest| Siblings { count, newest }))
}

pub(super) async fn ask_to_stop(tx: &mut Tx<'_>, id: &ExecutionId) -> Result<(), Fault> {
    let Some(turn) = rows::lock(tx, id).await? else {
        return Ok(());
    };
    let sql =
        "UPDATE turnkit_turns SET stop_asked = true WHERE execution_id = $1 AND state = 'open'";
    tx.write(sql, &[id.into()]).await?;
    // Also where the turn has ended while the stop was under way: then the one that was opened runs, and none after it.
    let sql = "SELECT 1 FROM turnkit_turns WHERE session_id = $1 AND turn_index > $2 AND state <> 'open' LIMIT 1";
    if tx.exists(sql, &[(&turn.session_id).into(), turn.index.into()]).await? {
        return Ok(());
    }
    queue::set_paused(tx, &turn.owner, &turn.session_id, true).await
}

pub(super) async fn saved(tx: &mut Tx<'_>, id: &ExecutionId) -> Result<Option<Answer>, Fault> {
    let sql = "SELECT text, parts, summary FROM turnkit_messages
        WHERE execution_id = $1 AND role = 'assistant' AND status = 'complete'";
    let Some(row) = tx.row(sql, &[id.into()]).await? else {
        deletion::must_not_be_gone(tx, id).await?;
        return Ok(None);
    };
    rows::answer(&row, 0).map(Some)
}
