//! `turnkit chat` where an agent asks: at a terminal, by options, and where nobody can be asked.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Process, run, text, turnkit};

/// Runs a program at a terminal of its own, and ends as that does.
const TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

struct Rig {
    server: Process,
    _data_dir: TempDir,
}

impl Rig {
    fn new(options: &[&str]) -> Rig {
        let data_dir = tempfile::tempdir().unwrap();
        let server = Process::serve(&data_dir, options);
        Rig { server, _data_dir: data_dir }
    }

    fn demo() -> Rig {
        Rig::new(&["--demo-pace", "0ms"])
    }

    /// A chat at a terminal.
    fn chat(&self, message: &str) -> Terminal {
        let turnkit = turnkit().get_program().to_owned();
        let mut chat = std::process::Command::new("python3");
        chat.args(["-c", TERMINAL]).arg(turnkit);
        chat.args(["chat", "--server", &self.server.url, message]);
        let chat = chat.env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        Terminal { chat: chat.spawn().unwrap(), shown: String::new() }
    }

    /// A chat at no terminal: its exit code, what it printed, and what it said beside that.
    fn run(&self, options: &[&str], message: &str) -> (Option<i32>, String, String) {
        let chat = ["chat", "--server", &self.server.url];
        let output = run(&[&chat[..], options, &[message]].concat());
        (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    }
}

struct Terminal {
    chat: Child,
    shown: String,
}

impl Terminal {
    /// Reads until this is shown, behind what was seen so far, and gives what was shown until then.
    fn until(&mut self, wanted: &str) -> String {
        let output = self.chat.stdout.as_mut().unwrap();
        let mut byte = [0];
        while !self.shown.contains(wanted) {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "{wanted} is not in {}", self.shown);
            self.shown.push(char::from(byte[0]));
        }
        std::mem::take(&mut self.shown)
    }

    fn types(&mut self, line: &str) {
        writeln!(self.chat.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The rest, and the exit code.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = Vec::new();
        self.chat.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
        (self.chat.wait().unwrap().code(), String::from_utf8(rest).unwrap())
    }
}

#[test]
fn somebody_at_the_terminal_says_yes_or_no() {
    let rig = Rig::demo();
    let mut chat = rig.chat("please approve");
    let asked = chat.until("[y/n]");
    assert!(asked.contains("? Count the words?") && asked.contains(r#"bash {"command":"wc -w"}"#));
    chat.types("maybe");
    chat.until("type y or n");
    chat.until("[y/n]");
    chat.types("y");
    let (code, rest) = chat.end();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("= accepted") && rest.contains("You wrote: "), "{rest}");
    assert!(!rest.contains("did not approve"), "{rest}");

    let mut chat = rig.chat("please approve");
    chat.until("[y/n]");
    chat.types("n");
    let (code, rest) = chat.end();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("= declined") && rest.contains("did not approve"), "{rest}");
}

#[test]
fn options_are_numbers_and_a_form_is_asked_for_field_by_field() {
    let rig = Rig::demo();
    let mut chat = rig.chat("choose, then a form");
    chat.until("[1-3, or n for none]");
    chat.types("4");
    chat.until("type a number from 1 to 3");
    chat.until("[1-3, or n for none]");
    chat.types("2");
    for (field, wrong, right) in [
        ("Name (string), or all as JSON:", Some(("", "it is needed")), "Ada"),
        ("Floor (integer):", Some(("99", "data.floor must be at most 40")), "3"),
        ("Size (1 small, 2 large, or nothing):", Some(("3", "type a number from 1 to 2")), "2"),
        ("Wrap it as a gift (y/n, or nothing):", None, ""),
    ] {
        chat.until(field);
        if let Some((typed, told)) = wrong {
            chat.types(typed);
            chat.until(told);
            chat.until(field);
        }
        chat.types(right);
    }
    let (code, rest) = chat.end();
    assert_eq!(code, Some(0), "{rest}");
    for member in [r#""floor":3"#, r#""name":"Ada""#, r#""size":"large""#] {
        assert!(rest.contains("You answered `{") && rest.contains(member), "{rest}");
    }
    assert!(!rest.contains("gift"), "{rest}");
    let mut chat = rig.chat("a form");
    chat.until("as JSON:");
    chat.types(r#"{"name":"Ada","floor":-1}"#);
    chat.until("data.floor must be at least 0");
    chat.until("as JSON:");
    chat.types(r#"{"name":"Ada","floor":0}"#);
    assert_eq!(chat.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_elsewhere_closes_the_prompt() {
    let rig = Rig::demo();
    let mut chat = rig.chat("please approve");
    let chat = tokio::task::spawn_blocking(move || {
        chat.until("[y/n]");
        chat
    });
    let chat = chat.await.unwrap();
    let api = format!("{}/api/sessions", rig.server.url.trim_end_matches('/'));
    let get = async |path: &str| -> Value {
        reqwest::get(format!("{api}{path}")).await.unwrap().json().await.unwrap()
    };
    let session = get("").await["sessions"][0]["sessionId"].as_str().unwrap().to_owned();
    let open = get(&format!("/{session}/turns?state=open")).await;
    let turn = open["turns"][0]["turnId"].as_str().unwrap();
    let route = format!("{api}/{session}/turns/{turn}/interactions/approve");
    let answer = json!({ "outcome": "declined" }).to_string();
    let answer = reqwest::Client::new().post(route).body(answer);
    let answer = answer.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let (code, rest) = tokio::task::spawn_blocking(|| chat.end()).await.unwrap();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("= declined"), "{rest}");
}

#[test]
fn a_script_says_yes_or_no_beforehand_and_is_told_where_that_is_not_enough() {
    let rig = Rig::demo();
    let (code, answer, said) = rig.run(&["--yes"], "please approve");
    assert_eq!((code, answer.starts_with("You wrote: ")), (Some(0), true), "{said}");
    let (code, answer, said) = rig.run(&["--no"], "please approve, and a form");
    assert_eq!((code, answer.starts_with("You did not approve")), (Some(0), true), "{said}");
    for (options, message) in [(&[][..], "please approve"), (&["--yes"][..], "a form")] {
        let (code, _, said) = rig.run(options, message);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("nobody can be asked here: --yes and --no"), "{said}");
    }
    let (code, _, said) = rig.run(&["--yes", "--no"], "hello");
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_question_does_nothing_to_the_terminal() {
    let script = r#"read -r request; echo '{"type":"interaction","data":{"id":"q","kind":"approval","title":"\u001b]0;mine\u0007","options":[{"id":"y","label":"\u001b[2J"}]}}'; read -r answer"#;
    let rig = Rig::new(&["--command-input", "--command", "sh", "-c", script]);
    let (code, _, said) = rig.run(&[], "hello");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(r"? \u{1b}]0;mine\u{7}") && said.contains(r"1  \u{1b}[2J"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}

/// From an agent that does not declare that it takes answers, a question is an event like all others.
#[test]
fn a_question_of_an_agent_that_takes_no_answers_is_none() {
    let script = r#"read -r request; echo '{"type":"interaction","data":{"id":"q","kind":"approval","title":"Do it?"}}'; echo '{"type":"result","data":{"finalText":"done without"}}'"#;
    let rig = Rig::new(&["--command", "sh", "-c", script]);
    let (code, answer, said) = rig.run(&[], "hello");
    assert_eq!((code, answer.trim()), (Some(0), "done without"), "{said}");
}

#[test]
fn a_line_that_is_typed_goes_into_the_turn_that_runs() {
    let script = r#"read -r request; echo '{"type":"message.part.updated","data":{"part":{"id":"a","type":"text","text":"Anything else?"}}}'
        read -r said; case "$said" in *"in German"*) echo '{"type":"message.part.updated","data":{"part":{"id":"b","type":"text","text":"Gern."}}}';; esac"#;
    let rig = Rig::new(&["--command-input", "--command", "sh", "-c", script]);
    let mut chat = rig.chat("hello");
    chat.until("Anything else?");
    chat.types("in German");
    let (code, rest) = chat.end();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("Gern."), "{rest}");
    assert!(rest.contains("sent into the turn") && !rest.contains("waits behind"), "{rest}");
}

#[test]
fn a_line_for_an_agent_that_takes_none_is_a_turn_behind_the_one_that_runs() {
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let script = format!(
        r#"read -r request; echo '{{"type":"message.part.updated","data":{{"part":{{"id":"a","type":"text","text":"At work."}}}}}}'
        until [ -e {} ]; do sleep 0.02; done"#,
        open.display()
    );
    let rig = Rig::new(&["--command", "sh", "-c", &script]);
    let mut chat = rig.chat("hello");
    chat.until("At work.");
    chat.types("and then?");
    chat.until("waits behind this turn");
    std::fs::write(&open, []).unwrap();
    chat.until("> and then?");
    let (code, rest) = chat.end();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("At work."), "{rest}");
}
