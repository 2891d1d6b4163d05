use super::*;
use alloc::{borrow::Cow, format};

fn event(json: &str) -> Event {
    Event::from_json(json.as_bytes()).unwrap()
}

fn str_of(text: Option<Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|text| text.to_str())
}

#[test]
fn a_delta_without_escapes_is_borrowed() {
    let event = event(
        r#"{"type":"message.part.updated","data":{"part":{"id":"prt_1","sessionID":"s","messageID":"m","type":"text","text":"a\nb"},"delta":"ü"}}"#,
    );
    let view = PartUpdate::of(&event).unwrap();
    assert!(matches!(view.delta().unwrap().to_str(), Cow::Borrowed("ü")));
    assert_eq!(str_of(view.part_id()).unwrap(), "prt_1");
    assert_eq!(str_of(view.message_id()).unwrap(), "m");
    assert_eq!(str_of(view.text()).unwrap(), "a\nb");
    assert!(view.is_text());
}

#[test]
fn a_part_is_read_tolerantly() {
    let event = event(
        r#" { "delta" : null , "x":[1,{"part":2}], "p\u0061rt" : { "state" : {"a":["}",{}]}, "typ\u0065":"te\u0078t", "content" : "c\ud800" , "id" : 7 }, "y":-1.5e3 , "type":"message.part.updated"} "#
            .replace("\"delta\"", "\"data\":{\"delta\"").replace(", \"type\":\"message", "},\"type\":\"message").as_str(),
    );
    let view = PartUpdate::of(&event).unwrap();
    assert!(view.delta().is_none());
    assert!(view.is_text());
    assert_eq!(str_of(view.part_id()).unwrap(), "7");
    assert_eq!(str_of(view.text()).unwrap(), "c\u{fffd}");
}

#[test]
fn text_goes_before_content_and_the_last_of_two_counts() {
    let event = event(
        r#"{"type":"message.part.updated","data":{"part":{"content":"c","text":"t","text":"u"},"delta":"a","delta":"b"}}"#,
    );
    let view = PartUpdate::of(&event).unwrap();
    assert_eq!(
        (str_of(view.text()).unwrap(), str_of(view.delta()).unwrap()),
        ("u".into(), "b".into())
    );
}

#[test]
fn of_two_parts_the_last_counts_whole() {
    for last in [r#"{"id":"q"}"#, "null"] {
        let first = r#"{"id":"p","messageID":"m","type":"text","text":"t","content":"c"}"#;
        let data = format!(r#"{{"part":{first},"delta":"d","part":{last}}}"#);
        let event = Event::from_parts("message.part.updated", data.as_bytes()).unwrap();
        let view = PartUpdate::of(&event).unwrap();
        assert_eq!(str_of(view.part_id()).is_some(), last != "null");
        assert!(view.message_id().is_none() && view.part_type().is_none() && view.text().is_none());
        assert_eq!(str_of(view.delta()).unwrap(), "d");
    }
}

#[test]
fn data_of_another_shape_gives_an_empty_view() {
    for data in ["null", "[]", "1", r#""x""#, r#"{"part":[1],"delta":{}}"#, "{}"] {
        let event = Event::from_parts("message.part.updated", data.as_bytes()).unwrap();
        let view = PartUpdate::of(&event).unwrap();
        assert!(
            view.delta().is_none()
                && view.text().is_none()
                && view.part_id().is_none()
                && !view.is_text()
        );
    }
    assert!(PartUpdate::of(&Event::bare("message.part.updated").unwrap()).is_some());
    assert!(PartUpdate::of(&Event::bare("other").unwrap()).is_none());
}

#[test]
fn a_result_takes_numbers_as_strings() {
    let event = event(
        r#"{"type":"result","data":{"finalText":"..","metadata":{"sessionId":"s","traceId":"t"},"tokenUsage":{"inputTokens":"2","outputTokens":3.0},"timing":{"totalMs":9}}}"#,
    );
    let view = TurnResult::of(&event).unwrap();
    assert_eq!(str_of(view.final_text()).unwrap(), "..");
    assert_eq!(str_of(view.session_id()).unwrap(), "s");
    assert_eq!(str_of(view.trace_id()).unwrap(), "t");
    assert_eq!(
        (view.input_tokens(), view.output_tokens(), view.total_ms()),
        (Some(2), Some(3), Some(9))
    );
}

#[test]
fn failures_come_in_many_shapes() {
    for (data, code, message) in [
        (r#"{"code":"c","message":"m"}"#, Some("c"), Some("m")),
        (r#"{"code":429,"error":"m"}"#, Some("429"), Some("m")),
        (r#"{"error":{"code":"c","message":"m"}}"#, Some("c"), Some("m")),
        (
            r#"{"error":{"code":"c","message":"m"},"code":null,"message":null}"#,
            Some("c"),
            Some("m"),
        ),
        (r#"{"error":{"code":"x","message":"y"},"code":"c","message":"m"}"#, Some("c"), Some("m")),
        (r#""m""#, None, Some("m")),
        ("null", None, None),
    ] {
        for kind in
            [kind::ERROR, kind::EXECUTION_FAILED, kind::EXECUTION_CANCELLED, kind::RUN_FAILED]
        {
            let event = Event::from_parts(kind, data.as_bytes()).unwrap();
            let view = Failure::of(&event).unwrap();
            assert_eq!(
                (str_of(view.code()).as_deref(), str_of(view.message()).as_deref()),
                (code, message),
                "{data}"
            );
        }
    }
    let failed = crate::lifecycle::run_failed("s", "m", true, true, None, Some("produce"));
    let view = Failure::of(&failed).unwrap();
    assert_eq!((view.retryable(), view.temporary()), (Some(true), Some(true)));
    assert_eq!((view.retryable(), str_of(view.phase()).as_deref()), (Some(true), Some("produce")));
}

#[test]
fn executions_say_which_one_they_are() {
    let event = event(
        r#"{"type":"execution.started","data":{"executionId":"exec-1","sessionId":"s","timestamp":1}}"#,
    );
    let view = Execution::of(&event).unwrap();
    assert_eq!(
        (str_of(view.id()).as_deref(), str_of(view.session_id()).as_deref(), view.timestamp()),
        (Some("exec-1"), Some("s"), Some(1))
    );
}
