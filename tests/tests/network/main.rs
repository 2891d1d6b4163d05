//! The whole stack over networks that fail for real: half-open connections, and nginx in between.
//!
//! Linux only. Where the machine lacks a tool or forbids namespaces, the tests say so and pass; under `CI=true` they fail.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod half_open;
mod namespace;
mod nginx;
mod site;
