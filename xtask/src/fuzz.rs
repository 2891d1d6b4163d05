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
    for target in chosen(targets()?, args.target.as_deref())? {
        announce(&format!("fuzz {target} for {} s", args.seconds));
        fuzz(&target, args.seconds)?;
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

/// A name that is misspelt is no reason to fuzz nothing and call it a success.
fn chosen(targets: Vec<String>, only: Option<&str>) -> anyhow::Result<Vec<String>> {
    let Some(only) = only else {
        return Ok(targets);
    };
    ensure!(
        targets.iter().any(|name| name == only),
        "no such target; there are {}",
        targets.join(", ")
    );
    Ok(vec![only.to_owned()])
}

fn cargo_fuzz(arguments: &[&str]) -> anyhow::Result<Command> {
    let folder = root().join("tests/fuzz");
    ensure!(folder.is_dir(), "{} is missing", folder.display());
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz"]).args(arguments).arg("--fuzz-dir=.").current_dir(folder);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_not_there_is_told_with_those_that_are() {
        let targets = || vec!["ndjson".to_owned(), "sse".to_owned()];
        assert_eq!(chosen(targets(), None).unwrap(), targets());
        assert_eq!(chosen(targets(), Some("sse")).unwrap(), ["sse"]);
        let error = chosen(targets(), Some("see")).unwrap_err().to_string();
        assert_eq!(error, "no such target; there are ndjson, sse");
    }
}
