//! `cargo xtask codec`: the codec's snapshots, shown and reviewed.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use similar::TextDiff;

use crate::shell::{cargo, root, run as sh};

/// How to review.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Take every changed snapshot without asking
    #[arg(long)]
    accept: bool,
    /// Do not print the snapshots that did not change
    #[arg(long, short)]
    quiet: bool,
}

const FOLDER: &str = "crates/turnkit-wire/tests/snapshots";

/// Runs the tests so that what changed becomes a `.snap.new` file beside its snapshot, then reviews those.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    sh(cargo(["test", "--quiet", "--locked", "-p", "turnkit-wire", "--test", "codec"]).envs([
        ("INSTA_UPDATE", "new"),
        ("INSTA_FORCE_PASS", "1"),
        ("INSTA_OUTPUT", "none"),
    ]))?;
    if !args.quiet {
        show_all()?;
    }
    let mut rejected = 0;
    for pending in files_ending(".snap.new")? {
        rejected += usize::from(!review(&pending, args.accept)?);
    }
    if rejected > 0 {
        bail!(
            "{rejected} changed snapshots not taken: run `cargo xtask codec` in a terminal, or with --accept"
        );
    }
    eprintln!("the codec's snapshots hold");
    Ok(())
}

fn show_all() -> anyhow::Result<()> {
    for path in files_ending(".snap")? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut out = io::stdout().lock();
        writeln!(out, "── {name}\n{}", body(&read(&path)?).trim_end())?;
    }
    Ok(())
}

/// Shows one difference and asks what to do with it; says whether it was taken.
fn review(pending: &Path, accept: bool) -> anyhow::Result<bool> {
    let snapshot = pending.with_extension("");
    let old = if snapshot.exists() { read(&snapshot)? } else { String::new() };
    let new = read(pending)?;
    let diff = TextDiff::from_lines(body(&old), body(&new));
    writeln!(
        io::stdout(),
        "{}",
        diff.unified_diff().header("snapshot", &snapshot.display().to_string())
    )?;
    match if accept { Answer::Accept } else { ask()? } {
        Answer::Accept => fs::rename(pending, &snapshot).map(|()| true),
        Answer::Reject => fs::remove_file(pending).map(|()| false),
        Answer::Skip => Ok(false),
    }
    .with_context(|| format!("cannot replace {}", snapshot.display()))
}

enum Answer {
    Accept,
    Reject,
    Skip,
}

fn ask() -> anyhow::Result<Answer> {
    if !io::stdin().is_terminal() {
        return Ok(Answer::Skip);
    }
    eprint!("[a]ccept, [r]eject, [s]kip? ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(match answer.trim() {
        "a" => Answer::Accept,
        "r" => Answer::Reject,
        _ => Answer::Skip,
    })
}

/// A snapshot file's content after its header, which names where it came from.
fn body(snapshot: &str) -> &str {
    snapshot.splitn(3, "---\n").nth(2).unwrap_or(snapshot)
}

fn files_ending(ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let folder = root().join(FOLDER);
    let files =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = files.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> =
        paths.into_iter().filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
