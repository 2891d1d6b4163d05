//! Starting, streaming, taking up and resuming.

use serde_json::json;

use crate::support::{Rig, TEXT, is_complete, json_of, kind, message, parse};

#[tokio::test]
async fn a_turn_streams_line_by_line_while_it_runs() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    let same = json!({ "turnId": "t", "message": "hello" });
    let same = rig.client().post(&format!("/{session}/turns"), &same).await;
    let headers = same.headers();
    assert_eq!(headers["x-execution-id"], format!("local:{session}:0"));
    assert_eq!(headers["x-turn-id"], "t");
    assert_eq!(
        (&headers["cache-control"], &headers["x-accel-buffering"]),
        (&"no-store".parse().unwrap(), &"no".parse().unwrap())
    );
    assert_eq!(
        lines.next().await.unwrap(),
        format!(
            r#"{{"type":"session.run.started","data":{{"sessionId":"{session}","tenantId":"local","turnIndex":0,"executionId":"local:{session}:0","turnId":"t"}}}}"#
        )
    );
    for at in 0..4 {
        rig.substrate.allow(1);
        assert_eq!(parse(&lines.next().await.unwrap())["data"]["delta"], format!("w{at} "));
    }
    rig.substrate.allow(1);
    assert_eq!(
        lines.next().await.unwrap(),
        format!(r#"{{"type":"session.run.completed","data":{{"sessionId":"{session}"}}}}"#)
    );
    assert_eq!(lines.next().await, None);
    let kept = [message("user", "hello", "complete"), message("assistant", TEXT, "complete")];
    assert_eq!(rig.client().messages(&session).await, kept);
}

#[tokio::test]
async fn the_same_start_again_takes_the_turn_up_from_its_first_event() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut first = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(2);
    let begun = first.take(3).await;
    let mut second = rig.client().turn(&session, "t", "hello").await;
    let second_begun = second.take(3).await;
    rig.substrate.allow(3);
    let first = [begun, first.all().await].concat();
    assert!(is_complete(&first));
    assert_eq!([second_begun, second.all().await].concat(), first);
    assert_eq!(rig.substrate.runs(), 1);
    assert_eq!(rig.client().messages(&session).await.len(), 2);
}

#[tokio::test]
async fn fifty_starts_at_once_are_one_run_and_fifty_whole_streams() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let starts =
        (0..50).map(|_| async { rig.client().turn(&session, "t", "hello").await.all().await });
    let release = async { rig.substrate.allow(5) };
    let (streams, ()) = tokio::join!(futures::future::join_all(starts), release);
    let drawn = |lines: &Vec<String>| {
        lines
            .iter()
            .filter_map(|line| parse(line)["data"]["delta"].as_str().map(str::to_owned))
            .collect::<String>()
    };
    for stream in &streams {
        assert!(is_complete(stream), "{stream:?}");
        let is_replay = stream.iter().any(|line| kind(line) == "result");
        assert!(is_replay || drawn(stream) == TEXT, "{stream:?}");
    }
    assert_eq!(rig.substrate.runs(), 1);
    assert_eq!(rig.client().messages(&session).await.len(), 2);
}

#[tokio::test]
async fn after_n_events_come_the_others() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut whole = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(4);
    let begun = whole.take(5).await;
    let mut resumed = Vec::new();
    for after in 0..5 {
        let mut lines = rig.client().resume(&session, "t", after).await;
        resumed.push((lines.take(1).await, lines));
    }
    rig.substrate.allow(1);
    let whole = [begun, whole.all().await].concat();
    for (after, (first, lines)) in resumed.into_iter().enumerate() {
        assert_eq!([first, lines.all().await].concat(), whole[after..], "after {after}");
    }
    assert_eq!(rig.substrate.runs(), 1);
}

#[tokio::test]
async fn a_cursor_beyond_the_turn_is_an_error_and_the_answer_is_saved_all_the_same() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut whole = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(1);
    whole.take(2).await;
    let beyond = rig.client().resume(&session, "t", 100).await;
    rig.substrate.asked(2).await;
    rig.substrate.allow(4);
    assert_eq!(crate::support::failure(&beyond.all().await), ("invalid_cursor".to_owned(), true));
    assert!(is_complete(&whole.all().await));
}

#[tokio::test]
async fn a_complete_turn_is_replayed_from_the_database_and_its_rest_is_read_from_the_log() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    rig.substrate.allow(5);
    let live = rig.client().turn(&session, "t", "hello").await.all().await;
    let again = rig.client().turn(&session, "t", "hello").await.all().await;
    let [started, part, result, completed] = again.as_slice() else { panic!("{again:?}") };
    assert_eq!(kind(started), "session.run.started");
    assert_eq!(parse(started)["data"]["replayed"], true);
    assert_eq!(parse(part)["data"]["part"]["text"], TEXT);
    assert_eq!(parse(result), json!({ "type": "result", "data": { "finalText": TEXT } }));
    assert_eq!(parse(completed)["data"]["replayed"], true);
    assert_eq!(rig.client().resume(&session, "t", 3).await.all().await, live[3..]);
    assert_eq!(rig.substrate.runs(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_finds_the_answer_later() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(1);
    lines.take(2).await;
    drop(lines);
    rig.substrate.allow(4);
    assert_eq!(rig.client().answer(&session).await, (TEXT.to_owned(), "complete".to_owned()));
}

#[tokio::test]
async fn a_page_that_was_reloaded_finds_its_turn() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    assert_eq!(rig.client().open_turns(&session).await, []);
    let lines = rig.client().turn(&session, "t", "hello").await;
    let told = json_of(rig.client().get(&format!("/{session}/turns?state=open")).await).await;
    let execution = format!("local:{session}:0");
    let open = json!({ "turnId": "t", "executionId": execution, "turnIndex": 0, "acceptsInput": false, "pending": [] });
    assert_eq!(told, json!({ "turns": [open] }));
    rig.substrate.allow(5);
    lines.all().await;
    assert_eq!(rig.client().open_turns(&session).await, []);
}

#[tokio::test]
async fn a_run_that_fails_keeps_its_partial_text_and_fails_the_same_again() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    rig.substrate.allow(5);
    let lines = rig.client().turn(&session, "t", "please fail").await.all().await;
    assert_eq!(crate::support::failure(&lines), ("out_of_words".to_owned(), false));
    assert_eq!(rig.client().turn(&session, "t", "please fail").await.all().await, lines);
    assert_eq!(rig.client().messages(&session).await[1], message("assistant", TEXT, "failed"));
    let messages = json_of(rig.client().get(&format!("/{session}/messages")).await).await;
    assert_eq!(messages["messages"][1]["error"]["code"], "out_of_words");
    assert_eq!(rig.substrate.runs(), 1);
}

#[tokio::test]
async fn the_next_turn_of_a_session_has_the_next_index() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    rig.substrate.allow(10);
    rig.client().turn(&session, "one", "hello").await.all().await;
    let second = rig.client().turn(&session, "two", "again").await;
    assert_eq!(second.0.execution_id(), Some(format!("local:{session}:1").as_str()));
    assert!(is_complete(&second.all().await));
    let sessions = json_of(rig.client().get("").await).await;
    assert_eq!(sessions["sessions"][0]["sessionId"], json!(session));
    assert_eq!(sessions["sessions"][0]["title"], "hello");
}

#[tokio::test]
async fn health_and_metrics_say_what_is_going_on() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let lines = rig.client().turn(&session, "t", "hello").await;
    let get = |path: &str| rig.client().http.get(format!("{}{path}", rig.client().url)).send();
    let page = get("/metrics").await.unwrap().text().await.unwrap();
    assert!(page.contains("\nturnkit_turns_running 1\n"), "{page}");
    rig.substrate.allow(5);
    lines.all().await;
    assert_eq!(json_of(get("/health").await.unwrap()).await, json!({ "status": "ok" }));
    let page = get("/metrics").await.unwrap().text().await.unwrap();
    assert!(page.contains("turnkit_attempts_total{kind=\"run\"} 1\n"), "{page}");
    let saved = "turnkit_hook_duration_seconds_count{hook=\"persist_assistant_message\"} 1\n";
    assert!(page.contains(saved), "{page}");
}
