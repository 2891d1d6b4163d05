//! What is refused before anything is done.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use turnkit_http::server::listener::ConnectionLimits;
use turnkit_substrate::Limits;

use crate::{
    agents::Fixed,
    client::{Answer, Server, raw, stream},
};

const RUN: &str = "/agents/run/stream";

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_by_its_field() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    for (body, field) in [
        ("{", "body"),
        ("[]", "body"),
        (r#"["default","hello"]"#, "body"),
        ("null", "body"),
        (r#""hello""#, "body"),
        (r#"{"message":"a"} {}"#, "body"),
        (r#"{"message":"a","message":"b"}"#, "body"),
        ("{\"message\":\"\u{1}\"}", "body"),
        (r#"{"message":1}"#, "message"),
        (r#"{"message":"\ud800"}"#, "message"),
        (r#"{"message":"a","identifier":[]}"#, "identifier"),
        (r#"{"message":"a","sessionId":7}"#, "sessionId"),
        (r#"{"message":"a","backend":"gpt"}"#, "backend"),
        (r#"{"message":"a","backend":["t","m"]}"#, "backend"),
        (r#"{"message":"a","backend":{"model":1}}"#, "backend"),
        (r#"{"message":"a","timeout":"10"}"#, "timeout"),
        (r#"{"message":"a","timeout":-1}"#, "timeout"),
        (r#"{"message":"a","timeout":1.5}"#, "timeout"),
    ] {
        let request = server.request(Method::POST, RUN).header("Content-Type", "application/json");
        let answer = Answer::of(request.body(body)).await;
        answer.assert_error(400, "invalid_request");
        assert_eq!(answer.body["error"]["field"], field, "{body}");
        assert!(!answer.body.to_string().contains("hello"), "no error repeats what was sent");
    }
    let long = json!({ "message": "a", "sessionId": "s".repeat(513) });
    let answer = Answer::of(server.post(RUN, &long)).await;
    answer.assert_error(400, "invalid_request");
    assert_eq!(answer.body["error"]["field"], "sessionId");
}

#[tokio::test]
async fn members_that_are_null_are_absent() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let body = json!({ "message": "a", "identifier": null, "sessionId": null, "metadata": null, "backend": null, "timeout": null });
    assert_eq!(stream(server.post(RUN, &body)).await.len(), 3);
}

#[tokio::test]
async fn an_attach_needs_an_id() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    for attach in [
        server.post(RUN, &json!({ "message": "" })),
        server.post(RUN, &json!({ "message": "a" })).header("Last-Event-ID", "0"),
    ] {
        let answer = Answer::of(attach).await;
        answer.assert_error(400, "invalid_request");
        assert_eq!(answer.body["error"]["field"], "X-Execution-ID");
    }
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    for path in [RUN, "/agents/run/cancel"] {
        let request = || server.request(Method::POST, path).body(r#"{"message":"a"}"#);
        for request in [
            request(),
            request().header("Content-Type", "text/plain"),
            request().header("Content-Type", "application/x-www-form-urlencoded"),
            request().header("Content-Type", "application/jsonp"),
            request()
                .header("Content-Type", "text/plain")
                .header("Content-Type", "application/json"),
        ] {
            Answer::of(request).await.assert_error(415, "unsupported_media_type");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_compressed_is_refused() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let body = json!({ "message": "a" });
    for path in [RUN, "/agents/run/cancel"] {
        for encoding in ["gzip", "br", "identity, gzip", ""] {
            let request = server.post(path, &body).header("Content-Encoding", encoding);
            Answer::of(request).await.assert_error(415, "unsupported_media_type");
        }
    }
    let plain = server.post(RUN, &body).header("Content-Encoding", "Identity");
    assert_eq!(stream(plain).await.len(), 3);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let limits = Limits { request_body: 1_000, ..Limits::default() };
    let server = Server::with_limits(Fixed::texts(1), limits).await;
    let body = |bytes: usize| json!({ "message": "x".repeat(bytes - r#"{"message":""}"#.len()) });
    for path in [RUN, "/agents/run/cancel"] {
        let answer = Answer::of(server.post(path, &body(1_001))).await;
        answer.assert_error(413, "payload_too_large");
        assert_eq!(answer.body["error"]["limit"], 1_000);
    }
    assert_eq!(stream(server.post(RUN, &body(1_000))).await.len(), 3);
    let endless =
        futures_util::stream::iter((0..50).map(|_| Ok::<_, std::io::Error>(vec![b' '; 100])));
    let chunked = server.request(Method::POST, RUN).header("Content-Type", "application/json");
    let chunked = chunked.body(reqwest::Body::wrap_stream(endless));
    Answer::of(chunked).await.assert_error(413, "payload_too_large");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_comes() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    for path in [RUN, "/agents/run/cancel"] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{expect}Content-Length: 1048577\r\n\r\n"
            );
            let answer = raw(server.address, head.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        }
    }
}

#[tokio::test]
async fn who_is_refused_may_send_to_the_end_and_sees_why() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let more_than_sockets_hold = vec![b'x'; 6 * 1024 * 1024];
    for (header, refusal) in [
        ("X-Execution-ID: a b", "400"),
        ("Content-Type: application/json", "413"),
        ("Content-Encoding: gzip", "415"),
        ("Origin: http://elsewhere.example", "403"),
    ] {
        let length = more_than_sockets_hold.len();
        let head = format!(
            "POST {RUN} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\nContent-Length: {length}\r\n\r\n"
        );
        let request = [head.as_bytes(), &more_than_sockets_hold].concat();
        let answer = raw(server.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {refusal}")), "{header}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let connection =
        ConnectionLimits { body_read: Duration::from_millis(30), ..ConnectionLimits::default() };
    let limits = Limits { connection, ..Limits::default() };
    let server = Server::with_limits(Fixed::texts(1), limits).await;
    let head = "POST /agents/run/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"mess";
    let answer = raw(server.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"request_timeout\""), "{answer}");
    assert_eq!(server.substrate.stats().runs_started, 0);
}

#[tokio::test]
async fn a_header_that_stands_there_twice_is_refused() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    for header in ["X-Execution-ID", "Last-Event-ID"] {
        let run = server.post(RUN, &json!({ "message": "a" }));
        let answer = Answer::of(run.header(header, "0").header(header, "0")).await;
        answer.assert_error(400, "invalid_request");
        assert_eq!(answer.body["error"]["field"], header);
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_told() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    for path in ["/", "/nothing", "/agents/run", "/agents/executions/a/b", "/agents/"] {
        Answer::of(server.get(path)).await.assert_error(404, "not_found");
    }
    for (method, path, allowed) in [
        (Method::GET, RUN, "POST"),
        (Method::PUT, "/agents/executions/a", "GET,HEAD,DELETE"),
        (Method::POST, "/health", "GET,HEAD"),
    ] {
        let answer = Answer::of(server.request(method, path)).await;
        answer.assert_error(405, "method_not_allowed");
        assert_eq!(answer.headers["allow"], allowed);
    }
}

#[tokio::test]
async fn it_says_what_it_can_do() {
    let server = Server::with_agent(Fixed::texts(1)).await;
    let health = Answer::of(server.get("/health")).await;
    assert_eq!((health.status.as_u16(), health.body), (200, json!({ "status": "ok" })));

    let agents = Answer::of(server.get("/agents")).await;
    let listed =
        json!({ "agents": [{ "identifier": "default", "description": "" }], "default": "default" });
    assert_eq!(agents.body, listed);

    let capabilities = Answer::of(server.get("/capabilities")).await.body;
    let limits = &capabilities["limits"];
    assert_eq!(capabilities["protocolVersion"], 1);
    for (limit, value) in [
        ("requestBodyBytes", 1_048_576_u64),
        ("eventBytes", 1_048_576),
        ("eventsPerExecution", 100_000),
        ("bytesPerExecution", 67_108_864),
        ("retentionMs", 3_600_000),
        ("bindingMs", 86_400_000),
        ("runTimeoutMs", 600_000),
        ("heartbeatMs", 15_000),
    ] {
        assert_eq!(limits[limit], value, "{limit}");
    }
    assert!(limits.as_object().unwrap().values().all(Value::is_u64));
}
