//! Several processes over one Redis.

use reqwest::Response;
use serde_json::json;
use turnkit_testkit::redis::RedisServer;

use crate::support::{Process, http, run, text};

fn substrate(redis: &RedisServer) -> Process {
    let arguments = ["substrate", "--listen", "127.0.0.1:0", "--demo-pace", "30ms"];
    Process::start(&[&arguments[..], &["--log", &redis.url()]].concat())
}

async fn ask(substrate: &Process, message: &str, cursor: Option<&str>) -> Response {
    let body = json!({ "message": message }).to_string();
    let request = http().post(format!("{}/agents/run/stream", substrate.url)).body(body);
    let request =
        request.header("content-type", "application/json").header("X-Execution-ID", "one");
    let request = match cursor {
        Some(cursor) => request.header("Last-Event-ID", cursor),
        None => request,
    };
    request.send().await.unwrap()
}

#[tokio::test]
async fn another_process_serves_what_one_runs_and_goes_on_when_that_is_killed() {
    let redis = RedisServer::start();
    let running = substrate(&redis);
    let whole = ask(&running, "hello", None).await.text().await.unwrap();
    assert!(whole.contains("event: execution.completed"), "{whole}");

    let other = substrate(&redis);
    drop(running);
    assert_eq!(ask(&other, "hello", None).await.text().await.unwrap(), whole);
    let ids: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let rest = ask(&other, "", Some(ids[3])).await.text().await.unwrap();
    let retry = "retry: 1000\n\n";
    assert_eq!(
        rest.strip_prefix(retry).unwrap(),
        &whole[whole.find(&format!("id: {}\n", ids[4])).unwrap()..]
    );
    assert_eq!(ask(&other, "another message", None).await.status(), 409);
}

#[test]
fn a_redis_that_does_not_answer_is_an_error_that_keeps_the_password() {
    for url in [
        "redis://:very-secret@127.0.0.1:1",
        "rediss://:very-secret@127.0.0.1:1",
        "redis://:very-secret@h:x",
    ] {
        let output = run(&["substrate", "--listen", "127.0.0.1:0", "--log", url]);
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{why}");
        assert!(why.contains("edis") && !why.contains("secret"), "{why}");
    }
}

#[test]
fn two_servers_of_one_directory_have_one_log() {
    let data_dir = tempfile::tempdir().unwrap();
    let [redis, other] = [RedisServer::start(), RedisServer::start()];
    let first = Process::serve(&data_dir, &["--log", &redis.url()]);
    let directory = data_dir.path().to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", directory, "--log"];
    let refused = run(&[&serve[..], &[&other.url()]].concat());
    let why = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("a server with another substrate uses it"), "{why}");
    drop(Process::serve(&data_dir, &["--log", &redis.url()]));
    assert_eq!(first.terminate(), Some(0));
}
