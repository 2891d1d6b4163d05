//! A producer out of the stream that `ollama-rs` gives for a chat, with the model's thinking kept apart.
//!
//! In a product: `chat_events(ollama.send_chat_messages_stream(request).await?.map_err(|()| "the stream broke"))`. Here the
//! responses are read from a recording: `cargo run -p turnkit --example ollama_rs`.

use futures::{Stream, StreamExt, stream};
use ollama_rs::generation::chat::ChatMessageResponse;
use turnkit::{BoxError, TurnProducer, producer, wire::write::Part};
use turnkit_testkit::{Recorder, turn};

/// Text and thinking as deltas of two parts: only parts of type `text` count in the saved answer. The last response is `done`.
pub(crate) fn chat_events<E>(
    responses: impl Stream<Item = Result<ChatMessageResponse, E>> + Send,
) -> impl TurnProducer
where
    E: Into<BoxError> + Send,
{
    producer::translate(responses, |response: ChatMessageResponse, out| {
        let message = response.message;
        if let Some(thinking) = message.thinking.filter(|thinking| !thinking.is_empty()) {
            out.send(Part::new("prt_thinking").reasoning_delta(&thinking));
        }
        if !message.content.is_empty() {
            out.send(Part::new("prt_text").text_delta(&message.content));
        }
        if response.done {
            out.whole();
        }
        Ok(())
    })
}

pub(crate) const RECORDING: &str = r#"
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
