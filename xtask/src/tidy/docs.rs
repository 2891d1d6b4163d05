//! Documentation: every public item has some, and each crate's page opens as the house asks.

use std::path::Path;

use syn::visit::{self, Visit};

use super::sources::Source;

const EXAMPLE_WITHIN: usize = 10;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(|source| [undocumented(source), opening(source)].concat()).collect()
}

/// A crate's page opens with what the crate is, an example, and what is in and out of scope.
fn opening(source: &Source) -> Vec<String> {
    let is_library = source.path.ends_with("src/lib.rs") && source.path.starts_with("crates");
    if !is_library {
        return Vec::new();
    }
    let page = page(source);
    let early = page.lines().take(EXAMPLE_WITHIN).any(|line| line.starts_with("```"));
    let wanted = [
        (early, "no example begins in the first ten lines of the crate's page"),
        (page.contains("# In scope"), "the crate's page has no section \"In scope\""),
        (page.contains("# Out of scope"), "the crate's page has no section \"Out of scope\""),
    ];
    let missing = wanted.iter().filter(|(holds, _)| !holds);
    missing.map(|(_, what)| format!("{}: {what}", source.path.display())).collect()
}

fn page(source: &Source) -> String {
    let lines = source.text.lines().take_while(|line| line.starts_with("//!"));
    lines.map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n").collect()
}

fn undocumented(source: &Source) -> Vec<String> {
    let mut visitor = Undocumented { path: &source.path, findings: Vec::new() };
    visitor.visit_file(&source.syntax);
    visitor.findings
}

struct Undocumented<'a> {
    path: &'a Path,
    findings: Vec<String>,
}

impl Undocumented<'_> {
    fn check(
        &mut self,
        visibility: &syn::Visibility,
        attributes: &[syn::Attribute],
        name: &syn::Ident,
    ) {
        let public = matches!(visibility, syn::Visibility::Public(_));
        let documented = attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
        if public && !documented {
            let line = name.span().start().line;
            self.findings.push(format!(
                "{}:{line}: public `{name}` has no documentation",
                self.path.display()
            ));
        }
    }
}

macro_rules! check_items {
    ($($visit:ident: $item:ident => $name:ident $(. $field:ident)?),* $(,)?) => {
        $(fn $visit(&mut self, item: &'ast syn::$item) {
            self.check(&item.vis, &item.attrs, &item.$name $(.$field)?);
            visit::$visit(self, item);
        })*
    };
}

impl<'ast> Visit<'ast> for Undocumented<'_> {
    check_items! {
        visit_item_fn: ItemFn => sig.ident,
        visit_item_struct: ItemStruct => ident,
        visit_item_enum: ItemEnum => ident,
        visit_item_trait: ItemTrait => ident,
        visit_item_const: ItemConst => ident,
        visit_item_type: ItemType => ident,
        visit_impl_item_fn: ImplItemFn => sig.ident,
        visit_impl_item_const: ImplItemConst => ident,
    }
}
