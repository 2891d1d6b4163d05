//! Somebody who answers a question, from a device of their own.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;
use turnkit_client::{Client, Error, NewAnswer};
use turnkit_id::ExecutionId;

use super::is_late;
use crate::{
    history::{ClientAct, ClientId, Fact},
    plan::Given,
    world::{World, now},
};

/// How often they look whether the question is asked.
const LOOK: Duration = Duration::from_millis(900);
/// How often they look in vain for a turn that has not begun, and how often an answer that was lost is sent again.
const PATIENCE: (usize, usize) = (30, 12);
/// People answer on the stroke of this, so that two of them do so at once.
const STROKE: u64 = 2_000;

/// Waits for the question, answers it, and looks once more.
pub(super) async fn answer(
    world: &World,
    client: Client,
    session: &str,
    id: ClientId,
    question: &str,
    given: Given,
) {
    let (looks, sends) = PATIENCE;
    let (answer, outcome) = if given.yes {
        (NewAnswer::accepted(), "accepted")
    } else {
        (NewAnswer::declined(), "declined")
    };
    let add = |act| world.add(Fact::Client { client: id.clone(), act });
    let (mut left, mut has_begun) = (looks, false);
    loop {
        match look(world, &client, session, &id).await {
            Seen::Pending(pending) if pending.contains(question) => break,
            Seen::Pending(_) => has_begun = true,
            Seen::Gone => return,
            Seen::NotOpen if has_begun || left == 0 => return,
            Seen::NotOpen => left -= 1,
            Seen::Nothing => {}
        }
        if is_late(world) {
            return;
        }
        sleep(LOOK).await;
    }
    let at = u64::try_from((now() + given.wait).as_millis()).unwrap_or_default();
    let stroke = Duration::from_millis(at.next_multiple_of(STROKE));
    sleep(stroke.saturating_sub(now())).await;
    for _ in 0..=usize::from(given.twice) {
        for _ in 0..sends {
            let told = match client.answer(session, &id.turn, question, &answer).await {
                Ok(_) => Some((200, None)),
                Err(Error::Refused(refusal)) => {
                    Some((refusal.status(), refusal.outcome().map(str::to_owned)))
                }
                Err(_) => None,
            };
            if let Some((status, taken)) = told {
                let question = question.to_owned();
                add(ClientAct::Answered { question, outcome, status, taken });
                if status < 500 {
                    break;
                }
            }
            sleep(LOOK).await;
        }
        look(world, &client, session, &id).await;
    }
}

/// What a look at the turn shows.
pub(super) enum Seen {
    /// The server did not say.
    Nothing,
    /// The conversation was deleted.
    Gone,
    /// It is not open.
    NotOpen,
    /// It is open, and these questions are pending.
    Pending(BTreeSet<String>),
}

pub(super) async fn look(world: &World, client: &Client, session: &str, id: &ClientId) -> Seen {
    let asked = now();
    let open = match client.open_turns(session).await {
        Ok(open) => open,
        Err(Error::Refused(refusal)) if refusal.status() == 404 => return Seen::Gone,
        Err(_) => return Seen::Nothing,
    };
    let Some(open) = open.into_iter().find(|open| open.turn_id == id.turn) else {
        return Seen::NotOpen;
    };
    let pending = open.pending.iter().filter_map(|question| question.get("id")?.as_str());
    let pending: Vec<String> = pending.map(str::to_owned).collect();
    if let Ok(execution) = ExecutionId::parse(&open.execution_id) {
        let act = ClientAct::Saw { execution, pending: pending.clone(), asked };
        world.add(Fact::Client { client: id.clone(), act });
    }
    Seen::Pending(pending.into_iter().collect())
}
