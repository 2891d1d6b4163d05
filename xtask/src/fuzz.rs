//! `cargo xtask fuzz`.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::shell::{announce, root, run as sh};

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// One target (default: all)
    #[arg(long)]
    target: Option<String>,
}

/// Runs each target in `tests/fuzz` on a copy of its corpus, and stops at the first finding.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(cargo_fuzz(&["--version"])?.stdout(Stdio::null()).status()?.success(), MISSING);
    for target in
        targets()?.iter().filter(|name| args.target.as_ref().is_none_or(|only| only == *name))
    {
        announce(&format!("fuzz {target} for {} s", args.seconds));
        fuzz(target, args.seconds)?;
    }
    Ok(())
}

const MISSING: &str = "needs cargo-fuzz and a nightly toolchain: `cargo install cargo-fuzz`, `rustup toolchain install nightly`";

/// New inputs go into the first folder, outside the repository; the second one seeds it.
fn fuzz(target: &str, seconds: u32) -> anyhow::Result<()> {
    let found = root().join("tests/fuzz/target/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    let seeds = root().join("tests/fuzz/corpus").join(target);
    let limit = format!("-max_total_time={seconds}");
    sh(cargo_fuzz(&["run", target])?.arg(found).arg(seeds).args(["--", &limit]))
}

fn targets() -> anyhow::Result<Vec<String>> {
    let folder = root().join("tests/fuzz/fuzz_targets");
    let files =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = files.map(|file| {
        Ok(file?.path().file_stem().unwrap_or_default().to_string_lossy().into_owned())
    });
    let mut names: Vec<String> = names.collect::<anyhow::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn cargo_fuzz(arguments: &[&str]) -> anyhow::Result<Command> {
    let folder = root().join("tests/fuzz");
    ensure!(folder.is_dir(), "{} is missing", folder.display());
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz"]).args(arguments).arg("--fuzz-dir=.").current_dir(folder);
    Ok(command)
}
