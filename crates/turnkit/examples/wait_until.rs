//! A host without tokio, on one thread, that keeps what is given to `wait_until` alive after the response, as serverless
//! hosts do: `cargo run -p turnkit --example wait_until`.

use futures::{FutureExt, StreamExt, executor::LocalPool, task::LocalSpawnExt};
use turnkit::{
    BoxError, ChatTurn, ExecutionId, FinalText, Persisted, TurnBody, TurnContext, TurnDriver,
    TurnHooks, TurnIdentity, producer, wire::write::TurnResult,
};

struct Hooks;

impl TurnHooks for Hooks {
    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        eprintln!("saved, with nobody there: {}", text.as_str());
        Ok(Persisted::Saved)
    }
}

/// A request; `wait_until` is what its host offers.
fn handle(
    wait_until: impl FnOnce(TurnDriver) -> Result<(), BoxError>,
) -> Result<TurnBody, BoxError> {
    let identity = TurnIdentity {
        tenant_id: "acme".into(),
        session_id: "thread-abc".into(),
        user_id: "ada".into(),
        turn_index: 0,
    };
    let execution_id = ExecutionId::derive("example", &identity.session_id, identity.turn_index)?;
    let result = TurnResult::new().final_text("Hello!").event();
    let producer = producer::from_events([result]);
    let (body, driver) = ChatTurn::new(identity, execution_id).start(producer, Hooks);
    wait_until(driver)?;
    Ok(body)
}

fn main() -> Result<(), BoxError> {
    let mut pool = LocalPool::new();
    let spawner = pool.spawner();
    let mut body = handle(|driver| Ok(spawner.spawn_local(driver.map(drop))?))?;
    if let Some(Ok(lines)) = pool.run_until(body.next()) {
        eprint!("{}", String::from_utf8_lossy(&lines));
    }
    drop(body); // the client leaves
    pool.run(); // the host keeps its promise
    Ok(())
}
