//! One layout of files: a module is `foo.rs` and, where it has parts, `foo/`.

use std::path::Path;

use super::citations::tracked_files;

pub(super) fn check() -> anyhow::Result<Vec<String>> {
    let files = tracked_files()?;
    let shared = files.iter().filter(|file| Path::new(file).ends_with("mod.rs"));
    // Cargo takes every other file in `tests/` for a test of its own.
    let misplaced = shared.filter(|file| file.contains("/src/"));
    Ok(misplaced
        .map(|file| {
            let module = file.trim_end_matches("/mod.rs");
            format!("{file}: the module's file is {module}.rs")
        })
        .collect())
}
