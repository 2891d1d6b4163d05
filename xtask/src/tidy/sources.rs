//! The product code of the workspace, parsed once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use syn::visit::{self, Visit};

use crate::shell::root;

/// A file of a crate's `src`, without its test modules.
pub(crate) struct Source {
    /// From the workspace's root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    /// Lines up to the first test module.
    pub(crate) lines: usize,
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
    let tests = syntax.items.iter().position(is_test);
    let lines = match tests {
        Some(first) => start_line(&syntax.items[first]).saturating_sub(1),
        None => text.lines().count(),
    };
    syntax.items.retain(|item| !is_test(item));
    let path = path.strip_prefix(root()).unwrap_or(path).to_owned();
    Ok(Source { path, text, syntax, lines })
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

fn start_line(item: &syn::Item) -> usize {
    syn::spanned::Spanned::span(item).start().line
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Its first line in its file.
    pub(crate) line: usize,
    /// From its signature to its closing brace.
    pub(crate) lines: usize,
}

/// The functions and methods of a file, in order.
pub(crate) fn functions(source: &Source) -> Vec<Function> {
    let mut found = Functions(Vec::new());
    found.visit_file(&source.syntax);
    found.0
}

struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        self.0.push(Function { name: signature.ident.to_string(), line, lines: last - line + 1 });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}
