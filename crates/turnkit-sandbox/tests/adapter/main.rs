//! The adapter over real sockets, against a server that says what each test tells it to.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod answers;
mod contract;
mod hostile;
mod joining;
mod requests;
mod resuming;
mod support;
mod vectors;
