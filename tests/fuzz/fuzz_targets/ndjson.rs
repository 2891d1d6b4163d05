//! A stream of lines: no panic; how it is cut changes nothing; what comes out decodes to itself.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use turnkit_wire::{DecodeError, Event, ndjson::Decoder};

/// Small, so that it is met.
const MAX_LINE: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Some((&step, stream)) = input.split_first() else { return };
    let whole = decode([stream].into_iter());
    assert_eq!(decode(stream.chunks(usize::from(step % 67) + 1)), whole);
    assert_eq!(decode(stream.chunks(1)), whole);

    let events: Vec<&Event> = whole.iter().filter_map(|decoded| decoded.as_ref().ok()).collect();
    assert!(events.iter().all(|event| serde_json::from_str::<&RawValue>(event.as_json()).is_ok()));
    let forwarded: Vec<u8> = events.iter().flat_map(|event| event.as_line()).copied().collect();
    let again = decode([&forwarded[..]].into_iter());
    assert!(again.iter().map(|decoded| decoded.as_ref().unwrap()).eq(events.iter().copied()));
});

fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Event, DecodeError>> {
    let mut decoder = Decoder::with_max_line(MAX_LINE);
    let mut decoded = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        decoded.extend(core::iter::from_fn(|| decoder.next_event()));
    }
    decoded.extend(core::iter::from_fn(|| decoder.finish()));
    decoded
}
