//! Citations: a cited section of the protocol exists, and a link between documents leads somewhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, ensure};

use crate::shell::root;

pub(super) fn check() -> anyhow::Result<Vec<String>> {
    let protocol = fs::read_to_string(root().join("docs/PROTOCOL.md"))
        .context("cannot read docs/PROTOCOL.md")?;
    let sections = sections(&protocol);
    let mut findings = Vec::new();
    for file in tracked_files()? {
        let Some(text) = read_text(&root().join(&file))? else {
            continue;
        };
        findings.extend(unknown_sections(&file, &text, &sections));
        findings.extend(dead_links(&file, &text));
    }
    Ok(findings)
}

/// The numbers of the headings: `2`, `2.1`, …
fn sections(protocol: &str) -> BTreeSet<String> {
    let headings = protocol.lines().filter(|line| line.starts_with('#'));
    let numbers =
        headings.filter_map(|line| line.trim_start_matches('#').split_whitespace().next());
    numbers.map(|number| number.trim_end_matches('.').to_owned()).collect()
}

fn unknown_sections(file: &str, text: &str, sections: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for cited in line.split("PROTOCOL ").skip(1).filter_map(leading_number) {
            if !sections.contains(&cited) {
                findings.push(format!("{file}:{number}: PROTOCOL has no section {cited}"));
            }
        }
    }
    findings
}

fn leading_number(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    (!number.is_empty()).then(|| number.to_owned())
}

/// Relative links of a Markdown file whose target is no file.
fn dead_links(file: &str, text: &str) -> Vec<String> {
    if Path::new(file).extension().is_none_or(|ending| ending != "md") {
        return Vec::new();
    }
    let folder = root().join(file).parent().map(Path::to_owned).unwrap_or_default();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let relative = targets.filter(|target| !target.is_empty() && !target.contains(':'));
    relative
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("{file}: the link to {target} leads nowhere"))
        .collect()
}

pub(super) fn tracked_files() -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output()
        .context("cannot run git")?;
    ensure!(
        output.status.success(),
        "git ls-files failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    Ok(names.lines().filter(|name| is_text(name)).map(str::to_owned).collect())
}

fn is_text(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "rs" || ending == "md")
}

/// A tracked file may be deleted in the working tree.
fn read_text(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(|| format!("cannot read {}", path.display())),
    }
}
