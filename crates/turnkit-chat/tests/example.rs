//! The example is killed in the middle of its turns and started again: each answer is saved, each saved answer is billed, and
//! no agent ran twice (PROTOCOL 4.3).

#![cfg(all(feature = "axum", feature = "bundled"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use turnkit_chat::sqlite::rusqlite::Connection;
use turnkit_substrate::{Agent, AgentError, Run, Substrate};
use turnkit_wire::{Event, write::Part};

const TURNS: usize = 20;
/// Only a test that hangs waits so long.
const HANG: Duration = Duration::from_secs(60);

/// Says ten words, slowly enough to be killed in between.
#[derive(Clone)]
struct Slow;

impl Agent for Slow {
    fn run(
        &self,
        _: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        stream::unfold(0, async |said| {
            if said == 10 {
                return None;
            }
            sleep(Duration::from_millis(100)).await;
            Some((Ok(Part::new("p").text_delta("word ")), said + 1))
        })
    }
}

/// A process of the example.
struct Shop {
    process: Child,
    url: String,
}

impl Shop {
    fn start(file: &Path, substrate: &str) -> Shop {
        let tests = std::env::current_exe().unwrap();
        let example = tests.ancestors().nth(2).unwrap().join("examples/axum");
        let mut command = Command::new(&example);
        command.arg(file).arg(substrate).arg("127.0.0.1:0").stdout(Stdio::piped());
        let hint = "the example, which cargo test builds with the features axum and bundled";
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{hint}: {error}"));
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Shop { process, url }
    }

    async fn ask(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Response {
        let url = format!("{}{path}", self.url);
        let request =
            reqwest::Client::new().request(method.parse().unwrap(), url).bearer_auth(user);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.unwrap()
    }

    async fn session(&self, user: &str) -> String {
        let opened = self.ask(user, "POST", "/api/sessions", Some(json!({}))).await;
        let opened: Value = opened.json().await.unwrap();
        opened["sessionId"].as_str().unwrap().to_owned()
    }
}

/// As `kill -9` does it: nothing of it cleans up.
impl Drop for Shop {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_example_that_is_killed_loses_no_answer_and_bills_each_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.db");
    let substrate = Substrate::builder().agent("default", Slow).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = substrate.router();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });

    let shop = Shop::start(&file, &url);
    let sessions: Vec<String> = join_all((0..TURNS).map(|_| shop.session("ann"))).await;
    let turn = json!({ "turnId": "t", "message": "hello" });
    let started = join_all(sessions.iter().map(async |session| {
        let path = format!("/api/sessions/{session}/turns");
        shop.ask("ann", "POST", &path, Some(turn.clone())).await
    }));
    assert!(started.await.iter().all(|answer| answer.status() == 200));
    sleep(Duration::from_millis(300)).await;
    drop(shop);

    let shop = Shop::start(&file, &url);
    let answers = join_all(sessions.iter().map(async |session| {
        loop {
            let state = shop.ask("ann", "GET", &format!("/api/sessions/{session}"), None).await;
            let state: Value = state.json().await.unwrap();
            if let Some(answer) = state["messages"].get(1) {
                return answer.clone();
            }
            sleep(Duration::from_millis(50)).await;
        }
    }));
    for answer in timeout(HANG, answers).await.unwrap() {
        assert_eq!(
            (&answer["status"], &answer["text"]),
            (&json!("complete"), &json!("word ".repeat(10)))
        );
    }
    let database = Connection::open(&file).unwrap();
    let count =
        |sql: &str| database.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
    assert_eq!(count("SELECT count(*) FROM bills"), TURNS);
    assert_eq!(count("SELECT left FROM credits WHERE user = 'ann'"), 100 - TURNS);
    assert_eq!(substrate.stats().runs_started, TURNS as u64, "no agent ran twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_example_whose_user_has_no_credit_keeps_nothing_of_the_turn() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.db");
    let substrate = Substrate::builder().agent("default", Slow).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = substrate.router();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let shop = Shop::start(&file, &url);
    let session = shop.session("bob").await;
    let database = Connection::open(&file).unwrap();
    database.execute("INSERT INTO credits VALUES ('bob', 0)", []).unwrap();
    let turn = json!({ "turnId": "t", "message": "hello" });
    let refused =
        shop.ask("bob", "POST", &format!("/api/sessions/{session}/turns"), Some(turn)).await;
    assert_eq!(refused.status(), 402);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["error"]["code"], "no_credit");
    let state: Value = shop
        .ask("bob", "GET", &format!("/api/sessions/{session}"), None)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!((&state["messages"], &state["turns"]), (&json!([]), &json!([])));
    assert_eq!(substrate.stats().runs_started, 0);
    let stranger = shop.ask("eve", "GET", &format!("/api/sessions/{session}"), None).await;
    assert_eq!(stranger.status(), 404);
}
