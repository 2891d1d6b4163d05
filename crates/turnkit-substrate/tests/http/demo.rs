//! The demo agent, as a client sees it.

use std::time::Duration;

use turnkit_substrate::agents::demo::Demo;

use crate::client::{Frame, Server, kinds, stream};

async fn answer(message: &str) -> Vec<Frame> {
    let server = Server::with_agent(Demo::new().pace(Duration::ZERO)).await;
    stream(server.run("exec-1", message)).await
}

#[tokio::test]
async fn it_reasons_calls_a_tool_and_answers_in_pieces() {
    let frames = answer("hello there").await;
    let kinds = kinds(&frames);
    assert_eq!(kinds.first(), Some(&"execution.started"));
    assert_eq!(kinds[kinds.len() - 2..], ["result", "execution.completed"]);

    let parts: Vec<_> =
        frames.iter().filter(|frame| frame.kind == "message.part.updated").collect();
    let mut types: Vec<_> =
        parts.iter().map(|frame| frame.data["part"]["type"].as_str().unwrap()).collect();
    types.dedup();
    assert_eq!(types, ["reasoning", "tool", "text"]);
    let tools: Vec<_> =
        parts.iter().filter_map(|frame| frame.data["part"]["state"]["status"].as_str()).collect();
    assert_eq!(tools, ["running", "completed"]);

    let text: String = parts
        .iter()
        .filter(|frame| frame.data["part"]["type"] == "text")
        .map(|frame| frame.data["delta"].as_str().unwrap())
        .collect();
    let result = &frames[frames.len() - 2].data;
    assert_eq!(result["finalText"], text);
    assert!(text.contains("hello there"));
    assert_eq!(result["tokenUsage"]["inputTokens"], 2);
    assert!(result["timing"]["totalMs"].is_u64());
}

#[tokio::test]
async fn its_answer_depends_on_the_message_alone() {
    let without_times = |frames: Vec<Frame>| -> Vec<_> {
        let middle = 1..frames.len() - 1;
        frames[middle].iter().map(|frame| (frame.kind.clone(), frame.data.clone())).collect()
    };
    let first = without_times(answer("same").await);
    assert_eq!(first, without_times(answer("same").await));
    assert_ne!(first, without_times(answer("other").await));
}

#[tokio::test]
async fn the_word_long_gets_200_pieces() {
    let pieces = async |message| {
        let frames = answer(message).await;
        frames.iter().filter(|frame| frame.data["part"]["type"] == "text").count()
    };
    assert_eq!(pieces("Tell me a LONG story").await, 200);
    assert!(pieces("so it belongs here").await < 100);
}
