//! The turnkit server and its command line.
pub mod cli;
mod embedded;
mod environment;
mod metrics;
mod outcome;
mod page;
mod principal;
mod product;
mod routes;
mod server;
mod store;
mod turns;
mod worker;

pub use self::environment::{Environment, Hooked, OnHook, Pause};
pub use self::product::{OpenError, Product, ProductBuilder};
pub use self::server::{Server, ServerConfig, StartError, SubstrateChoice};
