//! Connections: silent, slow, too many; and the end of a server.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};
use turnkit_http::server::listener::ConnectionLimits;
use turnkit_substrate::{Agent, Limits, MemoryLog, Substrate};

use crate::{
    agents::{Driven, Fixed},
    client::{Answer, Server, Stream, kinds, raw},
};

async fn with_connections(agent: impl Agent, connection: ConnectionLimits) -> Server {
    let limits = Limits { connection, ..Limits::default() };
    Server::with_limits(agent, limits).await
}

fn quick() -> ConnectionLimits {
    ConnectionLimits { header_read: Duration::from_millis(50), ..ConnectionLimits::default() }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = with_connections(Fixed::texts(1), quick()).await;
    let many: Vec<_> = (0..200).map(|_| raw(server.address, b"")).collect();
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer, "");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let server = with_connections(Fixed::texts(1), quick()).await;
    let answer = raw(server.address, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let server = with_connections(Fixed::texts(1), ConnectionLimits::default()).await;
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = connection.split();
    let write = async {
        let start = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Endless: ";
        let mut wrote = writer.write_all(start).await;
        while wrote.is_ok() {
            wrote = writer.write_all(&[b'x'; 1024]).await;
        }
    };
    let mut answer = vec![0; 12];
    let read = reader.read_exact(&mut answer);
    tokio::select! {
        () = write => {}
        read = read => {
            read.unwrap();
            assert_eq!(answer, b"HTTP/1.1 431");
        }
    }
    assert_eq!(Answer::of(server.get("/health")).await.status, 200);
}

#[tokio::test]
async fn a_head_may_be_as_long_as_the_limit_and_no_longer() {
    let limits = ConnectionLimits::default();
    let server = with_connections(Fixed::texts(1), limits.clone()).await;
    let head = |length: usize| {
        let start = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: ";
        let long = "x".repeat(length - start.len() - "\r\n\r\n".len());
        format!("{start}{long}\r\n\r\n")
    };
    for (length, status) in [(limits.header_bytes, "200"), (limits.header_bytes + 1, "431")] {
        let answer = raw(server.address, head(length).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length} bytes: {answer}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let server = with_connections(Fixed::texts(1), quick()).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01"[..],
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let answer = raw(server.address, garbage).await;
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 400")
                || answer.starts_with("HTTP/1.1 505"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn lines_cannot_be_injected_through_an_id() {
    let server = with_connections(Fixed::texts(1), quick()).await;
    let body = r#"{"message":"hello"}"#;
    for id in ["a\rSet-Cookie: b", "a\x0bb", "a\u{7f}b", "a\u{85}b"] {
        let head = format!(
            "POST /agents/run/stream HTTP/1.1\r\nHost: localhost\r\nX-Execution-ID: {id}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len(),
        );
        let answer = raw(server.address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(!answer.contains("Set-Cookie"), "{answer}");
    }
    assert_eq!(server.substrate.stats().runs_started, 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_come_back() {
    let connection = ConnectionLimits { connections: 2, ..ConnectionLimits::default() };
    let (agent, mut runs) = Driven::new();
    let server = with_connections(agent, connection).await;
    let first = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    let _second = Stream::open(server.attach("a", "0")).await;
    Answer::of(server.get("/health")).await.assert_error(503, "unavailable");
    drop(run);
    first.rest().await;
    while Answer::of(server.get("/health")).await.status != 200 {}
}

#[tokio::test]
async fn a_shutdown_lets_runs_and_their_readers_finish() {
    let (agent, mut runs) = Driven::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let builder = Substrate::builder().agent("default", agent);
    let server = Server::serve_until(builder, async { drop(stopped.await) }).await;
    let opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    let address = server.address;
    drop(stop);
    while TcpStream::connect(address).await.is_ok() {}

    run.text("the last word");
    drop(run);
    let frames = opened.rest().await;
    assert_eq!(
        kinds(&frames),
        ["execution.started", "message.part.updated", "execution.completed"]
    );
    server.finished().await.unwrap();
}

#[tokio::test]
async fn a_run_that_outlives_the_shutdown_is_stopped_and_its_reader_is_told() {
    let (agent, mut runs) = Driven::new();
    let connection =
        ConnectionLimits { shutdown: Duration::from_millis(50), ..ConnectionLimits::default() };
    let log = MemoryLog::new(Limits { connection, ..Limits::default() });
    let (stop, stopped) = oneshot::channel::<()>();
    let builder = Substrate::builder().agent("default", agent).log(log.clone());
    let server = Server::serve_until(builder, async { drop(stopped.await) }).await;
    let mut opened = Stream::open(server.run("a", "hello")).await;
    let run = runs.recv().await.unwrap();
    opened.next().await.unwrap();
    drop(stop);
    run.cancel.cancelled().await;
    let frames = opened.rest().await;
    assert_eq!(kinds(&frames), ["execution.failed"]);
    assert_eq!(frames[0].data["code"], "shutting_down");
    drop(run);
    let substrate = server.substrate.clone();
    server.finished().await.unwrap();
    assert_eq!(substrate.stats().running, 0);

    let after =
        Server::serve(Substrate::builder().agent("default", Fixed::texts(1)).log(log)).await;
    let status = after.status("a").await;
    assert_eq!(status.body["state"], "failed");
    let frames = Stream::open(after.attach("a", "0")).await.rest().await;
    assert_eq!(frames.last().unwrap().data["code"], "shutting_down");
}
