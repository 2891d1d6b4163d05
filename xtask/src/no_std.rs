//! `cargo xtask no-std`: the proof by linking (see `tests/no-std/`).

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use cargo_metadata::Message;
use cargo_metadata::camino::Utf8PathBuf;

use crate::shell::{cargo, root};

/// Links the static library that has a panic handler of its own, and then loads every crate of its graph beside such a
/// handler: a dependency that nobody uses yet is not linked, but it must not need std either.
pub(crate) fn run() -> anyhow::Result<()> {
    let libraries = link()?;
    load(&libraries)?;
    eprintln!(
        "turnkit-wire, turnkit-id and turnkit-ui link without std ({} crates)",
        libraries.len()
    );
    Ok(())
}

/// Builds `tests/no-std`, and gives the library file of each crate in its graph.
fn link() -> anyhow::Result<Vec<Utf8PathBuf>> {
    let mut build = cargo(["build", "--locked", "--manifest-path", "tests/no-std/Cargo.toml"]);
    build.arg("--message-format=json-render-diagnostics").env("CARGO_TARGET_DIR", target());
    let output = build.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "std is in the graph of turnkit-wire, turnkit-id or turnkit-ui, or they do not build"
    );
    let names = names()?;
    let mut libraries = Vec::new();
    for message in Message::parse_stream(Cursor::new(output.stdout)) {
        if let Message::CompilerArtifact(artifact) = message?
            && names.contains(&artifact.target.name.replace('-', "_"))
        {
            libraries.extend(
                artifact.filenames.into_iter().filter(|file| file.extension() == Some("rlib")),
            );
        }
    }
    ensure!(!libraries.is_empty(), "cargo named no library");
    Ok(libraries)
}

/// The crates that end up in the library, without the compiler's plug-ins: those may use std.
fn names() -> anyhow::Result<BTreeSet<String>> {
    let mut tree = cargo(["tree", "--locked", "--manifest-path", "tests/no-std/Cargo.toml"]);
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{lib}"]);
    let output = tree.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo tree failed");
    Ok(String::from_utf8(output.stdout)?.lines().map(|name| name.replace('-', "_")).collect())
}

/// Compiles one crate that names all of them.
fn load(libraries: &[Utf8PathBuf]) -> anyhow::Result<()> {
    let source = target().join("graph.rs");
    fs::write(&source, graph(libraries.len()))
        .with_context(|| format!("cannot write {}", source.display()))?;
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=rlib", "--emit=metadata", "-Cpanic=abort"]);
    for (number, library) in libraries.iter().enumerate() {
        rustc.arg("--extern").arg(format!("c{number}={library}"));
        rustc.args(library.parent().map(|folder| format!("-Ldependency={folder}")));
    }
    let status =
        rustc.arg("--out-dir").arg(target()).arg(source).status().context("cannot start rustc")?;
    ensure!(
        status.success(),
        "a crate in the graph of turnkit-wire, turnkit-id or turnkit-ui needs std"
    );
    Ok(())
}

fn graph(count: usize) -> String {
    let mut source = String::from("#![no_std]\n");
    for number in 0..count {
        let _ = writeln!(source, "extern crate c{number};");
    }
    source + "#[panic_handler]\nfn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }\n"
}

fn target() -> PathBuf {
    root().join("target/no-std")
}
