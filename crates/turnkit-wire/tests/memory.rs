//! What decoders hold and allocate, counted.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use bytes::Bytes;
use turnkit_wire::{
    Event, ndjson,
    sse::{self, Parser},
    write::Part,
};

/// What a decoder may hold beyond its limit, in bytes.
const SLACK: u64 = 64 * 1024;

/// The most bytes that were held at once while `run` ran.
fn peak(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).bytes_max
}

/// A hostile stream: a head, and then the same piece for ever.
struct Endless {
    head: &'static [u8],
    piece: &'static [u8],
}

const SSE_STREAMS: [Endless; 8] = [
    Endless { head: b"", piece: b"x" },
    Endless { head: b":", piece: b"x" },
    Endless { head: b"data: ", piece: b"x" },
    Endless { head: b"data: ", piece: b"\xff" },
    Endless { head: b"", piece: b"data: some text\n" },
    Endless { head: b"", piece: b"data\n" },
    Endless { head: b"id: ", piece: b"7" },
    Endless { head: b"event: ", piece: b"\xf0\x9f\x98\x80" },
];

/// Three times the limit of the stream, in chunks.
fn chunks(stream: &Endless, limit: usize) -> Vec<Vec<u8>> {
    let bytes =
        [stream.head, &stream.piece.repeat((3 * limit + 200_000) / stream.piece.len())].concat();
    bytes.chunks(4096).map(<[u8]>::to_vec).collect()
}

/// What each decoder held at most, over the pieces of one stream.
fn held(pieces: &[Vec<u8>], limit: usize) -> [(&'static str, u64); 3] {
    let parser = peak(|| {
        let mut parser = Parser::with_max_event(limit);
        for piece in pieces {
            // A caller that does not notice the error must not be led beyond the limit either.
            let _ = parser.feed(piece, |_| {});
        }
    });
    let sse = peak(|| {
        let mut decoder = sse::Decoder::with_max_event(limit);
        for piece in pieces {
            decoder.push(Bytes::copy_from_slice(piece));
            while decoder.next_event().is_some() {}
        }
    });
    let ndjson = peak(|| {
        let mut decoder = ndjson::Decoder::with_max_line(limit);
        for piece in pieces {
            decoder.push(Bytes::copy_from_slice(piece));
            while decoder.next_event().is_some() {}
        }
    });
    [("parser", parser), ("sse", sse), ("ndjson", ndjson)]
}

fn assert_bounded(stream: &str, pieces: &[Vec<u8>], bound: u64, limit: usize) {
    for (name, held) in held(pieces, limit) {
        assert!(held <= bound, "{name} holds {held} > {bound} for {stream}");
    }
}

#[test]
fn decoders_stay_within_their_limit_whatever_comes() {
    for limit in [1024, 100_000, 1 << 20] {
        for stream in &SSE_STREAMS {
            let name = format!("{}{}", stream.head.escape_ascii(), stream.piece.escape_ascii());
            assert_bounded(&name, &chunks(stream, limit), limit as u64 + SLACK, limit);
        }
    }
}

#[test]
fn the_longest_id_name_and_data_together_are_bounded_too() {
    // The event's name, its id, the id before it, and that of the last event handed out.
    const VALUES: u64 = 4 * (Parser::MAX_ID as u64 + 4 * 1024);
    for limit in [20_000, 100_000, 1 << 20] {
        let long = |byte: u8| vec![byte; Parser::MAX_ID.min(limit) - 16];
        // Each chunk ends in the middle of a value, so that everything is kept that can be.
        let event = |data: &[u8]| {
            let (id, name) = (long(b'7'), long(b'n'));
            [b"id: ", &id[..], b"\nevent: ", &name, b"\ndata: ", data].concat()
        };
        let first = [&event(b"{}")[..], b"\n\n"].concat();
        let whole = [first.repeat(3), event(&vec![b'x'; 3 * limit])].concat();
        let pieces: Vec<_> = whole.chunks(4093).map(<[u8]>::to_vec).collect();
        let bound = limit as u64 + SLACK + VALUES;
        assert_bounded("a long id, a long name and endless data", &pieces, bound, limit);
    }
}

fn small_events() -> (Vec<Bytes>, Vec<Bytes>) {
    let event = Event::new("message.part.updated", "some text, as long as such texts are").unwrap();
    let mut stream = bytes::BytesMut::new();
    sse::write_event(&mut stream, Some("1767225600000-1"), &event).unwrap();
    let shared = |bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        drop(bytes.clone());
        bytes
    };
    let sse = stream.repeat(2000).chunks(1460).map(shared).collect();
    let ndjson = event.as_line().repeat(2000).chunks(1460).map(shared).collect();
    (sse, ndjson)
}

#[test]
fn at_steady_state_nothing_is_allocated() {
    let (sse, ndjson) = small_events();
    let mut parser = Parser::new();
    let mut parse = || {
        for chunk in &sse {
            parser.feed(chunk, |_| {}).unwrap();
        }
    };
    parse();
    assert_eq!(allocation_counter::measure(parse).count_total, 0);

    let mut decoder = sse::Decoder::new();
    let mut decode = || {
        for chunk in &sse {
            decoder.push(chunk.clone());
            while let Some(event) = decoder.next_event() {
                assert_eq!(event.unwrap().kind_bytes(), b"message.part.updated");
            }
        }
    };
    decode();
    assert_eq!(allocation_counter::measure(decode).count_total, 0);

    let mut decoder = ndjson::Decoder::new();
    let mut decode = || {
        for chunk in &ndjson {
            decoder.push(chunk.clone());
            while let Some(event) = decoder.next_event() {
                assert_eq!(event.unwrap().kind_bytes(), b"message.part.updated");
            }
        }
    };
    decode();
    assert_eq!(allocation_counter::measure(decode).count_total, 0);
}

#[test]
fn events_that_are_kept_cost_their_bytes_and_little_more() {
    let (sse, _) = small_events();
    let mut decoder = sse::Decoder::new();
    let mut kept = Vec::with_capacity(2000);
    let cost = allocation_counter::measure(|| {
        for chunk in &sse {
            decoder.push(chunk.clone());
            kept.extend(core::iter::from_fn(|| decoder.next_event()).map(Result::unwrap));
        }
    });
    let bytes: usize = kept.iter().map(|event| event.as_line().len()).sum();
    assert_eq!(kept.len(), 2000);
    assert!(
        cost.bytes_current.unsigned_abs() < bytes as u64 * 5 / 4 + SLACK,
        "{cost:?} for {bytes}"
    );
}

#[test]
fn a_delta_is_written_in_one_allocation() {
    let part = Part::new("prt_text").session("a session").message("msg_1");
    let text = "some text, as long as such texts are";
    for write in [Part::text_delta, Part::reasoning_delta, Part::text] {
        let cost = allocation_counter::measure(|| drop(write(&part, text)));
        assert_eq!((cost.count_total, cost.bytes_current), (1, 0));
    }
    // What has to be escaped makes the line grow.
    let cost =
        allocation_counter::measure(|| drop(part.text_delta("\"quoted\" text,\non two lines")));
    assert!(cost.count_total <= 3, "{cost:?}");
}
