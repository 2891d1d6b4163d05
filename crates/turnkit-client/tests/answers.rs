//! Answers to questions and messages into a running turn: sent until the server has said what came of them (PROTOCOL 4.4).

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use turnkit_client::{Client, Error, NewAnswer};

/// A client of a server that gives these answers in turn, and what it is asked.
fn client(answers: Vec<(u16, &'static str)>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let mut left = answers.into_iter();
    let next = Arc::new(Mutex::new(move || left.next().unwrap()));
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let (next, noted) = (Arc::clone(&next), Arc::clone(&noted));
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            noted.lock().unwrap().push(format!("{path} {}", String::from_utf8_lossy(&body)));
            let (status, body) = (next.lock().unwrap())();
            let body = Full::new(Bytes::from_static(body.as_bytes()));
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    (Client::builder("http://chat.test").transport(service).build().unwrap(), asked)
}

const BUSY: (u16, &str) =
    (503, r#"{"success":false,"error":{"code":"unavailable","message":"not now"}}"#);

#[tokio::test(start_paused = true)]
async fn an_answer_is_sent_until_the_server_has_said_what_came_of_it() {
    let (client, asked) = client(vec![BUSY, (200, r#"{"state":"answered","outcome":"accepted"}"#)]);
    let turn = client.follow("s", "t", 0).unwrap();
    let answer = NewAnswer::accepted().data(json!({ "option": "y" }));
    let answered = turn.answer("may/1", &answer).await.unwrap();
    assert_eq!((&*answered.state, &*answered.outcome), ("answered", "accepted"));
    let sent = r#"/api/sessions/s/turns/t/interactions/may%2F1 {"outcome":"accepted","data":{"option":"y"}}"#;
    assert_eq!(*asked.lock().unwrap(), [sent, sent]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_is_not_sent_again() {
    let other = r#"{"success":false,"error":{"code":"interaction_answered","message":"no"}}"#;
    let (client, asked) = client(vec![(409, other)]);
    let turn = client.follow("s", "t", 0).unwrap();
    let error = turn.answer("may", &NewAnswer::declined()).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code() == "interaction_answered"));
    let sent = r#"/api/sessions/s/turns/t/interactions/may {"outcome":"declined"}"#;
    assert_eq!(*asked.lock().unwrap(), [sent]);
}

#[tokio::test(start_paused = true)]
async fn a_message_into_a_turn_is_sent_under_one_id() {
    let (client, asked) = client(vec![BUSY, (202, r#"{"id":"i","state":"accepted"}"#)]);
    client.follow("s", "t", 0).unwrap().input("i", "be brief").await.unwrap();
    let sent = r#"/api/sessions/s/turns/t/input {"id":"i","message":"be brief"}"#;
    assert_eq!(*asked.lock().unwrap(), [sent, sent]);
}
