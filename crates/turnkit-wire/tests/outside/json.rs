use bytes::Bytes;
use serde::Deserialize;
use turnkit_wire::{Event, ndjson, sse};

use crate::{bytes, cases, cuts};

#[derive(Deserialize)]
struct Case {
    name: String,
    input_base64: String,
    expect: Expect,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Accept,
    Reject,
    Either,
}

/// The case's value as the data of an event.
fn wrapped(value: &[u8]) -> Vec<u8> {
    [br#"{"type":"t","data":"#, value, b"}"].concat()
}

fn without_breaks(json: &[u8]) -> Vec<u8> {
    json.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect()
}

#[test]
fn every_value_is_judged_as_expected() {
    for case in cases::<Case>("json-cases.json") {
        let value = bytes(&case.input_base64);
        let json = wrapped(&value);
        let whole = Event::from_json(&json);
        let parts = Event::from_parts("t", &value);
        let shared = Event::from_bytes(Bytes::from(json.clone()));
        assert_eq!(whole.is_ok(), parts.is_ok(), "{}", case.name);
        assert_eq!(whole.is_ok(), shared.is_ok(), "{}", case.name);
        if case.expect != Expect::Either {
            assert_eq!(whole.is_ok(), case.expect == Expect::Accept, "{}: {whole:?}", case.name);
        }
        let Ok(event) = whole else { continue };
        assert_eq!(event.as_json().as_bytes(), without_breaks(&json), "{}", case.name);
        assert_eq!(
            (event.kind(), event.data_json().map(str::trim_ascii)),
            ("t", Some(trimmed(&value).as_str())),
            "{}",
            case.name
        );
        assert_eq!(event, shared.unwrap());
    }
}

/// Lone surrogates, numbers beyond every range: RFC 8259 lets them stand, and forwarding must not lose them. Bytes that are
/// not UTF-8, and a byte order mark, it does not.
#[test]
fn what_the_suite_leaves_open_is_decided_by_the_grammar() {
    for case in cases::<Case>("json-cases.json").iter().filter(|case| case.expect == Expect::Either)
    {
        let value = bytes(&case.input_base64);
        let utf8 = core::str::from_utf8(&value)
            .is_ok_and(|text| !text.starts_with('\u{feff}') && !text.contains('\0'));
        assert_eq!(Event::from_parts("t", &value).is_ok(), utf8, "{}", case.name);
    }
}

#[test]
fn every_line_decodes_the_same_at_every_cut() {
    for case in cases::<Case>("json-cases.json") {
        let mut line = without_breaks(&wrapped(&bytes(&case.input_base64)));
        let whole = Event::from_json(&line);
        line.push(b'\n');
        for chunks in cuts(&line) {
            let mut decoder = ndjson::Decoder::new();
            let mut got = Vec::new();
            for chunk in chunks {
                decoder.push(chunk.into());
                got.extend(core::iter::from_fn(|| decoder.next_event()));
            }
            assert_eq!(got, std::slice::from_ref(&whole), "{}", case.name);
            assert!(decoder.finish().is_none());
        }
    }
}

#[test]
fn every_accepted_event_survives_a_hop_over_sse_at_every_cut() {
    for case in cases::<Case>("json-cases.json") {
        let Ok(event) = Event::from_parts("t", &bytes(&case.input_base64)) else {
            continue;
        };
        let mut stream = bytes::BytesMut::new();
        sse::write_event(&mut stream, Some("7"), &event).unwrap();
        for chunks in cuts(&stream) {
            let mut decoder = sse::Decoder::new();
            let mut got = Vec::new();
            for chunk in chunks {
                decoder.push(chunk.into());
                got.extend(core::iter::from_fn(|| decoder.next_event()));
            }
            assert_eq!(got, [Ok(event.clone())], "{}", case.name);
            assert_eq!(decoder.last_event_id(), "7");
        }
    }
}

fn trimmed(value: &[u8]) -> String {
    String::from_utf8(without_breaks(value)).unwrap().trim_ascii().to_owned()
}
