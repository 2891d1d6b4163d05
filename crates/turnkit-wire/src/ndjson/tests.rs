use super::*;
use alloc::{format, string::String, vec::Vec};

/// What a decoder gives for `chunks`: lines, and errors as offset and kind.
fn decode(
    max_line: usize,
    chunks: impl IntoIterator<Item = Vec<u8>>,
) -> Vec<Result<Vec<u8>, (u64, DecodeErrorKind)>> {
    let mut decoder = Decoder::with_max_line(max_line);
    let mut out = Vec::new();
    let mut take = |step: Result<Event, DecodeError>| {
        out.push(
            step.map(|event| event.as_line().to_vec())
                .map_err(|error| (error.offset(), error.kind().clone())),
        );
    };
    for chunk in chunks {
        decoder.push(chunk.into());
        while let Some(step) = decoder.next_event() {
            take(step);
        }
    }
    while let Some(step) = decoder.finish() {
        take(step);
    }
    out
}

#[test]
fn every_cut_gives_the_same() {
    let input = "\n \t\r\n{\"type\":\"é\"}\r\n{\"type\":\"b\",\r\"data\":1}\nnonsense\n{\"type\":\"looooooooooooooooooooooooooong\"}\n{\"type\":\"c\"}";
    let whole = decode(32, [input.as_bytes().to_vec()]);
    assert_eq!(whole.len(), 5);
    assert_eq!(whole[0], Ok("{\"type\":\"é\"}\n".into()));
    assert_eq!(whole[1], Ok(b"{\"type\":\"b\", \"data\":1}\n".to_vec()));
    let start = input.find("nonsense").unwrap() as u64;
    assert_eq!(whole[2], Err((start, DecodeErrorKind::NotAnObject)));
    assert_eq!(whole[3], Err((start + 9 + 32, DecodeErrorKind::TooLarge { limit: 32 })));
    assert_eq!(whole[4], Ok(b"{\"type\":\"c\"}\n".to_vec()));
    for cut in 0..=input.len() {
        let (left, right) = input.as_bytes().split_at(cut);
        assert_eq!(decode(32, [left.to_vec(), right.to_vec()]), whole, "cut at {cut}");
    }
    assert_eq!(decode(32, input.as_bytes().iter().map(|&byte| [byte].to_vec())), whole);
}

#[test]
fn an_unfinished_last_line_is_truncated() {
    let cut = decode(100, [b"{\"type\":\"a\"}\n{\"type\":\"b\",".to_vec()]);
    assert_eq!(cut[1], Err((25, DecodeErrorKind::Truncated)));
    assert_eq!(decode(100, [b"  ".to_vec()]), []);
}

#[test]
fn chunks_can_be_pushed_ahead() {
    let mut decoder = Decoder::new();
    for chunk in ["{\"type\":\"a\"}\n{\"ty", "pe\":\"b\"}", "\n"] {
        decoder.push(Bytes::from_static(chunk.as_bytes()));
    }
    let kinds: Vec<String> = core::iter::from_fn(|| decoder.next_event())
        .map(|event| event.unwrap().kind().into())
        .collect();
    assert_eq!(kinds, ["a", "b"]);
}

#[test]
fn small_events_share_small_chunks_only() {
    let line = "{\"type\":\"a\"}\n";
    let small = Bytes::from(line.repeat(10));
    let mut decoder = Decoder::new();
    decoder.push(small.clone());
    let shared = decoder.next_event().unwrap().unwrap();
    assert_eq!(shared.as_line().as_ptr(), small.as_ptr());

    let large = Bytes::from(line.repeat(10_000));
    let mut decoder = Decoder::new();
    decoder.push(large.clone());
    let events: Vec<Event> =
        core::iter::from_fn(|| decoder.next_event()).map(Result::unwrap).collect();
    assert_eq!(events.len(), 10_000);
    let range = large.as_ptr_range();
    assert!(events.iter().all(|event| !range.contains(&event.as_line().as_ptr())));
    drop(decoder);
    assert!(large.is_unique());

    let big =
        Bytes::from(format!("{{\"type\":\"a\",\"data\":\"{}\"}}\n{line}", "x".repeat(100_000)));
    let mut decoder = Decoder::new();
    decoder.push(big.clone());
    assert_eq!(decoder.next_event().unwrap().unwrap().as_line().as_ptr(), big.as_ptr());
    assert!(
        !big.as_ptr_range().contains(&decoder.next_event().unwrap().unwrap().as_line().as_ptr())
    );
}
