use std::{format, string::String};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::view;

/// An event is worth what its line says: read anew it is the same, and its data is what was meant.
#[track_caller]
fn assert_data(event: &Event, expected: &Value) {
    let read = Event::from_json(event.as_line()).unwrap();
    assert_eq!((&read, read.data_json()), (event, event.data_json()));
    assert_eq!(&event.data::<Value>().unwrap(), expected);
}

#[test]
fn every_part_has_the_shape_of_the_protocol() {
    let part = Part::new("p").session("s").message("m");
    let with = |members: Value| {
        let mut part = json!({ "id": "p", "sessionID": "s", "messageID": "m" });
        part.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({ "part": part })
    };
    let file = with(json!({ "type": "file", "url": "u", "mediaType": "image/png" }));
    assert_data(&part.file("u", "image/png", None), &file);
    let named = part.file("u", "image/png", Some("a.png"));
    assert_eq!(named.data::<Value>().unwrap()["part"]["filename"], "a.png");
    assert_data(
        &part.source("u", Some("t")),
        &with(json!({ "type": "source", "url": "u", "title": "t" })),
    );
    let data = Json::of(&json!({ "eur": [1] })).unwrap();
    let expected = with(json!({ "type": "data", "name": "price", "data": { "eur": [1] } }));
    assert_data(&part.data("price", &data), &expected);
    assert_data(&part.reasoning("r"), &with(json!({ "type": "reasoning", "text": "r" })));
}

#[test]
fn a_tool_call_tells_what_is_known_of_it() {
    let part = Part::new("p");
    let pending = ToolCall::new("bash", ToolStatus::Pending).call_id("c");
    let tool = |state: Value| json!({ "id": "p", "type": "tool", "tool": "bash", "callID": "c", "state": state });
    let first = tool(json!({ "status": "pending" }));
    assert_data(
        &part.tool_delta(&pending, "{\"a\":"),
        &json!({ "part": first, "delta": "{\"a\":" }),
    );
    let (input, output) = (Json::verify(" {\"a\":\r\n1E5} ").unwrap(), Json::of("out").unwrap());
    let completed = ToolCall { status: ToolStatus::Completed, ..pending }
        .input(&input)
        .raw("{\"a\":\r\n1E5}")
        .output(&output)
        .title("A");
    let event = part.tool(&completed);
    assert!(event.as_json().contains(r#""input":{"a":  1E5},"raw":"#), "{}", event.as_json());
    let state = json!({ "status": "completed", "input": { "a": 1e5 }, "raw": "{\"a\":\r\n1E5}", "output": "out", "title": "A" });
    assert_data(&event, &json!({ "part": tool(state) }));
    let failed = part.tool(&ToolCall { status: ToolStatus::Error, ..pending }.error("no"));
    assert_data(&failed, &json!({ "part": tool(json!({ "status": "error", "error": "no" })) }));
}

#[test]
fn json_of_others_is_held_to_what_an_event_may_hold() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deepest = nested(1020);
    let json = Json::verify(&deepest).unwrap();
    let call = ToolCall::new("t", ToolStatus::Running).input(&json);
    let event = Part::new("p").tool(&call);
    assert!(Event::from_json(event.as_line()).is_ok(), "no deeper than a reader takes");
    let error = Json::verify(&nested(1021)).unwrap_err();
    assert_eq!(error.offset(), 1020);
    for wrong in ["", "1],[1", "{\"a\":1}}", "nul", "\"\n\""] {
        assert!(Json::verify(wrong).is_err(), "{wrong}");
    }
    let flat = format!("[{}[]]", "[],".repeat(2_000));
    assert_eq!(Json::verify(&flat).unwrap().as_str(), flat, "many brackets are no depth");
}

#[test]
fn a_result_reads_as_it_was_written() {
    let usage = TokenUsage::new(7, u64::MAX).reasoning(1).cached_input(4);
    let cost = Json::of(&0.25).unwrap();
    let result = TurnResult::new()
        .agent_session_id("a")
        .cost_usd(&cost)
        .final_text("a \"b\"\n")
        .finish_reason(FinishReason::ToolCalls)
        .model("m")
        .session_id("s")
        .trace_id("t")
        .token_usage(usage)
        .total_ms(9)
        .first_token_ms(2)
        .event();
    assert_data(
        &result,
        &json!({
            "finalText": "a \"b\"\n", "finishReason": "tool-calls", "model": "m",
            "metadata": { "sessionId": "s", "traceId": "t", "agentSessionId": "a", "costUsd": 0.25 },
            "tokenUsage": { "inputTokens": 7, "outputTokens": u64::MAX, "reasoningTokens": 1, "cachedInputTokens": 4 },
            "timing": { "totalMs": 9, "firstTokenMs": 2 },
        }),
    );
    let read = view::TurnResult::of(&result).unwrap();
    assert_eq!(read.final_text().unwrap().to_str(), "a \"b\"\n");
    assert_eq!(read.finish_reason(), Some(FinishReason::ToolCalls));
    assert_eq!(read.model().unwrap().to_str(), "m");
    assert_eq!(read.session_id().unwrap().to_str(), "s");
    assert_eq!(read.trace_id().unwrap().to_str(), "t");
    assert_eq!((read.input_tokens(), read.output_tokens()), (Some(7), Some(u64::MAX)));
    assert_eq!((read.reasoning_tokens(), read.cached_input_tokens()), (Some(1), Some(4)));
    assert_eq!((read.total_ms(), read.first_token_ms()), (Some(9), Some(2)));
    assert_data(&TurnResult::new().event(), &json!({}));
}

#[test]
fn warnings_and_errors_have_a_message_and_perhaps_a_code() {
    assert_data(&warning("slow", None), &json!({ "message": "slow" }));
    assert_data(&warning("slow", Some("c")), &json!({ "code": "c", "message": "slow" }));
    let slow = warning("slow", Some("c"));
    let read = view::Warning::of(&slow).unwrap();
    assert_eq!(read.message().unwrap().to_str(), "slow");
    assert_eq!(read.code().unwrap().to_str(), "c");
    let failure = error("no", Some("c"));
    let read = view::Failure::of(&failure).unwrap();
    assert_eq!(read.message().unwrap().to_str(), "no");
    assert_eq!(read.code().unwrap().to_str(), "c");
}

proptest! {
    #[test]
    fn any_text_is_read_as_it_was_written(id in any::<String>(), text in any::<String>()) {
        let part = Part::new(&id).message(&text);
        for (event, delta) in [(part.text_delta(&text), true), (part.text(&text), false)] {
            prop_assert_eq!(&Event::from_json(event.as_line()).unwrap(), &event);
            let update = view::PartUpdate::of(&event).unwrap();
            prop_assert!(update.is_text());
            prop_assert_eq!(update.part_id().unwrap().to_str(), &*id);
            prop_assert_eq!(update.message_id().unwrap().to_str(), &*text);
            let (told, not) = if delta { (update.delta(), update.text()) } else { (update.text(), update.delta()) };
            prop_assert_eq!(told.unwrap().to_str(), &*text);
            prop_assert!(not.is_none());
        }
    }
}
