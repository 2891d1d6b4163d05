//! How runs end, and what their agents are asked.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use turnkit_substrate::{Agent, AgentError, Limits, Run, Substrate};
use turnkit_wire::Event;

use crate::{
    agents::{Driven, Fixed, Panics, text},
    client::{Answer, Frame, Server, Stream, stream},
};

#[track_caller]
fn assert_failed(frames: &[Frame], code: &str) -> Value {
    let terminal = frames.last().unwrap();
    assert_eq!(terminal.kind, "execution.failed", "{terminal:?}");
    assert_eq!(terminal.data["code"], code, "{terminal:?}");
    assert!(terminal.data["message"].is_string());
    let between = frames[..frames.len() - 1].iter().skip(1);
    let own = between.filter(|frame| frame.kind.starts_with("execution."));
    assert_eq!(own.count(), 0, "there is one terminal event");
    terminal.data.clone()
}

#[tokio::test]
async fn the_error_of_an_agent_fails_its_run() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    run.text("one");
    run.fail(AgentError::new("upstream_error", "é".repeat(9_000)));
    let frames = opened.rest().await;
    let data = assert_failed(&frames, "upstream_error");
    assert_eq!(data["message"].as_str().unwrap().chars().count(), 500);
    assert_eq!(data.get("temporary"), None);
    assert_eq!(frames.len(), 3);
    assert_eq!(server.status("a").await.body["state"], "failed");
}

/// The user sees what the agent was not told, in the log like all else; an agent that goes on with a session of its own was told it all.
#[tokio::test]
async fn what_was_left_out_of_a_history_is_told_before_all_that_the_agent_says() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let request = |id: &str, omitted: Value, metadata: Value| {
        let body = json!({ "message": "m", "historyOmitted": omitted, "metadata": metadata });
        server.post("/agents/run/stream", &body).header("X-Execution-ID", id)
    };
    let run = async |id: &str, omitted, metadata| stream(request(id, omitted, metadata)).await;
    let frames = run("told", json!({ "turns": 2, "bytes": 345 }), json!({})).await;
    let kinds: Vec<_> = frames.iter().map(|frame| &*frame.kind).collect();
    assert_eq!(kinds[..3], ["execution.started", "warning", "message.part.updated"]);
    assert_eq!(
        frames[1].data,
        json!({
            "code": "history_omitted",
            "message": "the agent was not told all of this conversation: the oldest 2 messages and their answers (345 bytes) did not fit",
        })
    );
    let none = json!({ "turns": 0, "bytes": 0 });
    let own = json!({ "agentSessionId": "s" });
    for (id, omitted, metadata) in [("none", none, json!({})), ("own", json!({ "turns": 2 }), own)]
    {
        let frames = run(id, omitted, metadata).await;
        assert_ne!(frames[1].kind, "warning", "{id}");
    }
    let refused = Answer::of(request("bad", json!([1, 2]), json!({}))).await;
    refused.assert_error(400, "invalid_request");
    assert_eq!(refused.body["error"]["field"], "historyOmitted");
}

#[tokio::test]
async fn a_failure_that_is_likely_to_pass_says_so() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let opened = Stream::open(server.run("a", "hello")).await;
    runs.recv().await.unwrap().fail(AgentError::new("busy", "come back later").temporary());
    let data = assert_failed(&opened.rest().await, "busy");
    assert_eq!(data["temporary"], true);
}

#[tokio::test]
async fn a_panic_fails_its_run_and_tells_nothing_of_its_text() {
    for (agent, events) in [(Panics::AtOnce, 2), (Panics::InTheMiddle, 3)] {
        let server = Server::with_agent(agent).await;
        let frames = stream(server.run("a", "hello")).await;
        let data = assert_failed(&frames, "panic");
        assert!(!data.to_string().contains("secret"));
        assert_eq!(frames.len(), events);
        assert_eq!(stream(server.run("a", "hello")).await, frames);
        assert_eq!(server.substrate.stats().runs_started, 1);
    }
}

#[tokio::test]
async fn a_run_that_takes_too_long_fails_and_its_agent_is_told() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let body = json!({ "message": "hello", "timeout": 30 });
    let opened = Stream::open(server.post("/agents/run/stream", &body)).await;
    let run = runs.recv().await.unwrap();
    assert_failed(&opened.rest().await, "timeout");
    run.cancel.cancelled().await;
}

/// An agent that always has one more event at hand.
struct Restless;

impl Agent for Restless {
    fn run(
        &self,
        _: Run,
    ) -> impl futures_core::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        futures_util::stream::repeat_with(|| Ok(text("again ")))
    }
}

#[tokio::test]
async fn an_agent_that_never_pauses_is_stopped_all_the_same() {
    let limits = || Limits {
        events_per_execution: u64::MAX,
        bytes_per_execution: u64::MAX,
        ..Limits::default()
    };
    let server = Server::with_limits(Restless, limits()).await;
    let body = json!({ "message": "hello", "timeout": 50 });
    let run = server.post("/agents/run/stream", &body).header("X-Execution-ID", "a");
    let mut opened = Stream::open(run).await;
    let terminal = loop {
        match opened.next().await.unwrap() {
            frame if frame.kind.starts_with("execution.") && frame.seq() > 1 => break frame,
            _ => {}
        }
    };
    assert_failed(&[terminal], "timeout");

    let _opened = Stream::open(server.run("b", "hello")).await;
    assert_eq!(server.cancel("b").await.body["state"], "cancelled");
}

#[tokio::test]
async fn a_timeout_that_the_limits_do_not_allow_is_refused() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let longest = 3_600_000;
    for (timeout, is_allowed) in [(1, true), (longest, true), (0, false), (longest + 1, false)] {
        let body = json!({ "message": "hello", "timeout": timeout });
        let response = server.post("/agents/run/stream", &body).send().await.unwrap();
        assert_eq!(response.status() == 200, is_allowed, "{timeout}");
    }
    let body = json!({ "message": "hello", "timeout": longest + 1 });
    let answer = Answer::of(server.post("/agents/run/stream", &body)).await;
    answer.assert_error(400, "invalid_request");
    assert_eq!(answer.body["error"]["field"], "timeout");
}

#[tokio::test]
async fn an_event_over_the_limit_fails_its_run() {
    let limits = Limits { event: 1_000, ..Limits::default() };
    let server = Server::with_limits(Fixed(Arc::new(vec![text(&"x".repeat(1_000))])), limits).await;
    let data = assert_failed(&stream(server.run("a", "hello")).await, "event_too_large");
    assert!(data["message"].as_str().unwrap().contains("1000"));
}

#[tokio::test]
async fn events_of_the_substrate_cannot_be_forged() {
    for kind in ["execution.started", "execution.completed", "execution.failed", "execution.new"] {
        let events = vec![text("one"), Event::bare(kind).unwrap(), text("two")];
        let server = Server::with_agent(Fixed(Arc::new(events))).await;
        let frames = stream(server.run("a", "hello")).await;
        assert_failed(&frames, "reserved_event");
        assert_eq!(frames.len(), 3);
    }
}

#[tokio::test]
async fn a_log_that_is_full_fails_its_run() {
    let events = Limits { events_per_execution: 10, ..Limits::default() };
    let bytes = Limits { bytes_per_execution: 2_000, ..Limits::default() };
    let scope = Limits { bytes_per_scope: 3_000, ..Limits::default() };
    for limits in [events, bytes, scope] {
        let server = Server::with_limits(Fixed::texts(1_000), limits).await;
        let frames = stream(server.run("a", "hello")).await;
        assert_failed(&frames, "log_full");
        assert!(frames.len() > 5, "{}", frames.len());
        assert_eq!(stream(server.attach("a", "0")).await, frames, "nothing of it is evicted");
    }
}

#[tokio::test]
async fn an_agent_gets_the_whole_body() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let body = r#"{"identifier":"default","message":"h\u00e9","sessionId":"s","metadata":{"n":1E2},
        "backend":{"type":"t","model":"m"},"timeout":5000,"unknown":[ -0 ]}"#;
    let run = server.request(reqwest::Method::POST, "/agents/run/stream");
    let run = run.header("Content-Type", "Application/JSON; charset=utf-8").body(body);
    let _opened = Stream::open(run.header("X-Execution-ID", "a")).await;
    let request = runs.recv().await.unwrap().request;
    assert_eq!(request.execution_id().as_str(), "a");
    assert_eq!((request.message(), request.session_id()), ("hé", Some("s")));
    assert_eq!(request.metadata().unwrap().get(), r#"{"n":1E2}"#);
    let backend = request.backend().unwrap();
    assert_eq!((backend.kind.as_deref(), backend.model.as_deref()), (Some("t"), Some("m")));
    assert_eq!(request.timeout_ms(), Some(5_000));
    assert_eq!(request.member("unknown").unwrap().unwrap().get(), "[ -0 ]");
    assert_eq!(request.body(), body.as_bytes());
}

#[tokio::test]
async fn the_identifier_chooses_the_agent() {
    let (first, mut firsts) = Driven::new();
    let (second, mut seconds) = Driven::new();
    let builder = Substrate::builder().agent("default", first).agent("other-1", second);
    let server = Server::serve(builder).await;
    let run = |identifier| {
        server.post("/agents/run/stream", &json!({ "identifier": identifier, "message": "hello" }))
    };
    let _other = Stream::open(run("other-1")).await;
    assert_eq!(seconds.recv().await.unwrap().request.identifier(), "other-1");
    let _default = Stream::open(run("default")).await;
    assert_eq!(firsts.recv().await.unwrap().request.identifier(), "default");
    let answer = Answer::of(run("unknown")).await;
    answer.assert_error(400, "invalid_request");
    assert_eq!(answer.body["error"]["field"], "identifier");
}

#[tokio::test]
async fn an_agent_of_another_name_can_be_the_default_one() {
    let (agent, mut runs) = Driven::new();
    let (other, _others) = Driven::new();
    let builder = Substrate::builder().agent("first", agent).agent("second", other);
    let server = Server::serve(builder.default_agent("first")).await;
    for body in [json!({ "message": "a" }), json!({ "identifier": "default", "message": "b" })] {
        let _stream = Stream::open(server.post("/agents/run/stream", &body)).await;
        assert_eq!(runs.recv().await.unwrap().request.identifier(), "default");
    }
    let listed = Answer::of(server.get("/agents")).await.body;
    assert_eq!(listed["default"], "first");
    assert_eq!(listed["agents"][1]["identifier"], "second");
    let (agent, _) = Driven::new();
    let lost = Substrate::builder().agent("first", agent).default_agent("none").build();
    assert_eq!(
        lost.err().unwrap().to_string(),
        "build a substrate: there is no agent named \"none\" to be the default one"
    );
}

#[tokio::test]
async fn a_stopped_agent_is_let_go_of_when_it_has_come_to_its_end() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let _opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    server.cancel("a").await;
    assert_eq!(server.substrate.stats().running, 1);
    drop(run);
    while server.substrate.stats().running > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
