//! The log in Redis beside raw pipelined `XADD`: the same bytes into the same server, events a second.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turnkit_substrate::log::redis::RedisLog;
use turnkit_testkit::redis::RedisServer;
use turnkit_wire::{Event, sse};

use crate::substrate::{Repeated, SMALL, request, serve, text};

/// Ours and raw in turn, so that both have the same machine.
const ROUNDS: usize = 5;
/// Events of one execution alone, and of all together otherwise, unless that leaves each so few that its beginning and its end are measured.
const EVENTS: usize = 96_000;
const FEWEST: usize = 10_000;
/// Commands that a raw client sends at once.
const PIPELINE: usize = 256;

/// Prints one table.
pub(crate) fn run() -> Result<()> {
    println!(
        "| executions at once | the log, events/s | raw pipelined `XADD`, events/s | the log of raw | to reach |\n|--:|--:|--:|--:|---|"
    );
    for (executions, goal) in [(1, "≥ 30 %"), (16, "≥ 50 %"), (64, "≥ 50 %")] {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            eprintln!("{executions} executions: round {round} of {ROUNDS}");
            let redis = RedisServer::start();
            ours.push(through_the_log(&redis, executions)?);
            let redis = RedisServer::start();
            raw.push(through_bare_commands(&redis, executions)?);
        }
        let [ours, raw] = [ours, raw].map(|mut rounds| {
            rounds.sort_unstable();
            rate(executions, rounds[ROUNDS / 2])
        });
        let share = 100.0 * ours / raw;
        println!(
            "| {executions} | {:.0} k | {:.0} k | {share:.0} % | {goal} |",
            ours / 1e3,
            raw / 1e3
        );
    }
    Ok(())
}

/// Events of each.
fn events_of(executions: usize) -> usize {
    FEWEST.max(EVENTS / executions)
}

fn rate(executions: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
    let events = (executions * events_of(executions)) as f64;
    events / time.as_secs_f64()
}

/// Runs of an agent that has always something ready, without a reader.
fn through_the_log(redis: &RedisServer, executions: usize) -> Result<Duration> {
    let events = events_of(executions);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let log = Arc::new(RedisLog::builder(redis.url()).build()?);
    let agent = Repeated { events, text: text(SMALL) };
    let time = runtime.block_on(async {
        log.check().await?;
        let (substrate, address) = serve(agent, log).await?;
        let since = Instant::now();
        try_join_all((0..executions).map(|id| open(address, id))).await?;
        while substrate.stats().runs_started < executions as u64 || substrate.stats().running > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::Ok(since.elapsed())
    })?;
    for id in 0..executions {
        // With the first event and the last.
        let name = format!("{{turnkit}}:f:5:local:bench-{id}");
        let length = redis.command(&format!("XLEN {name}"));
        ensure!(length == format!(":{}\r\n", events + 2), "{id}: {length}");
    }
    runtime.shutdown_background();
    Ok(time)
}

/// Starts a run whose answer nobody reads.
async fn open(address: SocketAddr, id: usize) -> Result<tokio::net::TcpStream> {
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    connection.write_all(&request(id, "go")).await?;
    let mut head = [0; 12];
    connection.read_exact(&mut head).await?;
    ensure!(&head == b"HTTP/1.1 200", "a run was not started");
    Ok(connection)
}

/// A connection for each execution, each with a thread that sends without a pause and one that reads what is answered.
fn through_bare_commands(redis: &RedisServer, executions: usize) -> Result<Duration> {
    let (events, event, address) = (events_of(executions), text(SMALL), redis.address());
    let connections = (0..executions).map(|_| Ok(TcpStream::connect(address)?));
    let connections = connections.collect::<Result<Vec<_>>>()?;
    let since = Instant::now();
    thread::scope(|scope| {
        let drive = |(id, connection): (usize, TcpStream)| {
            let (answers, event) = (connection.try_clone(), &event);
            let sends = scope.spawn(move || send(connection, id, events, event));
            [sends, scope.spawn(move || hear(answers?, events))]
        };
        let threads: Vec<_> = connections.into_iter().enumerate().flat_map(drive).collect();
        for thread in threads {
            thread.join().ok().context("a thread panicked")??;
        }
        anyhow::Ok(())
    })?;
    Ok(since.elapsed())
}

fn send(mut connection: TcpStream, id: usize, events: usize, event: &Event) -> Result<()> {
    let key = format!("raw:{id}");
    let (mut pipeline, mut frame) = (Vec::new(), BytesMut::new());
    for seq in 1..=events {
        let id = format!("1700000000000-{seq}");
        frame.clear();
        sse::write_event(&mut frame, Some(&id), event)?;
        write!(pipeline, "*5\r\n$4\r\nXADD\r\n${}\r\n{key}\r\n", key.len())?;
        write!(pipeline, "${}\r\n{id}\r\n$1\r\nf\r\n${}\r\n", id.len(), frame.len())?;
        pipeline.extend_from_slice(&frame);
        pipeline.extend_from_slice(b"\r\n");
        if seq % PIPELINE == 0 || seq == events {
            connection.write_all(&pipeline)?;
            pipeline.clear();
        }
    }
    Ok(())
}

/// Reads as many answers, each of which is an id.
fn hear(connection: TcpStream, events: usize) -> Result<()> {
    let (mut answers, mut line) = (BufReader::with_capacity(64 * 1024, connection), Vec::new());
    for _ in 0..events {
        for begin in [b'$', b'1'] {
            line.clear();
            answers.read_until(b'\n', &mut line)?;
            ensure!(line.first() == Some(&begin), "{}", String::from_utf8_lossy(&line));
        }
    }
    Ok(())
}
