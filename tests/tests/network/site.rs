//! A substrate whose agent speaks when the test says so, a product in front of it, and plain clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Semaphore};
use turnkit::{Produced, TurnProducer as _};
use turnkit_chat::{Chat, LocalUser, sqlite::SqliteStore};
use turnkit_http::server::listener::{self, ConnectionLimits};
use turnkit_id::ExecutionId;
use turnkit_sandbox::{Retry, RunRequest, SandboxClient, SandboxTurn};
use turnkit_substrate::{Agent, AgentError, Limits, MemoryLog, Run, Substrate};
use turnkit_testkit::events;
use turnkit_wire::Event;

/// Words of one answer.
pub(crate) const WORDS: usize = 6;

/// How often a silent stream of the substrate is kept alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);

/// When a silent peer counts as gone, on either side.
const PATIENCE: Duration = Duration::from_millis(400);

/// A substrate. Its agent says each word when it is let to.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    substrate: Substrate,
    gate: Arc<Semaphore>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let limits = Limits { heartbeat: HEARTBEAT, connection: limits(), ..Limits::default() };
        let agent = Words { gate: Arc::clone(&gate) };
        let log = MemoryLog::new(limits);
        let substrate = Substrate::builder().agent("default", agent).log(log).build().unwrap();
        let (listener, address) = listen().await;
        let server = substrate.clone();
        tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
        Self { address, substrate, gate }
    }

    /// Lets the agent say so many words more.
    pub(crate) fn allow(&self, words: usize) {
        self.gate.add_permits(words);
    }

    pub(crate) fn runs(&self) -> u64 {
        self.substrate.stats().runs_started
    }

    /// A product at this substrate, reached by the address `by`.
    pub(crate) async fn product(&self, by: SocketAddr) -> Shop {
        let data_dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(data_dir.path().join("turnkit.db")).unwrap();
        let (chat, attendant) = Chat::builder(store, client(by)).build().await.unwrap();
        tokio::spawn(attendant);
        let (listener, address) = listen().await;
        let serving = async move {
            listener::serve(
                listener,
                chat.router::<(), LocalUser>(),
                &limits(),
                std::future::pending(),
            )
            .await;
        };
        tokio::spawn(serving);
        Shop { address, http: reqwest::Client::new(), _data_dir: data_dir }
    }
}

struct Words {
    gate: Arc<Semaphore>,
}

impl Agent for Words {
    fn run(
        &self,
        _: Run,
    ) -> impl stream::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let gate = Arc::clone(&self.gate);
        stream::unfold(0, move |said| {
            let gate = Arc::clone(&gate);
            async move {
                if said == WORDS {
                    return None;
                }
                gate.acquire().await.unwrap().forget();
                Some((Ok(word(said)), said + 1))
            }
        })
    }
}

/// The word that stands at this place of the answer.
pub(crate) fn word(at: usize) -> Event {
    events::delta("p", &format!("w{at} "))
}

/// The product over that substrate, as a browser sees it.
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
    _data_dir: TempDir,
}

impl Shop {
    /// A turn in a new session, asked for at `by`.
    pub(crate) async fn begin(&self, by: SocketAddr) -> (String, Body) {
        let sessions = format!("http://{}/api/sessions", self.address);
        // By a client that leaves again: a pool may or may not have its connection back for the next request.
        let visitor = reqwest::Client::new();
        let created = visitor.post(sessions).send().await.unwrap().bytes().await.unwrap();
        drop(visitor);
        let created: Value = serde_json::from_slice(&created).unwrap();
        let session = created["sessionId"].as_str().unwrap().to_owned();
        let turns = format!("http://{by}/api/sessions/{session}/turns");
        let request = self.http.post(turns).header("content-type", "application/json");
        let request = request.body(json!({"turnId": "t", "message": "go"}).to_string());
        (session, Body::of(request.send().await.unwrap()))
    }

    /// The turn after so many events, asked for at `by` by somebody without a connection.
    pub(crate) async fn resume(&self, by: SocketAddr, session: &str, after: usize) -> Body {
        let url = format!("http://{by}/api/sessions/{session}/turns/t?after={after}");
        Body::of(reqwest::get(url).await.unwrap())
    }
}

/// An answer in lines.
pub(crate) struct Body {
    answer: reqwest::Response,
    unread: Vec<u8>,
}

impl Body {
    pub(crate) fn of(answer: reqwest::Response) -> Self {
        assert_eq!(answer.status(), 200);
        Self { answer, unread: Vec::new() }
    }

    /// The next line, also a blank one. None where the answer is over or broke off.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.drain(..=end).take(end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            let chunk = self.answer.chunk().await.ok().flatten()?;
            self.unread.extend_from_slice(&chunk);
        }
    }

    /// The next lines that are events.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let line = self.line().await.unwrap();
            lines.extend((!line.is_empty()).then_some(line));
        }
        lines
    }
}

/// What the lines from this word on and to the end of a turn are.
pub(crate) fn rest(from: usize, session: &str) -> Vec<String> {
    let completed = turnkit_wire::lifecycle::run_completed(session, None, false);
    let events = (from..WORDS).map(word).chain([completed]);
    events.map(|event| event.as_json().to_owned()).collect()
}

/// An adapter that waits hardly at all, and never gives up.
pub(crate) fn client(substrate: SocketAddr) -> SandboxClient {
    let eager = |policy| Retry {
        first: Duration::ZERO,
        max: Duration::from_millis(20),
        attempts: u32::MAX,
        ..policy
    };
    let builder = SandboxClient::builder(format!("http://{substrate}"));
    let builder = builder.retry_before_answer(eager(Retry::BEFORE_ANSWER));
    let builder = builder.retry_after_answer(eager(Retry::AFTER_ANSWER));
    builder.answer_timeout(PATIENCE).idle_timeout(PATIENCE).build().unwrap()
}

pub(crate) fn run(client: &SandboxClient) -> SandboxTurn {
    client.run(RunRequest::new(ExecutionId::derive("network", "session", 0).unwrap(), "go"))
}

/// The next word of the turn, or none at its end.
pub(crate) async fn next(turn: &mut SandboxTurn) -> Option<Bytes> {
    match turn.next().await.unwrap() {
        Produced::Event(event) => Some(event.into_line()),
        Produced::Done { .. } => None,
    }
}

/// These are the next words of the turn.
pub(crate) async fn says(turn: &mut SandboxTurn, words: std::ops::Range<usize>) {
    for at in words {
        assert_eq!(next(turn).await, Some(word(at).into_line()));
    }
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn limits() -> ConnectionLimits {
    ConnectionLimits { tcp_user_timeout: PATIENCE, ..ConnectionLimits::default() }
}
