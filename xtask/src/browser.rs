//! The page in a real browser: its tests, and its pictures.

use std::process::Command;

use anyhow::ensure;

use crate::programs::Programs;
use crate::shell::{root, run as sh};

/// What the scripts in `tests/browser` need, and where it comes from.
const NEEDS: &str = "the browser tests need node 20.11 or later, and Chromium.
  Debian:  apt-get install nodejs npm chromium  (Debian 12 has node 18: `npm install --global node@22` adds a later one)
  else:    node from nodejs.org, then `npx playwright-core install chromium` in tests/browser, or CHROMIUM=/path
Without them: cargo xtask test --no-browser";
const NODE: (u32, u32) = (20, 11);

/// Tests the page before a scripted server and before the real one, which keeps its turns in SQLite and then in PostgreSQL.
pub(crate) fn test() -> anyhow::Result<()> {
    run(&[])?;
    run(&["--postgres"])
}

/// Takes the pictures in `docs/screenshots`.
pub(crate) fn screenshots() -> anyhow::Result<()> {
    run(&["--screenshots"])
}

fn run(arguments: &[&str]) -> anyhow::Result<()> {
    ensure!(node_version().is_some_and(|version| version >= NODE), "{NEEDS}");
    let programs = Programs::build()?;
    let mut scripts = Command::new("node");
    scripts.arg("tests/browser/run.mjs").arg(programs.turnkit).args(arguments);
    sh(scripts.current_dir(root()))
}

/// The first two numbers of what `node --version` prints.
pub(crate) fn node_version() -> Option<(u32, u32)> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
