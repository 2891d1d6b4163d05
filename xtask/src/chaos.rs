//! `cargo xtask chaos`: real processes under faults, with the programs that the tests use.

use std::process::Command;

use crate::programs::Programs;
use crate::run::Args;
use crate::shell::run as sh;

/// Builds what `cargo test` does, and lets faults happen to it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    make(&args.arguments)
}

/// What CI does of it: always the same faults.
pub(crate) fn minute() -> anyhow::Result<()> {
    make(&["--seconds", "60", "--seed", "1", "--clients", "24"].map(str::to_owned))
}

fn make(arguments: &[String]) -> anyhow::Result<()> {
    let turnkit = Programs::build()?.turnkit;
    let chaos = turnkit.with_file_name("turnkit-chaos");
    sh(Command::new(chaos).arg("--turnkit").arg(turnkit).args(arguments))
}
