//! A chat turn behind plain hyper: `cargo run -p turnkit --features http-body --example hyper`, then
//! `curl -N 127.0.0.1:3001`.

use std::convert::Infallible;

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use turnkit::{
    BoxError, ChatTurn, ExecutionId, FinalText, Persisted, TurnBody, TurnContext, TurnHooks,
    TurnIdentity, producer, wire::write::Part,
};

struct Hooks;

impl TurnHooks for Hooks {
    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        eprintln!("saved: {}", text.as_str());
        Ok(Persisted::Saved)
    }
}

async fn serve(_: Request<Incoming>) -> Result<Response<TurnBody>, BoxError> {
    let identity = TurnIdentity {
        tenant_id: "acme".into(),
        session_id: "thread-abc".into(),
        user_id: "ada".into(),
        turn_index: 0,
    };
    let execution_id = ExecutionId::derive("example", &identity.session_id, identity.turn_index)?;
    let words = ["one, ", "two, ", "three"].map(|word| Part::new("p").text_delta(word));
    let turn = ChatTurn::new(identity, execution_id);
    let (body, driver) = turn.start(producer::from_events(words), Hooks);
    tokio::spawn(driver);
    Ok(body.into_response())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<Infallible, BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3001").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new()) // without one, a silent connection stays open for ever
            .serve_connection(TokioIo::new(stream), service_fn(serve));
        tokio::spawn(connection);
    }
}
