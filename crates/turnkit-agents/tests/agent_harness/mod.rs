//! A substrate on a loopback port, and a client of it.

use std::{net::SocketAddr, time::Duration};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use turnkit_agent::Agent;
use turnkit_substrate::{Limits, MemoryLog, Substrate};
use turnkit_wire::{Event, sse};

/// A substrate whose `default` agent is the one to be tried.
pub(crate) struct Server {
    address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn with(agent: impl Agent) -> Self {
        Self::with_log(agent, MemoryLog::default()).await
    }

    pub(crate) async fn with_log(agent: impl Agent, log: MemoryLog) -> Self {
        let builder = Substrate::builder().agent("default", agent);
        let substrate = builder.log(log).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, asked) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let asked = async move { asked.await.unwrap_or(()) };
            substrate.serve(listener, asked).await.unwrap();
        });
        Self { address, shutdown: Some(shutdown), serving }
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.post(format!("http://{}{path}", self.address)).timeout(Duration::from_secs(60))
    }

    /// Starts the execution `id`, or attaches to it.
    pub(crate) async fn open(&self, id: &str, body: &Value) -> Stream {
        let request = self.post("/agents/run/stream").json(body);
        let response = request.header("X-Execution-ID", id).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Stream { response, decoder: sse::Decoder::new() }
    }

    /// All events of a new execution.
    pub(crate) async fn run(&self, body: &Value) -> Vec<Event> {
        self.open("exec-1", body).await.rest().await
    }

    pub(crate) async fn ask(&self, message: &str) -> Vec<Event> {
        self.run(&json!({ "message": message })).await
    }

    pub(crate) async fn cancel(&self, id: &str) {
        let body = json!({ "executionId": id });
        let answer = self.post("/agents/run/cancel").json(&body).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    }

    /// Begins to shut down.
    pub(crate) fn stop(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Resolves when the server has shut down.
    pub(crate) async fn stopped(self) {
        self.serving.await.unwrap();
    }
}

/// An open stream of an execution.
pub(crate) struct Stream {
    response: reqwest::Response,
    decoder: sse::Decoder,
}

impl Stream {
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return Some(event.unwrap());
            }
            self.decoder.push(self.response.chunk().await.unwrap()?);
        }
    }

    /// The next event of this kind.
    pub(crate) async fn until(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream ended");
            if event.kind() == kind {
                return event;
            }
        }
    }

    pub(crate) async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// A log of a substrate that waits for nobody when it shuts down.
pub(crate) fn impatient_log() -> MemoryLog {
    let mut limits = Limits::default();
    limits.connection.shutdown = Duration::from_millis(50);
    MemoryLog::new(limits)
}

pub(crate) fn data(event: &Event) -> Value {
    event.data().unwrap()
}

/// Code and message of the failure that must end these events.
#[track_caller]
pub(crate) fn failure(events: &[Event]) -> (String, String) {
    let last = events.last().unwrap();
    assert_eq!(last.kind(), "execution.failed", "{last:?}");
    let data = data(last);
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

/// The data of the `result` that must stand before a good end.
#[track_caller]
pub(crate) fn result(events: &[Event]) -> Value {
    let [.., result, end] = events else { panic!("too few events") };
    assert_eq!(end.kind(), "execution.completed", "{}", end.as_json());
    assert_eq!(result.kind(), "result");
    data(result)
}

/// The parts of these types, and what their deltas are when joined.
pub(crate) fn joined(events: &[Event], kind: &str) -> String {
    let parts = events.iter().filter(|event| event.kind() == "message.part.updated");
    let parts = parts.map(data).filter(|data| data["part"]["type"] == kind);
    parts.filter_map(|data| Some(data["delta"].as_str()?.to_owned())).collect()
}
