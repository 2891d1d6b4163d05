//! `turnkit demo`

use serde_json::Value;

use crate::support::{run, text, turnkit};

#[test]
fn it_shows_a_turn_that_is_cut_and_whole() {
    let output = run(&["demo", "--pace", "15ms"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    let expected = [
        "   engine    1  {\"type\":\"session.run.started\",",
        "The connection is cut after 9 lines",
        "turns/demo-turn?after=9",
        "   engine  end  {\"type\":\"session.run.completed\",",
        "✓ the agent ran once",
        "✓ the lines joined are those of a client that was not disturbed",
        "✓ the answer was saved once",
        "Read back from the database",
        "assistant  You wrote",
    ];
    for part in expected {
        assert!(out.contains(part), "{part} is missing in:\n{out}");
    }
    assert!(!out.contains('\x1b') && !out.contains('✗'), "{out}");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn its_lines_are_whole_where_nobody_limits_their_width() {
    let output = run(&["demo", "--pace", "15ms", "--cut-after", "3"]);
    let lines = text(&output.stdout).lines().filter_map(|line| {
        line.find('{').filter(|_| line.contains("{\"type\"")).map(|at| &line[at..])
    });
    let kinds: Vec<String> = lines
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(kinds.len() > 40, "{kinds:?}");
    assert_eq!(kinds.last().unwrap(), "session.run.completed");
}

#[test]
fn machines_get_one_object() {
    let output = run(&["demo", "--pace", "15ms", "--json"]);
    assert!(output.status.success());
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&verdict["ok"], &verdict["agentRuns"], &verdict["linesBeforeCut"]),
        (&true.into(), &1.into(), &9.into())
    );
    assert!(verdict["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true));
}

#[test]
fn a_turn_that_ends_before_the_cut_proves_nothing_and_says_so() {
    let output = run(&["demo", "--pace", "0ms", "--cut-after", "100000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("try a smaller --cut-after"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let output = turnkit().arg("demo").env("TMPDIR", "/not/there").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.starts_with("turnkit: failed to make the directory /not/there/turnkit-demo-"),
        "{told}"
    );
}

#[test]
fn the_environment_sets_what_flags_set() {
    let output = turnkit()
        .arg("demo")
        .env("TURNKIT_DEMO_PACE", "15ms")
        .env("TURNKIT_DEMO_CUT_AFTER", "2")
        .env("TURNKIT_JSON", "true")
        .output()
        .unwrap();
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["linesBeforeCut"], 2);
}
