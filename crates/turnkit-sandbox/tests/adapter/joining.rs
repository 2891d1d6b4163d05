//! Several readers of one execution: who starts it, who drives it on, and who comes early (PROTOCOL 4.1, 4.2).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;
use turnkit::TurnProducer;
use turnkit_sandbox::{Error, SandboxTurn};

use super::support::{
    Answer, Server, completed, error_of, frames, id, lines, read, refusal, stream,
};

fn unknown() -> Answer {
    refusal("404 Not Found", "", r#"{"error":{"code":"execution_not_found"}}"#)
}

fn status(state: &str) -> Answer {
    refusal("200 OK", "", &format!(r#"{{"executionId":"project:session:0","state":"{state}"}}"#))
}

/// A reader whose run is due for so many questions, and how often it was asked.
fn joined(server: &Server, due: usize) -> (SandboxTurn, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let is_due = move || std::future::ready(counted.fetch_add(1, Ordering::Relaxed) < due);
    (server.client().join(id(), is_due), asked)
}

#[tokio::test]
async fn a_reader_that_comes_early_gets_the_run_once_it_is_accepted() {
    let there = stream(frames(1..=2) + &completed(3));
    let server = Server::start([unknown(), unknown(), there]).await;
    let (turn, asked) = joined(&server, usize::MAX);
    let (read, end) = read(turn).await;
    end.unwrap();
    assert_eq!(read, lines(1..=2));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    for request in server.requests() {
        assert_eq!(
            (request.header("last-event-id"), &request.json()["message"]),
            (Some("0"), &"".into())
        );
    }
}

#[tokio::test]
async fn a_run_that_is_no_longer_due_is_looked_for_once_more_and_then_lost() {
    let server = Server::start([unknown(), unknown(), stream(completed(1))]).await;
    let (turn, asked) = joined(&server, 0);
    assert!(matches!(error_of(turn).await, Error::Lost(_)));
    assert_eq!((asked.load(Ordering::Relaxed), server.requests().len()), (1, 2));

    let server = Server::start([unknown(), stream(completed(1))]).await;
    read(joined(&server, 0).0).await.1.unwrap();
}

#[tokio::test]
async fn who_drives_a_turn_on_binds_a_lost_execution() {
    let server = Server::start([unknown(), status("cancelled")]).await;
    let error = error_of(server.client().attach_or_bind(id())).await;
    assert!(matches!(error, Error::Lost(_)), "{error}");
    let [_, bind] = &server.requests()[..] else { panic!("two requests") };
    assert!(bind.head.starts_with("POST /agents/run/cancel "), "{}", bind.head);
    assert_eq!(bind.json()["executionId"], "project:session:0");
}

#[tokio::test]
async fn an_execution_that_is_there_when_it_is_to_be_bound_is_read() {
    let there = stream(frames(1..=1) + &completed(2));
    let server = Server::start([unknown(), status("completed"), there]).await;
    let (read, end) = read(server.client().attach_or_bind(id())).await;
    end.unwrap();
    assert_eq!(read, lines(1..=1));
}

#[tokio::test]
async fn an_execution_that_cannot_be_bound_is_not_given_up_as_lost() {
    let server = Server::start([unknown(), refusal("503 Service Unavailable", "", "")]).await;
    let error = error_of(server.client().attach_or_bind(id())).await;
    assert!(error.is_retryable(), "the run may still come: {error}");
}

#[tokio::test]
async fn a_plain_attach_binds_nothing() {
    let server = Server::start([unknown()]).await;
    assert!(matches!(error_of(server.client().attach(id())).await, Error::Lost(_)));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_run_whose_answer_is_late_attaches_once_somebody_has_read_it() {
    let there = stream(frames(1..=2) + &completed(3));
    let server = Server::start([Answer::Silent(Vec::new()), there]).await;
    let (tell, told) = oneshot::channel::<()>();
    let mut turn = server.run().begun_when(async { drop(told.await) });
    // A `next` that is dropped loses neither the request nor the signal.
    drop(tokio::time::timeout(Duration::ZERO, turn.next()).await);
    let reading = tokio::spawn(read(turn));
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    tell.send(()).unwrap();
    let (read, end) = reading.await.unwrap();
    end.unwrap();
    assert_eq!(read, lines(1..=2));
    let [run, attach] = &server.requests()[..] else { panic!("two requests") };
    assert_eq!((run.header("last-event-id"), &run.json()["message"]), (None, &"hello".into()));
    assert_eq!(
        (attach.header("last-event-id"), &attach.json()["message"]),
        (Some("0"), &"".into())
    );
}

#[tokio::test]
async fn a_run_that_was_read_before_it_is_sent_is_never_sent() {
    let server = Server::start([stream(completed(1))]).await;
    read(server.run().begun_when(std::future::ready(()))).await.1.unwrap();
    assert_eq!(server.requests()[0].header("last-event-id"), Some("0"));
}

#[tokio::test]
async fn an_execution_that_was_cancelled_before_its_first_event_never_began() {
    let bound = "id: 7-1\nevent: execution.started\ndata: {}\n\nid: 7-2\nevent: execution.cancelled\ndata: {}\n\n";
    let cancelled = frames(1..=1) + "id: 7-2\nevent: execution.cancelled\ndata: {}\n\n";
    let server = Server::start([stream(bound), stream(cancelled)]).await;
    for has_begun in [false, true] {
        let mut turn = server.client().attach(id());
        let error = read(&mut turn).await.1.unwrap_err();
        assert!(matches!(error, Error::Cancelled(_)), "{error}");
        assert_eq!(turn.has_begun(), has_begun);
    }
}
