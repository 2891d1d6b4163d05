//! Every cell of the table of PROTOCOL 3.1: what a request gets, by what is known of its execution.

use std::sync::Arc;

use reqwest::RequestBuilder;
use serde_json::json;
use tokio::sync::mpsc;
use turnkit_substrate::Limits;
use turnkit_testkit::log_contract::ManualClock;

use crate::{
    agents::{Driven, Driver},
    client::{Answer, Frame, Server, Stream, kinds, stream},
};

const MESSAGE: &str = "hello";

/// A substrate with one execution of each kind: `running`, `retained` and `spent`.
struct House {
    server: Server,
    runs: mpsc::UnboundedReceiver<Driver>,
    running: Driver,
    epoch: u64,
}

impl House {
    async fn new() -> Self {
        let clock = ManualClock::at(1_000);
        let (agent, mut runs) = Driven::new();
        let server = Server::with_clock(agent, Limits::default(), Arc::clone(&clock) as _).await;
        finish(&server, &mut runs, "spent").await;
        clock.advance(Limits::default().retention);
        finish(&server, &mut runs, "retained").await;
        let mut opened = Stream::open(server.run("running", MESSAGE)).await;
        let running = runs.recv().await.unwrap();
        running.text("one");
        running.text("two");
        let epoch = opened.next().await.unwrap().epoch();
        opened.next().await.unwrap();
        opened.next().await.unwrap();
        Self { server, runs, running, epoch }
    }

    /// The cursor of this event, in the executions that are there.
    fn cursor(&self, seq: u64) -> String {
        format!("{}-{seq}", self.epoch)
    }

    /// Every way to ask for the events after `cursor`.
    fn attaches(&self, id: &str, cursor: &str) -> Vec<RequestBuilder> {
        let get = self.server.get(&format!("/agents/executions/{id}/stream"));
        vec![
            self.server.attach(id, cursor),
            self.server.run(id, MESSAGE).header("Last-Event-ID", cursor),
            get.header("Last-Event-ID", cursor),
        ]
    }

    /// Every way to ask for all events without starting anything.
    fn attaches_from_start(&self, id: &str) -> Vec<RequestBuilder> {
        let absent = self.server.post("/agents/run/stream", &json!({ "sessionId": "s" }));
        let bodiless = self.server.request(reqwest::Method::POST, "/agents/run/stream");
        let mut all = self.attaches(id, "0");
        all.push(self.server.run(id, ""));
        all.push(absent.header("X-Execution-ID", id));
        all.push(bodiless.header("X-Execution-ID", id));
        all.push(self.server.get(&format!("/agents/executions/{id}/stream")));
        all
    }

    fn assert_nothing_started(&mut self) {
        assert!(self.runs.try_recv().is_err());
    }
}

/// Runs one execution to its end: started, one, two, completed.
async fn finish(server: &Server, runs: &mut mpsc::UnboundedReceiver<Driver>, id: &str) {
    let opened = Stream::open(server.run(id, MESSAGE)).await;
    let run = runs.recv().await.unwrap();
    run.text("one");
    run.text("two");
    drop(run);
    assert_eq!(opened.rest().await.len(), 4);
}

async fn first(opened: &mut Stream, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    for _ in 0..count {
        frames.push(opened.next().await.unwrap());
    }
    frames
}

fn seqs(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(Frame::seq).collect()
}

#[tokio::test]
async fn a_message_starts_an_unknown_execution() {
    let mut house = House::new().await;
    let mut opened = Stream::open(house.server.run("new:id%2F", MESSAGE)).await;
    assert_eq!(opened.execution_id(), "new:id%2F");
    let started = opened.next().await.unwrap();
    assert_eq!(started.kind, "execution.started");
    assert_eq!(started.data["executionId"], "new:id%2F");
    assert_eq!(started.data.get("sessionId"), None);
    assert!(started.data["timestamp"].is_u64());
    assert_eq!(started.seq(), 1);
    let run = house.runs.recv().await.unwrap();
    assert_eq!(run.request.message(), MESSAGE);
    assert_eq!(house.server.substrate.stats().runs_started, 4);
}

#[tokio::test]
async fn a_message_attaches_to_a_running_execution() {
    let mut house = House::new().await;
    let mut opened = Stream::open(house.server.run("running", MESSAGE)).await;
    assert_eq!(opened.execution_id(), "running");
    assert_eq!(seqs(&first(&mut opened, 3).await), [1, 2, 3]);
    house.running.text("three");
    assert_eq!(opened.next().await.unwrap().seq(), 4);
    house.assert_nothing_started();
}

#[tokio::test]
async fn a_message_attaches_to_a_retained_execution() {
    let mut house = House::new().await;
    let frames = stream(house.server.run("retained", MESSAGE)).await;
    assert_eq!(seqs(&frames), [1, 2, 3, 4]);
    assert_eq!(kinds(&frames)[3], "execution.completed");
    house.assert_nothing_started();
}

#[tokio::test]
async fn another_message_under_a_known_id_is_a_conflict() {
    let mut house = House::new().await;
    for id in ["running", "retained"] {
        let answer = Answer::of(house.server.run(id, "another")).await;
        answer.assert_error(409, "execution_conflict");
    }
    house.assert_nothing_started();
}

#[tokio::test]
async fn a_message_under_a_spent_id_is_told_so() {
    let mut house = House::new().await;
    for message in [MESSAGE, "another"] {
        let answer = Answer::of(house.server.run("spent", message)).await;
        answer.assert_error(410, "execution_expired");
    }
    house.assert_nothing_started();
}

#[tokio::test]
async fn a_start_that_names_the_log_runs_in_that_log_only() {
    let mut house = House::new().await;
    let log = house.server.log_id().await;
    for _ in 0..2 {
        let start = house.server.run("new", MESSAGE).header("X-Log-Id", "another");
        Answer::of(start).await.assert_error(412, "log_changed");
    }
    house.assert_nothing_started();
    house.server.status("new").await.assert_error(404, "execution_not_found");

    let start = house.server.run("new", MESSAGE).header("X-Log-Id", log);
    let mut opened = Stream::open(start).await;
    assert_eq!(opened.next().await.unwrap().kind, "execution.started");
    house.runs.recv().await.unwrap();
}

#[tokio::test]
async fn whoever_names_another_log_and_starts_nothing_is_answered_as_without() {
    let mut house = House::new().await;
    let naming = |request: RequestBuilder| request.header("X-Log-Id", "another");
    let mut opened = Stream::open(naming(house.server.run("running", MESSAGE))).await;
    assert_eq!(seqs(&first(&mut opened, 3).await), [1, 2, 3]);
    assert_eq!(seqs(&stream(naming(house.server.run("retained", MESSAGE))).await), [1, 2, 3, 4]);
    for (id, message, status, code) in [
        ("retained", "another", 409, "execution_conflict"),
        ("spent", MESSAGE, 410, "execution_expired"),
        ("unknown", "", 404, "execution_not_found"),
    ] {
        Answer::of(naming(house.server.run(id, message))).await.assert_error(status, code);
    }
    for attach in house.attaches_from_start("retained") {
        assert_eq!(seqs(&stream(naming(attach)).await), [1, 2, 3, 4]);
    }
    house.assert_nothing_started();
}

#[tokio::test]
async fn a_malformed_log_id_is_refused_whatever_the_execution() {
    let mut house = House::new().await;
    let log = house.server.log_id().await;
    let too_long = "x".repeat(129);
    for id in ["unknown", "running", "retained", "spent"] {
        let twice = house.server.run(id, MESSAGE).header("X-Log-Id", &log);
        let mut malformed = vec![twice.header("X-Log-Id", &log)];
        let named = |name: &&str| house.server.run(id, MESSAGE).header("X-Log-Id", *name);
        malformed.extend(["", "a b", "a\tb", &too_long].iter().map(named));
        for run in malformed {
            let answer = Answer::of(run).await;
            answer.assert_error(400, "invalid_request");
            assert_eq!(answer.body["error"]["field"], "X-Log-Id");
        }
    }
    house.assert_nothing_started();
}

#[tokio::test]
async fn without_a_message_or_with_a_cursor_nothing_starts() {
    let mut house = House::new().await;
    let mut attaches = house.attaches_from_start("unknown");
    attaches.extend(house.attaches("unknown", "1-1"));
    for attach in attaches {
        Answer::of(attach).await.assert_error(404, "execution_not_found");
    }
    house.assert_nothing_started();
}

#[tokio::test]
async fn an_attach_without_a_cursor_begins_with_the_first_event() {
    let mut house = House::new().await;
    for attach in house.attaches_from_start("running") {
        let mut opened = Stream::open(attach).await;
        assert_eq!(seqs(&first(&mut opened, 3).await), [1, 2, 3]);
    }
    for attach in house.attaches_from_start("retained") {
        assert_eq!(seqs(&stream(attach).await), [1, 2, 3, 4]);
    }
    house.assert_nothing_started();
}

#[tokio::test]
async fn an_attach_to_a_spent_execution_is_told_so() {
    let house = House::new().await;
    let mut attaches = house.attaches_from_start("spent");
    attaches.extend(house.attaches("spent", "1000-2"));
    attaches.extend(house.attaches("spent", "1000-99"));
    for attach in attaches {
        Answer::of(attach).await.assert_error(410, "execution_expired");
    }
}

#[tokio::test]
async fn a_cursor_goes_on_strictly_after_it() {
    let house = House::new().await;
    for seq in 1..=3 {
        for attach in house.attaches("retained", &house.cursor(seq)) {
            let rest: Vec<_> = (seq + 1..=4).collect();
            assert_eq!(seqs(&stream(attach).await), rest);
        }
    }
    let running = house.attaches("running", &house.cursor(3));
    let opened = futures_util::future::join_all(running.into_iter().map(Stream::open)).await;
    house.running.text("three");
    for mut opened in opened {
        assert_eq!(opened.next().await.unwrap().seq(), 4);
    }
}

#[tokio::test]
async fn the_cursor_of_the_terminal_event_is_told_that_nothing_follows() {
    let house = House::new().await;
    for attach in house.attaches("retained", &house.cursor(4)) {
        let answer = Answer::of(attach).await;
        assert_eq!((answer.status.as_u16(), answer.body), (204, json!(null)));
        assert_eq!(answer.headers["x-execution-id"], "retained");
    }
}

#[tokio::test]
async fn a_cursor_that_the_log_does_not_hold_is_told() {
    let house = House::new().await;
    let (other_epoch, beyond) = (format!("{}-2", house.epoch + 1), house.cursor(9));
    for id in ["running", "retained"] {
        for cursor in [&other_epoch, &beyond, "0-0", &house.cursor(0)] {
            for attach in house.attaches(id, cursor) {
                let answer = Answer::of(attach).await;
                answer.assert_error(409, "invalid_replay_cursor");
                assert!(
                    answer.body["error"]["last"]
                        .as_str()
                        .unwrap()
                        .starts_with(&house.cursor(0)[..7])
                );
            }
        }
    }
}

#[tokio::test]
async fn a_malformed_cursor_is_refused_whatever_the_execution() {
    let house = House::new().await;
    for id in ["unknown", "running", "retained", "spent"] {
        for cursor in
            ["", "1", "abc", "-1", "1-", "01-1", "1-1-1", "1 - 1", "18446744073709551616-1"]
        {
            for attach in house.attaches(id, cursor) {
                let answer = Answer::of(attach).await;
                answer.assert_error(400, "invalid_request");
                assert_eq!(answer.body["error"]["field"], "Last-Event-ID");
            }
        }
    }
}

#[tokio::test]
async fn a_malformed_id_is_refused() {
    let house = House::new().await;
    let long = "x".repeat(257);
    for id in ["", "a b", "a\tb", &long] {
        for run in [house.server.run(id, MESSAGE), house.server.attach(id, "0")] {
            let answer = Answer::of(run).await;
            answer.assert_error(400, "invalid_request");
            assert_eq!(answer.body["error"]["field"], "X-Execution-ID");
        }
    }
    for id in ["a%20b", "a%0D%0Ab", "a%00b", "%FF", "%E4%B8%AD", &long] {
        for path in [format!("/agents/executions/{id}"), format!("/agents/executions/{id}/stream")]
        {
            let answer = Answer::of(house.server.get(&path)).await;
            answer.assert_error(400, "invalid_request");
            assert_eq!(answer.body["error"]["field"], "id");
        }
    }
}

#[tokio::test]
async fn a_status_tells_where_an_execution_stands() {
    let house = House::new().await;
    let running = house.server.status("running").await;
    let started_at = 1_000 + 3_600_000;
    assert_eq!(running.status, 200);
    assert_eq!(
        running.body,
        json!({ "executionId": "running", "state": "running", "last": house.cursor(3), "startedAt": started_at, "endedAt": null, "acceptsInput": false, "pending": [] })
    );
    let retained = house.server.status("retained").await;
    assert_eq!(
        retained.body,
        json!({ "executionId": "retained", "state": "completed", "last": house.cursor(4), "startedAt": started_at, "endedAt": started_at, "acceptsInput": false, "pending": [] })
    );
    house.server.status("unknown").await.assert_error(404, "execution_not_found");
    house.server.status("spent").await.assert_error(410, "execution_expired");
}
