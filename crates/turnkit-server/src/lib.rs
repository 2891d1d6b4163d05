//! The server that people use: chat turns over HTTP that lose nothing, and the program `turnkit`.
//!
//! Most people run the program instead: `turnkit serve`, `turnkit chat`, `turnkit demo`, `turnkit substrate`.
//!
//! It is wiring: the command line and its configuration file, the page, metrics and traces, around [`turnkit_chat`] over a SQLite
//! file, and a substrate inside the process where none is named. Without users' tokens it serves one local user, on loopback only.
//!
//! # Out of scope
//! What happens to a turn (`turnkit-chat`), the order of hooks (`turnkit`), reconnecting to the substrate (`turnkit-sandbox`),
//! running agents (`turnkit-substrate`).

mod agents;
pub mod cli;
mod embedded;
mod log;
mod metrics;
mod outcome;
mod page;
mod routes;
mod server;
mod traces;

pub use self::agents::Agents;
pub use self::log::{LogChoice, OpenLogError};
pub use self::server::{Server, ServerConfig, StartError, SubstrateChoice};
