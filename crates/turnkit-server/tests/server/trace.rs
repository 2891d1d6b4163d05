//! What the developer's view is told of a turn.

use serde_json::{Value, json};

use crate::support::{Client, Rig, TestServer, json_of};

async fn attempts(client: &Client, session: &str) -> Vec<Value> {
    let trace = client.get(&format!("/{session}/turns/t/trace")).await;
    assert_eq!(trace.status(), 200);
    json_of(trace).await["attempts"].as_array().unwrap().clone()
}

fn hooks(attempt: &Value) -> Vec<&str> {
    attempt["hooks"].as_array().unwrap().iter().map(|hook| hook["hook"].as_str().unwrap()).collect()
}

/// Waits until each attempt has ended.
pub(crate) async fn ended(client: &Client, session: &str) -> Vec<Value> {
    loop {
        let attempts = attempts(client, session).await;
        if attempts.iter().all(|attempt| attempt["endedAt"].is_u64()) {
            return attempts;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn each_attempt_is_told_with_its_hooks_in_their_order() {
    let rig = Rig::start().await;
    let client = rig.client();
    let session = client.session().await;
    let mut first = client.turn(&session, "t", "hello").await;
    rig.substrate.allow(2);
    first.take(3).await;
    let running = attempts(client, &session).await;
    assert_eq!((running.len(), &running[0]["kind"]), (1, &json!("accepted")));
    assert_eq!((&running[0]["endedAt"], &running[0]["outcome"]), (&json!(null), &json!(null)));
    assert_eq!(hooks(&running[0]), ["find_completed"]);

    let second = client.resume(&session, "t", 2).await;
    drop(first);
    rig.substrate.allow(3);
    second.all().await;
    let told = ended(client, &session).await;
    let [accepted, resumed] = &told[..] else { panic!("two attempts: {told:?}") };
    assert_eq!((&accepted["client"], &accepted["outcome"]), (&json!("left"), &json!("completed")));
    assert_eq!(accepted["events"], 6);
    assert_eq!((&resumed["kind"], &resumed["resumedAfter"]), (&json!("resumed"), &json!(2)));
    assert_eq!(
        (&resumed["client"], &resumed["outcome"]),
        (&json!("attached"), &json!("completed"))
    );
    let all: Vec<_> = told.iter().flat_map(hooks).collect();
    let count = |hook| all.iter().filter(|other| **other == hook).count();
    assert_eq!((count("persist_assistant_message"), count("on_turn_complete")), (2, 1));
    assert_eq!(hooks(accepted).last(), Some(&"trace_flush"));
    assert!(accepted["startedAt"].as_u64() <= accepted["endedAt"].as_u64());
}

#[tokio::test]
async fn a_failure_has_its_code_and_a_replay_says_so() {
    let rig = Rig::start().await;
    let client = rig.client();
    let session = client.session().await;
    rig.substrate.allow(5);
    client.turn(&session, "t", "fail").await.all().await;
    let told = ended(client, &session).await;
    assert_eq!((&told[0]["outcome"], &told[0]["code"]), (&json!("failed"), &json!("out_of_words")));
    assert_eq!(hooks(&told[0]), ["find_completed", "on_turn_failed", "trace_flush"]);

    let session = client.session().await;
    rig.substrate.allow(5);
    client.turn(&session, "t", "hello").await.all().await;
    client.resume(&session, "t", 0).await.all().await;
    let told = ended(client, &session).await;
    assert_eq!((&told[1]["outcome"], &told[1]["code"]), (&json!("replayed"), &json!(null)));
}

#[tokio::test]
async fn a_turn_that_nobody_asked_for_again_was_swept() {
    let mut rig = Rig::start().await;
    let session = rig.client().session().await;
    rig.client().turn(&session, "t", "hello").await.take(1).await;
    rig.substrate.asked(1).await;
    let dead = std::mem::replace(
        &mut rig.server,
        TestServer::start(tempfile::tempdir().unwrap().path(), &rig.substrate).await,
    );
    dead.kill().await;
    rig.server = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    rig.substrate.allow(5);
    rig.client().answer(&session).await;
    let told = ended(rig.client(), &session).await;
    assert_eq!((told.len(), &told[0]["kind"]), (1, &json!("swept")));
}

#[tokio::test]
async fn nothing_is_told_of_turns_that_are_not_known() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let unknown = rig.client().get(&format!("/{session}/turns/t/trace")).await;
    assert_eq!(
        (unknown.status().as_u16(), json_of(unknown).await["error"]["code"].clone()),
        (404, json!("turn_not_found"))
    );
    rig.substrate.allow(5);
    rig.client().turn(&session, "t", "hello").await.all().await;
    let data_dir = rig.data_dir;
    rig.server.kill().await;
    let server = TestServer::start(data_dir.path(), &rig.substrate).await;
    let unknown = server.client.get(&format!("/{session}/turns/t/trace")).await;
    assert_eq!(
        (unknown.status().as_u16(), json_of(unknown).await["error"]["code"].clone()),
        (404, json!("trace_not_found"))
    );
}
