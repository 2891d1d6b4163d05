//! What a scope, and the server, may take.

use std::sync::Arc;

use turnkit_substrate::{Limits, MemoryLog, Substrate};
use turnkit_testkit::log_contract::ManualClock;

use crate::{
    agents::{Driven, Fixed},
    client::{Answer, Server, Stream, stream},
};

#[tokio::test]
async fn one_run_too_many_is_told_to_come_back() {
    let per_scope = Limits { running_per_scope: 2, ..Limits::default() };
    let in_all = Limits { running_in_all: 2, ..Limits::default() };
    for limits in [per_scope, in_all] {
        let (agent, mut runs) = Driven::new();
        let server = Server::with_limits(agent, limits).await;
        let first = Stream::open(server.run("a", "hello")).await;
        let run = runs.recv().await.unwrap();
        let _second = Stream::open(server.run("b", "hello")).await;
        let answer = Answer::of(server.run("c", "hello")).await;
        answer.assert_error(429, "too_many_executions");
        assert_eq!(answer.body["error"]["limit"], 2);
        let _attached = Stream::open(server.run("a", "hello")).await;

        drop(run);
        first.rest().await;
        while server.substrate.stats().running > 1 {
            tokio::task::yield_now().await;
        }
        Stream::open(server.run("c", "hello")).await;
    }
}

#[tokio::test]
async fn one_scope_s_runs_are_not_another_s() {
    let limits = Limits { running_per_scope: 1, ..Limits::default() };
    let (agent, _runs) = Driven::new();
    let builder = Substrate::builder().agent("default", agent).log(MemoryLog::new(limits));
    let server = Server::serve(builder.token("one", "token-1").token("two", "token-2")).await;
    let _one = Stream::open(server.run("a", "hello").bearer_auth("token-1")).await;
    let _two = Stream::open(server.run("a", "hello").bearer_auth("token-2")).await;
    let more = Answer::of(server.run("b", "hello").bearer_auth("token-1")).await;
    more.assert_error(429, "too_many_executions");
}

#[tokio::test]
async fn without_any_room_a_start_is_refused_and_what_runs_goes_on() {
    let (agent, mut runs) = Driven::new();
    let limits = Limits { bytes_in_all: 5_000, ..Limits::default() };
    let server = Server::with_limits(agent, limits).await;
    let first = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    run.text(&"x".repeat(4_000));
    while server.substrate.usage().await.unwrap().bytes < 4_500 {
        tokio::task::yield_now().await;
    }
    let refused = Answer::of(server.run("b", "hello")).await;
    refused.assert_error(503, "unavailable");
    Answer::of(server.attach("b", "0")).await.assert_error(404, "execution_not_found");
    let cancel = server.cancel("c").await;
    cancel.assert_error(503, "unavailable");

    drop(run);
    assert_eq!(first.rest().await.len(), 3);
    Stream::open(server.run("b", "hello")).await;
    Answer::of(server.attach("a", "0")).await.assert_error(410, "execution_expired");
}

#[tokio::test]
async fn an_id_stays_bound_for_a_day_after_its_events_are_gone() {
    let clock = ManualClock::at(1_000);
    let limits = Limits::default();
    let server = Server::with_clock(Fixed::texts(1), limits.clone(), Arc::clone(&clock) as _).await;
    let first = stream(server.run("a", "hello")).await;
    clock.advance(limits.retention);
    Answer::of(server.run("a", "hello")).await.assert_error(410, "execution_expired");
    clock.advance(limits.binding);
    let second = stream(server.run("a", "hello")).await;
    assert!(second[0].epoch() > first[0].epoch());
    assert_eq!(server.substrate.stats().runs_started, 2);
}
