//! A gigabyte of events, beside readers that never read. A test binary of its own, for its memory.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, net::SocketAddr};

use futures_util::{Stream, stream};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use turnkit_substrate::{Agent, AgentError, Limits, MemoryLog, Run, Substrate};
use turnkit_wire::Event;

const MIB: u64 = 1024 * 1024;
const BUDGET: u64 = 32 * MIB;

/// What each silent reader may cost: the bytes on their way to it.
const READER: u64 = MIB / 4;
const READERS: u64 = 100;

/// For everything else: the client's side, the runtime, what the allocator keeps.
const BESIDE: u64 = 32 * MIB;

const RUNS: u64 = 1_000;
/// Of each run, together a little more than 1 MiB.
const EVENTS: usize = 11;

struct Large;

impl Agent for Large {
    fn run(&self, _: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let text = Event::new("message.part.updated", &"x".repeat(100_000)).unwrap();
        stream::iter(vec![Ok(text); EVENTS])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_of_events_beside_readers_that_never_read_stays_within_the_budget() {
    let limits = Limits { bytes_in_all: BUDGET, ..Limits::default() };
    let log = MemoryLog::new(limits);
    let substrate = Substrate::builder().agent("default", Large).log(log).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = substrate.clone();
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    let client = reqwest::Client::new();
    run(&client, address, 0).await;
    let before = resident();
    let mut silent = Vec::new();
    for number in 1..=RUNS {
        if number <= READERS {
            silent.push(never_reads(address, number).await);
        }
        run(&client, address, number).await;
        let used = substrate.usage().await.unwrap().bytes;
        assert!(used <= BUDGET, "{used} bytes are charged");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown <= BUDGET + READERS * READER + BESIDE, "{} MiB more", grown / MIB);
    drop(silent);
}

/// Reads a whole run and keeps nothing of it.
async fn run(client: &reqwest::Client, server: SocketAddr, number: u64) {
    let request = client.post(format!("http://{server}/agents/run/stream"));
    let request = request.header("X-Execution-ID", format!("run-{number}"));
    let mut answer = request.json(&serde_json::json!({ "message": "go" })).send().await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        bytes += chunk.len() as u64;
    }
    assert!(bytes > MIB);
}

/// Starts the run, and takes nothing of its answer.
async fn never_reads(server: SocketAddr, number: u64) -> TcpStream {
    let body = r#"{"message":"go"}"#;
    let head = format!(
        "POST /agents/run/stream HTTP/1.1\r\nHost: localhost\r\nX-Execution-ID: run-{number}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    let mut connection = TcpStream::connect(server).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.readable().await.unwrap();
    connection
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
