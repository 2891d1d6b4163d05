//! Turns in the published clients of the AI SDK, AG-UI and TanStack AI.

use std::process::Command;

use anyhow::ensure;

use crate::browser::{node_version, target_directory};
use crate::shell::{cargo, root, run as sh};

const NEEDS: &str = "the tests of front ends need node 20.11 or later, and npm's registry for the packages of the lock file.
Without them: cargo xtask test --no-browser";

/// Runs `tests/front-ends` with the encoders and the real server.
pub(crate) fn test() -> anyhow::Result<()> {
    ensure!(node_version().is_some_and(|version| version >= (20, 11)), "{NEEDS}");
    sh(&mut cargo(["build", "--locked", "-p", "turnkit-server"]))?;
    let example = ["--example", "encode", "--all-features"];
    sh(cargo(["build", "--locked", "-p", "turnkit-ui"]).args(example))?;
    let target = target_directory()?.join("debug");
    let mut scripts = Command::new("node");
    scripts.arg("tests/front-ends/run.mjs");
    scripts.arg(target.join("examples/encode")).arg(target.join("turnkit"));
    sh(scripts.current_dir(root()))
}
