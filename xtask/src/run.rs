//! Commands that build another tool of the workspace and hand their arguments on.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::shell::{cargo, root, run as sh};

/// What the tool takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the tool itself takes (`--help` shows it)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// The benches, which print one table a layer.
pub(crate) fn bench(args: &Args) -> anyhow::Result<()> {
    tool("turnkit-bench", args)
}

/// The simulation.
pub(crate) fn sim(args: &Args) -> anyhow::Result<()> {
    tool("turnkit-sim", args)
}

/// The page in a real browser, before a scripted server and before the real one.
pub(crate) fn browser() -> anyhow::Result<()> {
    let node = Command::new("node").arg("--version").output();
    ensure!(
        node.is_ok(),
        "needs node 20.11 or later, and Chromium (`apt-get install chromium`, or CHROMIUM=/path)"
    );
    sh(&mut cargo(["build", "--locked", "-p", "turnkit-server"]))?;
    let binary = target_directory()?.join("debug/turnkit");
    sh(Command::new("node").arg("tests/browser/run.mjs").arg(binary).current_dir(root()))
}

fn tool(package: &str, args: &Args) -> anyhow::Result<()> {
    sh(cargo(["run", "--quiet", "--release", "--locked", "-p", package, "--"])
        .args(&args.arguments))
}

fn target_directory() -> anyhow::Result<std::path::PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec();
    Ok(metadata.context("cargo metadata")?.target_directory.into())
}
