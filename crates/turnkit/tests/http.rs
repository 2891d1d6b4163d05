//! A turn behind a real HTTP server, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::pending, sync::Arc};

use axum::{Router, body::HttpBody, routing::get};
use futures::{FutureExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use turnkit::{ClientLeft, ClientOutcome, TurnOutcome};
use turnkit_testkit::{Recorder, Script, turn};

/// Serves one turn at `/`; the outcome of each attempt comes through the channel.
async fn serve(
    script: impl Fn() -> Script + Clone + Send + Sync + 'static,
    policy: ClientLeft,
) -> (TcpStream, mpsc::UnboundedReceiver<TurnOutcome>) {
    let (outcomes, outcome) = mpsc::unbounded_channel();
    let route = get(move || async move {
        let (body, driver) =
            turn().on_client_left(policy).start(script(), Arc::new(Recorder::new()));
        tokio::spawn(driver.map(move |outcome| drop(outcomes.send(outcome))));
        body.into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().route("/", route)).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    (client, outcome)
}

/// Reads until `text` came.
async fn read_until(client: &mut TcpStream, text: &str) -> String {
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains(text) {
        assert_ne!(
            client.read_buf(&mut received).await.unwrap(),
            0,
            "the end came before {text:?}"
        );
    }
    String::from_utf8(received).unwrap()
}

#[tokio::test]
async fn lines_come_while_the_turn_runs_and_the_response_ends_with_it() {
    let (open, opened) = oneshot::channel::<()>();
    let opened = Arc::new(std::sync::Mutex::new(Some(opened)));
    let script = move || {
        let opened = opened.lock().unwrap().take().unwrap();
        Script::new().text("first").wait(opened.map(drop)).text("second")
    };
    let (mut client, mut outcome) = serve(script, ClientLeft::Continue).await;
    let head = read_until(&mut client, "first").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for header in [
        "content-type: application/x-ndjson",
        "cache-control: no-store",
        "x-accel-buffering: no",
        "x-execution-id: project:thread-abc:3",
    ] {
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{header}: {head}");
    }
    open.send(()).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("session.run.completed") && rest.ends_with("0\r\n\r\n"), "{rest}");
    let outcome = outcome.recv().await.unwrap();
    assert_eq!(outcome.client, ClientOutcome::Attached);
    assert_eq!(outcome.result.unwrap().as_str(), "firstsecond");
}

#[tokio::test]
async fn a_closed_connection_is_a_client_that_left() {
    let script = || Script::new().text("first").wait(pending());
    let (mut client, mut outcome) = serve(script, ClientLeft::Cancel).await;
    read_until(&mut client, "first").await;
    drop(client);
    let outcome = outcome.recv().await.unwrap();
    assert_eq!(outcome.client, ClientOutcome::Left { after_events: 2 });
    assert_eq!(outcome.result.unwrap_err().code(), Some("cancelled"));
}

#[tokio::test]
async fn a_body_says_that_it_ended_once_its_last_line_is_taken() {
    let (mut body, driver) = turn().start(Script::new().text("hi"), Recorder::new());
    assert!(!body.is_end_stream());
    driver.await;
    assert!(!body.is_end_stream());
    assert!(body.next().await.is_some());
    assert!(body.is_end_stream());
    assert!(body.next().await.is_none());
}
