//! The agent that runs a program, over real processes.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]
#![cfg(unix)]

mod agent_harness;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use agent_harness::{Server, data, failure, impatient_log, joined, result};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use turnkit_agent::{Agent as _, RunRequest};
use turnkit_agents::command::{Command, Format, Permission, code};
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

/// A shell script as an agent, and a mark by which each of its processes is found.
struct Script {
    mark: String,
    command: Command,
}

impl Script {
    fn new(script: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("turnkit-test-{}-{number}", std::process::id());
        let command = Command::new("sh").args(["-c", script]).env("TURNKIT_TEST_MARK", &mark);
        Self { mark, command }
    }

    fn grace(mut self, grace: Duration) -> Self {
        self.command = self.command.grace(grace);
        self
    }

    async fn server(&self) -> Server {
        Server::with(self.command.clone()).await
    }

    /// The processes that run now, by their ids. One that was killed and not yet waited for runs no more.
    fn processes(&self) -> HashSet<u32> {
        let mark = format!("TURNKIT_TEST_MARK={}", self.mark);
        let is_marked = |environment: Vec<u8>| {
            environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        let ids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        ids.filter(|id: &u32| fs::read(format!("/proc/{id}/environ")).is_ok_and(is_marked))
            .collect()
    }

    #[track_caller]
    fn assert_gone(&self) {
        assert_eq!(self.processes(), HashSet::new());
    }

    /// Resolves when nothing of it runs any more.
    async fn gone(&self) {
        while !self.processes().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Prints one piece of text, the shell's own process id.
const SAY_PID: &str = r#"printf '{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"%s"}}\n' $$;"#;
const SAY_RESULT: &str = r#"echo '{"type":"result","data":{"finalText":"done"}}';"#;

fn kill_9(id: &str) {
    let kill = std::process::Command::new("kill").args(["-9", id]).status();
    assert!(kill.unwrap().success());
}

fn request(message: &str) -> RunRequest {
    RunRequest::new(ExecutionId::parse("exec-1").unwrap(), message)
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agents").join(name)
}

#[tokio::test]
async fn the_shell_example_reasons_calls_a_tool_and_answers_in_pieces() {
    let server = Server::with(Command::new(example("agent.sh"))).await;
    let events = server.ask("six \"words\" \\ * stand\nhere today\t!").await;
    let text = joined(&events, "text");
    assert!(text.starts_with("Your message has **8** words."), "{text}");
    assert!(joined(&events, "reasoning").contains("I count the words"));
    let result = result(&events);
    assert_eq!(result["finalText"], text);
    assert_eq!(result["tokenUsage"]["inputTokens"], 8);
    assert_eq!(tool_states(&events), ["running", "completed"]);
    assert!(events.len() > 20);
}

#[tokio::test]
async fn the_python_example_works_it_out_and_knows_the_history() {
    let server = Server::with(Command::new("python3").arg(example("agent.py"))).await;
    let history = [
        json!({ "role": "user", "content": "1 + 1" }),
        json!({ "role": "assistant", "content": "2" }),
    ];
    let body = json!({ "message": "What is (3 + 4) * 6?", "sessionId": "s", "history": history });
    let events = server.run(&body).await;
    let text = "`(3 + 4) * 6` is **42**. That was question 2 of this session.";
    assert_eq!(joined(&events, "text"), text);
    assert_eq!(result(&events)["finalText"], text);
    assert_eq!(tool_states(&events), ["running", "completed"]);

    let refused = Server::with(Command::new("python3").arg(example("agent.py"))).await;
    let events = refused.ask("1 / 0").await;
    assert_eq!(tool_states(&events), ["running", "error"]);
    assert!(joined(&events, "text").contains("division by zero"));
}

/// Answers a question of the execution `exec-1`, or sends it an input: the status and what is answered.
async fn tell(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let request = server.post(&format!("/agents/executions/exec-1/{path}")).json(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn the_asking_python_example_asks_and_goes_on_by_the_answer_and_by_input() {
    let agent = || Command::new("python3").arg(example("asking.py")).input(true);
    for (outcome, says) in [("accepted", "Deleted build."), ("declined", "I leave build alone.")] {
        let server = Server::with(agent()).await;
        let mut stream = server.open("exec-1", &json!({ "message": "delete build" })).await;
        let asked = data(&stream.until("interaction").await);
        assert_eq!(
            (&asked["kind"], &asked["title"]),
            (&json!("approval"), &json!("Delete build?"))
        );
        let id = asked["id"].as_str().unwrap();
        let (status, _) =
            tell(&server, "input", &json!({ "id": "i", "message": "be quick" })).await;
        assert_eq!(status, 202);
        stream.until("input.taken").await;
        let (status, told) =
            tell(&server, &format!("interactions/{id}"), &json!({ "outcome": outcome })).await;
        assert_eq!((status, &told["outcome"]), (200, &json!(outcome)));
        let events = stream.rest().await;
        assert_eq!(result(&events)["finalText"], format!("(be quick) {says}"));
    }
}

#[tokio::test]
async fn an_input_that_a_program_never_takes_is_told_as_untaken() {
    let script = r#"read -r request; exec <&-; echo '{"type":"ready"}'; while [ ! -e "$STOP" ]; do sleep 0.01; done;"#;
    let folder = tempfile::tempdir().unwrap();
    let stop = folder.path().join("stop");
    let command = Command::new("sh").args(["-c", &format!("{script}{SAY_RESULT}")]);
    let server = Server::with(command.env("STOP", &stop).input(true)).await;
    let mut stream = server.open("exec-1", &json!({ "message": "hello" })).await;
    stream.until("ready").await;
    let (status, _) = tell(&server, "input", &json!({ "id": "i", "message": "m" })).await;
    assert_eq!(status, 202, "it is in the log");
    fs::write(&stop, "").unwrap();
    let events = stream.rest().await;
    assert_eq!(data(events.last().unwrap())["untaken"], json!(["i"]));
}

fn tool_states(events: &[Event]) -> Vec<String> {
    let states = events.iter().map(data).map(|data| data["part"]["state"]["status"].clone());
    states.filter_map(|status| Some(status.as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn its_events_go_on_byte_for_byte() {
    let line = r#"{ "type" : "custom","data":{"n":1E5,"s":"\ud800\/"} , "x":[] }"#;
    let script = Script::new(&format!("printf '%s' '{line}'"));
    let mut events = Box::pin(script.command.run(request("m").into()));
    assert_eq!(events.next().await.unwrap().unwrap().as_json(), line);
    assert!(events.next().await.is_none());
    script.assert_gone();
}

#[tokio::test]
async fn text_without_a_result_is_a_good_answer() {
    let script = Script::new(SAY_PID);
    let events = script.server().await.ask("m").await;
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["execution.started", "message.part.updated", "execution.completed"]);
    script.assert_gone();
}

#[tokio::test]
async fn an_end_without_any_event_is_a_failure() {
    let script = Script::new("exit 0");
    let (code, _) = failure(&script.server().await.ask("m").await);
    assert_eq!(code, code::NO_EVENTS);
}

#[tokio::test]
async fn an_exit_status_fails_the_run_and_what_it_complained_about_stays_in_the_log() {
    let script = Script::new(&format!("{SAY_PID} echo 'password: hunter2' >&2; exit 3"));
    let logs = Logs::default();
    let _guard = logs.capture();
    let events = script.server().await.ask("m").await;
    let expected = (code::FAILED.to_owned(), "the program ended with exit status 3".to_owned());
    assert_eq!(failure(&events), expected);
    assert!(events.iter().all(|event| !event.as_json().contains("hunter2")));
    let logged = logs.lines_with("hunter2");
    assert_eq!(logged.len(), 2, "the line, and the last line at the failure: {logged:?}");
    assert!(logged.iter().all(|line| line.contains("exec-1")), "{logged:?}");
}

#[tokio::test]
async fn behind_a_result_nothing_takes_the_answer_back() {
    let behind = [
        "exit 1",
        "echo 'Traceback: it broke'; exit 1",
        "printf '{\"type\":\"res'",
        r#"echo '{"type":"error","data":{"message":"too late"}}'"#,
        r#"echo '{"type":"execution.failed","data":{}}'; echo '{"type":"session.run.failed"}'"#,
        "head -c 3000000 /dev/zero | tr '\\0' x; echo",
        "kill -9 $$",
        "sleep 1000 & exit 0",
    ];
    for behind in behind {
        let script = Script::new(&format!("{SAY_PID} {SAY_RESULT} {behind}"));
        let events = script.server().await.ask("m").await;
        assert_eq!(result(&events)["finalText"], "done", "{behind}");
        script.gone().await;
    }
}

#[tokio::test]
async fn a_program_that_stays_behind_its_result_is_stopped_and_has_answered() {
    let script = Script::new(&format!("{SAY_RESULT} sleep 1000")).grace(Duration::from_millis(50));
    let events = script.server().await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "done");
    script.assert_gone();
}

#[tokio::test]
async fn lines_that_are_no_events_are_logged_and_the_answer_counts() {
    let banner = "echo 'Loaded cached credentials.';";
    let script = Script::new(&format!(
        "printf '\\357\\273\\277'; {banner} {SAY_PID} {banner} {SAY_RESULT} {banner}"
    ));
    let logs = Logs::default();
    let _guard = logs.capture();
    let events = script.server().await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "done");
    assert_eq!(events.len(), 4);
    assert_eq!(logs.lines_with("Loaded cached credentials").len(), 3);
    assert_eq!(logs.lines_with("no events lines=3").len(), 1);

    let script = Script::new(&format!("printf '\\357\\273\\277'; {SAY_RESULT}"));
    assert_eq!(result(&script.server().await.ask("m").await)["finalText"], "done");
}

#[tokio::test]
async fn an_error_that_is_worded_differently_keeps_its_words() {
    let failed = async |lines: &str| {
        let script = Script::new(&format!("printf '%s\\n' {lines}"));
        let events = script.server().await.ask("m").await;
        let [.., error, end] = &events[..] else { panic!("too few events") };
        assert_eq!((error.kind(), end.kind()), ("error", "execution.completed"));
        let told = data(error);
        (told["message"].as_str().unwrap().to_owned(), told["code"].clone())
    };
    let top = r#"'{"type":"error","message":"the key is wrong","code":"no_key"}'"#;
    assert_eq!(failed(top).await, ("the key is wrong".to_owned(), json!("no_key")));
    let nested = r#"'{"type":"error","error":{"message":"Overloaded"}}'"#;
    assert_eq!(failed(nested).await, ("Overloaded".to_owned(), json!(null)));
    let data_text = r#"'{"type":"error","data":"no money"}'"#;
    assert_eq!(failed(data_text).await, ("no money".to_owned(), json!(null)));
    let known = r#"'{"type":"error","data":{"message":"as it is","code":"c"}}'"#;
    assert_eq!(failed(known).await, ("as it is".to_owned(), json!("c")));

    let again = r#"echo '{"type":"error","message":"Reconnecting... 2/5"}';"#;
    let script = Script::new(&format!("{again} {SAY_PID} {SAY_RESULT}"));
    let events = script.server().await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "done");
    assert_eq!(
        (events[1].kind(), &data(&events[1])["message"]),
        ("warning", &json!("Reconnecting... 2/5"))
    );
}

#[tokio::test]
async fn plain_text_is_an_answer_where_it_is_said_to_be() {
    let text = |script: &str| {
        let script = Script::new(script);
        Script { command: script.command.clone().format(Format::Text), ..script }
    };
    let script = text("printf 'Gr\\303\\274\\303'; sleep 0.1; printf '\\237 Gott\\n'");
    let events = script.server().await.ask("m").await;
    assert_eq!(joined(&events, "text"), "Grüß Gott\n");
    assert_eq!(result(&events)["finishReason"], "stop");

    let events = text("for i in 1 2 3; do echo $i; sleep 0.1; done").server().await.ask("m").await;
    assert_eq!(joined(&events, "text"), "1\n2\n3\n");
    assert!(events.len() > 4, "it came as it was printed");

    let events = text("cat; echo ' and out'").server().await.ask("in").await;
    assert_eq!(joined(&events, "text"), "in and out\n");

    let many = text("yes 0123456789012345678 | head -n 500000").command;
    let events: Vec<_> = many.run(request("m").into()).collect().await;
    let events: Vec<_> = events.into_iter().map(Result::unwrap).collect();
    assert_eq!(joined(&events, "text").len(), 10_000_000);
    assert_eq!(events.last().unwrap().kind(), "result");

    for silent in ["exit 0", "echo; echo"] {
        let (code, message) = failure(&text(silent).server().await.ask("m").await);
        assert_eq!((code.as_str(), message.contains("printed nothing")), (code::NO_EVENTS, true));
    }
    let events = text("echo half; exit 2").server().await.ask("m").await;
    assert_eq!(failure(&events).0, code::FAILED);
    assert_eq!(joined(&events, "text"), "half\n");
}

#[tokio::test]
async fn a_message_may_stand_in_an_argument_and_passes_no_shell() {
    let echo = |args: &[&str]| Command::new("printf").args(args).format(Format::Text);
    let ask =
        async |command: Command, message: &str| Server::with(command).await.ask(message).await;
    let events = ask(echo(&["%s|", "a {message} b", "{message}"]), "$(id); 'x' \"y\"").await;
    assert_eq!(joined(&events, "text"), "a $(id); 'x' \"y\" b|$(id); 'x' \"y\"|");
    let events = ask(echo(&["%s", "--", "{message}"]), "--help").await;
    assert_eq!(joined(&events, "text"), "----help");

    let (code, message) = failure(&ask(echo(&["%s", "{message}"]), "--help").await);
    assert_eq!((code.as_str(), message.contains("hyphen")), (code::MESSAGE_REFUSED, true));
    let (code, message) = failure(&ask(echo(&["%s", "{message}"]), &"x".repeat(128 * 1024)).await);
    assert_eq!((code.as_str(), message.contains("128 KiB")), (code::MESSAGE_REFUSED, true));
    let long = "x".repeat(128 * 1024 - 1);
    assert_eq!(joined(&ask(echo(&["%s", "{message}"]), &long).await, "text"), long);
}

/// Prints what a tool printed once.
fn sample(name: &str) -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/agents/").to_owned() + name
}

#[tokio::test]
async fn a_known_tool_under_a_wrong_format_is_named() {
    for (name, tool) in [
        ("claude-code.jsonl", "claude"),
        ("codex-exec.jsonl", "codex"),
        ("gemini-cli.jsonl", "gemini"),
        ("opencode.jsonl", "opencode"),
        ("acp-gemini.jsonl", "acp"),
    ] {
        for format in [
            Format::Events,
            Format::Claude,
            Format::Codex,
            Format::Gemini,
            Format::OpenCode,
            Format::Acp,
        ] {
            let command = Command::new("cat").arg(sample(name)).format(format);
            let events = Server::with(command).await.ask("m").await;
            if format.name() == tool {
                assert_eq!(result(&events)["finishReason"], "stop", "{name}");
                continue;
            }
            let (code, message) = failure(&events);
            assert_eq!(code, code::INVALID_OUTPUT, "{name} {format:?}");
            assert!(message.ends_with(&format!("--command-format {tool}")), "{message}");
        }
    }
}

#[tokio::test]
async fn a_tool_that_does_not_say_its_end_has_failed() {
    for (name, format) in [
        ("claude-code.jsonl", Format::Claude),
        ("codex-exec.jsonl", Format::Codex),
        ("gemini-cli.jsonl", Format::Gemini),
        ("opencode.jsonl", Format::OpenCode),
    ] {
        let command =
            Command::new("sh").args(["-c", "sed '$d' \"$0\"", &sample(name)]).format(format);
        assert_eq!(failure(&Server::with(command).await.ask("m").await).0, code::CUT, "{name}");
        let command = Command::new("sh")
            .args(["-c", "cat \"$0\"; echo bye; exit 1", &sample(name)])
            .format(format);
        assert_eq!(
            result(&Server::with(command).await.ask("m").await)["finishReason"],
            "stop",
            "{name}"
        );
        let command =
            Command::new("sh").args(["-c", "echo 'Invalid API key'; exit 1"]).format(format);
        let (code, message) = failure(&Server::with(command).await.ask("m").await);
        assert_eq!(
            (code.as_str(), message.ends_with("It printed: Invalid API key")),
            (code::FAILED, true)
        );
    }
}

#[tokio::test]
async fn a_tool_goes_on_with_its_own_session_or_is_told_the_conversation() {
    let tool = r#"
        case "$*" in
            *"--resume lost"*) echo 'No conversation found' >&2; exit 1;;
        esac
        printf '{"type":"system","subtype":"init","session_id":"next","model":"m"}
'
        printf '{"type":"result","subtype":"success","is_error":false,"result":"%s|%s"}
' "$*" "$(cat | tr '
' ' ')"
    "#;
    let command = || Command::new("sh").args(["-c", tool, "claude", "-p"]).format(Format::Claude);
    let history =
        json!([{ "role": "user", "content": "one" }, { "role": "assistant", "content": "two" }]);
    let body = |session: &str| json!({ "message": "three", "history": history, "metadata": { "agentSessionId": session } });
    let text = |events: &[Event]| {
        let parts = events.iter().filter(|event| event.kind() == "message.part.updated");
        parts
            .map(|event| data(event)["part"]["text"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    let events = Server::with(command()).await.run(&body("known")).await;
    assert_eq!(text(&events), "-p --resume known|three");
    assert_eq!(result(&events)["metadata"]["agentSessionId"], "next");

    let events = Server::with(command()).await.run(&body("lost")).await;
    assert_eq!(
        (events[1].kind(), &data(&events[1])["code"]),
        ("warning", &json!("agent_session_lost"))
    );
    let told = text(&events);
    assert!(
        told.starts_with("-p|")
            && told.contains("I: one")
            && told.contains("You: two")
            && told.ends_with("three"),
        "{told}"
    );

    let events = Server::with(command()).await.run(&body("--evil")).await;
    assert!(!text(&events).contains("evil"), "it cannot become an option");
}

/// An agent that speaks the Agent Client Protocol and does what the message says. It knows its sessions by a file.
const ACP: &str = r#"
import json, os, sys
store = sys.argv[1]
def say(message): print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def update(**update): say({"method": "session/update", "params": {"sessionId": session, "update": update}})
def text(text): update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": text})
session, said = "s1", []
print("Loaded cached credentials.", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    id, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if method == "initialize":
        assert params["clientCapabilities"] == {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        say({"id": id, "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}}})
    elif method == "session/load":
        if not os.path.exists(store):
            say({"id": id, "error": {"code": -32602, "message": "no such session"}})
            continue
        said = open(store).read().splitlines()
        text("the past, in time")
        say({"id": id, "result": {}})
        for old in said: text(old)
    elif method == "session/new":
        assert params["cwd"].startswith("/") and params["mcpServers"] == []
        say({"id": id, "result": {"sessionId": session, "models": {"currentModelId": "scripted"}}})
    elif method == "session/prompt":
        prompt, prompt_id = params["prompt"][0]["text"], id
        said.append(prompt)
        open(store, "w").write("\n".join(said))
        update(sessionUpdate="agent_thought_chunk", content={"type": "text", "text": "hm"})
        if prompt == "die":
            text("half")
            sys.exit(3)
        if prompt == "wait":
            text("half")
            continue
        if prompt == "ask":
            options = [{"optionId": "y", "kind": "allow_once", "name": "Yes"}, {"optionId": "n", "kind": "reject_once", "name": "No"}]
            say({"id": 100, "method": "session/request_permission", "params": {"sessionId": session, "toolCall": {"toolCallId": "t"}, "options": options}})
            continue
        text(" + ".join(said))
        say({"id": id, "result": {"stopReason": "end_turn"}})
    elif method == "session/cancel":
        open(store + ".cancelled", "w").write("yes")
        say({"id": prompt_id, "result": {"stopReason": "cancelled"}})
    elif id == 100:
        text(message["result"]["outcome"].get("optionId", "-"))
        say({"id": prompt_id, "result": {"stopReason": "end_turn"}})
"#;

fn acp(store: &Path) -> Command {
    Command::new("python3").args(["-c", ACP]).arg(store).format(Format::Acp)
}

#[tokio::test]
async fn an_acp_agent_goes_on_with_its_session_from_turn_to_turn() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("session");
    let server = Server::with(acp(&store)).await;
    let events = server.ask("one").await;
    assert_eq!(
        (joined(&events, "reasoning").as_str(), joined(&events, "text").as_str()),
        ("hm", "one")
    );
    let first = result(&events);
    assert_eq!((&first["model"], &first["finishReason"]), (&json!("scripted"), &json!("stop")));

    let history =
        json!([{ "role": "user", "content": "one" }, { "role": "assistant", "content": "one" }]);
    let body = |message: &str| json!({ "message": message, "history": history, "metadata": { "agentSessionId": first["metadata"]["agentSessionId"] } });
    let events = server.open("exec-2", &body("two")).await.rest().await;
    assert_eq!(joined(&events, "text"), "one + two");

    fs::remove_file(&store).unwrap();
    let events = server.open("exec-3", &body("three")).await.rest().await;
    assert_eq!(
        (events[1].kind(), &data(&events[1])["code"]),
        ("warning", &json!("agent_session_lost"))
    );
    let told = joined(&events, "text");
    assert!(told.contains("I:\none") && told.ends_with("three"), "{told}");
}

#[tokio::test]
async fn an_acp_agent_is_allowed_what_is_configured_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let ask = async |command: Command| Server::with(command).await.ask("ask").await;
    // Without a substrate there is nobody who could be asked.
    let alone = acp(&home.path().join("a")).run(request("ask").into());
    let events: Vec<Event> = alone.map(Result::unwrap).collect().await;
    assert_eq!(joined(&events, "text"), "n");
    assert!(events.iter().any(|event| event.kind() == "warning"));
    let events = ask(acp(&home.path().join("b")).permission(Permission::AllowOnce)).await;
    assert_eq!(joined(&events, "text"), "y");
    let events = ask(acp(&home.path().join("c")).permission(Permission::AllowAlways)).await;
    assert_eq!(joined(&events, "text"), "n");
}

#[tokio::test]
async fn an_acp_agent_asks_whoever_follows_the_turn() {
    let home = tempfile::tempdir().unwrap();
    let answers = [
        (json!({ "outcome": "accepted", "data": { "option": "y" } }), "y"),
        (json!({ "outcome": "accepted" }), "y"),
        (json!({ "outcome": "declined" }), "n"),
    ];
    for (at, (answer, done)) in answers.into_iter().enumerate() {
        let server = Server::with(acp(&home.path().join(format!("{at}")))).await;
        let mut stream = server.open("exec-1", &json!({ "message": "ask" })).await;
        let asked = data(&stream.until("interaction").await);
        let yes_and_no = json!([{ "id": "y", "label": "Yes" }, { "id": "n", "label": "No" }]);
        assert_eq!((&asked["kind"], &asked["callId"]), (&json!("approval"), &json!("t")));
        assert_eq!(asked["options"], yes_and_no);
        let (status, _) = tell(&server, "interactions/permission-1", &answer).await;
        assert_eq!(status, 200);
        let events = stream.rest().await;
        assert_eq!(joined(&events, "text"), done);
        assert_eq!(events.last().unwrap().kind(), "execution.completed");
    }
}

#[tokio::test]
async fn an_acp_agent_that_dies_in_the_middle_has_failed_and_a_cancelled_one_is_told() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("session");
    let server = Server::with(acp(&store)).await;
    let events = server.ask("die").await;
    assert_eq!(
        failure(&events),
        (code::FAILED.to_owned(), "the program ended with exit status 3".to_owned())
    );
    assert_eq!(joined(&events, "text"), "half");

    let mut stream = server.open("exec-2", &json!({ "message": "wait" })).await;
    while joined(&[stream.until("message.part.updated").await], "text").is_empty() {}
    server.cancel("exec-2").await;
    let events = stream.rest().await;
    assert_eq!(events.last().unwrap().kind(), "execution.cancelled");
    let cancelled = home.path().join("session.cancelled");
    while !cancelled.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_value_that_was_handed_on_is_told() {
    let script = Script::new("echo \"bad key $AGENT_KEY\"; exit 1");
    let command = script.command.env("AGENT_KEY", "sk-s3cret-of-mine");
    let (_, message) = failure(&Server::with(command).await.ask("m").await);
    assert!(message.ends_with("bad key [secret]"), "{message}");
}

#[tokio::test]
async fn a_program_that_is_killed_fails_the_run() {
    let script = Script::new(&format!("{SAY_PID} sleep 1000 & wait"));
    let server = script.server().await;
    let mut stream = server.open("exec-1", &json!({ "message": "m" })).await;
    let pid = data(&stream.until("message.part.updated").await)["delta"].clone();
    kill_9(pid.as_str().unwrap());
    let expected = (code::FAILED.to_owned(), "the program was ended by signal 9".to_owned());
    assert_eq!(failure(&stream.rest().await), expected);
    script.assert_gone();
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_after_its_time_though_it_ignores_sigterm() {
    let script = Script::new(&format!("trap '' TERM; {SAY_PID} while :; do sleep 1000; done"))
        .grace(Duration::from_millis(50));
    let body = json!({ "message": "m", "timeout": 200 });
    let (code, _) = failure(&script.server().await.run(&body).await);
    assert_eq!(code, "timeout");
    script.gone().await;
}

#[tokio::test]
async fn a_cancelled_program_may_end_in_good_order() {
    let left = tempfile::NamedTempFile::new().unwrap();
    let tidy = format!(
        "trap 'echo tidied up > {}; exit 0' TERM; {SAY_PID} sleep 1000 & wait",
        left.path().display()
    );
    let script = Script::new(&tidy).grace(Duration::from_secs(60));
    let server = script.server().await;
    let mut stream = server.open("exec-1", &json!({ "message": "m" })).await;
    stream.until("message.part.updated").await;
    server.cancel("exec-1").await;
    let events = stream.rest().await;
    assert_eq!(events.last().unwrap().kind(), "execution.cancelled");
    script.gone().await;
    assert_eq!(fs::read_to_string(left.path()).unwrap(), "tidied up\n");
}

#[tokio::test]
async fn shutting_down_leaves_no_process() {
    let script = Script::new(&format!("trap '' TERM; {SAY_PID} sleep 1000 & sleep 1000 & wait"));
    let mut server = Server::with_log(script.command.clone(), impatient_log()).await;
    let mut stream = server.open("exec-1", &json!({ "message": "m" })).await;
    stream.until("message.part.updated").await;
    server.stop();
    server.stopped().await;
    script.assert_gone();
}

#[tokio::test]
async fn a_dropped_stream_kills_the_group() {
    let script = Script::new(&format!("trap '' TERM; {SAY_PID} sleep 1000 & sleep 1000"));
    let mut events = Box::pin(script.command.run(request("m").into()));
    events.next().await.unwrap().unwrap();
    assert!(!script.processes().is_empty());
    drop(events);
    script.gone().await;
}

#[tokio::test]
async fn a_client_that_leaves_stops_nothing() {
    let gate = tempfile::NamedTempFile::new().unwrap();
    let wait = format!(
        "{SAY_PID} while [ -e {} ]; do sleep 0.01; done; {SAY_RESULT}",
        gate.path().display()
    );
    let script = Script::new(&wait);
    let server = script.server().await;
    let body = json!({ "message": "m" });
    let mut stream = server.open("exec-1", &body).await;
    let first = stream.until("message.part.updated").await;
    drop(stream);
    drop(gate);
    let events = server.open("exec-1", &body).await.rest().await;
    assert_eq!(events[1], first, "the same process, so the same run");
    assert_eq!(result(&events)["finalText"], "done");
    script.assert_gone();
}

#[tokio::test]
async fn a_flood_on_standard_error_holds_nothing_up_and_is_thinned() {
    let flood = "i=0; while [ $i -lt 20 ]; do head -c 1000000 /dev/zero | tr '\\0' 'x' >&2; i=$((i+1)); done; yes grumble | head -n 200000 >&2;";
    let script = Script::new(&format!("{SAY_PID} {flood} {SAY_RESULT}"));
    let logs = Logs::default();
    let _guard = logs.capture();
    let events = script.server().await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "done");
    let lines = logs.lines_with("grumble");
    assert!((1..2_000).contains(&lines.len()), "{}", lines.len());
    assert!(logs.longest() < 2_000, "{}", logs.longest());
    assert_eq!(logs.lines_with("lines were left out").len().min(1), 1);
}

#[tokio::test]
async fn garbage_alone_fails_the_run_with_its_first_words() {
    let script = Script::new("echo; echo 'Traceback: it broke'; echo more");
    let (code, message) = failure(&script.server().await.ask("m").await);
    assert_eq!(code, code::INVALID_OUTPUT);
    assert!(message.ends_with("begins with: Traceback: it broke more"), "{message}");
    script.assert_gone();
}

#[tokio::test]
async fn an_endless_line_fails_the_run() {
    let script = Script::new("cat /dev/zero | tr '\\0' ' '");
    let (code, message) = failure(&script.server().await.ask("m").await);
    assert_eq!(code, code::EVENT_TOO_LARGE);
    assert!(
        message.contains("line 1 ") && message.contains("longer than 1048576 bytes"),
        "{message}"
    );
    script.assert_gone();
}

#[tokio::test]
async fn input_that_is_never_read_holds_nothing_up() {
    let script = Script::new(SAY_RESULT);
    let events = script.server().await.ask(&"x".repeat(900_000)).await;
    assert_eq!(result(&events)["finalText"], "done");
}

#[tokio::test]
async fn input_is_whole_however_large() {
    let script = Script::new(
        "read -r line; rest=$(cat); [ -z \"$rest\" ] && printf '%s' \"$line\" | wc -c | sed 's/.*/{\"type\":\"length\",\"data\":&}/'",
    );
    let events = script.server().await.ask(&"x".repeat(300_000)).await;
    let overhead = r#"{"executionId":"exec-1","message":""}"#.len();
    assert_eq!(data(&events[1]), json!(300_000 + overhead));
}

#[tokio::test]
async fn children_that_outlive_the_program_are_killed() {
    let script =
        Script::new(&format!("{SAY_RESULT} sleep 1000 & (trap '' TERM HUP; sleep 1000) & exit 0"));
    let events = script.server().await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "done");
    script.gone().await;
}

#[tokio::test]
async fn a_child_with_a_session_of_its_own_may_outlive_the_run_and_does_not_hold_it_up() {
    let script = Script::new(&format!("setsid sleep 1000 & {SAY_RESULT}"));
    let events = script.server().await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "done");
    for id in script.processes() {
        kill_9(&id.to_string());
    }
    script.gone().await;
}

#[tokio::test]
async fn a_program_that_closes_its_output_and_stays_is_stopped() {
    let stays = |before: &str| {
        Script::new(&format!("{before} exec >&-; sleep 1000")).grace(Duration::from_millis(50))
    };
    let script = stays(SAY_PID);
    let (code, _) = failure(&script.server().await.ask("m").await);
    assert_eq!(code, code::LINGERED);
    script.assert_gone();

    let script = stays(SAY_RESULT);
    let events = script.server().await.ask("m").await;
    assert_eq!(result(&events)["finalText"], "done", "its answer was whole");
    script.assert_gone();
}

#[tokio::test]
async fn a_reader_that_is_slow_loses_nothing_of_a_program_that_has_ended() {
    let lines = "i=0; while [ $i -lt 700 ]; do echo '{\"type\":\"n\",\"data\":\"0123456789012345678901234567890123456789\"}'; i=$((i+1)); done";
    let script = Script::new(lines);
    let mut events = Box::pin(script.command.run(request("m").into()));
    let mut count = 0;
    while let Some(event) = events.next().await {
        event.unwrap();
        count += 1;
        if count == 1 {
            script.gone().await;
        }
        if count == 400 {
            // Longer than the agent waits for more.
            tokio::time::sleep(Duration::from_millis(1_200)).await;
        }
    }
    assert_eq!(count, 700);
}

#[tokio::test]
async fn the_environment_is_an_allow_list() {
    let print = "names=$(env | sed -n 's/=.*//p' | sort | tr '\\n' ' '); printf '{\"type\":\"names\",\"data\":\"%s\"}' \"$names\"";
    let script = Script::new(print);
    let command = script.command.clone().pass_env("CARGO_MANIFEST_DIR");
    let events = Server::with(command).await.ask("m").await;
    let names = data(&events[1]);
    let names: HashSet<_> = names.as_str().unwrap().split_whitespace().collect();
    for name in ["PATH", "CARGO_MANIFEST_DIR", "TURNKIT_EXECUTION_ID", "TURNKIT_TEST_MARK"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    // The shell itself sets the last three.
    let known = [
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "CARGO_MANIFEST_DIR",
        "TURNKIT_EXECUTION_ID",
        "TURNKIT_TEST_MARK",
        "PWD",
        "OLDPWD",
        "_",
        "SHLVL",
    ];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some() && !names.contains("CARGO_PKG_NAME"));
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_the_run_without_naming_it() {
    let command = Command::new("/nowhere/secret-agent");
    assert_eq!(command.locate().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let (code, message) = failure(&Server::with(command).await.ask("m").await);
    assert_eq!(code, code::NOT_STARTED);
    assert!(!message.contains("secret-agent"), "{message}");
}

#[test]
fn a_program_is_located_as_it_would_be_run() {
    assert!(Command::new("sh").locate().unwrap().is_absolute());
    assert!(Command::new(example("agent.sh")).locate().is_ok());
    assert!(Command::new("./agent.sh").current_dir(example("")).locate().is_ok());
    let kind = |command: Command| command.locate().unwrap_err().kind();
    assert_eq!(kind(Command::new("no-such-program-anywhere")), std::io::ErrorKind::NotFound);
    assert_eq!(kind(Command::new(example(""))), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn no_value_of_a_variable_is_printed() {
    let command = Command::new("sh").env("KEY", "s3cret");
    let printed = format!("{command:?}");
    assert!(printed.contains("KEY") && !printed.contains("s3cret"), "{printed}");
}

/// What is logged in this thread.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let logs = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || logs.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn lines_with(&self, text: &str) -> Vec<String> {
        let logged = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = logged.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }

    fn longest(&self) -> usize {
        let logged = self.0.lock().unwrap();
        logged.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap()
    }
}

impl std::io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
