//! Turns in the published clients of the AI SDK, AG-UI and TanStack AI.

use std::process::Command;

use anyhow::ensure;

use crate::browser::node_version;
use crate::programs::Programs;
use crate::shell::{root, run as sh};

const NEEDS: &str = "the tests of front ends need node 20.11 or later, and npm's registry for the packages of the lock file.
Without them: cargo xtask test --no-browser";

/// Runs `tests/front-ends` with the encoders and the real server.
pub(crate) fn test() -> anyhow::Result<()> {
    ensure!(node_version().is_some_and(|version| version >= (20, 11)), "{NEEDS}");
    let programs = Programs::build()?;
    let mut scripts = Command::new("node");
    scripts.arg("tests/front-ends/run.mjs").arg(programs.encode).arg(programs.turnkit);
    sh(scripts.current_dir(root()))
}
