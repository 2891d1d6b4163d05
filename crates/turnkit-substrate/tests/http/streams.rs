//! What every stream is, byte for byte.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use turnkit_substrate::Limits;
use turnkit_wire::{Event, sse};

use crate::{
    agents::{Driven, Fixed, text},
    client::{Server, Stream, kinds, stream},
};

#[tokio::test]
async fn it_begins_with_the_retry_time() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let mut opened = Stream::open(server.run("a", "hello")).await;
    opened.next().await.unwrap();
    assert!(opened.bytes.starts_with(b"retry: 1000\n\nid: "));
}

#[tokio::test]
async fn it_carries_every_event_as_the_agent_made_it() {
    let events: Vec<_> = [
        r#"{"type":"named","data":{"b":1E5,"a":-0,"a":"\ud800 \/ \u0041"}}"#,
        r#"{"type":"message","data":"a frame of this name would be the default"}"#,
        r#"{ "type" : "spaced", "data" : [1, 2] }"#,
        r#"{"type":"bare"}"#,
        r#"{"type":"more","data":null,"unknown":[true]}"#,
        "{\"type\":\"t\\u0079pe\",\"data\":\"\\r\\n\\u0000id: 1-1\\n\\ndata: x\"}",
    ]
    .map(|json| Event::from_json(json.as_bytes()).unwrap())
    .into();
    let server = Server::with_agent(Fixed(Arc::new(events.clone()))).await;
    let response = server.run("a", "hello").send().await.unwrap();
    let mut decoder = sse::Decoder::new();
    decoder.push(response.bytes().await.unwrap());
    let got: Vec<_> = std::iter::from_fn(|| decoder.next_event()).collect();
    let got: Vec<_> = got.into_iter().map(Result::unwrap).collect();
    assert_eq!(got[1..got.len() - 1], events);
}

#[tokio::test]
async fn silence_is_broken_by_comments() {
    let (agent, mut runs) = Driven::new();
    let limits = Limits { heartbeat: Duration::from_millis(10), ..Limits::default() };
    let server = Server::with_limits(agent, limits).await;
    let mut opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    let comments = |opened: &Stream| {
        let text = String::from_utf8(opened.bytes.clone()).unwrap();
        text.lines().filter(|line| line.starts_with(':')).count()
    };
    while comments(&opened) < 3 {
        assert!(opened.read().await.unwrap());
    }
    run.text("one");
    drop(run);
    let frames = opened.rest().await;
    assert_eq!(
        kinds(&frames),
        ["execution.started", "message.part.updated", "execution.completed"]
    );
}

#[tokio::test]
async fn an_event_leaves_at_once() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let mut opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    opened.next().await.unwrap();
    for delta in ["one", "two", "three"] {
        run.text(delta);
        assert_eq!(opened.next().await.unwrap().data["delta"], delta);
    }
}

#[tokio::test]
async fn the_run_goes_on_without_any_reader() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    drop(opened);
    run.text("nobody reads this");
    drop(run);
    let frames = stream(server.attach("a", "0")).await;
    assert_eq!(kinds(&frames).last(), Some(&"execution.completed"));
    assert_eq!(frames[1].data["delta"], "nobody reads this");
}

#[tokio::test]
async fn without_an_id_the_server_makes_one() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let run =
        || server.post("/agents/run/stream", &json!({ "message": "hello", "sessionId": "s\n1" }));
    let mut first = Stream::open(run()).await;
    let second = Stream::open(run()).await;
    let id = first.execution_id().to_owned();
    assert_ne!(id, second.execution_id());
    let started = first.next().await.unwrap();
    assert_eq!(started.data["executionId"], id);
    assert_eq!(started.data["sessionId"], "s\n1");
    assert_eq!(server.status(&id).await.body["executionId"], id);
}

#[tokio::test]
async fn a_reader_that_is_behind_the_log_is_cut_off_when_the_log_is_dropped() {
    let big = text(&"x".repeat(500_000));
    let limits = Limits { bytes_in_all: 33_000_000, ..Limits::default() };
    let server = Server::with_limits(Fixed(Arc::new(vec![big; 64])), limits).await;
    let mut behind = Stream::open(server.run("a", "hello")).await;
    behind.next().await.unwrap();
    // What runs is not dropped.
    while server.status("a").await.body["state"] == "running" {}
    stream(server.run("b", "hello")).await;
    let cut = loop {
        match behind.try_next().await {
            Ok(frame) => assert!(frame.is_some(), "a gap must not look like an end"),
            Err(error) => break error,
        }
    };
    assert!(!cut.is_timeout());
}
