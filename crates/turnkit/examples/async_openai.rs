//! A producer out of the stream that `async-openai` gives for a chat completion.
//!
//! In a product: `chat_events(client.chat().create_stream(request).await?)`. Here the chunks are read from a recording:
//! `cargo run -p turnkit --example async_openai`.

use async_openai::types::chat::CreateChatCompletionStreamResponse as Chunk;
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use turnkit::{BoxError, Event, TurnProducer, producer};
use turnkit_testkit::{Recorder, turn};

/// Each chunk's text as a delta of one part, the usage of the last chunk as a `result`.
fn chat_events<E>(chunks: impl Stream<Item = Result<Chunk, E>> + Send) -> impl TurnProducer
where
    E: Into<BoxError> + Send,
{
    producer::from_stream(chunks.flat_map(|chunk| stream::iter(events(chunk.map_err(Into::into)))))
}

fn events(chunk: Result<Chunk, BoxError>) -> Vec<Result<Event, BoxError>> {
    let chunk = match chunk {
        Ok(chunk) => chunk,
        Err(error) => return vec![Err(error)],
    };
    let part = json!({ "id": chunk.id, "messageID": chunk.id, "type": "text" });
    let texts = chunk.choices.into_iter().filter_map(|choice| choice.delta.content);
    let deltas = texts.map(|text| ("message.part.updated", json!({ "part": part, "delta": text })));
    let usage = chunk.usage.map(|usage| {
        let tokens =
            json!({ "inputTokens": usage.prompt_tokens, "outputTokens": usage.completion_tokens });
        ("result", json!({ "tokenUsage": tokens }))
    });
    deltas.chain(usage).map(|(kind, data)| Ok(Event::new(kind, &data)?)).collect()
}

const RECORDING: &str = r#"
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
