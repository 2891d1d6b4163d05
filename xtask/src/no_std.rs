//! `cargo xtask no-std`: the proof by linking (see `tests/no-std/`).

use crate::shell::{cargo, root, run as sh};

/// Builds the static library that has a panic handler of its own.
pub(crate) fn run() -> anyhow::Result<()> {
    let target = root().join("target/no-std");
    sh(cargo([
        "build",
        "--locked",
        "--manifest-path",
        "tests/no-std/Cargo.toml",
    ])
    .env("CARGO_TARGET_DIR", target))?;
    eprintln!("turnkit-wire and turnkit-id link without std");
    Ok(())
}
