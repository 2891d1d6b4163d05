//! `POST /agents/run/cancel`.

use std::sync::Arc;

use serde_json::json;
use turnkit_substrate::{Agent, AgentError, Limits, Run};
use turnkit_testkit::log_contract::ManualClock;
use turnkit_wire::Event;

use crate::{
    agents::{Driven, Fixed},
    client::{Answer, Server, Stream, kinds, stream},
};

#[tokio::test]
async fn it_ends_a_run_and_tells_its_agent() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    run.text("one");

    let answer = server.cancel("a").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["state"], "cancelled");
    assert!(answer.body["endedAt"].is_u64());
    run.cancel.cancelled().await;
    run.text("too late");
    drop(run);

    let frames = opened.rest().await;
    assert_eq!(kinds(&frames).last(), Some(&"execution.cancelled"));
    assert_eq!(frames.last().unwrap().data["executionId"], "a");
    assert!(!frames.iter().any(|frame| frame.data["delta"] == "too late"));
}

#[tokio::test]
async fn it_is_idempotent_and_leaves_an_ended_execution_as_it_ended() {
    let server = Server::with_agent(Fixed::texts(2)).await;
    stream(server.run("done", "hello")).await;
    for _ in 0..2 {
        assert_eq!(server.cancel("done").await.body["state"], "completed");
    }
    let first = server.cancel("unknown").await;
    assert_eq!(first.body["state"], "cancelled");
    assert_eq!(server.cancel("unknown").await.body, first.body);
}

#[tokio::test]
async fn an_execution_is_erased_whether_it_runs_has_ended_or_is_unknown() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let opened = Stream::open(server.run("running", "hello")).await;
    let run = runs.recv().await.unwrap();
    run.text("a secret");
    let ended = tokio::spawn(stream(server.run("ended", "hello")));
    drop(runs.recv().await.unwrap());
    ended.await.unwrap();
    for id in ["running", "ended", "unknown"] {
        for _ in 0..2 {
            assert_eq!(Answer::of(server.delete(id)).await.status, 204, "{id}");
        }
        let again = Answer::of(server.run(id, "hello")).await;
        assert_eq!(
            (again.status.as_u16(), &again.body["error"]["code"]),
            (410, &json!("execution_expired")),
            "{id}"
        );
        assert_eq!(server.cancel(id).await.status, 410, "{id}");
    }
    run.cancel.cancelled().await;
    drop(opened);
    assert_eq!(server.substrate.stats().runs_started, 2);
    assert_eq!(Answer::of(server.delete("no%20id")).await.status, 400);
}

#[tokio::test]
async fn an_unknown_id_is_bound_so_that_a_late_start_runs_nothing() {
    let server = Server::with_agent(Fixed::texts(2)).await;
    assert_eq!(server.cancel("late").await.status, 200);
    for message in ["hello", "another"] {
        let frames = stream(server.run("late", message)).await;
        assert_eq!(kinds(&frames), ["execution.started", "execution.cancelled"]);
    }
    assert_eq!(server.substrate.stats().runs_started, 0);
}

#[tokio::test]
async fn a_spent_id_is_told_so() {
    let clock = ManualClock::at(1_000);
    let server =
        Server::with_clock(Fixed::texts(1), Limits::default(), Arc::clone(&clock) as _).await;
    stream(server.run("a", "hello")).await;
    clock.advance(Limits::default().retention);
    server.cancel("a").await.assert_error(410, "execution_expired");
}

/// An agent that never lets go of its thread again.
struct Stuck(Arc<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>);

impl Agent for Stuck {
    fn run(
        &self,
        _: Run,
    ) -> impl futures_core::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let blocked = Arc::clone(&self.0);
        futures_util::stream::poll_fn(move |_| {
            blocked.lock().unwrap().recv().unwrap_err();
            std::task::Poll::Ready(None)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_agent_that_blocks_its_thread_is_fenced_off() {
    let (release, blocked) = std::sync::mpsc::channel();
    let server = Server::with_agent(Stuck(Arc::new(blocked.into()))).await;
    let mut opened = Stream::open(server.run("a", "hello")).await;
    let started = opened.next().await.unwrap();
    let answer = server.cancel("a").await;
    assert_eq!(answer.body["state"], "cancelled");
    let cancelled = opened.next().await.unwrap();
    assert_eq!((cancelled.kind.as_str(), cancelled.seq()), ("execution.cancelled", 2));
    assert!(cancelled.epoch() > started.epoch());
    assert_eq!(opened.next().await, None);
    drop(release);
    let status = server.status("a").await;
    assert_eq!(status.body["state"], "cancelled");
}

#[tokio::test]
async fn a_body_without_an_id_is_refused() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    for body in [
        json!({}),
        json!([]),
        json!(["a"]),
        json!({ "executionId": 1 }),
        json!({ "executionId": "a b" }),
        json!({ "executionId": "" }),
    ] {
        let answer = Answer::of(server.post("/agents/run/cancel", &body)).await;
        answer.assert_error(400, "invalid_request");
        assert_eq!(answer.body["error"]["field"], "executionId");
    }
}
