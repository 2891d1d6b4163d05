//! What is deleted: nothing of it stays, in the database's files or in the log.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use turnkit_chat::sqlite::rusqlite::Connection;
use turnkit_id::ExecutionId;
use turnkit_server::{ServerConfig, SubstrateChoice};

use crate::support::{BUSY, Client, Rig, TestServer, TestSubstrate, failure};

/// What is looked for.
const MARK: &str = "xylophone-of-a-secret";

/// How often the mark stands in the files of a directory.
fn marks(directory: &Path) -> usize {
    let entries = directory.read_dir().unwrap().map(Result::unwrap);
    let in_file = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(MARK.len()).filter(|window| *window == MARK.as_bytes()).count()
    };
    let count = |path: &Path| if path.is_dir() { marks(path) } else { in_file(path) };
    entries.map(|entry| count(&entry.path())).sum()
}

async fn delete(client: &Client, path: &str) -> StatusCode {
    client.http.delete(format!("{}/api/{path}", client.url)).send().await.unwrap().status()
}

/// A session of turns whose messages, some of them longer than a page of the database, hold the mark; another one waits.
async fn marked(client: &Client, substrate: &TestSubstrate) -> String {
    let session = client.session().await;
    for number in 0..12 {
        substrate.allow(5);
        let filler = "f".repeat(if number % 3 == 0 { 9_000 } else { 70 });
        let message = format!("{MARK} {number} {filler} {MARK}");
        client.turn(&session, &format!("t{number}"), &message).await.all().await;
    }
    let _open = client.turn(&session, "open", &format!("{MARK} open")).await;
    let waits = json!({ "turnId": "waits", "message": format!("{MARK} waits"), "queue": true });
    client.post(&format!("/{session}/turns"), &waits).await;
    let edited = json!({ "message": format!("{MARK} edited") });
    let path = client.at(&format!("/{session}/turns/waits"));
    let request = client.http.patch(path).header("content-type", "application/json");
    request.body(edited.to_string()).send().await.unwrap();
    session
}

#[tokio::test]
async fn a_deleted_session_leaves_nothing_in_the_files_and_nothing_in_the_log() {
    let rig = Rig::start().await;
    let client = rig.client();
    // What is deleted lies among what stays.
    let kept = client.session().await;
    rig.substrate.allow(5);
    client.turn(&kept, "t", "hello").await.all().await;
    let session = marked(client, &rig.substrate).await;
    let lines = client.resume(&session, "open", 0).await;
    assert!(marks(rig.data_dir.path()) > 12, "what is looked for can be found");
    assert_eq!(delete(client, &format!("sessions/{session}")).await, StatusCode::NO_CONTENT);
    assert_eq!(failure(&lines.all().await), ("session_deleted".to_owned(), false));
    assert_eq!(marks(rig.data_dir.path()), 0);
    assert_eq!(delete(client, &format!("sessions/{session}")).await, StatusCode::NO_CONTENT);
    assert_eq!(delete(client, "sessions/none").await, StatusCode::NOT_FOUND);
    assert_eq!(client.get(&format!("/{session}/messages")).await.status(), StatusCode::NOT_FOUND);
    for index in [0, 12] {
        let id = ExecutionId::derive("local", &session, index).unwrap();
        let status = || async {
            let url = format!(
                "{}/agents/executions/{}",
                rig.substrate.url,
                id.as_str().replace(':', "%3A")
            );
            client.http.get(url).send().await.unwrap().status()
        };
        while status().await != StatusCode::GONE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(client.messages(&kept).await.len(), 2);
    let runs = rig.substrate.runs();
    let again = json!({ "turnId": "open", "message": format!("{MARK} open") });
    let refused = client.post(&format!("/{session}/turns"), &again).await;
    assert_eq!((refused.status(), rig.substrate.runs()), (StatusCode::NOT_FOUND, runs));
}

#[tokio::test]
async fn what_a_user_deletes_is_gone_although_the_server_dies_before_the_substrate_hears_of_it() {
    let rig = Rig::start().await;
    let session = marked(rig.client(), &rig.substrate).await;
    assert_eq!(delete(rig.client(), "me").await, StatusCode::NO_CONTENT);
    rig.server.kill().await;
    let next = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    assert_eq!(marks(rig.data_dir.path()), 0);
    assert_eq!(next.client.get(&format!("/{session}")).await.status(), StatusCode::NOT_FOUND);
    let left = || {
        let database = Connection::open(rig.data_dir.path().join("turnkit.db")).unwrap();
        database.busy_timeout(BUSY).unwrap();
        let sql = "SELECT count(*) FROM turnkit_deleted_executions WHERE erased = 0";
        database.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    while left() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_older_than_its_time_goes_by_itself() {
    let rig = Rig::start().await;
    let old = marked(rig.client(), &rig.substrate).await;
    let new = rig.client().session().await;
    rig.server.kill().await;
    let database = Connection::open(rig.data_dir.path().join("turnkit.db")).unwrap();
    let sql = "UPDATE turnkit_sessions SET active_at = active_at - 8000000 WHERE id = ?1";
    database.execute(sql, [&old]).unwrap();
    drop(database);
    let substrate = SubstrateChoice::At { url: rig.substrate.url.clone(), token: None };
    let config = ServerConfig {
        retention: Some(Duration::from_secs(7_200)),
        ..ServerConfig::new("127.0.0.1:0".parse().unwrap(), rig.data_dir.path(), substrate)
    };
    let next = TestServer::run(config).await;
    while next.client.get(&format!("/{old}")).await.status() != StatusCode::NOT_FOUND
        || marks(rig.data_dir.path()) > 0
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(next.client.get(&format!("/{new}")).await.status(), StatusCode::OK);
}
