//! The server that people use: chat turns over HTTP that lose nothing, and the program `turnkit`.
//!
//! ```
//! # use turnkit_sandbox::SandboxClient;
//! use turnkit_server::Product;
//!
//! # let data_dir = std::env::temp_dir().join(format!("turnkit-doc-{}", std::process::id()));
//! let substrate = SandboxClient::builder("http://127.0.0.1:8788").build()?;
//! let product = Product::builder(&data_dir, substrate).build()?;
//! let routes = product.router(); // an `axum::Router`: serve it, and spawn `product.sweep_always()` beside it
//! # drop((routes, product));
//! # std::fs::remove_dir_all(data_dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Most people run the program instead: `turnkit serve`, `turnkit chat`, `turnkit demo`, `turnkit substrate`.
//!
//! How it keeps the promise of PROTOCOL 4.2:
//! - A turn and its user's message are **one transaction**; the session's index and the client's `turnId` are unique.
//! - A turn is **dispatched once**: one conditional update marks its row before the first `run`. Everything later attaches.
//! - One attempt **drives** a turn; it goes on when its client leaves. All others **read along**, for as long as their client
//!   stays. Both may save the answer, keyed by execution id; only the driver ends a turn without one.
//! - A **sweep** takes up what no living process drives. A killed process holds no turn: its lease is a lock that the
//!   operating system lets go.
//!
//! # In scope
//! Sessions, turns and messages in SQLite, users by bearer token, the product's routes and page, an embedded substrate, the
//! command line and its configuration file.
//!
//! # Out of scope
//! The order of hooks (`turnkit`), reconnecting to the substrate (`turnkit-sandbox`), running agents (`turnkit-substrate`).
//! Without users' tokens it serves one local user, on loopback only.

mod agents;
pub mod cli;
mod data_dir;
mod embedded;
mod environment;
mod log;
mod metrics;
mod outcome;
mod page;
mod principal;
mod product;
mod random;
mod routes;
mod server;
mod store;
mod turns;
mod users;
mod worker;

pub use self::agents::Agents;
pub use self::environment::{Environment, Hooked, OnHook, Pause};
pub use self::log::{LogChoice, OpenLogError};
pub use self::product::{OpenError, Product, ProductBuilder};
pub use self::server::{Server, ServerConfig, StartError, SubstrateChoice};
pub use self::users::{Users, UsersError};
