//! The invariants of an attempt, one by one (PROTOCOL 2.1), over the public surface.

use std::sync::Arc;

use turnkit::{ClientOutcome, Hook, TurnOutcome, TurnProducer};
use turnkit_testkit::{BodyReader, Fault, Recorder, Script, Store, events, execution_id, turn};

/// Runs a turn to its end: the lines that its client read, and the outcome.
async fn run(
    producer: impl TurnProducer + 'static,
    hooks: &Arc<Recorder>,
) -> (Vec<String>, TurnOutcome) {
    let (body, driver) = turn().start(producer, hooks.clone());
    let mut client = BodyReader::new(body);
    let (lines, outcome) = tokio::join!(client.rest(), driver);
    (lines.iter().map(|event| event.as_json().to_owned()).collect(), outcome)
}

fn kinds(hooks: &Recorder) -> Vec<String> {
    hooks.events().iter().map(|event| event.kind().to_owned()).collect()
}

fn calls(hooks: &Recorder) -> Vec<String> {
    hooks.calls().iter().map(ToString::to_string).collect()
}

const STARTED: &str = r#"{"type":"session.run.started","data":{"sessionId":"thread-abc","tenantId":"acme","turnIndex":3,"executionId":"project:thread-abc:3"}}"#;
const COMPLETED: &str = r#"{"type":"session.run.completed","data":{"sessionId":"thread-abc"}}"#;

#[tokio::test]
async fn the_lookup_then_started_then_the_producer() {
    let script = Script::new().text("hi");
    let probe = script.probe();
    let asked_before = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked_before.clone();
    let hooks = Recorder::new().on_call(move |_| seen.lock().unwrap().push(probe.asked()));
    let hooks = Arc::new(hooks);
    run(script, &hooks).await;
    let expected =
        ["find_completed", "on_event session.run.started", "on_event message.part.updated"];
    assert_eq!(calls(&hooks)[..3], expected);
    assert_eq!(asked_before.lock().unwrap()[..3], [0, 0, 1]);
}

#[tokio::test]
async fn events_go_through_byte_for_byte_and_in_order() {
    let verbatim = [
        r#"{ "data" : {"b":1E5,"a":-0,"b":1e400} , "type" : "x", "n": 1234567890123456789012345678901234567890 }"#,
        r#"{"type":"y","data":"\/ \u0041 \u0000 \ud800"}"#,
        r#"{"type":"execution.started","data":{}}"#,
        r#"{"type":"done"}"#,
    ];
    let script = Script::new().events(verbatim.map(events::verbatim)).done_with("ok");
    // Nothing that counts as a part: the text is what `Done` says.
    let (lines, outcome) = run(script, &Arc::default()).await;
    assert_eq!(lines[1..5], verbatim);
    assert_eq!(outcome.result.unwrap().as_str(), "ok");
}

#[tokio::test]
async fn the_producers_own_envelope_is_not_forwarded() {
    let own = ["session.run.started", "session.run.completed", "session.run.paused"];
    let own = own.map(|kind| events::event(kind, &serde_json::json!({})));
    let hooks = Arc::new(Recorder::new());
    let (lines, outcome) = run(Script::new().events(own).text("hi"), &hooks).await;
    assert_eq!((lines.len(), outcome.events), (3, 3));
    assert_eq!(lines[0], STARTED);
    assert_eq!(lines[2], COMPLETED);
    assert_eq!(
        kinds(&hooks),
        ["session.run.started", "message.part.updated", "session.run.completed"]
    );
}

#[tokio::test]
async fn transform_persist_complete_and_then_the_line() {
    let hooks = Arc::new(Recorder::new().transform(|text| text.to_uppercase()));
    let (lines, outcome) = run(Script::new().text("hi"), &hooks).await;
    assert_eq!(
        calls(&hooks)[3..],
        [
            r#"transform_final_text "hi""#,
            r#"persist_assistant_message "HI""#,
            r#"on_turn_complete "HI""#,
            "on_event session.run.completed",
            "trace_flush",
        ]
    );
    let completed =
        r#"{"type":"session.run.completed","data":{"sessionId":"thread-abc","finalText":"HI"}}"#;
    assert_eq!(lines.last().unwrap(), completed);
    assert_eq!(outcome.result.unwrap().as_str(), "HI");
    assert_eq!(hooks.saved(&execution_id()).unwrap(), "HI");
}

#[tokio::test]
async fn a_failed_persist_is_never_told_as_completed() {
    let hooks = Arc::new(Recorder::new().fails(Hook::PersistAssistantMessage, "the disk is full"));
    let (lines, outcome) = run(Script::new().text("hi"), &hooks).await;
    assert!(!lines.contains(&COMPLETED.to_owned()));
    assert_eq!(
        lines[2..],
        [
            r#"{"type":"error","data":{"message":"the disk is full","code":"hook_failed"}}"#,
            r#"{"type":"session.run.failed","data":{"sessionId":"thread-abc","message":"the disk is full","retryable":true,"code":"hook_failed","phase":"persist"}}"#,
        ]
    );
    assert_eq!(hooks.log()[3], r#"on_turn_failed hook_failed "hi""#);
    let error = outcome.result.unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is full");
}

#[tokio::test]
async fn a_failure_runs_on_turn_failed_then_error_then_failed() {
    let hooks = Arc::new(Recorder::new());
    let (lines, outcome) =
        run(Script::new().text("par").text("tial").fail("the model is gone"), &hooks).await;
    assert_eq!(
        calls(&hooks)[4..],
        [
            r#"on_turn_failed - "partial""#,
            "on_event error",
            "on_event session.run.failed",
            "trace_flush",
        ]
    );
    assert_eq!(
        lines[3..],
        [
            r#"{"type":"error","data":{"message":"the model is gone"}}"#,
            r#"{"type":"session.run.failed","data":{"sessionId":"thread-abc","message":"the model is gone","retryable":false,"phase":"produce"}}"#,
        ]
    );
    assert_eq!(outcome.events, 5);
}

#[tokio::test]
async fn the_producers_first_error_is_held_back_and_stands_before_failed() {
    let own =
        r#"{"type":"error" ,"data":{"code":"AGENT_EXECUTION_FAILED","message":"boom","n":1E5}}"#;
    let script = Script::new()
        .text("a")
        .event(events::verbatim(own))
        .text("b")
        .event(events::event("error", &serde_json::json!({ "message": "another" })))
        .done_with("whole");
    let hooks = Arc::new(Recorder::new());
    let (lines, outcome) = run(script, &hooks).await;
    let delta = |text| events::delta("prt_1", text).as_json().to_owned();
    assert_eq!(
        lines,
        [
            STARTED,
            &delta("a"),
            &delta("b"),
            own,
            r#"{"type":"session.run.failed","data":{"sessionId":"thread-abc","message":"boom","retryable":false,"code":"AGENT_EXECUTION_FAILED","phase":"produce"}}"#,
        ]
    );
    assert_eq!(hooks.log()[1], r#"on_turn_failed AGENT_EXECUTION_FAILED "whole""#);
    assert_eq!(outcome.result.unwrap_err().to_string(), "boom");
    assert_eq!(hooks.saved(&execution_id()), None);
}

#[tokio::test]
async fn terminal_lines_count_in_no_cursor() {
    for cursor in [2, 3] {
        let (body, driver) =
            turn().resume_after(cursor).start(Script::new().text("a").fail("x"), Recorder::new());
        let mut client = BodyReader::new(body);
        let (lines, outcome) = tokio::join!(client.rest(), driver);
        assert_eq!(
            lines.iter().map(turnkit::Event::kind).collect::<Vec<_>>(),
            ["error", "session.run.failed"]
        );
        assert_eq!(outcome.events, 4);
    }
}

#[tokio::test]
async fn nothing_follows_the_ending() {
    for script in [Script::new().text("a"), Script::new().text("a").fail("x")] {
        let (body, driver) = turn().start(script, Recorder::new().fails(Hook::TraceFlush, "late"));
        let mut client = BodyReader::new(body);
        let (lines, outcome) = tokio::join!(client.rest(), driver);
        let endings = ["session.run.completed", "session.run.failed"];
        let ending = lines.iter().position(|line| endings.contains(&line.kind()));
        assert_eq!(ending, Some(lines.len() - 1));
        assert_eq!(outcome.client, ClientOutcome::Attached);
    }
}

#[tokio::test]
async fn a_dropped_driver_leaves_a_body_without_an_ending_and_the_turn_to_a_retry() {
    let script = Script::new().text("a").wait(std::future::pending());
    let (hooks, probe) = (Arc::new(Recorder::new()), script.probe());
    let (body, mut driver) = turn().start(script, hooks.clone());
    assert!(futures::poll!(&mut driver).is_pending());
    drop(driver);
    // The work behind the producer is not stopped: the retry attaches to it.
    assert_eq!((hooks.log(), probe.cancelled()), (vec!["find_completed".to_owned()], 0));
    let lines = BodyReader::new(body).rest().await;
    assert_eq!(
        lines.iter().map(turnkit::Event::kind).collect::<Vec<_>>(),
        ["session.run.started", "message.part.updated"]
    );
}

#[tokio::test]
async fn a_driver_that_is_dropped_before_it_began_leaves_an_empty_body() {
    let (body, driver) = turn().start(Script::new().text("a"), Recorder::new());
    drop(driver);
    assert_eq!(BodyReader::new(body).rest().await, []);
}

#[tokio::test]
async fn on_turn_complete_runs_only_after_saved_so_once_over_attempts_in_a_row() {
    let store = Store::new();
    let first = Arc::new(
        Recorder::new()
            .store(&store)
            .fault(Hook::PersistAssistantMessage, Fault::Error("lost".into())),
    );
    let (_, outcome) = run(Script::new().text("hi"), &first).await;
    assert!(outcome.result.unwrap_err().is_retryable());
    // The first attempt had committed: the second finds it saved.
    let second = Arc::new(Recorder::new().store(&store));
    let (lines, outcome) = run(Script::new().text("hi"), &second).await;
    assert_eq!(lines.last().unwrap(), COMPLETED);
    assert_eq!(outcome.result.unwrap().as_str(), "hi");
    let completes = |hooks: &Recorder| {
        hooks.log().iter().filter(|call| call.starts_with("on_turn_complete")).count()
    };
    assert_eq!((completes(&first), completes(&second)), (0, 0));
    let third = Arc::new(Recorder::new().store(&Store::new()));
    run(Script::new().text("hi"), &third).await;
    assert_eq!(completes(&third), 1);
}

#[tokio::test]
async fn two_attempts_at_once_save_once_and_complete_once() {
    let store = Store::new();
    let hooks = [0, 1].map(|_| Arc::new(Recorder::new().store(&store)));
    let runs = tokio::join!(
        run(Script::new().text("hi"), &hooks[0]),
        run(Script::new().text("hi"), &hooks[1])
    );
    assert_eq!(runs.0.0, runs.1.0);
    assert!(runs.0.1.result.is_ok() && runs.1.1.result.is_ok());
    let calls: Vec<String> = hooks.iter().flat_map(|hooks| hooks.log()).collect();
    let count = |name| calls.iter().filter(|call| call.starts_with(name)).count();
    assert_eq!((count("persist"), count("on_turn_complete"), count("on_turn_failed")), (2, 1, 0));
}

#[tokio::test]
async fn on_event_sees_every_line_once_and_cannot_break_the_turn() {
    for fault in [Fault::Error("full".into()), Fault::Panic("secret")] {
        let hooks = Arc::new(Recorder::new().fault(Hook::OnEvent, fault));
        let (lines, outcome) = run(Script::new().text("a").text("b"), &hooks).await;
        let seen: Vec<String> =
            hooks.events().iter().map(|event| event.as_json().to_owned()).collect();
        assert_eq!(seen, lines);
        assert_eq!(outcome.result.unwrap().as_str(), "ab");
        assert_eq!(outcome.hook_errors.len(), lines.len());
        assert_eq!(outcome.hook_errors[0].hook(), Hook::OnEvent);
        assert!(!format!("{:?}{}", outcome.hook_errors, outcome.hook_errors[0]).contains("secret"));
    }
}

#[tokio::test]
async fn on_event_sees_every_line_also_when_nobody_reads_and_what_is_skipped() {
    let hooks = Arc::new(Recorder::new());
    let (body, driver) =
        turn().resume_after(2).start(Script::new().text("a").text("b"), hooks.clone());
    drop(body);
    let outcome = driver.await;
    assert_eq!(
        kinds(&hooks),
        [
            "session.run.started",
            "message.part.updated",
            "message.part.updated",
            "session.run.completed"
        ]
    );
    assert_eq!(outcome.events, 4);
}

#[tokio::test]
async fn trace_flush_runs_last_and_the_client_does_not_wait_for_it() {
    let hooks = Arc::new(Recorder::new().fault(Hook::TraceFlush, Fault::Hang));
    let (body, driver) = turn().start(Script::new().text("a"), hooks.clone());
    let driver = tokio::spawn(driver);
    let lines = BodyReader::new(body).rest().await;
    assert_eq!(lines.len(), 3);
    assert!(!driver.is_finished());
    assert_eq!(hooks.log().last().unwrap(), "trace_flush");
    driver.abort();
}

#[tokio::test]
async fn a_saved_answer_is_replayed_without_asking_the_producer() {
    let store = Store::new();
    assert_eq!(store.save(&execution_id(), "sa\"ved"), turnkit::Persisted::Saved);
    let hooks = Arc::new(Recorder::new().store(&store).looks_up());
    let script = Script::new().text("new");
    let probe = script.probe();
    let (lines, outcome) = run(script, &hooks).await;
    assert_eq!(
        lines,
        [
            &STARTED.replace("}}", r#","replayed":true}}"#),
            r#"{"type":"message.part.updated","data":{"part":{"id":"final","type":"text","text":"sa\"ved"}}}"#,
            r#"{"type":"result","data":{"finalText":"sa\"ved"}}"#,
            r#"{"type":"session.run.completed","data":{"sessionId":"thread-abc","replayed":true}}"#,
        ]
    );
    assert_eq!(hooks.log(), ["find_completed", "trace_flush"]);
    let replay = ["session.run.started", "message.part.updated", "result", "session.run.completed"];
    assert_eq!(kinds(&hooks), replay);
    assert_eq!((probe.asked(), probe.cancelled()), (0, 0));
    assert!(outcome.replayed);
    assert_eq!(outcome.result.unwrap().as_str(), "sa\"ved");
    assert_eq!(outcome.events, 4);
}
