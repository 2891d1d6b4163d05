//! Stopping a turn.

use serde_json::json;

use crate::support::{Rig, TestServer, failure, json_of, message};

#[tokio::test]
async fn a_stopped_turn_keeps_its_partial_text() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(2);
    lines.take(3).await;
    let path = format!("/{session}/turns/t/cancel");
    let cancelled = rig.client().post(&path, &json!({})).await;
    assert_eq!(cancelled.status(), 200);
    let stopped =
        json!({ "turnId": "t", "executionId": format!("local:{session}:0"), "state": "stopped" });
    assert_eq!(json_of(cancelled).await, stopped);
    assert_eq!(failure(&lines.all().await), ("cancelled".to_owned(), false));
    assert_eq!(rig.client().messages(&session).await[1], message("assistant", "w0 w1 ", "stopped"));
    let again = json_of(rig.client().post(&path, &json!({})).await).await;
    assert_eq!(again, stopped, "as often as one asks");
}

#[tokio::test]
async fn another_turn_can_follow_a_stopped_one() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let _lines = rig.client().turn(&session, "t", "hello").await;
    rig.client().cancel(&session, "t").await;
    rig.substrate.allow(10);
    rig.client().turn(&session, "next", "hello").await.all().await;
    assert_eq!(rig.client().messages(&session).await.len(), 4);
}

#[tokio::test]
async fn stopping_a_complete_turn_leaves_it_complete() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    rig.substrate.allow(5);
    rig.client().turn(&session, "t", "hello").await.all().await;
    assert_eq!(rig.client().cancel(&session, "t").await.state, "complete");
}

#[tokio::test]
async fn a_turn_that_another_worker_drives_is_stopped_too() {
    let rig = Rig::start().await;
    let other = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(2);
    lines.take(3).await;
    assert_eq!(other.client.cancel(&session, "t").await.state, "stopped");
    lines.all().await;
    assert_eq!(rig.client().messages(&session).await[1], message("assistant", "w0 w1 ", "stopped"));
}

#[tokio::test]
async fn what_stays_unknown_is_not_stopped() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let cancelled = rig.client().post(&format!("/{session}/turns/t/cancel"), &json!({})).await;
    assert_eq!(cancelled.status(), 404);
}
