//! `cargo xtask tidy`: what the style of the house asks for and no lint checks.

mod arrows;
mod citations;
mod docs;
mod layout;
mod sources;
mod weight;

use anyhow::bail;

/// Prints each finding on a line of its own and fails where there is one.
pub(crate) fn run() -> anyhow::Result<()> {
    let sources = sources::read_all()?;
    let mut findings = arrows::check()?;
    findings.extend(docs::check(&sources));
    findings.extend(citations::check()?);
    findings.extend(layout::check()?);
    findings.extend(weight::check()?);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    match findings.len() {
        0 => eprintln!("tidy: {} files", sources.len()),
        count => bail!("{count} findings"),
    }
    Ok(())
}
