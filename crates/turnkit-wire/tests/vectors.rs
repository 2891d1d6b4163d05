//! The tables of PROTOCOL 1.1 to 1.3, shared with implementations in other languages: `tests/vectors/`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use bytes::Bytes;
use serde_json::Value;
use turnkit_wire::{DecodeError, Event, ndjson, sse};

type Decoded = Option<Result<Event, DecodeError>>;

#[test]
fn every_event_reads_as_written() {
    for case in cases(include_str!("../../../tests/vectors/event.json")) {
        let json = text(&case, "json").unwrap();
        match (Event::from_json(json.as_bytes()), text(&case, "error")) {
            (Ok(event), None) => {
                assert_eq!(event.as_json(), text(&case, "line").unwrap_or(json), "{case}");
                assert_eq!(Some(event.kind()), text(&case, "kind"), "{case}");
                assert_eq!(event.data_json(), text(&case, "data"), "{case}");
            }
            (Err(error), Some(kind)) => assert_names(&error, kind, &case),
            (read, _) => panic!("{case}: {read:?}"),
        }
    }
}

#[test]
fn every_ndjson_stream_decodes_as_written_at_every_cut() {
    for case in cases(include_str!("../../../tests/vectors/ndjson.json")) {
        let input = text(&case, "input").unwrap().as_bytes();
        for cut in 0..=input.len() {
            let mut decoder = match case["maxLine"].as_u64() {
                Some(limit) => ndjson::Decoder::with_max_line(usize::try_from(limit).unwrap()),
                None => ndjson::Decoder::new(),
            };
            let mut got = Vec::new();
            for chunk in [&input[..cut], &input[cut..]] {
                decoder.push(Bytes::copy_from_slice(chunk));
                drain(&mut got, || decoder.next_event());
            }
            got.extend(decoder.finish());
            check(&case, &got);
        }
    }
}

#[test]
fn every_sse_stream_decodes_as_written_at_every_cut() {
    for case in cases(include_str!("../../../tests/vectors/sse.json")) {
        let stream = text(&case, "stream").unwrap().as_bytes();
        for cut in 0..=stream.len() {
            let mut decoder = sse::Decoder::new();
            let mut got = Vec::new();
            for chunk in [&stream[..cut], &stream[cut..]] {
                decoder.push(Bytes::copy_from_slice(chunk));
                drain(&mut got, || decoder.next_event());
            }
            check(&case, &got);
            assert_eq!(decoder.last_event_id(), text(&case, "lastEventId").unwrap_or(""), "{case}");
        }
    }
}

fn cases(json: &str) -> Vec<Value> {
    let cases: Vec<Value> = serde_json::from_str(json).unwrap();
    assert!(!cases.is_empty());
    cases
}

fn text<'a>(case: &'a Value, member: &str) -> Option<&'a str> {
    case[member].as_str()
}

fn drain(got: &mut Vec<Result<Event, DecodeError>>, next: impl FnMut() -> Decoded) {
    got.extend(std::iter::from_fn(next));
}

fn assert_names(error: &DecodeError, kind: &str, case: &Value) {
    assert!(format!("{:?}", error.kind()).starts_with(kind), "{case}: {error:?}");
}

fn check(case: &Value, got: &[Result<Event, DecodeError>]) {
    let expected = case["got"].as_array().unwrap();
    assert_eq!(got.len(), expected.len(), "{case}: {got:?}");
    for (got, expected) in got.iter().zip(expected) {
        match (got, expected.as_str().unwrap().strip_prefix('!')) {
            (Ok(event), None) => assert_eq!(event.as_json(), expected.as_str().unwrap(), "{case}"),
            (Err(error), Some(kind)) => assert_names(error, kind, case),
            _ => panic!("{case}: {got:?}"),
        }
    }
}
