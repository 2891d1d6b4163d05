//! The program `turnkit`, as a process.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[cfg(all(unix, feature = "command"))]
mod asking;
mod chat;
mod config;
mod demo;
mod feed;
#[cfg(all(unix, feature = "command", feature = "openai"))]
mod guide;
mod hostile;
mod kill;
#[cfg(not(any(feature = "command", feature = "openai", feature = "postgres", feature = "redis")))]
mod lean;
mod logs;
mod lost_memory;
#[cfg(feature = "openai")]
mod model;
#[cfg(feature = "otel")]
mod otel;
#[cfg(all(unix, feature = "postgres"))]
mod postgres;
#[cfg(unix)]
mod product;
#[cfg(feature = "command")]
mod program;
#[cfg(feature = "redis")]
mod redis;
mod serve;
mod support;
mod tls;
