//! What is left of a turn when a server dies, a database is locked, or a substrate forgets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;
use tokio::sync::Semaphore;
use turnkit_chat::sqlite::rusqlite::{Connection, TransactionBehavior};
use turnkit_id::ExecutionId;
use turnkit_sandbox::SandboxClient;
use turnkit_testkit::proxy::{CuttingProxy, Fault};

use crate::support::{
    BUSY, Rig, TEXT, TestServer, TestSubstrate, failure, is_complete, message, parse,
};

const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(3_600);

const IMPATIENT: Duration = Duration::from_millis(20);

fn database(data_dir: &Path) -> Connection {
    Connection::open(data_dir.join("turnkit.db")).unwrap()
}

#[tokio::test]
async fn a_client_goes_on_with_its_cursor_at_the_next_server() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(2);
    let before = lines.take(3).await;
    rig.server.kill().await;
    let next = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    let mut resumed = next.client.resume(&session, "t", 3).await;
    rig.substrate.allow(1);
    let again = resumed.take(1).await;
    rig.substrate.allow(2);
    let whole = [before, again, resumed.all().await].concat();
    assert!(is_complete(&whole));
    let drawn: String = whole
        .iter()
        .filter_map(|line| parse(line)["data"]["delta"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(drawn, TEXT);
    assert_eq!(next.client.messages(&session).await.len(), 2);
    assert_eq!(rig.substrate.runs(), 1);
}

#[tokio::test]
async fn a_turn_whose_server_died_is_finished_although_no_client_comes_back() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(2);
    lines.take(3).await;
    rig.server.kill().await;
    rig.substrate.allow(3);
    let next = TestServer::with(rig.data_dir.path(), &rig.substrate.url, BUSY, LATER).await;
    assert_eq!(next.client.answer(&session).await, (TEXT.to_owned(), "complete".to_owned()));
    assert_eq!(rig.substrate.runs(), 1);
}

#[tokio::test]
async fn another_living_worker_leaves_the_turn_alone_and_takes_it_up_when_its_driver_dies() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(1);
    lines.take(2).await;
    // Not before the turn is driven: its sweep might find it between the row and the lease, and read along.
    let other = TestServer::with(rig.data_dir.path(), &rig.substrate.url, BUSY, SOON).await;
    let mut reader = other.client.resume(&session, "t", 0).await;
    reader.take(2).await;
    assert!(attaches(&other).await.contains("{kind=\"attach\"} 0"));
    drop(reader);
    // Else it might be the reader who saves the answer.
    crate::trace::ended(&other.client, &session).await;
    rig.server.kill().await;
    rig.substrate.allow(4);
    assert_eq!(other.client.answer(&session).await, (TEXT.to_owned(), "complete".to_owned()));
    assert!(attaches(&other).await.contains("{kind=\"attach\"} 1"));
    assert_eq!(rig.substrate.runs(), 1);
}

async fn attaches(server: &TestServer) -> String {
    let metrics = server.client.http.get(format!("{}/metrics", server.client.url));
    metrics.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn an_answer_that_could_not_be_saved_is_saved_by_the_sweep() {
    let data_dir = tempfile::tempdir().unwrap();
    let substrate = TestSubstrate::start().await;
    let server = TestServer::with(data_dir.path(), &substrate.url, IMPATIENT, SOON).await;
    let session = server.client.session().await;
    let mut lines = server.client.turn(&session, "t", "hello").await;
    substrate.allow(1);
    lines.take(2).await;
    let mut database = database(data_dir.path());
    let lock = database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    substrate.allow(4);
    assert_eq!(failure(&lines.all().await), ("hook_failed".to_owned(), true));
    assert_eq!(server.client.open_turns(&session).await.len(), 1, "the turn stays open");
    drop(lock);
    assert_eq!(server.client.answer(&session).await, (TEXT.to_owned(), "complete".to_owned()));
    assert_eq!(substrate.runs(), 1);
}

#[tokio::test]
async fn a_failure_is_told_as_final_once_it_is_written() {
    let data_dir = tempfile::tempdir().unwrap();
    let substrate = TestSubstrate::start().await;
    let server = TestServer::with(data_dir.path(), &substrate.url, IMPATIENT, LATER).await;
    let session = server.client.session().await;
    let mut lines = server.client.turn(&session, "t", "fail").await;
    substrate.allow(1);
    lines.take(2).await;
    let mut database = database(data_dir.path());
    let lock = database.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    substrate.allow(4);
    let mut told = tokio::spawn(lines.all());
    // Who is told nothing meanwhile is told once the database is free.
    let early = tokio::time::timeout(Duration::from_millis(500), &mut told).await;
    drop(lock);
    let told = match early {
        Ok(told) => told.unwrap(),
        Err(_) => told.await.unwrap(),
    };
    assert_eq!(failure(&told), ("out_of_words".to_owned(), false));
    substrate.allow(5);
    assert!(is_complete(&server.client.turn(&session, "next", "hello").await.all().await));
}

/// As where its process stood still for longer than a lease, and the log was lost meanwhile.
#[tokio::test]
async fn who_does_not_drive_a_turn_any_more_says_how_it_ended_for_whoever_does() {
    let data_dir = tempfile::tempdir().unwrap();
    let [substrate, forgetful] = [TestSubstrate::start().await, TestSubstrate::start().await];
    let proxy = CuttingProxy::start(address(&substrate), |_| Fault::None).await.unwrap();
    let server = TestServer::with(data_dir.path(), &proxy.url(), BUSY, LATER).await;
    let session = server.client.session().await;
    let mut lines = server.client.turn(&session, "t", "hello").await;
    substrate.allow(2);
    lines.take(3).await;
    let failed =
        "state = 'failed', failure_code = 'runner_lost', failure_message = 'gone', ended_at = 1";
    update_turns(data_dir.path(), &format!("epoch = epoch + 1, {failed}"));
    proxy.lead_to(address(&forgetful));
    proxy.cut_all();
    assert_eq!(failure(&lines.all().await), ("runner_lost".to_owned(), false));
}

fn address(substrate: &TestSubstrate) -> SocketAddr {
    substrate.url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// What a server leaves behind that dies between accepting a turn and dispatching it. Written past the store, so that no living
/// server is woken by it.
fn insert_undispatched(data_dir: &Path, session: &str) {
    let rows = format!(
        "INSERT INTO turnkit_turns (session_id, turn_index, turn_id, execution_id, agent, created_at)
            VALUES ('{session}', 0, 't', 'local:{session}:0', 'default', 0);
        INSERT INTO turnkit_messages (execution_id, role, session_id, turn_index, text, status, created_at)
            VALUES ('local:{session}:0', 'user', '{session}', 0, 'hello', 'complete', 0);
        UPDATE turnkit_sessions SET next_index = 1 WHERE id = '{session}';"
    );
    database(data_dir).execute_batch(&rows).unwrap();
}

#[tokio::test]
async fn a_turn_that_was_accepted_but_never_dispatched_is_run_once() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    rig.server.kill().await;
    insert_undispatched(rig.data_dir.path(), &session);
    rig.substrate.allow(5);
    let next = TestServer::with(rig.data_dir.path(), &rig.substrate.url, BUSY, LATER).await;
    assert_eq!(next.client.answer(&session).await, (TEXT.to_owned(), "complete".to_owned()));
    assert_eq!(rig.substrate.runs(), 1);
}

#[tokio::test]
async fn a_resume_of_a_turn_that_was_never_dispatched_waits_until_the_sweep_has_run_it() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    insert_undispatched(rig.data_dir.path(), &session);
    rig.substrate.allow(5);
    let lines = rig.client().resume(&session, "t", 0).await.all().await;
    assert!(is_complete(&lines), "{lines:?}");
    assert_eq!(rig.client().messages(&session).await[1], message("assistant", TEXT, "complete"));
    assert_eq!(rig.substrate.runs(), 1);
}

#[tokio::test]
async fn a_turn_that_was_never_dispatched_is_stopped_without_running() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    insert_undispatched(rig.data_dir.path(), &session);
    assert_eq!(rig.client().cancel(&session, "t").await.state, "stopped");
    let (code, _) = failure(&rig.client().turn(&session, "t", "hello").await.all().await);
    assert_eq!(code, "cancelled");
    assert_eq!(rig.substrate.runs(), 0);
}

#[tokio::test]
async fn a_substrate_that_forgot_ends_the_turn_as_lost_and_never_runs_it_again() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let mut lines = rig.client().turn(&session, "t", "hello").await;
    rig.substrate.allow(2);
    lines.take(3).await;
    rig.server.kill().await;
    let forgetful = TestSubstrate::start().await;
    forgetful.allow(5);
    let next = TestServer::start(rig.data_dir.path(), &forgetful).await;
    assert_eq!(next.client.answer(&session).await, (String::new(), "failed".to_owned()));
    for lines in
        [next.client.resume(&session, "t", 1).await, next.client.turn(&session, "t", "hello").await]
    {
        let (code, retryable) = failure(&lines.all().await);
        assert!(!retryable);
        assert_eq!(code, "execution_lost");
    }
    assert_eq!(forgetful.runs(), 0);
}

/// What a server leaves behind that dispatched a turn and died, and whose run never arrived: another has bound the id, so that
/// it cannot arrive any more, and died in its turn.
async fn leave_bound(rig: &Rig, session: &str) {
    insert_undispatched(rig.data_dir.path(), session);
    update_turns(rig.data_dir.path(), "dispatched = 1");
    let substrate = SandboxClient::builder(&rig.substrate.url).build().unwrap();
    let id = ExecutionId::derive("local", session, 0).unwrap();
    substrate.cancel(&id).await.unwrap();
}

fn update_turns(data_dir: &Path, columns: &str) {
    database(data_dir).execute_batch(&format!("UPDATE turnkit_turns SET {columns}")).unwrap();
}

#[tokio::test]
async fn a_turn_whose_run_never_arrived_is_lost_whoever_takes_it_up() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    leave_bound(&rig, &session).await;
    let reader = rig.client().resume(&session, "t", 0).await.all().await;
    assert_eq!(failure(&reader), ("execution_lost".to_owned(), false));
    assert_eq!(rig.client().answer(&session).await, (String::new(), "failed".to_owned()));
    let later = rig.client().resume(&session, "t", 0).await.all().await;
    assert_eq!(failure(&later), ("execution_lost".to_owned(), false));
    assert_eq!(rig.substrate.runs(), 0);
}

#[tokio::test]
async fn a_turn_that_a_user_stopped_before_it_ran_is_stopped_whoever_takes_it_up() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    leave_bound(&rig, &session).await;
    update_turns(rig.data_dir.path(), "stop_asked = 1");
    let reader = rig.client().resume(&session, "t", 0).await.all().await;
    assert_eq!(failure(&reader), ("cancelled".to_owned(), false));
    assert_eq!(rig.client().answer(&session).await, (String::new(), "stopped".to_owned()));
}

/// Holds back each request that could start a run, until it is let through.
fn hold_runs(gate: Arc<Semaphore>) -> impl FnOnce(axum::Router) -> axum::Router {
    move |router| {
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let gate = Arc::clone(&gate);
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let is_run =
                    !body.is_empty() && parse(std::str::from_utf8(&body).unwrap())["message"] != "";
                if is_run && parts.uri.path().ends_with("/run/stream") {
                    gate.acquire().await.unwrap().forget();
                }
                next.run(Request::from_parts(parts, Body::from(body))).await
            }
        }))
    }
}

/// Loses the answer of the first run, once `gate` lets it; counts the runs that are asked for.
fn lose_the_answer(
    gate: Arc<Semaphore>,
    asked: Arc<AtomicU64>,
) -> impl FnOnce(axum::Router) -> axum::Router {
    move |router| {
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let (gate, asked) = (Arc::clone(&gate), Arc::clone(&asked));
            let is_run =
                request.method() == "POST" && !request.headers().contains_key("last-event-id");
            async move {
                let answer = next.run(request).await;
                if is_run && asked.fetch_add(1, Relaxed) == 0 {
                    gate.acquire().await.unwrap().forget();
                    return StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
                answer
            }
        }))
    }
}

#[tokio::test]
async fn a_run_that_a_reader_has_seen_is_not_asked_for_again() {
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::default());
    let wrap = lose_the_answer(Arc::clone(&gate), Arc::clone(&asked));
    let substrate = TestSubstrate::behind(wrap).await;
    let data_dir = tempfile::tempdir().unwrap();
    let server = TestServer::start(data_dir.path(), &substrate).await;
    let session = server.client.session().await;
    let first = server.client.turn(&session, "t", "hello").await;
    substrate.asked(1).await;
    let mut reader = server.client.resume(&session, "t", 0).await;
    substrate.allow(1);
    reader.take(2).await;
    gate.add_permits(1);
    substrate.allow(4);
    assert!(is_complete(&first.all().await) && is_complete(&reader.all().await));
    assert_eq!(server.client.answer(&session).await, (TEXT.to_owned(), "complete".to_owned()));
    assert_eq!(asked.load(Relaxed), 1);
}

#[tokio::test]
async fn who_comes_before_the_substrate_has_accepted_the_run_waits_for_it() {
    let gate = Arc::new(Semaphore::new(0));
    let data_dir = tempfile::tempdir().unwrap();
    let substrate = TestSubstrate::behind(hold_runs(Arc::clone(&gate))).await;
    let server = TestServer::start(data_dir.path(), &substrate).await;
    let other = TestServer::start(data_dir.path(), &substrate).await;
    let session = server.client.session().await;
    let first = server.client.turn(&session, "t", "hello").await;
    let mut early = server.client.resume(&session, "t", 0).await;
    let mut elsewhere = other.client.turn(&session, "t", "hello").await;
    let begun = [early.take(1).await, elsewhere.take(1).await];
    let so_far = substrate.asked(3).await;
    substrate.asked(so_far + 4).await;
    gate.add_permits(1);
    substrate.allow(5);
    let first = first.all().await;
    assert!(is_complete(&first));
    assert_eq!([begun[0].clone(), early.all().await].concat(), first);
    assert_eq!([begun[1].clone(), elsewhere.all().await].concat(), first);
    assert_eq!(substrate.runs(), 1);
}

#[tokio::test]
async fn a_turn_that_nobody_drives_can_be_stopped_and_keeps_what_its_log_holds() {
    let data_dir = tempfile::tempdir().unwrap();
    let substrate = TestSubstrate::start().await;
    let server = TestServer::with(data_dir.path(), &substrate.url, IMPATIENT, LATER).await;
    let session = server.client.session().await;
    let mut lines = server.client.turn(&session, "t", "hello").await;
    substrate.allow(2);
    lines.take(3).await;
    server.kill().await;
    // Its own sweep would take the turn up; here the request to stop comes first, or meets it.
    let next = TestServer::with(data_dir.path(), &substrate.url, BUSY, LATER).await;
    assert_eq!(next.client.cancel(&session, "t").await.state, "stopped");
    let (_, text, status) = next.client.messages(&session).await.pop().unwrap();
    assert_eq!(status, "stopped");
    assert!("w0 w1 ".starts_with(&text), "{text}");
    assert_eq!(substrate.runs(), 1);
}

#[tokio::test]
async fn messages_of_a_failed_turn_stay_readable_at_the_next_server() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    rig.substrate.allow(5);
    rig.client().turn(&session, "t", "please fail").await.all().await;
    rig.server.kill().await;
    let next = TestServer::start(rig.data_dir.path(), &rig.substrate).await;
    let kept = [message("user", "please fail", "complete"), message("assistant", TEXT, "failed")];
    assert_eq!(next.client.messages(&session).await, kept);
}
