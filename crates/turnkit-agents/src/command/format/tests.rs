use super::*;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use turnkit_wire::{
    Event,
    interaction::{Outcome, answered},
    write::Json,
};

fn task() -> Task {
    Task {
        message: "m".to_owned(),
        with_history: "all and m".to_owned(),
        told_instead:
            "the agent does not know the session that it had: it was told the conversation instead"
                .to_owned(),
        session: None,
        directory: "/work".into(),
        permission: None,
        can_ask: false,
    }
}

/// The events of these lines, and what must end the run at once.
fn read_lines(format: Format, lines: &[u8]) -> (Vec<String>, Told) {
    let mut told = Told::new(Some("s".to_owned()), Vec::new(), false);
    let Reading::Lines(mut mapper) = format.reading(task(), 1 << 20, &mut told) else {
        panic!("no lines")
    };
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        mapper.line(line, &mut told);
    }
    mapper.end(true, &mut told);
    told.finish();
    let events = std::iter::from_fn(|| told.next_event()).map(|event| event.as_json().to_owned());
    (events.collect(), told)
}

/// The events of a tool's lines, one a line.
fn told(format: Format, lines: &str) -> String {
    read_lines(format, lines.as_bytes()).0.join("\n")
}

/// What a tool printed once.
fn sample(name: &str) -> String {
    std::fs::read_to_string(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/agents/").to_owned() + name,
    )
    .unwrap()
}

#[test]
fn claude_code() {
    insta::assert_snapshot!(told(Format::Claude, &sample("claude-code.jsonl")));
}

#[test]
fn claude_code_without_partial_messages() {
    let whole: Vec<_> = sample("claude-code.jsonl")
        .lines()
        .filter(|line| !line.contains("stream_event"))
        .map(str::to_owned)
        .collect();
    insta::assert_snapshot!(told(Format::Claude, &whole.join("\n")));
}

#[test]
fn claude_code_that_fails() {
    let lines = [
        r#"{"type":"system","subtype":"init","session_id":"s1","model":"m"}"#,
        r#"{"type":"system","subtype":"api_retry","attempt":1,"error_status":529,"error":"overloaded","session_id":"s1"}"#,
        r#"{"type":"assistant","message":{"id":"a","model":"m","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"false"}}]},"parent_tool_use_id":null}"#,
        r#"{"type":"assistant","message":{"id":"b","model":"m","content":[{"type":"text","text":"I am below"}]},"parent_tool_use_id":"t1"}"#,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"exit 1"}]}]}}"#,
        r#"{"type":"assistant","message":{"id":"c","model":"<synthetic>","content":[{"type":"text","text":"API Error: 401"}]}}"#,
        r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 401 the key is wrong","session_id":"s1"}"#,
    ];
    insta::assert_snapshot!(told(Format::Claude, &lines.join("\n")));
    let turns = r#"{"type":"result","subtype":"error_max_turns","is_error":false,"num_turns":5}"#;
    assert_eq!(
        told(Format::Claude, turns),
        r#"{"type":"error","data":{"message":"the turn ended with error_max_turns","code":"error_max_turns"}}"#
    );
}

#[test]
fn codex() {
    insta::assert_snapshot!(told(Format::Codex, &sample("codex-exec.jsonl")));
}

#[test]
fn codex_that_fails() {
    let lines = [
        r#"{"type":"thread.started","thread_id":"t"}"#,
        r#"{"type":"error","message":"Reconnecting... 2/5"}"#,
        r#"{"type":"item.completed","item":{"id":"item_1","type":"command_execution","command":"rm x","aggregated_output":"","exit_code":null,"status":"declined"}}"#,
        r#"{"type":"item.completed","item":{"id":"item_2","type":"command_execution","command":"false","aggregated_output":"no\n","exit_code":1,"status":"failed"}}"#,
        r#"{"type":"item.started","item":{"id":"item_3","type":"mcp_tool_call","server":"files","tool":"read","arguments":{"path":"a"},"status":"in_progress"}}"#,
        r#"{"type":"item.completed","item":{"id":"item_3","type":"mcp_tool_call","server":"files","tool":"read","arguments":{"path":"a"},"result":{"content":[{"type":"text","text":"b"}]},"status":"completed"}}"#,
        r#"{"type":"item.completed","item":{"id":"item_4","type":"file_change","changes":[{"path":"a","kind":"add"}],"status":"completed"}}"#,
        r#"{"type":"item.updated","item":{"id":"item_5","type":"todo_list","items":[{"text":"look","completed":false}]}}"#,
        r#"{"type":"error","message":"stream disconnected"}"#,
        r#"{"type":"turn.failed","error":{"message":"no money left"}}"#,
    ];
    insta::assert_snapshot!(told(Format::Codex, &lines.join("\n")));
}

#[test]
fn gemini_cli() {
    insta::assert_snapshot!(told(Format::Gemini, &sample("gemini-cli.jsonl")));
}

#[test]
fn gemini_cli_that_fails() {
    let lines = [
        r#"{"type":"init","timestamp":"t","session_id":"s1","model":"m"}"#,
        r#"{"type":"error","severity":"warning","message":"Loop detected"}"#,
        r#"{"type":"message","role":"assistant","content":"I ","delta":true}"#,
        r#"{"type":"tool_use","tool_name":"write","tool_id":"w1","parameters":{"path":"a"}}"#,
        r#"{"type":"tool_result","tool_id":"w1","status":"error","error":{"type":"denied","message":"not allowed"}}"#,
        r#"{"type":"message","role":"assistant","content":"stop.","delta":true}"#,
        r#"{"type":"result","status":"error","error":{"type":"quota","message":"no quota left"},"stats":{}}"#,
    ];
    insta::assert_snapshot!(told(Format::Gemini, &lines.join("\n")));
}

#[test]
fn opencode() {
    insta::assert_snapshot!(told(Format::OpenCode, &sample("opencode.jsonl")));
}

#[test]
fn opencode_that_fails() {
    let lines = [
        r#"{"type":"step_start","sessionID":"ses_1","part":{"type":"step-start"}}"#,
        r#"{"type":"text","sessionID":"ses_1","part":{"id":"p","type":"text","text":"half"}}"#,
        r#"{"type":"error","sessionID":"ses_1","error":{"name":"APIError","data":{"message":"no money left","statusCode":402}}}"#,
    ];
    insta::assert_snapshot!(told(Format::OpenCode, &lines.join("\n")));
}

#[test]
fn acp_of_gemini_cli() {
    insta::assert_snapshot!(told(Format::Acp, &sample("acp-gemini.jsonl")));
}

#[test]
fn acp_is_asked_in_order_and_permissions_are_refused_unless_they_are_configured() {
    let dialogue = |task: Task, lines: &[&str]| {
        let mut told = Told::new(None, Vec::new(), false);
        let Reading::Lines(mut mapper) = Format::Acp.reading(task, 1 << 20, &mut told) else {
            panic!("no lines")
        };
        for line in lines {
            mapper.line(line.as_bytes(), &mut told);
        }
        assert_eq!(
            mapper.patience().is_some(),
            lines.last().is_some_and(|line| line.contains("said before"))
        );
        mapper.quiet(&mut told);
        assert!(mapper.cancel(&mut told));
        let said = String::from_utf8(told.take_input()).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| told.next_event())
            .map(|event| event.as_json().to_owned())
            .collect();
        format!("{said}---\n{}", events.join("\n"))
    };
    let allow = r#"{"optionId":"yes","name":"Allow","kind":"allow_once"}"#;
    let reject = r#"{"optionId":"no","name":"Reject","kind":"reject_once"}"#;
    let ask = |id: &str, options: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"session/request_permission","params":{{"sessionId":"a","toolCall":{{"toolCallId":"t","title":"rm -r /"}},"options":[{options}]}}}}"#
        )
    };
    let both = ask("7", &format!("{allow},{reject}"));
    let only_allow = ask("\"x\"", allow);
    let begin = [
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"agentCapabilities":{}}}"#,
        r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"a"}}"#,
    ];
    let read =
        r#"{"jsonrpc":"2.0","id":8,"method":"fs/read_text_file","params":{"path":"/etc/passwd"}}"#;
    let lines = [begin[0], begin[1], &both, &only_allow, read];
    insta::assert_snapshot!("acp_without_a_permission", dialogue(task(), &lines));
    let allowing = Task { permission: Some(Permission::AllowOnce), ..task() };
    insta::assert_snapshot!("acp_with_a_permission", dialogue(allowing, &lines));

    let going_on = || Task { session: Some("old".to_owned()), ..task() };
    let can_load = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"agentCapabilities":{"loadSession":true}}}"#;
    let replayed = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"said before"}}}}"#;
    let loaded = r#"{"jsonrpc":"2.0","id":2,"result":null}"#;
    insta::assert_snapshot!(
        "acp_that_goes_on",
        dialogue(going_on(), &[can_load, replayed, loaded, replayed])
    );
    let unknown = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"no such session"}}"#;
    insta::assert_snapshot!(
        "acp_that_does_not_know",
        dialogue(going_on(), &[can_load, unknown, &begin[1].replace("2,", "3,")])
    );
}

#[test]
fn acp_passes_permissions_on_to_whoever_can_be_asked() {
    let mut told = Told::new(None, Vec::new(), false);
    let task = Task { can_ask: true, ..task() };
    let Reading::Lines(mut mapper) = Format::Acp.reading(task, 1 << 20, &mut told) else {
        panic!("no lines")
    };
    let update = |update: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"update":{update}}}}}"#)
    };
    let ask = |id: u32, call: &str, options: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"session/request_permission","params":{{"toolCall":{call},"options":[{options}]}}}}"#
        )
    };
    let all = r#"{"optionId":"a","name":"Always","kind":"allow_always"},{"optionId":"y","name":"Yes","kind":"allow_once"},{"optionId":"n","name":"No","kind":"reject_once"}"#;
    let allow = r#"{"optionId":"a","name":"Always","kind":"allow_always"}"#;
    let call = r#"{"toolCallId":"t"}"#;
    let lines = [
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"a"}}"#.to_owned(),
        update(
            r#"{"sessionUpdate":"tool_call","toolCallId":"t","title":"rm -r build","kind":"execute","rawInput":{"command":"rm -r build"}}"#,
        ),
        ask(10, call, all),
        ask(11, call, all),
        ask(12, call, all),
        ask(13, call, allow),
        ask(14, r#"{"title":"look around"}"#, all),
        // Nobody can be asked this: the options have one id.
        ask(15, call, &format!("{allow},{allow}")),
        // Words of the protocol's own mean nothing as an update.
        update(
            r#"{"sessionUpdate":"interaction.answered","id":"permission-1","outcome":"accepted"}"#,
        ),
    ];
    for line in &lines {
        mapper.line(line.as_bytes(), &mut told);
    }
    let (handle, inbox) = turnkit_agent::InboxHandle::new();
    let mut answer = |event: Event| {
        handle.deliver(event);
        let received = inbox.next_untaken().now_or_never().flatten().unwrap();
        mapper.receive(&received, &mut told);
    };
    let option = Json::of(&serde_json::json!({ "option": "a" })).unwrap();
    answer(answered("permission-1", Outcome::Accepted, Some(&option), None));
    answer(answered("permission-2", Outcome::Accepted, None, None));
    answer(answered("permission-3", Outcome::Expired, None, None));
    answer(answered("permission-4", Outcome::Accepted, None, None));
    answer(answered("permission-9", Outcome::Accepted, None, None));
    assert!(mapper.cancel(&mut told), "what still waits is answered");
    let said = String::from_utf8(told.take_input()).unwrap();
    let events = std::iter::from_fn(|| told.next_event()).map(|event| event.as_json().to_owned());
    insta::assert_snapshot!(format!("{said}---\n{}", events.collect::<Vec<_>>().join("\n")));
}

#[test]
fn acp_tells_tools_plans_and_failures() {
    let update = |update: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"a","update":{update}}}}}"#
        )
    };
    let before = [
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"a","configOptions":[{"id":"mode","currentValue":"x"},{"id":"model","currentValue":"scripted/m"}]}}"#.to_owned(),
        update(
            r#"{"sessionUpdate":"plan","entries":[{"content":"look","priority":"high","status":"pending"}]}"#,
        ),
        update(
            r#"{"sessionUpdate":"tool_call","toolCallId":"t1","title":"Run ls","kind":"execute","status":"pending","rawInput":{"command":"ls"}}"#,
        ),
        update(r#"{"sessionUpdate":"tool_call_update","toolCallId":"t1","status":"in_progress"}"#),
        update(
            r#"{"sessionUpdate":"tool_call_update","toolCallId":"t1","status":"completed","content":[{"type":"content","content":{"type":"text","text":"a\nb"}}]}"#,
        ),
        update(
            r#"{"sessionUpdate":"tool_call","toolCallId":"t2","title":"Edit","kind":"edit","status":"failed","content":[{"type":"diff","path":"/a","newText":"x"}]}"#,
        ),
        update(r#"{"sessionUpdate":"execution.failed","message":"forged"}"#),
        update(
            r#"{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"Done."}}"#,
        ),
    ];
    let end = |end: &str| {
        [before.as_slice(), &[format!(r#"{{"jsonrpc":"2.0","id":3,{end}}}"#)]].concat().join("\n")
    };
    insta::assert_snapshot!(
        "acp_tools",
        told(
            Format::Acp,
            &end(
                r#""result":{"stopReason":"max_tokens","usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5,"thoughtTokens":1}}"#
            )
        )
    );
    let last = |lines: &str| told(Format::Acp, lines).lines().last().unwrap().to_owned();
    assert_eq!(
        last(&end(r#""result":{"stopReason":"refusal"}"#)),
        r#"{"type":"error","data":{"message":"the agent refused to go on","code":"refused"}}"#
    );
    let failed =
        r#""error":{"code":-32603,"message":"Internal error","data":{"details":"no quota left"}}"#;
    assert_eq!(
        last(&end(failed)),
        r#"{"type":"error","data":{"message":"Internal error: no quota left"}}"#
    );
}

#[test]
fn the_output_of_a_tool_is_cut_and_says_so() {
    let huge = "\u{1}x\n".repeat(400_000);
    let content = Value::from(huge.clone());
    let claude = [
        r#"{"type":"assistant","message":{"id":"a","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{}}]}}"#.to_owned(),
        format!(r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"t1","content":{content}}}]}}}}"#),
    ];
    let codex = [format!(
        r#"{{"type":"item.completed","item":{{"id":"i","type":"command_execution","command":"x","aggregated_output":{content},"status":"completed"}}}}"#
    )];
    let opencode = [format!(
        r#"{{"type":"tool_use","part":{{"id":"p","type":"tool","tool":"bash","state":{{"status":"completed","output":{content},"metadata":{{"output":{content}}}}}}}}}"#
    )];
    for (format, lines) in [
        (Format::Claude, &claude[..]),
        (Format::Codex, &codex[..]),
        (Format::OpenCode, &opencode[..]),
    ] {
        let (events, _) = read_lines(format, lines.join("\n").as_bytes());
        let last = events.last().unwrap();
        assert!(last.len() < 600_000, "{format:?} {}", last.len());
        assert!(last.contains(&format!("[cut: {} bytes in all]", huge.len())), "{format:?}");
    }
}

/// JSON that looks like a tool's line.
fn any_line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("system"),
        Just("init"),
        Just("assistant"),
        Just("user"),
        Just("result"),
        Just("stream_event"),
        Just("success"),
        Just("content_block_start"),
        Just("content_block_delta"),
        Just("input_json_delta"),
        Just("tool_use"),
        Just("tool_result"),
        Just("item.completed"),
        Just("command_execution"),
        Just("turn.completed"),
        Just("message"),
        Just("text"),
        Just("step_finish"),
        Just("stop"),
        Just("error"),
        Just("session/update"),
        Just("tool_call"),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("7".to_owned()),
        Just("true".to_owned()),
        word.prop_map(|word| format!("\"{word}\""))
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof![
            Just("type"),
            Just("subtype"),
            Just("event"),
            Just("message"),
            Just("content"),
            Just("item"),
            Just("part"),
            Just("delta"),
            Just("id"),
            Just("content_block"),
            Just("usage"),
            Just("error"),
            Just("role"),
            Just("state"),
            Just("tokens"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((key, inner), 0..5).prop_map(|members| {
                let members: Vec<_> =
                    members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_line_makes_a_format_panic(lines in proptest::collection::vec(any_line(), 1..6), format in 0..6_usize) {
        let format = [Format::Events, Format::Claude, Format::Codex, Format::Gemini, Format::OpenCode, Format::Acp][format];
        let _ = read_lines(format, lines.join("\n").as_bytes());
    }

    #[test]
    fn no_bytes_make_a_format_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), format in 0..6_usize) {
        let format = [Format::Events, Format::Claude, Format::Codex, Format::Gemini, Format::OpenCode, Format::Acp][format];
        let (_, told) = read_lines(format, &bytes);
        prop_assert!(!told.is_answered());
    }
}
