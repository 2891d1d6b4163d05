//! The table that the page is tried by as well (`tests/vectors/client.json`, PROTOCOL 4.4): the rules alone, and the client
//! that drives them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde::Deserialize;
use serde_json::json;
use turnkit_client::{
    BoxError, Client, NewTurn, Turn, Update,
    follow::{Answer, End, Follow, Policy, Request as Ask, Step, Verdict},
};
use turnkit_wire::{DecodeErrorKind, ndjson};

#[derive(Deserialize)]
struct Table {
    lines: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    begin: Option<String>,
    patience: Option<u64>,
    answers: Vec<Scripted>,
    asked: Vec<String>,
    updates: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scripted {
    #[serde(default)]
    lost: bool,
    r#type: Option<String>,
    /// The turn waits, in this place.
    queued: Option<u64>,
    status: Option<u16>,
    code: Option<String>,
    retry_after: Option<String>,
    #[serde(default)]
    lines: Vec<String>,
    then: Option<String>,
}

fn table() -> Table {
    serde_json::from_str(include_str!("../../../tests/vectors/client.json")).unwrap()
}

impl Case {
    fn after(&self) -> Option<u64> {
        self.begin.as_deref().map(|begin| begin.strip_prefix("after ").unwrap().parse().unwrap())
    }

    fn policy(&self) -> Policy {
        Policy::with_patience(Duration::from_secs(self.patience.unwrap_or(900)))
    }
}

fn spelt(ask: Ask) -> String {
    match ask {
        Ask::Start => "start".to_owned(),
        Ask::Resume { after } => format!("after {after}"),
    }
}

#[test]
fn the_rules_lead_where_the_table_says() {
    let Table { lines, cases } = table();
    for case in &cases {
        let (asked, updates) = driven(case, &lines);
        assert_eq!(updates, case.updates, "{}", case.name);
        assert_eq!(asked, case.asked, "{}", case.name);
    }
}

/// Drives the state machine alone, with a clock that moves in waits only.
fn driven(case: &Case, lines: &BTreeMap<String, String>) -> (Vec<String>, Vec<String>) {
    let policy = case.policy();
    let mut follow = match case.after() {
        Some(after) => Follow::resume(policy, after),
        None => Follow::start(policy),
    };
    let (mut asked, mut updates) = (Vec::new(), Vec::new());
    let (mut answers, mut now) = (VecDeque::from(case.answers.clone()), Duration::ZERO);
    let (mut body, mut code) = (ndjson::Decoder::new(), String::new());
    let mut is_queued = false;
    loop {
        match follow.step() {
            Step::Send(ask) => {
                asked.push(spelt(ask));
                let answer = answers.pop_front().expect("an answer is left");
                is_queued = answer.queued.is_some();
                if answer.lost {
                    follow.lost(now, 0.5);
                } else if let Some(status) = answer.status {
                    code = answer.code.unwrap_or_else(|| format!("http_{status}"));
                    let seconds = answer.retry_after.and_then(|seconds| seconds.parse().ok());
                    let retry_after = seconds.map(Duration::from_secs);
                    follow.answered(Answer::Refused { status, retry_after }, now, 0.5);
                } else if let Some(position) = answer.queued {
                    follow.answered(Answer::Queued, now, 0.5);
                    updates.push(format!("queued as {position}"));
                } else if answer.r#type.is_some() {
                    follow.answered(Answer::Other, now, 0.5);
                } else {
                    follow.answered(Answer::Body, now, 0.5);
                    updates.push(format!("connected at {}", follow.cursor()));
                    body = ndjson::Decoder::new();
                    let sent: String =
                        answer.lines.iter().map(|line| lines[line].as_str()).collect();
                    body.push(sent.into());
                }
            }
            Step::Read => match body.next_event().or_else(|| body.finish()) {
                Some(Ok(event)) => match follow.event(&event, now, 0.5) {
                    Verdict::Taken => updates.push(format!("event {}", follow.cursor())),
                    Verdict::Replay => {
                        updates.push("connected at 0".to_owned());
                        updates.push(format!("event {}", follow.cursor()));
                    }
                    Verdict::Held | Verdict::Restart => {}
                    Verdict::End => "c".clone_into(&mut code),
                },
                Some(Err(error)) if *error.kind() == DecodeErrorKind::Truncated => {
                    follow.lost(now, 0.5);
                }
                Some(Err(_)) => {
                    "invalid_line".clone_into(&mut code);
                    follow.unreadable();
                }
                None => follow.lost(now, 0.5),
            },
            Step::WaitUntil(until) => {
                let (cursor, wait) = (follow.cursor(), until.saturating_sub(now));
                let wait = wait.as_millis();
                if !is_queued {
                    updates.push(format!("disconnected at {cursor}, again in {wait} ms"));
                }
                now = until;
                follow.tick(now);
            }
            Step::End(end) => {
                updates.push(match end {
                    End::Completed { replayed: false } => "completed".to_owned(),
                    End::Completed { replayed: true } => "completed, replayed".to_owned(),
                    End::Failed => format!("failed with {code}"),
                    End::Refused | End::Unreadable | End::GivenUp => format!("ends with {code}"),
                });
                return (asked, updates);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_goes_where_the_table_says() {
    let Table { lines, cases } = table();
    let lines = Arc::new(lines);
    for case in cases {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let client = client(&case, Arc::clone(&lines), Arc::clone(&asked));
        let turn = match case.after() {
            Some(after) => client.follow("s", "t", after),
            None => client.send("s", &NewTurn::new("t", "hello")),
        };
        let updates = told(turn.unwrap()).await;
        assert_eq!(updates.len(), case.updates.len(), "{}: {updates:?}", case.name);
        for (told, expected) in updates.iter().zip(&case.updates) {
            assert!(is_told(told, expected), "{}: {told} is not {expected}", case.name);
        }
        assert_eq!(*asked.lock().unwrap(), case.asked, "{}", case.name);
    }
}

/// The same, and waits within their jitter.
fn is_told(told: &str, expected: &str) -> bool {
    let wait = |update: &str| {
        let (what, wait) = update.split_once(", again in ")?;
        Some((what.to_owned(), wait.strip_suffix(" ms")?.parse::<f64>().ok()?))
    };
    match (wait(told), wait(expected)) {
        (Some((told, wait)), Some((expected, even))) => {
            told == expected && (even * 0.79..=even * 1.21).contains(&wait)
        }
        _ => told == expected,
    }
}

async fn told(mut turn: Turn) -> Vec<String> {
    let mut updates = Vec::new();
    loop {
        updates.push(match turn.next().await {
            Ok(Some(Update::Connected { cursor, execution_id })) => {
                assert_eq!(execution_id.as_deref(), Some("e"));
                format!("connected at {cursor}")
            }
            Ok(Some(Update::Event { cursor, .. })) => format!("event {cursor}"),
            Ok(Some(Update::Disconnected { cursor, wait, .. })) => {
                format!("disconnected at {cursor}, again in {} ms", wait.as_millis())
            }
            Ok(Some(Update::Queued { position })) => format!("queued as {position}"),
            Ok(Some(Update::Completed { replayed: true, .. })) => "completed, replayed".to_owned(),
            Ok(Some(Update::Completed { .. })) => "completed".to_owned(),
            Ok(Some(Update::Failed { failure, .. })) => {
                format!("failed with {}", failure.code.unwrap())
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => return updates,
            Err(error) => format!("ends with {}", error.code()),
        });
    }
}

/// A client whose server answers one request after the other as the case says.
fn client(
    case: &Case,
    lines: Arc<BTreeMap<String, String>>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Client {
    let answers = Arc::new(Mutex::new(VecDeque::from(case.answers.clone())));
    let first = Arc::new(Mutex::new(None));
    let send = move |request: Request<Full<Bytes>>| {
        let (answers, lines) = (Arc::clone(&answers), Arc::clone(&lines));
        let (asked, first) = (Arc::clone(&asked), Arc::clone(&first));
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let body = body.to_bytes();
            let ask = if head.method == Method::POST {
                assert_eq!(head.uri, "http://localhost/base/api/sessions/s/turns");
                assert_eq!(head.headers["content-type"], "application/json");
                assert_eq!(&body[..], br#"{"turnId":"t","message":"hello"}"#);
                let mut first = first.lock().unwrap();
                assert_eq!(first.get_or_insert(body.clone()), &body, "the same bytes each time");
                "start".to_owned()
            } else {
                assert!(body.is_empty());
                let after = head.uri.query().unwrap().strip_prefix("after=").unwrap();
                format!("after {after}")
            };
            asked.lock().unwrap().push(ask);
            let answer = answers.lock().unwrap().pop_front().expect("an answer is left");
            respond(answer, &lines)
        }
    };
    Client::builder("http://localhost/base/")
        .transport(tower::service_fn(send))
        .policy(case.policy())
        .build()
        .unwrap()
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

fn respond(answer: Scripted, lines: &BTreeMap<String, String>) -> Result<Response<Body>, BoxError> {
    if answer.lost {
        return Err("no answer".into());
    }
    let status = StatusCode::from_u16(answer.status.unwrap_or(200)).unwrap();
    let kind = answer.r#type.as_deref().unwrap_or(ndjson::CONTENT_TYPE);
    let mut response = Response::builder().status(status);
    response = response.header("content-type", kind).header("x-execution-id", "e");
    if let Some(after) = answer.retry_after {
        response = response.header("retry-after", after);
    }
    let whole = |text: String| Full::from(text).map_err(|never: Infallible| match never {});
    if let Some(position) = answer.queued {
        let queued = json!({ "turnId": "t", "state": "queued", "position": position });
        let response = Response::builder().status(202).header("content-type", "application/json");
        return Ok(response.body(whole(queued.to_string()).boxed_unsync())?);
    }
    if answer.status.is_some() {
        let error = answer
            .code
            .map(|code| json!({ "success": false, "error": { "code": code, "message": "m" } }));
        let text = error.map_or_else(|| "not JSON".to_owned(), |error| error.to_string());
        return Ok(response.body(whole(text).boxed_unsync())?);
    }
    let sent: String = answer.lines.iter().map(|line| lines[line].as_str()).collect();
    let then = answer.then.unwrap_or_else(|| "ends".to_owned());
    let chunks = futures_util::stream::unfold(Some(sent), move |sent| {
        let then = then.clone();
        async move {
            match (sent, then.as_str()) {
                (Some(sent), _) => Some((Ok(http_body::Frame::data(Bytes::from(sent))), None)),
                (None, "ends") => None,
                (None, "breaks") => Some((Err(BoxError::from("reset")), None)),
                (None, _) => pending().await,
            }
        }
    });
    Ok(response.body(http_body_util::StreamBody::new(chunks).boxed_unsync())?)
}
