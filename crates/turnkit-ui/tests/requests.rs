//! What front ends send, and what hostile ones do.

#![expect(clippy::needless_pass_by_value, reason = "JSON is written where it is handed over")]

use serde_json::{Value, json};
use turnkit_ui::request::{
    ChatRequest, Held, MAX_ANSWERS, MAX_BODY, MAX_MESSAGES, MAX_PARTS, MAX_TEXT, RequestError,
    ResumeStatus, Role, RunAgentInput, Trigger, cursor, is_session_name, sibling_id, turn_id,
};

fn chat(body: &Value) -> Result<String, RequestError> {
    ChatRequest::parse(body.to_string().as_bytes()).map(|request| format!("{request:?}"))
}

fn user(id: &str, text: &str) -> Value {
    json!({"id": id, "role": "user", "parts": [{"type": "text", "text": text}]})
}

fn post(messages: Value) -> Value {
    json!({"id": "chat-1", "trigger": "submit-message", "messages": messages})
}

#[test]
fn a_message_of_the_ai_sdk_is_its_text_parts_in_lines() {
    let mut body = post(json!([
        user("m0", "before"),
        {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "a\u{1f600}"}, {"type": "step-start"}, {"type": "text", "text": "b"}]},
    ]));
    body["messageId"] = Value::Null;
    body["agent"] = json!("demo");
    let body = body.to_string();
    let request = ChatRequest::parse(body.as_bytes()).unwrap();
    assert_eq!((&*request.id, request.messages, request.trigger), ("chat-1", 2, Trigger::Submit));
    assert_eq!((request.message_id.as_deref(), request.agent.as_deref()), (None, Some("demo")));
    assert_eq!(request.last().role, Role::User);
    let message = request.last_user().unwrap();
    assert_eq!((&*message.id, &*message.text), ("m1", "a\u{1f600}\nb"));
}

#[test]
fn regenerate_names_a_message_and_the_last_one_of_the_user_is_found_behind_the_assistants() {
    let body = json!({
        "id": "c", "trigger": "regenerate-message", "messageId": "local:c:0",
        "messages": [user("m1", "Hi"), {"id": "local:c:0", "role": "assistant", "parts": [{"type": "text", "text": "Ho"}]}],
    });
    let body = body.to_string();
    let request = ChatRequest::parse(body.as_bytes()).unwrap();
    assert_eq!(
        (request.trigger, request.message_id.as_deref()),
        (Trigger::Regenerate, Some("local:c:0"))
    );
    assert_eq!((request.last().role, &*request.last().id), (Role::Assistant, "local:c:0"));
    assert_eq!(&*request.last_user().unwrap().text, "Hi");
}

#[test]
fn answers_are_read_out_of_the_assistants_last_message() {
    let tool = |call: &str, rest: Value| {
        let mut part = json!({"type": "dynamic-tool", "toolName": "t", "toolCallId": call});
        part.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        part
    };
    let parts = json!([
        tool("own", json!({"state": "output-available", "output": 1, "providerExecuted": true})),
        tool(
            "c1",
            json!({"state": "approval-responded", "providerExecuted": true, "approval": {"id": "q1", "approved": false, "reason": "no"}})
        ),
        tool(
            "c2",
            json!({"state": "approval-requested", "providerExecuted": true, "approval": {"id": "q2"}})
        ),
        tool("c3", json!({"state": "output-available", "output": {"x": [1]}})),
        tool("c4", json!({"state": "output-error", "errorText": "boom"})),
        tool("interaction:q5", json!({"state": "output-available", "output": "a"})),
    ]);
    let body = post(json!([user("m1", "Hi"), {"id": "x", "role": "assistant", "parts": parts}]))
        .to_string();
    let request = ChatRequest::parse(body.as_bytes()).unwrap();
    let last = request.last();
    assert_eq!(last.approvals.len(), 1);
    let approval = &last.approvals[0];
    assert_eq!(
        (&*approval.id, approval.approved, approval.reason.as_deref()),
        ("q1", false, Some("no"))
    );
    let outputs: Vec<_> =
        last.tool_outputs.iter().map(|output| (output.of.clone(), output.output.clone())).collect();
    assert_eq!(outputs[0], (Held::Call("c3".into()), Ok(r#"{"x":[1]}"#)));
    assert_eq!(outputs[1], (Held::Call("c4".into()), Err("boom".into())));
    assert_eq!(outputs[2], (Held::Interaction("q5".into()), Ok(r#""a""#)));
    assert_eq!(last.newest_question, Some(Held::Interaction("q5".into())));
}

#[test]
fn what_is_no_request_says_which_member_is_not_what() {
    let said = |body: Value| chat(&body).unwrap_err().to_string();
    assert_eq!(said(json!([])), "read the request: `body` is not a JSON object");
    let name =
        "read the request: `id` is not 1 to 160 of A-Z a-z 0-9 : _ -, not beginning with run_";
    for id in ["", "run_x", "a b", "\u{0}", "a\n", "ä", &"x".repeat(161)] {
        assert_eq!(said(json!({"id": id, "messages": [user("m", "Hi")]})), name);
    }
    assert_eq!(said(json!({"messages": [user("m", "Hi")]})), name);
    let messages = "read the request: `messages` is not an array of at least one message";
    assert_eq!(said(json!({"id": "c"})), messages);
    assert_eq!(said(post(json!([]))), messages);
    assert_eq!(said(post(json!("x"))), messages);
    let role = "read the request: `messages` is not messages of a user or an assistant";
    assert_eq!(said(post(json!([{"id": "m", "role": "system", "parts": []}]))), role);
    assert_eq!(said(post(json!(["Hi"]))), role);
    assert_eq!(
        said(post(json!([{"role": "user", "parts": []}]))),
        "read the request: `messages` is not a string"
    );
    let trigger = json!({"id": "c", "trigger": "resume", "messages": [user("m", "Hi")]});
    assert_eq!(
        said(trigger),
        "read the request: `trigger` is not submit-message or regenerate-message"
    );
    let file = json!([{"id": "m", "role": "user", "parts": [{"type": "file", "url": "data:,x", "mediaType": "text/plain"}]}]);
    assert!(matches!(chat(&post(file)), Err(RequestError::Files)));
    let broken = ChatRequest::parse(b"{\"id\":").unwrap_err();
    assert!(matches!(broken, RequestError::Json(_)));
    // A refusal holds nothing of what was sent.
    let secret = chat(&json!({"id": "secret id", "messages": [user("m", "secret")]})).unwrap_err();
    assert!(!format!("{secret} {secret:?}").contains("secret"));
}

#[test]
fn hostile_bodies_are_refused_with_the_limit_and_little_memory() {
    let repeat = |what: Value, times: usize| {
        let all = format!("{what},").repeat(times);
        format!("[{}]", all.trim_end_matches(','))
    };
    let body = |messages: &str| format!(r#"{{"id":"c","messages":{messages}}}"#);
    let message = |role: &str, parts: &str| {
        body(&format!(r#"[{{"id":"m","role":"{role}","parts":{parts}}}]"#))
    };
    let many = body(&repeat(user("m", "x"), 100_000));
    let parts = message("user", &repeat(json!({"type": "text", "text": ""}), 100_000));
    let long = post(json!([user("m", &"x".repeat(MAX_TEXT + 1))])).to_string();
    let escaped = post(json!([user("m", &"\u{1}".repeat(MAX_TEXT + 1))])).to_string();
    let large = post(json!([user("m", &"x".repeat(8 << 20))])).to_string();
    let id = post(json!([user(&"i".repeat(1 << 20), "x")])).to_string();
    let tool =
        json!({"type": "tool-x", "toolCallId": "c", "state": "output-available", "output": 1});
    let tools = message("assistant", &repeat(tool, 5000));
    let cases = [
        (&many, MAX_MESSAGES),
        (&parts, MAX_PARTS),
        (&long, MAX_TEXT),
        (&escaped, MAX_TEXT),
        (&large, MAX_BODY),
        (&id, 1024),
        (&tools, MAX_ANSWERS),
    ];
    for (body, limit) in cases {
        let mut refused = None;
        let held =
            allocation_counter::measure(|| refused = ChatRequest::parse(body.as_bytes()).err());
        assert_eq!(refused.unwrap().limit(), Some(limit));

        assert!(held.bytes_max <= 2 * body.len() as u64 + 65_536, "{}", held.bytes_max);
    }
    for depth in [1025, 100_000] {
        let deep = format!("{{\"id\":{}", "[".repeat(depth));
        assert!(matches!(ChatRequest::parse(deep.as_bytes()), Err(RequestError::Json(_))));
        assert!(matches!(RunAgentInput::parse(deep.as_bytes()), Err(RequestError::Json(_))));
    }
    let many = repeat(json!({"id": "m", "role": "user", "content": "x"}), 100_000);
    let many = format!(r#"{{"threadId":"s","runId":"r","messages":{many}}}"#);
    assert_eq!(RunAgentInput::parse(many.as_bytes()).unwrap_err().limit(), Some(MAX_MESSAGES));
    let resume = vec![json!({"interruptId": "q", "status": "resolved"}); 1000];
    let resume = json!({"threadId": "s", "runId": "r", "messages": [], "resume": resume});
    assert_eq!(
        RunAgentInput::parse(resume.to_string().as_bytes()).unwrap_err().limit(),
        Some(MAX_ANSWERS)
    );
}

#[test]
fn a_run_of_ag_ui_is_read_with_its_answers() {
    let body = json!({
        "threadId": "thread-1", "runId": "run 1", "state": {}, "tools": [], "context": [],
        "forwardedProps": {"agent": "demo", "other": 1},
        "messages": [
            {"id": "u1", "role": "user", "content": "Hi"},
            {"id": "local:t:0/p1", "role": "assistant", "content": "Half"},
            {"id": "local:t:0x/p1", "role": "assistant", "content": "of another"},
            {"id": "u2", "role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        ],
        "resume": [
            {"interruptId": "q1", "status": "resolved", "payload": {"yes": true}},
            {"interruptId": "q2", "status": "cancelled"},
        ],
    });
    let text = body.to_string();
    let input = RunAgentInput::parse(text.as_bytes()).unwrap();
    assert_eq!(
        (&*input.thread_id, &*input.run_id, input.agent.as_deref()),
        ("thread-1", "run 1", Some("demo"))
    );
    assert_eq!(input.user.as_ref().map(|(id, text)| (&**id, &**text)), Some(("u2", "one\ntwo")));
    assert!(
        input.ends_with_user && input.has_parts_of("local:t:0") && !input.has_parts_of("local:t")
    );
    assert_eq!(
        (input.resume[0].status, input.resume[0].payload),
        (ResumeStatus::Resolved, Some(r#"{"yes":true}"#))
    );
    assert_eq!(
        (&*input.resume[1].interrupt_id, input.resume[1].status),
        ("q2", ResumeStatus::Cancelled)
    );

    let mut tools = body.clone();
    let messages = tools["messages"].as_array_mut().unwrap();
    messages.push(json!({"id": "x", "role": "assistant", "toolCalls": []}));
    messages.push(json!({"id": "y", "role": "tool", "toolCallId": "c1", "content": "out"}));
    let text = tools.to_string();
    let input = RunAgentInput::parse(text.as_bytes()).unwrap();
    assert!(!input.ends_with_user);
    assert_eq!(input.tool_outputs, [("c1".into(), "out".to_owned())]);

    let mut image = body.clone();
    image["messages"][3]["content"] =
        json!([{"type": "image", "source": {"type": "url", "value": "u"}}]);
    assert!(matches!(RunAgentInput::parse(image.to_string().as_bytes()), Err(RequestError::Files)));
    let mut named = body;
    named["threadId"] = json!("run_1");
    assert_eq!(
        RunAgentInput::parse(named.to_string().as_bytes()).unwrap_err().field(),
        Some("threadId")
    );
}

#[test]
fn ids_of_clients_become_turns_and_odd_ones_their_hash() {
    assert_eq!(turn_id("Msg_1:a-b"), "Msg_1:a-b");
    for odd in ["", "a b", "\u{7}", "ä", &"x".repeat(121)] {
        let id = turn_id(odd);
        assert!(id.starts_with("h:") && id.len() == 45 && is_session_name(&id), "{id}");
    }
    assert_eq!(turn_id(""), "h:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    assert_eq!(sibling_id("m1", 2), "m1:r2");
    assert!(
        is_session_name(&"x".repeat(160)) && !is_session_name("run_") && is_session_name("run")
    );
    assert_eq!(
        (cursor("0"), cursor("42"), cursor("-1"), cursor("+1"), cursor("")),
        (Some(0), Some(42), None, None, None)
    );
    assert_eq!(cursor("99999999999999999999"), None);
}
