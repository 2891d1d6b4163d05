//! `turnkit chat` on a terminal: nothing that an agent or a server says is obeyed there.

use std::future::ready;
use std::io::Read as _;
use std::process::{Command, Stdio};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::support::{Process, run, text};

/// Clipboard, link, title, clearing, a bell, a C1 introducer, DEL, a carriage return and an override, as a terminal would obey them.
const EVIL: &str = "\u{1b}]52;c;aGk=\u{7}\u{1b}]8;;https://evil.example\u{1b}\\\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}2J\u{7f}\u{8}\rover\u{202e}turn";
const SPELT: &str = r"\u{1b}]52;c;aGk=\u{7}\u{1b}]8;;https://evil.example\u{1b}\\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}2J\u{7f}\u{8}\rover\u{202e}turn";

/// What `turnkit` puts on a terminal, without the looks that are its own, and its exit code.
fn on_a_terminal(arguments: &[&str]) -> (String, Option<i32>) {
    let words = [&[env!("CARGO_BIN_EXE_turnkit")], arguments].concat();
    let quoted: Vec<_> =
        words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    // util-linux's; a part of every Debian.
    let mut script = Command::new("script");
    script
        .args(["-qefc", &quoted.join(" "), "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Its end would be typed on the terminal.
    let input = script.stdin.take();
    let mut shown = String::new();
    script.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    let code = script.wait().unwrap().code();
    drop(input);
    assert!(shown.contains("\r\n"), "it is a terminal: {shown}");
    let looks = ["0", "1", "2", "3", "31", "32", "33", "34", "35", "36"];
    let plain = looks.iter().fold(shown.replace("\r\n", "\n"), |shown, look| {
        shown.replace(&format!("\u{1b}[{look}m"), "")
    });
    (plain, code)
}

/// That it is lines of plain text.
fn is_harmless(shown: &str) {
    let is_obeyed = |character: char| {
        (character.is_control() && !matches!(character, '\n' | '\t'))
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!shown.contains(is_obeyed), "{shown:?}");
}

fn part(part: &Value, delta: &str) -> Value {
    let mut data = json!({ "part": part });
    if !delta.is_empty() {
        data["delta"] = delta.into();
    }
    json!({ "type": "message.part.updated", "data": data })
}

#[cfg(unix)]
#[test]
fn a_hostile_agent_speaks_to_no_terminal() {
    let tool = |status: &str| json!({ "type": "tool", "callID": EVIL, "tool": format!("{EVIL}\nforged"), "state": { "status": status, "title": EVIL } });
    let said = [
        part(&json!({ "id": "r", "type": "reasoning" }), &format!("thought {EVIL}")),
        part(&tool("pending"), "{\"a\":"),
        part(&tool("pending"), "1}"),
        part(&tool("running"), ""),
        part(&tool("completed"), ""),
        json!({ "type": "warning", "data": { "message": format!("warned {EVIL}\nforged"), "code": EVIL } }),
        part(&json!({ "id": EVIL, "type": "text" }), &format!("text {EVIL}\n\tand on\r\nand on\n")),
        json!({ "type": EVIL, "data": { "a": EVIL } }),
    ];
    let good = json!({ "type": "result", "data": { "finishReason": "length", "metadata": { "sessionId": EVIL } } });
    let bad = json!({ "type": "error", "data": { "message": format!("broken {EVIL}\nforged"), "code": EVIL } });
    let lines: Vec<_> = said.iter().map(Value::to_string).collect();
    let script = format!(
        "read asked\ncat <<'end'\n{}\nend\ncase $asked in *break*) cat <<'end'\n{bad}\nend\n;; *) cat <<'end'\n{good}\nend\n;; esac",
        lines.join("\n")
    );
    let data_dir = tempfile::tempdir().unwrap();
    let server = Process::serve(&data_dir, &["--command", "sh", "-c", &script]);
    let chat = |more: &[&str]| on_a_terminal(&[&["chat", "--server", &server.url], more].concat());

    let (shown, code) = chat(&["hello"]);
    is_harmless(&shown);
    assert_eq!(code, Some(0), "{shown}");
    let session = shown.lines().find_map(|line| line.strip_prefix("session ")).unwrap().to_owned();
    for line in [
        format!("thought {SPELT}"),
        format!("\u{2026} {SPELT}\\nforged {SPELT}"),
        format!("\u{2713} {SPELT}\\nforged {SPELT}"),
        format!("! warned {SPELT}\\nforged"),
        format!("text {SPELT}"),
        "! the answer was cut: the model came to its limit".to_owned(),
    ] {
        assert_eq!(shown.lines().filter(|shown| *shown == line).count(), 1, "{line}\n{shown}");
    }

    let (shown, code) = chat(&["--session", &session, "break"]);
    is_harmless(&shown);
    assert_eq!(code, Some(1));
    assert!(
        shown.lines().any(|line| line.starts_with("failed: broken ") && line.contains("forged")),
        "{shown}"
    );

    let (shown, _) = chat(&["--session", &session, "--history"]);
    is_harmless(&shown);
    assert!(shown.contains(&format!("text {SPELT}")), "{shown}");
    assert!(shown.contains("! the answer was cut"), "{shown}");

    for arguments in [&["--json", "hello"][..], &["--json", "--session", &session, "--history"]] {
        let (shown, _) = chat(arguments);
        is_harmless(&shown);
        let is_evil = |line: &str| {
            serde_json::from_str::<Value>(line)
                .unwrap()
                .to_string()
                .contains(&json!(EVIL).to_string()[1..])
        };
        let lines: Vec<_> = shown.lines().filter(|line| !line.starts_with("session ")).collect();
        assert!(lines.iter().any(|line| is_evil(line)), "the JSON is the same: {shown}");
    }
    // What is no terminal gets the answer as it is.
    let piped = run(&["chat", "--server", &server.url, "hello"]);
    assert!(text(&piped.stdout).starts_with(&format!("text {EVIL}")), "{:?}", text(&piped.stdout));
    is_harmless(text(&piped.stderr));
}

/// A server that answers the target of a request as it likes.
async fn server(answer: fn(&str) -> Response) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes =
        Router::new().fallback(move |request: Request| ready(answer(&request.uri().to_string())));
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

fn refusal() -> Response {
    let error = json!({ "code": EVIL, "message": format!("refused {EVIL}\nforged") });
    (StatusCode::FORBIDDEN, json!({ "success": false, "error": error }).to_string()).into_response()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_server_speaks_to_no_terminal() {
    let refuses = server(|_| refusal()).await;
    let answers = server(|path| match path {
        "/api/sessions" => (StatusCode::CREATED, json!({ "sessionId": EVIL }).to_string()).into_response(),
        path if path.ends_with("/turns") => {
            let lines = [
                json!({ "type": "session.run.started", "data": { "sessionId": EVIL, "executionId": EVIL } }),
                json!({ "type": "session.run.failed", "data": { "message": format!("{EVIL}\nforged"), "code": EVIL, "retryable": false } }),
            ];
            ([(CONTENT_TYPE, "application/x-ndjson")], lines.map(|line| format!("{line}\n")).concat()).into_response()
        }
        path if path.ends_with("/messages") => {
            let message = |role: &str| json!({ "role": role, "text": EVIL, "status": EVIL, "turnIndex": 0, "turnId": EVIL, "executionId": EVIL, "createdAt": EVIL, "finishReason": EVIL });
            json!({ "messages": [message("user"), message(EVIL)] }).to_string().into_response()
        }
        path if path.contains("before=") => r#"{"messages":[]}"#.into_response(),
        _ => refusal(),
    })
    .await;
    let calls = [
        (&refuses, &["hello"][..], "refused"),
        (&refuses, &["--log-level", "debug", "--session", "s", "hello"], "refused"),
        (&answers, &["--log-level", "debug", "hello"], "failed: "),
        (&answers, &["--session", "s", "--history"], "> "),
    ];
    for (url, arguments, told) in calls {
        let words = [&["chat", "--server", url], arguments].concat();
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let words = move || on_a_terminal(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let (shown, _) = tokio::task::spawn_blocking(words).await.unwrap();
        is_harmless(&shown);
        assert!(shown.contains(told) && shown.contains(r"\u{1b}]52;c;aGk="), "{shown}");
    }
}
