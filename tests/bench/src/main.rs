//! The benches of the layers, one subcommand each; `cargo xtask bench LAYER` builds and calls it.
//!
//! Nothing timed decides a test: a bench prints a table, and people read it.

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
    /// The codec: SSE parsing, SSE to NDJSON, NDJSON decoding
    Wire(wire::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().layer {
        Layer::Wire(args) => wire::run(&args),
    }
}
