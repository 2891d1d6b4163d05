//! The clients: they start turns, read, leave, come back with their cursor, reload, stop, and leave for good.

mod answering;
mod api;
mod tab;

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use turnkit::BoxError;
use turnkit_client::Error;

use self::tab::Tab;
use crate::{
    history::{ClientId, Fact},
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
    let turns = world.plan().sessions.get(session).cloned().unwrap_or_default();
    for turn in turns {
        let tabs = (0..turn.clients.len()).map(|tab| {
            let client_id = ClientId { turn: turn.id.clone(), tab };
            let client = api::client(world, tab::number(&client_id))?;
            Ok(Tab::new(world.clone(), client, &id, &turn, client_id).follow())
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
            Ok(answering::answer(world, client, &id, client_id, &asked.id, given))
        });
        let answering = answering.collect::<Result<Vec<_>, BoxError>>()?;
        futures_util::future::join(join_all(tabs), join_all(answering)).await;
    }
    Ok(Some(id))
}

async fn audit(world: &World, sessions: &[String]) -> Result<(), BoxError> {
    let client = api::client(world, u64::MAX)?;
    loop {
        let open = join_all(sessions.iter().map(|session| client.open_turns(session))).await;
        match open.into_iter().collect::<Result<Vec<_>, _>>().map(|open| open.concat()) {
            Ok(turns) if turns.is_empty() => break,
            Ok(turns) if is_late(world) => {
                let turns = turns.into_iter().map(|turn| turn.execution_id).collect();
                world.add(Fact::StillOpen { turns });
                return Ok(());
            }
            _ => sleep(LOOK).await,
        }
    }
    // A run whose turn is over, whatever became of that, comes to its end as well.
    while world.is_running() && !is_late(world) {
        sleep(LOOK).await;
    }
    for session in sessions {
        let answers = patiently(world, || api::answers(&client, session)).await;
        for (turn, answer) in answers.unwrap_or_default() {
            world.add(Fact::Kept { turn, answer });
        }
    }
    Ok(())
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
