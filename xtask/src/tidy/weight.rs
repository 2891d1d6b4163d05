//! What the binary is built without, with any of its features: a cold build is the first thing that anybody waits for (ADR 96).

use anyhow::Context as _;

use crate::shell::cargo;

/// Crates that took long to build, each with what stands in their place.
const WITHOUT: [(&str, &str); 3] = [
    ("aws-lc-sys", "the binary takes ring: a dependency decides the process's TLS provider"),
    ("regex-automata", "the log's filter is by targets: a dependency brings regular expressions"),
    (
        "icu_properties",
        "`url` reads names by idna_adapter 1.1, as Cargo.lock says: cargo update -p idna_adapter --precise 1.1.0",
    ),
];

pub(super) fn check() -> anyhow::Result<Vec<String>> {
    let arguments = ["tree", "--package", "turnkit-server", "--all-features"];
    let mut tree = cargo(arguments);
    tree.args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
    let output = tree.output().context("cannot start cargo tree")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout)?;
    let built: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    anyhow::ensure!(built.contains(&"turnkit-chat"), "cargo tree has told no crates");
    let found = WITHOUT.iter().filter(|(name, _)| built.contains(name));
    Ok(found.map(|(name, why)| format!("the binary is built with {name}: {why}")).collect())
}
