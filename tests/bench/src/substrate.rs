//! The substrate over loopback HTTP: how late a live reader is, how fast a replay runs, and what a retained event takes.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod path;

use std::{
    fmt::Display,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{Stream, stream};
use indicatif::ProgressBar;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime::{Builder, Runtime},
    task::JoinSet,
    time,
};
use turnkit_substrate::{
    Agent, AgentError, ExecutionLog, MemoryLog, Run, Substrate, log::redis::RedisLog,
};
use turnkit_testkit::redis::RedisServer;
use turnkit_wire::{Event, write::Part};

use self::path::Way;

/// Runs every measurement and prints one table, row by row.
pub(crate) fn run() -> Result<()> {
    let runtime = Runtime::new()?;
    let table = Table::begin();
    table.latency(&runtime)?;
    table.latency_over_redis(&runtime)?;
    for (name, events, size, goal) in
        [("32 KiB", 1_900, 32 * 1024, "≥ 1 GB/s"), ("small", 90_000, SMALL, "≥ 300 MB/s")]
    {
        let speed = replay(&runtime, events, size)? / 1e9;
        let name = format!("replay of {events} {name} events");
        table.row(&name, format_args!("{speed:.2} GB/s"), goal);
    }
    table.memory(&runtime)?;
    table.paths()?;
    table.progress.finish_and_clear();
    Ok(())
}

/// What is printed, and how much of it is still to come.
struct Table {
    progress: ProgressBar,
}

impl Table {
    fn begin() -> Self {
        println!("| substrate, over loopback HTTP | measured | to reach |\n|---|---|---|");
        Self { progress: ProgressBar::new(ROWS) }
    }

    fn row(&self, name: &str, measured: impl Display, goal: &str) {
        self.progress.suspend(|| println!("| {name} | {measured} | {goal} |"));
        self.progress.inc(1);
    }

    fn latency(&self, runtime: &Runtime) -> Result<()> {
        let late = live(runtime, memory_log(), EXECUTIONS)?;
        self.late("", EXECUTIONS, &late, "≤ 200 µs");
        Ok(())
    }

    fn latency_over_redis(&self, runtime: &Runtime) -> Result<()> {
        const EXECUTIONS: usize = 100;
        let redis = RedisServer::start();
        let log = Arc::new(RedisLog::builder(redis.url()).build()?);
        let late = live(runtime, log, EXECUTIONS)?;
        self.late(" through a Redis on the same machine", EXECUTIONS, &late, "≤ 500 µs");
        Ok(())
    }

    fn late(&self, through: &str, executions: usize, late: &[Duration], goal: &str) {
        let name = format!(
            "append → delivered{through}, {executions} executions at {PER_SECOND} events/s: median"
        );
        self.row(&name, format_args!("{:?}", late[late.len() / 2]), goal);
        self.row("the same: 99 %", format_args!("{:?}", late[late.len() * 99 / 100]), "–");
    }

    fn memory(&self, runtime: &Runtime) -> Result<()> {
        let memory = runtime.block_on(memory())?;
        let name = format!("retained small event, beyond its {} bytes: resident", memory.event);
        self.row(&name, format_args!("{:.0} B", memory.resident), "≤ 64 B");
        let charged = memory.charged;
        self.row("the same: charged to the budget", format_args!("{charged:.0} B"), "≤ 64 B");
        Ok(())
    }

    fn paths(&self) -> Result<()> {
        let adapter = "agent → substrate → adapter, small events";
        self.row(&format!("{adapter}: one thread"), Way::Adapter.best(1, PASSES)?, "–");
        self.row(&format!("{adapter}: two"), Way::Adapter.best(2, PASSES)?, "–");
        let whole = "agent → substrate → adapter → engine → client";
        self.row(&format!("{whole}: one thread"), Way::Whole.best(1, PASSES)?, "–");
        self.row(&format!("{whole}: two"), Way::Whole.best(2, PASSES)?, "≥ 600 k events/s");
        Ok(())
    }
}

const ROWS: u64 = 12;
/// Runs of which the best counts.
const PASSES: usize = 10;

const EXECUTIONS: usize = 1_000;
const PER_SECOND: u32 = 20;
const LIVE_FOR: Duration = Duration::from_secs(8);

/// Bytes of text in a small event; its line has about 146 bytes.
pub(crate) const SMALL: usize = 50;

/// Sends `events` events with the time of their birth, at a steady pace.
struct Paced {
    events: u32,
    every: Duration,
}

impl Agent for Paced {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let (events, every) = (self.events, self.every);
        let phase = run.request().message().parse().unwrap_or_default();
        let mut ticks =
            time::interval_at(time::Instant::now() + Duration::from_micros(phase), every);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
        stream::unfold((0, ticks), move |(sent, mut ticks)| async move {
            if sent == events {
                return None;
            }
            ticks.tick().await;
            Some((event("born", &now().to_string()), (sent + 1, ticks)))
        })
    }
}

/// Sends the same text again and again.
pub(crate) struct Repeated {
    pub(crate) events: usize,
    pub(crate) text: Event,
}

impl Agent for Repeated {
    fn run(&self, _: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let text = self.text.clone();
        stream::iter((0..self.events).map(move |_| Ok(text.clone())))
    }
}

fn event(kind: &str, data: &str) -> Result<Event, AgentError> {
    Event::new(kind, data).map_err(|error| AgentError::new("bench", error.to_string()))
}

pub(crate) fn text(bytes: usize) -> Event {
    Part::new("prt_1").text_delta(&"x".repeat(bytes))
}

/// Nanoseconds since the first call.
fn now() -> u128 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos()
}

fn memory_log() -> Arc<dyn ExecutionLog> {
    Arc::new(MemoryLog::default())
}

pub(crate) async fn serve(
    agent: impl Agent,
    log: Arc<dyn ExecutionLog>,
) -> Result<(Substrate, SocketAddr)> {
    let substrate = Substrate::builder().agent("default", agent).erased_log(log).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = substrate.clone();
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    Ok((substrate, address))
}

pub(crate) fn request(id: usize, message: &str) -> Vec<u8> {
    let body = serde_json::json!({ "message": message }).to_string();
    let length = body.len();
    format!("POST /agents/run/stream HTTP/1.1\r\nHost: localhost\r\nX-Execution-ID: bench-{id}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

/// How late each event was, sorted. The readers have a thread of their own: what they wait for is not to be what they do.
fn live(runtime: &Runtime, log: Arc<dyn ExecutionLog>, executions: usize) -> Result<Vec<Duration>> {
    let events = PER_SECOND * u32::try_from(LIVE_FOR.as_secs())?;
    let every = Duration::from_secs(1) / PER_SECOND;
    let (substrate, address) = runtime.block_on(serve(Paced { events, every }, log))?;
    let readers = Builder::new_current_thread().enable_all().build()?;
    let mut late = readers.block_on(read_live(address, executions))?;
    ensure!(late.len() == executions * events as usize, "events are missing");
    ensure!(substrate.stats().runs_started == executions as u64);
    late.sort_unstable();
    Ok(late)
}

async fn read_live(address: SocketAddr, executions: usize) -> Result<Vec<Duration>> {
    let mut readers = JoinSet::new();
    for id in 0..executions {
        let phase = id * 50_000 / executions;
        readers.spawn(lateness(address, request(id, &phase.to_string())));
    }
    let mut late = Vec::new();
    while let Some(read) = readers.join_next().await {
        late.extend(read??);
    }
    Ok(late)
}

/// Reads one stream to its end, and how late each of its events was.
async fn lateness(address: SocketAddr, request: Vec<u8>) -> Result<Vec<Duration>> {
    const MARK: &[u8] = b"event: born\ndata: \"";
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    connection.write_all(&request).await?;
    let (mut late, mut unread) = (Vec::new(), Vec::new());
    while connection.read_buf(&mut unread).await? > 0 {
        let read_at = now();
        while let Some((born, end)) = next_number(&unread, MARK) {
            late.push(Duration::from_nanos(u64::try_from(read_at.saturating_sub(born))?));
            unread.drain(..end);
        }
    }
    Ok(late)
}

/// The number behind the first `mark`, and where it ends.
fn next_number(bytes: &[u8], mark: &[u8]) -> Option<(u128, usize)> {
    let start = memchr::memmem::find(bytes, mark)? + mark.len();
    let end = start + memchr::memchr(b'"', &bytes[start..])?;
    let number = std::str::from_utf8(&bytes[start..end]).ok()?.parse().ok()?;
    Some((number, end))
}

/// Bytes per second of a retained execution, read by a thread that only counts.
fn replay(runtime: &Runtime, events: usize, size: usize) -> Result<f64> {
    let agent = Repeated { events, text: text(size) };
    let (_substrate, address) = runtime.block_on(serve(agent, memory_log()))?;
    let request = request(0, "go");
    // The first reader reads it live, in other pieces.
    read_all(address, &request)?;
    let whole = read_all(address, &request)?;
    let (started, mut bytes, mut rounds) = (Instant::now(), 0, 0);
    while started.elapsed() < Duration::from_secs(3) {
        bytes += read_all(address, &request)?;
        rounds += 1;
    }
    ensure!(whole > events * size && bytes == whole * rounds, "a replay is not whole");
    Ok(bytes as f64 / started.elapsed().as_secs_f64())
}

fn read_all(address: SocketAddr, request: &[u8]) -> Result<usize> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(request)?;
    let (mut buffer, mut bytes) = (vec![0; 256 * 1024], 0);
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}

struct Memory {
    event: usize,
    resident: f64,
    charged: f64,
}

/// What small events take beyond their own bytes, when many are retained.
async fn memory() -> Result<Memory> {
    const RUNS: usize = 100;
    const EVENTS: usize = 10_000;
    let small = text(SMALL);
    let event = small.as_json().len();
    let agent = Repeated { events: EVENTS, text: small };
    let (substrate, address) = serve(agent, memory_log()).await?;
    let before = resident()?;
    for id in 0..RUNS {
        let request = request(id, "go");
        tokio::task::spawn_blocking(move || read_all(address, &request)).await??;
    }
    let per_event = |bytes: u64| bytes as f64 / (RUNS * EVENTS) as f64 - event as f64;
    Ok(Memory {
        event,
        resident: per_event(resident()?.saturating_sub(before)),
        charged: per_event(substrate.usage().await?.bytes),
    })
}

/// Resident bytes of this process.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
    Ok(kib.parse::<u64>()? * 1024)
}
