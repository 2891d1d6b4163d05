//! The reference substrate: one execution id, one run, one log, replayed strictly after a cursor.
//!
//! ```
//! use turnkit_agents::demo::Demo;
//! use turnkit_substrate::{Limits, MemoryLog, Substrate};
//!
//! let log = MemoryLog::new(Limits::default());
//! let substrate = Substrate::builder().agent("default", Demo::new()).log(log).build()?;
//! let routes: axum::Router = substrate.router();
//! # Ok::<(), turnkit_substrate::BuildError>(())
//! ```
//!
//! A substrate owns running agents and the logs of their events. Whoever has an execution's id attaches to it at any time,
//! from the first event or strictly after the last one seen; nobody's leaving stops the agent, and no coming back starts a
//! second one. The contract is PROTOCOL 3.
//!
//! # In scope
//! The HTTP routes, running an [`Agent`], the [`ExecutionLog`] trait and its stores in memory and in Redis (feature
//! `redis`), scopes by bearer token, and limits.
//!
//! # Out of scope
//! Agents (the trait is `turnkit-agent`'s, ready ones are in `turnkit-agents`), the turn (hooks, persisting, the NDJSON body:
//! that is `turnkit`), the client side (`turnkit-sandbox`), TLS (put a proxy in front), and running anything a second time: a
//! lost run is told, never repeated.

mod agents;
mod clock;
mod cursor;
mod error;
mod events;
mod execution;
mod limits;
mod refusal;
mod routes;
mod runs;
mod scope;
mod stop;
mod substrate;
mod sync;

pub mod log;

pub use self::{
    clock::{Clock, SystemClock},
    cursor::{Cursor, EventId, MalformedCursor},
    error::{BuildError, ServeError},
    limits::Limits,
    log::{ExecutionLog, memory::MemoryLog},
    scope::Scope,
    substrate::{NotReady, Stats, Substrate, SubstrateBuilder},
};

pub use turnkit_agent::{Agent, AgentError, Cancel, ErasedAgent, Inbox, Run, RunRequest, Takes};
