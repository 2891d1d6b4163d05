//! `cargo xtask load`.

use crate::run::{self, Args};
use crate::shell::{cargo, run as sh};

/// Many turns at once through a release build of the server.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    sh(&mut cargo(["build", "--release", "--locked", "-p", "turnkit-server"]))?;
    let binary = run::target_directory()?.join("release/turnkit");
    sh(cargo(["run", "--quiet", "--release", "--locked", "-p", "turnkit-load", "--", "--server"])
        .arg(binary)
        .args(args.arguments()))
}
