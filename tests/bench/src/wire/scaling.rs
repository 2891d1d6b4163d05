//! Whether the decoders stay linear: one line in 64-byte chunks, and others of twice and four times its size.

use std::time::Duration;

use bytes::Bytes;
use turnkit_wire::{ndjson, sse};

use super::measure::best_of;

const MIB: usize = 1024 * 1024;

/// One line that never seems to end: the same chunk again and again, so that only what the decoder holds grows.
struct Line {
    name: &'static str,
    head: &'static str,
    tail: &'static str,
    run: fn(&mut dyn Iterator<Item = Bytes>) -> usize,
}

const LINES: [Line; 3] = [
    Line { name: "SSE, a data line", head: "data: {\"type\":\"", tail: "\"}\n\n", run: hop },
    Line { name: "SSE, a comment", head: ": ", tail: "\ndata: {\"type\":\"x\"}\n\n", run: hop },
    Line { name: "NDJSON", head: "{\"type\":\"", tail: "\"}\n", run: decode },
];

pub(crate) fn print(millis: u64) {
    println!("\n| one line in 64-byte chunks | 5 MiB | 10 MiB | 20 MiB |\n|---|--:|--:|--:|");
    for line in &LINES {
        let times = [5, 10, 20].map(|size| time(line, size * MIB, millis));
        let cells = times.map(|time| format!("{:.1} ms", time.as_secs_f64() * 1000.0));
        println!("| {} | {} |", line.name, cells.join(" | "));
    }
}

fn time(line: &Line, size: usize, millis: u64) -> Duration {
    let chunk = Bytes::from("x".repeat(64));
    let pass = || {
        let body = std::iter::repeat_n(&chunk, size / chunk.len()).cloned();
        let head = std::iter::once(Bytes::from_static(line.head.as_bytes()));
        let tail = std::iter::once(Bytes::from_static(line.tail.as_bytes()));
        (line.run)(&mut head.chain(body).chain(tail))
    };
    assert_eq!(pass(), 1, "{}", line.name);
    best_of(millis, || {
        pass();
    })
}

fn decode(chunks: &mut dyn Iterator<Item = Bytes>) -> usize {
    let mut decoder = ndjson::Decoder::new();
    let next = |chunk| {
        decoder.push(chunk);
        usize::from(matches!(decoder.next_event(), Some(Ok(_))))
    };
    chunks.map(next).sum()
}

fn hop(chunks: &mut dyn Iterator<Item = Bytes>) -> usize {
    let mut decoder = sse::Decoder::with_max_event(32 * MIB);
    let next = |chunk| {
        decoder.push(chunk);
        usize::from(matches!(decoder.next_event(), Some(Ok(_))))
    };
    chunks.map(next).sum()
}
