//! `cargo xtask load`.

use crate::browser::target_directory;
use crate::run::Args;
use crate::shell::{cargo, run as sh};

/// Many turns at once through a release build of the server.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    sh(&mut cargo(["build", "--release", "--locked", "-p", "turnkit-server"]))?;
    let binary = target_directory()?.join("release/turnkit");
    sh(cargo(["run", "--quiet", "--release", "--locked", "-p", "turnkit-load", "--", "--server"])
        .arg(binary)
        .args(args.arguments()))
}
