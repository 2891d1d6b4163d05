//! Questions of running agents, and what users want to be passed on into turns (PROTOCOL 4.2, "Questions and inputs").

use rusqlite::{Connection, OptionalExtension, Row, params};
use turnkit_id::ExecutionId;

use super::rows::{self, column, unsigned};
use super::workers::Worker;
use super::{Fault, deletion, feed, queue, sessions};
use crate::store::asked::Asked;
use crate::store::{
    Change, Decision, Intended, Intent, Outcome, Told, Wish, input_turn, inputs_of,
};
use crate::{Answer, Principal, SessionId, Turn, TurnRef, TurnState};

const ANSWER: &str = "answer";
const INPUT: &str = "input";

/// The pending questions of an execution, each as the data of its `interaction`; the oldest first.
pub(super) fn pending(db: &Connection, id: &ExecutionId) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT question FROM turnkit_questions WHERE execution_id = ?1 AND outcome IS NULL ORDER BY number";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([id.as_str()], |row| row.get(0))?;
    rows.collect()
}

pub(super) fn note(
    db: &Connection,
    worker: &Worker,
    id: &ExecutionId,
    told: Vec<Told>,
) -> Result<(), Fault> {
    deletion::must_not_be_gone(db, id)?;
    for told in told {
        match told {
            Told::Answered { id: interaction, outcome } => {
                answered(db, worker, id, &interaction, outcome)?;
            }
            Told::Asked { id: interaction, question } => {
                let sql = "INSERT INTO turnkit_questions (execution_id, session_id, interaction_id, question)
                    SELECT execution_id, session_id, ?2, ?3 FROM turnkit_turns WHERE execution_id = ?1 AND state = 'open'
                    ON CONFLICT (execution_id, interaction_id) DO NOTHING";
                let values = params![id.as_str(), interaction, question];
                if db.prepare_cached(sql)?.execute(values)? > 0 {
                    tell(db, worker, id, &interaction, Change::Asked)?;
                }
            }
        }
    }
    Ok(())
}

/// Writes what came of a question, once.
fn answered(
    db: &Connection,
    worker: &Worker,
    id: &ExecutionId,
    interaction: &str,
    outcome: Outcome,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO turnkit_questions (execution_id, session_id, interaction_id, question, outcome)
        SELECT execution_id, session_id, ?2, '', ?3 FROM turnkit_turns WHERE execution_id = ?1 AND state = 'open'
        ON CONFLICT (execution_id, interaction_id) DO UPDATE SET outcome = excluded.outcome, question = ''
            WHERE outcome IS NULL";
    let values = params![id.as_str(), interaction, outcome.as_str()];
    if db.prepare_cached(sql)?.execute(values)? > 0 {
        tell(db, worker, id, interaction, Change::Answered(outcome))?;
    }
    Ok(())
}

fn tell(
    db: &Connection,
    worker: &Worker,
    id: &ExecutionId,
    interaction: &str,
    change: Change,
) -> rusqlite::Result<()> {
    let sql = "SELECT session_id, turn_id FROM turnkit_turns WHERE execution_id = ?1";
    let read = |row: &Row<'_>| Ok((SessionId::new(row.get::<_, String>(0)?), row.get(1)?));
    let (session, turn_id): (_, String) = db.prepare_cached(sql)?.query_row([id.as_str()], read)?;
    feed::tell_of(db, &session, Some(&turn_id), Some(interaction), change, worker.now())
}

pub(super) const COLUMNS: &str =
    "i.number, i.execution_id, i.user_id, i.kind, i.subject, i.outcome, i.content";

fn intent(row: &Row<'_>) -> rusqlite::Result<Intent> {
    let (kind, id): (String, String) = (row.get(3)?, row.get(4)?);
    let wish = if kind == INPUT {
        Wish::Input { id, message: row.get::<_, Option<String>>(6)?.unwrap_or_default() }
    } else {
        let name: String = row.get(5)?;
        let unknown =
            || rusqlite::Error::InvalidColumnType(5, name.clone(), rusqlite::types::Type::Text);
        let outcome = Outcome::parse(&name).ok_or_else(unknown)?;
        Wish::Answer { interaction: id, outcome, data: row.get(6)? }
    };
    let (number, execution_id) = (unsigned(row, 0)?, rows::execution_id(row, 1)?);
    Ok(Intent { number, execution_id, by: row.get(2)?, wish })
}

pub(super) fn intend(
    db: &Connection,
    worker: &Worker,
    owner: Principal,
    at: &TurnRef,
    wish: Wish,
) -> rusqlite::Result<Intended> {
    if !sessions::is_owner(db, &owner, &at.session_id)? {
        return Ok(Intended::NoSession);
    }
    let Some(row) = rows::by_name(db, worker, at)? else {
        return Ok(match queue::named(db, at)? {
            Some(queue::Named::Waiting(_)) => Intended::Queued,
            Some(queue::Named::Removed) => Intended::Removed,
            None => Intended::NoTurn,
        });
    };
    if row.state != TurnState::Open {
        let sql = "SELECT text, parts, summary FROM turnkit_messages WHERE execution_id = ?1 AND role = 'assistant'";
        let mut kept = db.prepare_cached(sql)?;
        let kept = kept.query_row([row.turn.execution_id.as_str()], |row| rows::answer(row, 0));
        return Ok(Intended::of_ended(row, &wish, kept.optional()?.as_ref()));
    }
    let id = row.turn.execution_id;
    let (kind, outcome, content) = match &wish {
        Wish::Answer { outcome, data, .. } => (ANSWER, Some(outcome.as_str()), data.as_deref()),
        Wish::Input { message, .. } => (INPUT, None, Some(message.as_str())),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM turnkit_intents i
        WHERE i.execution_id = ?1 AND i.kind = ?2 AND i.subject = ?3 AND i.outcome IS ?4 AND i.content IS ?5"
    );
    let values = params![id.as_str(), kind, wish.id(), outcome, content];
    if let Some(known) = db.prepare_cached(&sql)?.query_row(values, intent).optional()? {
        return Ok(Intended::Noted(known));
    }
    let sql = "SELECT count(*) FROM turnkit_intents WHERE execution_id = ?1 AND kind = ?2";
    let values = params![id.as_str(), kind];
    let noted: u32 = db.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    if noted as usize >= wish.limit() {
        let sql = "DELETE FROM turnkit_intents WHERE number = (SELECT number FROM turnkit_intents
            WHERE execution_id = ?1 AND kind = 'answer' AND kind = ?2 AND status IS NOT NULL ORDER BY number LIMIT 1)";
        if db.prepare_cached(sql)?.execute(params![id.as_str(), kind])? == 0 {
            return Ok(Intended::Full);
        }
    }
    let sql = "INSERT INTO turnkit_intents (execution_id, session_id, kind, subject, outcome, content, user_id, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING number";
    let session = at.session_id.as_str();
    let values = params![
        id.as_str(),
        session,
        kind,
        wish.id(),
        outcome,
        content,
        owner.user_id,
        worker.now()
    ];
    let number = db.prepare_cached(sql)?.query_row(values, |row| unsigned(row, 0))?;
    Ok(Intended::Noted(Intent { number, execution_id: id, by: owner.user_id, wish }))
}

pub(super) fn decide(
    db: &Connection,
    worker: &Worker,
    number: u64,
    decision: Decision,
) -> rusqlite::Result<()> {
    let sql =
        format!("SELECT {COLUMNS} FROM turnkit_intents i WHERE i.number = ?1 AND i.status IS NULL");
    let known = db.prepare_cached(&sql)?.query_row([column(number)?], intent).optional()?;
    let Some(Intent { execution_id, wish, .. }) = known else {
        return Ok(());
    };
    if decision.is_kept(&wish) {
        let sql = "UPDATE turnkit_intents SET status = ?2 WHERE number = ?1";
        db.prepare_cached(sql)?.execute(params![column(number)?, decision.status])?;
    } else {
        let sql = "DELETE FROM turnkit_intents WHERE number = ?1";
        db.prepare_cached(sql)?.execute([column(number)?])?;
    }
    if let (Wish::Answer { interaction, .. }, Some(outcome)) = (&wish, decision.outcome) {
        answered(db, worker, &execution_id, interaction, outcome)?;
    }
    Ok(())
}

pub(super) fn undecided(
    db: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Intent>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM turnkit_intents i JOIN turnkit_turns t ON t.execution_id = i.execution_id
        WHERE i.status IS NULL AND i.number > ?1 AND t.state = 'open' ORDER BY i.number LIMIT ?2"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([column(after)?, limit], intent)?;
    rows.collect()
}

/// A turn has ended: so have its questions, and inputs that its agent has not had become turns that wait.
pub(super) fn close(
    db: &Connection,
    worker: &Worker,
    turn: &Turn,
    answer: &Answer,
) -> rusqlite::Result<()> {
    let (id, session) = (turn.execution_id.as_str(), &turn.session_id);
    let sql = "DELETE FROM turnkit_questions WHERE execution_id = ?1";
    db.prepare_cached(sql)?.execute([id])?;
    let sql = "SELECT subject, content FROM turnkit_intents WHERE execution_id = ?1 AND kind = 'input' ORDER BY number";
    let mut statement = db.prepare_cached(sql)?;
    let inputs = statement.query_map([id], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?.unwrap_or_default()))
    })?;
    let inputs: Vec<_> = inputs.collect::<rusqlite::Result<_>>()?;
    let had = if inputs.is_empty() { Vec::new() } else { inputs_of(answer) };
    for (input, message) in inputs.into_iter().filter(|(input, _)| !had.contains(input)) {
        let known = |name: &str| {
            let at = TurnRef::new(session.clone(), name);
            if let Some(row) = rows::by_name(db, worker, &at)? {
                return Ok::<_, rusqlite::Error>(Some(row.turn.message));
            }
            Ok(queue::named(db, &at)?.map(|named| match named {
                queue::Named::Waiting(waiting) => waiting.asked.message,
                queue::Named::Removed => String::new(),
            }))
        };
        let Some(turn_id) = input_turn(&input, &message, known)? else { continue };
        let at = TurnRef::new(session.clone(), turn_id);
        let agent = turn.agent.clone();
        let asked = Asked::words(message, agent);
        queue::push(db, &at, &asked, worker.now())?;
        feed::tell(db, session, Some(&at.turn_id), Change::Queued, worker.now())?;
    }
    // What they said is with the answer now, or waits.
    let sql = "UPDATE turnkit_intents SET content = iif(kind = 'input', NULL, content), status = coalesce(status, ?2)
        WHERE execution_id = ?1";
    db.prepare_cached(sql)?.execute(params![id, Decision::GONE.status])?;
    let sql = "SELECT 1 FROM turnkit_turns WHERE execution_id = ?1 AND (stop_asked = 1 OR state = 'stopped')";
    if db.prepare_cached(sql)?.exists([id])? {
        queue::set_paused(db, session, true, worker.now())?;
    }
    Ok(())
}
