//! `turnkit chat`

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Process, lines, run, signal, text, turnkit};

const ANSWER: &str = "You wrote: “hello”. ";

#[test]
fn the_answer_goes_to_standard_output_and_everything_else_beside_it() {
    let data_dir = tempfile::tempdir().unwrap();
    let server = Process::serve(&data_dir, &["--demo-pace", "1ms"]);
    let output = run(&["chat", "--server", &server.url, "hello"]);
    assert_eq!(output.status.code(), Some(0));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        out.starts_with(ANSWER) && out.ends_with("runs once.\n") && out.lines().count() == 1,
        "{out}"
    );
    assert!(
        err.contains("I count them with a tool")
            && err.contains("bash Count the words")
            && err.contains("session "),
        "{err}"
    );
}

#[test]
fn a_session_goes_on() {
    let data_dir = tempfile::tempdir().unwrap();
    let server = Process::serve(&data_dir, &["--demo-pace", "0ms"]);
    let first = run(&["chat", "--server", &server.url, "hello"]);
    let session = text(&first.stderr)
        .lines()
        .find_map(|line| line.strip_prefix("session "))
        .unwrap()
        .to_owned();
    let second = run(&["chat", "--server", &server.url, "--session", &session, "--json", "hello"]);
    let started: Value =
        serde_json::from_str(text(&second.stdout).lines().next().unwrap()).unwrap();
    assert_eq!(
        (&started["data"]["sessionId"], &started["data"]["turnIndex"]),
        (&session.into(), &1.into())
    );
}

#[test]
fn the_message_can_come_from_standard_input() {
    let data_dir = tempfile::tempdir().unwrap();
    let server = Process::serve(&data_dir, &["--demo-pace", "0ms"]);
    let mut command = turnkit();
    command.args(["chat", "--server", &server.url, "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    assert!(text(&child.wait_with_output().unwrap().stdout).starts_with(ANSWER));
}

#[test]
fn ctrl_c_stops_the_turn() {
    let data_dir = tempfile::tempdir().unwrap();
    let server = Process::serve(&data_dir, &["--demo-pace", "100ms"]);
    let mut command = turnkit();
    command.args(["chat", "--json", "--server", &server.url, "a long one"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    lines(&mut child, 3);
    signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let last: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["data"]["code"]),
        (&"session.run.failed".into(), &"cancelled".into())
    );
}

#[test]
fn a_server_that_is_not_there_is_a_failure_with_a_reason() {
    let output = run(&["chat", "--server", "http://127.0.0.1:1", "hello"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("turnkit: failed to reach the server: "),
        "{}",
        text(&output.stderr)
    );
}
