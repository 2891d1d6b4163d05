//! Node's `eventsource-parser` and `JSON.parse`, on the same bytes, where Node is present.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::{
    input::Input,
    measure::{Measurement, Path},
};

const SCRIPT: &str = include_str!("node/bench.mjs");
const PACKAGE: &str = include_str!("node/package.json");

#[derive(Deserialize)]
struct Row {
    path: String,
    name: String,
    events_per_second: f64,
    bytes_per_second: f64,
}

/// Nothing where Node or its package cannot be had, with a word why.
pub(crate) fn measure(
    inputs: &[Input],
    chunks: &[usize],
    millis: u64,
) -> anyhow::Result<Vec<Measurement>> {
    let folder = match prepare() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("without Node: {error:#}");
            return Ok(Vec::new());
        }
    };
    let mut measurements = Vec::new();
    for input in inputs {
        fs::write(folder.join("stream.sse"), &input.sse)?;
        fs::write(folder.join("stream.ndjson"), &input.ndjson)?;
        for &chunk in chunks {
            for row in run(&folder, chunk, input.events, millis)? {
                measurements.push(row.measurement(input, chunk)?);
            }
        }
    }
    Ok(measurements)
}

/// Installs the package once, under the target folder.
fn prepare() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().context("no folder of the executable")?.join("bench-node");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("bench.mjs"), SCRIPT)?;
    fs::write(folder.join("package.json"), PACKAGE)?;
    if !folder.join("node_modules/eventsource-parser").is_dir() {
        let installed = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run npm")?;
        ensure!(installed.success(), "npm install fails");
    }
    Ok(folder)
}

fn run(
    folder: &std::path::Path,
    chunk: usize,
    events: usize,
    millis: u64,
) -> anyhow::Result<Vec<Row>> {
    let arguments = [chunk.to_string(), events.to_string(), millis.to_string()];
    let output = Command::new("node")
        .arg("bench.mjs")
        .args(arguments)
        .current_dir(folder)
        .output()
        .context("cannot run node")?;
    ensure!(
        output.status.success(),
        "the Node bench fails: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("the Node bench prints something else")
}

impl Row {
    fn measurement(self, input: &Input, chunk: usize) -> anyhow::Result<Measurement> {
        let path = Path::ALL.into_iter().find(|path| path.name() == self.path);
        Ok(Measurement {
            path: path.with_context(|| format!("the Node bench names a path {}", self.path))?,
            name: self.name,
            size: input.size,
            chunk,
            events_per_second: self.events_per_second,
            bytes_per_second: self.bytes_per_second,
            allocations_per_event: None,
        })
    }
}
