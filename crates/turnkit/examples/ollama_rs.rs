//! A producer out of the stream that `ollama-rs` gives for a chat, with the model's thinking kept apart.
//!
//! In a product: `chat_events(ollama.send_chat_messages_stream(request).await?.map_err(|()| "the stream broke"))`. Here the
//! responses are read from a recording: `cargo run -p turnkit --example ollama_rs`.

use futures::{Stream, StreamExt, stream};
use ollama_rs::generation::chat::ChatMessageResponse;
use serde_json::json;
use turnkit::{BoxError, Event, TurnProducer, producer};
use turnkit_testkit::{Recorder, turn};

/// Text and thinking as deltas of two parts: only parts of type `text` count in the saved answer.
fn chat_events<E>(
    responses: impl Stream<Item = Result<ChatMessageResponse, E>> + Send,
) -> impl TurnProducer
where
    E: Into<BoxError> + Send,
{
    let events = |response: Result<ChatMessageResponse, E>| match response {
        Ok(response) => events(&response),
        Err(error) => vec![Err(error.into())],
    };
    producer::from_stream(responses.flat_map(move |response| stream::iter(events(response))))
}

fn events(response: &ChatMessageResponse) -> Vec<Result<Event, BoxError>> {
    let message = &response.message;
    let thinking = message.thinking.as_deref().unwrap_or_default();
    let parts = [("prt_thinking", "reasoning", thinking), ("prt_text", "text", &message.content)];
    let said = parts.into_iter().filter(|(_, _, delta)| !delta.is_empty());
    said.map(|(id, kind, delta)| {
        let part = json!({ "id": id, "type": kind });
        Ok(Event::new("message.part.updated", &json!({ "part": part, "delta": delta }))?)
    })
    .collect()
}

const RECORDING: &str = r#"
{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","thinking":"A greeting."},"done":false}
{"model":"m","created_at":"2026-01-01T00:00:01Z","message":{"role":"assistant","content":"Hello, "},"done":false}
{"model":"m","created_at":"2026-01-01T00:00:02Z","message":{"role":"assistant","content":"world."},"done":false}
{"model":"m","created_at":"2026-01-01T00:00:03Z","message":{"role":"assistant","content":""},"done":true}
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let responses = stream::iter(RECORDING.trim().lines().map(serde_json::from_str));
    let mut body = turn().start_inline(chat_events(responses), Recorder::new());
    while let Some(lines) = body.next().await {
        eprint!("{}", String::from_utf8_lossy(&lines));
    }
    let outcome = body.into_outcome().ok_or("the turn has ended")?;
    assert_eq!(outcome.result?.as_str(), "Hello, world.");
    Ok(())
}
