//! `turnkit-wire`, and the limits of the machine.

use bytes::Bytes;
use turnkit_wire::{ndjson, sse};

use super::measure::{Contender, Path};

pub(crate) const NAME: &str = "turnkit-wire";

pub(crate) fn contenders() -> Vec<Contender> {
    vec![
        Contender { path: Path::Limit, name: "memcpy", run: memcpy },
        Contender { path: Path::Limit, name: "memchr2", run: memchr2 },
        Contender { path: Path::Parse, name: NAME, run: parse },
        Contender { path: Path::Hop, name: NAME, run: hop },
        Contender { path: Path::Decode, name: NAME, run: decode },
    ]
}

fn memcpy(chunks: &[Bytes]) -> usize {
    let mut copy = Vec::with_capacity(64 * 1024);
    for chunk in chunks {
        copy.clear();
        copy.extend_from_slice(chunk);
        std::hint::black_box(&copy);
    }
    chunks.len()
}

fn memchr2(chunks: &[Bytes]) -> usize {
    chunks.iter().map(|chunk| memchr::memchr2_iter(b'\n', b'\r', chunk).count()).sum()
}

fn parse(chunks: &[Bytes]) -> usize {
    let mut parser = sse::Parser::new();
    let mut frames = 0;
    for chunk in chunks {
        let fed = parser.feed(chunk, |frame| {
            std::hint::black_box(frame.data());
            frames += 1;
        });
        if fed.is_err() {
            return 0;
        }
    }
    frames
}

fn hop(chunks: &[Bytes]) -> usize {
    let mut decoder = sse::Decoder::new();
    let mut out = Vec::with_capacity(128 * 1024);
    let mut events = 0;
    for chunk in chunks {
        decoder.push(chunk.clone());
        out.clear();
        while let Some(Ok(event)) = decoder.next_event() {
            out.extend_from_slice(event.as_line());
            events += 1;
        }
        std::hint::black_box(&out);
    }
    events
}

fn decode(chunks: &[Bytes]) -> usize {
    let mut decoder = ndjson::Decoder::new();
    let mut events = 0;
    for chunk in chunks {
        decoder.push(chunk.clone());
        while let Some(Ok(event)) = decoder.next_event() {
            std::hint::black_box(event.kind_bytes());
            events += 1;
        }
    }
    events
}
