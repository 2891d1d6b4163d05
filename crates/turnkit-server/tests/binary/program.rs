//! `turnkit serve --command`: whatever a program does, its turn has a clear end, and nothing of it is left.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Process, lines, run, signal, text, turnkit};

const SAY: &str = r#"say() { printf '{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"%s"}}\n' "$1"; }; "#;

const NONE: [u32; 0] = [];

struct Rig {
    server: Process,
    _data_dir: TempDir,
}

impl Rig {
    /// A server whose agent is this shell script, which can `say` something.
    fn with(script: &str) -> Rig {
        let data_dir = tempfile::tempdir().unwrap();
        let script = format!("{SAY}{script}");
        let server = Process::serve(&data_dir, &["--command", "sh", "-c", &script]);
        Rig { server, _data_dir: data_dir }
    }

    fn chat(&self) -> Child {
        let mut chat = turnkit();
        chat.args(["chat", "--json", "--server", &self.server.url, "hello"]);
        chat.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// One turn to its end: the end, and what is left of the program.
    fn turn(&self) -> (Value, Vec<u32>) {
        let output = self.chat().wait_with_output().unwrap();
        let events: Vec<Value> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let session = session(&events[0]);
        (events.last().unwrap().clone(), processes(&session))
    }

    /// The answer as it is kept, with its status.
    fn kept(&self, session: &str) -> Option<(String, String)> {
        let history = run(&[
            "chat",
            "--history",
            "--json",
            "--server",
            &self.server.url,
            "--session",
            session,
        ]);
        let messages =
            text(&history.stdout).lines().map(|line| serde_json::from_str(line).unwrap());
        let answer = messages.into_iter().find(|message: &Value| message["role"] == "assistant")?;
        Some((answer["text"].as_str()?.to_owned(), answer["status"].as_str()?.to_owned()))
    }

    fn answer(&self, session: &str) -> (String, String) {
        loop {
            if let Some(answer) = self.kept(session) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn session(started: &Value) -> String {
    started["data"]["sessionId"].as_str().unwrap().to_owned()
}

fn failed(event: &Value) -> &Value {
    assert_eq!(event["type"], "session.run.failed");
    &event["data"]["code"]
}

/// The processes that a session's runs have left: their environment names the execution.
fn processes(session: &str) -> Vec<u32> {
    let mark = format!("TURNKIT_EXECUTION_ID=local:{session}:");
    let ids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
    })
    .collect()
}

#[test]
fn a_program_answers_and_its_arguments_may_look_like_options() {
    let rig = Rig::with("say well; say done");
    let (end, left) = rig.turn();
    assert_eq!((&end["type"], left), (&json!("session.run.completed"), NONE.to_vec()));
}

#[test]
fn a_program_goes_on_when_the_client_leaves() {
    let rig = Rig::with("say one; read -r _; sleep 0.3; say two");
    let mut chat = rig.chat();
    let first = lines(&mut chat, 2);
    chat.kill().unwrap();
    chat.wait().unwrap();
    let session = session(&serde_json::from_str(&first[0]).unwrap());
    assert_eq!(rig.answer(&session), ("onetwo".to_owned(), "complete".to_owned()));
    assert_eq!(processes(&session), NONE);
}

#[test]
fn a_program_that_is_killed_has_failed_and_what_it_said_is_kept() {
    let rig = Rig::with("say half; kill -9 $$");
    let mut chat = rig.chat();
    let first = lines(&mut chat, 2);
    let session = session(&serde_json::from_str(&first[0]).unwrap());
    let rest = chat.wait_with_output().unwrap();
    let end: Value = serde_json::from_str(text(&rest.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(failed(&end), "command_failed");
    assert_eq!(rig.answer(&session), ("half".to_owned(), "failed".to_owned()));
    assert_eq!(processes(&session), NONE);
}

#[test]
fn a_program_that_hangs_is_stopped_with_all_that_it_started() {
    let rig = Rig::with("say waiting; (trap '' TERM; sleep 600) & sleep 600");
    let mut chat = rig.chat();
    let first = lines(&mut chat, 2);
    let session = session(&serde_json::from_str(&first[0]).unwrap());
    assert!(!processes(&session).is_empty());
    signal(chat.id(), "INT");
    let rest = chat.wait_with_output().unwrap();
    assert_eq!(rest.status.code(), Some(130));
    let end: Value = serde_json::from_str(text(&rest.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(failed(&end), "cancelled");
    assert_eq!(rig.answer(&session), ("waiting".to_owned(), "stopped".to_owned()));
    while !processes(&session).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_flood_on_standard_error_stops_no_answer() {
    let rig = Rig::with("head -c 20000000 /dev/zero | tr '\\0' 'e' >&2; seq 200000 >&2; say done");
    let (end, left) = rig.turn();
    assert_eq!((&end["type"], left), (&json!("session.run.completed"), NONE.to_vec()));
}

#[test]
fn garbage_is_noted_and_the_answer_counts_and_alone_it_fails_the_turn() {
    let rig = Rig::with("say good; echo 'not an event'; say ' indeed'");
    let (end, left) = rig.turn();
    assert_eq!((&end["type"], left), (&json!("session.run.completed"), NONE.to_vec()));

    let rig = Rig::with("echo 'not an event'");
    let (end, left) = rig.turn();
    assert_eq!((failed(&end), left), (&json!("invalid_output"), NONE.to_vec()));
    let message = end["data"]["message"].as_str().unwrap();
    assert!(message.contains("not an event"), "{message}");
}

#[test]
fn children_that_a_program_leaves_behind_are_gone_with_it() {
    let rig = Rig::with("for _ in 1 2 3; do sleep 600 & done; say done");
    let (end, left) = rig.turn();
    assert_eq!((&end["type"], left), (&json!("session.run.completed"), NONE.to_vec()));
}

#[test]
fn a_server_that_stops_leaves_no_program_behind() {
    let mut rig = Rig::with("say waiting; sleep 600");
    let mut chat = rig.chat();
    let first = lines(&mut chat, 2);
    let session = session(&serde_json::from_str(&first[0]).unwrap());
    assert!(!processes(&session).is_empty());
    signal(rig.server.pid(), "INT");
    signal(chat.id(), "INT");
    chat.wait().unwrap();
    assert_eq!(rig.server.wait(), Some(0));
    assert_eq!(processes(&session), NONE);
}

#[test]
fn a_program_that_is_not_there_stops_the_server_from_starting() {
    let data_dir = tempfile::tempdir().unwrap();
    let data_dir = data_dir.path().to_str().unwrap();
    let refused = |program: &[&str]| {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir, "--command"];
        let output = run(&[&serve, program].concat());
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr).to_owned()
    };
    let why = refused(&["/not/there", "-x"]);
    assert!(why.starts_with("turnkit: failed to find the program /not/there: "), "{why}");
    let why =
        "turnkit: failed to find the program not-there-at-all: PATH has no program of this name\n";
    assert_eq!(refused(&["not-there-at-all"]), why);
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_finds_no_files_left_is_told_so() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    let rig = Rig::with("say hello");
    let (first, _) = rig.turn();
    assert_eq!(first["type"], "session.run.completed");
    let pid = rig.server.pid();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    // One for the client, and not enough for the pipes of a program.
    let few = Rlimit { current: Some(open + 4), maximum: Some(open + 4) };
    prlimit(Pid::from_raw(i32::try_from(pid).unwrap()), Resource::Nofile, few).unwrap();
    let (last, _) = rig.turn();
    assert_eq!(last["data"]["code"], "command_not_started", "{last}");
    let told = last["data"]["message"].as_str().unwrap();
    assert!(told.contains("too many open files"), "{told}");
    assert_eq!(last["data"]["temporary"], true);
}
