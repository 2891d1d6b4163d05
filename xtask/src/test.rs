//! `cargo xtask test` and `cargo xtask ci`: the same steps for people and for CI.

use std::time::Instant;

use crate::shell::{announce, cargo, run as sh};
use crate::{no_std, tidy};

type Step = (&'static str, fn() -> anyhow::Result<()>);

const STEPS: [Step; 7] = [
    ("format", || sh(&mut cargo(["fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("lints", lints),
    ("features", features),
    ("tests", || sh(&mut cargo(["test", "--workspace", "--locked"]))),
    ("documentation", documentation),
    ("no_std", no_std::run),
];

/// Runs every step, and stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    let start = Instant::now();
    for (number, (name, step)) in (1..).zip(STEPS) {
        announce(&format!("[{number}/{}] {name}", STEPS.len()));
        step()?;
    }
    announce(&format!("all passed in {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Runs every step and then the README's first command.
pub(crate) fn ci() -> anyhow::Result<()> {
    run()?;
    announce("demo");
    sh(&mut cargo(["run", "--release", "--locked", "--", "demo"]))
}

fn lints() -> anyhow::Result<()> {
    sh(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Features only add: the engine stands without any, and with each alone.
fn features() -> anyhow::Result<()> {
    for features in ["", "tokio", "http-body"] {
        sh(&mut cargo([
            "check",
            "--quiet",
            "--locked",
            "-p",
            "turnkit",
            "--no-default-features",
            "--features",
            features,
        ]))?;
    }
    Ok(())
}

fn documentation() -> anyhow::Result<()> {
    sh(cargo(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
}
