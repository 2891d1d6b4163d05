//! A substrate whose agent speaks when the test says so, servers in front of it that can be killed, and a plain client.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use futures_util::stream;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use turnkit_client::{Cancelled, NewTurn, OpenTurn, TurnBody};
use turnkit_server::{Server, ServerConfig, SubstrateChoice};
use turnkit_substrate::{Agent, AgentError, Run, Substrate, SubstrateBuilder};
use turnkit_wire::Event;

/// Only a test that hangs waits so long.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// How long a write waits for another process's.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

pub(crate) const TEXT: &str = "w0 w1 w2 w3 ";

/// Says four words, each when it is let to, and then ends; or fails after them, where the message asks for it.
#[derive(Clone)]
struct Words {
    gate: Arc<Semaphore>,
}

impl Agent for Words {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let (gate, fails) = (Arc::clone(&self.gate), run.request().message().contains("fail"));
        stream::unfold(0, move |at| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                match at {
                    0..4 => Some((Ok(word(at)), at + 1)),
                    4 if fails => {
                        Some((Err(AgentError::new("out_of_words", "there are no more words")), 5))
                    }
                    _ => None,
                }
            }
        })
    }
}

fn word(at: usize) -> Event {
    let data = json!({ "part": { "id": "p", "type": "text" }, "delta": format!("w{at} ") });
    Event::new("message.part.updated", &data).unwrap()
}

/// A substrate on a port of its own.
pub(crate) struct TestSubstrate {
    pub(crate) url: String,
    substrate: Substrate,
    gate: Arc<Semaphore>,
    requests: Arc<watch::Sender<usize>>,
}

impl TestSubstrate {
    pub(crate) async fn start() -> TestSubstrate {
        TestSubstrate::behind(|router| router).await
    }

    /// With something before its routes.
    pub(crate) async fn behind(wrap: impl FnOnce(Router) -> Router) -> TestSubstrate {
        TestSubstrate::with(|substrate| substrate, wrap).await
    }

    /// With more agents than the one of this test.
    pub(crate) async fn with_agents(
        add: impl FnOnce(SubstrateBuilder) -> SubstrateBuilder,
    ) -> TestSubstrate {
        TestSubstrate::with(add, |router| router).await
    }

    async fn with(
        add: impl FnOnce(SubstrateBuilder) -> SubstrateBuilder,
        wrap: impl FnOnce(Router) -> Router,
    ) -> TestSubstrate {
        let gate = Arc::new(Semaphore::new(0));
        let words = Words { gate: Arc::clone(&gate) };
        let substrate = add(Substrate::builder().agent("default", words)).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(watch::Sender::new(0));
        let count = Arc::clone(&requests);
        let router =
            wrap(substrate.router()).layer(middleware::map_request(move |request: Request| {
                count.send_modify(|count| *count += 1);
                async { request }
            }));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        TestSubstrate { url, substrate, gate, requests }
    }

    /// Lets the agents take so many steps more; a whole answer has five.
    pub(crate) fn allow(&self, steps: usize) {
        self.gate.add_permits(steps);
    }

    /// Waits until so many requests have come, and says how many.
    pub(crate) async fn asked(&self, count: usize) -> usize {
        *self.requests.subscribe().wait_for(|requests| *requests >= count).await.unwrap()
    }

    pub(crate) fn runs(&self) -> u64 {
        self.substrate.stats().runs_started
    }
}

/// A server in a runtime of its own, so that it can be killed: nothing of it runs on, and nothing of it cleans up.
pub(crate) struct TestServer {
    runtime: Option<Runtime>,
    pub(crate) client: Client,
}

impl TestServer {
    pub(crate) async fn start(data_dir: &Path, substrate: &TestSubstrate) -> TestServer {
        TestServer::with(data_dir, &substrate.url, BUSY, Duration::from_secs(30)).await
    }

    pub(crate) async fn with(
        data_dir: &Path,
        url: &str,
        busy_timeout: Duration,
        sweep_every: Duration,
    ) -> TestServer {
        let substrate = SubstrateChoice::At { url: url.to_owned(), token: None };
        let config = ServerConfig {
            sweep_every,
            busy_timeout,
            ..ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir, substrate)
        };
        TestServer::run(config).await
    }

    pub(crate) async fn run(config: ServerConfig) -> TestServer {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.spawn(Server::start(config)).await.unwrap().unwrap();
        let client = Client::new(server.url());
        // Kept by the runtime, which is what dies.
        runtime.spawn(async move {
            let _server = server;
            std::future::pending::<()>().await;
        });
        TestServer { runtime: Some(runtime), client }
    }

    /// Returns when nothing of it runs any more.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(HANG)).await.unwrap();
    }
}

/// A client that needs no TLS provider installed in the process.
pub(crate) fn http() -> reqwest::Client {
    let tls = turnkit_http::client::tls_config().unwrap();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Everything that most tests need.
pub(crate) struct Rig {
    pub(crate) substrate: TestSubstrate,
    pub(crate) server: TestServer,
    pub(crate) data_dir: TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        let data_dir = tempfile::tempdir().unwrap();
        let substrate = TestSubstrate::start().await;
        let server = TestServer::start(data_dir.path(), &substrate).await;
        Rig { substrate, server, data_dir }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.server.client
    }
}

/// A user of a server: the client that users have, over one connection a call, and raw requests beside it.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    product: turnkit_client::Client,
}

impl Client {
    pub(crate) fn new(url: String) -> Client {
        let product = turnkit_client::Client::builder(&url).build().unwrap();
        Client { http: http(), url, product }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/api/sessions{path}", self.url)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(self.at(path)).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(self.at(path)).send().await.unwrap()
    }

    pub(crate) async fn session(&self) -> String {
        self.product.create_session().await.unwrap()
    }

    pub(crate) async fn turn(&self, session: &str, turn: &str, message: &str) -> Lines {
        Lines(self.product.start(session, &NewTurn::new(turn, message)).await.unwrap())
    }

    pub(crate) async fn resume(&self, session: &str, turn: &str, after: u64) -> Lines {
        Lines(self.product.resume(session, turn, after).await.unwrap())
    }

    pub(crate) async fn cancel(&self, session: &str, turn: &str) -> Cancelled {
        self.product.cancel(session, turn).await.unwrap()
    }

    /// `(role, text, status)` of each message.
    pub(crate) async fn messages(&self, session: &str) -> Vec<(String, String, String)> {
        let messages = self.product.messages(session, None).await.unwrap();
        messages.into_iter().map(|said| (said.role, said.text, said.status)).collect()
    }

    pub(crate) async fn open_turns(&self, session: &str) -> Vec<OpenTurn> {
        self.product.open_turns(session).await.unwrap()
    }

    /// Waits until the session has no open turn, and gives its answer.
    pub(crate) async fn answer(&self, session: &str) -> (String, String) {
        while !self.open_turns(session).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (_, text, status) = self.messages(session).await.pop().unwrap();
        (text, status)
    }
}

pub(crate) async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// The lines of a body, as they come.
pub(crate) struct Lines(pub(crate) TurnBody);

impl Lines {
    /// The next line, without keep-alives; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let event = timeout(HANG, self.0.next()).await.expect("the body hangs").unwrap()?;
        Some(event.as_json().to_owned())
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(self.next().await.expect("the body has ended"));
        }
        lines
    }

    pub(crate) async fn all(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next().await {
            lines.push(line);
        }
        lines
    }
}

/// The last line of a body that failed, as `(code, retryable)`.
pub(crate) fn failure(lines: &[String]) -> (String, bool) {
    let [.., error, failed] = lines else { panic!("no failure: {lines:?}") };
    let (error, failed) = (parse(error), parse(failed));
    assert_eq!((&error["type"], &failed["type"]), (&json!("error"), &json!("session.run.failed")));
    (
        failed["data"]["code"].as_str().unwrap().to_owned(),
        failed["data"]["retryable"].as_bool().unwrap(),
    )
}

pub(crate) fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

pub(crate) fn kind(line: &str) -> String {
    parse(line)["type"].as_str().unwrap().to_owned()
}

pub(crate) fn is_complete(lines: &[String]) -> bool {
    lines.last().is_some_and(|line| kind(line) == "session.run.completed")
}

pub(crate) fn message(role: &str, text: &str, status: &str) -> (String, String, String) {
    (role.to_owned(), text.to_owned(), status.to_owned())
}
