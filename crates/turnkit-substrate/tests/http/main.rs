//! The substrate over real HTTP.

mod agents;
mod budgets;
mod cancel;
mod client;
mod connections;
mod demo;
mod races;
mod requests;
mod runs;
mod scopes;
mod streams;
mod table;
