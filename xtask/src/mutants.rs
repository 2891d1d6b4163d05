//! `cargo xtask mutants`.

use std::fs;

use anyhow::{Context, ensure};

use crate::shell::{announce, cargo, root};

/// What cargo-mutants exits with. A mutant that makes a test wait for ever is caught, but hides the survivors in this code.
const ALL_CAUGHT: i32 = 0;
const SOME_SURVIVED: i32 = 2;
const SOME_TIMED_OUT: i32 = 3;

/// What to break.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One of machine, driver, body, pipe and text (default: all)
    #[arg(long)]
    only: Option<String>,
}

/// The parts of the engine that decide whether an answer is lost, and the tests that see them, besides those of the library.
const PARTS: [(&str, &[&str], &[&str]); 5] = [
    ("machine", &["machine.rs", "machine/*.rs"], &["order", "cases"]),
    (
        "driver",
        &["driver.rs", "driver/*.rs", "contain.rs"],
        &["order", "cases", "hostile", "reports"],
    ),
    ("body", &["body.rs", "inline.rs"], &["cases", "http"]),
    ("pipe", &["pipe.rs"], &["schedules", "cases", "hostile", "memory"]),
    ("text", &["text.rs", "text/*.rs"], &["cases"]),
];

/// A mutant that survives is a failure; one that is harmless is excluded in `.cargo/mutants.toml`, with the reason.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let is_chosen = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let chosen: Vec<_> = PARTS.into_iter().filter(|(name, ..)| is_chosen(name)).collect();
    ensure!(!chosen.is_empty(), "no such part; there are machine, driver, body, pipe and text");
    let mut survivors = String::new();
    for (name, files, tests) in chosen {
        announce(name);
        survivors += &break_each(name, files, tests)?;
    }
    ensure!(survivors.is_empty(), "no test sees these mutants:\n{survivors}");
    Ok(())
}

/// Gives the mutants that survived, one a line. They are built in a copy of the sources, in one target folder for all parts.
fn break_each(name: &str, files: &[&str], tests: &[&str]) -> anyhow::Result<String> {
    let target = root().join("target/mutants");
    let output = target.join(name);
    fs::create_dir_all(&output)?;
    let mut command = cargo(["mutants", "-p", "turnkit", "--all-features"]);
    command
        .env("TURNKIT_SCHEDULES", "300")
        .env("PROPTEST_CASES", "64")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_TARGET_DIR", target.join("build"))
        .args(["--minimum-test-timeout", "20", "--cargo-arg=--lib"]);
    command.args(files.iter().map(|file| format!("--file=crates/turnkit/src/{file}")));
    command.args(tests.iter().map(|test| format!("--cargo-arg=--test={test}")));
    let status = command.arg("-o").arg(&output).status().context("cannot start cargo mutants")?;
    let has_run = matches!(status.code(), Some(ALL_CAUGHT | SOME_SURVIVED | SOME_TIMED_OUT));
    ensure!(has_run, "cargo mutants failed: {status}");
    Ok(fs::read_to_string(output.join("mutants.out/missed.txt"))?)
}
