//! Processes that are killed in the middle of turns.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Process;

const TURNS: usize = 12;

async fn get(client: &Client, url: String) -> Value {
    serde_json::from_str(&client.get(url).send().await.unwrap().text().await.unwrap()).unwrap()
}

/// A new session and a turn in it, of which `count` lines are read.
async fn begin(client: &Client, server: &str, count: usize) -> (String, Vec<String>) {
    let session =
        client.post(format!("{server}/api/sessions")).send().await.unwrap().text().await.unwrap();
    let session =
        serde_json::from_str::<Value>(&session).unwrap()["sessionId"].as_str().unwrap().to_owned();
    let turn = json!({ "turnId": "t", "message": "hello" }).to_string();
    let request = client
        .post(format!("{server}/api/sessions/{session}/turns"))
        .header("content-type", "application/json");
    let mut response = request.body(turn).send().await.unwrap();
    let mut body = Vec::new();
    while body.split(|byte| *byte == b'\n').count() <= count {
        body.extend_from_slice(&response.chunk().await.unwrap().expect("the body has ended"));
    }
    let lines = String::from_utf8_lossy(&body).lines().take(count).map(str::to_owned).collect();
    (session, lines)
}

async fn resume(client: &Client, server: &str, session: &str, after: usize) -> Vec<String> {
    let url = format!("{server}/api/sessions/{session}/turns/t?after={after}");
    let body = client.get(url).send().await.unwrap().text().await.unwrap();
    body.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The assistant's message, once the turn has ended.
async fn answer(client: &Client, server: &str, session: &str) -> Value {
    loop {
        let open = get(client, format!("{server}/api/sessions/{session}/turns?state=open")).await;
        if open["turns"].as_array().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let messages = get(client, format!("{server}/api/sessions/{session}/messages")).await;
    let messages = messages["messages"].as_array().unwrap().clone();
    assert_eq!(messages.len(), 2, "{messages:?}");
    messages[1].clone()
}

/// The text of the lines; of a saved answer, where that has replaced them.
fn drawn(lines: &[String]) -> String {
    if lines.last().is_some_and(|line| line.contains("\"replayed\":true")) {
        let result = serde_json::from_str::<Value>(&lines[lines.len() - 2]).unwrap();
        return result["data"]["finalText"].as_str().unwrap().to_owned();
    }
    let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let texts = events.filter(|event| event["data"]["part"]["type"] == "text");
    texts.filter_map(|event| event["data"]["delta"].as_str().map(str::to_owned)).collect()
}

async fn begin_all(client: &Client, server: &str) -> Vec<(String, Vec<String>)> {
    futures::future::join_all((0..TURNS).map(|_| begin(client, server, 3))).await
}

#[tokio::test]
async fn a_killed_server_loses_no_answer_and_no_line() {
    let (client, data_dir) = (Client::new(), tempfile::tempdir().unwrap());
    let substrate = Process::substrate("30ms");
    let server = Process::serve(&data_dir, &["--substrate", &substrate.url]);
    let begun = begin_all(&client, &server.url).await;
    server.kill();
    let server = Process::serve(&data_dir, &["--substrate", &substrate.url]);
    let (coming_back, staying_away) = begun.split_at(TURNS / 2);
    let resumed = coming_back.iter().map(|(session, _)| resume(&client, &server.url, session, 3));
    for ((session, before), after) in
        coming_back.iter().zip(futures::future::join_all(resumed).await)
    {
        assert!(after.last().unwrap().contains("session.run.completed"), "{after:?}");
        let whole = [before.clone(), after].concat();
        assert_eq!(answer(&client, &server.url, session).await["text"], drawn(&whole));
    }
    for (session, _) in staying_away {
        let answer = answer(&client, &server.url, session).await;
        assert_eq!(answer["status"], "complete");
        assert!(answer["text"].as_str().unwrap().ends_with("runs once."));
    }
    assert_eq!(usize::try_from(saved_answers(&data_dir)), Ok(TURNS));
    assert_eq!(logs(&client, &substrate, &begun).await, TURNS, "one run for each turn");
}

fn saved_answers(data_dir: &TempDir) -> i64 {
    let database = rusqlite::Connection::open(data_dir.path().join("turnkit.db")).unwrap();
    let sql = "SELECT count(*) FROM messages WHERE role = 'assistant' AND status = 'complete'";
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// How many `execution.started` there are in the logs of all turns.
async fn logs(client: &Client, substrate: &Process, turns: &[(String, Vec<String>)]) -> usize {
    let mut started = 0;
    for (session, _) in turns {
        let url = format!("{}/agents/executions/local:{session}:0/stream", substrate.url);
        let log = client.get(url).send().await.unwrap().text().await.unwrap();
        started += log.matches("event: execution.started").count();
    }
    started
}

#[tokio::test]
async fn a_killed_substrate_ends_each_turn_as_lost_and_runs_none_again() {
    let (client, data_dir) = (Client::new(), tempfile::tempdir().unwrap());
    let substrate = Process::substrate("30ms");
    let address = substrate.url.strip_prefix("http://").unwrap().to_owned();
    let server = Process::serve(&data_dir, &["--substrate", &substrate.url]);
    let begun = begin_all(&client, &server.url).await;
    substrate.kill();
    let substrate = Process::start(&["substrate", "--listen", &address, "--demo-pace", "30ms"]);
    for (session, before) in &begun {
        let answer = answer(&client, &server.url, session).await;
        assert_eq!(
            (&answer["status"], &answer["error"]["code"]),
            (&"failed".into(), &"execution_lost".into())
        );
        assert!(
            answer["text"].as_str().unwrap().starts_with(&drawn(before)),
            "partial text is kept"
        );
    }
    assert_eq!(logs(&client, &substrate, &begun).await, 0, "nothing runs a second time");
}
