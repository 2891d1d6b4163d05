//! Lost connections, and what is read over all of them (PROTOCOL 4.1).

use std::time::Duration;

use turnkit::{Produced, TurnProducer};
use turnkit_sandbox::Error;

use super::support::{
    Answer, Server, completed, error_of, frames, id, lines, read, response, stream,
};

const STREAM: &str = "content-type: text/event-stream\r\n";

#[tokio::test]
async fn a_stream_cut_at_any_byte_is_read_to_the_same_lines() {
    let whole = frames(1..=3) + &completed(4);
    let from = [0, frames(1..=1).len(), frames(1..=2).len(), frames(1..=3).len(), whole.len()];
    for cut in 0..whole.len() {
        let consumed = from.iter().rev().find(|start| **start <= cut).unwrap();
        let server = Server::start([stream(&whole[..cut]), stream(&whole[*consumed..])]).await;
        let (read, end) = read(server.run()).await;
        end.unwrap();
        assert_eq!(read, lines(1..=3), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_replay_that_begins_too_early_repeats_nothing() {
    let server =
        Server::start([stream(frames(1..=3)), stream(frames(1..=5) + &completed(6))]).await;
    let (read, end) = read(server.run()).await;
    end.unwrap();
    assert_eq!(read, lines(1..=5));
}

#[tokio::test]
async fn frames_that_come_twice_on_one_connection_are_read_once() {
    let twice = frames(1..=1) + &frames(1..=2) + &frames(2..=3) + &completed(4);
    let server = Server::start([stream(twice)]).await;
    let (read, end) = read(server.run()).await;
    end.unwrap();
    assert_eq!(read, lines(1..=3));
}

#[tokio::test]
async fn a_gap_fails_the_turn_before_an_event_behind_it_is_handed_on() {
    let server =
        Server::start([stream(frames(1..=2)), stream(frames(4..=5) + &completed(6))]).await;
    let (read, end) = read(server.run()).await;
    assert_eq!(read, lines(1..=2));
    let error = end.unwrap_err();
    assert!(matches!(error, Error::Gap(_)), "{error:?}");
    assert_eq!((error.code(), error.is_retryable()), ("execution_gap", false));
    assert_eq!(error.to_string(), "read the log without a gap: event 7-4 follows event 7-2");
}

#[tokio::test]
async fn a_log_of_a_restarted_substrate_is_not_spliced_to_what_was_read() {
    let other_log = frames(1..=3).replace("7-", "9-");
    let server = Server::start([stream(frames(1..=2)), stream(other_log)]).await;
    let (read, end) = read(server.run()).await;
    assert_eq!(read, lines(1..=2));
    assert!(matches!(end, Err(Error::Gap(_))), "{end:?}");
}

#[tokio::test]
async fn events_without_ids_are_all_handed_on_and_never_repeated() {
    let ids = "id: 7-1\nevent: x\ndata: 1\n\nevent: x\ndata: 2\n\nevent: x\ndata: 3\n\n";
    let server = Server::start([stream(ids.to_owned() + &completed(2))]).await;
    let (got, end) = read(server.run()).await;
    end.unwrap();
    assert_eq!(got.len(), 3);

    let server = Server::start([stream(ids), stream(ids)]).await;
    let (got, end) = read(server.run()).await;
    assert_eq!(got.len(), 3);
    let error = end.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("substrate_unreachable", true));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn integer_and_opaque_ids_are_cursors_too() {
    for ids in [["10", "11", "12", "13"], ["01H", "01J", "01F", "01Z"]] {
        let frame = |index: usize| format!("id: {}\nevent: x\ndata: {index}\n\n", ids[index]);
        let end = format!("id: {}\nevent: done\ndata: {{}}\n\n", ids[3]);
        let server =
            Server::start([stream(frame(0) + &frame(1)), stream(frame(1) + &frame(2) + &end)])
                .await;
        let (read, end) = read(server.run()).await;
        end.unwrap();
        assert_eq!(read.len(), 3, "{read:?}");
        assert_eq!(server.requests()[1].header("last-event-id"), Some(ids[1]));
    }
}

#[tokio::test]
async fn a_silent_stream_is_a_lost_one() {
    let silent = Answer::Silent(response("200 OK", STREAM, frames(1..=2) + ": not even this\n"));
    let server = Server::start([silent, stream(frames(3..=3) + &completed(4))]).await;
    let client = server.builder().idle_timeout(Duration::from_millis(50)).build().unwrap();
    let (read, end) = read(client.attach(id())).await;
    end.unwrap();
    assert_eq!(read, lines(1..=3));
    assert_eq!(client.reconnects(), 1);
}

#[tokio::test]
async fn a_server_that_never_answers_is_asked_again() {
    let server =
        Server::start([Answer::Silent(Vec::new()), stream(frames(1..=1) + &completed(2))]).await;
    let client = server.builder().answer_timeout(Duration::from_millis(50)).build().unwrap();
    let (read, end) = read(client.attach(id())).await;
    end.unwrap();
    assert_eq!(read, lines(1..=1));
}

#[tokio::test]
async fn a_next_that_is_dropped_loses_nothing() {
    let server = Server::start([stream(frames(1..=9) + &completed(10))]).await;
    let mut turn = server.run();
    let mut read = vec![line_of(turn.next().await.unwrap()).unwrap()];
    loop {
        let produced = tokio::select! {
            biased;
            produced = turn.next() => produced.unwrap(),
            () = tokio::task::yield_now() => continue,
        };
        match line_of(produced) {
            Some(line) => read.push(line),
            None => break,
        }
    }
    assert_eq!(read, lines(1..=9));
}

fn line_of(produced: Produced) -> Option<String> {
    match produced {
        Produced::Event(event) => Some(event.as_json().to_owned()),
        Produced::Done { .. } => None,
    }
}

#[tokio::test]
async fn a_dropped_turn_cancels_nothing_and_closes_its_connection() {
    let silent = Answer::Silent(response("200 OK", STREAM, frames(1..=1)));
    let server = Server::start([silent]).await;
    let mut turn = server.run();
    turn.next().await.unwrap();
    drop(turn);
    server.released().await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_event_that_can_not_be_read_fails_the_turn_and_is_not_asked_for_again() {
    for garbage in ["data: not json\n\n", "event: x\ndata: {\n\n", "data: {\"no\":\"type\"}\n\n"] {
        let server = Server::start([stream(frames(1..=1) + garbage + &completed(3))]).await;
        let (read, end) = read(server.run()).await;
        assert_eq!(read, lines(1..=1));
        assert_eq!(end.unwrap_err().code(), "substrate_protocol");
        assert_eq!(server.requests().len(), 1);
    }
    let invalid = [frames(1..=1).as_bytes(), b"event: x\ndata: \"\xff\"\n\n"].concat();
    let server = Server::start([stream(invalid)]).await;
    assert_eq!(read(server.run()).await.1.unwrap_err().code(), "substrate_protocol");
}

#[tokio::test]
async fn an_event_of_exactly_the_limit_passes_and_a_larger_one_fails_the_turn() {
    let event = |bytes: usize| {
        let data = "x".repeat(bytes - r#"{"type":"x","data":""}"#.len() - 1);
        format!("id: 7-1\nevent: x\ndata: \"{data}\"\n\n")
    };
    for (bytes, fits) in [(4096, true), (8192, false)] {
        let server = Server::start([stream(event(bytes) + &completed(2))]).await;
        let client = server.builder().max_event(4096).build().unwrap();
        let turn = client.attach(id());
        if fits {
            assert_eq!(read(turn).await.0[0].len(), bytes - 1);
        } else {
            assert!(error_of(turn).await.to_string().contains("4096"));
        }
    }
}
