//! What the server writes to its log.

use std::fs::{self, File};

use serde_json::Value;

use crate::support::{Process, run};

/// Serves one turn at the most talkative level, and gives the log.
fn log_of_a_turn(format: &str, message: &str) -> String {
    let data_dir = tempfile::tempdir().unwrap();
    let log = data_dir.path().join("log");
    let data = data_dir.path().to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--demo-pace", "1ms", "--data-dir", data];
    let logging = ["--log-level", "trace", "--log-format", format];
    let arguments = [&serve[..], &logging].concat();
    let server = Process::logging_to(File::create(&log).unwrap(), &arguments);
    assert!(run(&["chat", "--server", &server.url, message]).status.success());
    assert_eq!(server.terminate(), Some(0));
    fs::read_to_string(log).unwrap()
}

#[test]
fn as_json_each_line_is_an_object_that_names_its_turn() {
    let log = log_of_a_turn("json", "hello");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    let of_a_turn = |line: &&Value| line["spans"][0]["name"] == "turn";
    let turn = &lines.iter().find(of_a_turn).expect("a line within a turn")["spans"][0];
    for name in ["execution_id", "tenant", "session"] {
        assert!(turn[name].is_string(), "{turn}");
    }
}

#[test]
fn no_text_of_a_message_and_no_token_is_logged_at_any_level() {
    let log = log_of_a_turn("text", "xyzzy");
    assert!(log.contains("the attempt completed"), "{log}");
    // The demo agent quotes the message, and says that it comes from the demo agent.
    for secret in ["xyzzy", "answer comes from", "bearer "] {
        let line = log.lines().find(|line| line.to_ascii_lowercase().contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

#[test]
fn a_format_that_is_unknown_is_refused() {
    let output = run(&["serve", "--log-format", "yaml"]);
    assert_eq!(output.status.code(), Some(2));
}
