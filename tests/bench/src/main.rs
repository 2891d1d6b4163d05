//! The benches of the layers, one subcommand each; `cargo xtask bench LAYER` builds and calls it.
//!
//! Nothing timed decides a test: a bench prints a table, and people read it.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

mod engine;
mod postgres;
mod redis;
mod store;
mod substrate;
mod ui;
mod wire;

use clap::{Parser, Subcommand};

/// Measures a layer beside its peers, on the same bytes and in the same run.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    layer: Layer,
}

#[derive(Subcommand)]
enum Layer {
    /// The engine: producer to body bytes, and what a turn holds
    Engine(engine::Args),
    /// The codec: SSE parsing, SSE to NDJSON, NDJSON decoding
    Wire(wire::Args),
    /// The encoders for front ends: lines of a turn to frames of the AI SDK and of AG-UI
    Ui(ui::Args),
    /// The substrate over loopback HTTP: latency, replays, memory of retained events, events over the whole path
    Substrate,
    /// The log in Redis, beside raw pipelined `XADD` of the same bytes: events a second
    Redis,
    /// The product's database in SQLite: the calls of users, with few and with many sessions and turns
    Store,
    /// The product's database in PostgreSQL, beside the bare statements of a turn: whole turns a second
    Postgres,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().layer {
        Layer::Engine(args) => engine::run(&args),
        Layer::Ui(args) => ui::run(&args),
        Layer::Wire(args) => wire::run(&args),
        Layer::Substrate => substrate::run(),
        Layer::Redis => redis::run(),
        Layer::Store => store::run(),
        Layer::Postgres => postgres::run(),
    }
}
