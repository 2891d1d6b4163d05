//! What an agent is: one request, one cancel and one inbox in, a stream of events out.
//!
//! ```
//! use futures_util::stream;
//! use turnkit_agent::{Agent, AgentError, Run};
//! use turnkit_wire::{Event, write::TurnResult};
//!
//! struct Echo;
//!
//! impl Agent for Echo {
//!     fn run(&self, run: Run) -> impl futures_core::Stream<Item = Result<Event, AgentError>> + Send + 'static {
//!         stream::iter([Ok(TurnResult::new().final_text(run.request().message()).event())])
//!     }
//! }
//! ```
//!
//! An [`Agent`] stands behind a substrate (`turnkit-substrate`), which runs it once per execution and keeps what it says; or
//! it is asked by hand. `turnkit-agents` has agents that are ready.
//!
//! # In scope
//! The trait and its contract, its erased form, one [`Run`] of it (what is asked, [`RunRequest`], how it is stopped,
//! [`Cancel`], and what it asks and is told meanwhile, [`Inbox`]), and how it fails ([`AgentError`]).
//!
//! # Out of scope
//! Running an agent, keeping its events, HTTP. This crate needs no runtime.

mod agent;
mod cancel;
mod error;
mod inbox;
mod request;
mod run;

pub use self::{
    agent::{Agent, CANCEL_GRACE, ErasedAgent, EventStream},
    cancel::{Cancel, CancelHandle},
    error::{AgentError, code},
    inbox::{Answer, Inbox, InboxHandle, Input, Received, Said, Takes},
    request::{Backend, HistoryOmitted, InvalidRequest, RunRequest},
    run::Run,
};
