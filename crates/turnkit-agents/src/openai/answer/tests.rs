use super::*;
use serde_json::json;
use turnkit_wire::sse::Parser;

fn answer() -> Answer {
    Answer::new(Some("s".to_owned()), Some(BearerToken::from("sk-s3cret")))
}

/// The events of a stream whose frames hold these data, and how it ends.
fn events_of(frames: &[String]) -> (Vec<String>, Result<(), AgentError>) {
    let (mut answer, mut parser) = (answer(), Parser::new());
    let mut end = Ok(());
    for (at, frame) in frames.iter().enumerate() {
        let at = Duration::from_millis(at as u64);
        let fed = parser.feed(frame.as_bytes(), |frame| {
            end = end.clone().and_then(|()| answer.frame(&frame, at));
        });
        fed.unwrap();
    }
    let end = end.and_then(|()| answer.close(Duration::from_secs(1)));
    let events = std::iter::from_fn(|| answer.next_event());
    (events.map(|event| event.as_json().to_owned()).collect(), end)
}

fn frame(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn delta(delta: &Value) -> String {
    frame(&json!({ "choices": [{ "index": 0, "delta": delta }] }).to_string())
}

fn finish(reason: &str) -> String {
    frame(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }).to_string())
}

fn done() -> String {
    frame("[DONE]")
}

/// The events of a good answer, the `result` apart.
#[track_caller]
fn good(frames: &[String]) -> (Vec<String>, Value) {
    let (mut events, end) = events_of(frames);
    end.unwrap();
    let result = events.pop().unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["type"], "result");
    (events, result["data"].clone())
}

#[track_caller]
fn failed(frames: &[String]) -> String {
    told(&events_of(frames).1.unwrap_err())
}

fn told(error: &AgentError) -> String {
    format!("{}: {}", error.code(), error.message())
}

#[test]
fn text_goes_on_as_deltas_of_one_part() {
    let (events, result) = good(&[
        delta(&json!({ "role": "assistant", "content": "" })),
        delta(&json!({ "content": "Hel" })),
        delta(&json!({ "content": "lo \"you\"" })),
        finish("stop"),
        done(),
    ]);
    let expected = [
        r#"{"type":"message.part.updated","data":{"part":{"id":"prt_1","sessionID":"s","messageID":"msg_1","type":"text"},"delta":"Hel"}}"#,
        r#"{"type":"message.part.updated","data":{"part":{"id":"prt_1","sessionID":"s","messageID":"msg_1","type":"text"},"delta":"lo \"you\""}}"#,
    ];
    assert_eq!(events, expected);
    assert_eq!(result["finalText"], "Hello \"you\"");
    assert_eq!(result["timing"], json!({ "totalMs": 4, "firstTokenMs": 1 }));
    assert_eq!(result["metadata"], json!({ "sessionId": "s" }));
    assert_eq!(result["finishReason"], "stop");
    assert_eq!(result["tokenUsage"], Value::Null);
}

#[test]
fn each_stretch_of_one_kind_is_a_part() {
    let both = json!({ "reasoning": "c", "reasoning_content": "c", "content": "d" });
    let (events, result) = good(&[
        delta(&json!({ "reasoning_content": "a" })),
        delta(&json!({ "reasoning": "b" })),
        delta(&json!({ "content": "x" })),
        delta(&both),
        delta(&json!({ "refusal": "e" })),
        finish("stop"),
    ]);
    let seen = events.iter().map(|event| {
        let event: Value = serde_json::from_str(event).unwrap();
        let (part, delta) = (&event["data"]["part"], &event["data"]["delta"]);
        [&part["id"], &part["type"], delta].map(|text| text.as_str().unwrap().to_owned())
    });
    let expected = [
        ["prt_1", "reasoning", "a"],
        ["prt_1", "reasoning", "b"],
        ["prt_2", "text", "x"],
        ["prt_3", "reasoning", "c"],
        ["prt_4", "text", "d"],
        ["prt_4", "text", "e"],
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    assert_eq!(result["finalText"], "xde");
}

#[test]
fn a_content_in_pieces_is_text_and_reasoning() {
    let thought = json!({ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] });
    let text = json!({ "type": "text", "text": "so" });
    let (events, result) = good(&[delta(&json!({ "content": [thought, text] })), done()]);
    assert!(events[0].contains(r#""type":"reasoning"},"delta":"hm"}"#));
    assert_eq!((events.len(), &result["finalText"]), (2, &json!("so")));
}

fn tool_piece(piece: &Value) -> String {
    delta(&json!({ "tool_calls": [piece] }))
}

/// Part id, call id, tool, delta and state of each tool event.
fn tool_events(events: &[String]) -> Vec<Value> {
    let tool = |event: &String| {
        let event: Value = serde_json::from_str(event).unwrap();
        let (part, delta) = (&event["data"]["part"], &event["data"]["delta"]);
        assert_eq!(part["type"], "tool");
        json!([part["id"], part["callID"], part["tool"], delta, part["state"]])
    };
    events.iter().map(tool).collect()
}

#[test]
fn tool_calls_go_on_as_deltas_and_once_as_a_whole() {
    let (events, _) = good(&[
        tool_piece(
            &json!({ "index": 0, "id": "a", "type": "function", "function": { "name": "look", "arguments": "" } }),
        ),
        tool_piece(&json!({ "index": 0, "function": { "arguments": "{\"at\":" } })),
        tool_piece(
            &json!({ "index": 1, "id": "b", "function": { "name": "go", "arguments": "not {json" } }),
        ),
        tool_piece(&json!({ "index": 0, "function": { "arguments": "\n1}" } })),
        finish("tool_calls"),
        done(),
    ]);
    let pending = json!({ "status": "pending" });
    let expected = [
        json!(["prt_1", "a", "look", "", pending]),
        json!(["prt_1", "a", "look", "{\"at\":", pending]),
        json!(["prt_2", "b", "go", "not {json", pending]),
        json!(["prt_1", "a", "look", "\n1}", pending]),
        json!(["prt_1", "a", "look", null, { "status": "pending", "input": { "at": 1 }, "raw": "{\"at\":\n1}" }]),
        json!(["prt_2", "b", "go", null, { "status": "pending", "raw": "not {json" }]),
    ];
    assert_eq!(tool_events(&events), expected);
}

#[test]
fn a_new_id_is_a_new_call_though_the_index_is_the_same() {
    let whole =
        |id: &str| json!({ "index": 0, "id": id, "function": { "name": "f", "arguments": "{}" } });
    let (events, _) = good(&[tool_piece(&whole("a")), tool_piece(&whole("b")), finish("stop")]);
    let ids: Vec<_> = tool_events(&events).iter().map(|event| event[1].clone()).collect();
    assert_eq!(ids, ["a", "b", "a", "b"]);
}

#[test]
fn pieces_without_an_index_belong_to_the_latest_call_and_repeated_names_are_one() {
    let (events, _) = good(&[
        tool_piece(&json!({ "id": "a", "function": { "name": "f", "arguments": "{" } })),
        tool_piece(&json!({ "id": "a", "function": { "name": "f", "arguments": "}" } })),
        tool_piece(&json!({ "function": { "arguments": " " } })),
        finish("stop"),
    ]);
    let last = tool_events(&events).pop().unwrap();
    assert_eq!(
        last,
        json!(["prt_1", "a", "f", null, { "status": "pending", "input": {}, "raw": "{} " }])
    );
}

#[test]
fn arguments_too_deep_for_an_event_stand_in_it_as_text() {
    let deep = format!("{}{}", "[".repeat(1_100), "]".repeat(1_100));
    let call = json!({ "index": 0, "id": "a", "function": { "name": "f", "arguments": deep } });
    let (events, _) = good(&[tool_piece(&call), finish("tool_calls")]);
    let last = tool_events(&events).pop().unwrap();
    assert_eq!(last[4], json!({ "status": "pending", "raw": deep }));
}

#[test]
fn tool_calls_are_bounded() {
    let many = |count: u64| -> Vec<_> {
        let call = |index| tool_piece(&json!({ "index": index, "function": { "name": "f" } }));
        (0..count).map(call).chain([finish("stop")]).collect()
    };
    assert!(events_of(&many(128)).1.is_ok());
    assert!(failed(&many(129)).contains("more than 128 tool calls"));

    let long =
        json!({ "index": 0, "id": "a", "function": { "arguments": "x".repeat(ARGUMENTS / 2) } });
    let mut frames = vec![tool_piece(&long), tool_piece(&long)];
    assert!(failed(&frames).contains("stopped in the middle"));
    frames.push(tool_piece(&json!({ "index": 1, "function": { "arguments": "x" } })));
    assert!(failed(&frames).contains("more than 262144 bytes"));
}

#[test]
fn usage_is_told_whenever_it_comes() {
    let usage = json!({
        "choices": [],
        "usage": {
            "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9,
            "prompt_tokens_details": { "cached_tokens": 4 },
            "completion_tokens_details": { "reasoning_tokens": 1 },
        },
    });
    let without = frame(r#"{"choices":[{"delta":{"content":"x"}}],"usage":null}"#);
    let (_, result) = good(&[without, finish("stop"), frame(&usage.to_string()), done()]);
    let expected = json!({ "inputTokens": 7, "outputTokens": 2, "reasoningTokens": 1, "cachedInputTokens": 4 });
    assert_eq!(result["tokenUsage"], expected);
}

#[test]
fn the_answer_ends_with_done_or_with_a_finish_reason() {
    let text = || delta(&json!({ "content": "x" }));
    for end in [vec![done()], vec![finish("length")], vec![finish("stop"), done()]] {
        let frames: Vec<_> = [vec![text()], end].concat();
        assert_eq!(good(&frames).1["finalText"], "x");
    }
    let early = frame(r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":""}]}"#);
    assert!(failed(&[early]).starts_with("upstream_interrupted"));
    assert!(failed(&[]).starts_with("upstream_interrupted"));
    let after = good(&[text(), done(), frame("nonsense"), text()]);
    assert_eq!((after.0.len(), &after.1["finalText"]), (1, &json!("x")));
}

#[test]
fn other_choices_and_unknown_members_do_not_matter() {
    let (events, _) = good(&[
        frame(r#"{"choices":[],"prompt_filter_results":[{}]}"#),
        frame(
            r#"{"choices":[{"index":1,"delta":{"content":"no"}},{"index":null,"delta":{"content":"yes"},"logprobs":null}]}"#,
        ),
        frame(r#"{"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}"#),
    ]);
    assert_eq!(events.len(), 1);
    assert!(events[0].ends_with(r#""delta":"yes"}}"#));
}

#[test]
fn errors_in_the_middle_fail_the_answer_behind_its_text() {
    let errors = [
        frame(r#"{"error":{"message":"overloaded by sk-s3cret","code":503}}"#),
        frame(r#"{"error":"overloaded by sk-s3cret"}"#),
        frame(r#"{"object":"error","message":"overloaded by sk-s3cret"}"#),
        format!("event: error\n{}", frame(r#"{"message":"overloaded by sk-s3cret"}"#)),
        format!("event: error\n{}", frame("overloaded by sk-s3cret")),
    ];
    for error in errors {
        let (events, end) = events_of(&[delta(&json!({ "content": "x" })), error, done()]);
        assert_eq!(events.len(), 1);
        let expected = "upstream_error: the upstream sent an error: overloaded by [key]";
        assert_eq!(told(&end.unwrap_err()), expected);
    }
}

#[test]
fn what_is_no_chunk_is_told_by_its_place_alone() {
    let told = |data: &str| failed(&[frame(data)]);
    assert!(told("hunter2").contains("no JSON object"));
    assert!(told("[1]").contains("no JSON object"));
    for content in [r#"["hunter2"]"#, r#"[{"type":"image","url":"hunter2"}]"#, "7"] {
        let told = told(&format!(r#"{{"choices":[{{"delta":{{"content":{content}}}}}]}}"#));
        assert_eq!(told, "upstream_protocol: the upstream's answer has a content that is not text");
    }
    let wrong = told(r#"{"choices":[{"delta":{"refusal":["hunter2"]}}]}"#);
    assert!(wrong.contains("line 1, column 32") && !wrong.contains("hunter2"), "{wrong}");
    let lossy = {
        let (mut answer, mut parser, mut end) = (answer(), Parser::new(), Ok(()));
        let frame = b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n";
        parser.feed(frame, |frame| end = answer.frame(&frame, Duration::ZERO)).unwrap();
        end.unwrap_err()
    };
    assert!(lossy.message().contains("not UTF-8"));
}

#[test]
fn a_long_text_is_not_repeated_in_the_result() {
    let piece = "x".repeat(FINAL_TEXT);
    let (_, whole) = good(&[delta(&json!({ "content": piece })), done()]);
    assert_eq!(whole["finalText"].as_str().map(str::len), Some(FINAL_TEXT));
    let (events, cut) =
        good(&[delta(&json!({ "content": piece })), delta(&json!({ "content": "y" })), done()]);
    assert_eq!((events.len(), &cut["finalText"]), (2, &Value::Null));
    let control = "\u{1}".repeat(FINAL_TEXT / 6 + 1);
    let (_, cut) = good(&[delta(&json!({ "content": control })), done()]);
    assert_eq!(cut["finalText"], Value::Null, "it counts as it is written");
}

#[test]
fn an_answer_that_a_filter_withheld_is_a_failure_and_one_that_it_cut_is_none() {
    assert!(failed(&[finish("content_filter"), done()]).starts_with("content_filter"));
    let (_, result) = good(&[delta(&json!({ "content": "x" })), finish("content_filter")]);
    assert_eq!(result["finishReason"], "content-filter");
}

#[test]
fn an_answer_in_one_piece_is_an_answer() {
    let mut answer = answer();
    let json = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hello" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1 },
    });
    answer.whole(json.to_string().as_bytes(), Duration::ZERO).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| answer.next_event()).collect();
    let result: Value = events[1].data().unwrap();
    assert_eq!(result["finalText"], "hello");
    let expected = json!({ "sessionId": "s", "traceId": "chatcmpl-1" });
    assert_eq!((&result["metadata"], &result["finishReason"]), (&expected, &json!("stop")));
}
