//! The clients: they start turns, read, leave, come back with their cursor, reload, stop, and leave for good.

mod api;
mod tab;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::sleep;
use turnkit::BoxError;

use self::{
    api::Api,
    tab::{Next, Tab},
};
use crate::{
    history::{ClientAct, ClientId, Fact},
    plan::Turn,
    world::{World, now},
};

/// How long after the last fault everybody still waits for things to come right.
const PATIENCE: Duration = Duration::from_secs(240);

/// How often the database is asked whether it has come to rest.
const LOOK: Duration = Duration::from_secs(2);

/// Has all conversations, waits until no turn is open, and writes down what the database holds.
pub(crate) async fn converse(world: World) -> Result<(), BoxError> {
    let sessions = 0..world.plan().sessions.len();
    let ids = join_all(sessions.map(|session| conversation(world.clone(), session))).await;
    let sessions: Vec<String> = ids.into_iter().flatten().collect();
    audit(&world, &sessions).await;
    world.end();
    Ok(())
}

/// One conversation, turn after turn.
async fn conversation(world: World, session: usize) -> Option<String> {
    let api = Api::new(world.clone(), session as u64);
    let id: Arc<str> = patiently(&world, || api.create_session()).await?.into();
    let turns = world.plan().sessions.get(session).cloned().unwrap_or_default();
    for turn in turns {
        let tabs = (0..turn.clients.len()).map(|tab| open(&world, &id, &turn, tab));
        join_all(tabs).await;
    }
    Some(id.to_string())
}

async fn open(world: &World, session: &Arc<str>, turn: &Turn, tab: usize) {
    let id = ClientId { turn: turn.id.clone(), tab };
    let mut tab = Tab::new(world.clone(), Arc::clone(session), turn, id.clone());
    while !is_late(world) {
        match tab.connect().await {
            Next::Over => return,
            Next::Again(pause) => sleep(pause).await,
        }
    }
    world.add(Fact::Client { client: id, act: ClientAct::GaveUp });
}

async fn audit(world: &World, sessions: &[String]) {
    let api = Api::new(world.clone(), u64::MAX);
    loop {
        let open = join_all(sessions.iter().map(|session| api.open_turns(session))).await;
        let open: Option<Vec<String>> =
            open.into_iter().collect::<Option<Vec<_>>>().map(|turns| turns.concat());
        match open {
            Some(turns) if turns.is_empty() => break,
            Some(turns) if is_late(world) => return world.add(Fact::StillOpen { turns }),
            _ => sleep(LOOK).await,
        }
    }
    // A run whose turn is over, whatever became of that, comes to its end as well.
    while world.is_running() && !is_late(world) {
        sleep(LOOK).await;
    }
    for session in sessions {
        for (turn, answer) in patiently(world, || api.answers(session)).await.unwrap_or_default() {
            world.add(Fact::Kept { turn, answer });
        }
    }
}

/// Asks until there is an answer, or until it is too late for one.
async fn patiently<T, F: Future<Output = Option<T>>>(
    world: &World,
    ask: impl Fn() -> F,
) -> Option<T> {
    while !is_late(world) {
        if let Some(answer) = ask().await {
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
