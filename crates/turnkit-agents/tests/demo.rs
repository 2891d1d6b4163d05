//! The demo agent, event by event.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use turnkit_agent::{Agent as _, RunRequest};
use turnkit_agents::demo::Demo;
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

async fn answer(message: &str) -> Vec<Event> {
    let request = RunRequest::new(ExecutionId::parse("exec-1").unwrap(), message);
    let events = Demo::new().pace(Duration::ZERO).run(request.into());
    events.boxed().try_collect().await.unwrap()
}

/// The updates of parts.
fn parts(events: &[Event]) -> Vec<Value> {
    let parts = events.iter().filter(|event| event.kind() == "message.part.updated");
    parts.map(|event| event.data().unwrap()).collect()
}

#[tokio::test]
async fn it_reasons_calls_a_tool_and_answers_in_pieces() {
    let events = answer("hello there").await;
    let parts = parts(&events);
    let mut types: Vec<_> =
        parts.iter().map(|data| data["part"]["type"].as_str().unwrap()).collect();
    types.dedup();
    assert_eq!(types, ["reasoning", "tool", "text"]);
    let tools: Vec<_> =
        parts.iter().filter_map(|data| data["part"]["state"]["status"].as_str()).collect();
    assert_eq!(tools, ["running", "completed"]);

    let text: String = parts
        .iter()
        .filter(|data| data["part"]["type"] == "text")
        .map(|data| data["delta"].as_str().unwrap())
        .collect();
    let last = events.last().unwrap();
    assert_eq!(last.kind(), "result");
    let result: Value = last.data().unwrap();
    assert_eq!(result["finalText"], text);
    assert!(text.contains("hello there"));
    assert_eq!(result["tokenUsage"]["inputTokens"], 2);
    assert!(result["timing"]["totalMs"].is_u64());
}

#[tokio::test]
async fn its_answer_depends_on_the_message_alone() {
    let first = answer("same").await;
    assert_eq!(first, answer("same").await);
    assert_ne!(first, answer("other").await);
}

#[tokio::test]
async fn the_word_long_gets_200_pieces() {
    let pieces = async |message| {
        let events = answer(message).await;
        parts(&events).iter().filter(|data| data["part"]["type"] == "text").count()
    };
    assert_eq!(pieces("Tell me a LONG story").await, 200);
    assert!(pieces("so it belongs here").await < 100);
}
