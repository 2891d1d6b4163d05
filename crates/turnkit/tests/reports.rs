//! What a turn says of itself in logs and on standard error (PROTOCOL 2.2): each failure of a hook, and no message's text.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;
use turnkit::{
    BoxError, ChatTurn, ExecutionId, FinalText, Hook, Persisted, TurnContext, TurnHooks,
    TurnIdentity,
};
use turnkit_testkit::{Fault, Recorder, Script, ScriptError, turn};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Runs the turn on this thread, and gives what it logged, at the most talkative level.
fn logged(turn: ChatTurn, script: Script, hooks: impl TurnHooks + 'static) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        futures::executor::block_on(turn.start(script, hooks).1)
    });
    log.text()
}

#[test]
fn each_failure_of_a_hook_is_logged_within_the_turns_span() {
    let hooks = Recorder::new()
        .fails(Hook::OnTurnComplete, "the bill is lost")
        .fault(Hook::TraceFlush, Fault::Panic("boom"));
    let log = logged(turn(), Script::new().text("hi"), hooks);
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 2, "{log}");
    assert!(errors[0].contains("on_turn_complete") && errors[0].contains("the bill is lost"));
    assert!(errors[1].contains("trace_flush") && !errors[1].contains("boom"));
    let span =
        r#"turn{execution_id="project:thread-abc:3" tenant="acme" session="thread-abc" turn=3}"#;
    assert!(errors.iter().all(|line| line.contains(span)), "{log}");
}

#[test]
fn a_failure_that_no_outcome_has_room_for_is_logged_too() {
    let script = (0..50).fold(Script::new(), |script, _| script.text("hi"));
    let log = logged(turn(), script, Recorder::new().fails(Hook::OnEvent, "full"));
    assert_eq!(log.lines().filter(|line| line.contains("ERROR")).count(), 52, "{log}");
}

/// What a client may read, and what only an operator may.
#[derive(Debug, thiserror::Error)]
#[error("the bill is lost")]
struct Lost(#[source] io::Error);

struct Bills;

impl TurnHooks for Bills {
    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        _: &FinalText,
    ) -> Result<Persisted, BoxError> {
        Err(Lost(io::Error::other("the disk is full")).into())
    }
}

#[test]
fn a_failure_is_logged_with_what_caused_it() {
    let log = logged(turn(), Script::new().text("hi"), Bills);
    assert!(log.contains("the bill is lost: the disk is full"), "{log}");
}

#[test]
fn a_failed_hook_that_the_answer_depends_on_is_logged_too() {
    let hooks = Recorder::new().fails(Hook::PersistAssistantMessage, "the disk is full");
    let log = logged(turn(), Script::new().text("hi"), hooks);
    assert!(log.contains("persist_assistant_message") && log.contains("the disk is full"), "{log}");
}

#[test]
fn a_producer_that_panics_when_it_is_dropped_is_logged() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any("secret");
        }
    }
    let bomb = Bomb;
    let script = Script::new().text("hi").cancel_takes(async move { drop(bomb) });
    let log = logged(turn(), script, Recorder::new());
    assert!(log.contains("panicked when it was dropped") && !log.contains("secret"), "{log}");
}

#[test]
fn no_text_of_a_message_is_logged() {
    const SECRET: &str = "xyzzy";
    let ends = [
        Script::new().text(SECRET).prompt(SECRET),
        Script::new().text(SECRET).fail(SECRET),
        Script::new().text(SECRET).panic(SECRET),
    ];
    for script in ends {
        let hooks = Recorder::new().fault(Hook::OnEvent, Fault::Panic(SECRET));
        let log = logged(turn(), script, hooks);
        assert!(log.contains("on_event") && !log.contains(SECRET), "{log}");
    }
}

#[test]
fn an_id_cannot_forge_a_line_of_the_log() {
    let identity = TurnIdentity {
        tenant_id: "acme\nERROR forged".into(),
        session_id: "s\u{1b}[2J\r\nERROR forged".into(),
        user_id: "ada".into(),
        turn_index: 0,
    };
    let turn = ChatTurn::new(identity, ExecutionId::derive("p", "s", 0).unwrap());
    let log = logged(turn, Script::new().fail("x"), Recorder::new());
    assert!(log.contains("forged"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("ERROR forged")), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_code_cannot_flood_the_log() {
    let error = ScriptError::new("gone").code(&"x".repeat(1 << 20));
    let log = logged(turn(), Script::new().fail_with(error), Recorder::new());
    assert!(log.contains("xxx") && log.len() < 4096, "{} bytes", log.len());
}

/// Where the tests below run again as a process of their own, without a subscriber.
const ALONE: &str = "TURNKIT_TEST_ALONE";

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

fn alone(test: &str, stderr: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

fn run_twice_with_a_hook_that_fails() {
    for _ in 0..2 {
        let hooks = Recorder::new().fails(Hook::OnTurnComplete, "no\u{1b}[2J\nforged");
        let (_body, driver) = turn().start(Script::new().text("hi"), hooks);
        let outcome = futures::executor::block_on(driver);
        assert_eq!(outcome.result.unwrap().as_str(), "hi");
        assert_eq!(outcome.hook_errors.len(), 1);
    }
}

#[test]
fn without_a_subscriber_it_goes_to_standard_error() {
    if is_alone() {
        // One that listens elsewhere, or for a while, does not listen here.
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {});
        return run_twice_with_a_hook_that_fails();
    }
    let mut child = alone("without_a_subscriber_it_goes_to_standard_error", Stdio::piped());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let expected = r"turnkit: on_turn_complete failed: no\u{1b}[2J\nforged";
    // Each failure of a hook is said; that there is no time, once in a process.
    assert_eq!(lines.iter().filter(|line| **line == expected).count(), 2, "{said}");
    let no_timer = |line: &&&str| line.contains("no timer outside of a tokio runtime");
    assert_eq!(lines.iter().filter(no_timer).count(), 1, "{said}");
}

#[test]
fn a_standard_error_that_is_closed_stops_no_turn() {
    if is_alone() {
        run_twice_with_a_hook_that_fails();
        // This subscriber panics where it cannot write.
        tracing_subscriber::fmt().with_writer(io::stderr).init();
        run_twice_with_a_hook_that_fails();
        let (_body, driver) = turn().start(Script::new().fail("gone"), Recorder::new());
        let outcome = futures::executor::block_on(driver);
        return assert_eq!(outcome.result.unwrap_err().to_string(), "gone");
    }
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut child = alone("a_standard_error_that_is_closed_stops_no_turn", writer.into());
    assert!(child.wait().unwrap().success());
}
