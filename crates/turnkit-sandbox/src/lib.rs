//! The sandbox HTTP adapter: a turn's events from an agent that runs elsewhere, each one once, however the network fares.
//!
//! ```no_run
//! # use turnkit::{ChatTurn, TurnHooks, TurnIdentity};
//! # use turnkit_id::ExecutionId;
//! # use turnkit_sandbox::{RunRequest, SandboxClient};
//! # async fn route(identity: TurnIdentity, hooks: impl TurnHooks + 'static) -> Result<(), turnkit::BoxError> {
//! let client = SandboxClient::builder("https://agents.example").bearer_token("token").build()?;
//! let id = ExecutionId::derive("project", "session", 0)?;
//! let turn = client.run(RunRequest::new(id.clone(), "What is new?").session_id("session"));
//! let (body, driver) = ChatTurn::new(identity, id).start(turn, hooks);
//! # Ok(()) }
//! ```
//!
//! [`SandboxClient::run`] starts an execution or attaches to the one that has its id; [`SandboxClient::attach`] only attaches,
//! [`SandboxClient::attach_or_bind`] for the attempt that drives a turn on, and [`SandboxClient::join`] for a reader that may come
//! before the run was accepted. Each gives a [`SandboxTurn`], a [`TurnProducer`](turnkit::TurnProducer) for the turn engine.
//!
//! What holds, whatever fails ([PROTOCOL](https://github.com/turnkit/turnkit/blob/main/docs/PROTOCOL.md) 4.1):
//! - Once a request was answered by an event stream, nothing that the turn sends can start the agent again.
//! - Events come in the log's order, without gap and without repeat, byte-exact. A gap is an [`Error::Gap`].
//! - An end that is not the execution's own is a lost connection: the turn comes back with its cursor.
//! - A log that is no longer there is an [`Error::Lost`], never a second run.
//! - No redirect is followed, nothing is decompressed, no proxy of the environment is used, and no token is printed.
//!
//! Without the feature `reqwest` (on by default) it brings no HTTP client and no TLS: give it a service of its own
//! ([`SandboxClient::over`]), or use [`resume`] alone. TLS uses the provider of cryptography that the process has installed for
//! rustls; where there is none, that of the feature `tls-aws-lc` (on by default) or `tls-ring`. It installs none itself.
//!
//! # In scope
//! Requests to a substrate and their answers, retries, resuming, time-outs, bounds, errors by who is to blame. The rules are
//! in [`resume`], a state machine without network and clock.
//!
//! # Out of scope
//! Whether a turn may still be started (the product dispatches it once, PROTOCOL 4.2), assembling text, storing anything,
//! the substrate itself.

mod agents;
mod client;
mod error;
mod producer;
mod refusal;
mod request;
pub mod resume;
mod status;
mod substrate;
mod transport;

pub use agents::{AgentInfo, AgentList, AgentTakes};
pub use client::{SandboxClient, SandboxClientBuilder};
pub use error::{BuildError, Ending, Error, ProtocolError, TransportError};
pub use producer::SandboxTurn;
pub use refusal::Refusal;
pub use request::{Backend, Role, RunRequest};
pub use resume::{PROTOCOL_VERSION, Retry};
pub use status::{ExecutionState, ExecutionStatus};

/// The guide, compiled as it is printed.
#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../../../docs/guide/run-or-attach.md")]
struct Guide;
