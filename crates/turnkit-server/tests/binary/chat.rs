//! `turnkit chat`

use std::io::{self, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};

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

#[cfg(unix)]
#[test]
fn no_word_is_lost_however_an_agent_spells_it() {
    let data_dir = tempfile::tempdir().unwrap();
    let part = |part: &str, delta: &str| {
        format!(
            r#"{{"type":"message.part.updated","data":{{"part":{{"type":"text",{part}}}{delta}}}}}"#
        )
    };
    let said = [
        part(r#""id":"a""#, r#","delta":"one \ud83d""#),
        part(r#""id":"a""#, r#","delta":"""#),
        part(r#""id":"a""#, r#","delta":"\ude00 two""#),
        part(r#""id":7"#, r#","delta":" three \udbff""#),
        part(r#""id":7"#, r#","delta":" four""#),
        part(r#""id":"c","content":" five""#, r#","unknown":[]"#),
        part(r#""id":"d""#, r#","delta":" six \ud83d""#),
    ];
    let script = format!("cat <<'end'\n{}\nend", said.join("\n"));
    let server = Process::serve(&data_dir, &["--command", "sh", "-c", &script]);
    let output = run(&["chat", "--server", &server.url, "hello"]);
    assert_eq!(text(&output.stdout), "one 😀 two three \u{fffd} four five six \u{fffd}\n");
}

#[cfg(unix)]
#[test]
fn a_tool_call_is_a_line_for_each_thing_that_it_does_and_not_for_each_piece_of_its_input() {
    let data_dir = tempfile::tempdir().unwrap();
    let tool = |state: &str, delta: &str| {
        format!(
            r#"{{"type":"message.part.updated","data":{{"part":{{"id":"t","type":"tool","tool":"bash","state":{state}}}{delta}}}}}"#
        )
    };
    let piece = tool(r#"{"status":"pending"}"#, r#","delta":"x""#);
    let said = [
        vec![piece; 20],
        vec![tool(r#"{"status":"running","input":{}}"#, "")],
        vec![tool(r#"{"status":"completed","output":"y"}"#, "")],
        vec![r#"{"type":"result","data":{"finalText":"done"}}"#.to_owned()],
    ];
    let script = format!("cat <<'end'\n{}\nend", said.concat().join("\n"));
    let server = Process::serve(&data_dir, &["--command", "sh", "-c", &script]);
    let told = run(&["chat", "--server", &server.url, "hello"]);
    let lines: Vec<_> = text(&told.stderr).lines().filter(|line| line.contains("bash")).collect();
    assert_eq!((lines, text(&told.stdout)), (vec!["… bash", "✓ bash"], "done\n"));
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

#[test]
fn what_was_said_is_printed() {
    let data_dir = tempfile::tempdir().unwrap();
    let server = Process::serve(&data_dir, &["--demo-pace", "0ms"]);
    let first = run(&["chat", "--server", &server.url, "hello"]);
    let session =
        text(&first.stderr).lines().find_map(|line| line.strip_prefix("session ")).unwrap();
    let second = ["chat", "--server", &server.url, "--session", session, "two\nlines"];
    run(&second);
    let history = |more: &[&str]| {
        let output =
            run(&[&["chat", "--history", "--server", &server.url, "--session", session], more]
                .concat());
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout).to_owned()
    };
    let printed = history(&[]);
    assert!(printed.starts_with(&format!("> hello\n{ANSWER}")), "{printed}");
    assert!(printed.contains("\n\n> two\n> lines\nYou wrote: "), "{printed}");
    let messages: Vec<Value> =
        history(&["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<_> =
        messages.iter().map(|message| (&message["role"], &message["turnIndex"])).collect();
    let (user, assistant) = (Value::from("user"), Value::from("assistant"));
    assert_eq!(
        said,
        [(&user, &0.into()), (&assistant, &0.into()), (&user, &1.into()), (&assistant, &1.into())]
    );
    for option in ["--history", "--watch"] {
        assert_eq!(run(&["chat", option]).status.code(), Some(2), "of which session?");
    }
    assert_eq!(run(&["chat"]).status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn a_message_that_is_no_text_is_told() {
    let mut chat = turnkit();
    chat.args(["chat", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut chat = chat.spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"hello \xff").unwrap();
    let output = chat.wait_with_output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.starts_with("turnkit: failed to read the message from standard input: "),
        "{told}"
    );
}

#[test]
fn a_user_shows_a_token_and_chooses_an_agent() {
    let data_dir = tempfile::tempdir().unwrap();
    let tokens = data_dir.path().join("tokens");
    std::fs::write(&tokens, "a-token-of-ann acme ann\n").unwrap();
    let tokens = tokens.to_str().unwrap();
    let options = ["--tokens", tokens, "--agent", "demo,command", "--command", "sh", "-c"];
    let say = r#"echo '{"type":"result","data":{"finalText":"from the program"}}'"#;
    let server = Process::serve(&data_dir, &[&options[..], &[say]].concat());
    let refused = run(&["chat", "--server", &server.url, "hello"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("(unauthorized)"), "{}", text(&refused.stderr));
    let mut chat = turnkit();
    chat.args(["chat", "--server", &server.url, "--agent", "command", "hello"]);
    let answered = chat.env("TURNKIT_TOKEN", "a-token-of-ann").output().unwrap();
    assert_eq!(text(&answered.stdout), "from the program\n", "{}", text(&answered.stderr));
    let chat = [
        "chat",
        "--server",
        &server.url,
        "--token",
        "a-token-of-ann",
        "--agent",
        "nobody",
        "hello",
    ];
    let refused = run(&chat);
    assert!(
        text(&refused.stderr).contains("there is no agent of this name"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let data_dir = tempfile::tempdir().unwrap();
    let hangs = "trap '' TERM; echo '{\"type\":\"note\"}'; sleep 3";
    let server = Process::serve(&data_dir, &["--command", "sh", "-c", hangs]);
    let mut command = turnkit();
    command.args(["chat", "--json", "--server", &server.url, "hello"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    lines(&mut child, 2);
    signal(child.id(), "STOP");
    signal(server.pid(), "STOP");
    signal(child.id(), "CONT");
    signal(child.id(), "INT");
    let mut stopping = [0; 8];
    io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut stopping).unwrap();
    assert_eq!(&stopping, b"stopping");
    signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    signal(server.pid(), "CONT");
    assert_eq!(server.terminate(), Some(0), "its program has ended");
}

/// A server that says one of these to each request for a turn's body.
enum Say {
    /// 429, and again to whoever does not wait so long.
    Wait(Duration),
    /// A body of these lines.
    Lines(&'static str),
}

#[derive(Default)]
struct Told {
    /// `POST`, or the query of a `GET`; with "too early" where it was.
    requests: Vec<String>,
    free_from: Option<Instant>,
}

fn answer(script: &mut Vec<Say>, told: &mut Told, asked: String) -> Response {
    let too_early = told.free_from.is_some_and(|free| Instant::now() < free);
    told.requests.push(if too_early { format!("{asked}, too early") } else { asked });
    match script.remove(0) {
        Say::Wait(wait) => {
            told.free_from = Some(Instant::now() + wait);
            let error = json!({ "code": "too_many_turns", "message": "this server is busy" });
            let body = json!({ "success": false, "error": error }).to_string();
            let retry_after = [(RETRY_AFTER, wait.as_secs().to_string())];
            (StatusCode::TOO_MANY_REQUESTS, retry_after, body).into_response()
        }
        Say::Lines(lines) => ([(CONTENT_TYPE, "application/x-ndjson")], lines).into_response(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_now_is_waited_out_as_the_server_asks() {
    let script = vec![
        Say::Wait(Duration::from_secs(2)),
        Say::Lines(concat!(
            r#"{"type":"session.run.started","data":{}}"#,
            "\n",
            r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"one "}}"#,
            "\n",
        )),
        Say::Wait(Duration::from_secs(1)),
        Say::Lines(concat!(
            r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"two"}}"#,
            "\n",
            r#"{"type":"session.run.completed","data":{}}"#,
            "\n",
        )),
    ];
    let (script, told) = (Arc::new(Mutex::new(script)), Arc::<Mutex<Told>>::default());
    let noted = Arc::clone(&told);
    let routes = Router::new().fallback(move |request: Request| {
        let (method, uri) = (request.method().to_string(), request.uri().clone());
        let answer = if uri.path() == "/api/sessions" {
            (StatusCode::CREATED, r#"{"sessionId":"s"}"#).into_response()
        } else {
            let asked = uri.query().map_or(method, str::to_owned);
            answer(&mut script.lock().unwrap(), &mut noted.lock().unwrap(), asked)
        };
        std::future::ready(answer)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let chat = move || run(&["chat", "--server", &url, "hello"]);
    let chat = tokio::task::spawn_blocking(chat).await.unwrap();
    let noted = text(&chat.stderr);
    assert_eq!(told.lock().unwrap().requests, ["POST", "POST", "after=2", "after=2"]);
    assert_eq!((chat.status.code(), text(&chat.stdout)), (Some(0), "one two\n"), "{noted}");
    assert!(noted.contains("the server says: this server is busy; trying again in 2 s"), "{noted}");
}
