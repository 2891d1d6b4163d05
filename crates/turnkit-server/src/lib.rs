//! The server that people use: chat turns over HTTP that lose nothing, and the program `turnkit`.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use turnkit_agents::demo::Demo;
//! use turnkit_server::{Agents, Server, ServerConfig, SubstrateChoice};
//!
//! let agents = SubstrateChoice::Embedded(Agents::new("demo", Demo::new()));
//! let server = Server::start(ServerConfig::new("127.0.0.1:0".parse()?, "turnkit-data", agents)).await?;
//! server.stop(std::time::Duration::from_secs(30)).await;
//! # Ok(()) }
//! ```
//!
//! Most people run the program instead: `turnkit serve`, `turnkit chat`, `turnkit demo`, `turnkit substrate`.
//!
//! # In scope
//! Wiring: the command line and its configuration file, the page, metrics and traces, around [`turnkit_chat`] over a SQLite file or a
//! PostgreSQL database, and a substrate inside the process where none is named. Without users' tokens it serves one local user, on loopback only.
//!
//! # Out of scope
//! What happens to a turn (`turnkit-chat`), the order of hooks (`turnkit`), reconnecting to the substrate (`turnkit-sandbox`),
//! running agents (`turnkit-substrate`).

mod agents;
mod base_path;
pub mod cli;
mod database;
mod embedded;
mod log;
mod metrics;
mod outcome;
mod page;
mod routes;
mod server;
mod stderr;
mod traces;

pub use self::agents::Agents;
pub use self::base_path::{BasePath, InvalidBasePath};
pub use self::database::DatabaseChoice;
pub use self::log::{LogChoice, OpenLogError};
pub use self::server::{Server, ServerConfig, StartError, SubstrateChoice, UsersChoice};
