//! A chat turn behind axum: `cargo run -p turnkit --features http-body --example route`, then `curl -N 127.0.0.1:3000/turn`.

use std::time::Duration;

use axum::{Router, response::IntoResponse, routing::get};
use turnkit::{
    BoxError, ChatTurn, ExecutionId, FinalText, Persisted, TurnContext, TurnHooks, TurnIdentity,
    TurnProducer, producer, wire::write::Part,
};

struct Hooks;

impl TurnHooks for Hooks {
    async fn persist_assistant_message(
        &self,
        cx: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        eprintln!("{} is saved: {}", cx.execution_id(), text.as_str());
        Ok(Persisted::Saved)
    }
}

/// An agent that says a word every 300 ms, in a task of its own.
fn agent() -> impl TurnProducer {
    let (mut sender, producer) = producer::channel();
    tokio::spawn(async move {
        for word in ["This answer ", "is saved, ", "also when ", "you leave."] {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sender.send(Part::new("p").text_delta(word)).await?;
        }
        sender.finish(); // without this, the answer would count as cut
        Ok::<_, producer::Stopped>(())
    });
    producer
}

async fn turn() -> Result<impl IntoResponse, String> {
    let identity = TurnIdentity {
        tenant_id: "acme".into(),
        session_id: "thread-abc".into(),
        user_id: "ada".into(),
        turn_index: 0,
    };
    let id = ExecutionId::derive("example", "thread-abc", 0).map_err(|error| error.to_string())?;
    let (body, driver) = ChatTurn::new(identity, id).start(agent(), Hooks);
    tokio::spawn(driver); // outlives the client: leave with Ctrl-C and see the answer saved
    Ok(body.into_response())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, Router::new().route("/turn", get(turn))).await?)
}
