//! What each answer of the substrate makes of a turn (PROTOCOL 3.1, 4.1).

use std::time::Duration;

use turnkit::TurnProducer;
use turnkit_sandbox::{Error, Retry, SandboxTurn, TransportError};

use super::support::{
    Answer, Server, completed, error_of, frames, id, lines, read, refusal, response, stream,
};

fn code(error: &Error) -> (Option<&str>, bool) {
    (SandboxTurn::error_code(error), SandboxTurn::is_retryable(error))
}

fn said(code: &str) -> String {
    format!(r#"{{"success":false,"error":{{"code":"{code}","message":"that is why"}}}}"#)
}

#[tokio::test]
async fn a_refusal_ends_the_turn_with_the_substrates_own_code() {
    for (status, said_code, expected) in [
        ("400 Bad Request", "invalid_request", "invalid_request"),
        ("401 Unauthorized", "unauthorized", "unauthorized"),
        ("403 Forbidden", "forbidden", "forbidden"),
        ("404 Not Found", "execution_not_found", "execution_lost"),
        ("410 Gone", "execution_expired", "execution_lost"),
        ("409 Conflict", "invalid_replay_cursor", "execution_lost"),
        ("409 Conflict", "execution_conflict", "execution_conflict"),
        ("413 Content Too Large", "payload_too_large", "payload_too_large"),
        ("500 Internal Server Error", "AGENT_FAILED", "AGENT_FAILED"),
    ] {
        let server = Server::start([refusal(status, "", &said(said_code))]).await;
        let error = error_of(server.run()).await;
        assert_eq!(code(&error), (Some(expected), false));
        assert!(error.to_string().ends_with(&format!("{said_code}, that is why")), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn the_same_refusals_mean_the_same_after_an_answer() {
    for said_code in ["execution_not_found", "execution_expired", "invalid_replay_cursor"] {
        let lost = refusal("410 Gone", "", &said(said_code));
        let server = Server::start([stream(frames(1..=2)), lost]).await;
        let (read, end) = read(server.run()).await;
        assert_eq!(read, lines(1..=2));
        assert!(matches!(end, Err(Error::Lost(_))), "{end:?}");
    }
}

#[tokio::test]
async fn a_refusal_that_breaks_off_is_asked_for_again() {
    let whole = said("execution_not_found");
    let headers = format!("content-length: {}\r\n", whole.len());
    let broken = refusal("404 Not Found", &headers, &whole[..whole.len() / 2]);
    let server =
        Server::start([broken.clone(), broken, refusal("404 Not Found", &headers, &whole)]).await;
    let error = error_of(server.client().attach(id())).await;
    assert!(matches!(error, Error::Lost(_)), "{error:?}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_refusal_without_a_code_means_the_execution_to_an_attach_and_anything_to_a_run() {
    for status in ["404 Not Found", "410 Gone", "409 Conflict"] {
        let answer = || refusal(status, "", "<html>");
        let server = Server::start([answer(), answer()]).await;
        assert_eq!(error_of(server.run()).await.code(), "substrate_refused");
        assert_eq!(error_of(server.client().attach(id())).await.code(), "execution_lost");
    }
}

#[tokio::test]
async fn a_refusal_that_does_not_pass_in_time_is_reported_and_retryable() {
    let busy = || refusal("429 Too Many Requests", "", &said("too_many_executions"));
    let server = Server::start([busy(), busy(), busy(), busy()]).await;
    let error = error_of(server.run()).await;
    assert_eq!(code(&error), (Some("too_many_executions"), true));
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_retry_after_that_can_not_be_kept_is_not_waited_for() {
    let later = refusal("503 Service Unavailable", "retry-after: 86400\r\n", &said("unavailable"));
    let server = Server::start([later]).await;
    let error = error_of(server.run()).await;
    let Error::Refused(refusal) = &error else { panic!("{error:?}") };
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(86_400)));
    assert_eq!(code(&error), (Some("unavailable"), true));
}

#[tokio::test]
async fn a_substrate_that_is_not_there_is_reported_as_unreachable() {
    let server = Server::start([]).await;
    let turn = server.run();
    drop(server);
    let error = error_of(turn).await;
    assert_eq!(code(&error), (Some("substrate_unreachable"), true));
    let Error::Transport { failures, .. } = error else { panic!("{error:?}") };
    assert_eq!(failures, 4);
}

#[tokio::test]
async fn a_stream_that_never_gets_further_is_given_up_after_ten_attempts() {
    let cuts = std::iter::repeat_n(stream(frames(1..=2)), 20);
    let server = Server::start(cuts).await;
    let (read, end) = read(server.run()).await;
    assert_eq!(read, lines(1..=2));
    assert!(
        matches!(end, Err(Error::Transport { cause: TransportError::Closed, failures: 11 })),
        "{end:?}"
    );
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
async fn a_failed_execution_fails_the_turn_with_its_code_and_message() {
    let failed = r#"{"code":"log_full","message":"over 64 MiB"}"#;
    let failed = format!("id: 7-2\nevent: execution.failed\ndata: {failed}\n\n");
    let server = Server::start([stream(frames(1..=1) + &failed)]).await;
    let (read, end) = read(server.run()).await;
    assert_eq!(read, lines(1..=1));
    let error = end.unwrap_err();
    assert!(matches!(error, Error::Failed(_)));
    assert_eq!(
        (code(&error), error.to_string()),
        ((Some("log_full"), false), "over 64 MiB".to_owned())
    );
}

#[tokio::test]
async fn a_failed_execution_that_is_temporary_fails_the_turn_as_that() {
    for (data, temporary) in
        [(r#"{"temporary":true}"#, true), (r#"{"temporary":false}"#, false), ("{}", false)]
    {
        let server =
            Server::start([stream(format!("event: execution.failed\ndata: {data}\n\n"))]).await;
        let error = error_of(server.run()).await;
        assert_eq!(SandboxTurn::is_temporary(&error), temporary, "{data}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn an_end_without_words_has_a_code_all_the_same() {
    for (kind, expected, message) in [
        ("execution.failed", "execution_failed", "the execution failed"),
        ("execution.cancelled", "cancelled", "the execution was cancelled"),
    ] {
        let server = Server::start([stream(format!("event: {kind}\ndata: {{}}\n\n"))]).await;
        let error = error_of(server.run()).await;
        assert_eq!(
            (code(&error), error.to_string()),
            ((Some(expected), false), message.to_owned())
        );
    }
}

#[tokio::test]
async fn an_error_event_goes_on_byte_exact() {
    let error = "id: 7-1\nevent: error\ndata: {\"code\" : \"A\", \"message\":\"\\u0041\"}\n\n";
    let server = Server::start([stream(error.to_owned() + &completed(2))]).await;
    let (read, end) = read(server.run()).await;
    assert_eq!(read, [r#"{"type":"error","data":{"code" : "A", "message":"\u0041"}}"#]);
    end.unwrap();
}

#[tokio::test]
async fn no_event_after_the_terminal_one_is_read_and_no_end_of_the_stream_is_waited_for() {
    let body = frames(1..=1) + &completed(2) + &frames(3..=3);
    let server = Server::start([Answer::Silent(response(
        "200 OK",
        "content-type: text/event-stream\r\n",
        body,
    ))])
    .await;
    let (read, end) = read(server.run()).await;
    end.unwrap();
    assert_eq!(read, lines(1..=1));
    server.released().await;
}

#[tokio::test]
async fn a_done_marker_is_the_end_of_the_stream_and_no_event() {
    let result = "id: 7-1\nevent: result\ndata: {}\n\ndata: [DONE]\n\n";
    let server = Server::start([stream(result)]).await;
    let (read, end) = read(server.run()).await;
    end.unwrap();
    assert_eq!(read.len(), 1);

    let server =
        Server::start([stream(frames(1..=1) + "data: [DONE]\n\n"), stream(completed(2))]).await;
    read_all(server.run(), 1).await;
    assert_eq!(server.requests()[1].header("last-event-id"), Some("7-1"));
}

#[tokio::test]
async fn nothing_more_is_an_end_only_after_a_result() {
    let result = "id: 7-1\nevent: result\ndata: {}\n\nid: 7-2\nevent: x\ndata: {}\n\n";
    let server = Server::start([stream(result), refusal("204 No Content", "", "")]).await;
    read_all(server.run(), 2).await;

    let server = Server::start([stream(frames(1..=2)), refusal("204 No Content", "", "")]).await;
    let error = read(server.run()).await.1.unwrap_err();
    assert_eq!(code(&error), (Some("substrate_protocol"), false));
}

#[tokio::test]
async fn an_answer_about_another_execution_is_not_read() {
    let other = "content-type: text/event-stream\r\nx-execution-id: project:session:1\r\n";
    let server = Server::start([Answer::Bytes(response("200 OK", other, frames(1..=1)))]).await;
    let error = error_of(server.run()).await;
    assert!(error.to_string().contains("another execution"), "{error}");

    let same = format!("content-type: text/event-stream\r\nx-execution-id: {}\r\n", id());
    let server = Server::start([Answer::Bytes(response("200 OK", &same, completed(1)))]).await;
    read_all(server.run(), 0).await;
}

#[tokio::test]
async fn retries_are_as_patient_as_the_client_was_told() {
    let server = Server::start([]).await;
    let none = Retry { attempts: 0, ..Retry::BEFORE_ANSWER };
    let client = server.builder().retry_before_answer(none).build().unwrap();
    error_of(client.attach(id())).await;
    assert_eq!(server.requests().len(), 1);
}

async fn read_all(turn: SandboxTurn, events: usize) {
    let (read, end) = read(turn).await;
    end.unwrap();
    assert_eq!(read.len(), events);
}
