//! Raw text cannot be persisted: `persist_assistant_message` takes what only the engine makes (PROTOCOL 2.1).

use turnkit::{BoxError, FinalText, Persisted, RawText, TurnContext, TurnHooks};

struct Hooks;

impl TurnHooks for Hooks {
    async fn persist_assistant_message(&self, _: &TurnContext, _: &FinalText) -> Result<Persisted, BoxError> {
        Ok(Persisted::Saved)
    }
}

async fn persist_raw(hooks: &Hooks, cx: &TurnContext, raw: &RawText) {
    let _ = hooks.persist_assistant_message(cx, raw).await;
}

async fn make_one(hooks: &Hooks, cx: &TurnContext, raw: RawText) {
    let _ = hooks.persist_assistant_message(cx, &FinalText { answer: raw.answer().clone(), unseen: false }).await;
}

fn main() {}
