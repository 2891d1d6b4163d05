use super::*;
use crate::Event;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

fn decode(stream: &[u8]) -> Vec<Result<Event, DecodeError>> {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::copy_from_slice(stream));
    core::iter::from_fn(|| decoder.next_event()).collect()
}

fn written(event: &Event, id: Option<&str>) -> BytesMut {
    let mut out = BytesMut::new();
    write_event(&mut out, id, event).unwrap();
    out
}

#[test]
fn canonical_events_become_named_frames() {
    let event = Event::new("t", &1).unwrap();
    assert_eq!(written(&event, Some("1-2")), "id: 1-2\nevent: t\ndata: 1\n\n");
    let message = Event::new("message", &1).unwrap();
    assert_eq!(written(&message, None), "data: {\"type\":\"message\",\"data\":1}\n\n");
}

#[test]
fn every_event_survives_the_hop() {
    for json in [
        r#"{"type":"t","data":{"a":1}}"#,
        r#"{"type":"t"}"#,
        r#"{"type":"t","data":1 }"#,
        r#" {"type":"t","data":1}"#,
        r#"{"type":"t","data":1} "#,
        r#"{"data":1,"type":"t"}"#,
        r#"{"type":"\u0074","data":1}"#,
        r#"{"type":"message","data":1}"#,
        r#"{"type":" t","data":1}"#,
        r#"{"type":"t","data":1,"x":2}"#,
        r#"{"\u0074ype":"t","data":1}"#,
        r#"{"type":"t", "data":1}"#,
    ] {
        let event = Event::from_json(json.as_bytes()).unwrap();
        let back = decode(&written(&event, None));
        assert_eq!(back, [Ok(event)], "{json}");
    }
}

#[test]
fn a_type_too_long_for_a_name_survives_the_hop_too() {
    let longest = Parser::MAX_ID - b"event: ".len();
    for (length, start) in [(longest, "event: tttt"), (longest + 1, "data: {\"type\":\"tttt")] {
        let event = Event::new(&"t".repeat(length), &1).unwrap();
        let frame = written(&event, None);
        assert!(frame.starts_with(start.as_bytes()), "{length}");
        assert_eq!(decode(&frame), [Ok(event)], "{length}");
    }
}

#[test]
fn frames_that_are_no_events_are_errors_and_decoding_goes_on() {
    let stream = b"data: nonsense\n\nevent: t\ndata: {\n\ndata: {\"type\":\"a\"}\n\ndata: \"\xff\"\n\ndata: {\"data\":1}\n\n";
    let got = decode(stream);
    let errors: Vec<_> = got
        .iter()
        .filter_map(|step| step.as_ref().err())
        .map(|e| (e.offset(), e.kind().clone()))
        .collect();
    assert_eq!(
        errors,
        [
            (6, DecodeErrorKind::NotAnObject),
            (32, DecodeErrorKind::Truncated),
            (60, DecodeErrorKind::NotUtf8),
            (81, DecodeErrorKind::MissingType),
        ]
    );
    assert_eq!(got[2].as_ref().unwrap().kind(), "a");
}

#[test]
fn joined_data_is_one_line_again() {
    let got = decode(b"data: {\"type\":\ndata: \"t\"}\n\nevent: t\ndata: [\ndata: 1]\n\n");
    assert_eq!(got[0].as_ref().unwrap().as_line(), b"{\"type\": \"t\"}\n");
    assert_eq!(got[1].as_ref().unwrap().as_line(), b"{\"type\":\"t\",\"data\":[ 1]}\n");
}

#[test]
fn the_last_event_id_is_that_of_the_event_handed_out() {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::from_static(
        b"id: 1\nevent: a\ndata: 1\n\nid: 2\nevent: b\ndata: 2\n\nid: 3\n\nid: 4\ndata: [DONE]\n\n",
    ));
    assert_eq!(decoder.last_event_id(), "");
    assert_eq!(decoder.next_event().unwrap().unwrap().kind(), "a");
    assert_eq!((decoder.last_event_id(), decoder.cursor()), ("1", "1"));
    assert_eq!(decoder.next_event().unwrap().unwrap().kind(), "b");
    assert_eq!((decoder.last_event_id(), decoder.cursor(), decoder.is_done()), ("2", "2", false));
    assert!(decoder.next_event().is_none());
    assert_eq!((decoder.last_event_id(), decoder.cursor(), decoder.is_done()), ("2", "4", true));
}

#[test]
fn an_event_without_an_id_is_told_from_one_that_has_its_own() {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::from_static(
        b"id: 1\nevent: a\ndata: 1\n\nevent: b\ndata: 2\n\nid: 3\n\nevent: c\ndata: 3\n\nid: 3\nevent: d\ndata: 4\n\n",
    ));
    for (kind, id, own) in [("a", "1", true), ("b", "1", false), ("c", "3", true), ("d", "3", true)]
    {
        assert_eq!(decoder.next_event().unwrap().unwrap().kind(), kind);
        assert_eq!((decoder.last_event_id(), decoder.event_has_id()), (id, own), "{kind}");
    }
}

#[test]
fn a_frame_over_the_bound_ends_the_stream_with_one_error() {
    let mut decoder = Decoder::with_max_event(64);
    decoder.push(Bytes::from(alloc::format!("event: a\ndata: 1\n\ndata: {}", "x".repeat(100))));
    assert!(decoder.next_event().unwrap().is_ok());
    let error = decoder.next_event().unwrap().unwrap_err();
    assert_eq!((error.offset(), error.kind()), (18, &DecodeErrorKind::TooLarge { limit: 64 }));
    decoder.push(Bytes::from_static(b"\n\nevent: b\ndata: 1\n\n"));
    assert!(decoder.next_event().is_none());
}

#[test]
fn ids_and_names_cannot_inject_lines() {
    let mut out = BytesMut::new();
    for bad in ["a\nb", "a\rb", "a\0b"] {
        assert_eq!(write_frame(&mut out, Some(bad), None, b""), Err(InvalidFrame::Event));
        assert_eq!(write_frame(&mut out, None, Some(bad), b""), Err(InvalidFrame::Id));
        assert_eq!(
            write_event(&mut out, Some(bad), &Event::bare("t").unwrap()),
            Err(InvalidFrame::Id)
        );
    }
    assert_eq!(write_frame(&mut out, None, None, b"\xff"), Err(InvalidFrame::Data));
    assert!(out.is_empty());
}

#[test]
fn data_with_line_breaks_is_split() {
    let mut out = BytesMut::new();
    write_frame(&mut out, Some("t"), Some("1"), b"a\nb\r\n\rc\n").unwrap();
    assert_eq!(out, "id: 1\nevent: t\ndata: a\ndata: b\ndata: \ndata: c\ndata: \n\n");
}

#[test]
fn offsets_do_not_depend_on_how_the_stream_is_cut() {
    let stream =
        b"event: a\ndata\n\ndata:\ndata: x\n\nid: 1\r\ndata: \"\xff\"\r\n\r\nevent: b\ndata: 1\n\n";
    let whole = decode(stream);
    assert_eq!(whole.len(), 4);
    for step in 1..stream.len() {
        let mut decoder = Decoder::new();
        let chunks = stream.chunks(step).map(Bytes::copy_from_slice);
        let cut: Vec<_> = chunks
            .flat_map(|chunk| {
                decoder.push(chunk);
                core::iter::from_fn(|| decoder.next_event()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(cut, whole, "in steps of {step}");
    }
}
