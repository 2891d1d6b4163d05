//! `turnkit serve --agent openai` before a server that sends what real ones send.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Process, run, text, turnkit};

/// A server that answers request `n` with script `n`: pieces, each a packet of its own.
struct Upstream {
    url: String,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Upstream {
    fn start(scripts: Vec<Vec<Vec<u8>>>) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for script in scripts {
                let (mut socket, _) = listener.accept().unwrap();
                seen.lock().unwrap().push(request(&mut socket));
                socket.set_nodelay(true).unwrap();
                for piece in script {
                    socket.write_all(&piece).unwrap();
                }
            }
        });
        Upstream { url, requests }
    }

    fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

fn request(socket: &mut TcpStream) -> Value {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = text(&head).to_lowercase();
    assert!(head.starts_with("post /v1/chat/completions "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    socket.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A stream of these chunks, with all that real servers put between them, in pieces of seven bytes.
fn stream(chunks: &[Value], end: &str) -> Vec<Vec<u8>> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: comment\n\n";
    let frames: Vec<_> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let frames = frames.concat();
    format!("{head}{frames}{end}").as_bytes().chunks(7).map(<[u8]>::to_vec).collect()
}

fn delta(delta: &Value) -> Value {
    json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

fn stop() -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })
}

fn usage() -> Value {
    json!({ "choices": [], "usage": { "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15 } })
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    let deltas = words.iter().map(|word| delta(&json!({ "content": word })));
    let chunks: Vec<_> = deltas.chain([stop(), usage()]).collect();
    stream(&chunks, "data: [DONE]\n\n")
}

fn status(line: &str, headers: &str, body: &str) -> Vec<Vec<u8>> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {line}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    vec![answer.into_bytes()]
}

struct Rig {
    upstream: Upstream,
    server: Process,
    _data_dir: TempDir,
}

impl Rig {
    fn with(scripts: Vec<Vec<Vec<u8>>>) -> Rig {
        let (data_dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(scripts));
        let options = ["--openai-base-url", &upstream.url, "--openai-model", "small"];
        let server = Process::serve(&data_dir, &options);
        Rig { upstream, server, _data_dir: data_dir }
    }

    fn chat(&self, arguments: &[&str]) -> Output {
        run(&[&["chat", "--server", &self.server.url], arguments].concat())
    }

    fn events(&self, message: &str) -> Vec<Value> {
        let output = self.chat(&["--json", message]);
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn an_answer_comes_through_and_the_next_turn_knows_it() {
    let rig = Rig::with(vec![words(&["Hel", "lö", "!"]), words(&["Again."])]);
    let first = rig.chat(&["hello"]);
    assert_eq!(text(&first.stdout), "Hellö!\n");
    let session =
        text(&first.stderr).lines().find_map(|line| line.strip_prefix("session ")).unwrap();
    assert_eq!(text(&rig.chat(&["--session", session, "and then?"]).stdout), "Again.\n");
    let [first, second] = &rig.upstream.requests()[..] else { panic!("two requests") };
    assert_eq!((&first["model"], &first["stream"]), (&json!("small"), &json!(true)));
    assert_eq!(
        second["messages"],
        json!([
            { "role": "user", "content": "hello" },
            { "role": "assistant", "content": "Hellö!" },
            { "role": "user", "content": "and then?" },
        ])
    );
}

#[test]
fn reasoning_tool_calls_and_usage_go_on() {
    let call = |id: Option<&str>, arguments: &str| {
        json!({ "tool_calls": [{ "index": 0, "id": id, "type": "function",
            "function": { "name": id.map(|_| "weather"), "arguments": arguments } }] })
    };
    let deltas = [
        json!({ "role": "assistant", "content": null }),
        json!({ "reasoning_content": "They ask for the weather." }),
        call(Some("call_1"), ""),
        call(None, "{\"city\":"),
        call(None, "\"Bern\"}"),
        json!({ "content": "It rains." }),
    ];
    let chunks: Vec<_> = deltas.iter().map(delta).chain([stop(), usage()]).collect();
    let rig = Rig::with(vec![stream(&chunks, "data: [DONE]\n\n")]);
    let events = rig.events("weather?");
    let parts = |kind: &str| -> Vec<&Value> {
        let parts = events.iter().filter(|event| event["type"] == "message.part.updated");
        parts.map(|event| &event["data"]).filter(|data| data["part"]["type"] == kind).collect()
    };
    assert_eq!(parts("reasoning")[0]["delta"], "They ask for the weather.");
    let call = &parts("tool").last().unwrap()["part"];
    assert_eq!(
        (&call["tool"], &call["state"]["input"]),
        (&json!("weather"), &json!({ "city": "Bern" }))
    );
    assert_eq!(parts("text")[0]["delta"], "It rains.");
    let result = events.iter().find(|event| event["type"] == "result").unwrap();
    assert_eq!(result["data"]["tokenUsage"], json!({ "inputTokens": 12, "outputTokens": 3 }));
    assert_eq!(events.last().unwrap()["type"], "session.run.completed");
}

#[test]
fn an_error_in_the_middle_fails_the_turn_with_its_words() {
    let error = r#"data: {"error":{"message":"out of memory","type":"server_error","code":500}}"#;
    let rig =
        Rig::with(vec![stream(&[delta(&json!({ "content": "Hel" }))], &format!("{error}\n\n"))]);
    let events = rig.events("hello");
    let end = &events.last().unwrap()["data"];
    assert_eq!(end["code"], "upstream_error");
    assert!(end["message"].as_str().unwrap().contains("out of memory"), "{end}");
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let busy = || {
        status(
            "429 Too Many Requests",
            "Retry-After: 1\r\n",
            r#"{"error":{"message":"slow down"}}"#,
        )
    };
    let rig = Rig::with(vec![busy(), words(&["Now."])]);
    assert_eq!(text(&rig.chat(&["hello"]).stdout), "Now.\n");
    let [first, second] = &rig.upstream.requests()[..] else { panic!("two requests") };
    assert_eq!(first, second);

    let long = status(
        "429 Too Many Requests",
        "Retry-After: 3600\r\n",
        r#"{"error":{"message":"slow down"}}"#,
    );
    let rig = Rig::with(vec![long]);
    let events = rig.events("hello");
    assert_eq!(events.last().unwrap()["data"]["code"], "rate_limited");
}

#[test]
fn the_key_is_sent_and_never_told() {
    let refusal = r#"{"error":{"message":"Incorrect API key provided: sk-very-secret-key"}}"#;
    let upstream = Upstream::start(vec![status("401 Unauthorized", "", refusal)]);
    let data_dir = tempfile::tempdir().unwrap();
    let mut serve = turnkit();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--data-dir"]);
    serve.arg(data_dir.path()).args([
        "--openai-base-url",
        &upstream.url,
        "--openai-model",
        "small",
    ]);
    let log = data_dir.path().join("log");
    serve.env("OPENAI_API_KEY", "sk-very-secret-key").stderr(File::create(&log).unwrap());
    let server = Process::spawn(&mut serve);
    let output = run(&["chat", "--json", "--server", &server.url, "hello"]);
    assert!(text(&output.stdout).contains("upstream_unauthorized"), "{}", text(&output.stdout));
    assert!(!text(&output.stdout).contains("very-secret"));
    assert_eq!(server.terminate(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("upstream") && !log.contains("very-secret"), "{log}");
}

#[test]
fn what_is_missing_is_named_with_its_option() {
    for (arguments, fix) in [
        (&["serve", "--agent", "openai"][..], "--openai-base-url URL --openai-model MODEL"),
        (&["serve", "--openai-model", "m"], "--openai-base-url URL --openai-model MODEL"),
        (&["substrate", "--agent", "demo,command"], "--command PROGRAM [ARGS]"),
        (&["substrate", "--log", "disk"], "--log must be memory or redis://host"),
    ] {
        let output = run(arguments);
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{why}");
        assert!(why.contains(fix) && !why.contains("secret"), "{why}");
    }
}
