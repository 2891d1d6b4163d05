//! What people do in a conversation beside its turns: they say something into one that runs, let others wait, edit and remove those,
//! and delete the whole.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;
use turnkit_client::{Client, Error, NewTurn};

use super::{
    answering::{self, Seen},
    api::Browser,
    is_late,
};
use crate::{
    history::{ClientAct, ClientId, Fact},
    plan::{Change, Said},
    world::World,
};

/// How often they look, and how often what was lost is sent again.
const LOOK: Duration = Duration::from_millis(900);
/// How often they look in vain for a turn that has not begun, or does not wait yet.
const LOOKS: usize = 30;
/// How often they look whether a queue stands still. Whoever looks twice, and finds the same, lets it go on.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Says something into a turn once it runs. Where that is too late, it is sent as a turn of the same name, as a page does.
pub(super) async fn say(
    world: &World,
    client: Client,
    session: &str,
    id: ClientId,
    said: &Said,
    wait: Duration,
) {
    let mut left = LOOKS;
    loop {
        match answering::look(world, &client, session, &id).await {
            Seen::Pending(_) => break,
            Seen::Gone => return,
            Seen::NotOpen if left == 0 => return,
            Seen::NotOpen => left -= 1,
            Seen::Nothing => {}
        }
        if is_late(world) {
            return;
        }
        sleep(LOOK).await;
    }
    sleep(wait).await;
    let message = &said.script.message;
    let is_too_late = loop {
        let status = match client.input(session, &id.turn, &said.id, message).await {
            Ok(()) => Some(202),
            Err(Error::Refused(refusal)) => Some(refusal.status()),
            Err(_) => None,
        };
        if let Some(status) = status {
            let act = ClientAct::Said { input: said.id.clone(), status };
            world.add(Fact::Client { client: id.clone(), act });
            match status {
                202 | 404 => break false,
                409 | 410 => break true,
                _ => {}
            }
        }
        if is_late(world) {
            return;
        }
        sleep(LOOK).await;
    };
    if is_too_late {
        start(world, &client, session, &NewTurn::new(&said.id, message).queued()).await;
    }
}

/// Sends a turn until the server has it.
async fn start(world: &World, client: &Client, session: &str, turn: &NewTurn) {
    while !is_late(world) {
        match client.start(session, turn).await {
            Ok(_) | Err(Error::Queued { .. }) => return,
            Err(Error::Refused(refusal)) if !refusal.is_transient() => return,
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Edits or removes a turn that waits.
pub(super) async fn change(
    world: &World,
    mut browser: Browser,
    session: &str,
    id: ClientId,
    after: Duration,
    change: &Change,
) {
    for left in (0..LOOKS).rev() {
        let queue = browser.queue(session).await;
        if queue.is_some_and(|queue| queue.turns.contains(&id.turn)) {
            break;
        }
        if left == 0 || is_late(world) {
            return;
        }
        sleep(LOOK).await;
    }
    sleep(after).await;
    let path = format!("/api/sessions/{session}/turns/{}", id.turn);
    while !is_late(world) {
        let (method, body) = match change {
            Change::Edit(script) => (Method::PATCH, Some(json!({ "message": script.message }))),
            Change::Remove => (Method::DELETE, None),
        };
        if let Some((status, _)) = browser.call(method, &path, body).await {
            let act = ClientAct::Changed { status: status.as_u16() };
            world.add(Fact::Client { client: id.clone(), act });
            if !status.is_server_error() {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

/// Deletes the conversation.
pub(super) async fn delete(world: &World, mut browser: Browser, session: &str, id: ClientId) {
    let path = format!("/api/sessions/{session}");
    while !is_late(world) {
        if let Some((StatusCode::NO_CONTENT, _)) = browser.call(Method::DELETE, &path, None).await {
            world.add(Fact::Client { client: id, act: ClientAct::Deleted });
            return;
        }
        sleep(LOOK).await;
    }
}

/// Sees to it that a queue which a stop has paused goes on: sends one more turn behind it, as whoever comes back would. Until nobody
/// comes to this conversation any more.
pub(super) async fn resume(
    world: &World,
    client: Client,
    mut browser: Browser,
    session: &str,
    number: usize,
) {
    let message = &world.plan().besides[number].resuming.message;
    let (mut stood, mut times) = (false, 0);
    while !world.is_over() && !is_late(world) {
        sleep(STANDSTILL).await;
        let Some(queue) = browser.queue(session).await else { continue };
        let stands = queue.is_paused && !queue.turns.is_empty();
        if stands && stood {
            let turn = NewTurn::new(format!("resume-{number}-{times}"), message).queued();
            start(world, &client, session, &turn).await;
            times += 1;
        }
        stood = stands && !stood;
    }
}
