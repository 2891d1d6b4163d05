//! What happens when: each row of PROTOCOL 2.4, over the public surface. Time is tokio's, paused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::{Future, pending},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::{sync::oneshot, time};
use turnkit::{
    Answer, AnswerPart, BoxError, BoxProducer, ChatTurn, ClientLeft, ClientOutcome, Event,
    ExecutionId, FinalText, Hook, PartKind, Persisted, Phase, RawText, TurnBody, TurnContext,
    TurnError, TurnHooks, TurnIdentity, TurnOutcome, TurnProducer, producer,
    wire::write::{self, Json, Part, ToolCall, ToolStatus},
};
use turnkit_testkit::{
    BodyReader, Fault, Recorder, Script, ScriptError, events, execution_id, turn,
};

/// Runs an attempt to its end: the lines that its client read, and the outcome.
async fn run(
    turn: ChatTurn,
    producer: impl TurnProducer + 'static,
    hooks: &Arc<Recorder>,
) -> (Vec<Event>, TurnOutcome) {
    let (body, driver) = turn.start(producer, hooks.clone());
    let mut client = BodyReader::new(body);
    tokio::join!(client.rest(), driver)
}

fn json_lines(lines: &[Event]) -> Vec<&str> {
    lines.iter().map(Event::as_json).collect()
}

fn kinds(lines: &[Event]) -> Vec<&str> {
    lines.iter().map(Event::kind).collect()
}

/// `error` and `session.run.failed` as the engine makes them.
fn failure(message: &str, code: Option<&str>, retryable: bool, phase: &str) -> [String; 2] {
    let code = code.map(|code| format!(r#","code":"{code}""#)).unwrap_or_default();
    [
        format!(r#"{{"type":"error","data":{{"message":"{message}"{code}}}}}"#),
        format!(
            r#"{{"type":"session.run.failed","data":{{"sessionId":"thread-abc","message":"{message}","retryable":{retryable}{code},"phase":"{phase}"}}}}"#
        ),
    ]
}

/// Resolves when the sender is used or dropped.
fn gate() -> (oneshot::Sender<()>, impl Future<Output = ()> + Send + 'static) {
    let (open, opened) = oneshot::channel();
    (open, opened.map(drop))
}

fn fifty_deltas() -> Script {
    Script::new().events((0..50).map(|n| events::delta("prt_1", &format!("{n} "))))
}

fn all_of_it() -> String {
    let words: Vec<String> = (0..50).map(|n| format!("{n} ")).collect();
    words.concat()
}

mod a_client_that_leaves {
    use super::*;

    /// Reads `started` and the first event, and leaves while the producer still has 49 to give.
    async fn leave_after_the_first_event(policy: ClientLeft, hooks: &Arc<Recorder>) -> TurnOutcome {
        let (open, opened) = gate();
        let script = Script::new()
            .text("0 ")
            .wait(opened)
            .events((1..50).map(|n| events::delta("prt_1", &format!("{n} "))));
        let (body, driver) = turn().on_client_left(policy).start(script, hooks.clone());
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        assert_eq!(client.take(2).await.len(), 2);
        drop(client);
        open.send(()).ok();
        driver.await.unwrap()
    }

    #[tokio::test]
    async fn does_not_stop_the_turn() {
        let hooks = Arc::new(Recorder::new());
        let outcome = leave_after_the_first_event(ClientLeft::Continue, &hooks).await;
        assert_eq!(outcome.client, ClientOutcome::Left { after_events: 2 });
        assert_eq!(outcome.result.unwrap().as_str(), all_of_it());
        assert_eq!(outcome.events, 52);
        assert_eq!(hooks.saved(&execution_id()).unwrap(), all_of_it());
        assert_eq!(hooks.events().len(), 52);
        let names: Vec<_> = hooks
            .calls()
            .iter()
            .map(turnkit_testkit::Call::hook)
            .filter(|hook| *hook != Hook::OnEvent)
            .collect();
        assert_eq!(
            names,
            [
                Hook::FindCompleted,
                Hook::TransformFinalText,
                Hook::PersistAssistantMessage,
                Hook::OnTurnComplete,
                Hook::TraceFlush,
            ]
        );
    }

    #[tokio::test]
    async fn cancels_it_under_cancel() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().text("par").wait(pending());
        let probe = script.probe();
        let (body, driver) = turn().on_client_left(ClientLeft::Cancel).start(script, hooks.clone());
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        client.take(2).await;
        drop(client);
        let outcome = driver.await.unwrap();
        assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
        assert_eq!(outcome.client, ClientOutcome::Left { after_events: 2 });
        assert_eq!(probe.cancelled(), 1);
        assert_eq!(
            hooks.log(),
            ["find_completed", r#"on_turn_failed cancelled "par""#, "trace_flush"]
        );
        assert_eq!(kinds(&hooks.events())[2..], ["error", "session.run.failed"]);
    }

    #[tokio::test]
    async fn ends_the_attempt_quietly_under_abandon() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().text("par").wait(pending());
        let probe = script.probe();
        let (body, driver) =
            turn().on_client_left(ClientLeft::Abandon).start(script, hooks.clone());
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        client.take(2).await;
        drop(client);
        let outcome = driver.await.unwrap();
        assert_eq!(outcome.result.unwrap_err().code(), Some("abandoned"));
        assert_eq!(hooks.log(), ["find_completed"]);
        assert_eq!(outcome.events, 2);
        assert_eq!((probe.cancelled(), probe.is_dropped()), (0, true));
    }

    #[tokio::test]
    async fn before_the_turn_began_leaves_the_producer_unasked() {
        for (policy, code, calls) in [
            (ClientLeft::Abandon, "abandoned", &["find_completed"][..]),
            (
                ClientLeft::Cancel,
                "cancelled",
                &["find_completed", r#"on_turn_failed cancelled """#, "trace_flush"],
            ),
        ] {
            let (script, hooks) = (Script::new().text("x"), Arc::new(Recorder::new()));
            let probe = script.probe();
            let (body, driver) = turn().on_client_left(policy).start(script, hooks.clone());
            drop(body);
            assert_eq!(driver.await.result.unwrap_err().code(), Some(code));
            assert_eq!(
                (probe.asked(), hooks.log()),
                (0, calls.iter().map(ToString::to_string).collect())
            );
        }
    }

    #[tokio::test]
    async fn once_the_producer_is_done_changes_nothing() {
        for policy in [ClientLeft::Cancel, ClientLeft::Abandon] {
            let body = Arc::new(Mutex::new(None::<TurnBody>));
            let leaving = body.clone();
            let hooks = Recorder::new().on_call(move |call| {
                if call.hook() == Hook::TransformFinalText {
                    leaving.lock().unwrap().take();
                }
            });
            let (taken, driver) = turn().on_client_left(policy).start(fifty_deltas(), hooks);
            *body.lock().unwrap() = Some(taken);
            let outcome = driver.await;
            assert_eq!(outcome.result.unwrap().as_str(), all_of_it());
            assert_eq!(outcome.client, ClientOutcome::Left { after_events: 0 });
        }
    }
}

mod a_client_that_reads_slowly_or_not {
    use super::*;

    const LINE: usize = 10 * 1024;

    fn big(n: usize) -> Event {
        events::event("big", &json!({ "n": n, "filler": "x".repeat(LINE) }))
    }

    /// An event whose line is `length` bytes long.
    fn line_of(length: usize) -> Event {
        let empty = events::event("x", &json!("")).as_line().len();
        events::event("x", &json!("x".repeat(length - empty)))
    }

    /// The chunks in which `lines` leave, all of them ready before the first is read.
    async fn chunks(lines: impl IntoIterator<Item = Event>) -> Vec<usize> {
        let script = Script::new().events(lines).done_with("ok");
        let (body, driver) = turn().start(script, Recorder::new());
        assert!(driver.await.result.is_ok());
        body.map(|chunk| chunk.unwrap().len()).collect().await
    }

    #[tokio::test]
    async fn gets_lines_of_up_to_4_kib_together_and_longer_ones_alone() {
        let together = chunks((0..20).map(|_| line_of(4096))).await;
        assert!(together.iter().any(|chunk| *chunk > 4096), "{together:?}");
        let alone = chunks((0..20).map(|_| line_of(4097))).await;
        assert_eq!(alone[1..=20], [4097; 20]);
    }

    #[tokio::test]
    async fn gets_chunks_that_double_up_to_32_kib() {
        let lines = (0..3000).map(|_| line_of(64));
        let chunks = chunks(lines).await;
        let blocks = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 32_768, 32_768, 32_768];
        for (chunk, block) in chunks.iter().zip(blocks) {
            assert!((block - 63..=block).contains(chunk), "{chunks:?}");
        }
        assert!(chunks.len() >= blocks.len());
    }

    #[tokio::test(start_paused = true)]
    async fn holds_back_the_producer_at_256_kib() {
        let script = Script::new().events((0..100).map(big)).done_with("ok");
        let probe = script.probe();
        let (body, mut driver) = turn().start(script, Recorder::new());
        assert!(futures::poll!(&mut driver).is_pending());
        let held = probe.asked();
        assert!((25..=26).contains(&held), "{held} lines of {LINE} bytes");
        let mut client = BodyReader::new(body);
        let (lines, outcome) = tokio::join!(client.rest(), driver);
        assert_eq!(lines.len(), 102);
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.client, ClientOutcome::Attached);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_over_the_bound_waits_for_an_empty_body_and_then_fits() {
        let huge = |n| events::event("huge", &json!({ "n": n, "filler": "x".repeat(700_000) }));
        let script = Script::new().events((0..3).map(huge)).done_with("ok");
        let probe = script.probe();
        let (body, mut driver) = turn().start(script, Recorder::new());
        assert!(futures::poll!(&mut driver).is_pending());
        // `started` is held: the first huge line waits.
        assert_eq!(probe.asked(), 1);
        let mut client = BodyReader::new(body);
        assert_eq!(client.take(1).await.len(), 1);
        assert!(futures::poll!(&mut driver).is_pending());
        assert_eq!(probe.asked(), 2);
        let (lines, outcome) = tokio::join!(client.rest(), driver);
        assert_eq!(lines.len(), 4);
        assert!(outcome.result.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn is_cut_off_after_client_stall_and_the_turn_goes_on() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().events((0..100).map(big)).text("hi");
        let (body, driver) = turn().start(script, hooks.clone());
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        assert_eq!(client.take(1).await.len(), 1);
        let since = time::Instant::now();
        let outcome = driver.await.unwrap();
        assert_eq!(since.elapsed().as_secs(), 60);
        assert!(
            matches!(outcome.client, ClientOutcome::Stalled { after_events } if after_events >= 1)
        );
        assert_eq!(outcome.result.unwrap().as_str(), "hi");
        assert_eq!(hooks.saved(&execution_id()).unwrap(), "hi");
        assert_eq!(hooks.events().len(), 103);
        // No terminal line: the client knows that it was cut, and comes back with its cursor.
        let rest = client.rest().await;
        assert!(kinds(&rest).iter().all(|kind| *kind == "big"), "{:?}", kinds(&rest));
        assert_eq!(outcome.client, ClientOutcome::Stalled { after_events: client.cursor() });
    }

    #[tokio::test(start_paused = true)]
    async fn the_stall_is_counted_in_all() {
        let script = Script::new().events((0..2_000).map(big)).done_with("ok");
        let (body, driver) =
            turn().client_stall(Duration::from_secs(10)).start(script, Recorder::new());
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        let since = time::Instant::now();
        while client.take(30).await.len() == 30 {
            time::sleep(Duration::from_secs(3)).await;
        }
        let outcome = driver.await.unwrap();
        assert!(matches!(outcome.client, ClientOutcome::Stalled { .. }), "{:?}", outcome.client);
        let waited = since.elapsed().as_secs();
        assert!((10..=15).contains(&waited), "cut after {waited} s");
    }

    #[tokio::test(start_paused = true)]
    async fn holds_up_a_host_that_ends_for_no_longer_than_that_says() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().events((0..100).map(big)).text("hi");
        let (_body, driver) = turn().start(script, hooks.clone());
        let handle = driver.handle();
        let driver = tokio::spawn(driver);
        time::sleep(Duration::from_secs(5)).await;
        let since = time::Instant::now();
        handle.client_stall(Duration::from_secs(1));
        let outcome = driver.await.unwrap();
        assert_eq!(since.elapsed().as_secs(), 1);
        assert!(matches!(outcome.client, ClientOutcome::Stalled { .. }), "{:?}", outcome.client);
        assert_eq!(hooks.saved(&execution_id()).unwrap(), "hi");
    }

    #[tokio::test(start_paused = true)]
    async fn is_known_by_the_exact_cursor_also_where_lines_waited_for_it() {
        let script = Script::new().events((0..100).map(big)).wait(pending());
        let (body, driver) =
            turn().on_client_left(ClientLeft::Abandon).start(script, Recorder::new());
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        assert_eq!(client.take(101).await.len(), 101);
        drop(client);
        assert_eq!(driver.await.unwrap().client, ClientOutcome::Left { after_events: 101 });
    }

    #[tokio::test(start_paused = true)]
    async fn and_leaves_is_not_waited_for_any_longer() {
        let script = Script::new().events((0..100).map(big)).text("hi");
        let (body, mut driver) = turn().start(script, Recorder::new());
        assert!(futures::poll!(&mut driver).is_pending());
        drop(body);
        let since = time::Instant::now();
        let outcome = driver.await;
        assert_eq!(since.elapsed(), Duration::ZERO);
        assert_eq!(outcome.client, ClientOutcome::Left { after_events: 0 });
        assert_eq!(outcome.result.unwrap().as_str(), "hi");
    }

    #[tokio::test(start_paused = true)]
    async fn terminal_lines_always_fit() {
        let held = (0..25).map(big);
        let script = Script::new().events(held).fail("gone");
        let (body, driver) = turn().start(script, Recorder::new());
        let outcome =
            time::timeout(Duration::from_secs(1), driver).await.expect("nothing to wait for");
        assert!(outcome.result.is_err());
        let lines = BodyReader::new(body).rest().await;
        assert_eq!(lines.len(), 28);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_does_not_wait_for_it_and_leaves_no_gap() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().events((0..100).map(big));
        let (body, mut driver) = turn().start(script, hooks.clone());
        assert!(futures::poll!(&mut driver).is_pending());
        driver.handle().cancel();
        let outcome = driver.await;
        assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
        let lines = BodyReader::new(body).rest().await;
        assert_eq!(json_lines(&lines), json_lines(&hooks.events()));
    }
}

mod a_cancel {
    use super::*;

    #[tokio::test]
    async fn fails_the_turn_after_the_producers_own_cancel() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().text("par").wait(pending());
        let probe = script.probe();
        let watched = probe.clone();
        let (body, driver) = turn().start(script, hooks.clone());
        let handle = driver.handle();
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        client.take(2).await;
        handle.cancel();
        handle.clone().cancel();
        let lines = client.rest().await;
        assert_eq!(
            json_lines(&lines),
            failure("the turn was cancelled", Some("cancelled"), false, "produce")
        );
        let error = driver.await.unwrap().result.unwrap_err();
        assert_eq!((error.phase(), error.is_retryable()), (Phase::Produce, false));
        assert_eq!(hooks.log()[1..], [r#"on_turn_failed cancelled "par""#, "trace_flush"]);
        assert_eq!((watched.cancelled(), watched.torn()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn gives_the_producer_five_seconds() {
        let script = Script::new().wait(pending()).cancel_takes(pending());
        let (_body, driver) = turn().start(script, Recorder::new());
        driver.handle().cancel();
        let since = time::Instant::now();
        assert_eq!(driver.await.result.unwrap_err().code(), Some("cancelled"));
        assert_eq!(since.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn survives_a_producer_whose_cancel_panics() {
        let script = Script::new().cancel_takes(async { std::panic::panic_any("secret") });
        let (body, driver) = turn().start(script, Recorder::new());
        driver.handle().cancel();
        let (lines, outcome) = tokio::join!(async { BodyReader::new(body).rest().await }, driver);
        assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
        assert_eq!(kinds(&lines), ["session.run.started", "error", "session.run.failed"]);
    }

    #[tokio::test]
    async fn acts_at_once_on_a_producer_that_is_always_ready() {
        let script = fifty_deltas();
        let probe = script.probe();
        let handle = Arc::new(Mutex::new(None::<turnkit::TurnHandle>));
        let cancelling = handle.clone();
        let hooks = Recorder::new().on_call(move |call| {
            if matches!(call, turnkit_testkit::Call::Event(event) if event.as_json().contains("7 "))
            {
                cancelling.lock().unwrap().as_ref().unwrap().cancel();
            }
        });
        let (_body, driver) = turn().start(script, hooks);
        *handle.lock().unwrap() = Some(driver.handle());
        let outcome = driver.await;
        assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
        assert_eq!(probe.asked(), 8);
    }

    #[tokio::test]
    async fn before_the_lookup_still_gives_a_saved_answer() {
        let store = turnkit_testkit::Store::new();
        assert_eq!(store.save(&execution_id(), "saved"), Persisted::Saved);
        let hooks = Arc::new(Recorder::new().store(&store).looks_up());
        let (body, driver) = turn().start(Script::new(), hooks);
        driver.handle().cancel();
        let (lines, outcome) = tokio::join!(async { BodyReader::new(body).rest().await }, driver);
        assert!(outcome.replayed);
        let replay =
            ["session.run.started", "message.part.updated", "result", "session.run.completed"];
        assert_eq!(kinds(&lines), replay);
    }

    #[tokio::test]
    async fn after_the_producer_is_done_does_nothing() {
        let handle = Arc::new(Mutex::new(None::<turnkit::TurnHandle>));
        let cancelling = handle.clone();
        let hooks = Recorder::new().on_call(move |call| {
            if call.hook() == Hook::TransformFinalText {
                cancelling.lock().unwrap().as_ref().unwrap().cancel();
            }
        });
        let (_body, driver) = turn().start(fifty_deltas(), hooks);
        *handle.lock().unwrap() = Some(driver.handle());
        assert!(driver.await.result.is_ok());
    }
}

mod a_producer {
    use super::*;

    #[tokio::test]
    async fn that_fails_gives_its_code_and_whether_to_retry() {
        let error = ScriptError::new("the \"model\" is gone").code("model_gone").retryable();
        for boxed in [false, true] {
            let hooks = Arc::new(Recorder::new());
            let script = Script::new().text("par").fail_with(error.clone());
            let (lines, outcome) = if boxed {
                run(turn(), BoxProducer::new(script), &hooks).await
            } else {
                run(turn(), script, &hooks).await
            };
            let expected = failure(r#"the \"model\" is gone"#, Some("model_gone"), true, "produce");
            assert_eq!(json_lines(&lines[2..]), expected);
            assert_eq!(hooks.log()[1], r#"on_turn_failed model_gone "par""#);
            let failed = outcome.result.unwrap_err();
            assert!(failed.is_retryable());
            let source = std::error::Error::source(&failed).unwrap();
            assert_eq!(source.downcast_ref::<ScriptError>(), Some(&error));
        }
    }

    #[tokio::test]
    async fn that_reports_a_failure_fails_the_turn_with_that_one_error() {
        let data = json!({ "code": "E", "message": "boom" });
        for (kind, forwarded) in
            [("execution.failed", 1), ("execution.cancelled", 1), ("session.run.failed", 0)]
        {
            let hooks = Arc::new(Recorder::new());
            let script = Script::new().text("par").event(events::event(kind, &data)).text("tial");
            let (lines, outcome) = run(turn(), script, &hooks).await;
            assert_eq!(lines.len(), 3 + forwarded + 2, "{kind}");
            assert_eq!(lines[2].kind() == kind, forwarded == 1, "{kind}");
            assert_eq!(
                json_lines(&lines[3 + forwarded..]),
                failure("boom", Some("E"), false, "produce"),
                "{kind}"
            );
            assert_eq!(hooks.log()[1], r#"on_turn_failed E "partial""#, "{kind}");
            assert!(!outcome.result.unwrap_err().is_retryable());
        }
    }

    #[tokio::test]
    async fn that_reports_a_failure_without_words_still_gets_some() {
        let unsaid = [
            ("error", "the producer reported an error", None),
            ("execution.failed", "the execution failed", None),
            ("execution.cancelled", "the execution was cancelled", Some("cancelled")),
            ("session.run.failed", "the producer reported an error", None),
        ];
        for (kind, message, code) in unsaid {
            let script = Script::new().event(Event::bare(kind).unwrap());
            let (lines, _) = run(turn(), script, &Arc::default()).await;
            let failed = failure(message, code, false, "produce");
            assert_eq!(lines.last().unwrap().as_json(), failed[1], "{kind}");
        }
    }

    #[tokio::test]
    async fn that_reports_several_failures_is_known_by_its_first_error() {
        let first = events::verbatim(r#"{"type":"error","data":{"message":"mine","code":"M"}}"#);
        let other = events::event("execution.failed", &json!({ "message": "other", "code": "O" }));
        let ends = [
            Script::new().event(other.clone()).event(first.clone()).event(other.clone()),
            Script::new().event(first.clone()).event(other.clone()).fail("third"),
            Script::new().event(first.clone()).panic("fourth"),
        ];
        for script in ends {
            let (lines, outcome) = run(turn(), script, &Arc::default()).await;
            assert_eq!(lines.iter().filter(|line| line.kind() == "error").count(), 1);
            assert_eq!(lines[lines.len() - 2], first);
            assert_eq!(
                lines.last().unwrap().as_json(),
                failure("mine", Some("M"), false, "produce")[1]
            );
            assert_eq!(outcome.result.unwrap_err().code(), Some("M"));
        }
    }

    #[tokio::test]
    async fn that_panics_fails_the_turn_without_its_text() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().text("par").panic("secret 42").text("tial");
        let probe = script.probe();
        let (lines, outcome) = run(turn(), script, &hooks).await;
        assert_eq!(probe.asked(), 2);
        assert_eq!(
            json_lines(&lines[2..]),
            failure("the producer panicked", Some("panic"), false, "produce")
        );
        assert_eq!(hooks.log()[1], r#"on_turn_failed panic "par""#);
        assert!(!format!("{outcome:?}").contains("secret"));
    }

    #[tokio::test]
    async fn whose_failure_is_temporary_says_so_as_an_error_and_as_an_event() {
        let error = ScriptError::new("the model is busy").code("busy").temporary();
        let data = json!({ "code": "busy", "message": "the model is busy", "temporary": true });
        let reported = Script::new().event(events::event("execution.failed", &data));
        for script in [Script::new().fail_with(error), reported] {
            let (lines, outcome) = run(turn(), script, &Arc::default()).await;
            assert_eq!(
                lines.last().unwrap().as_json(),
                r#"{"type":"session.run.failed","data":{"sessionId":"thread-abc","message":"the model is busy","retryable":false,"temporary":true,"code":"busy","phase":"produce"}}"#,
            );
            let failure = outcome.result.unwrap_err();
            assert!(failure.is_temporary() && !failure.is_retryable());
        }
    }

    #[tokio::test]
    async fn whose_error_panics_when_it_is_shown_fails_the_turn() {
        #[derive(Debug)]
        struct Rude;
        impl std::fmt::Display for Rude {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::panic::panic_any("secret")
            }
        }
        impl std::error::Error for Rude {}
        let rude = producer::from_stream(futures::stream::iter([Err(Rude)]));
        let (lines, _) = run(turn(), rude, &Arc::default()).await;
        assert_eq!(
            json_lines(&lines[1..]),
            failure("the producer panicked", Some("panic"), false, "produce")
        );
    }

    #[tokio::test]
    async fn that_says_nothing_fails_as_an_empty_answer() {
        let script =
            Script::new().event(events::event("execution.started", &json!({}))).done_with(" ");
        let (lines, outcome) = run(turn(), script, &Arc::default()).await;
        assert_eq!(
            json_lines(&lines[2..]),
            failure("the answer is empty", Some("empty_answer"), false, "produce")
        );
        assert_eq!(outcome.result.unwrap_err().phase(), Phase::Produce);
    }

    #[tokio::test]
    async fn that_says_too_much_fails_with_the_text_cut_at_a_character() {
        let hooks = Arc::new(Recorder::new());
        let script = Script::new().text("abc").text("dé");
        let (lines, outcome) = run(turn().max_text(5), script, &hooks).await;
        let expected =
            failure("the answer's text is over 5 bytes", Some("text_too_large"), false, "produce");
        assert_eq!(json_lines(&lines[3..]), expected);
        assert_eq!(hooks.log()[1], r#"on_turn_failed text_too_large "abcd""#);
        assert!(outcome.result.is_err());
        // A text that comes from elsewhere makes up for it.
        let script = Script::new().text("abc").text("dé").event(events::result("ok"));
        let (_, outcome) = run(turn().max_text(5), script, &Arc::default()).await;
        assert_eq!(outcome.result.unwrap().as_str(), "ok");
    }

    #[tokio::test]
    async fn has_room_for_16_mib_of_text() {
        const MAX_TEXT: usize = 16 * 1024 * 1024;
        for (length, code) in [(MAX_TEXT, None), (MAX_TEXT + 1, Some("text_too_large"))] {
            let script = Script::new().done_with(&"x".repeat(length));
            let (_, outcome) = run(turn(), script, &Arc::default()).await;
            assert_eq!(outcome.result.as_ref().err().and_then(TurnError::code), code);
        }
    }

    #[tokio::test]
    async fn is_asked_once_more_never_after_its_end_and_no_next_is_torn() {
        let (open, opened) = gate();
        for end in [Script::new().text("a"), Script::new().text("a").fail("x")] {
            let script = end.wait(async {});
            let probe = script.probe();
            let _ = run(turn(), script, &Arc::default()).await;
            assert_eq!((probe.asked(), probe.torn()), (2, 0));
            assert!(!probe.was_asked_after_its_end());
        }
        // Pending across keep-alives, it is the same `next` all along.
        let script = Script::new().wait(opened).text("a");
        let probe = script.probe();
        let (body, mut driver) =
            turn().keep_alive(Duration::from_millis(1)).start(script, Recorder::new());
        let mut body = Box::pin(body);
        for _ in 0..3 {
            tokio::select! {
                _ = &mut driver => unreachable!("it waits for the gate"),
                chunk = body.next() => assert!(chunk.is_some()),
            }
        }
        open.send(()).unwrap();
        assert!(driver.await.result.is_ok());
        assert_eq!((probe.asked(), probe.torn()), (2, 0));
    }

    #[tokio::test]
    async fn that_has_ended_or_was_cancelled_is_gone_before_the_next_hook() {
        let ends =
            [Script::new().text("a"), Script::new().fail("x"), Script::new().wait(pending())];
        for script in ends {
            let probe = script.probe();
            let watched = probe.clone();
            let gone = Arc::new(Mutex::new(Vec::new()));
            let seen = gone.clone();
            let hooks = Recorder::new().on_call(move |call| {
                if matches!(call.hook(), Hook::TransformFinalText | Hook::OnTurnFailed) {
                    seen.lock().unwrap().push(probe.is_dropped());
                }
            });
            let (_body, mut driver) = turn().start(script, hooks);
            if futures::poll!(&mut driver).is_pending() {
                driver.handle().cancel();
                driver.await;
            }
            assert_eq!(*gone.lock().unwrap(), [true]);
            assert_eq!(watched.torn(), watched.cancelled());
        }
    }

    #[tokio::test]
    async fn that_is_always_ready_yields_every_64_events() {
        let script = Script::new().events((0..1000).map(|n| events::delta("p", &n.to_string())));
        let probe = script.probe();
        let (_body, mut driver) = turn().start(script, Recorder::new());
        for polls in 1..=3 {
            assert!(futures::poll!(&mut driver).is_pending());
            assert_eq!(probe.asked(), 64 * polls);
        }
    }
}

mod a_hook {
    use super::*;

    const DEPENDED_ON: [(Hook, &str); 3] = [
        (Hook::FindCompleted, "lookup"),
        (Hook::TransformFinalText, "transform"),
        (Hook::PersistAssistantMessage, "persist"),
    ];

    async fn with(hook: Hook, fault: Fault) -> (Vec<Event>, TurnOutcome, Arc<Recorder>) {
        let hooks =
            Arc::new(Recorder::new().transform(|text| format!("<{text}>")).fault(hook, fault));
        let (lines, outcome) = run(turn(), Script::new().text("hi"), &hooks).await;
        (lines, outcome, hooks)
    }

    /// Keeps what is kept of an answer; of its parts what `transform_part` makes of them.
    #[derive(Default)]
    struct Redacts {
        kept: Mutex<Vec<String>>,
        fails: bool,
    }

    impl Redacts {
        fn keep(&self, answer: &Answer) {
            let parts = answer.parts.iter().map(|part| part.as_json().to_owned());
            self.kept.lock().unwrap().extend(parts);
        }
    }

    impl TurnHooks for Redacts {
        async fn persist_assistant_message(
            &self,
            _: &TurnContext,
            text: &FinalText,
        ) -> Result<Persisted, BoxError> {
            self.keep(text.answer());
            Ok(Persisted::Saved)
        }

        async fn transform_part(
            &self,
            _: &TurnContext,
            part: AnswerPart,
        ) -> Result<Option<AnswerPart>, BoxError> {
            if self.fails {
                return Err("no".into());
            }
            Ok(match part.kind() {
                PartKind::Tool => {
                    Some(AnswerPart::from_json(&part.as_json().replace("secret", "***"))?)
                }
                PartKind::Reasoning => None,
                _ => Some(part),
            })
        }

        async fn on_turn_failed(
            &self,
            _: &TurnContext,
            _: &TurnError,
            partial: &RawText,
        ) -> Result<(), BoxError> {
            self.keep(partial.answer());
            Ok(())
        }
    }

    fn output(text: &str) -> Event {
        let output = Json::of(text).unwrap();
        Part::new("t").tool(&ToolCall::new("bash", ToolStatus::Completed).output(&output))
    }

    fn with_parts() -> Script {
        Script::new().events([
            Part::new("r").reasoning("secret thought"),
            output("secret"),
            Part::new("p").text_delta("hi"),
            write::warning("be careful", None),
        ])
    }

    #[tokio::test]
    async fn transform_part_says_what_is_kept_of_parts_that_are_no_text() {
        let tool = r#"{"id":"t","type":"tool","tool":"bash","state":{"status":"completed","output":"***"}}"#;
        let rest = [
            r#"{"id":"p","type":"text","text":"hi"}"#,
            r#"{"type":"warning","message":"be careful"}"#,
        ];
        for producer in [with_parts(), with_parts().fail("broken")] {
            let hooks = Arc::new(Redacts::default());
            let (body, driver) = turn().start(producer, Arc::clone(&hooks));
            let mut client = BodyReader::new(body);
            let (lines, outcome) = tokio::join!(client.rest(), driver);
            assert!(
                lines.iter().any(|line| line.as_json().contains("secret thought")),
                "live it was told"
            );
            assert_eq!(*hooks.kept.lock().unwrap(), [tool, rest[0], rest[1]], "{outcome:?}");
            assert!(outcome.hook_errors.is_empty());
        }
        let hooks = Arc::new(Redacts { fails: true, ..Redacts::default() });
        let (_body, driver) = turn().start(with_parts(), Arc::clone(&hooks));
        let failure = driver.await.result.unwrap_err();
        assert_eq!((failure.phase(), failure.is_retryable()), (Phase::Transform, true));
        assert_eq!(
            *hooks.kept.lock().unwrap(),
            rest[..1],
            "nothing is kept that was not transformed"
        );
        let hooks = Arc::new(Redacts { fails: true, ..Redacts::default() });
        let failing = with_parts().fail("broken");
        let (_body, driver) = turn().start(failing, Arc::clone(&hooks));
        let outcome = driver.await;
        assert_eq!(outcome.result.unwrap_err().to_string(), "broken");
        assert_eq!(outcome.hook_errors[0].hook(), Hook::TransformPart);
        assert_eq!(*hooks.kept.lock().unwrap(), rest[..1]);
    }

    /// An agent that is asked in process is bound by no event limit. (Without optimisation 100 MB take half a minute.)
    #[tokio::test]
    async fn an_enormous_tool_output_is_kept_cut_and_says_so() {
        let size = if cfg!(debug_assertions) { 12 } else { 100 } * 1024 * 1024;
        let tool = output(&"x".repeat(size));
        let hooks = Arc::new(Redacts::default());
        let script = Script::new().events([tool, Part::new("p").text_delta("read")]);
        let (body, driver) = turn().start(script, Arc::clone(&hooks));
        drop(body);
        driver.await.result.unwrap();
        let kept = hooks.kept.lock().unwrap();
        assert!(
            kept[0].contains(r#""cut":true"#) && kept[0].len() <= 4 * 1024 * 1024,
            "{}",
            kept[0].len()
        );
        assert_eq!(kept[1], r#"{"id":"p","type":"text","text":"read"}"#);
    }

    /// Keeps what each hook is told of the turn.
    #[derive(Default)]
    struct Told(Mutex<Vec<(Hook, TurnContext)>>);

    impl Told {
        fn tell(&self, hook: Hook, cx: &TurnContext) {
            self.0.lock().unwrap().push((hook, cx.clone()));
        }
    }

    impl TurnHooks for Told {
        async fn persist_assistant_message(
            &self,
            cx: &TurnContext,
            _: &FinalText,
        ) -> Result<Persisted, BoxError> {
            self.tell(Hook::PersistAssistantMessage, cx);
            Ok(Persisted::Saved)
        }

        async fn find_completed(&self, cx: &TurnContext) -> Result<Option<Answer>, BoxError> {
            self.tell(Hook::FindCompleted, cx);
            Ok(None)
        }

        fn on_event(&self, cx: &TurnContext, _: &Event) -> Result<(), BoxError> {
            self.tell(Hook::OnEvent, cx);
            Ok(())
        }

        async fn transform_final_text(
            &self,
            cx: &TurnContext,
            text: RawText,
        ) -> Result<String, BoxError> {
            self.tell(Hook::TransformFinalText, cx);
            Ok(text.into_string())
        }

        async fn on_turn_complete(&self, cx: &TurnContext, _: &FinalText) -> Result<(), BoxError> {
            self.tell(Hook::OnTurnComplete, cx);
            Ok(())
        }

        async fn on_turn_failed(
            &self,
            cx: &TurnContext,
            _: &TurnError,
            _: &RawText,
        ) -> Result<(), BoxError> {
            self.tell(Hook::OnTurnFailed, cx);
            Ok(())
        }

        async fn trace_flush(&self, cx: &TurnContext) -> Result<(), BoxError> {
            self.tell(Hook::TraceFlush, cx);
            Ok(())
        }
    }

    #[tokio::test]
    async fn is_told_whose_turn_it_is_and_which() {
        let identity = TurnIdentity {
            tenant_id: "acme".into(),
            session_id: "s".into(),
            user_id: "ann".into(),
            turn_index: 7,
        };
        let execution_id = ExecutionId::derive("acme", "s", 7).unwrap();
        let told = Arc::new(Told::default());
        for script in [Script::new().text("hi"), Script::new().fail("no")] {
            let turn = ChatTurn::new(identity.clone(), execution_id.clone());
            turn.start(script, told.clone()).1.await;
        }
        let told = told.0.lock().unwrap();
        for hook in [
            Hook::FindCompleted,
            Hook::OnEvent,
            Hook::TransformFinalText,
            Hook::PersistAssistantMessage,
            Hook::OnTurnComplete,
            Hook::OnTurnFailed,
            Hook::TraceFlush,
        ] {
            assert!(told.iter().any(|(told, _)| *told == hook), "{hook} was not asked");
        }
        for (hook, cx) in &*told {
            assert_eq!((cx.identity(), cx.execution_id()), (&identity, &execution_id), "{hook}");
        }
    }

    #[tokio::test]
    async fn that_the_answer_depends_on_fails_the_attempt() {
        for (hook, phase) in DEPENDED_ON {
            let (lines, outcome, hooks) = with(hook, Fault::Error("no".into())).await;
            let expected = failure("no", Some("hook_failed"), true, phase);
            assert_eq!(json_lines(&lines[lines.len() - 2..]), expected);
            let error = outcome.result.unwrap_err();
            assert_eq!(error.phase().to_string(), phase);
            assert!(outcome.hook_errors.is_empty());
            let failed: Vec<_> =
                hooks.log().into_iter().filter(|call| call.starts_with("on_turn")).collect();
            let partial = match hook {
                Hook::FindCompleted => "",
                Hook::TransformFinalText => "hi",
                _ => "<hi>",
            };
            assert_eq!(failed, [format!("on_turn_failed hook_failed {partial:?}")]);
        }
    }

    #[tokio::test]
    async fn that_panics_shows_nothing_of_it() {
        for (hook, phase) in DEPENDED_ON {
            let (lines, outcome, _) = with(hook, Fault::Panic("secret")).await;
            let expected = failure(&format!("{hook} panicked"), Some("panic"), true, phase);
            assert_eq!(json_lines(&lines[lines.len() - 2..]), expected);
            assert!(!format!("{outcome:?}").contains("secret"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_hangs_is_given_thirty_seconds() {
        for (hook, phase) in DEPENDED_ON {
            let since = time::Instant::now();
            let (lines, _, _) = with(hook, Fault::Hang).await;
            assert_eq!(since.elapsed().as_secs(), 30);
            let expected =
                failure(&format!("{hook} took longer than 30s"), Some("hook_timeout"), true, phase);
            assert_eq!(json_lines(&lines[lines.len() - 2..]), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beside_the_answer_changes_nothing_and_is_collected() {
        for hook in [Hook::OnTurnComplete, Hook::TraceFlush] {
            for fault in [Fault::Error("no".into()), Fault::Panic("secret"), Fault::Hang] {
                let (lines, outcome, _) = with(hook, fault.clone()).await;
                assert_eq!(kinds(&lines)[2..], ["session.run.completed"]);
                assert_eq!(outcome.result.unwrap().as_str(), "<hi>");
                let errors: Vec<_> = outcome
                    .hook_errors
                    .iter()
                    .map(|error| (error.hook(), error.to_string()))
                    .collect();
                let said = match fault {
                    Fault::Error(_) => format!("run {hook}"),
                    Fault::Panic(_) => format!("run {hook}: it panicked"),
                    Fault::Hang => format!("run {hook}: it took longer than 30s"),
                };
                assert_eq!(errors, [(hook, said)]);
                let source =
                    std::error::Error::source(&outcome.hook_errors[0]).map(ToString::to_string);
                assert_eq!(source.as_deref(), matches!(fault, Fault::Error(_)).then_some("no"));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_fails_while_the_turn_fails_is_collected_too() {
        for fault in [Fault::Error("no".into()), Fault::Panic("secret"), Fault::Hang] {
            let hooks = Arc::new(Recorder::new().fault(Hook::OnTurnFailed, fault));
            let (lines, outcome) = run(turn(), Script::new().fail("x"), &hooks).await;
            assert_eq!(kinds(&lines)[1..], ["error", "session.run.failed"]);
            assert_eq!(outcome.hook_errors[0].hook(), Hook::OnTurnFailed);
            assert_eq!(outcome.result.unwrap_err().to_string(), "x");
        }
    }

    #[tokio::test]
    async fn that_always_fails_is_remembered_the_first_32_times() {
        let hooks = Recorder::new()
            .fails(Hook::OnEvent, "no")
            .fails(Hook::TraceFlush, "too late to be kept");
        let hooks = Arc::new(hooks);
        let (_, outcome) = run(turn(), fifty_deltas(), &hooks).await;
        let kept: Vec<Hook> = outcome.hook_errors.iter().map(turnkit::HookError::hook).collect();
        assert_eq!(kept, [Hook::OnEvent; 32]);
        assert_eq!(hooks.events().len(), 52);
    }
}

mod silence {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_broken_by_a_blank_line_every_fifteen_seconds() {
        let script = Script::new().text("a").wait(time::sleep(Duration::from_secs(50))).text("b");
        let hooks = Recorder::new().fault(Hook::OnTurnComplete, Fault::Hang);
        let (body, driver) = turn().start(script, hooks);
        let mut client = BodyReader::new(body);
        let (lines, outcome) = tokio::join!(client.rest(), driver);
        // Three while the producer is silent, one while a hook hangs for 30 s, and one more as that ends.
        assert!((4..=5).contains(&client.keep_alives()), "{}", client.keep_alives());
        assert_eq!(lines.len(), 4);
        // The cursor counts no terminal line.
        assert_eq!((client.cursor(), outcome.events), (3, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn begins_anew_with_each_line() {
        let script = (0..10).fold(Script::new(), |script, n| {
            script.wait(async { time::sleep(Duration::from_secs(10)).await }).text(&n.to_string())
        });
        let (body, driver) = turn().start(script, Recorder::new());
        let mut client = BodyReader::new(body);
        let _ = tokio::join!(client.rest(), driver);
        assert_eq!(client.keep_alives(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn adds_nothing_to_a_body_that_is_not_read() {
        let script = Script::new().text("a").wait(time::sleep(Duration::from_secs(500)));
        let (body, driver) = turn().start(script, Recorder::new());
        assert!(driver.await.result.is_ok());
        let mut client = BodyReader::new(body);
        client.rest().await;
        assert_eq!(client.keep_alives(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn adds_nothing_after_the_ending() {
        let hooks = Recorder::new().fault(Hook::TraceFlush, Fault::Hang);
        let (body, driver) = turn().start(Script::new().text("a"), hooks);
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        // All lines are taken, the end is not: the flush hangs for 30 s meanwhile.
        assert_eq!(client.take(3).await.len(), 3);
        driver.await.unwrap();
        assert_eq!(client.next().await, None);
        assert!(client.received().ends_with(b"}}\n"));
        assert_eq!(client.keep_alives(), 0);
    }
}

mod a_resumed_body {
    use super::*;

    #[tokio::test]
    async fn leaves_out_what_the_client_has_for_every_cursor() {
        let script = || fifty_deltas();
        let (whole, _) = run(turn(), script(), &Arc::default()).await;
        for cursor in 0..=51 {
            let hooks = Arc::new(Recorder::new());
            let (rest, outcome) = run(turn().resume_after(cursor), script(), &hooks).await;
            let skipped = usize::try_from(cursor).unwrap();
            assert_eq!(json_lines(&rest), json_lines(&whole[skipped..]));
            assert_eq!(outcome.events, 52);
            assert_eq!(outcome.client, ClientOutcome::Attached);
            assert_eq!(hooks.events(), whole);
            assert_eq!(hooks.saved(&execution_id()).unwrap(), all_of_it());
        }
    }

    #[tokio::test]
    async fn counts_what_it_left_out_in_the_cursor_at_which_a_client_leaves() {
        let script = Script::new().text("a").text("b").text("c").wait(pending());
        let (body, driver) = turn()
            .resume_after(2)
            .on_client_left(ClientLeft::Abandon)
            .start(script, Recorder::new());
        let driver = tokio::spawn(driver);
        let mut client = BodyReader::new(body);
        client.take(2).await;
        drop(client);
        assert_eq!(driver.await.unwrap().client, ClientOutcome::Left { after_events: 4 });
    }

    #[tokio::test]
    async fn with_a_cursor_beyond_the_end_is_refused_and_the_turn_is_kept() {
        for cursor in [52, 53, u64::MAX] {
            let hooks = Arc::new(Recorder::new());
            let (lines, outcome) = run(turn().resume_after(cursor), fifty_deltas(), &hooks).await;
            let message = "the cursor is beyond the turn's events";
            assert_eq!(
                json_lines(&lines),
                failure(message, Some("invalid_cursor"), true, "produce")
            );
            assert_eq!(outcome.client, ClientOutcome::InvalidCursor { events: 51 });
            assert_eq!(outcome.result.unwrap().as_str(), all_of_it());
            assert_eq!(outcome.events, 53);
            assert_eq!(hooks.log().len(), 5);
            assert!(hooks.log()[3].starts_with("on_turn_complete"));
        }
    }

    #[tokio::test]
    async fn of_a_turn_that_fails_tells_the_failure_whatever_the_cursor() {
        let (lines, outcome) =
            run(turn().resume_after(9), Script::new().text("a").fail("x"), &Arc::default()).await;
        assert_eq!(json_lines(&lines), failure("x", None, false, "produce"));
        assert_eq!(outcome.client, ClientOutcome::Attached);
    }

    #[tokio::test]
    async fn of_a_replay_leaves_nothing_out() {
        for cursor in [0, 1, 2, 99] {
            let store = turnkit_testkit::Store::new();
            assert_eq!(store.save(&execution_id(), "saved"), Persisted::Saved);
            let hooks = Arc::new(Recorder::new().store(&store).looks_up());
            let (lines, outcome) = run(turn().resume_after(cursor), Script::new(), &hooks).await;
            assert_eq!(lines.len(), 4);
            assert!(lines[0].as_json().contains(r#""replayed":true"#));
            assert_eq!((outcome.events, outcome.client), (4, ClientOutcome::Attached));
        }
    }
}

mod a_message {
    use super::*;

    async fn failed_with(message: &str) -> (Vec<serde_json::Value>, TurnOutcome) {
        let (lines, outcome) = run(turn(), Script::new().fail(message), &Arc::default()).await;
        let data = lines[1..].iter().map(|line| line.data().unwrap()).collect();
        (data, outcome)
    }

    #[tokio::test]
    async fn of_up_to_500_characters_is_sent_whole() {
        let (data, _) = failed_with(&"é".repeat(500)).await;
        assert_eq!(data[0]["message"], "é".repeat(500));
    }

    #[tokio::test]
    async fn over_500_characters_is_cut_on_the_wire_and_whole_in_the_outcome() {
        let message = "é".repeat(501);
        let (data, outcome) = failed_with(&message).await;
        for data in data {
            assert_eq!(data["message"], "é".repeat(499) + "…");
        }
        assert_eq!(outcome.result.unwrap_err().to_string(), message);
    }

    #[tokio::test]
    async fn with_control_characters_is_escaped() {
        let (data, outcome) = failed_with("a\n\u{1b}[31mb\u{0}\u{85}\t").await;
        for data in data {
            assert_eq!(data["message"], r"a\n\u{1b}[31mb\u{0}\u{85}\t");
        }
        assert_eq!(outcome.result.unwrap_err().to_string(), "a\n\u{1b}[31mb\u{0}\u{85}\t");
    }

    #[tokio::test]
    async fn of_the_producers_own_error_is_cut_in_failed_only() {
        let own = events::event("error", &json!({ "message": "x".repeat(600), "code": "c\n" }));
        let (lines, _) = run(turn(), Script::new().event(own.clone()), &Arc::default()).await;
        assert_eq!(lines[1], own);
        let failed: serde_json::Value = lines[2].data().unwrap();
        assert_eq!(failed["message"], "x".repeat(499) + "…");
        assert_eq!(failed["code"], r"c\n");
    }
}

mod time_and_runtimes {
    use super::*;

    #[test]
    fn without_a_timer_a_turn_still_runs_on_one_thread() {
        let hooks = Arc::new(Recorder::new());
        let inline = turn().start_inline(Script::new().text("hi"), hooks.clone());
        let mut stream = futures::executor::block_on_stream(inline);
        let body = stream.by_ref().collect::<Vec<_>>().concat();
        assert_eq!(body.split(|byte| *byte == b'\n').count(), 4);
        let outcome = stream.into_inner().into_outcome().unwrap();
        assert_eq!(outcome.result.unwrap().as_str(), "hi");
    }

    #[test]
    fn in_a_runtime_without_time_a_turn_runs_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let script = Script::new().wait(tokio::task::yield_now()).text("hi");
        let outcome = runtime.block_on(turn().start(script, Recorder::new()).1);
        assert_eq!(outcome.result.unwrap().as_str(), "hi");
    }
}

#[tokio::test(start_paused = true)]
async fn an_inline_turn_is_not_stalled_by_the_reader_that_drives_it() {
    let big = |n| events::event("big", &json!({ "n": n, "filler": "x".repeat(10_000) }));
    let script = Script::new().events((0..200).map(big)).text("hi");
    let mut inline = turn().start_inline(script, Recorder::new());
    let mut lines = 0;
    while let Some(chunk) = inline.next().await {
        lines += chunk.split(|byte| *byte == b'\n').count() - 1;
        time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(lines, 203);
    let outcome = inline.into_outcome().unwrap();
    assert_eq!(outcome.client, ClientOutcome::Attached);
    assert_eq!(outcome.result.unwrap().as_str(), "hi");
}

#[tokio::test]
async fn an_inline_turn_can_be_cancelled() {
    let mut inline = turn().start_inline(Script::new().text("hi").wait(pending()), Recorder::new());
    assert!(inline.next().await.is_some());
    inline.handle().cancel();
    while inline.next().await.is_some() {}
    let error = inline.into_outcome().unwrap().result.unwrap_err();
    assert_eq!(error.code(), Some("cancelled"));
}

#[tokio::test]
async fn spawn_needs_no_driver_in_hand() {
    let script = Script::new().text("hi").wait(pending());
    let (body, handle, task) = turn().spawn(script, Recorder::new());
    let mut client = BodyReader::new(body);
    client.take(2).await;
    handle.cancel();
    assert_eq!(task.await.unwrap().result.unwrap_err().code(), Some("cancelled"));
}

#[tokio::test]
async fn the_drivers_type_can_be_named_stored_and_sent() {
    fn check<T: Send + Unpin + 'static>(_: &T) {}
    let mut drivers: Vec<turnkit::TurnDriver> = Vec::new();
    for _ in 0..2 {
        let (_, driver) = turn().start(Script::new().text("hi"), Recorder::new());
        check(&driver);
        drivers.push(driver);
    }
    for driver in drivers {
        assert!(driver.await.result.is_ok());
    }
}
