//! Who may do what.

use reqwest::RequestBuilder;
use turnkit_substrate::{BuildError, ServeError, Substrate, SubstrateBuilder};

use crate::{
    agents::Fixed,
    client::{Answer, Server, Stream, raw, stream},
};

fn builder() -> SubstrateBuilder {
    Substrate::builder().agent("default", Fixed::texts(3))
}

async fn two_scopes() -> Server {
    Server::serve(builder().token("one", "token-1").token("two", "token-2").token("one", "token-3"))
        .await
}

#[tokio::test]
async fn every_route_but_health_needs_a_token() {
    let server = two_scopes().await;
    let all = || {
        vec![
            server.run("a", "hello"),
            server.attach("a", "0"),
            server.get("/agents/executions/a/stream"),
            server.get("/agents/executions/a"),
            server.post("/agents/run/cancel", &serde_json::json!({ "executionId": "a" })),
            server.get("/agents"),
            server.get("/capabilities"),
        ]
    };
    let refuse = async |request: RequestBuilder| {
        let answer = Answer::of(request).await;
        answer.assert_error(401, "unauthorized");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(!answer.body.to_string().contains("token-"));
    };
    for request in all() {
        refuse(request).await;
    }
    for wrong in [
        "Bearer token-9",
        "Bearer",
        "Bearer ",
        "Basic token-1",
        "token-1",
        "Bearer token-1 x",
        "Bearer token-11",
    ] {
        refuse(server.get("/agents").header("Authorization", wrong)).await;
    }
    let twice = server.get("/agents").header("Authorization", "Bearer token-1");
    refuse(twice.header("Authorization", "Bearer token-1")).await;
    assert_eq!(Answer::of(server.get("/health")).await.status, 200);
    for request in all() {
        assert_ne!(request.bearer_auth("token-1").send().await.unwrap().status(), 401);
    }
    let lower = server.get("/agents").header("Authorization", "bearer token-1");
    assert_eq!(Answer::of(lower).await.status, 200);
}

#[tokio::test]
async fn another_scope_s_execution_looks_exactly_like_an_unknown_one() {
    let server = two_scopes().await;
    let frames = stream(server.run("a", "hello").bearer_auth("token-1")).await;
    let cursor = &frames[1].id;
    let asks = |id: &str| {
        [
            server.attach(id, "0"),
            server.attach(id, cursor),
            server.run(id, ""),
            server.get(&format!("/agents/executions/{id}/stream")),
            server.get(&format!("/agents/executions/{id}")),
        ]
    };
    for (theirs, nobodys) in asks("a").into_iter().zip(asks("unknown")) {
        let theirs = Answer::of(theirs.bearer_auth("token-2")).await;
        let nobodys = Answer::of(nobodys.bearer_auth("token-2")).await;
        theirs.assert_error(404, "execution_not_found");
        assert_eq!(theirs.body, nobodys.body);
        let names = |answer: &Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&theirs), names(&nobodys));
    }
    assert_eq!(stream(server.attach("a", "0").bearer_auth("token-3")).await, frames);
    let own = Stream::open(server.run("a", "another").bearer_auth("token-2")).await;
    assert_eq!(own.rest().await.len(), 5);
    assert_eq!(server.substrate.stats().runs_started, 2);
}

#[tokio::test]
async fn a_cancel_reaches_no_other_scope() {
    let server = two_scopes().await;
    stream(server.run("a", "hello").bearer_auth("token-1")).await;
    let body = serde_json::json!({ "executionId": "a" });
    let cancel = server.post("/agents/run/cancel", &body);
    let answer = Answer::of(cancel.bearer_auth("token-2")).await;
    assert_eq!(
        answer.body["state"], "cancelled",
        "an unknown id is bound in the caller's own scope"
    );
    let status = server.get("/agents/executions/a").bearer_auth("token-1");
    assert_eq!(Answer::of(status).await.body["state"], "completed");
}

#[tokio::test]
async fn without_tokens_it_serves_loopback_only() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let open = builder().build().unwrap();
    let refused = open.serve(listener, std::future::pending()).await;
    assert!(matches!(refused, Err(ServeError::NotLoopback { .. })));
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let closed = builder().token("one", "token-1").build().unwrap();
    closed.serve(listener, std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn without_tokens_only_requests_to_this_machine_by_its_own_pages_are_taken() {
    let server = Server::serve(builder().host("substrate.test")).await;
    let port = server.address.port();
    let ask = |host: &str, origin: Option<&str>| {
        let request = server.get("/agents").header("Host", host);
        origin.into_iter().fold(request, |request, origin| request.header("Origin", origin))
    };
    let own = format!("http://localhost:{port}");
    for (host, origin) in [
        ("localhost", None),
        ("LOCALHOST:1", None),
        ("127.0.0.1:80", None),
        ("127.9.9.9", None),
        ("[::1]:80", None),
        ("substrate.test:81", None),
        (&own[7..], Some(own.as_str())),
        ("localhost", Some("http://localhost")),
    ] {
        assert_eq!(Answer::of(ask(host, origin)).await.status, 200, "{host} {origin:?}");
    }
    for (host, origin) in [
        ("evil.test", None),
        ("evil.test:80", None),
        ("localhost.evil.test", None),
        ("127.0.0.1.evil.test", None),
        ("10.0.0.1", None),
        ("localhost", Some("http://evil.test")),
        ("localhost", Some("null")),
        ("localhost", Some("localhost")),
        ("localhost", Some("file://localhost")),
        ("localhost:1", Some("http://localhost:2")),
        ("localhost", Some("http://127.0.0.1")),
    ] {
        Answer::of(ask(host, origin)).await.assert_error(403, "forbidden");
    }
    for host in ["user@localhost", ""] {
        Answer::of(ask(host, None)).await.assert_error(400, "invalid_request");
    }
    assert_eq!(Answer::of(server.get("/health")).await.status, 200);
}

#[tokio::test]
async fn without_tokens_a_request_must_say_once_and_truly_whom_it_is_for() {
    let server = Server::serve(builder()).await;
    let run = async |target: &str, headers: &str| {
        let body = r#"{"message":"hello"}"#;
        let request = format!(
            "POST {target} HTTP/1.1\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        raw(server.address, request.as_bytes()).await
    };
    for (target, headers, refusal) in [
        ("/agents/run/stream", "", "400"),
        ("/agents/run/stream", "Host: localhost\r\nHost: localhost\r\n", "400"),
        ("http://localhost/agents/run/stream", "", "400"),
        ("http://evil.test/agents/run/stream", "Host: localhost\r\n", "403"),
    ] {
        let answer = run(target, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {refusal}")), "{target} {headers}: {answer}");
    }
    assert_eq!(server.substrate.stats().runs_started, 0);
    let answer = run("http://localhost/agents/run/stream", "Host: localhost\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_substrate_that_cannot_be_is_not_built() {
    let fixed = || Fixed::texts(1);
    let error = Substrate::builder().build().unwrap_err();
    assert_eq!(error.to_string(), "build a substrate: it has no agent");
    for name in ["", "a b", "é", &"x".repeat(65), "a/b"] {
        let built = Substrate::builder().agent(name, fixed()).build();
        assert!(matches!(built, Err(BuildError::AgentName { .. })), "{name}");
    }
    let twice = Substrate::builder().agent("a", fixed()).agent("a", fixed()).build();
    assert!(matches!(twice, Err(BuildError::AgentTwice { .. })));
    for token in ["", "a b", "é", "a\n"] {
        let Err(error) = builder().token("one", token).build() else {
            panic!("{token:?} is no token");
        };
        assert!(matches!(error, BuildError::Token { .. }));
    }
}
