//! Servers that mean no good (PROTOCOL 4.1).

use std::time::Duration;

use turnkit_sandbox::{Error, ProtocolError, RunRequest};

use super::support::{Answer, Server, error_of, frames, id, refusal, response, stream};

const STREAM: &str = "content-type: text/event-stream\r\n";

#[tokio::test]
async fn a_redirect_is_not_followed_and_carries_no_header_anywhere() {
    let elsewhere = Server::start([stream(frames(1..=1))]).await;
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = format!("location: {}/agents/run/stream\r\n", elsewhere.url());
        let server = Server::start([refusal(status, &location, "")]).await;
        let client = server.builder().bearer_token("t0ken").build().unwrap();
        let error = error_of(client.run(RunRequest::new(id(), "hello"))).await;
        assert!(matches!(error, Error::Protocol(ProtocolError::Redirect(_))), "{error:?}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_compressed_stream_is_not_read() {
    for encoding in ["gzip", "br", "deflate", "zstd", "gzip, identity"] {
        let headers = format!("{STREAM}content-encoding: {encoding}\r\n");
        let server =
            Server::start([Answer::Bytes(response("200 OK", &headers, frames(1..=1)))]).await;
        let error = error_of(server.run()).await;
        assert!(matches!(error, Error::Protocol(ProtocolError::Encoding(_))), "{error:?}");
    }
}

#[tokio::test]
async fn an_endless_error_body_is_not_read_to_its_end() {
    let head = response("400 Bad Request", "", r#"{"error":{"code":"c","message":""#);
    let server = Server::start([Answer::Endless(head, vec![b'x'; 64 << 10])]).await;
    let error = error_of(server.run()).await;
    assert_eq!(error.to_string(), "get an answer from the substrate: status 400");
    server.released().await;
}

#[tokio::test]
async fn an_error_body_that_never_comes_is_an_answer_that_was_lost() {
    let head = response("404 Not Found", "content-length: 10\r\n", "");
    let server = Server::start(vec![Answer::Silent(head); 4]).await;
    let quick = server.builder().answer_timeout(Duration::from_millis(50));
    let error = error_of(quick.build().unwrap().attach(id())).await;
    assert_eq!(error.code(), "substrate_unreachable");
    assert_eq!(server.requests().len(), 4);
    server.released().await;
}

#[tokio::test]
async fn an_error_body_that_is_no_json_is_not_shown() {
    let server =
        Server::start([refusal("400 Bad Request", "", "<html>your prompt was: hello</html>")])
            .await;
    let error = error_of(server.run()).await;
    assert!(!format!("{error} {error:?}").contains("hello"));
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let server = Server::start(vec![
        Answer::Endless(
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            b"x-more: y\r\n".to_vec()
        );
        4
    ])
    .await;
    let error = error_of(server.run()).await;
    assert_eq!(error.code(), "substrate_unreachable");
    server.released().await;
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    let garbage = || Answer::Bytes(b"\x16\x03\x01 SSH-2.0-OpenSSH\r\n\r\n".to_vec());
    let server = Server::start([garbage(), garbage(), garbage(), garbage()]).await;
    assert_eq!(error_of(server.run()).await.code(), "substrate_unreachable");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn an_endless_line_fails_the_turn_at_the_limit() {
    for start in ["data: ", "id: ", "event: "] {
        let head = response("200 OK", STREAM, start);
        let server = Server::start([Answer::Endless(head, vec![b'x'; 64 << 10])]).await;
        let error = error_of(server.run()).await;
        assert!(matches!(error, Error::Protocol(ProtocolError::Event(_))), "{start}: {error:?}");
        server.released().await;
    }
}

#[tokio::test]
async fn an_id_that_no_header_carries_is_not_sent_back() {
    for bad in ["a b", "\u{1}", "a\u{7f}"] {
        let server = Server::start([stream(format!("id: {bad}\nevent: x\ndata: 1\n\n"))]).await;
        let (read, end) = super::support::read(server.run()).await;
        assert_eq!(read.len(), 1);
        assert!(matches!(end, Err(Error::Transport { .. })), "{end:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_status_that_never_ends_is_an_error_of_the_call() {
    let head = response("200 OK", "content-type: application/json\r\n", "{");
    let server =
        Server::start([Answer::Endless(head, vec![b' '; 64 << 10]), Answer::Silent(Vec::new())])
            .await;
    let client = server.builder().answer_timeout(Duration::from_secs(5)).build().unwrap();
    let error = client.status(&id()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::TooLarge(_))), "{error:?}");
    let client = server.builder().answer_timeout(Duration::from_millis(50)).build().unwrap();
    assert_eq!(client.cancel(&id()).await.unwrap_err().code(), "substrate_unreachable");
}
