//! `cargo xtask bench LAYER`.

use crate::shell::{cargo, run as sh};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The layer, then what its bench takes (`--help` after the layer shows it)
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "LAYER [ARGS]"
    )]
    layer: Vec<String>,
}

/// Builds the benches in release and prints one table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    sh(cargo([
        "run",
        "--quiet",
        "--release",
        "--locked",
        "-p",
        "turnkit-bench",
        "--",
    ])
    .args(&args.layer))
}
