//! What the adapter sends (PROTOCOL 3.1, 4.1).

use super::support::{
    Answer, Server, completed, frames, id, lines, read, refusal, response, stream,
};
use serde_json::json;
use turnkit::TurnProducer;
use turnkit_id::{ExecutionId, LogId};
use turnkit_sandbox::{AgentList, Error, ExecutionState, RunRequest};
use turnkit_wire::{interaction::Outcome, write::Json};

#[tokio::test]
async fn a_run_carries_its_id_its_token_and_its_message() {
    let server = Server::start([stream(completed(1))]).await;
    let client = server.builder().bearer_token("t0ken").build().unwrap();
    let turn = client.run(RunRequest::new(id(), "hello").session_id("s"));
    read(turn).await.1.unwrap();

    let [request] = &server.requests()[..] else { panic!("one request") };
    assert!(request.head.starts_with("POST /agents/run/stream HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.header("x-execution-id"), Some("project:session:0"));
    assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("text/event-stream"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("last-event-id"), None);
    let expected = json!({
        "identifier": "default", "message": "hello", "sessionId": "s", "turnId": "project:session:0", "detach": true,
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_event_is_asked_for() {
    let server = Server::start([]).await;
    let (run, attach) = (server.run(), server.client().attach(id()));
    drop((run, attach));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_run_that_got_no_answer_is_sent_again_byte_for_byte() {
    let busy = refusal("503 Service Unavailable", "retry-after: 0\r\n", "");
    let silent = Answer::Bytes(Vec::new());
    let server = Server::start([busy, silent, stream(frames(1..=2) + &completed(3))]).await;
    let (read, end) = read(server.run()).await;
    end.unwrap();
    assert_eq!(read, lines(1..=2));
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!((&request.head, &request.body), (&requests[0].head, &requests[0].body));
    }
}

#[tokio::test]
async fn after_an_answer_only_attaches_are_sent() {
    let cut = ["", &frames(1..=2), ": nothing new\n\n", &frames(3..=3), &completed(4)].map(stream);
    let server = Server::start(cut).await;
    let (read, end) = read(server.run()).await;
    end.unwrap();
    assert_eq!(read, lines(1..=3));
    let requests = server.requests();
    let cursors: Vec<_> = requests.iter().map(|request| request.header("last-event-id")).collect();
    assert_eq!(cursors, [None, Some("0"), Some("7-2"), Some("7-2"), Some("7-3")]);
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(request.header("x-execution-id"), Some("project:session:0"));
        assert_eq!(request.json()["message"], if index == 0 { "hello" } else { "" });
    }
}

#[tokio::test]
async fn an_attach_never_sends_a_message() {
    let server = Server::start([refusal("502 Bad Gateway", "", ""), stream(completed(1))]).await;
    let turn = server.client().attach(id()).answering("hello");
    assert_eq!(turn.prompt(), Some("hello"));
    read(turn).await.1.unwrap();
    for request in server.requests() {
        assert_eq!(request.header("last-event-id"), Some("0"));
        assert_eq!(request.json()["message"], "");
        assert_eq!(request.json()["turnId"], "project:session:0");
    }
}

#[tokio::test]
async fn an_id_that_was_only_filtered_is_consumed_too() {
    let started = "id: 7-1\nevent: execution.started\ndata: {\"executionId\":\"e\"}\n\n";
    let server = Server::start([stream(started), stream(frames(2..=2) + &completed(3))]).await;
    assert_eq!(read(server.run()).await.0, lines(2..=2));
    assert_eq!(server.requests()[1].header("last-event-id"), Some("7-1"));
}

#[tokio::test]
async fn cancel_names_the_execution_and_is_tried_again_while_refused_for_now() {
    let status = r#"{"executionId":"project:session:0","state":"cancelled"}"#;
    let busy = refusal("503 Service Unavailable", "", "");
    let server =
        Server::start([busy, refusal("200 OK", "content-type: application/json\r\n", status)])
            .await;
    server.run().cancel().await;
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].head.starts_with("POST /agents/run/cancel HTTP/1.1\r\n"));
    assert_eq!(requests[1].json(), json!({"executionId": "project:session:0"}));
}

#[tokio::test]
async fn status_and_cancel_are_plain_calls() {
    let status = r#"{"executionId":"project:session:0","state":"running","last":"7-4","startedAt":1,"endedAt":null}"#;
    let ok = || refusal("200 OK", "content-type: application/json\r\n", status);
    let unknown =
        r#"{"success":false,"error":{"code":"execution_not_found","message":"no such execution"}}"#;
    let server = Server::start([ok(), ok(), refusal("404 Not Found", "", unknown)]).await;
    let client = server.client();
    let found = client.status(&id()).await.unwrap();
    assert_eq!((found.state, found.last.as_deref()), (ExecutionState::RUNNING, Some("7-4")));
    client.cancel(&id()).await.unwrap();
    assert_eq!(client.status(&id()).await.unwrap_err().code(), "execution_lost");
    let [status, cancel, _] = &server.requests()[..] else { panic!("three requests") };
    assert!(
        status.head.starts_with("GET /agents/executions/project:session:0 HTTP/1.1\r\n"),
        "{}",
        status.head
    );
    assert_eq!(status.header("content-length"), None);
    assert_eq!(cancel.json()["executionId"], "project:session:0");
}

#[tokio::test]
async fn the_agents_are_listed_whatever_else_is_said_about_them() {
    let one = r#"{"agents":[{"identifier":"a","description":"d","more":1},{"identifier":"b"}],"default":"b"}"#;
    let other = r#"{"agents":[]}"#;
    let [one, other] = [one, other].map(|list| refusal("200 OK", "", list));
    let server = Server::start([one, other]).await;
    let list = server.client().agents().await.unwrap();
    let named: Vec<_> =
        list.agents.iter().map(|agent| (&*agent.identifier, &*agent.description)).collect();
    assert_eq!((named, list.default.as_deref()), (vec![("a", "d"), ("b", "")], Some("b")));
    assert_eq!(server.client().agents().await.unwrap(), AgentList::default());
    assert!(server.requests()[0].head.starts_with("GET /agents HTTP/1.1\r\n"));
}

#[tokio::test]
async fn each_send_of_a_run_names_its_log_and_no_attach_does() {
    let busy = refusal("503 Service Unavailable", "retry-after: 0\r\n", "");
    let cut = stream(frames(1..=1));
    let server = Server::start([busy, cut, stream(frames(2..=2) + &completed(3))]).await;
    let log = LogId::parse("log-1").unwrap();
    let turn = server.client().run(RunRequest::new(id(), "hello").log_id(log));
    read(turn).await.1.unwrap();
    let requests = server.requests();
    let named: Vec<_> = requests.iter().map(|request| request.header("x-log-id")).collect();
    assert_eq!(named, [Some("log-1"), Some("log-1"), None]);
    assert_eq!(requests[0].body, requests[1].body);
    assert!(!String::from_utf8_lossy(&requests[0].body).contains("log-1"));
}

#[tokio::test]
async fn a_log_that_has_changed_is_final_and_nothing_more_is_sent() {
    let changed = r#"{"success":false,"error":{"code":"log_changed","message":"lost"}}"#;
    let busy = refusal("503 Service Unavailable", "retry-after: 0\r\n", "");
    let server = Server::start([busy, refusal("412 Precondition Failed", "", changed)]).await;
    let log = LogId::parse("log-1").unwrap();
    let turn = server.client().run(RunRequest::new(id(), "hello").log_id(log));
    let error = read(turn).await.1.unwrap_err();
    assert!(matches!(error, Error::LogChanged(_)), "{error}");
    assert_eq!((error.code(), error.is_retryable()), ("log_changed", false));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_id_of_the_log_is_what_the_capabilities_say() {
    let answer = |body: &str| refusal("200 OK", "", body);
    let long = format!(r#"{{"logId":"{}"}}"#, "x".repeat(129));
    let server = Server::start([
        answer(r#"{"protocolVersion":1,"logId":"log-1","limits":{}}"#),
        answer(r#"{"protocolVersion":1}"#),
        refusal("404 Not Found", "", ""),
        answer(r#"{"logId":"two words"}"#),
        answer(&long),
        refusal("503 Service Unavailable", "", ""),
    ])
    .await;
    let client = server.client();
    assert_eq!(client.log_id().await.unwrap(), Some(LogId::parse("log-1").unwrap()));
    assert!(server.requests()[0].head.starts_with("GET /capabilities HTTP/1.1\r\n"));
    for _ in ["an older substrate", "a service without the route"] {
        assert_eq!(client.log_id().await.unwrap(), None);
    }
    for _ in ["a space", "too long"] {
        let error = client.log_id().await.unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), ("substrate_protocol", false));
    }
    let error = client.log_id().await.unwrap_err();
    assert!(error.is_retryable(), "a substrate that is not there has a log all the same: {error}");
}

#[tokio::test]
async fn a_call_that_is_no_stream_ends_in_its_time_wherever_the_substrate_hangs() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec();
    for hangs in [Vec::new(), half] {
        let server = Server::start(vec![Answer::Silent(hangs); 4]).await;
        let limit = std::time::Duration::from_millis(100);
        let client = server.builder().call_timeout(limit).build().unwrap();
        let errors = [
            client.cancel(&id()).await.unwrap_err(),
            client.status(&id()).await.unwrap_err(),
            client.agents().await.unwrap_err(),
            client.log_id().await.unwrap_err(),
        ];
        for error in errors {
            let Error::Transport { cause, .. } = error else { panic!("{error}") };
            assert_eq!(cause.to_string(), "no answer within 0.1 s");
        }
        server.released().await;
    }
}

#[tokio::test]
async fn the_status_of_an_id_that_no_url_can_name_is_not_asked_for() {
    let server = Server::start([]).await;
    for dots in [".", ".."] {
        let id = ExecutionId::parse(dots).unwrap();
        let error = server.client().status(&id).await.unwrap_err();
        assert_eq!(error.code(), "substrate_protocol");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_answer_to_a_question_and_an_input_are_each_one_request() {
    let answers = [
        response("200 OK", "", r#"{"state":"answered","outcome":"accepted"}"#),
        response("202 Accepted", "", r#"{"id":"i","state":"accepted"}"#),
    ];
    let server = Server::start(answers.map(Answer::Bytes)).await;
    let client = server.client();
    let data = Json::verify(r#"{"n":1E5}"#).unwrap();
    client.answer(&id(), "q:1", Outcome::Accepted, Some(&data), Some("ann")).await.unwrap();
    client.input(&id(), "i", "more", None).await.unwrap();
    let [answer, input] = &server.requests()[..] else { panic!("two requests") };
    let path = "POST /agents/executions/project:session:0";
    assert!(answer.head.starts_with(&format!("{path}/interactions/q:1 ")), "{}", answer.head);
    let body = br#"{"id":"q:1","outcome":"accepted","data":{"n":1E5},"by":"ann"}"#;
    assert_eq!(&answer.body[..], body, "the data is sent as it is spelt");
    assert!(input.head.starts_with(&format!("{path}/input ")), "{}", input.head);
    assert_eq!(input.json(), json!({ "id": "i", "message": "more" }));
}

#[tokio::test]
async fn why_an_answer_was_not_taken_is_told() {
    let error =
        |code: &str, more: &str| format!(r#"{{"error":{{"code":"{code}",{more}"message":"m"}}}}"#);
    let answers = [
        ("409 Conflict", error("interaction_answered", r#""outcome":"declined","#)),
        ("422 Unprocessable Content", error("invalid_answer", r#""field":"data.age","#)),
        ("503 Service Unavailable", error("unavailable", "")),
    ];
    let server = Server::start(answers.map(|(status, body)| refusal(status, "", &body))).await;
    let mut refusals = Vec::new();
    for _ in 0..3 {
        match server.client().answer(&id(), "q", Outcome::Accepted, None, None).await {
            Err(Error::Refused(refusal)) => refusals.push(refusal),
            other => panic!("it is refused: {other:?}"),
        }
    }
    let said: Vec<_> = refusals
        .iter()
        .map(|refusal| (refusal.outcome(), refusal.field(), refusal.is_transient()))
        .collect();
    assert_eq!(
        said,
        [(Some("declined"), None, false), (None, Some("data.age"), false), (None, None, true)]
    );
    assert_eq!(server.requests().len(), 3, "none is asked again by itself");
}
