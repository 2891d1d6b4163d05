//! The example of `turnkit-chat`, with `turnkit substrate` as a second process and `turnkit chat` as its client: killed in the middle
//! of its turns and started again, it loses no answer, bills each once, and asks no agent twice (PROTOCOL 4.3).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use futures::future::join_all;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use turnkit_chat::sqlite::rusqlite::Connection;
use turnkit_client::{Client, Error, NewTurn, SessionState, Turn, Update};

const TURNS: usize = 20;
/// Only a test that hangs waits so long.
const HANG: Duration = Duration::from_secs(60);

/// An agent as a program: it writes its request down and says ten words. After the fifth it waits for the file `gate-1`, after the
/// eighth for `gate-2`.
const AGENT: &str = r#"
read -r request && printf '%s\n' "$request" >> "$0/runs"
say() { printf '{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"word "}}\n'; }
pass() { while [ -d "$0" ] && [ ! -e "$0/$1" ]; do sleep 0.05; done; }
say; say; say; say; say; pass gate-1; say; say; say; pass gate-2; say; say
"#;

/// A directory with a shop in it, and its agents.
struct Place {
    folder: TempDir,
    substrate: Process,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("runs"), "").unwrap();
        let mut command = turnkit();
        command.args(["substrate", "--listen", "127.0.0.1:0", "--agent", "command"]);
        command.args(["--command", "sh", "-c", AGENT]).arg(folder.path());
        Place { substrate: Process::start(&mut command), folder }
    }

    /// The shop, at an address of its choice or at this one.
    fn shop(&self, listen: &str) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_example-shop"));
        command.arg(self.file()).arg(&self.substrate.url).arg(listen);
        Process::start(&mut command)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    fn open(&self, gate: &str) {
        fs::write(self.folder.path().join(gate), "").unwrap();
    }

    /// The execution of each run of the agent.
    fn runs(&self) -> Vec<String> {
        let runs = fs::read_to_string(self.folder.path().join("runs")).unwrap();
        let requests = runs.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        requests.map(|request| request["executionId"].as_str().unwrap().to_owned()).collect()
    }

    fn count(&self, sql: &str) -> usize {
        let database = Connection::open(self.file()).unwrap();
        database.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize
    }
}

/// The program, without what the environment may say about it.
fn turnkit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_the-program-turnkit"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TURNKIT_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A server as a process.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().rsplit_once("listening on ").expect("it listens").1.to_owned();
        Process { child, url }
    }

    fn address(&self) -> String {
        self.url.strip_prefix("http://").unwrap().to_owned()
    }

    fn client(&self, user: &str) -> Client {
        Client::builder(&self.url).bearer_token(user).build().unwrap()
    }
}

/// As `kill -9` does it: nothing of it cleans up.
impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Reads until there are so many events.
async fn read(turn: &mut Turn, events: u64) {
    while turn.cursor() < events {
        timeout(HANG, turn.next()).await.unwrap().unwrap().expect("the turn goes on");
    }
}

/// Reads to the end, which is a saved answer, and gives the cursor of each event that has come since.
async fn complete(turn: &mut Turn) -> Vec<u64> {
    let mut cursors = Vec::new();
    loop {
        match timeout(HANG, turn.next()).await.unwrap().unwrap() {
            Some(Update::Event { cursor, .. }) => cursors.push(cursor),
            Some(Update::Completed { replayed: false, .. }) => return cursors,
            Some(Update::Connected { .. } | Update::Disconnected { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The session, once its turn has ended.
async fn at_rest(client: &Client, session: &str) -> SessionState {
    let asked = async {
        loop {
            let state = client.session(session, None).await.unwrap();
            if state.turns.is_empty() {
                return state;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_example_that_is_killed_loses_no_answer_and_bills_each_once() {
    let place = Place::new();
    let shop = place.shop("127.0.0.1:0");
    let (address, ann) = (shop.address(), shop.client("ann"));
    let sessions = join_all((0..TURNS).map(|_| ann.create_session())).await;
    let sessions: Vec<String> = sessions.into_iter().map(Result::unwrap).collect();
    let turns = sessions.iter().map(|session| ann.send(session, &NewTurn::new("t", "hello")));
    let mut turns: Vec<Turn> = turns.map(Result::unwrap).collect();
    join_all(turns.iter_mut().map(|turn| read(turn, 6))).await;
    // Half of the clients never come back.
    turns.truncate(TURNS / 2);
    assert_eq!(place.count("SELECT count(*) FROM bills"), 0, "all are in the middle");
    drop(shop);
    let _shop = place.shop(&address);
    place.open("gate-1");
    join_all(turns.iter_mut().map(|turn| read(turn, 9))).await;
    place.open("gate-2");
    for cursors in join_all(turns.iter_mut().map(complete)).await {
        assert_eq!(cursors, [10, 11], "each event once, over both processes");
    }
    for session in &sessions {
        let state = at_rest(&ann, session).await;
        let [_, answer] = &state.messages[..] else { panic!("{state:?}") };
        let whole = ("complete", "word ".repeat(10));
        assert_eq!((answer.status.as_str(), answer.text.clone()), whole);
    }
    assert_eq!(place.count("SELECT count(*) FROM bills"), TURNS);
    assert_eq!(place.count("SELECT left FROM credits WHERE user = 'ann'"), 100 - TURNS);
    let runs = place.runs();
    let executions: BTreeSet<_> = runs.iter().collect();
    assert_eq!((runs.len(), executions.len()), (TURNS, TURNS), "no agent ran twice");
}

#[tokio::test]
async fn an_example_whose_user_has_no_credit_keeps_nothing_of_the_turn() {
    let place = Place::new();
    let shop = place.shop("127.0.0.1:0");
    let bob = shop.client("bob");
    let session = bob.create_session().await.unwrap();
    let database = Connection::open(place.file()).unwrap();
    database.execute("INSERT INTO credits VALUES ('bob', 0)", []).unwrap();
    let refused = bob.start(&session, &NewTurn::new("t", "hello")).await;
    let Err(Error::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.status(), refusal.code()), (402, "no_credit"));
    let state = bob.session(&session, None).await.unwrap();
    assert_eq!((state.messages, state.turns), (Vec::new(), Vec::new()));
    assert_eq!(place.runs(), [""; 0]);
}

/// `turnkit chat` with a message, as `ann`, until it has shown `lines` lines.
fn chat(shop: &Process, lines: usize) -> (Child, BufReader<ChildStdout>, Vec<String>) {
    let mut command = turnkit();
    command.args(["chat", "--json", "--server", &shop.url, "--token", "ann", "hello"]);
    let mut chat = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(chat.stdout.take().unwrap());
    let lines = (0..lines).map(|_| next_line(&mut shown)).collect();
    (chat, shown, lines)
}

fn next_line(shown: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    line
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_terminal_client_goes_on_where_the_killed_example_was() {
    let place = Place::new();
    let shop = place.shop("127.0.0.1:0");
    let (mut chat, mut shown, mut lines) = chat(&shop, 6);
    let address = shop.address();
    drop(shop);
    let _shop = place.shop(&address);
    place.open("gate-1");
    lines.push(next_line(&mut shown));
    place.open("gate-2");
    lines.extend(shown.lines().map(Result::unwrap));
    let mut noted = String::new();
    chat.stderr.take().unwrap().read_to_string(&mut noted).unwrap();
    assert_eq!(chat.wait().unwrap().code(), Some(0), "{noted}");
    let kinds: Vec<_> = parsed(&lines).iter().map(|event| event["type"].clone()).collect();
    let [first, words @ .., last] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!((first, last), (&"session.run.started".into(), &"session.run.completed".into()));
    assert_eq!(words, vec![Value::from("message.part.updated"); 10]);
    assert!(noted.contains("connection lost after 6 events, taking it up again"), "{noted}");
    assert_eq!((place.runs().len(), place.count("SELECT count(*) FROM bills")), (1, 1));
}

#[tokio::test]
async fn the_terminal_client_stops_a_turn_of_the_example() {
    let place = Place::new();
    let shop = place.shop("127.0.0.1:0");
    let (mut chat, shown, lines) = chat(&shop, 6);
    let session = parsed(&lines)[0]["data"]["sessionId"].as_str().unwrap().to_owned();
    let told = Command::new("kill").args(["-INT", &chat.id().to_string()]).status().unwrap();
    assert!(told.success());
    let rest: Vec<_> = shown.lines().map(Result::unwrap).collect();
    assert_eq!(chat.wait().unwrap().code(), Some(130), "stopped by Ctrl-C");
    let last = parsed(&rest).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["data"]["code"]),
        (&"session.run.failed".into(), &"cancelled".into())
    );
    let state = at_rest(&shop.client("ann"), &session).await;
    let [_, answer] = &state.messages[..] else { panic!("{state:?}") };
    assert_eq!((answer.status.as_str(), answer.text.as_str()), ("stopped", &*"word ".repeat(5)));
    assert_eq!(place.count("SELECT count(*) FROM bills"), 0, "what is not saved is not billed");
}
