//! Many clients at once.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Semaphore, mpsc},
};
use turnkit_id::LogId;
use turnkit_substrate::{
    ExecutionLog, Limits, MemoryLog, Scope, Substrate,
    log::{ExecutionKey, Found, LogError, LogFuture, LogWriter, Opening, Post, Slot, Start, Usage},
};
use turnkit_wire::Event;

use crate::{
    agents::{Driven, Fixed, text},
    client::{Answer, Server, Stream, stream},
};

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_starts_of_one_id_are_one_run_and_one_stream() {
    let server = Server::with_agent(Fixed::texts(1_000)).await;
    let starts = (0..500).map(|_| server.run("one", "hello"));
    let readers = starts
        .map(|start| tokio::spawn(async { start.send().await.unwrap().bytes().await.unwrap() }));
    let bodies = join_all(readers.collect::<Vec<_>>()).await;
    let first = bodies[0].as_ref().unwrap();
    assert_eq!(first.windows(4).filter(|at| at == b"\nid:").count(), 1_002);
    assert!(bodies.iter().all(|body| body.as_ref().unwrap() == first));
    assert_eq!(server.substrate.stats().runs_started, 1);
    assert_eq!(server.substrate.usage().await.unwrap().executions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_and_cancels_of_one_id_end_in_one_log() {
    for round in 0..50 {
        let (agent, _runs) = Driven::new();
        let server = Server::with_agent(agent).await;
        let starts = join_all((0..8).map(|_| stream(server.run("one", "hello"))));
        let cancels = join_all((0..8).map(|_| server.cancel("one")));
        let (streams, statuses) = tokio::join!(starts, cancels);
        assert!(streams.iter().all(|frames| *frames == streams[0]), "round {round}");
        assert_eq!(streams[0].last().unwrap().kind, "execution.cancelled");
        assert!(statuses.iter().all(|status| status.body["state"] == "cancelled"));
        assert!(server.substrate.stats().runs_started <= 1);
    }
}

/// A memory log whose starts are answered late.
struct Late {
    log: MemoryLog,
    bound: mpsc::UnboundedSender<()>,
    answer: Arc<Semaphore>,
}

impl ExecutionLog for Late {
    fn limits(&self) -> &Limits {
        self.log.limits()
    }

    fn id(&self) -> LogFuture<'_, Result<LogId, LogError>> {
        self.log.id()
    }

    fn start<'a>(
        &'a self,
        key: &'a ExecutionKey,
        opening: Opening,
    ) -> LogFuture<'a, Result<Start, LogError>> {
        Box::pin(async move {
            let start = self.log.start(key, opening).await;
            self.bound.send(()).unwrap();
            self.answer.acquire().await.unwrap().forget();
            start
        })
    }

    fn find<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<Found, LogError>> {
        self.log.find(key)
    }

    fn take_over<'a>(
        &'a self,
        key: &'a ExecutionKey,
    ) -> LogFuture<'a, Result<Option<Box<dyn LogWriter>>, LogError>> {
        self.log.take_over(key)
    }

    fn erase<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<bool, LogError>> {
        self.log.erase(key)
    }

    fn post<'a>(
        &'a self,
        key: &'a ExecutionKey,
        slot: &'a Slot,
        event: &'a Event,
    ) -> LogFuture<'a, Result<Post, LogError>> {
        self.log.post(key, slot, event)
    }

    fn sweep(&self) -> LogFuture<'_, Result<(), LogError>> {
        self.log.sweep()
    }

    fn usage<'a>(&'a self, scope: Option<&'a Scope>) -> LogFuture<'a, Result<Usage, LogError>> {
        self.log.usage(scope)
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_id_is_bound_leaves_a_run_or_a_cancel_behind() {
    let (bound, mut binds) = mpsc::unbounded_channel();
    let answer = Arc::new(Semaphore::new(0));
    let log = Late { log: MemoryLog::default(), bound, answer: Arc::clone(&answer) };
    let builder = Substrate::builder().agent("default", Fixed::texts(3)).log(log);
    let server = Server::serve(builder).await;
    let cancel = server.post("/agents/run/cancel", &json!({ "executionId": "cancelled" }));
    for request in [server.run("run", "hello"), cancel] {
        let leaving = tokio::spawn(request.send());
        binds.recv().await.unwrap();
        leaving.abort();
        assert!(leaving.await.unwrap_err().is_cancelled());
    }
    // The server has seen both connections end before it sees these.
    for _ in 0..20 {
        assert_eq!(Answer::of(server.get("/health")).await.status, 200);
    }
    answer.add_permits(2);
    let frames = stream(server.attach("run", "0")).await;
    assert_eq!(frames.last().unwrap().kind, "execution.completed");
    let frames = stream(server.attach("cancelled", "0")).await;
    assert_eq!(frames.last().unwrap().kind, "execution.cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_holds_up_nobody() {
    let events = vec![text(&"x".repeat(100_000)); 400];
    let server = Server::with_agent(Fixed(Arc::new(events))).await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let body = r#"{"message":"hello"}"#;
    let head = format!(
        "POST /agents/run/stream HTTP/1.1\r\nHost: localhost\r\nX-Execution-ID: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len(),
    );
    silent.write_all(head.as_bytes()).await.unwrap();
    silent.readable().await.unwrap();

    let frames = Stream::open(server.attach("a", "0")).await.rest().await;
    assert_eq!(frames.len(), 402);
    let before = server.substrate.usage().await.unwrap().bytes;

    let mut late = Vec::new();
    silent.read_to_end(&mut late).await.unwrap();
    let ids = late.windows(4).filter(|at| at == b"\nid:").count();
    assert_eq!(ids, 402, "and it lost nothing");
    assert_eq!(server.substrate.usage().await.unwrap().bytes, before);
}
