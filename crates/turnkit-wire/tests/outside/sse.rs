use serde::Deserialize;
use turnkit_wire::sse::{Parser, TooLarge};

use crate::{bytes, cases, cuts};

#[derive(Deserialize)]
struct Case {
    name: String,
    input_base64: String,
    chunks_base64: Option<Vec<String>>,
    expected: Vec<Dispatched>,
    final_last_event_id: String,
    final_retry: Option<u64>,
    retry_updates: Vec<u64>,
    limit: Option<Limit>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Dispatched {
    event: String,
    data: String,
    id_after: String,
    retry: Option<u64>,
}

#[derive(Deserialize)]
struct Limit {
    bytes: usize,
    expect: Expect,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Ok,
    Error,
}

#[derive(Debug, PartialEq)]
struct Outcome {
    dispatched: Vec<Dispatched>,
    last_event_id: String,
    retry: Option<u64>,
}

/// Feeds line by line at most, so that the reconnection time seen at a dispatch is the one in force.
fn parse(mut parser: Parser, chunks: &[Vec<u8>]) -> Result<Outcome, TooLarge> {
    let mut dispatched = Vec::new();
    for chunk in chunks {
        for piece in chunk.split_inclusive(|&byte| matches!(byte, b'\n' | b'\r')) {
            let mut frames = Vec::new();
            parser.feed(piece, |frame| {
                let data = String::from_utf8(frame.data().to_vec()).unwrap();
                frames.push((frame.event().to_owned(), data, frame.id().to_owned()));
            })?;
            let retry = parser.retry_ms();
            dispatched.extend(frames.into_iter().map(|(event, data, id_after)| Dispatched {
                event,
                data,
                id_after,
                retry,
            }));
        }
    }
    Ok(Outcome {
        dispatched,
        last_event_id: parser.last_event_id().into(),
        retry: parser.retry_ms(),
    })
}

/// Feeds the chunks as they are, where the frames are looked at without the reconnection time.
fn parse_whole_chunks(
    mut parser: Parser,
    chunks: &[Vec<u8>],
) -> Result<Vec<(String, String, String)>, TooLarge> {
    let mut frames = Vec::new();
    for chunk in chunks {
        parser.feed(chunk, |frame| {
            let data = String::from_utf8(frame.data().to_vec()).unwrap();
            frames.push((frame.event().to_owned(), data, frame.id().to_owned()));
        })?;
    }
    Ok(frames)
}

fn all_cuts(case: &Case) -> Vec<Vec<Vec<u8>>> {
    let mut all = cuts(&bytes(&case.input_base64));
    all.extend(
        case.chunks_base64.iter().map(|chunks| chunks.iter().map(|chunk| bytes(chunk)).collect()),
    );
    all
}

#[test]
fn every_stream_parses_as_expected_at_every_cut() {
    let mut run = 0;
    for case in cases::<Case>("sse-cases.json").iter().filter(|case| case.limit.is_none()) {
        for chunks in all_cuts(case) {
            let outcome = parse(Parser::new(), &chunks).unwrap();
            assert_eq!(outcome.dispatched, case.expected, "{}: {chunks:?}", case.name);
            assert_eq!(outcome.last_event_id, case.final_last_event_id, "{}", case.name);
            assert_eq!(outcome.retry, case.final_retry, "{}", case.name);
            let frames = parse_whole_chunks(Parser::new(), &chunks).unwrap();
            let expected = case
                .expected
                .iter()
                .map(|frame| (frame.event.clone(), frame.data.clone(), frame.id_after.clone()));
            assert!(frames.into_iter().eq(expected), "{}: {chunks:?}", case.name);
        }
        run += 1;
    }
    println!("{run} streams");
}

#[test]
fn reconnection_times_follow_each_other_as_expected() {
    for case in cases::<Case>("sse-cases.json").iter().filter(|case| case.limit.is_none()) {
        let mut parser = Parser::new();
        let mut seen = Vec::new();
        for byte in bytes(&case.input_base64) {
            let before = parser.retry_ms();
            parser.feed(&[byte], |_| {}).unwrap();
            seen.extend(parser.retry_ms().filter(|now| before != Some(*now)));
        }
        let mut expected = case.retry_updates.clone();
        expected.dedup();
        assert_eq!(seen, expected, "{}", case.name);
    }
}

#[test]
fn limits_trip_exactly_where_expected() {
    for case in cases::<Case>("sse-cases.json") {
        let Some(limit) = &case.limit else { continue };
        for chunks in all_cuts(&case) {
            let parsed = parse_whole_chunks(Parser::with_max_event(limit.bytes), &chunks);
            assert_eq!(parsed.is_ok(), limit.expect == Expect::Ok, "{}: {chunks:?}", case.name);
            if let Ok(frames) = parsed {
                assert_eq!(frames.len(), case.expected.len(), "{}", case.name);
            }
        }
    }
}
