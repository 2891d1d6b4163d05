//! What the codec writes, byte for byte, as snapshots: `cargo xtask codec` runs them and reviews what changed.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use bytes::BytesMut;
use serde_json::json;
use turnkit_wire::{
    DecodeError, Event,
    lifecycle::{self, RunStarted},
    ndjson, sse,
};

/// One of each kind that is spelt differently on its way out.
fn events() -> Vec<Event> {
    let raw = |json: &str| Event::from_json(json.as_bytes()).unwrap();
    vec![
        Event::new(
            "execution.started",
            &json!({"executionId": "exec-1", "sessionId": "s", "timestamp": 1}),
        )
        .unwrap(),
        raw(
            r#"{"type":"message.part.updated","data":{"part":{"id":"prt_1","sessionID":"s","messageID":"m","type":"text","text":"chunk"},"delta":"chunk"}}"#,
        ),
        raw(r#"{"type":"numbers","data":[1E5,-0,1e400,1234567890123456789012345678901234567890]}"#),
        raw(r#"{"type":"escapes","data":"\/\u0041\u0000\ud800 é \n"}"#),
        raw("{\"type\":\"broken\",\n\t\"data\": [\r\n1 ] }"),
        raw(r#"{"id":7,"type":"unknown.members","data":{"a":1,"a":2}}"#),
        raw(r#"{"type":"\u0065scaped","data":1}"#),
        raw(r#"{"type":"message","data":"a name that means no name"}"#),
        Event::bare("heartbeat").unwrap(),
        Event::new("with \"quotes\"\n", &()).unwrap(),
    ]
}

#[test]
fn lifecycle_lines() {
    let started = RunStarted {
        session_id: "thread-abc",
        tenant_id: "tenant",
        turn_index: 3,
        execution_id: "tenant:thread-abc:3",
        turn_id: None,
        replayed: false,
    };
    let lines = [
        started.event(),
        RunStarted { turn_id: Some("t-1"), replayed: true, ..started }.event(),
        lifecycle::run_completed("thread-abc", None, false),
        lifecycle::run_completed("thread-abc", Some("\"Hi\""), false),
        lifecycle::run_completed("thread-abc", None, true),
        lifecycle::error("the \"agent\" is\nbusy\u{1}", None),
        lifecycle::error("no more", Some("quota")),
        lifecycle::run_failed("thread-abc", "no more", false, false, None, None),
        lifecycle::run_failed("thread-abc", "no more", true, false, Some("quota"), Some("produce")),
        lifecycle::run_failed("thread-abc", "busy", false, true, Some("busy"), Some("produce")),
    ];
    insta::assert_snapshot!(text(lines.iter().flat_map(Event::as_line)));
}

#[test]
fn ndjson_lines() {
    insta::assert_snapshot!(text(events().iter().flat_map(Event::as_line)));
}

#[test]
fn sse_frames() {
    let mut out = BytesMut::new();
    for (number, event) in events().iter().enumerate() {
        sse::write_event(&mut out, Some(&format!("1767225600000-{}", number + 1)), event).unwrap();
    }
    insta::assert_snapshot!(text(&out));
}

#[test]
fn raw_frames() {
    let mut out = BytesMut::new();
    sse::write_frame(&mut out, None, None, b"").unwrap();
    sse::write_frame(&mut out, Some("name"), Some(""), b" two\nlines\r\n").unwrap();
    sse::write_frame(&mut out, Some(""), Some("1"), b"[DONE]").unwrap();
    insta::assert_snapshot!(text(&out));
}

/// What is said about input that is no event.
#[test]
fn messages_of_errors() {
    let stream = [
        "",
        "[1]",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":""}"#,
        r#"{"type":"a","type":"b"}"#,
        r#"{"type":"a","data":1,"data":2}"#,
        r#"{"type":"a"} {}"#,
        r#"{"type":"a",}"#,
        r#"{"type":"a" "b":1}"#,
        r#"{"type" "a"}"#,
        r#"{"type":"a","b":[1 2]}"#,
        r#"{"type":"a","b":?}"#,
        "{\"type\":\"a\tb\"}",
        r#"{"type":"\q"}"#,
        r#"{"type":"a","b":.5}"#,
        r#"{"type":"a","b":1.}"#,
        r#"{"type":"a","b":nil}"#,
        r#"{"type":"a""#,
        r#"{"type":"a line over the limit","data":"of sixty-four bytes, for one"}"#,
    ];
    let mut decoder = ndjson::Decoder::with_max_line(64);
    decoder.push(stream.join("\n").into());
    decoder.push("\n\u{0}\n{\"type\":\"\u{7f}".into());
    decoder.push(vec![0xff, b'"', b'}', b'\n', b'{'].into());
    let mut said: Vec<DecodeError> =
        core::iter::from_fn(|| decoder.next_event()).map(Result::unwrap_err).collect();
    said.extend(core::iter::from_fn(|| decoder.finish()).map(Result::unwrap_err));
    let lines: Vec<String> = said.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

fn text<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> String {
    String::from_utf8(bytes.into_iter().copied().collect()).unwrap()
}
