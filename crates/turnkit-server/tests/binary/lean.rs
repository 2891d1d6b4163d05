//! A build without features: what it lacks is told, with how to get it.

use crate::support::{run, text};

#[test]
fn an_option_of_a_feature_that_is_off_says_how_to_get_it() {
    let data_dir = tempfile::tempdir().unwrap();
    let data_dir = data_dir.path().to_str().unwrap();
    for (arguments, feature) in [
        (&["--log", "redis://:very-secret@localhost"][..], "redis"),
        (&["--log", "rediss://:very-secret@localhost"], "redis"),
        (&["--agent", "openai"], "openai"),
        (&["--openai-base-url", "http://localhost", "--openai-model", "m"], "openai"),
        (&["--command", "true"], "command"),
    ] {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir];
        for command in [&serve[..], &["substrate", "--listen", "127.0.0.1:0"]] {
            let output = run(&[command, arguments].concat());
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{told}");
            let how = format!("cargo build --release --features {feature}\n");
            assert!(told.contains(&how) && !told.contains("secret"), "{told}");
        }
    }
}

#[test]
fn a_database_of_a_feature_that_is_off_says_how_to_get_it() {
    let database = "postgres://turnkit:very-secret@localhost/turnkit";
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--database", database]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let how = "cargo build --release --features postgres\n";
    assert!(told.contains(how) && !told.contains("secret"), "{told}");
}
