//! Whether the decoders stay linear: one line in 64-byte chunks, and another of twice the size.

use std::time::Duration;

use bytes::Bytes;
use turnkit_wire::{ndjson, sse};

use super::{input::Input, measure::best_of};

const MIB: usize = 1024 * 1024;

pub(crate) fn print(millis: u64) {
    println!("\n| one line in 64-byte chunks | 5 MiB | 10 MiB | 20 MiB |\n|---|---|---|---|");
    for (name, head, run) in
        [("NDJSON decode", "", decode as fn(&[Bytes]) -> usize), ("SSE to NDJSON", "data: ", hop)]
    {
        let times = [5, 10, 20].map(|size| time(head, size * MIB, run, millis));
        let cells = times.map(|time| format!("{:.1} ms", time.as_secs_f64() * 1000.0));
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn time(head: &str, size: usize, run: fn(&[Bytes]) -> usize, millis: u64) -> Duration {
    let text = "x".repeat(size);
    let stream = Bytes::from(format!("{head}{{\"type\":\"t\",\"data\":\"{text}\"}}\n\n"));
    let chunks = Input::chunks(&stream, 64);
    assert_eq!(run(&chunks), 1);
    best_of(millis, || {
        run(&chunks);
    })
}

fn decode(chunks: &[Bytes]) -> usize {
    let mut decoder = ndjson::Decoder::new();
    chunks
        .iter()
        .map(|chunk| {
            decoder.push(chunk.clone());
            usize::from(matches!(decoder.next_event(), Some(Ok(_))))
        })
        .sum()
}

fn hop(chunks: &[Bytes]) -> usize {
    let mut decoder = sse::Decoder::with_max_event(32 * MIB);
    chunks
        .iter()
        .map(|chunk| {
            decoder.push(chunk.clone());
            usize::from(matches!(decoder.next_event(), Some(Ok(_))))
        })
        .sum()
}
