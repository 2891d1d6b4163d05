//! A chat over the store in memory and a substrate in the same process: its calls, and its routes for front ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod calls;
#[cfg(feature = "axum")]
mod front_ends;
#[cfg(feature = "axum")]
mod interactions;
mod rig;
