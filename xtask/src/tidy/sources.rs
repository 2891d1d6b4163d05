//! The product code of the workspace, parsed once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::shell::root;

/// A file of a crate's `src`, without its test modules.
pub(crate) struct Source {
    /// From the workspace's root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
}

/// Reads every `.rs` file under `crates/*/src` and `xtask/src` that is not a test.
pub(crate) fn read_all() -> anyhow::Result<Vec<Source>> {
    let mut folders = vec![root().join("xtask/src")];
    for entry in fs::read_dir(root().join("crates")).context("cannot read crates/")? {
        folders.push(entry?.path().join("src"));
    }
    let mut paths = Vec::new();
    for folder in folders {
        collect(&folder, &mut paths)?;
    }
    paths.sort();
    paths.iter().map(|path| parse(path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "tests" {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") && name != "tests.rs" {
            paths.push(path);
        }
    }
    Ok(())
}

fn parse(path: &Path) -> anyhow::Result<Source> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut syntax =
        syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    syntax.items.retain(|item| !is_test(item));
    let path = path.strip_prefix(root()).unwrap_or(path).to_owned();
    Ok(Source { path, text, syntax })
}

fn is_test(item: &syn::Item) -> bool {
    match item {
        syn::Item::Mod(module) => module.attrs.iter().any(is_cfg_test),
        _ => false,
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}
