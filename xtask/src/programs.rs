//! The programs that other steps start.

use std::path::PathBuf;

use anyhow::Context;

use crate::shell::{cargo, root, run as sh};

/// Where they are.
pub(crate) struct Programs {
    pub(crate) turnkit: PathBuf,
    pub(crate) encode: PathBuf,
}

impl Programs {
    /// Builds what `cargo test` does and nothing else: with other features everything below the programs would be built once more.
    pub(crate) fn build() -> anyhow::Result<Self> {
        sh(&mut cargo([
            "test",
            "--no-run",
            "--quiet",
            "--workspace",
            "--all-features",
            "--locked",
        ]))?;
        let metadata = cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec();
        let built = metadata.context("cargo metadata")?.target_directory.join("debug");
        Ok(Self {
            turnkit: built.join("turnkit").into(),
            encode: built.join("examples/encode").into(),
        })
    }
}
