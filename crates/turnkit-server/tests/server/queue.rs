//! Messages that are sent while a turn runs.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Client, Rig, TEXT, TestServer, json_of, message};

async fn queue(client: &Client, session: &str, turn: &str, message: &str) -> (StatusCode, Value) {
    let body = json!({ "turnId": turn, "message": message, "queue": true });
    let response = client.post(&format!("/{session}/turns"), &body).await;
    let status = response.status();
    assert_eq!(response.headers()["x-turn-id"], turn);
    (status, json_of(response).await)
}

async fn waiting(client: &Client, session: &str) -> Value {
    json_of(client.get(&format!("/{session}/turns?state=queued")).await).await
}

async fn change(client: &Client, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = client.http.request(method.parse().unwrap(), client.at(path));
    let request = request.header("content-type", "application/json").body(body.to_string());
    let response = request.send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test]
async fn what_was_sent_during_a_turn_runs_in_order_though_all_clients_left_and_the_server_died() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t0", "hello").await;
    rig.substrate.allow(1);
    lines.take(2).await;
    for (place, id) in ["t1", "t2", "t3"].into_iter().enumerate() {
        let told = queue(rig.client(), &session, id, &format!("message {id}")).await;
        let wanted = json!({ "turnId": id, "state": "queued", "position": place + 1 });
        assert_eq!(told, (StatusCode::ACCEPTED, wanted.clone()));
        // Sent again, as by a client that has not heard of it.
        assert_eq!(queue(rig.client(), &session, id, &format!("message {id}")).await.1, wanted);
    }
    let asked = rig.client().get(&format!("/{session}/turns/t2")).await;
    assert_eq!(
        (asked.status(), json_of(asked).await["position"].clone()),
        (StatusCode::ACCEPTED, json!(2))
    );
    drop(lines);
    rig.server.kill().await;

    rig.substrate.allow(19);
    let next = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    let client = &next.client;
    while waiting(client, &session).await["turns"] != json!([]) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.answer(&session).await, (TEXT.to_owned(), "complete".to_owned()));
    let mut said = Vec::new();
    for text in ["hello", "message t1", "message t2", "message t3"] {
        said.extend([message("user", text, "complete"), message("assistant", TEXT, "complete")]);
    }
    assert_eq!(client.messages(&session).await, said);
    assert_eq!(rig.substrate.runs(), 4);
}

#[tokio::test]
async fn a_queued_turn_can_be_edited_and_removed_until_it_begins() {
    let rig = Rig::start().await;
    let (client, session) = (rig.client(), rig.client().session().await);
    let _open = client.turn(&session, "t0", "hello").await;
    for id in ["t1", "t2"] {
        queue(client, &session, id, "as it was").await;
    }
    let at = |id: &str| format!("/{session}/turns/{id}");
    let (status, edited) =
        change(client, "PATCH", &at("t2"), &json!({ "message": "as it is" })).await;
    assert_eq!(
        (status, &edited["message"], &edited["position"]),
        (StatusCode::OK, &json!("as it is"), &json!(2))
    );
    for body in [
        json!({}),
        json!({ "message": " " }),
        json!({ "message": 1 }),
        json!({ "agent": "no such" }),
    ] {
        let (status, refused) = change(client, "PATCH", &at("t2"), &body).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_request")),
            "{body}"
        );
    }
    for _ in 0..2 {
        assert_eq!(change(client, "DELETE", &at("t1"), &json!({})).await.0, StatusCode::NO_CONTENT);
    }
    for (method, path, body) in [
        (
            "POST",
            format!("/{session}/turns"),
            json!({ "turnId": "t1", "message": "as it was", "queue": true }),
        ),
        ("GET", at("t1"), json!({})),
        ("PATCH", at("t1"), json!({ "message": "late" })),
        ("POST", format!("{}/cancel", at("t1")), json!({})),
    ] {
        let (status, refused) = change(client, method, &path, &body).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (StatusCode::GONE, &json!("turn_removed")),
            "{method} {path}"
        );
    }
    let (status, refused) =
        change(client, "POST", &format!("{}/cancel", at("t2")), &json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::CONFLICT, &json!("turn_queued")));
    for (method, body) in [("PATCH", json!({ "message": "late" })), ("DELETE", json!({}))] {
        let (status, refused) = change(client, method, &at("t0"), &body).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (StatusCode::CONFLICT, &json!("turn_started"))
        );
        let (status, refused) = change(client, method, &at("none"), &body).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (StatusCode::NOT_FOUND, &json!("turn_not_found"))
        );
    }
    let listed = waiting(client, &session).await;
    assert_eq!((&listed["turns"][0]["turnId"], &listed["paused"]), (&json!("t2"), &json!(false)));
    let whole = json_of(client.get(&format!("/{session}")).await).await;
    assert_eq!(whole["queue"], listed);
    rig.substrate.allow(10);
    while waiting(client, &session).await["turns"] != json!([]) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.answer(&session).await;
    let said = client.messages(&session).await;
    assert_eq!(said[2], message("user", "as it is", "complete"));
    assert_eq!(rig.substrate.runs(), 2);
}

#[tokio::test]
async fn a_stop_pauses_the_queue_and_the_next_message_resumes_it() {
    let rig = Rig::start().await;
    let (client, session) = (rig.client(), rig.client().session().await);
    let _open = client.turn(&session, "t0", "hello").await;
    queue(client, &session, "t1", "later").await;
    assert_eq!(client.cancel(&session, "t0").await.state, "stopped");
    let listed = waiting(client, &session).await;
    assert_eq!((listed["turns"].as_array().unwrap().len(), &listed["paused"]), (1, &json!(true)));
    assert!(client.open_turns(&session).await.is_empty());
    let body = json!({ "turnId": "t2", "message": "and now" });
    let told = client.post(&format!("/{session}/turns"), &body).await;
    assert_eq!(
        told.status(),
        StatusCode::ACCEPTED,
        "behind what waits, although it did not ask to wait"
    );
    // The agent that was stopped takes some of these.
    rig.substrate.allow(15);
    while waiting(client, &session).await["turns"] != json!([]) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.answer(&session).await;
    let said: Vec<_> =
        client.messages(&session).await.into_iter().map(|(_, text, _)| text).collect();
    assert_eq!(said, ["hello", "", "later", TEXT, "and now", TEXT]);
}

#[tokio::test]
async fn sixteen_messages_wait_and_no_more() {
    let rig = Rig::start().await;
    let (client, session) = (rig.client(), rig.client().session().await);
    let _open = client.turn(&session, "t", "hello").await;
    for number in 0..16 {
        assert_eq!(
            queue(client, &session, &format!("q{number}"), "later").await.0,
            StatusCode::ACCEPTED
        );
    }
    let body = json!({ "turnId": "q16", "message": "later", "queue": true });
    let response = client.post(&format!("/{session}/turns"), &body).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key("retry-after"));
    let refused = json_of(response).await;
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["limit"]),
        (&json!("queue_full"), &json!(16))
    );
}
