//! Whole turns as they look: the lines that a client reads, and the hooks that ran.

use std::sync::Arc;

use serde_json::json;
use turnkit::wire::write::ToolStatus;
use turnkit_testkit::{BodyReader, Recorder, Script, ScriptError, events, turn};

/// The lines of the body, then the calls of hooks, one a line.
async fn show(script: Script) -> String {
    let hooks = Arc::new(Recorder::new());
    let (body, driver) = turn().start(script, hooks.clone());
    let mut client = BodyReader::new(body);
    let (_, outcome) = tokio::join!(client.rest(), driver);
    let lines = String::from_utf8_lossy(client.received()).into_owned();
    let calls = hooks.log().join("\n");
    let result = outcome
        .result
        .map_or_else(|error| format!("failed: {error}"), turnkit::FinalText::into_string);
    format!("{lines}--\n{calls}\n--\n{result}")
}

fn agent() -> Script {
    Script::new()
        .event(events::event("execution.started", &json!({ "executionId": "exec-1" })))
        .event(events::delta("prt_1", "Let me look. "))
        .event(events::tool("prt_2", ToolStatus::Running))
        .event(events::tool("prt_2", ToolStatus::Completed))
        .event(events::delta("prt_3", "Done."))
}

#[tokio::test]
async fn a_turn_that_completes() {
    insta::assert_snapshot!(show(agent()).await, @r##"
    {"type":"session.run.started","data":{"sessionId":"thread-abc","tenantId":"acme","turnIndex":3,"executionId":"project:thread-abc:3"}}
    {"type":"execution.started","data":{"executionId":"exec-1"}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_1","messageID":"msg_1","type":"text"},"delta":"Let me look. "}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_2","messageID":"msg_1","type":"tool","tool":"bash","state":{"status":"running"}}}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_2","messageID":"msg_1","type":"tool","tool":"bash","state":{"status":"completed"}}}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_3","messageID":"msg_1","type":"text"},"delta":"Done."}}
    {"type":"session.run.completed","data":{"sessionId":"thread-abc"}}
    --
    find_completed
    transform_final_text "Let me look. \n\nDone."
    persist_assistant_message "Let me look. \n\nDone."
    on_turn_complete "Let me look. \n\nDone."
    trace_flush
    --
    Let me look. 

    Done.
    "##);
}

#[tokio::test]
async fn a_turn_whose_agent_reports_an_error() {
    let own = events::verbatim(
        r#"{"type":"error","data":{"code":"AGENT_EXECUTION_FAILED","message":"out of tokens"},"n":1E5}"#,
    );
    insta::assert_snapshot!(show(agent().event(own).text(" And more.")).await, @r##"
    {"type":"session.run.started","data":{"sessionId":"thread-abc","tenantId":"acme","turnIndex":3,"executionId":"project:thread-abc:3"}}
    {"type":"execution.started","data":{"executionId":"exec-1"}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_1","messageID":"msg_1","type":"text"},"delta":"Let me look. "}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_2","messageID":"msg_1","type":"tool","tool":"bash","state":{"status":"running"}}}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_2","messageID":"msg_1","type":"tool","tool":"bash","state":{"status":"completed"}}}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_3","messageID":"msg_1","type":"text"},"delta":"Done."}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_1","messageID":"msg_1","type":"text"},"delta":" And more."}}
    {"type":"error","data":{"code":"AGENT_EXECUTION_FAILED","message":"out of tokens"},"n":1E5}
    {"type":"session.run.failed","data":{"sessionId":"thread-abc","message":"out of tokens","retryable":false,"code":"AGENT_EXECUTION_FAILED","phase":"produce"}}
    --
    find_completed
    on_turn_failed AGENT_EXECUTION_FAILED "Let me look.  And more.\n\nDone."
    trace_flush
    --
    failed: out of tokens
    "##);
}

#[tokio::test]
async fn a_turn_whose_producer_fails() {
    let error = ScriptError::new("the agent is gone\n").code("execution_lost").retryable();
    insta::assert_snapshot!(show(agent().fail_with(error)).await, @r##"
    {"type":"session.run.started","data":{"sessionId":"thread-abc","tenantId":"acme","turnIndex":3,"executionId":"project:thread-abc:3"}}
    {"type":"execution.started","data":{"executionId":"exec-1"}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_1","messageID":"msg_1","type":"text"},"delta":"Let me look. "}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_2","messageID":"msg_1","type":"tool","tool":"bash","state":{"status":"running"}}}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_2","messageID":"msg_1","type":"tool","tool":"bash","state":{"status":"completed"}}}}
    {"type":"message.part.updated","data":{"part":{"id":"prt_3","messageID":"msg_1","type":"text"},"delta":"Done."}}
    {"type":"error","data":{"message":"the agent is gone\\n","code":"execution_lost"}}
    {"type":"session.run.failed","data":{"sessionId":"thread-abc","message":"the agent is gone\\n","retryable":true,"code":"execution_lost","phase":"produce"}}
    --
    find_completed
    on_turn_failed execution_lost "Let me look. \n\nDone."
    trace_flush
    --
    failed: the agent is gone
    "##);
}
