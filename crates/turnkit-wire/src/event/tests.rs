use super::*;
use crate::error::DecodeErrorKind as K;
use alloc::{format, string::ToString};

fn kind_of(json: &[u8]) -> K {
    Event::from_json(json).unwrap_err().kind().clone()
}

#[test]
fn an_event_keeps_its_bytes() {
    let json = r#" {"z":[1E5,-0,1234567890123456789012345678901234567890], "data" : {"a":"\/\u0041\u0000\ud800","a":2} ,"type":"t" } "#;
    let event = Event::from_json(json.as_bytes()).unwrap();
    assert_eq!(event.as_json(), json);
    assert_eq!(event.as_line(), format!("{json}\n").as_bytes());
    assert_eq!(event.data_json(), Some(r#"{"a":"\/\u0041\u0000\ud800","a":2}"#));
    assert_eq!(event.kind(), "t");
}

#[test]
fn line_breaks_between_tokens_become_spaces() {
    let event = Event::from_json(b"{\r\n\"type\"\n:\"t\"\r,\"data\":[\n]}").unwrap();
    assert_eq!(event.as_json(), "{  \"type\" :\"t\" ,\"data\":[ ]}");
    let parts = Event::from_parts("t", b"[\r\n1]").unwrap();
    assert_eq!(parts.as_json(), "{\"type\":\"t\",\"data\":[  1]}");
}

#[test]
fn the_line_end_of_the_input_is_the_lines_own() {
    for json in ["{\"type\":\"t\"}", "{\"type\":\"t\"}\n", "{\"type\":\"t\"}\r\n"] {
        assert_eq!(Event::from_json(json.as_bytes()).unwrap().as_json(), "{\"type\":\"t\"}");
        assert_eq!(
            Event::from_bytes(Bytes::copy_from_slice(json.as_bytes())).unwrap().as_json(),
            "{\"type\":\"t\"}"
        );
    }
}

#[test]
fn keys_count_as_what_they_spell() {
    let event = Event::from_json(br#"{"\u0074ype":"\u0061b","d\u0061ta":1}"#).unwrap();
    assert_eq!((event.kind(), event.data_json()), ("ab", Some("1")));
    assert_eq!(kind_of(br#"{"type":"a","\u0074ype":"b"}"#), K::DuplicateMember("type"));
    assert_eq!(kind_of(br#"{"type":"a","data":1,"dat\u0061":1}"#), K::DuplicateMember("data"));
}

#[test]
fn what_is_wrong_is_said_with_its_offset() {
    let cases: [(&[u8], u64, K); 12] = [
        (b"", 0, K::Truncated),
        (b"[]", 0, K::NotAnObject),
        (b"{}", 2, K::MissingType),
        (br#"{"type":1}"#, 8, K::TypeNotAString),
        (br#"{"type":""}"#, 8, K::EmptyType),
        (br#"{"type":"a"} x"#, 13, K::TrailingBytes),
        (
            br#"{"type":"a","b":01}"#,
            17,
            K::Unexpected { found: b'1', expected: crate::Expected::CommaOrBrace },
        ),
        (b"{\"type\":\"a\x01\"}", 10, K::ControlCharacter(1)),
        (br#"{"type":"a\x"}"#, 10, K::InvalidEscape),
        (b"{\"type\":\"a\xff\"}", 10, K::NotUtf8),
        (br#"{"type":"a","b":-}"#, 17, K::InvalidNumber),
        (br#"{"type":"a","b":nul}"#, 19, K::InvalidLiteral),
    ];
    for (json, offset, kind) in cases {
        let error = Event::from_json(json).unwrap_err();
        assert_eq!((error.offset(), error.kind()), (offset, &kind), "{}", json.escape_ascii());
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        format!(r#"{{"type":"t","data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert!(Event::from_json(nested(1023).as_bytes()).is_ok());
    assert_eq!(kind_of(nested(1024).as_bytes()), K::TooDeep { limit: 1024 });
    let mixed = |depth: usize| format!("{}1{}", r#"[{"a":"#.repeat(depth), "}]".repeat(depth));
    assert!(Event::from_parts("t", mixed(511).as_bytes()).is_ok());
    assert!(Event::from_parts("t", mixed(512).as_bytes()).is_err());
    assert!(Event::from_parts("t", mixed(100).replace("}]}]", "]}}]").as_bytes()).is_err());
}

#[test]
fn space_around_the_data_is_not_the_data_however_the_event_was_made() {
    let parts = Event::from_parts("k", b" [1]\r\n").unwrap();
    assert_eq!(parts.as_json(), r#"{"type":"k","data": [1]  }"#);
    let parsed = Event::from_json(parts.as_json().as_bytes()).unwrap();
    for event in [parts, parsed] {
        assert_eq!(event.data_json(), Some("[1]"));
        let mut stream = BytesMut::new();
        crate::sse::write_event(&mut stream, None, &event).unwrap();
        assert!(stream.starts_with(b"data: {"), "not canonical, so an unnamed frame");
    }
    let mut decoder = crate::sse::Decoder::new();
    decoder.push(Bytes::from_static(b"event: k\ndata:  [1] \n\n"));
    assert_eq!(decoder.next_event().unwrap().unwrap().data_json(), Some("[1]"));
}

#[test]
fn size_is_bounded() {
    let json = format!(r#"{{"type":"t","data":"{}"}}"#, "a".repeat(Event::MAX_BYTES - 22));
    assert_eq!(json.len(), Event::MAX_BYTES);
    assert!(Event::from_json(json.as_bytes()).is_ok());
    let over = json.replacen("\"t\"", "\"tt\"", 1);
    assert_eq!(kind_of(over.as_bytes()), K::TooLarge { limit: Event::MAX_BYTES });
    assert!(Event::from_bytes_within(over.into(), 2 * Event::MAX_BYTES).is_ok());
    assert!(Event::from_bytes_within(json.into(), 10).is_err());
}

#[test]
fn from_bytes_keeps_what_it_can() {
    let line = Bytes::from_static(b"{\"type\":\"t\"}\n");
    assert_eq!(Event::from_bytes(line.clone()).unwrap().as_line().as_ptr(), line.as_ptr());
    let event = Event::from_bytes(Bytes::from_static(b"{\"type\":\"t\"}")).unwrap();
    assert_eq!(event.as_line(), line);
    assert_ne!(event.detached().as_line().as_ptr(), event.as_line().as_ptr());
    assert_eq!(event.detached(), event);
}

#[test]
fn kinds_that_need_escapes_are_spelt_and_read_back() {
    let event = Event::from_parts("a\"\n\u{1}é", b"1").unwrap();
    assert_eq!(event.as_json(), "{\"type\":\"a\\\"\\n\\u0001é\",\"data\":1}");
    assert_eq!(event.kind(), "a\"\n\u{1}é");
    assert_eq!(Event::from_json(event.as_line()).unwrap(), event);
    assert_eq!(event.data_json(), Some("1"));
    assert!(event.canonical_parts().is_none());
}

#[test]
fn new_events_are_canonical() {
    let event = Event::new("t", &[1, 2]).unwrap();
    assert_eq!(event.as_line(), b"{\"type\":\"t\",\"data\":[1,2]}\n");
    assert_eq!(event.canonical_parts(), Some((&b"t"[..], &b"[1,2]"[..])));
    assert_eq!(event.data::<[u8; 2]>().unwrap(), [1, 2]);
    assert_eq!(Event::bare("t").unwrap().as_line(), b"{\"type\":\"t\"}\n");
    assert!(matches!(Event::bare("t").unwrap().data::<u8>(), Err(DataError::Missing)));
    assert!(matches!(Event::bare(""), Err(EncodeError::EmptyKind)));
    assert!(matches!(Event::new("", &1), Err(EncodeError::EmptyKind)));
}

#[test]
fn debug_shows_no_content() {
    assert_eq!(
        format!("{:?}", Event::new("t", "secret").unwrap()),
        r#"Event { kind: "t", bytes: 29, .. }"#
    );
    let error = Event::from_json(br#"{"type":"t","secret"}"#).unwrap_err();
    assert_eq!(error.to_string(), "decode an event: found '}' instead of a colon at byte 20");
}
