//! Questions of running agents, and what users want to be passed on into turns (PROTOCOL 4.2, "Questions and inputs"). What writes here
//! has the row of the session locked.

use std::collections::HashMap;
use std::convert::Infallible;

use tokio_postgres::Row;
use turnkit_id::ExecutionId;

use super::faults::Fault;
use super::transaction::Tx;
use super::values::{Value, execution_id, optional_text, text, unsigned};
use super::{deletion, queue, rows, sessions};
use crate::store::asked::Asked;
use crate::store::{
    Change, Decision, Intended, Intent, Outcome, Told, Wish, input_turn, inputs_of,
};
use crate::{Answer, Principal, Turn, TurnRef, TurnState};

const ANSWER: &str = "answer";
const INPUT: &str = "input";

/// The pending questions of an execution, each as the data of its `interaction`; the oldest first.
pub(super) async fn pending(tx: &mut Tx<'_>, id: &ExecutionId) -> Result<Vec<String>, Fault> {
    let sql = "SELECT question FROM turnkit_questions WHERE execution_id = $1 AND outcome IS NULL ORDER BY number";
    tx.rows(sql, &[id.into()]).await?.iter().map(|row| text(row, 0)).collect()
}

pub(super) async fn note(tx: &mut Tx<'_>, id: &ExecutionId, told: &[Told]) -> Result<(), Fault> {
    let Some(turn) = rows::lock(tx, id).await? else {
        return deletion::must_not_be_gone(tx, id).await;
    };
    for told in told {
        match told {
            Told::Answered { id: interaction, outcome } => {
                answered(tx, &turn, interaction, *outcome).await?;
            }
            Told::Asked { id: interaction, question } => {
                let sql = "INSERT INTO turnkit_questions (execution_id, session_id, interaction_id, question)
                    SELECT execution_id, session_id, $2, $3 FROM turnkit_turns WHERE execution_id = $1 AND state = 'open'
                    ON CONFLICT (execution_id, interaction_id) DO NOTHING";
                let values = [id.into(), interaction.into(), question.into()];
                if tx.write(sql, &values).await? > 0 {
                    tx.tell_of(&turn, Change::Asked, interaction);
                }
            }
        }
    }
    Ok(())
}

/// Writes what came of a question, once.
async fn answered(
    tx: &mut Tx<'_>,
    turn: &Turn,
    interaction: &str,
    outcome: Outcome,
) -> Result<(), Fault> {
    let sql = "INSERT INTO turnkit_questions AS q (execution_id, session_id, interaction_id, question, outcome)
        SELECT execution_id, session_id, $2, '', $3 FROM turnkit_turns WHERE execution_id = $1 AND state = 'open'
        ON CONFLICT (execution_id, interaction_id) DO UPDATE SET outcome = excluded.outcome, question = ''
            WHERE q.outcome IS NULL";
    let values = [(&turn.execution_id).into(), interaction.into(), outcome.as_str().into()];
    if tx.write(sql, &values).await? > 0 {
        tx.tell_of(turn, Change::Answered(outcome), interaction);
    }
    Ok(())
}

const COLUMNS: &str =
    "i.number, i.execution_id, i.user_id, i.kind, i.subject, i.outcome, i.content";

fn intent(row: &Row) -> Result<Intent, Fault> {
    let (id, content) = (text(row, 4)?, optional_text(row, 6)?);
    let wish = if text(row, 3)? == INPUT {
        Wish::Input { id, message: content.unwrap_or_default() }
    } else {
        let name = text(row, 5)?;
        let unknown = || Fault::broken(format!("an answer that is {name:?}"));
        let outcome = Outcome::parse(&name).ok_or_else(unknown)?;
        Wish::Answer { interaction: id, outcome, data: content }
    };
    let (number, execution_id) = (unsigned(row, 0)?, execution_id(row, 1)?);
    Ok(Intent { number, execution_id, by: text(row, 2)?, wish })
}

pub(super) async fn intend(
    tx: &mut Tx<'_>,
    owner: &Principal,
    at: &TurnRef,
    wish: &Wish,
) -> Result<Intended, Fault> {
    let TurnRef { session_id, turn_id } = at;
    if sessions::lock(tx, owner, session_id).await?.is_none() {
        return Ok(Intended::NoSession);
    }
    let Some(row) = rows::by_name(tx, session_id, turn_id).await? else {
        return Ok(match queue::named(tx, session_id, turn_id).await? {
            Some(queue::Named::Waiting(_)) => Intended::Queued,
            Some(queue::Named::Removed) => Intended::Removed,
            None => Intended::NoTurn,
        });
    };
    if row.state != TurnState::Open {
        let sql = "SELECT text, parts, summary FROM turnkit_messages WHERE execution_id = $1 AND role = 'assistant'";
        let kept = tx.row(sql, &[(&row.turn.execution_id).into()]).await?;
        let kept = kept.map(|kept| rows::answer(&kept, 0)).transpose()?;
        return Ok(Intended::of_ended(row, wish, kept.as_ref()));
    }
    let id = row.turn.execution_id;
    let (kind, outcome, content) = match wish {
        Wish::Answer { outcome, data, .. } => (ANSWER, Some(outcome.as_str()), data.as_deref()),
        Wish::Input { message, .. } => (INPUT, None, Some(message.as_str())),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM turnkit_intents i WHERE i.execution_id = $1 AND i.kind = $2 AND i.subject = $3
            AND i.outcome IS NOT DISTINCT FROM $4 AND i.content IS NOT DISTINCT FROM $5"
    );
    let values =
        [(&id).into(), kind.into(), wish.id().into(), Value::Text(outcome), Value::Text(content)];
    if let Some(known) = tx.row(&sql, &values).await? {
        return Ok(Intended::Noted(intent(&known)?));
    }
    let sql = "SELECT count(*) FROM turnkit_intents WHERE execution_id = $1 AND kind = $2";
    let noted = unsigned(&tx.one(sql, &[(&id).into(), kind.into()]).await?, 0)?;
    if noted >= wish.limit() as u64 {
        let sql = "DELETE FROM turnkit_intents WHERE number = (SELECT number FROM turnkit_intents
            WHERE execution_id = $1 AND kind = 'answer' AND kind = $2 AND status IS NOT NULL ORDER BY number LIMIT 1)";
        if tx.write(sql, &[(&id).into(), kind.into()]).await? == 0 {
            return Ok(Intended::Full);
        }
    }
    let sql = "INSERT INTO turnkit_intents (execution_id, session_id, kind, subject, outcome, content, user_id, created_at)
        VALUES ($1, $6, $2, $3, $4, $5, $7, clock_timestamp()) RETURNING number";
    let [execution, kind, subject, outcome, content] = values;
    let values =
        [execution, kind, subject, outcome, content, session_id.into(), (&owner.user_id).into()];
    let number = unsigned(&tx.one(sql, &values).await?, 0)?;
    let (by, wish) = (owner.user_id.clone(), wish.clone());
    Ok(Intended::Noted(Intent { number, execution_id: id, by, wish }))
}

pub(super) async fn decide(tx: &mut Tx<'_>, number: u64, decision: Decision) -> Result<(), Fault> {
    let sql =
        format!("SELECT {COLUMNS} FROM turnkit_intents i WHERE i.number = $1 AND i.status IS NULL");
    let Some(known) = tx.row(&sql, &[number.into()]).await? else {
        return Ok(());
    };
    let Intent { execution_id, wish, .. } = intent(&known)?;
    // Before anything is written, so that all who write about a session come one after the other.
    let Some(turn) = rows::lock(tx, &execution_id).await? else {
        return Ok(());
    };
    let is_first = if decision.is_kept(&wish) {
        let sql = "UPDATE turnkit_intents SET status = $2 WHERE number = $1 AND status IS NULL";
        tx.write(sql, &[number.into(), u64::from(decision.status).into()]).await? > 0
    } else {
        let sql = "DELETE FROM turnkit_intents WHERE number = $1 AND status IS NULL";
        tx.write(sql, &[number.into()]).await? > 0
    };
    if is_first && let (Wish::Answer { interaction, .. }, Some(outcome)) = (&wish, decision.outcome)
    {
        answered(tx, &turn, interaction, outcome).await?;
    }
    Ok(())
}

pub(super) async fn undecided(
    tx: &mut Tx<'_>,
    after: u64,
    limit: usize,
) -> Result<Vec<Intent>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM turnkit_intents i JOIN turnkit_turns t ON t.execution_id = i.execution_id
        WHERE i.status IS NULL AND i.number > $1 AND t.state = 'open' ORDER BY i.number LIMIT $2"
    );
    tx.rows(&sql, &[after.into(), limit.into()]).await?.iter().map(intent).collect()
}

/// A turn that has just ended, as the statement that ended it found it.
pub(super) struct Ended {
    /// Whether it was open until then: one may be saved that had ended without an answer.
    pub(super) was_open: bool,
    stop_asked: bool,
    /// Whether any turn of the session waits.
    waits: bool,
    /// The ids of its inputs, each with what it says.
    inputs: Vec<(String, String)>,
}

/// Runs the statement that ends a turn, and ends its questions and its inputs with it. The statement is given as its CTEs, of which `turn`
/// has the row of the turn, with `execution_id`, `session_id`, `stop_asked` and `was_open`; it has none where nothing was written.
pub(super) async fn ended(
    tx: &mut Tx<'_>,
    ctes: &str,
    values: &[Value<'_>],
) -> Result<Option<Ended>, Fault> {
    let gone = Decision::GONE.status;
    // All of one statement read what was there before it: what the inputs said, too.
    let sql = format!(
        "WITH {ctes},
        asked AS (DELETE FROM turnkit_questions q USING turn WHERE turn.was_open AND q.execution_id = turn.execution_id),
        decided AS (
            UPDATE turnkit_intents i
            SET content = CASE WHEN kind = 'input' THEN NULL ELSE content END, status = coalesce(status, {gone})
            FROM turn WHERE turn.was_open AND i.execution_id = turn.execution_id)
        SELECT turn.was_open, turn.stop_asked,
            EXISTS (SELECT 1 FROM turnkit_queue w WHERE w.session_id = turn.session_id AND NOT w.removed), i.subject, i.content
        FROM turn LEFT JOIN turnkit_intents i ON i.execution_id = turn.execution_id AND i.kind = 'input' ORDER BY i.number"
    );
    let rows = tx.rows(&sql, values).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let mut ended = Ended {
        was_open: row.try_get(0)?,
        stop_asked: row.try_get(1)?,
        waits: row.try_get(2)?,
        inputs: Vec::new(),
    };
    for row in &rows {
        if let Some(input) = optional_text(row, 3)? {
            ended.inputs.push((input, optional_text(row, 4)?.unwrap_or_default()));
        }
    }
    Ok(Some(ended))
}

/// Inputs that the agent of a turn has not had become turns that wait, and the queue is held up where the turn was stopped. Says whether any
/// turn of the session waits.
pub(super) async fn close(
    tx: &mut Tx<'_>,
    turn: &Turn,
    answer: &Answer,
    state: TurnState,
    ended: Ended,
) -> Result<bool, Fault> {
    let session = &turn.session_id;
    let Ended { stop_asked, mut waits, inputs, .. } = ended;
    let is_stopped = stop_asked || state == TurnState::Stopped;
    let had = if inputs.is_empty() { Vec::new() } else { inputs_of(answer) };
    for (input, message) in inputs {
        if had.contains(&input) {
            continue;
        }
        // What the turns say that could be in its way: their names begin with its own.
        let sql = "SELECT t.turn_id, m.text FROM turnkit_turns t
                JOIN turnkit_messages m ON m.execution_id = t.execution_id AND m.role = 'user'
                WHERE t.session_id = $1 AND starts_with(t.turn_id, $2)
            UNION ALL SELECT turn_id, message FROM turnkit_queue WHERE session_id = $1 AND starts_with(turn_id, $2)";
        let mut known = HashMap::new();
        for row in tx.rows(sql, &[session.into(), (&input).into()]).await? {
            known.insert(text(&row, 0)?, text(&row, 1)?);
        }
        let found =
            input_turn(&input, &message, |name| Ok::<_, Infallible>(known.get(name).cloned()));
        let Ok(Some(turn_id)) = found else { continue };
        let at = TurnRef::new(session.clone(), turn_id);
        let asked = Asked::words(message, turn.agent.clone());
        queue::push(tx, &at, &asked).await?;
        tx.tell(&turn.owner, session, Change::Queued, Some(&at.turn_id));
        waits = true;
    }
    if is_stopped && waits {
        queue::set_paused(tx, &turn.owner, session, true).await?;
    }
    Ok(waits)
}
