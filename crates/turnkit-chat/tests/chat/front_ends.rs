//! The routes of front ends over HTTP: which turn a request means, and what is told of it (PROTOCOL 4.5).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use turnkit_chat::store::memory::MemoryStore;
use turnkit_chat::{Chat, Origins, Principal};

use crate::rig::Rig;

/// The user that the header `X-User` names.
struct Named(Principal);

impl From<Named> for Principal {
    fn from(user: Named) -> Principal {
        user.0
    }
}

impl<S: Sync> FromRequestParts<S> for Named {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Named, Infallible> {
        let user = parts.headers.get("x-user").map_or("ann", |name| name.to_str().unwrap());
        Ok(Named(Principal::new("acme", user)))
    }
}

struct Site {
    rig: Rig,
    routes: Router,
}

/// An answer, whole.
struct Told {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Site {
    async fn new() -> Site {
        Site::over(Rig::new()).await
    }

    async fn over(rig: Rig) -> Site {
        let (chat, _) = rig.worker().await;
        // Every turn may say all that it has to say.
        rig.gate.add_permits(1000);
        let routes = routes(&chat);
        Site { rig, routes }
    }

    async fn ask(&self, request: http::request::Builder, body: impl Into<Body>) -> Told {
        let request = request.header("host", "chat.example").body(body.into()).unwrap();
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Told { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Told {
        self.ask(Request::get(path), Body::empty()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Told {
        let request = Request::post(path).header("content-type", "application/json");
        self.ask(request, body.to_string()).await
    }

    /// `useChat` sends these messages.
    async fn chat(&self, id: &str, trigger: &str, messages: &[Value], more: &Value) -> Told {
        let mut body = json!({ "id": id, "trigger": trigger, "messages": messages });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/api/chat", &body).await
    }
}

fn routes(chat: &Chat) -> Router {
    let origins = Origins::default().and("https://app.example").unwrap();
    chat.router_for::<(), Named>(&origins)
}

impl Told {
    /// The chunks, and the number of each that is counted.
    fn chunks(&self) -> Vec<(Option<u64>, Value)> {
        assert_eq!(self.status, 200, "{}", self.body);
        let frames = self.body.split("\n\n").filter(|frame| frame.contains("data: "));
        let frames = frames.filter(|frame| !frame.ends_with("[DONE]"));
        let chunk = |frame: &str| {
            let (id, data) = frame.split_once("data: ").unwrap();
            let id = id.trim().strip_prefix("id: ").map(|id| id.parse().unwrap());
            (id, serde_json::from_str(data).unwrap())
        };
        frames.map(chunk).collect()
    }

    fn types(&self) -> Vec<String> {
        self.chunks().iter().map(|(_, chunk)| chunk["type"].as_str().unwrap().to_owned()).collect()
    }

    fn execution(&self) -> &str {
        self.headers["x-execution-id"].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn user(id: &str, text: &str) -> Value {
    json!({ "id": id, "role": "user", "parts": [{ "type": "text", "text": text }] })
}

fn assistant(id: &str) -> Value {
    json!({ "id": id, "role": "assistant", "parts": [{ "type": "text", "text": "w0 " }] })
}

const TEXT: &str = "w0 w1 w2 w3 ";

mod ai_sdk {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_told_whole_and_its_rest_after_any_chunk() {
        let site = Site::new().await;
        let whole = site.chat("c1", "submit-message", &[user("m1", "hello")], &json!({})).await;
        assert_eq!(whole.headers["content-type"], "text/event-stream");
        assert_eq!(whole.headers["x-vercel-ai-ui-message-stream"], "v1");
        assert_eq!(whole.headers["x-turn-id"], "m1");
        let run = format!("run_{}", whole.execution());
        assert_eq!(whole.headers["x-workflow-run-id"], run);
        let chunks = whole.chunks();
        assert_eq!(chunks[0].1["messageId"], whole.execution());
        assert_eq!(chunks.last().unwrap().1["type"], "finish");
        assert!(whole.body.ends_with("data: [DONE]\n\n"));
        let counted = chunks.iter().filter_map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(counted, (1..=counted.len() as u64).collect::<Vec<_>>());
        // The answer is saved by now: the rest still is that of the live lines.
        for n in 0..=counted.len() {
            for path in [
                format!("/api/chat/c1/stream?startIndex={n}"),
                format!("/api/chat/{run}/stream?startIndex={n}"),
            ] {
                assert_eq!(site.get(&path).await.chunks(), chunks[n..], "{path}");
            }
        }
        // Who counts the terminal chunks too gets the last one in any case.
        let beyond = site.get("/api/chat/c1/stream?startIndex=99").await;
        assert_eq!(beyond.chunks().last(), chunks.last());
        let again = site.chat("c1", "submit-message", &[user("m1", "hello")], &json!({})).await;
        assert_eq!(again.chunks(), chunks);
        assert_eq!(site.rig.runs(), 1);
        assert_eq!(site.get("/api/chat/c1/stream").await.status, 204);
        assert_eq!(site.get("/api/chat/unknown/stream").await.status, 204);
        let named = format!("/api/chat/c1/stream?messageId={}", whole.execution());
        assert_eq!(site.get(&named).await.chunks(), chunks);
    }

    #[tokio::test]
    async fn an_answer_is_had_again_as_a_sibling_and_once() {
        let site = Site::new().await;
        let messages = [user("m1", "hello")];
        let first = site.chat("c", "submit-message", &messages, &json!({})).await;
        let of_first = json!({ "messageId": first.execution() });
        let (one, other) = tokio::join!(
            site.chat("c", "regenerate-message", &messages, &of_first),
            site.chat("c", "regenerate-message", &messages, &of_first)
        );
        assert_eq!(one.headers["x-turn-id"], "m1:r1");
        assert_eq!((one.execution(), &one.body), (other.execution(), &other.body));
        assert_ne!(one.execution(), first.execution());
        // The same request later means the answer that it was given.
        let later = site.chat("c", "regenerate-message", &messages, &of_first).await;
        assert_eq!(later.execution(), one.execution());
        let of_second = json!({ "messageId": one.execution() });
        let third = site.chat("c", "regenerate-message", &messages, &of_second).await;
        assert_eq!(third.headers["x-turn-id"], "m1:r2");
        assert_eq!(site.rig.runs(), 3);
        // At rest the conversation is the newest branch, and the message keeps its id.
        let rest = site.get("/api/chat/c").await.json();
        let ids: Vec<&str> =
            rest.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["m1", third.execution()]);
        assert_eq!(rest[1]["parts"][1]["text"], TEXT);
    }

    #[tokio::test]
    async fn a_known_message_with_another_text_is_an_edit() {
        let site = Site::new().await;
        let first = site.chat("c", "submit-message", &[user("m1", "hello")], &json!({})).await;
        let second = site
            .chat(
                "c",
                "submit-message",
                &[user("m1", "hello"), assistant(first.execution()), user("m2", "more")],
                &json!({}),
            )
            .await;
        assert_eq!(second.headers["x-turn-id"], "m2");
        let edit = site.chat("c", "submit-message", &[user("m1", "bye")], &json!({})).await;
        assert_eq!(edit.headers["x-turn-id"], "m1:r1");
        let again = site.chat("c", "submit-message", &[user("m1", "bye")], &json!({})).await;
        assert_eq!(again.execution(), edit.execution());
        let rest = site.get("/api/chat/c").await.json();
        assert_eq!(rest.as_array().unwrap().len(), 2);
        assert_eq!((&rest[0]["id"], &rest[0]["parts"][0]["text"]), (&json!("m1"), &json!("bye")));
    }

    #[tokio::test]
    async fn odd_ids_are_hashed_and_kept() {
        let site = Site::new().await;
        let told = site.chat("c", "submit-message", &[user("mé 1", "hello")], &json!({})).await;
        assert!(told.headers["x-turn-id"].to_str().unwrap().starts_with("h:"));
        assert_eq!(site.get("/api/chat/c").await.json()[0]["id"], "mé 1");
    }

    #[tokio::test]
    async fn a_chat_of_the_same_name_is_another_users_own() {
        let site = Site::new().await;
        let first = site.chat("c", "submit-message", &[user("m1", "hello")], &json!({})).await;
        let body = json!({ "id": "c", "messages": [user("m1", "secret")] }).to_string();
        let request = Request::post("/api/chat").header("content-type", "application/json");
        let other = site.ask(request.header("x-user", "bob"), body).await;
        assert_eq!(other.status, 200);
        assert_ne!(other.execution(), first.execution());
        let path = format!("/api/chat/run_{}/stream", first.execution());
        let request = Request::get(path).header("x-user", "bob");
        assert_eq!(site.ask(request, Body::empty()).await.status, 404);
        let forged = json!({ "id": "c", "messages": [assistant(first.execution())] }).to_string();
        let request = Request::post("/api/chat").header("content-type", "application/json");
        assert_eq!(site.ask(request.header("x-user", "bob"), forged).await.status, 400);
    }

    #[tokio::test]
    async fn the_name_of_a_deleted_chat_opens_nothing_for_a_day_and_then_a_new_one() {
        let seconds = Arc::new(AtomicU64::new(1_700_000_000));
        let clock = Arc::clone(&seconds);
        let now =
            move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst));
        let site = Site::over(Rig { store: MemoryStore::with_clock(now), ..Rig::new() }).await;
        let send =
            async || site.chat("c", "submit-message", &[user("m1", "hello")], &json!({})).await;
        let session = |told: &Told| {
            told.chunks()[0].1["messageMetadata"]["sessionId"].as_str().unwrap().to_owned()
        };
        let first = send().await;
        let delete = Request::delete(format!("/api/sessions/{}", session(&first)));
        assert_eq!(site.ask(delete, Body::empty()).await.status, 204);
        for hours in [0, 23] {
            seconds.fetch_add(hours * 3_600, Ordering::SeqCst);
            // A retry of its POST, and the same chat again, are one thing.
            assert_eq!(send().await.status, 404);
            assert_eq!(site.get("/api/chat/c").await.status, 404);
        }
        seconds.fetch_add(2 * 3_600, Ordering::SeqCst);
        let again = send().await;
        assert_ne!((session(&again), again.execution()), (session(&first), first.execution()));
        assert_eq!(site.get("/api/chat/c").await.json().as_array().unwrap().len(), 2);
        assert_eq!(site.rig.runs(), 2);
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_with_its_place() {
        let site = Site::new().await;
        let many: Vec<Value> = (0..100_000).map(|n| user(&n.to_string(), "x")).collect();
        let file =
            json!({ "id": "m", "role": "user", "parts": [{ "type": "file", "url": "data:," }] });
        for (body, status, field) in [
            (json!({ "id": "run_x", "messages": [user("m", "x")] }), 400, "id"),
            (json!({ "id": "a b", "messages": [user("m", "x")] }), 400, "id"),
            (json!({ "id": "c", "messages": [] }), 400, "messages"),
            (json!({ "id": "c", "messages": many }), 413, "messages"),
            (json!({ "id": "c", "messages": [file] }), 400, "messages"),
            (
                json!({ "id": "c", "messages": [user("m", &"x".repeat(600 << 10))] }),
                413,
                "messages",
            ),
            (json!({ "id": "c", "messages": [assistant("local:none:0")] }), 400, "messages"),
        ] {
            let told = site.post("/api/chat", &body).await;
            assert_eq!(told.status, status, "{}", told.body);
            assert_eq!(told.json()["error"]["field"], field, "{}", told.body);
        }
        let request = Request::post("/api/chat").header("content-type", "application/json");
        let told = site.ask(request, "x".repeat((8 << 20) + 1)).await;
        assert_eq!(told.status, 413);
        for path in ["/api/chat/c/stream?startIndex=-1", "/api/chat/c/stream?ai=4"] {
            assert_eq!(site.get(path).await.status, 400, "{path}");
        }
        assert_eq!(site.get("/api/chat/c/stream?startIndex=1").await.status, 404);
        assert_eq!(site.rig.runs(), 0);
    }

    #[tokio::test]
    async fn a_stop_ends_the_open_turn() {
        let site = Site::new().await;
        let told = site.chat("c", "submit-message", &[user("m1", "hello")], &json!({})).await;
        assert_eq!(told.status, 200);
        let request = Request::delete("/api/chat/c/stream");
        assert_eq!(site.ask(request, Body::empty()).await.status, 204);
        let request = Request::delete("/api/chat/none/stream");
        assert_eq!(site.ask(request, Body::empty()).await.status, 404);
    }
}

mod ag_ui {
    use super::*;

    fn input(run: &str, messages: &[Value]) -> Value {
        json!({
            "threadId": "thread", "runId": run, "messages": messages, "tools": [], "context": [],
            "state": {}, "forwardedProps": {},
        })
    }

    fn said(id: &str, text: &str) -> Value {
        json!({ "id": id, "role": "user", "content": text })
    }

    #[tokio::test]
    async fn a_run_is_told_whole_and_taken_up_after_any_chunk() {
        let site = Site::new().await;
        let asked = input("run-1", &[said("u1", "hello")]);
        let whole = site.post("/api/ag-ui", &asked).await;
        let types = whole.types();
        assert_eq!((&*types[0], &**types.last().unwrap()), ("RUN_STARTED", "RUN_FINISHED"));
        let chunks = whole.chunks();
        let counted = chunks.iter().filter(|(id, _)| id.is_some()).count();
        for n in 1..=counted {
            let request = Request::post("/api/ag-ui").header("content-type", "application/json");
            let request = request.header("last-event-id", n.to_string());
            let rest = site.ask(request, asked.to_string()).await;
            assert_eq!(rest.chunks(), chunks[n..], "{n}");
            let joined =
                site.get(&format!("/api/ag-ui?threadId=thread&runId=run-1&offset={n}")).await;
            assert_eq!(joined.chunks(), chunks[n..], "{n}");
        }
        let joined = site.get("/api/ag-ui?threadId=thread&runId=run-1&offset=-1").await;
        assert_eq!(joined.chunks(), chunks);
        assert_eq!(site.rig.runs(), 1);
    }

    #[tokio::test]
    async fn a_run_that_goes_on_with_a_turn_is_joined_by_its_own_id() {
        let site = Site::new().await;
        let first = site.post("/api/ag-ui", &input("run-1", &[said("u1", "hello")])).await;
        let messages = site.get("/api/ag-ui?threadId=thread").await.json()["messages"].take();
        let more = site.post("/api/ag-ui", &input("run-2", messages.as_array().unwrap())).await;
        let mut chunks = more.chunks();
        // What the client had before, which goes with a request alone.
        chunks.retain(|(_, chunk)| chunk["type"] != "MESSAGES_SNAPSHOT");
        // Without the thread's name as well, which every chunk of the run's beginning tells.
        for thread in ["threadId=thread&", ""] {
            let joined = site.get(&format!("/api/ag-ui?{thread}runId=run-2&offset=-1")).await;
            assert_eq!((joined.chunks(), joined.execution()), (chunks.clone(), first.execution()));
        }
        let request = Request::get("/api/ag-ui?runId=run-2").header("x-user", "bob");
        assert_eq!(site.ask(request, Body::empty()).await.status, 404);
        assert_eq!(site.rig.runs(), 1);
    }

    #[tokio::test]
    async fn a_thread_is_read_at_rest() {
        let site = Site::new().await;
        let told = site.post("/api/ag-ui", &input("run-1", &[said("u1", "hello")])).await;
        let thread = site.get("/api/ag-ui?threadId=thread").await.json();
        let messages = thread["messages"].as_array().unwrap();
        assert_eq!(messages[0]["role"], "user");
        assert_eq!(messages[0]["content"], "hello");
        let answer = &messages[1];
        assert_eq!((&answer["role"], &answer["content"]), (&json!("assistant"), &json!(TEXT)));
        assert!(answer["id"].as_str().unwrap().starts_with(told.execution()));
        assert_eq!(thread.get("activeRun"), None);
        assert_eq!(site.get("/api/ag-ui?threadId=none").await.status, 404);
        assert_eq!(site.get("/api/ag-ui").await.status, 400);
    }

    #[tokio::test]
    async fn the_same_chunks_come_as_lines_where_these_are_asked_for() {
        let site = Site::new().await;
        let asked = input("run-1", &[said("u1", "hello")]);
        let frames = site.post("/api/ag-ui", &asked).await.chunks();
        let request = Request::post("/api/ag-ui").header("content-type", "application/json");
        let request = request.header("accept", "application/x-ndjson");
        let lines = site.ask(request, asked.to_string()).await;
        assert_eq!(lines.headers["content-type"], "application/x-ndjson");
        let lines: Vec<Value> =
            lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), frames.len());
        for (line, (id, chunk)) in lines.iter().zip(&frames) {
            match id {
                Some(_) => assert_eq!(line["chunk"], *chunk),
                None => assert_eq!(line, chunk),
            }
        }
    }
}

mod event_source {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_frames_with_its_cursor_and_204_once_it_has_ended() {
        let site = Site::new().await;
        let session = site.post("/api/sessions", &json!({})).await.json();
        let path = format!("/api/sessions/{}/turns", session["sessionId"].as_str().unwrap());
        let asked = json!({ "turnId": "t", "message": "hello" });
        let live = site.post(&path, &asked).await;
        let asking = |last: Option<&str>, after: u64| {
            let request = Request::get(format!("{path}/t?after={after}"));
            let request = request.header("accept", "text/event-stream");
            last.iter().fold(request, |request, last| request.header("last-event-id", *last))
        };
        let told = site.ask(asking(Some("2"), 0), Body::empty()).await;
        assert_eq!(told.headers["content-type"], "text/event-stream");
        assert!(told.body.starts_with("retry: 1000\n\n"), "{}", told.body);
        let frames: Vec<&str> =
            told.body.split("\n\n").skip(1).filter(|frame| !frame.is_empty()).collect();
        let lines: Vec<&str> = live.body.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(frames.len(), lines.len() - 2);
        assert!(frames[0].starts_with("id: 3\n"), "{}", frames[0]);
        assert!(frames[0].contains("w1 "));
        let last = frames.last().unwrap();
        assert!(last.starts_with("id: end\n") && last.contains("session.run.completed"), "{last}");
        assert_eq!(site.ask(asking(Some("end"), 0), Body::empty()).await.status, 204);
        assert_eq!(site.ask(asking(Some("x"), 0), Body::empty()).await.status, 400);
        // Last-Event-ID outweighs the query, which says where the first connection began.
        let again = site.ask(asking(Some("2"), 4), Body::empty()).await;
        assert_eq!(again.body, told.body);
    }
}

#[tokio::test]
async fn pages_of_a_named_origin_may_ask_and_no_others() {
    let mut site = Site::new().await;
    // As a host may have it for all of its routes.
    site.routes = site.routes.method_not_allowed_fallback(async || StatusCode::IM_A_TEAPOT);
    let preflight = |origin: &str| {
        Request::options("/api/chat")
            .header("origin", origin.to_owned())
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,authorization")
    };
    let told = site.ask(preflight("https://app.example"), Body::empty()).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.headers["access-control-allow-origin"], "https://app.example");
    assert_eq!(told.headers["access-control-allow-credentials"], "true");
    assert_eq!(told.headers["access-control-allow-headers"], "content-type,authorization");
    let told = site.ask(preflight("https://evil.example"), Body::empty()).await;
    assert!(!told.headers.contains_key("access-control-allow-origin"));
    for (origin, status) in [("https://app.example", 200), ("https://evil.example", 403)] {
        let request = Request::get("/api/sessions").header("origin", origin);
        let told = site.ask(request, Body::empty()).await;
        assert_eq!(told.status, status);
        let exposed = told.headers["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("x-turn-id"), "{exposed}");
    }
}
