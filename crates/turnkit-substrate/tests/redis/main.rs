//! The log in Redis, over a real `redis-server`: the contract of every log, several nodes, and a Redis that fails.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what the tests share fails them by panicking"
)]

mod failures;
mod nodes;
mod reference;

// What must hold over HTTP, whatever the log is.
#[path = "../http/agents.rs"]
mod agents;
#[path = "../http/cancel.rs"]
mod cancel;
#[path = "../http/client.rs"]
#[expect(dead_code, reason = "connections are tested with the log in memory")]
mod client;
#[path = "../http/questions.rs"]
mod questions;
#[path = "../http/runs.rs"]
mod runs;
#[path = "../http/streams.rs"]
mod streams;
#[path = "../http/table.rs"]
mod table;

use std::sync::{Arc, LazyLock};

use turnkit_id::ExecutionId;
use turnkit_substrate::{
    Clock, ExecutionLog as _, Limits, Scope,
    log::{
        ExecutionKey, Fingerprint, Found, LogReader, LogWriter, Opening, Start,
        redis::{RedisLog, RedisLogBuilder},
    },
};
use turnkit_testkit::redis::RedisServer;
use turnkit_wire::Event;
use uuid::Uuid;

/// Of all tests that let it live.
static REDIS: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

/// A log that no other test uses.
fn builder() -> RedisLogBuilder {
    RedisLog::builder(REDIS.url()).prefix(Uuid::new_v4().to_string())
}

fn log(limits: Limits, clock: Arc<dyn Clock>) -> RedisLog {
    builder().limits(limits).clock(Arc::clone(&clock)).retention_clock(clock).build().unwrap()
}

mod contract {
    turnkit_testkit::log_contract!(super::log);
}

fn key(id: &str) -> ExecutionKey {
    ExecutionKey { scope: Scope::new("a:b"), id: ExecutionId::parse(id).unwrap() }
}

/// Of the scope in which everybody acts where there are no tokens.
fn local(id: &str) -> ExecutionKey {
    ExecutionKey { scope: Scope::local(), ..key(id) }
}

fn opening() -> Opening {
    let first = Event::bare("first").unwrap();
    Opening { fingerprint: Some(Fingerprint::of(b"body")), first, takes_input: false, log_id: None }
}

fn number(number: u64) -> Event {
    Event::new("number", &number).unwrap()
}

async fn start(log: &RedisLog, id: &str) -> (Box<dyn LogWriter>, Arc<dyn LogReader>) {
    start_in(log, &key(id)).await
}

async fn start_in(log: &RedisLog, key: &ExecutionKey) -> (Box<dyn LogWriter>, Arc<dyn LogReader>) {
    match log.start(key, opening()).await.unwrap() {
        Start::Started { writer, reader } => (writer, reader),
        _ => panic!("{} must be free", key.id),
    }
}

/// A reader of an execution that every node has to know.
async fn retained(log: &RedisLog, id: &str) -> Arc<dyn LogReader> {
    match log.find(&key(id)).await.unwrap() {
        Found::Retained(reader) => reader,
        _ => panic!("{id} must be retained"),
    }
}

/// The numbers after the first event, up to the end of the log, or as many as `enough`.
async fn numbers(reader: &dyn LogReader, enough: usize) -> Vec<u64> {
    let (mut numbers, mut after) = (Vec::new(), 1);
    while numbers.len() < enough {
        let Some(page) = reader.next(after).await.unwrap() else {
            break;
        };
        let text = std::str::from_utf8(&page.frames).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        numbers.extend(data.map(|data| data.parse::<u64>().unwrap()));
        after = page.last;
    }
    numbers
}
