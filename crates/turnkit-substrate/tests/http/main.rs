//! The substrate over real HTTP.

mod agents;
mod client;
mod demo;
