//! A driver that nobody spawns warns.
#![deny(unused_must_use)]

use turnkit::{BoxError, ChatTurn, FinalText, Persisted, Produced, TurnContext, TurnHooks, TurnProducer};

struct Nothing;

impl TurnHooks for Nothing {
    async fn persist_assistant_message(&self, _: &TurnContext, _: &FinalText) -> Result<Persisted, BoxError> {
        Ok(Persisted::Saved)
    }
}

impl TurnProducer for Nothing {
    type Error = BoxError;

    async fn next(&mut self) -> Result<Produced, BoxError> {
        Ok(Produced::Done { final_text: None })
    }
}

fn forgotten(turn: ChatTurn) {
    turn.start(Nothing, Nothing).1;
}

fn inline(turn: ChatTurn) {
    turn.start_inline(Nothing, Nothing);
}

fn main() {}
