//! A producer out of the stream that `async-openai` gives for a chat completion.
//!
//! In a product: `chat_events(client.chat().create_stream(request).await?)`. Here the chunks are read from a recording:
//! `cargo run -p turnkit --example async_openai`.

use async_openai::types::chat::CreateChatCompletionStreamResponse as Chunk;
use futures::{Stream, StreamExt, stream};
use turnkit::{
    BoxError, TurnProducer, producer,
    wire::write::{Part, TokenUsage, TurnResult},
};
use turnkit_testkit::{Recorder, turn};

/// Each chunk's text as a delta of one part, the usage of the last chunk as a `result`. A finish reason says that the answer is
/// whole; the usage comes after it.
pub(crate) fn chat_events<E>(
    chunks: impl Stream<Item = Result<Chunk, E>> + Send,
) -> impl TurnProducer
where
    E: Into<BoxError> + Send,
{
    producer::translate(chunks, |chunk: Chunk, out| {
        let part = Part::new(&chunk.id).message(&chunk.id);
        for choice in chunk.choices {
            if let Some(text) = choice.delta.content {
                out.send(part.text_delta(&text));
            }
            if choice.finish_reason.is_some() {
                out.whole();
            }
        }
        if let Some(usage) = chunk.usage {
            let tokens =
                TokenUsage::new(usage.prompt_tokens.into(), usage.completion_tokens.into());
            out.send(TurnResult::new().token_usage(tokens).event());
        }
        Ok(())
    })
}

pub(crate) const RECORDING: &str = r#"
{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}
{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hello, "}}]}
{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"world."}}]}
{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let chunks = stream::iter(RECORDING.trim().lines().map(serde_json::from_str::<Chunk>));
    let mut body = turn().start_inline(chat_events(chunks), Recorder::new());
    while let Some(lines) = body.next().await {
        eprint!("{}", String::from_utf8_lossy(&lines));
    }
    let outcome = body.into_outcome().ok_or("the turn has ended")?;
    assert_eq!(outcome.result?.as_str(), "Hello, world.");
    Ok(())
}
