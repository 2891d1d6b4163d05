//! Servers that are told to stop while a turn runs.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use turnkit_agents::demo::Demo;
use turnkit_chat::sqlite::rusqlite::Connection;
use turnkit_server::{Agents, Server, ServerConfig, SubstrateChoice};
use turnkit_substrate::{Agent, AgentError, Run};
use turnkit_wire::Event;

use crate::support::{Client, TestServer, TestSubstrate, failure, is_complete, message, parse};

/// The turns of these tests run longer.
const GRACE: Duration = Duration::from_millis(50);

async fn serve(data_dir: &TempDir, substrate: SubstrateChoice) -> (Server, Client) {
    let config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir.path(), substrate);
    let server = Server::start(config).await.unwrap();
    let client = Client::new(server.url());
    (server, client)
}

/// Says 4,000 parts of 40 bytes at once, and counts how often it has done so.
#[derive(Clone, Default)]
struct Talker {
    done: Arc<watch::Sender<usize>>,
}

impl Agent for Talker {
    fn run(
        &self,
        _: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let done = Arc::clone(&self.done);
        stream::unfold(0, move |at| {
            if at == 4_000 {
                done.send_modify(|done| *done += 1);
                return std::future::ready(None);
            }
            // What a line has besides its text makes sure that no buffer on the way takes all of them.
            let part = json!({ "id": "p", "type": "text", "note": "x".repeat(400) });
            let data = json!({ "part": part, "delta": "o".repeat(40) });
            let event = Event::new("message.part.updated", &data).unwrap();
            std::future::ready(Some((Ok(event), at + 1)))
        })
    }
}

/// Asks for a turn in a new session, and reads nothing of it.
async fn ask_and_do_not_read(server: &Server, client: &Client) -> TcpStream {
    let session = client.session().await;
    let address = server.url().strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address).await.unwrap().into_std().unwrap();
    let body = json!({ "turnId": "t", "message": "hello" }).to_string();
    write!(
        stream,
        "POST /api/sessions/{session}/turns HTTP/1.1\r\nhost: {address}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    TcpStream::from_std(stream).unwrap()
}

fn text_of(lines: &[String]) -> String {
    let deltas = lines.iter().map(|line| parse(line));
    let deltas = deltas.filter(|line| line["data"]["part"]["type"] == "text");
    deltas.filter_map(|line| Some(line["data"]["delta"].as_str()?.to_owned())).collect()
}

/// The files in it and below, by name.
fn files(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().unwrap().map(Result::unwrap);
    let files = entries.flat_map(|entry| {
        if entry.path().is_dir() {
            files(&entry.path())
        } else {
            vec![entry.file_name().into_string().unwrap()]
        }
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_turn_that_outlives_the_grace_fails_and_its_client_and_its_row_say_so() {
    let data_dir = tempfile::tempdir().unwrap();
    let agents = Agents::new("demo", Demo::new().pace(Duration::from_millis(100)));
    let (server, client) = serve(&data_dir, SubstrateChoice::Embedded(agents)).await;
    let session = client.session().await;
    let mut body = client.turn(&session, "t", "long").await;
    let before = body.take(12).await;
    let (lines, _) = tokio::join!(body.all(), server.stop(GRACE));
    let lines = [before, lines].concat();
    assert_eq!(failure(&lines), ("shutting_down".to_owned(), false));

    let database = Connection::open(data_dir.path().join("turnkit.db")).unwrap();
    let query = "SELECT state, failure_code, text, status FROM turnkit_turns JOIN turnkit_messages USING (session_id) WHERE role = 'assistant'";
    let row: [String; 4] = database
        .query_row(query, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
        .unwrap();
    let text = text_of(&lines);
    assert_eq!(row, ["failed", "shutting_down", &text, "failed"]);
}

#[tokio::test]
async fn a_turn_at_another_substrate_outlives_the_server() {
    let data_dir = tempfile::tempdir().unwrap();
    let substrate = TestSubstrate::start().await;
    let at = SubstrateChoice::At { url: substrate.url.clone(), token: None };
    let (server, client) = serve(&data_dir, at).await;
    let session = client.session().await;
    let mut body = client.turn(&session, "t", "hello").await;
    substrate.allow(2);
    body.take(3).await;
    server.stop(GRACE).await;
    assert_eq!(files(data_dir.path()), ["turnkit.db"], "something is left at work");
    while let Ok(line) = body.0.next().await {
        assert!(line.is_some(), "a cut body must not look whole");
    }

    let next = TestServer::start(data_dir.path(), &substrate).await;
    substrate.allow(3);
    let rest = next.client.resume(&session, "t", 3).await.all().await;
    assert!(is_complete(&rest), "{rest:?}");
    let saved = next.client.messages(&session).await;
    assert_eq!(saved[1], message("assistant", crate::support::TEXT, "complete"));
    assert_eq!(substrate.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_costs_nobody_the_answer() {
    let data_dir = tempfile::tempdir().unwrap();
    let talker = Talker::default();
    let agents = Agents::new("talker", talker.clone());
    let (server, client) = serve(&data_dir, SubstrateChoice::Embedded(agents)).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(ask_and_do_not_read(&server, &client).await);
    }
    talker.done.subscribe().wait_for(|done| *done == stalled.len()).await.unwrap();
    let ended = server.stop(Duration::from_secs(3)).await;
    assert_eq!(ended.open, 0);

    let database = Connection::open(data_dir.path().join("turnkit.db")).unwrap();
    let query =
        "SELECT count(*) FROM turnkit_messages WHERE status = 'complete' AND length(text) = 160000";
    let saved: i64 = database.query_row(query, [], |row| row.get(0)).unwrap();
    assert_eq!(usize::try_from(saved), Ok(stalled.len()));
}

#[tokio::test]
async fn answers_that_the_database_does_not_take_are_told_by_their_number() {
    let data_dir = tempfile::tempdir().unwrap();
    let agents = Agents::new("demo", Demo::new().pace(Duration::from_millis(100)));
    let substrate = SubstrateChoice::Embedded(agents);
    let config = ServerConfig {
        busy_timeout: Duration::from_millis(10),
        ..ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir.path(), substrate)
    };
    let server = Server::start(config).await.unwrap();
    let client = Client::new(server.url());
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let session = client.session().await;
        let mut body = client.turn(&session, "t", "hello").await;
        body.take(2).await;
        bodies.push(body);
    }
    let other = Connection::open(data_dir.path().join("turnkit.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ended = server.stop(Duration::from_secs(10)).await;
    assert_eq!(ended.open, bodies.len());
}
