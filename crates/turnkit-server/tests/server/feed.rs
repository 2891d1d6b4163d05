//! What a user is told of all that changes, on whichever server.

use std::collections::VecDeque;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use turnkit_wire::sse::Parser;

use crate::support::{Client, HANG, Rig, TestServer, json_of};

/// A feed that is followed.
struct Feed {
    response: Response,
    parser: Parser,
    frames: VecDeque<(String, String, Value)>,
    id: String,
}

impl Feed {
    async fn open(client: &Client, path: &str, last: Option<&str>) -> Feed {
        let request = client.http.get(format!("{}/api/{path}", client.url));
        let request =
            last.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Feed { response, parser: Parser::new(), frames: VecDeque::new(), id: String::new() }
    }

    /// The next entry: its name and its data.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((id, name, data)) = self.frames.pop_front() {
                self.id = id;
                return Some((name, data));
            }
            let chunk = timeout(HANG, self.response.chunk()).await.expect("the feed is silent");
            let chunk = chunk.unwrap()?;
            let frames = &mut self.frames;
            self.parser
                .feed(&chunk, |frame| {
                    let data = serde_json::from_slice(frame.data()).unwrap();
                    frames.push_back((frame.id().to_owned(), frame.event().to_owned(), data));
                })
                .unwrap();
        }
    }

    /// The names of so many entries, with the turn that each is about.
    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            let (name, data) = self.next().await.expect("the feed has ended");
            told.push(format!("{name} {}", data["turnId"].as_str().unwrap_or("-")));
        }
        told
    }
}

#[tokio::test]
async fn another_server_tells_what_happens_at_this_one() {
    let rig = Rig::start().await;
    let other = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    let client = rig.client();
    let mut feed = Feed::open(&other.client, "events", None).await;
    let session = client.session().await;
    let (name, data) = feed.next().await.unwrap();
    assert_eq!((&*name, &data["sessionId"]), ("session.updated", &json!(session)));
    let open = client.turn(&session, "t0", "hello").await;
    let (name, data) = feed.next().await.unwrap();
    assert_eq!(
        (&*name, &data["turnId"], &data["state"]),
        ("turn.accepted", &json!("t0"), &json!("open"))
    );
    assert_eq!((&data["message"], &data["turnIndex"]), (&json!("hello"), &json!(0)));
    assert!(data["executionId"].is_string() && data["at"].is_string(), "{data}");
    for id in ["t1", "t2"] {
        let waits = json!({ "turnId": id, "message": "later", "queue": true });
        client.post(&format!("/{session}/turns"), &waits).await;
    }
    let path = client.at(&format!("/{session}/turns/t1"));
    let edit = client.http.patch(&path).header("content-type", "application/json");
    edit.body(r#"{"message":"edited"}"#).send().await.unwrap();
    client.http.delete(client.at(&format!("/{session}/turns/t2"))).send().await.unwrap();
    assert_eq!(
        feed.take(4).await,
        ["turn.queued t1", "turn.queued t2", "turn.changed t1", "turn.removed t2"]
    );
    let place = feed.id.clone();
    // A reader of one session, who comes with the place that the session was read at.
    let whole = json_of(client.get(&format!("/{session}")).await).await;
    assert_eq!(whole["feed"], json!(place));
    let from = format!("sessions/{session}/events?after={place}");
    let mut of_session = Feed::open(client, &from, None).await;
    client.session().await;
    rig.substrate.allow(10);
    let told = ["turn.ended t0", "turn.accepted t1", "turn.ended t1"];
    assert_eq!(of_session.take(3).await, told);
    drop(open);
    drop(feed);
    // All servers die, and somebody comes back with an older place.
    other.kill().await;
    rig.server.kill().await;
    let next = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    let mut feed = Feed::open(&next.client, "events?after=ignored", Some(&place)).await;
    let mut told: Vec<_> = told.map(str::to_owned).to_vec();
    let mut all = feed.take(4).await;
    all.sort();
    told.push("session.updated -".to_owned());
    told.sort();
    assert_eq!(all, told);
    next.client.http.delete(next.client.at(&format!("/{session}"))).send().await.unwrap();
    let (name, data) = feed.next().await.unwrap();
    assert_eq!((&*name, &data["sessionId"]), ("session.deleted", &json!(session)));
}

#[tokio::test]
async fn a_place_that_is_none_of_the_feed_is_told_and_a_deleted_sessions_feed_ends() {
    let rig = Rig::start().await;
    let (client, session) = (rig.client(), rig.client().session().await);
    let refused = async |path: &str| {
        let response = client.http.get(format!("{}/api/{path}", client.url)).send().await.unwrap();
        let status = response.status();
        let body = json_of(response).await;
        (status, body["error"]["code"].as_str().unwrap().to_owned())
    };
    let list = json_of(client.get("").await).await;
    let end = list["feed"].as_str().unwrap();
    let (feed, number) = end.split_once('-').unwrap();
    let beyond = format!("events?after={feed}-{}", number.parse::<u64>().unwrap() + 1);
    for path in [&*beyond, "events?after=0123456789abcdef-0"] {
        assert_eq!(refused(path).await, (StatusCode::GONE, "feed_expired".to_owned()), "{path}");
    }
    for path in ["events?after=nothing", "events?after=abc-01", "events?after=ABC-1"] {
        assert_eq!(
            refused(path).await,
            (StatusCode::BAD_REQUEST, "invalid_request".to_owned()),
            "{path}"
        );
    }
    let none = (StatusCode::NOT_FOUND, "session_not_found".to_owned());
    assert_eq!(refused("sessions/none/events").await, none);
    let mut of_session = Feed::open(client, &format!("sessions/{session}/events"), None).await;
    client.http.delete(client.at(&format!("/{session}"))).send().await.unwrap();
    assert_eq!(of_session.take(1).await, ["session.deleted -"]);
    assert_eq!(of_session.next().await, None);
    assert_eq!(refused(&format!("sessions/{session}/events")).await, none);
}
