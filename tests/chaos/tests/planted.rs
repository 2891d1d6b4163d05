//! Mistakes that a store could make are found within seconds. `cargo xtask chaos` does the same without any, for longer.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

/// Plants a bug, and wants to be told of what it breaks. What a world comes to depends on how fast the machine is: one in which the bug had
/// nothing to break is followed by another.
fn is_found(bug: &str, seconds: &str, told: &str) {
    let chaos = Path::new(env!("CARGO_BIN_EXE_turnkit-chaos"));
    // Built along with this one: the tests of the whole workspace are what is run.
    let turnkit = chaos.with_file_name("turnkit");
    let mut worlds = String::new();
    for seed in ["1", "2", "3", "4"] {
        let mut command = Command::new(chaos);
        command.args(["--seconds", seconds, "--clients", "8", "--seed", seed, "--plant", bug]);
        let output = command.arg("--turnkit").arg(&turnkit).output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(1) {
            assert!(found.contains(told), "{found}{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        assert_eq!(output.status.code(), Some(0), "{found}");
        worlds += &found;
    }
    panic!("no world has shown it:\n{worlds}");
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
