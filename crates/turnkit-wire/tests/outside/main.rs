//! Outside cases: Web Platform Tests, `eventsource-parser`, `sse-parse` and `JSONTestSuite`, which stand beside the repository.
//!
//! Each case is run whole, byte by byte, as its source cuts it, and cut in two at every position.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![expect(clippy::print_stdout, reason = "where the cases are missing, the test says so aloud")]

mod json;
mod sse;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;

/// Inputs up to this length are cut at every position, in bytes.
const CUT_EVERYWHERE: usize = 400;

/// The cases of a file; none where the folder is missing, which only CI takes for a failure.
fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let path = env::var_os("TURNKIT_VECTORS").map_or_else(beside, PathBuf::from).join(file);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            let missing = format!("outside cases not run: {}: {error}", path.display());
            assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing}");
            println!("{missing}");
            return Vec::new();
        }
    };
    let cases: Vec<T> = serde_json::from_slice(&text).unwrap();
    assert!(!cases.is_empty());
    cases
}

fn bytes(base64: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(base64).unwrap()
}

/// The ways in which a case is cut.
fn cuts(input: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut all = vec![vec![input.to_vec()], input.iter().map(|&byte| vec![byte]).collect()];
    if input.len() <= CUT_EVERYWHERE {
        all.extend((0..=input.len()).map(|cut| vec![input[..cut].to_vec(), input[cut..].to_vec()]));
    }
    all
}
