//! `cargo xtask mutants`.

use anyhow::ensure;

use crate::shell::{cargo, run as sh};

/// What to break.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One of machine, driver, body, pipe and text (default: all)
    #[arg(long)]
    only: Option<String>,
}

/// The parts of the engine that decide whether an answer is lost, and the tests that see them.
const PARTS: [(&str, &[&str], &[&str]); 5] = [
    ("machine", &["machine.rs", "machine/*.rs"], &["order", "cases"]),
    (
        "driver",
        &["driver.rs", "driver/*.rs", "contain.rs"],
        &["order", "cases", "hostile", "memory"],
    ),
    ("body", &["body.rs", "inline.rs"], &["cases", "http"]),
    ("pipe", &["pipe.rs"], &["schedules", "cases", "memory"]),
    ("text", &["text.rs", "text/*.rs"], &["cases", "snapshots"]),
];

/// A mutant that survives is a failure; one that is harmless is excluded in `.cargo/mutants.toml`, with the reason.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let is_chosen = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let chosen: Vec<_> = PARTS.into_iter().filter(|(name, ..)| is_chosen(name)).collect();
    ensure!(!chosen.is_empty(), "no such part; there are machine, driver, body, pipe and text");
    for (_, files, tests) in chosen {
        let mut command = cargo(["mutants", "-p", "turnkit", "--all-features"]);
        command.env("TURNKIT_SCHEDULES", "300").env("PROPTEST_CASES", "64");
        for file in files {
            command.args(["-f", &format!("crates/turnkit/src/{file}")]);
        }
        command.args(["--", "--lib"]);
        sh(command.args(tests.iter().flat_map(|test| ["--test", test])))?;
    }
    Ok(())
}
