//! Turns as agents send them, and as no agent should.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails its test")]
#![expect(clippy::needless_pass_by_value, reason = "JSON is written where it is handed over")]

use proptest::{option::of, prelude::*};
use serde_json::{Value, json};
use turnkit_wire::Event;

fn event(kind: &str, data: Value) -> Event {
    Event::new(kind, &data).unwrap()
}

pub(crate) fn started() -> Event {
    event(
        "session.run.started",
        json!({"sessionId": "s", "tenantId": "local", "turnIndex": 0, "executionId": "local:s:0", "turnId": "t"}),
    )
}

pub(crate) fn replayed() -> Event {
    event(
        "session.run.started",
        json!({"sessionId": "s", "executionId": "local:s:0", "replayed": true}),
    )
}

pub(crate) fn completed() -> Event {
    event("session.run.completed", json!({"sessionId": "s"}))
}

pub(crate) fn failed(code: &str) -> Vec<Event> {
    vec![
        event("error", json!({"message": "it failed", "code": code})),
        event(
            "session.run.failed",
            json!({"sessionId": "s", "message": "it failed", "retryable": false, "code": code, "phase": "produce"}),
        ),
    ]
}

pub(crate) fn text(id: &str, delta: &str) -> Event {
    event(
        "message.part.updated",
        json!({"part": {"id": id, "messageID": "m", "type": "text"}, "delta": delta}),
    )
}

pub(crate) fn tool(id: &str, state: Value) -> Event {
    let call = format!("call_{id}");
    event(
        "message.part.updated",
        json!({"part": {"id": id, "messageID": "m", "type": "tool", "tool": "bash", "callID": call, "state": state}}),
    )
}

pub(crate) fn interaction(data: Value) -> Event {
    event("interaction", data)
}

pub(crate) fn answered(data: Value) -> Event {
    event("interaction.answered", data)
}

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-c ]{1,6}",
        1 => Just("\n".to_owned()),
        1 => Just("\n\n".to_owned()),
        1 => Just("“é😀”".to_owned()),
        1 => Just("\"\\\u{1}".to_owned()),
        1 => Just(String::new()),
    ];
    proptest::collection::vec(piece, 0..3).prop_map(|pieces| pieces.concat())
}

fn any_id() -> impl Strategy<Value = String> {
    prop_oneof![8 => "p[1-3]", 1 => Just("p1#2".to_owned()), 1 => Just("final".to_owned()), 1 => Just(String::new())]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(Value::Null),
        Just(json!({"command": "ls \"x\""})),
        Just(json!([1, 2.5, {"a": null}])),
        any_text().prop_map(Value::String),
    ]
}

fn any_text_part() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![3 => Just("text"), 1 => Just("reasoning")];
    let message = prop_oneof![Just("m1"), Just("m2")];
    (any_id(), kind, message, any_text(), 0_u8..4).prop_map(|(id, kind, message, text, shape)| {
        let mut part = json!({"id": id, "messageID": message, "type": kind});
        let mut data = json!({});
        match shape {
            0 => part["text"] = json!(text),
            1 => {
                part["text"] = json!(text);
                data["delta"] = json!(text);
            }
            _ => data["delta"] = json!(text),
        }
        data["part"] = part;
        event("message.part.updated", data)
    })
}

fn any_tool_part() -> impl Strategy<Value = Event> {
    let status = prop_oneof![
        3 => Just("pending"), 3 => Just("running"), 2 => Just("completed"), 1 => Just("error"), 1 => Just("failed"),
    ];
    let state = (status, of(any_value()), of(any_text()), of(any_value()), of(any_text()));
    (1_u8..4, any::<(bool, bool)>(), state, of(any_text())).prop_map(
        |(id, (named, called), state, delta)| {
            let (status, input, raw, output, error) = state;
            let mut part =
                json!({"id": format!("t{id}"), "type": "tool", "state": {"status": status}});
            let mut put = |name: &str, value: Option<Value>| {
                if let Some(value) = value {
                    part["state"][name] = value;
                }
            };
            put("input", input);
            put("raw", raw.map(Value::String));
            put("output", output);
            put("error", error.map(Value::String));
            if named {
                part["tool"] = json!("bash");
            }
            if called {
                part["callID"] = json!(format!("call_{id}"));
            }
            let mut data = json!({"part": part});
            if let Some(delta) = delta {
                data["delta"] = json!(delta);
            }
            event("message.part.updated", data)
        },
    )
}

fn any_other() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![Just("approval"), Just("question"), Just("tool")];
    let outcome = prop_oneof![Just("accepted"), Just("declined"), Just("expired")];
    prop_oneof![
        (any_text(), any::<bool>()).prop_map(|(text, usage)| {
            let mut data = json!({"finalText": text, "finishReason": "length"});
            if usage {
                data["tokenUsage"] =
                    json!({"inputTokens": 2, "outputTokens": 3.5, "reasoningTokens": "4"});
            }
            event("result", data)
        }),
        Just(event("status", json!({"status": "busy"}))),
        Just(Event::bare("bare").unwrap()),
        Just(event("message.part.updated", json!({"part": {"id": "x", "type": "step-start"}}))),
        Just(event("message.part.updated", json!("no part"))),
        Just(event(
            "message.part.updated",
            json!({"part": {"id": "f", "type": "file", "url": "u", "mediaType": "m"}})
        )),
        Just(event(
            "message.part.updated",
            json!({"part": {"id": "f", "type": "source", "url": "u"}})
        )),
        (0_u8..3, kind, of(1_u8..4)).prop_map(|(id, kind, call)| {
            let mut data =
                json!({"id": format!("q{id}"), "kind": kind, "message": "may I?", "tool": "bash"});
            if let Some(call) = call {
                data["callId"] = json!(format!("call_{call}"));
            }
            interaction(data)
        }),
        (0_u8..4, outcome).prop_map(|(id, outcome)| {
            answered(json!({"id": format!("q{id}"), "outcome": outcome, "data": {"yes": true}}))
        }),
    ]
}

fn any_end() -> impl Strategy<Value = Vec<Event>> {
    prop_oneof![
        3 => Just(vec![completed()]),
        1 => any_text().prop_map(|text| vec![event("session.run.completed", json!({"finalText": text}))]),
        1 => Just(failed("upstream_error")),
        1 => Just(failed("cancelled")),
    ]
}

/// A whole turn.
pub(crate) fn any_turn() -> impl Strategy<Value = Vec<Event>> {
    let middle = prop_oneof![5 => any_text_part(), 3 => any_tool_part(), 2 => any_other()];
    (proptest::collection::vec(middle, 0..40), any_end()).prop_map(|(middle, end)| {
        let mut turn = vec![started()];
        turn.extend(middle);
        turn.extend(end);
        turn
    })
}

pub(crate) fn lines(turn: &[Event]) -> Vec<u8> {
    turn.iter().flat_map(Event::as_line).copied().collect()
}
