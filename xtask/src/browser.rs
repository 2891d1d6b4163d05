//! The page in a real browser: its tests, and its pictures.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::shell::{cargo, root, run as sh};

/// What the scripts in `tests/browser` need, and where it comes from.
const NEEDS: &str = "the browser tests need node 20.11 or later, and Chromium.
  Debian:  apt-get install nodejs npm chromium  (Debian 12 has node 18: `npm install --global node@22` adds a later one)
  else:    node from nodejs.org, then `npx playwright-core install chromium` in tests/browser, or CHROMIUM=/path
Without them: cargo xtask test --no-browser";
const NODE: (u32, u32) = (20, 11);

/// Tests the page before a scripted server and before the real one.
pub(crate) fn test() -> anyhow::Result<()> {
    run(&[])
}

/// Takes the pictures in `docs/screenshots`.
pub(crate) fn screenshots() -> anyhow::Result<()> {
    run(&["--screenshots"])
}

fn run(arguments: &[&str]) -> anyhow::Result<()> {
    ensure!(node_version().is_some_and(|version| version >= NODE), "{NEEDS}");
    sh(&mut cargo(["build", "--locked", "-p", "turnkit-server"]))?;
    let binary = target_directory()?.join("debug/turnkit");
    let mut scripts = Command::new("node");
    sh(scripts.arg("tests/browser/run.mjs").arg(binary).args(arguments).current_dir(root()))
}

/// The first two numbers of what `node --version` prints.
pub(crate) fn node_version() -> Option<(u32, u32)> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(crate) fn target_directory() -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec();
    Ok(metadata.context("cargo metadata")?.target_directory.into())
}
