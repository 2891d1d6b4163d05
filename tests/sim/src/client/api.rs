//! The product's routes, as a client calls them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Request, Response, header};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::time::timeout;

use crate::{
    history::Kept,
    net::{self, Chunks},
    plan::{Link, host},
    world::World,
};

/// How long the head of an answer may take.
const HEAD: Duration = Duration::from_secs(15);

/// A client of the product, through whatever balances its workers.
pub(super) struct Api {
    world: World,
    choice: Mutex<Rng>,
}

impl Api {
    pub(super) fn new(world: World, number: u64) -> Self {
        let choice = Mutex::new(Rng::with_seed(world.plan().seed ^ number.rotate_left(17)));
        Self { world, choice }
    }

    pub(super) async fn create_session(&self) -> Option<String> {
        let answer: Value = self.ask(Method::POST, "/api/sessions", Some(json!({}))).await?;
        answer.get("sessionId")?.as_str().map(str::to_owned)
    }

    /// Starts a turn, or takes it up from its first event.
    pub(super) async fn start(
        &self,
        session: &str,
        turn: &str,
        message: &str,
    ) -> Option<Response<Chunks>> {
        let path = format!("/api/sessions/{session}/turns");
        self.send(Method::POST, &path, Some(json!({ "turnId": turn, "message": message }))).await
    }

    pub(super) async fn resume(
        &self,
        session: &str,
        turn: &str,
        after: u64,
    ) -> Option<Response<Chunks>> {
        let path = format!("/api/sessions/{session}/turns/{turn}?after={after}");
        self.send(Method::GET, &path, None).await
    }

    /// Asks to stop the turn; none where that is not known to have arrived.
    pub(super) async fn stop(&self, session: &str, turn: &str) -> Option<()> {
        let path = format!("/api/sessions/{session}/turns/{turn}/cancel");
        let answer = self.send(Method::POST, &path, Some(json!({}))).await?;
        answer.status().is_success().then_some(())
    }

    /// The execution ids of the session's open turns.
    pub(super) async fn open_turns(&self, session: &str) -> Option<Vec<String>> {
        let path = format!("/api/sessions/{session}/turns?state=open");
        let open: Open = self.ask(Method::GET, &path, None).await?;
        Some(open.turns.into_iter().map(|turn| turn.execution_id).collect())
    }

    /// What the database holds about each turn of the session.
    pub(super) async fn answers(&self, session: &str) -> Option<BTreeMap<String, Option<Kept>>> {
        let path = format!("/api/sessions/{session}/messages");
        let kept: Messages = self.ask(Method::GET, &path, None).await?;
        let mut answers = BTreeMap::new();
        for message in kept.messages {
            note(answers.entry(message.turn_id.clone()).or_default(), message);
        }
        Some(answers)
    }

    async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<T> {
        let answer = self.send(method, path, body).await?;
        let is_success = answer.status().is_success();
        let body = net::read(answer.into_body()).await.ok().filter(|_| is_success)?;
        serde_json::from_slice(&body).ok()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<Response<Chunks>> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body).ok()?;
        let answer = net::send(&self.world, Link::Product, self.worker(), request);
        timeout(HEAD, answer).await.ok()?.ok()
    }

    fn worker(&self) -> &'static str {
        let mut choice = self.choice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        host::WORKERS[choice.usize(..self.world.plan().workers)]
    }
}

/// The code of an error's body.
pub(super) async fn code(body: Chunks) -> String {
    let body = net::read(body).await.unwrap_or_default();
    let error: Option<Value> = serde_json::from_slice(&body).ok();
    let code = error.as_ref().and_then(|error| error.pointer("/error/code")?.as_str());
    code.unwrap_or("(none)").to_owned()
}

fn note(kept: &mut Option<Kept>, message: Message) {
    if message.role != "assistant" {
        kept.get_or_insert_with(|| Kept::of(message.execution_id));
        return;
    }
    let kept = kept.get_or_insert_with(|| Kept::of(message.execution_id));
    kept.messages += 1;
    kept.status = message.status;
    kept.text = message.text;
    kept.code = message.error.and_then(|error| error.code);
}

#[derive(Deserialize)]
struct Open {
    turns: Vec<OpenTurn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenTurn {
    execution_id: String,
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    role: String,
    text: String,
    status: String,
    turn_id: String,
    execution_id: String,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Error {
    code: Option<String>,
}
