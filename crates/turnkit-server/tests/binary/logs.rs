//! What the server writes to its log.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use futures::{StreamExt as _, stream};
use serde_json::Value;
use turnkit_client::{Client, NewTurn};

use crate::support::{Process, http, run, signal};

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

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_the_log_stops_nothing() {
    let data_dir = tempfile::tempdir().unwrap();
    let data = data_dir.path().to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--demo-pace", "0ms", "--data-dir", data];
    let arguments = [&serve[..], &["--log-level", "trace"]].concat();
    let mut server = Process::logging_to(Stdio::piped(), &arguments);
    turns_complete(&server.url, 700).await;
    assert_ne!(dropped_lines(&server.url).await, 0);

    let mut log = server.log();
    let missing =
        log.find(|line| line.as_ref().unwrap().contains("lines of the log are missing here"));
    assert!(missing.unwrap().unwrap().contains("WARN"));
    // Nobody reads the rest.
    assert_eq!(server.terminate(), Some(0));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_is_gone_loses_each_line_once() {
    let data_dir = tempfile::tempdir().unwrap();
    let data = data_dir.path().to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--demo-pace", "0ms", "--data-dir", data];
    let mut server = Process::logging_to(Stdio::piped(), &serve);
    drop(server.log());
    let client = Client::builder(&server.url).build().unwrap();
    let session = client.create_session().await.unwrap();
    let mut body = client.start(&session, &NewTurn::new("t", "hello")).await.unwrap();
    while body.next().await.unwrap().is_some() {}
    let mut dropped = 0;
    while dropped == 0 {
        dropped = dropped_lines(&server.url).await;
    }
    // To say that lines are lost is a line too, and is lost as well: it must not be said of itself.
    for _ in 0..20 {
        dropped = dropped_lines(&server.url).await;
    }
    assert!(dropped < 100, "{dropped} lines of one turn");
    assert_eq!(server.terminate(), Some(0));
}

/// A terminal that takes nothing more, as after Ctrl-S: `script` gives the server one, and reads it no longer once nobody reads `script`.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_stopped_stops_nothing() {
    let data_dir = tempfile::tempdir().unwrap();
    let serve = format!(
        "echo $$; exec '{}' serve --listen 127.0.0.1:0 --demo-pace 0ms --log-level trace --data-dir '{}'",
        env!("CARGO_BIN_EXE_turnkit"),
        data_dir.path().display()
    );
    let mut script = Command::new("script");
    for (name, _) in
        env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TURNKIT_"))
    {
        script.env_remove(name);
    }
    script.args(["--quiet", "--command", &serve, "/dev/null"]);
    let mut script = script.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut terminal = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut line = || terminal.next().unwrap().unwrap().trim_end().to_owned();
    let pid = line().parse().unwrap();
    let url = loop {
        if let Some(url) = line().strip_prefix("turnkit listening on ") {
            break url.to_owned();
        }
    };
    while dropped_lines(&url).await == 0 {
        turns_complete(&url, 100).await;
    }
    turns_complete(&url, 100).await;
    signal(pid, "TERM");
    while http().get(format!("{url}/health")).send().await.is_ok() {}
    drop(terminal);
    script.wait().unwrap();
}

/// Runs so many turns, some at a time, each to its end.
#[cfg(unix)]
async fn turns_complete(url: &str, count: usize) {
    let client = Client::builder(url).build().unwrap();
    let turn = async |_| {
        let session = client.create_session().await.unwrap();
        let mut body = client.start(&session, &NewTurn::new("t", "hello")).await.unwrap();
        let mut last = String::new();
        while let Some(line) = body.next().await.unwrap() {
            line.as_json().clone_into(&mut last);
        }
        last
    };
    let ends: Vec<_> = stream::iter(0..count).map(turn).buffer_unordered(32).collect().await;
    let others: Vec<_> =
        ends.iter().filter(|line| !line.contains("session.run.completed")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[cfg(unix)]
async fn dropped_lines(url: &str) -> u64 {
    let metrics = http().get(format!("{url}/metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let name = "turnkit_stderr_lines_dropped_total ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}
