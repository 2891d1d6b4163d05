//! Servers that are told to stop while a turn runs.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use turnkit_agents::demo::Demo;
use turnkit_chat::sqlite::rusqlite::Connection;
use turnkit_server::{Agents, Server, ServerConfig, SubstrateChoice};

use crate::support::{Client, TestServer, TestSubstrate, failure, is_complete, message, parse};

/// The turns of these tests run longer.
const GRACE: Duration = Duration::from_millis(50);

async fn serve(data_dir: &TempDir, substrate: SubstrateChoice) -> (Server, Client) {
    let config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir.path(), substrate);
    let server = Server::start(config).await.unwrap();
    let client = Client::new(server.url());
    (server, client)
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
    let (lines, ()) = tokio::join!(body.all(), server.stop(GRACE));
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
