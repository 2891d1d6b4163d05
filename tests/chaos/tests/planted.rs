//! Mistakes that a store could make are found within seconds. `cargo xtask chaos` does the same without any, for longer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

/// Plants a bug, and wants to be told of what it breaks.
fn is_found(bug: &str, seconds: &str, told: &str) {
    let chaos = Path::new(env!("CARGO_BIN_EXE_turnkit-chaos"));
    // Built along with this one: the tests of the whole workspace are what is run.
    let turnkit = chaos.with_file_name("turnkit");
    let mut command = Command::new(chaos);
    command.args(["--seconds", seconds, "--clients", "8", "--seed", "1", "--plant", bug]);
    let output = command.arg("--turnkit").arg(turnkit).output().unwrap();
    let [found, why] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert_eq!(output.status.code(), Some(1), "{found}{why}");
    assert!(found.contains(told), "{found}{why}");
}

#[test]
fn a_lease_that_is_not_fenced_is_found() {
    is_found("unfenced-lease", "8", "was taken from a worker that lives");
}

#[test]
fn a_save_without_its_condition_is_found() {
    is_found("unconditional-save", "8", "was saved twice");
}

#[test]
fn a_wake_up_that_is_lost_is_found() {
    is_found("lost-wake-up", "0", "was given up, and is still open");
}
