//! The turn engine: one user message in, the assistant's answer out, and nothing of it lost.
//!
//! ```
//! # use turnkit::{BoxError, ChatTurn, ExecutionId, FinalText, Persisted, TurnContext, TurnHooks, TurnIdentity, producer};
//! # struct Hooks;
//! # impl TurnHooks for Hooks {
//! #     async fn persist_assistant_message(&self, _: &TurnContext, _: &FinalText) -> Result<Persisted, BoxError> {
//! #         Ok(Persisted::Saved)
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let (producer, hooks) = (producer::failed("no_agent", "there is no agent"), Hooks);
//! # let identity = TurnIdentity { tenant_id: "t".into(), session_id: "s".into(), user_id: "u".into(), turn_index: 0 };
//! # let execution_id = ExecutionId::derive("project", "s", 0)?;
//! let (body, driver) = ChatTurn::new(identity, execution_id).start(producer, hooks);
//! let turn = tokio::spawn(driver); // lives on when the client leaves
//! # let _ = body;                  // goes to the client as `application/x-ndjson`
//! let outcome = turn.await?;
//! # assert!(outcome.result.is_err());
//! # Ok(()) }
//! ```
//!
//! A [`TurnProducer`] gives events: an agent behind HTTP, a model's stream, a script. [`TurnHooks`] are what a product does
//! with them: save the answer, bill it, trace it. [`ChatTurn`] puts the two in order and gives a [`TurnBody`] for the client
//! and a [`TurnDriver`] to spawn. The driver resolves to a [`TurnOutcome`].
//!
//! What holds, whatever fails ([PROTOCOL](https://github.com/turnkit/turnkit/blob/main/docs/PROTOCOL.md) 2.1):
//! - A client that leaves, or stops reading, does not stop the turn: the answer is saved.
//! - A client that reads `session.run.completed` can rely on it: the answer was saved before.
//! - Every turn that is not cut off ends in exactly one ending, completed or failed, also when the producer or a hook panics.
//! - Events go through byte for byte, and a client that comes back after *n* of them gets the rest.
//!
//! # In scope
//! Order of hooks, envelope of success and failure, text assembly, back-pressure, cancelling, time-outs, resuming.
//!
//! # Out of scope
//! HTTP frameworks (see the examples for axum and hyper), storage, retries, which agent to run. The engine needs no runtime:
//! tokio's timer and `ChatTurn::spawn` sit behind the feature `tokio` (on by default), `http_body::Body` for [`TurnBody`]
//! and `TurnBody::into_response` behind `http-body`.

mod answer;
mod body;
mod contain;
mod driver;
mod error;
mod hooks;
mod inline;
mod machine;
mod outcome;
mod pipe;
pub mod producer;
mod sync;
mod timer;
mod turn;

pub use self::{
    answer::{Answer, AnswerPart, FinalText, Half, PartError, PartKind, RawText, Summary},
    body::TurnBody,
    driver::{TurnDriver, TurnHandle},
    error::{BoxError, Final, Hook, HookError, Phase, TurnError, code},
    hooks::{Persisted, TurnHooks},
    inline::InlineTurn,
    outcome::{ClientOutcome, TurnOutcome},
    producer::{BoxProducer, Produced, TurnProducer},
    timer::{Sleep, Timer},
    turn::{ChatTurn, ClientLeft, TurnContext, TurnIdentity},
};

#[cfg(feature = "tokio")]
pub use self::timer::TokioTimer;

pub use turnkit_id::{ExecutionId, IdError};
/// The codec: events, their errors and views, NDJSON and SSE.
pub use turnkit_wire as wire;
pub use turnkit_wire::{Event, ndjson};

/// The guides, compiled as they are printed.
#[cfg(all(doctest, feature = "http-body", feature = "tokio"))]
mod guide {
    #[doc = include_str!("../../../docs/guide/write-a-producer.md")]
    struct WriteAProducer;
}
