//! The substrate over real HTTP.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what the tests share fails them by panicking"
)]

mod agents;
mod budgets;
mod cancel;
mod client;
mod connections;
mod questions;
mod races;
mod requests;
mod runs;
mod scopes;
mod streams;
mod table;

use std::sync::Arc;

use turnkit_substrate::{Clock, ExecutionLog, Limits, MemoryLog};

/// The log of every substrate here. Those over Redis are tested with the same clients and tables (`tests/redis`).
fn log(limits: Limits, clock: Arc<dyn Clock>) -> impl ExecutionLog {
    MemoryLog::with_clock(limits, clock)
}
