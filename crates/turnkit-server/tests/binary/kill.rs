//! Processes that are killed in the middle of a hundred turns.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tempfile::TempDir;
use turnkit_client::{Client, Message, NewTurn, TurnBody};
use turnkit_wire::sse;

use crate::support::{Process, http, runs};

const TURNS: usize = 100;

/// Lines that each client has read before somebody is killed.
const READ: usize = 3;

/// Slow enough that no turn is over before all have begun.
const PACE: &str = "25ms";

/// A client in the middle of its turn, over one connection.
pub(crate) struct Reader {
    pub(crate) session: String,
    body: TurnBody,
    lines: Vec<String>,
}

impl Reader {
    /// A new session and a turn in it, which is read until a few lines are there.
    pub(crate) async fn begin(client: &Client) -> Reader {
        let session = client.create_session().await.unwrap();
        let body = client.start(&session, &NewTurn::new("t", "a long answer")).await.unwrap();
        let mut reader = Reader { session, body, lines: Vec::new() };
        while reader.lines.len() < READ {
            assert!(reader.read().await, "the body has ended");
        }
        reader
    }

    async fn begin_all(client: &Client) -> Vec<Reader> {
        join_all((0..TURNS).map(|_| Reader::begin(client))).await
    }

    /// One line more of the body; false where it is over or broke off.
    async fn read(&mut self) -> bool {
        let line = self.body.next().await.ok().flatten();
        self.lines.extend(line.as_ref().map(|line| line.as_json().to_owned()));
        line.is_some()
    }

    /// All lines up to the end.
    async fn rest(mut self) -> (String, Vec<String>) {
        while self.read().await {}
        (self.session, self.lines)
    }
}

pub(crate) fn client(server: &Process) -> Client {
    Client::builder(&server.url).build().unwrap()
}

/// The assistant's message, once the turn has ended.
pub(crate) async fn answer(client: &Client, session: &str) -> Message {
    while !client.open_turns(session).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut messages = client.messages(session, None).await.unwrap();
    assert_eq!(messages.len(), 2, "{messages:?}");
    messages.remove(1)
}

/// What the execution's log has for clients.
pub(crate) async fn logged(substrate: &str, session: &str) -> Vec<String> {
    let url = format!("{substrate}/agents/executions/local:{session}:0/stream");
    let body = http().get(url).send().await.unwrap().bytes().await.unwrap();
    let mut decoder = sse::Decoder::new();
    decoder.push(body);
    let events = std::iter::from_fn(|| decoder.next_event()).map(Result::unwrap);
    let forwarded = events.filter(|event| !event.kind().starts_with("execution."));
    forwarded.map(|event| event.as_json().to_owned()).collect()
}

/// The text of the lines.
pub(crate) fn drawn(lines: &[String]) -> String {
    let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let texts = events.filter(|event| event["data"]["part"]["type"] == "text");
    texts.filter_map(|event| event["data"]["delta"].as_str().map(str::to_owned)).collect()
}

fn kind(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
}

fn saved_answers(data_dir: &TempDir, condition: &str) -> usize {
    let database =
        turnkit_chat::sqlite::rusqlite::Connection::open(data_dir.path().join("turnkit.db"))
            .unwrap();
    let sql =
        format!("SELECT count(*) FROM turnkit_messages WHERE role = 'assistant' AND {condition}");
    database.query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize
}

fn serve(data_dir: &TempDir, substrate: &Process) -> Process {
    Process::serve(data_dir, &["--substrate", &substrate.url])
}

#[tokio::test]
async fn a_killed_server_loses_no_answer_and_no_line() {
    let data_dir = tempfile::tempdir().unwrap();
    let log = data_dir.path().join("substrate.log");
    let substrate = Process::counted_substrate("127.0.0.1:0", PACE, &log);
    let server = serve(&data_dir, &substrate);
    let mut readers = Reader::begin_all(&client(&server)).await;
    server.kill();
    assert_eq!(saved_answers(&data_dir, "true"), 0, "all are in the middle");
    let server = serve(&data_dir, &substrate);
    let client = client(&server);
    let staying_away: Vec<_> = readers.drain(TURNS / 2..).map(|reader| reader.session).collect();
    join_all(readers.into_iter().map(|reader| comes_back(&client, reader, &substrate))).await;
    for session in &staying_away {
        let answer = answer(&client, session).await;
        assert_eq!(answer.text, drawn(&logged(&substrate.url, session).await));
    }
    assert_eq!(saved_answers(&data_dir, "status = 'complete'"), TURNS);
    assert_eq!(saved_answers(&data_dir, "true"), TURNS);
    assert_eq!(runs(&log), TURNS, "one run for each turn");
}

/// A client goes on with its cursor at the new server: it has every event of the log, once and in order.
pub(crate) async fn comes_back(client: &Client, reader: Reader, substrate: &Process) {
    let (session, before) = reader.rest().await;
    let body = client.resume(&session, "t", before.len() as u64).await.unwrap();
    let (session, whole) = Reader { session, body, lines: before }.rest().await;
    let [started, events @ .., completed] = &whole[..] else { panic!("{whole:?}") };
    assert_eq!(kind(started), "session.run.started");
    assert_eq!(kind(completed), "session.run.completed");
    assert_eq!(events, logged(&substrate.url, &session).await);
    assert_eq!(answer(client, &session).await.text, drawn(events));
}

#[tokio::test]
async fn a_killed_substrate_ends_each_turn_as_lost_and_runs_none_again() {
    let data_dir = tempfile::tempdir().unwrap();
    let logs = ["first", "second"].map(|name| data_dir.path().join(name));
    let substrate = Process::counted_substrate("127.0.0.1:0", PACE, &logs[0]);
    let address = substrate.url.strip_prefix("http://").unwrap().to_owned();
    let server = serve(&data_dir, &substrate);
    let client = client(&server);
    let readers = Reader::begin_all(&client).await;
    substrate.kill();
    let _substrate = Process::counted_substrate(&address, PACE, &logs[1]);
    join_all(readers.into_iter().map(|reader| is_told_that_it_is_lost(&client, reader))).await;
    assert_eq!(saved_answers(&data_dir, "status = 'failed'"), TURNS);
    assert_eq!(saved_answers(&data_dir, "true"), TURNS);
    assert_eq!(each_ran(&logs), [TURNS, 0], "no agent runs twice");
}

async fn is_told_that_it_is_lost(client: &Client, reader: Reader) {
    let (session, lines) = reader.rest().await;
    let kinds: Vec<_> = lines.iter().map(|line| kind(line)).collect();
    let (events, ending) = kinds.split_at(kinds.len() - 2);
    assert_eq!(ending, ["error", "session.run.failed"]);
    assert!(events[1..].iter().all(|kind| kind == "message.part.updated"), "{events:?}");
    let failed: Value = serde_json::from_str(&lines[kinds.len() - 1]).unwrap();
    assert_eq!(failed["data"]["code"], "execution_lost");
    let answer = answer(client, &session).await;
    assert_eq!(answer.error.unwrap().code.as_deref(), Some("execution_lost"));
    assert_eq!(answer.text, drawn(&lines), "what was read is kept, and nothing else");
}

fn each_ran(logs: &[impl AsRef<Path>; 2]) -> [usize; 2] {
    [runs(logs[0].as_ref()), runs(logs[1].as_ref())]
}
