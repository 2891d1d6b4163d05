//! The outside cases that judge a status or a content type.
//!
//! They lie beside the repository, or where `TURNKIT_VECTORS` says. Where they are missing the test says so and passes,
//! but not under `CI=true`.

use std::{env, fs, path::PathBuf};

use serde_json::Value;

use super::support::{Answer, Server, completed, read, response};

#[tokio::test]
async fn a_status_or_a_content_type_that_is_no_event_stream_fails_the_connection() {
    let Some(cases) = cases() else { return };
    let cases: Vec<_> = cases.iter().filter(|case| !case["http"].is_null()).collect();
    assert!(!cases.is_empty());
    for case in cases {
        judge(case).await;
    }
}

/// `open` delivers what the stream holds, whatever a parameter says of its encoding; `fail` delivers nothing.
async fn judge(case: &Value) {
    let http = &case["http"];
    let status = http["status"].as_u64().unwrap_or(200);
    let headers = format!("content-type: {}\r\n", http["content_type"].as_str().unwrap());
    let event = "id: 7-1\nevent: x\ndata: \"ok\u{2026}\"\n\n";
    let answer = response(&format!("{status} X"), &headers, event.to_owned() + &completed(2));
    let server = Server::start([Answer::Bytes(answer)]).await;
    let (read, end) = read(server.run()).await;
    match http["expect"].as_str().unwrap() {
        "open" => {
            assert_eq!(read, ["{\"type\":\"x\",\"data\":\"ok\u{2026}\"}"], "{}", case["name"]);
        }
        _ => assert!(read.is_empty() && end.is_err(), "{}: {read:?} {end:?}", case["name"]),
    }
    assert_eq!(server.requests().len(), 1, "{}", case["name"]);
}

fn cases() -> Option<Vec<Value>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder =
        env::var_os("TURNKIT_VECTORS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let file = folder.join("sse-cases.json");
    let Ok(text) = fs::read(&file) else {
        assert!(
            env::var_os("CI").is_none_or(|ci| ci != "true"),
            "no outside cases at {}",
            file.display()
        );
        eprintln!("no outside cases at {}: set TURNKIT_VECTORS", file.display());
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}
