//! The program `turnkit`, as a process.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod chat;
mod demo;
mod kill;
mod serve;
mod support;
