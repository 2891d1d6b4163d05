//! The substrate over real HTTP.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what the tests share fails them by panicking"
)]

mod agents;
mod budgets;
mod cancel;
mod client;
mod connections;
mod demo;
mod races;
mod requests;
mod runs;
mod scopes;
mod streams;
mod table;
