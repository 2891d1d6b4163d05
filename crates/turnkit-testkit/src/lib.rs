//! Tools for testing what is built on turnkit: scripted producers, recording hooks, a reader of bodies, and contract suites.
//!
//! ```
//! use std::sync::Arc;
//! use turnkit_testkit::{BodyReader, Recorder, Script, turn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hooks = Arc::new(Recorder::new());
//! let (body, driver) = turn().start(Script::new().text("Hello"), hooks.clone());
//! let (lines, outcome) = tokio::join!(async { BodyReader::new(body).rest().await }, driver);
//! assert_eq!(lines.len(), 3);
//! assert_eq!(outcome.result.unwrap().as_str(), "Hello");
//! # }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | a product's hooks and routes | [`Script`], a producer that does what a test says, and [`BodyReader`], which reads its body as a client does |
//! | a producer that passes events on | [`producer_contract!`], [`Recorder`] |
//! | a producer that makes events of a model's stream | [`translating_contract!`] |
//! | a store of execution logs (feature `substrate`) | `log_contract!`, [`redis`] |
//! | a store of a product's turns (feature `chat`) | `chat_store_contract!`, [`postgres`] |
//! | a whole product, as a process (feature `product`, Unix) | `product_contract!` |
//!
//! # In scope
//! Tests of crates that build on turnkit. Everything here panics where a test should fail.
//!
//! # Out of scope
//! Anything that runs in production.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a test tool fails a test by panicking"
)]

pub mod contract;
pub mod events;
#[cfg(unix)]
mod keeper;
#[cfg(feature = "substrate")]
pub mod log_contract;
#[cfg(unix)]
pub mod postgres;
#[cfg(all(unix, feature = "product"))]
pub mod product_contract;
pub mod proxy;
#[cfg(unix)]
pub mod redis;
#[cfg(feature = "chat")]
pub mod store_contract;

mod body;
mod recorder;
mod script;

pub use self::{
    body::BodyReader,
    contract::{ProducerFixture, Upstream, UpstreamEnd, translating::Recording},
    recorder::{Call, Fault, Recorder, Store},
    script::{Probe, Script, ScriptError},
};

use turnkit::{ChatTurn, ExecutionId, TurnIdentity};

/// The turn `acme`, `thread-abc`, `ada`, 3, under the execution id `project:thread-abc:3`.
///
/// # Panics
/// Never: the id is well formed.
pub fn turn() -> ChatTurn {
    let identity = TurnIdentity {
        tenant_id: "acme".into(),
        session_id: "thread-abc".into(),
        user_id: "ada".into(),
        turn_index: 3,
    };
    ChatTurn::new(identity, execution_id())
}

/// The execution id of [`turn`].
///
/// # Panics
/// Never: the id is well formed.
#[must_use]
pub fn execution_id() -> ExecutionId {
    ExecutionId::derive("project", "thread-abc", 3).expect("a valid id")
}

/// The guide, compiled as it is printed.
#[cfg(all(doctest, feature = "chat"))]
#[doc = include_str!("../../../docs/guide/write-a-store.md")]
struct Guide;
