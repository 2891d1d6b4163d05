//! The product's client over the simulated network, through whatever balances the product's workers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::TryStreamExt as _;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame};
use serde_json::Value;
use tokio::time::timeout;
use tower::service_fn;
use turnkit::BoxError;
use turnkit_client::{BuildError, Client, Error, Message, follow::Policy};

use crate::{
    history::Kept,
    net::{self, NoAnswer},
    plan::{Link, host},
    world::World,
};

/// How long an answer may be silent; the engine says something every 15 s.
const IDLE: Duration = Duration::from_secs(20);

/// The client of a user of the world; `number` tells it from the others.
pub(super) fn client(world: &World, number: u64) -> Result<Client, BuildError> {
    let seed = world.plan().seed ^ number.rotate_left(17);
    let (world, choice) = (world.clone(), Arc::new(Mutex::new(Rng::with_seed(seed))));
    let balanced = move |request| {
        let mut choice = choice.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = host::WORKERS[choice.usize(..world.plan().workers)];
        send(world.clone(), worker, request)
    };
    Client::builder("http://127.0.0.1")
        .transport(service_fn(balanced))
        .idle_timeout(IDLE)
        // Who waits for too long is told by the world.
        .policy(Policy::with_patience(Duration::MAX))
        .jitter_seed(seed)
        .build()
}

async fn send(
    world: World,
    worker: &'static str,
    request: Request<Full<Bytes>>,
) -> Result<Response<impl Body<Data = Bytes, Error = BoxError>>, BoxError> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await;
    let request = Request::from_parts(head, body.to_bytes());
    let answer = net::send(&world, Link::Product, worker, request).await;
    let answer = answer.map_err(|(NoAnswer::Connect(error) | NoAnswer::Broken(error))| error)?;
    Ok(answer.map(|chunks| StreamBody::new(chunks.map_ok(Frame::data))))
}

/// Calls that the client does not have, one request each.
pub(super) struct Browser {
    world: World,
    choice: Rng,
}

/// The turns of a conversation that wait.
pub(super) struct Queue {
    pub(super) turns: Vec<String>,
    pub(super) is_paused: bool,
}

impl Browser {
    pub(super) fn new(world: &World, number: u64) -> Self {
        let seed = world.plan().seed ^ number.rotate_left(29);
        Self { world: world.clone(), choice: Rng::with_seed(seed) }
    }

    /// The status, and the answer where that is JSON; none where no whole answer has come.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(StatusCode, Value)> {
        let request = Request::builder().method(method).uri(format!("http://127.0.0.1{path}"));
        let request = match body {
            Some(body) => {
                request.header(CONTENT_TYPE, "application/json").body(Bytes::from(body.to_string()))
            }
            None => request.body(Bytes::new()),
        };
        let worker = host::WORKERS[self.choice.usize(..self.world.plan().workers)];
        let asking = net::send(&self.world, Link::Product, worker, request.ok()?);
        let answer = timeout(IDLE, asking).await.ok()?.ok()?;
        let (head, body) = answer.into_parts();
        let body: Vec<Bytes> = timeout(IDLE, body.try_collect()).await.ok()?.ok()?;
        Some((head.status, serde_json::from_slice(&body.concat()).unwrap_or_default()))
    }

    /// The queue of a session; none where the server does not say.
    pub(super) async fn queue(&mut self, session: &str) -> Option<Queue> {
        let path = format!("/api/sessions/{session}/turns?state=queued");
        let (_, answer) = self.call(Method::GET, &path, None).await?;
        let ids = answer["turns"].as_array()?.iter().filter_map(|turn| turn["turnId"].as_str());
        let turns = ids.map(str::to_owned).collect();
        Some(Queue { turns, is_paused: answer["paused"] == true })
    }
}

/// What the database holds about each turn of the session.
pub(super) async fn answers(
    client: &Client,
    session: &str,
) -> Result<BTreeMap<String, Option<Kept>>, Error> {
    let mut answers = BTreeMap::new();
    for message in client.messages(session, None).await? {
        note(answers.entry(message.turn_id.clone()).or_default(), message);
    }
    Ok(answers)
}

fn note(kept: &mut Option<Kept>, message: Message) {
    let kept = kept.get_or_insert_with(|| Kept::of(message.execution_id, message.turn_index));
    if message.role == "user" {
        match message.input {
            Some(input) => kept.inputs.push(input),
            None => kept.asked = message.text,
        }
    } else if message.role == "assistant" {
        kept.messages += 1;
        kept.status = message.status;
        kept.text.push_str(&message.text);
        kept.code = message.error.and_then(|error| error.code);
    }
}
