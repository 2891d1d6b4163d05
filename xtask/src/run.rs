//! Commands that build another tool of the workspace and hand their arguments on.

use crate::shell::{cargo, run as sh};

/// What the tool takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the tool itself takes; its own `--help` shows it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<String>,
}

/// The benches, which print one table a layer.
pub(crate) fn bench(args: &Args) -> anyhow::Result<()> {
    tool("turnkit-bench", args)
}

/// The simulation.
pub(crate) fn sim(args: &Args) -> anyhow::Result<()> {
    tool("turnkit-sim", args)
}

/// Many turns at once through a server process.
pub(crate) fn load(args: &Args) -> anyhow::Result<()> {
    tool("turnkit-load", args)
}

fn tool(package: &str, args: &Args) -> anyhow::Result<()> {
    sh(cargo(["run", "--quiet", "--release", "--locked", "-p", package, "--"])
        .args(&args.arguments))
}
