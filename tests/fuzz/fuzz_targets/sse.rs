//! An event stream: no panic; how it is cut changes nothing, neither the frames nor the events; what is accepted survives the
//! next hop.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use turnkit_wire::{
    DecodeError, Event,
    sse::{self, Decoder, Parser},
};

/// Small, so that it is met.
const MAX_EVENT: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Some((&step, stream)) = input.split_first() else { return };
    let step = usize::from(step % 67) + 1;
    let frames = parse([stream].into_iter());
    assert_eq!(parse(stream.chunks(step)), frames);
    assert_eq!(parse(stream.chunks(1)), frames);

    let (events, ids) = decode([stream].into_iter());
    assert_eq!(decode(stream.chunks(step)), (events.clone(), ids.clone()));
    assert_eq!(decode(stream.chunks(1)), (events.clone(), ids));
    for event in events.into_iter().flatten() {
        let mut out = BytesMut::new();
        sse::write_event(&mut out, None, &event).unwrap();
        let mut decoder = Decoder::with_max_event(out.len());
        decoder.push(out.freeze());
        assert_eq!(decoder.next_event(), Some(Ok(event)));
    }
});

type Frames = (Vec<(String, Vec<u8>, String, bool)>, bool, String, Option<u64>);

fn parse<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Frames {
    let mut parser = Parser::with_max_event(MAX_EVENT);
    let mut frames = Vec::new();
    let mut failed = false;
    for chunk in chunks {
        let fed = parser.feed(chunk, |frame| {
            assert!(core::str::from_utf8(frame.data()).is_ok());
            frames.push((frame.event().to_owned(), frame.data().to_vec(), frame.id().to_owned(), frame.lossy()));
        });
        failed |= fed.is_err();
    }
    (frames, failed, parser.last_event_id().to_owned(), parser.retry_ms())
}

fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Result<Event, DecodeError>>, Vec<String>) {
    let mut decoder = Decoder::with_max_event(MAX_EVENT);
    let (mut decoded, mut ids) = (Vec::new(), Vec::new());
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = decoder.next_event() {
            decoded.push(event);
            ids.push(decoder.last_event_id().to_owned());
        }
    }
    (decoded, ids)
}
