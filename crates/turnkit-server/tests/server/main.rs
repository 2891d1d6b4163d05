//! The server over real HTTP: its routes, its turns, and what is left of them when things break.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod agents;
mod cancelling;
mod chat;
mod deletion;
mod faults;
mod feed;
mod history;
mod identity;
mod queue;
mod refusals;
mod sessions;
mod stopping;
mod support;
mod trace;
mod turns;
