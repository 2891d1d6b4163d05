//! The program `turnkit`, as a process.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod chat;
mod config;
mod demo;
mod kill;
mod model;
mod program;
mod serve;
mod support;
