//! One event: no panic; what is accepted keeps its bytes, and another parser takes it for one object with that type and data.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use turnkit_wire::{
    Event, sse,
    view::{Execution, Failure, PartUpdate, TurnResult},
};

fuzz_target!(|json: &[u8]| {
    let event = Event::from_json(json);
    assert_eq!(event, Event::from_bytes(Bytes::copy_from_slice(json)));
    if let Ok(event) = event {
        keeps_its_bytes(&event, json);
        is_json(&event);
        can_be_viewed(&event);
        survives_a_hop(&event);
    }
    let (kind, data) = json.split_at(json.len().min(3));
    if let Ok(event) = Event::from_parts(&String::from_utf8_lossy(kind), data) {
        assert_eq!(event.kind(), String::from_utf8_lossy(kind));
        assert_eq!(Event::from_json(event.as_line()), Ok(event.clone()));
        is_json(&event);
        survives_a_hop(&event);
    }
});

/// Line breaks between tokens become spaces; one at the end is the line's own.
fn keeps_its_bytes(event: &Event, json: &[u8]) {
    let object = json.strip_suffix(b"\n").map_or(json, |json| json.strip_suffix(b"\r").unwrap_or(json));
    let expected = object.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
    assert!(event.as_json().bytes().eq(expected));
    assert_eq!(event.as_line().iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(event.as_line().last(), Some(&b'\n'));
}

/// `serde_json` refuses lone surrogates in strings that it decodes, so a `RawValue` has to do: it only checks the grammar.
fn is_json(event: &Event) {
    let raw: &RawValue = serde_json::from_str(event.as_json()).unwrap();
    assert_eq!(raw.get(), event.as_json().trim_ascii());
    if let Some(data) = event.data_json() {
        assert!(serde_json::from_str::<&RawValue>(data).is_ok());
    }
    assert!(!event.kind().is_empty());
}

fn can_be_viewed(event: &Event) {
    let data = event.data_json().unwrap_or("null");
    for kind in ["message.part.updated", "result", "error", "execution.started"] {
        let event = Event::from_parts(kind, data.as_bytes()).unwrap();
        let part = PartUpdate::of(&event).map(|view| (view.delta(), view.text(), view.part_id(), view.message_id()));
        for text in part.iter().flat_map(|part| [part.0, part.1, part.2, part.3]).flatten() {
            let _ = text.to_str();
        }
        let _ = (TurnResult::of(&event), Failure::of(&event), Execution::of(&event));
    }
}

fn survives_a_hop(event: &Event) {
    let mut out = BytesMut::new();
    sse::write_event(&mut out, Some("1"), event).unwrap();
    let mut decoder = sse::Decoder::with_max_event(out.len());
    decoder.push(out.freeze());
    assert_eq!(decoder.next_event(), Some(Ok(event.clone())));
    assert!(decoder.next_event().is_none());
}
