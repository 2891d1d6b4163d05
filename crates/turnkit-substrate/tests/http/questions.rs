//! Questions of running agents, their answers, and inputs: every cell of PROTOCOL 3.6.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use turnkit_agent::Received;
use turnkit_substrate::{Limits, Substrate, SystemClock, Takes};
use turnkit_testkit::log_contract::ManualClock;
use turnkit_wire::{
    Event,
    interaction::{Interaction, Kind, Outcome, answered},
    write::Json,
};

use crate::{
    agents::{Driven, Driver},
    client::{Answer, Frame, Server, Stream, kinds, stream},
};

const BOTH: Takes = Takes { answers: true, input: true };

/// A run of an agent that takes answers and input, and its reader.
struct Asking {
    server: Server,
    run: Option<Driver>,
    reader: Stream,
}

impl Asking {
    async fn new() -> Self {
        Self::with_limits(Limits::default()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        let (agent, mut runs) = Driven::taking(BOTH);
        let server = Server::with_limits(agent, limits).await;
        let reader = Stream::open(server.run("a", "hello")).await;
        let run = runs.recv().await.unwrap();
        Self { server, run: Some(run), reader }
    }

    fn run(&self) -> &Driver {
        self.run.as_ref().unwrap()
    }

    /// Lets the agent ask, and waits until the question is in the log.
    async fn ask(&mut self, event: Event) {
        self.run().send(event);
        self.read_until("interaction").await;
    }

    async fn read_until(&mut self, kind: &str) -> Frame {
        loop {
            let frame = self.reader.next().await.unwrap();
            if frame.kind == kind {
                return frame;
            }
        }
    }

    async fn answer(&self, question: &str, body: Value) -> Answer {
        answer(&self.server, question, &body).await
    }

    async fn input(&self, id: &str, message: &str) -> Answer {
        let body = json!({ "id": id, "message": message, "by": "ann" });
        Answer::of(self.server.post("/agents/executions/a/input", &body)).await
    }

    /// Lets the run end by itself.
    async fn end(&mut self) -> Frame {
        self.run = None;
        self.read_until("execution.completed").await
    }

    /// What the agent hears next.
    async fn heard(&self) -> Received {
        self.run().inbox.next().await.unwrap()
    }

    async fn heard_outcome(&self) -> Outcome {
        match self.heard().await {
            Received::Answer(answer) => answer.outcome(),
            input @ Received::Input(_) => panic!("an answer comes: {input:?}"),
        }
    }
}

async fn answer(server: &Server, question: &str, body: &Value) -> Answer {
    let path = format!("/agents/executions/a/interactions/{question}");
    Answer::of(server.post(&path, body)).await
}

fn approval(id: &str) -> Event {
    Interaction::new(Kind::Approval, id).title("May I?").event()
}

fn yes() -> Value {
    json!({ "outcome": "accepted" })
}

#[tokio::test]
async fn an_answer_is_taken_once_and_the_same_one_is_answered_the_same() {
    let mut asking = Asking::new().await;
    asking.ask(approval("q")).await;
    let status = asking.server.status("a").await.body;
    assert_eq!(status["pending"], json!([{ "id": "q", "kind": "approval", "title": "May I?" }]));
    assert_eq!(asking.server.substrate.stats().waiting, 1);

    let data = json!({ "a": [1, 2.5], "b": "x" });
    let first = json!({ "outcome": "accepted", "data": data, "by": "ann" });
    let told = asking.answer("q", first).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.body, json!({ "state": "answered", "outcome": "accepted" }));
    let Received::Answer(heard) = asking.heard().await else { panic!("an answer comes") };
    assert_eq!(heard.data_as::<Value>().unwrap(), data);

    let same = json!({ "data": { "b": "x", "a": [1, 2.5] }, "outcome": "accepted", "by": "bob" });
    let others = [
        json!({ "outcome": "declined" }),
        json!({ "outcome": "accepted" }),
        json!({ "outcome": "accepted", "data": { "a": [1, 2.5], "b": "y" } }),
    ];
    for ended in [false, true] {
        assert_eq!(asking.answer("q", same.clone()).await.status, 200, "members have no order");
        for other in others.clone() {
            let refused = asking.answer("q", other).await;
            refused.assert_error(409, "interaction_answered");
            assert_eq!(refused.body["error"]["outcome"], "accepted");
        }
        let status = asking.server.status("a").await.body;
        assert_eq!((&status["pending"], &status["acceptsInput"]), (&json!([]), &json!(!ended)));
        if !ended {
            let told = asking.read_until("interaction.answered").await;
            let event = json!({ "id": "q", "outcome": "accepted", "data": data, "by": "ann" });
            assert_eq!(told.data, event);
            asking.end().await;
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_to_a_question_is_refused_with_its_reason() {
    let mut asking = Asking::new().await;
    asking.answer("q", yes()).await.assert_error(404, "interaction_not_found");
    let unknown = "/agents/executions/unknown/interactions/q";
    let unknown = Answer::of(asking.server.post(unknown, &yes())).await;
    unknown.assert_error(404, "execution_not_found");
    asking.ask(approval("q")).await;
    let deep = |depth: usize| {
        serde_json::from_str::<Box<serde_json::value::RawValue>>(&format!(
            r#"{{"outcome":"declined","data":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        ))
        .unwrap()
    };
    for (body, field) in [
        (json!({}), "body"),
        (json!([]), "body"),
        (json!({ "outcome": 7 }), "body"),
        (json!({ "outcome": "yes" }), "outcome"),
        (json!({ "outcome": "expired" }), "outcome"),
        (json!({ "outcome": "withdrawn" }), "outcome"),
        (json!({ "outcome": "accepted", "by": "x".repeat(257) }), "by"),
    ] {
        let refused = asking.answer("q", body).await;
        refused.assert_error(400, "invalid_request");
        assert_eq!(refused.body["error"]["field"], field);
    }
    let path = "/agents/executions/a/interactions/q";
    let too_deep =
        Answer::of(asking.server.request(reqwest::Method::POST, path).json(&deep(128))).await;
    too_deep.assert_error(400, "invalid_request");
    assert_eq!(too_deep.body["error"]["field"], "data");
    asking.answer("no%20id", yes()).await.assert_error(400, "invalid_request");
    let large = json!({ "outcome": "accepted", "data": "x".repeat(1024 * 1024) });
    asking.answer("q", large).await.assert_error(413, "payload_too_large");
    assert_eq!(asking.server.status("a").await.body["pending"][0]["id"], "q", "it still waits");

    let deepest =
        Answer::of(asking.server.request(reqwest::Method::POST, path).json(&deep(127))).await;
    assert_eq!(deepest.status, 200, "{deepest:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_told_where_and_the_question_waits_on() {
    let schema = r#"{"type":"object","properties":{"age":{"type":"integer","minimum":0}},"required":["age"]}"#;
    let schema = Json::verify(schema).unwrap();
    let mut asking = Asking::new().await;
    asking.ask(Interaction::new(Kind::Question, "form").schema(&schema).event()).await;
    let options = [("x", "X"), ("y", "Y")];
    asking.ask(Interaction::new(Kind::Question, "choice").options(&options).event()).await;
    for (question, data, field) in [
        ("form", json!({ "age": -1 }), "data.age"),
        ("form", json!({ "age": "7" }), "data.age"),
        ("form", json!({}), "data.age"),
        ("form", json!(null), "data"),
        ("choice", json!({ "option": "z" }), "data.option"),
        ("choice", json!(null), "data.option"),
    ] {
        let refused = asking.answer(question, json!({ "outcome": "accepted", "data": data })).await;
        refused.assert_error(422, "invalid_answer");
        assert_eq!(refused.body["error"]["field"], field, "{data}");
    }
    for (question, data) in [("choice", json!({ "option": "y" })), ("form", json!({ "age": 7 }))] {
        let fits = json!({ "outcome": "accepted", "data": data });
        assert_eq!(asking.answer(question, fits).await.status, 200);
        let Received::Answer(heard) = asking.heard().await else { panic!("an answer comes") };
        assert_eq!((&*heard.id(), heard.data_as::<Value>().unwrap()), (question, data));
    }
}

#[tokio::test]
async fn a_question_that_nobody_answers_in_time_is_expired_for_everybody() {
    let limits = Limits { interaction: Duration::from_millis(50), ..Limits::default() };
    let mut asking = Asking::with_limits(limits).await;
    let far = Interaction::new(Kind::Approval, "far").expires_at(u64::MAX);
    for (id, event) in [("none", approval("none")), ("far", far.event())] {
        asking.ask(event).await;
        let told = asking.read_until("interaction.answered").await;
        assert_eq!(told.data, json!({ "id": id, "outcome": "expired" }));
        assert_eq!(asking.heard_outcome().await, Outcome::Expired);
        asking.answer(id, yes()).await.assert_error(410, "interaction_gone");
    }
}

#[tokio::test]
async fn a_question_has_a_time_of_its_own() {
    let mut asking = Asking::new().await;
    asking.ask(Interaction::new(Kind::Approval, "soon").expires_at(1).event()).await;
    assert_eq!(asking.heard_outcome().await, Outcome::Expired);
}

#[tokio::test]
async fn a_question_that_the_agent_drops_is_withdrawn() {
    let mut asking = Asking::new().await;
    let inbox = asking.run().inbox.clone();
    let waiting = tokio::spawn(inbox.ask(&Interaction::new(Kind::Approval, "q")));
    asking.read_until("interaction").await;
    waiting.abort();
    let told = asking.read_until("interaction.answered").await;
    assert_eq!(told.data, json!({ "id": "q", "outcome": "withdrawn" }));
    asking.answer("q", yes()).await.assert_error(410, "interaction_gone");

    asking.ask(approval("sent")).await;
    asking.run().inbox.withdraw("sent");
    assert_eq!(asking.heard_outcome().await, Outcome::Withdrawn);
}

#[tokio::test]
async fn whoever_asks_gets_its_answer_between_its_events() {
    let mut asking = Asking::new().await;
    let inbox = asking.run().inbox.clone();
    asking.run().text("before");
    asking.read_until("message.part.updated").await;
    let waiting = tokio::spawn(inbox.ask(&Interaction::new(Kind::Tool, "q")));
    asking.read_until("interaction").await;
    let output = json!({ "outcome": "accepted", "data": 42 });
    assert_eq!(asking.answer("q", output).await.status, 200);
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.data(), Some("42"));
    asking.run().text("after");
    asking.run = None;
    let rest = asking.reader.rest().await;
    assert_eq!(
        kinds(&rest),
        ["interaction.answered", "message.part.updated", "execution.completed"]
    );
}

#[tokio::test]
async fn the_time_of_a_run_stands_still_while_it_waits() {
    let (agent, mut runs) = Driven::taking(BOTH);
    let server = Server::with_agent(agent).await;
    let body = json!({ "message": "hello", "timeout": 400 });
    let start = server.post("/agents/run/stream", &body).header("X-Execution-ID", "a");
    let mut reader = Stream::open(start).await;
    let run = runs.recv().await.unwrap();
    run.send(approval("q"));
    while reader.next().await.unwrap().kind != "interaction" {}
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(answer(&server, "q", &yes()).await.status, 200);
    let rest = reader.rest().await;
    assert_eq!(kinds(&rest), ["interaction.answered", "execution.failed"]);
    assert_eq!(rest[1].data["code"], "timeout", "it goes on where it stood");
}

#[tokio::test]
async fn a_run_that_waits_ends_with_its_time_in_all() {
    let limits = Limits { run_in_all: Duration::from_millis(100), ..Limits::default() };
    let mut asking = Asking::with_limits(limits).await;
    asking.ask(approval("q")).await;
    let failed = asking.read_until("execution.failed").await;
    assert_eq!(failed.data["code"], "timeout");
    assert!(failed.data["message"].as_str().unwrap().contains("questions included"));
    asking.answer("q", yes()).await.assert_error(410, "interaction_gone");
}

#[tokio::test]
async fn from_an_agent_that_declares_nothing_these_are_events_like_all_others() {
    let (agent, mut runs) = Driven::new();
    let server = Server::with_agent(agent).await;
    let reader = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    let own = answered("q", Outcome::Accepted, None, None);
    for event in [approval("q"), own, approval("q"), Event::bare("interaction").unwrap()] {
        run.send(event);
    }
    drop(run);
    assert_eq!(reader.rest().await.len(), 6);
    answer(&server, "q", &yes()).await.assert_error(404, "interaction_not_found");
}

#[tokio::test]
async fn an_agent_that_declares_it_keeps_to_the_rules() {
    let many = || (0..17).map(|at| approval(&at.to_string())).collect();
    let reserved = ["interaction.answered", "input", "input.taken"].map(|kind| {
        let data = json!({ "id": "q", "outcome": "accepted", "message": "m" });
        (vec![approval("q"), Event::new(kind, &data).unwrap()], "reserved_event")
    });
    let invalid = [
        vec![Event::bare("interaction").unwrap()],
        vec![approval("two words")],
        vec![approval("q"), approval("q")],
        many(),
    ];
    for (events, code) in
        reserved.into_iter().chain(invalid.map(|events| (events, "invalid_event")))
    {
        let mut asking = Asking::new().await;
        for event in events {
            asking.run().send(event);
        }
        let failed = asking.read_until("execution.failed").await;
        assert_eq!(failed.data["code"], code, "{failed:?}");
    }
}

#[tokio::test]
async fn waiting_runs_do_not_count_as_running_until_there_are_too_many() {
    let limits = Limits { running_in_all: 1, waiting_in_all: 1, ..Limits::default() };
    let (agent, mut runs) = Driven::taking(BOTH);
    let server = Server::with_limits(agent, limits).await;
    let mut waiting = Vec::new();
    for id in ["a", "b"] {
        let mut reader = Stream::open(server.run(id, "hello")).await;
        let run = runs.recv().await.unwrap();
        Answer::of(server.run("c", "hello")).await.assert_error(429, "too_many_executions");
        run.send(approval("q"));
        while reader.next().await.unwrap().kind != "interaction" {}
        waiting.push((run, reader));
    }
    let stats = server.substrate.stats();
    assert_eq!((stats.running, stats.waiting), (2, 2));
    Answer::of(server.run("c", "hello")).await.assert_error(429, "too_many_executions");
    for (run, _) in &waiting {
        run.send(Interaction::new(Kind::Approval, "more").event());
    }
    assert_eq!(answer(&server, "q", &yes()).await.status, 200);
    for (run, reader) in waiting {
        drop(run);
        reader.rest().await;
    }
    assert_eq!(server.substrate.stats().waiting, 0);
    let third = Stream::open(server.run("c", "hello")).await;
    drop(runs.recv().await.unwrap());
    assert_eq!(third.rest().await.len(), 2);
}

#[tokio::test]
async fn a_cancel_closes_what_is_pending() {
    let mut asking = Asking::new().await;
    let inbox = asking.run().inbox.clone();
    let waiting = tokio::spawn(inbox.ask(&Interaction::new(Kind::Approval, "q")));
    asking.read_until("interaction").await;
    let cancelled = asking.server.cancel("a").await.body;
    assert_eq!((&cancelled["state"], &cancelled["pending"]), (&json!("cancelled"), &json!([])));
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), "not_answered");
    assert_eq!(asking.server.status("a").await.body["pending"], json!([]));
    asking.answer("q", yes()).await.assert_error(410, "interaction_gone");
    let rest = asking.reader.rest().await;
    assert_eq!(kinds(&rest), ["execution.cancelled"], "no lines are written for questions");
}

#[tokio::test]
async fn of_five_hundred_answers_one_is_taken_and_everybody_hears_which() {
    let mut asking = Asking::new().await;
    asking.ask(approval("q")).await;
    let asking = Arc::new(asking);
    let answers = join_all((0..500).map(|at| {
        let asking = Arc::clone(&asking);
        let outcome = if at % 2 == 0 { "accepted" } else { "declined" };
        tokio::spawn(
            async move { (outcome, asking.answer("q", json!({ "outcome": outcome })).await) },
        )
    }))
    .await;
    let heard = asking.heard_outcome().await.as_str();
    let mut taken = 0;
    for (outcome, answer) in answers.into_iter().map(Result::unwrap) {
        if outcome == heard {
            assert_eq!((answer.status.as_u16(), &answer.body["outcome"]), (200, &json!(heard)));
            taken += 1;
        } else {
            answer.assert_error(409, "interaction_answered");
            assert_eq!(answer.body["error"]["outcome"], heard);
        }
    }
    assert_eq!(taken, 250);
    let mut asking = Arc::into_inner(asking).unwrap();
    asking.run = None;
    let rest = asking.reader.rest().await;
    assert_eq!(kinds(&rest), ["interaction.answered", "execution.completed"]);
}

#[tokio::test]
async fn an_input_is_in_the_log_once_and_heard_once() {
    let mut asking = Asking::new().await;
    for _ in 0..2 {
        let told = asking.input("i1", "look \"here\"").await;
        assert_eq!(told.status, 202);
        assert_eq!(told.body, json!({ "id": "i1", "state": "accepted" }));
    }
    asking.input("i1", "look there").await.assert_error(409, "input_conflict");
    let Received::Input(heard) = asking.heard().await else { panic!("an input comes") };
    assert_eq!((&*heard.message(), heard.by().as_deref()), ("look \"here\"", Some("ann")));
    asking.read_until("input.taken").await;
    assert_eq!(asking.input("i2", "more").await.status, 202);
    let ended = asking.end().await;
    assert_eq!(ended.data["untaken"], json!(["i2"]), "it is told who has not been heard");
    assert_eq!(asking.input("i2", "more").await.status, 202, "it is in the log");
    asking.input("i3", "late").await.assert_error(410, "execution_ended");

    let frames = stream(asking.server.attach("a", "0")).await;
    assert_eq!(
        kinds(&frames),
        ["execution.started", "input", "input.taken", "input", "execution.completed"]
    );
    assert_eq!(frames[1].data, json!({ "id": "i1", "message": "look \"here\"", "by": "ann" }));
    assert_eq!(frames[2].data, json!({ "id": "i1" }));
}

const PATH: &str = "/agents/executions/a/input";

#[tokio::test]
async fn what_is_no_input_is_refused_with_its_reason() {
    let mut asking = Asking::new().await;
    let send = |path: &'static str, body: Value| {
        let request = asking.server.post(path, &body);
        async move { Answer::of(request).await }
    };
    for (body, field) in [
        (json!({ "message": "m" }), "body"),
        (json!({ "id": "i" }), "body"),
        (json!({ "id": "two words", "message": "m" }), "id"),
        (json!({ "id": "", "message": "m" }), "id"),
        (json!({ "id": "i", "message": "" }), "message"),
        (json!({ "id": "i", "message": "m", "by": "x".repeat(257) }), "by"),
    ] {
        let refused = send(PATH, body).await;
        refused.assert_error(400, "invalid_request");
        assert_eq!(refused.body["error"]["field"], field);
    }
    let unknown = send("/agents/executions/unknown/input", json!({ "id": "i", "message": "m" }));
    unknown.await.assert_error(404, "execution_not_found");
    for at in 0..16 {
        assert_eq!(asking.input(&at.to_string(), "m").await.status, 202);
    }
    let refused = asking.input("16", "m").await;
    refused.assert_error(429, "too_many_inputs");
    assert_eq!(refused.body["error"]["limit"], 16);
    assert!(matches!(asking.heard().await, Received::Input(_)));
    asking.read_until("input.taken").await;
    assert_eq!(asking.input("16", "m").await.status, 202, "there is room again");

    let (agent, mut runs) = Driven::taking(Takes { answers: true, input: false });
    let server = Server::with_agent(agent).await;
    let _reader = Stream::open(server.run("a", "hello")).await;
    let _run = runs.recv().await.unwrap();
    let refused = Answer::of(server.post(PATH, &json!({ "id": "i", "message": "m" }))).await;
    refused.assert_error(409, "input_not_accepted");
    assert_eq!(server.status("a").await.body["acceptsInput"], false);
}

#[tokio::test]
async fn an_input_that_the_agent_has_as_the_run_is_cancelled_is_not_told_as_untaken() {
    let asking = Asking::new().await;
    for id in ["taken", "not"] {
        assert_eq!(asking.input(id, "m").await.status, 202);
    }
    assert!(matches!(asking.heard().await, Received::Input(_)));
    asking.server.cancel("a").await;
    let rest = asking.reader.rest().await;
    assert_eq!(rest.last().unwrap().data["untaken"], json!(["not"]));
}

#[tokio::test]
async fn what_was_answered_is_forgotten_with_the_log() {
    let clock = ManualClock::at(1_700_000_000_000);
    let (agent, mut runs) = Driven::taking(BOTH);
    let server = Server::with_clock(agent, Limits::default(), Arc::clone(&clock) as _).await;
    let mut reader = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    run.send(approval("q"));
    while reader.next().await.unwrap().kind != "interaction" {}
    assert_eq!(answer(&server, "q", &yes()).await.status, 200);
    drop(run);
    reader.rest().await;
    clock.advance(Limits::default().retention);
    answer(&server, "q", &yes()).await.assert_error(410, "execution_expired");
    let late = json!({ "id": "i", "message": "m" });
    let late = Answer::of(server.post("/agents/executions/a/input", &late)).await;
    late.assert_error(410, "execution_expired");
}

#[tokio::test]
async fn a_node_that_stops_ends_the_runs_that_wait() {
    let mut limits = Limits::default();
    limits.connection.shutdown = Duration::from_millis(50);
    let (agent, mut runs) = Driven::taking(BOTH);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let log = crate::log(limits, Arc::new(SystemClock::new()));
    let builder = Substrate::builder().agent("default", agent).log(log);
    let server = Server::serve_until(builder, async { drop(stopped.await) }).await;
    let mut reader = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    run.send(approval("q"));
    while reader.next().await.unwrap().kind != "interaction" {}
    stop.send(()).unwrap();
    let rest = reader.rest().await;
    assert_eq!(rest.last().unwrap().data["code"], "shutting_down");
    drop(run);
    server.finished().await.unwrap();
}

#[tokio::test]
async fn another_scope_has_no_such_question() {
    let (agent, mut runs) = Driven::taking(BOTH);
    let log = crate::log(Limits::default(), Arc::new(SystemClock::new()));
    let builder = Substrate::builder().agent("default", agent).log(log);
    let server = Server::serve(builder.token("one", "first").token("two", "second")).await;
    let mut reader = Stream::open(server.run("a", "hello").bearer_auth("first")).await;
    let run = runs.recv().await.unwrap();
    run.send(approval("q"));
    while reader.next().await.unwrap().kind != "interaction" {}
    let answer = |token| {
        let request = server.post("/agents/executions/a/interactions/q", &yes());
        Answer::of(request.bearer_auth(token))
    };
    answer("second").await.assert_error(404, "execution_not_found");
    answer("none").await.assert_error(401, "unauthorized");
    assert_eq!(answer("first").await.status, 200);
}
