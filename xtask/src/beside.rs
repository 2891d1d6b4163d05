//! `cargo xtask beside`: the SQLite store's driver and those of other crates (see `tests/beside/`).

use std::fs;

use anyhow::Context;

use crate::shell::{cargo, root, run as sh};

/// Resolves the package anew, and prints what was chosen.
pub(crate) fn run() -> anyhow::Result<()> {
    sh(&mut cargo(["generate-lockfile", "--quiet", "--manifest-path", "tests/beside/Cargo.toml"]))
        .context("turnkit-chat does not resolve beside sqlx and diesel")?;
    let lock = fs::read_to_string(root().join("tests/beside/Cargo.lock"))?;
    for name in ["libsqlite3-sys", "rusqlite", "sqlx", "diesel"] {
        let after = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
        let version = after.and_then(|(_, rest)| rest.split_once('"'));
        let (version, _) = version.with_context(|| format!("{name} is not in the lock file"))?;
        eprintln!("{name} {version}");
    }
    Ok(())
}
