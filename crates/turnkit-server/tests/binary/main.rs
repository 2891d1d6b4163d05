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
mod logs;
mod lost_memory;
mod model;
#[cfg(feature = "otel")]
mod otel;
mod program;
mod redis;
mod serve;
mod support;
