//! The encoders for front ends: from the lines of a turn to the frames of a response, beside the same mapping in Node.

use std::{fmt::Write as _, fs, hint::black_box, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;
use turnkit_ui::{AgUi, AiSdk, Chunks, Encoder};
use turnkit_wire::{Event, ndjson::Decoder};

use crate::wire::measure::{as_f64, best_of};

const SCRIPT: &str = include_str!("ui/encode.mjs");

/// What to measure, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Milliseconds for each measurement; the best pass counts, in CPU time
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Events of a stream
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// Leave Node out
    #[arg(long)]
    no_node: bool,
}

/// What is read from a socket at once, in bytes.
const READ_BUFFER: usize = 16 * 1024;

/// Prints one table.
pub(crate) fn run(args: &Args) -> Result<()> {
    println!("| stream | implementation | events/s | allocations per 100 events | to reach |");
    println!("|---|---|--:|--:|---|");
    for (name, lines, goal) in [
        ("text deltas of one part", deltas(args.events), "≥ 3 M, ≤ 1"),
        ("reasoning, calls and text by turns, 20 deltas each", mixed(args.events), ""),
    ] {
        let events = decoded(&lines)?;
        let chunks = chunks(&lines);
        let ai_sdk = || AiSdk::new("local:bench:0");
        let ag_ui = || AgUi::new("bench", "turn", "local:bench:0");
        let print = |what: &str, goal: &str, pass: &dyn Fn() -> usize| {
            print_row(name, what, goal, events.len(), args.millis, pass);
        };
        print("AiSdk, from lines", goal, &|| from_lines(&chunks, ai_sdk(), 0));
        print("AiSdk, from events", "", &|| from_events(&events, ai_sdk()));
        print("AiSdk, from lines, all of it left out", "", &|| {
            from_lines(&chunks, ai_sdk(), u64::MAX)
        });
        print("AgUi, from lines", goal, &|| from_lines(&chunks, ag_ui(), 0));
        if !args.no_node {
            match node(&lines, &written(&events, ai_sdk()), args.millis) {
                Ok(row) => {
                    let speed = row.events_per_second / 1e6;
                    println!("| {name} | Node {}, the same bytes | {speed:.2} M | ? | |", row.node);
                }
                Err(error) => eprintln!("without Node: {error:#}"),
            }
        }
    }
    Ok(())
}

fn print_row(
    name: &str,
    what: &str,
    goal: &str,
    events: usize,
    millis: u64,
    pass: &dyn Fn() -> usize,
) {
    let allocated = allocation_counter::measure(|| {
        black_box(pass());
    });
    let best = best_of(millis, || {
        black_box(pass());
    });
    let speed = as_f64(events) / best.as_secs_f64() / 1e6;
    let allocations = as_f64(usize::try_from(allocated.count_total).unwrap_or(usize::MAX)) * 100.0
        / as_f64(events);
    println!("| {name} | {what} | {speed:.2} M | {allocations:.2} | {goal} |");
}

/// As a response's body does it: lines as they are read, frames given out behind each read.
fn from_lines(chunks: &[Bytes], mut encoder: impl Encoder, after: u64) -> usize {
    let (mut decoder, mut out) = (Decoder::new(), Chunks::new().after(after));
    let mut written = 0;
    for chunk in chunks {
        decoder.push(chunk.clone());
        while let Some(Ok(event)) = decoder.next_event() {
            encoder.event(&event, &mut out);
        }
        written += out.take().len();
    }
    written
}

fn from_events(events: &[Event], mut encoder: impl Encoder) -> usize {
    let mut out = Chunks::new();
    let mut written = 0;
    for batch in events.chunks(100) {
        for event in batch {
            encoder.event(event, &mut out);
        }
        written += out.take().len();
    }
    written
}

fn written(events: &[Event], mut encoder: impl Encoder) -> Bytes {
    let mut out = Chunks::new();
    for event in events {
        encoder.event(event, &mut out);
    }
    out.take()
}

#[derive(Deserialize)]
struct Row {
    node: String,
    events_per_second: f64,
}

/// The same mapping in Node, which has to write `expected`.
fn node(lines: &[u8], expected: &[u8], millis: u64) -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let file = |name: &str, bytes: &[u8]| fs::write(path(name), bytes);
    file("encode.mjs", SCRIPT.as_bytes())?;
    file("lines.ndjson", lines)?;
    let output = Command::new("node")
        .args(["encode.mjs", "lines.ndjson", "frames.sse", &millis.to_string()])
        .current_dir::<&Path>(folder.path())
        .output()
        .context("cannot run node")?;
    ensure!(
        output.status.success(),
        "the script fails: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(fs::read(path("frames.sse"))? == expected, "the script writes other frames");
    serde_json::from_slice(&output.stdout).context("the script prints something else")
}

/// The stream in chunks, as an HTTP client hands them over.
fn chunks(lines: &[u8]) -> Vec<Bytes> {
    let chunks: Vec<Bytes> = lines.chunks(READ_BUFFER).map(Bytes::copy_from_slice).collect();
    // The first clone of a `Bytes` allocates its counter: the client's, not the encoder's.
    for chunk in &chunks {
        drop(chunk.clone());
    }
    chunks
}

fn decoded(lines: &[u8]) -> Result<Vec<Event>> {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::copy_from_slice(lines));
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event() {
        events.push(event?);
    }
    Ok(events)
}

const STARTED: &str = r#"{"type":"session.run.started","data":{"sessionId":"bench","tenantId":"local","turnIndex":0,"executionId":"local:bench:0"}}"#;

fn delta(lines: &mut String, kind: &str, id: &str, n: usize) {
    const WORDS: [&str; 5] = ["alpha", "beta", " gamma", "delta ", "epsilon\\n"];
    let word = WORDS[n % WORDS.len()];
    let part =
        format!(r#"{{"id":"{id}","sessionID":"ses_1234","messageID":"msg_1234","type":"{kind}"}}"#);
    let _ = writeln!(
        lines,
        r#"{{"type":"message.part.updated","data":{{"part":{part},"delta":"{word} {n:04}"}}}}"#
    );
}

/// Text deltas of one part, about 146 bytes each.
fn deltas(events: usize) -> Vec<u8> {
    let mut lines = format!("{STARTED}\n");
    for n in 1..events {
        delta(&mut lines, "text", "prt_1", n);
    }
    lines.into_bytes()
}

/// 20 pieces of reasoning, a call, 20 pieces of text, and so on.
fn mixed(events: usize) -> Vec<u8> {
    let mut lines = format!("{STARTED}\n");
    for n in 1..events {
        let (round, place) = (n / 41, n % 41);
        match place {
            0..20 => delta(&mut lines, "reasoning", &format!("prt_r{round}"), n),
            20 => {
                let state = r#"{"status":"completed","input":{"command":"wc -w"},"output":"2\n"}"#;
                let part = format!(
                    r#"{{"id":"prt_c{round}","type":"tool","tool":"bash","callID":"call_{round}","state":{state}}}"#
                );
                let _ = writeln!(
                    lines,
                    r#"{{"type":"message.part.updated","data":{{"part":{part}}}}}"#
                );
            }
            _ => delta(&mut lines, "text", &format!("prt_t{round}"), n),
        }
    }
    lines.into_bytes()
}
