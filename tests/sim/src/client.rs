//! The clients: they start turns, read, leave, come back with their cursor, reload, stop, and leave for good.

mod answering;
mod api;
mod beside;
mod tab;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join, join_all, join3};
use http::{Request, header};
use tokio::time::sleep;
use turnkit::BoxError;
use turnkit_client::Error;
use turnkit_id::ExecutionId;

use self::{api::Browser, tab::Tab};
use crate::{
    history::{ClientId, Fact},
    net,
    plan::{Link, host},
    substrate::TOKEN,
    world::{World, now},
};

/// How long after the last fault everybody still waits for things to come right.
const PATIENCE: Duration = Duration::from_secs(240);

/// How often the database is asked whether it has come to rest.
const LOOK: Duration = Duration::from_secs(2);

/// Has all conversations, waits until no turn is open, and writes down what the database holds.
pub(crate) async fn converse(world: World) -> Result<(), BoxError> {
    let sessions = 0..world.plan().sessions.len();
    let ids = join_all(sessions.map(|session| conversation(&world, session))).await;
    let ids = ids.into_iter().collect::<Result<Vec<_>, _>>()?;
    let sessions: Vec<String> = ids.into_iter().flatten().collect();
    audit(&world, &sessions).await?;
    world.end();
    Ok(())
}

/// One conversation, turn after turn.
async fn conversation(world: &World, session: usize) -> Result<Option<String>, BoxError> {
    let client = api::client(world, session as u64)?;
    let Some(id) = patiently(world, || client.create_session()).await else {
        return Ok(None);
    };
    let beside = beside(world, session, &id)?;
    let (turns, ()) = join(turns(world, session, &id), beside).await;
    turns?;
    Ok(Some(id))
}

/// All that happens in a conversation beside its turns.
fn beside(
    world: &World,
    session: usize,
    id: &str,
) -> Result<impl Future<Output = ()> + use<>, BoxError> {
    let beside = &world.plan().besides[session];
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    for queued in &beside.queued {
        for tab in 0..queued.turn.clients.len() {
            let client_id = ClientId { turn: queued.turn.id.clone(), tab };
            let client = api::client(world, tab::number(&client_id))?;
            let tab = Tab::new(world.clone(), client, id, &queued.turn, true, client_id);
            let at = queued.at;
            tasks.push(Box::pin(async move {
                sleep(at).await;
                tab.follow().await;
            }));
        }
        if let Some((after, change)) = queued.change.clone() {
            let (world, id) = (world.clone(), id.to_owned());
            let client_id = ClientId { turn: queued.turn.id.clone(), tab: OTHERS };
            let browser = Browser::new(&world, tab::number(&client_id));
            tasks.push(Box::pin(async move {
                beside::change(&world, browser, &id, client_id, after, &change).await;
            }));
        }
    }
    if world.has_inbox() {
        for (tab, at) in beside.deleted.iter().copied().enumerate() {
            let (world, id) = (world.clone(), id.to_owned());
            let client_id = ClientId { turn: format!("conversation-{session}"), tab };
            let browser = Browser::new(&world, tab::number(&client_id));
            tasks.push(Box::pin(async move {
                sleep(at).await;
                beside::delete(&world, browser, &id, client_id).await;
            }));
        }
    }
    if !beside.queued.is_empty()
        || world.plan().sessions[session].iter().any(|turn| !turn.inputs.is_empty())
    {
        let (world, id, number) = (world.clone(), id.to_owned(), session as u64);
        let client = api::client(&world, number.rotate_left(11))?;
        let browser = Browser::new(&world, number.rotate_left(11));
        // For as long as anything is to come to rest.
        drop(tokio::spawn(async move {
            beside::resume(&world, client, browser, &id, session).await;
        }));
    }
    let tasks = join_all(tasks);
    Ok(async move {
        tasks.await;
    })
}

/// The number of a client that has no tab.
const OTHERS: usize = 100;

/// The turns of a conversation, one after another.
async fn turns(world: &World, session: usize, id: &str) -> Result<(), BoxError> {
    let turns = world.plan().sessions.get(session).cloned().unwrap_or_default();
    for turn in turns {
        let tabs = (0..turn.clients.len()).map(|tab| {
            let client_id = ClientId { turn: turn.id.clone(), tab };
            let client = api::client(world, tab::number(&client_id))?;
            Ok(Tab::new(world.clone(), client, id, &turn, false, client_id).follow())
        });
        let tabs = tabs.collect::<Result<Vec<_>, BoxError>>()?;
        // Their names are behind those of the tabs.
        let answers = turn
            .asks
            .iter()
            .flat_map(|asked| asked.answers.iter().map(move |given| (asked, *given)));
        let answering = answers.zip(turn.clients.len()..).map(|((asked, given), tab)| {
            let client_id = ClientId { turn: turn.id.clone(), tab };
            let client = api::client(world, tab::number(&client_id))?;
            Ok(answering::answer(world, client, id, client_id, &asked.id, given))
        });
        let answering = answering.collect::<Result<Vec<_>, BoxError>>()?;
        let inputs = turn.inputs.iter().filter(|_| world.has_inbox());
        let inputs = inputs.flat_map(|said| said.senders.iter().map(move |wait| (said, *wait)));
        let saying = inputs.zip(OTHERS..).map(|((said, wait), tab)| {
            let client_id = ClientId { turn: turn.id.clone(), tab };
            let client = api::client(world, tab::number(&client_id))?;
            Ok(beside::say(world, client, id, client_id, said, wait))
        });
        let saying = saying.collect::<Result<Vec<_>, BoxError>>()?;
        join3(join_all(tabs), join_all(answering), join_all(saying)).await;
    }
    Ok(())
}

async fn audit(world: &World, sessions: &[String]) -> Result<(), BoxError> {
    let client = api::client(world, u64::MAX)?;
    let mut browser = Browser::new(world, u64::MAX);
    loop {
        let (mut turns, mut is_unknown) = (Vec::new(), false);
        let open = join_all(sessions.iter().map(|session| client.open_turns(session))).await;
        for (session, open) in sessions.iter().zip(open) {
            match open {
                Ok(open) => turns.extend(open.into_iter().map(|turn| turn.execution_id)),
                Err(Error::Refused(refusal)) if refusal.status() == 404 => continue,
                Err(_) => is_unknown = true,
            }
            // Only where something ever waits: all other worlds are as they were.
            if world.plan().is_full() {
                match browser.queue(session).await {
                    Some(queue) => turns.extend(queue.turns),
                    None => is_unknown = true,
                }
            }
        }
        if turns.is_empty() && !is_unknown {
            break;
        }
        if is_late(world) && !is_unknown {
            world.add(Fact::StillOpen { turns });
            return Ok(());
        }
        sleep(LOOK).await;
    }
    // A run whose turn is over, whatever became of that, comes to its end as well.
    while world.is_running() && !is_late(world) {
        sleep(LOOK).await;
    }
    for session in sessions {
        let answers = patiently(world, || async {
            match api::answers(&client, session).await {
                Err(Error::Refused(refusal)) if refusal.status() == 404 => Ok(BTreeMap::new()),
                answers => answers,
            }
        });
        let answers = answers.await;
        for (turn, answer) in answers.unwrap_or_default() {
            world.add(Fact::Kept { turn, answer });
        }
    }
    let deleted = world.history().deleted();
    for execution in world.executions() {
        if deleted.iter().any(|session| execution.as_str().contains(session)) {
            left_behind(world, &execution).await;
        }
    }
    Ok(())
}

/// Waits until an execution of a session that was deleted is erased at the substrate.
async fn left_behind(world: &World, execution: &ExecutionId) {
    while !is_late(world) {
        let uri = format!("http://{}/agents/executions/{execution}", host::SUBSTRATE);
        let request = Request::get(uri).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        if let Ok(request) = request.body(Bytes::new()) {
            let answer = net::send(world, Link::Watch, host::SUBSTRATE, request).await;
            if answer.is_ok_and(|answer| matches!(answer.status().as_u16(), 404 | 410)) {
                return;
            }
        }
        sleep(LOOK).await;
    }
    world.add(Fact::LeftBehind { execution: execution.to_string() });
}

/// Asks until there is an answer, or until it is too late for one.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    world: &World,
    ask: impl Fn() -> F,
) -> Option<T> {
    while !is_late(world) {
        if let Ok(answer) = ask().await {
            return Some(answer);
        }
        sleep(AGAIN).await;
    }
    None
}

/// How soon an unanswered call is made again.
const AGAIN: Duration = Duration::from_millis(700);

fn is_late(world: &World) -> bool {
    now() > world.plan().calm_at + PATIENCE
}
