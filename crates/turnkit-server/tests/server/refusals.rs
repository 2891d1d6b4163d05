//! Everything that a request can be wrong in, with status and code.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Client, Rig, json_of};

async fn refusal(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = json_of(response).await;
    assert_eq!(body["success"], false);
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn start_refused(client: &Client, session: &str, body: &Value) -> (u16, String) {
    refusal(client.post(&format!("/{session}/turns"), body).await).await
}

#[tokio::test]
async fn a_start_that_is_not_one_is_refused() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let bad = [
        json!({}),
        json!([]),
        json!(["t", "hello", null]),
        json!({ "turnId": "t" }),
        json!({ "message": "hello" }),
        json!({ "turnId": "", "message": "hello" }),
        json!({ "turnId": "a/b", "message": "hello" }),
        json!({ "turnId": "x".repeat(161), "message": "hello" }),
        json!({ "turnId": 1, "message": "hello" }),
        json!({ "turnId": "t", "message": " \n" }),
        json!({ "turnId": "t", "message": "hello", "agent": "a b" }),
    ];
    for body in bad {
        assert_eq!(
            start_refused(rig.client(), &session, &body).await,
            is(400, "invalid_request"),
            "{body}"
        );
    }
    let broken = rig.client().http.post(rig.client().at(&format!("/{session}/turns")));
    let broken = broken.header(CONTENT_TYPE, "application/json").body("{").send().await.unwrap();
    assert_eq!(refusal(broken).await, is(400, "invalid_request"));
    assert_eq!(rig.substrate.runs(), 0);
    assert_eq!(rig.client().messages(&session).await, []);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let body = json!({ "turnId": "t", "message": "x".repeat(512 * 1024) });
    assert_eq!(start_refused(rig.client(), &session, &body).await, is(413, "payload_too_large"));
}

/// The answer to a request that goes on sending, whatever it is told.
async fn raw(client: &Client, head: &str, body: &[u8]) -> String {
    let address = client.url.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_it_comes() {
    let rig = Rig::start().await;
    for expect in ["", "\r\nExpect: 100-continue"] {
        let head = format!(
            "POST /api/sessions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 524289{expect}"
        );
        let answer = raw(rig.client(), &head, b"").await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
}

#[tokio::test]
async fn who_is_refused_may_send_to_the_end_and_sees_why() {
    let rig = Rig::start().await;
    let more_than_sockets_hold = vec![b'x'; 6 * 1024 * 1024];
    for (header, refusal) in [
        ("Content-Type: application/json", "413"),
        ("Content-Type: text/plain", "415"),
        ("Origin: http://elsewhere.example", "403"),
    ] {
        let length = more_than_sockets_hold.len();
        let head = format!("POST /api/sessions HTTP/1.1\r\n{header}\r\nContent-Length: {length}");
        let answer = raw(rig.client(), &head, &more_than_sockets_hold).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {refusal}")), "{header}: {answer}");
    }
}

#[tokio::test]
async fn a_turn_id_stands_for_one_message_and_a_session_has_one_open_turn() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let _open = rig.client().turn(&session, "t", "hello").await;
    let other_message = json!({ "turnId": "t", "message": "another" });
    assert_eq!(
        start_refused(rig.client(), &session, &other_message).await,
        is(409, "turn_conflict")
    );
    let other_turn = json!({ "turnId": "other", "message": "hello" });
    assert_eq!(start_refused(rig.client(), &session, &other_turn).await, is(409, "turn_running"));
    let running = json_of(rig.client().post(&format!("/{session}/turns"), &other_turn).await).await;
    assert_eq!(running["error"]["turnId"], "t");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    let client = rig.client();
    let start = json!({ "turnId": "t", "message": "hello" });
    let cancel =
        async |session: &str| client.post(&format!("/{session}/turns/t/cancel"), &json!({})).await;
    assert_eq!(start_refused(client, "nobody", &start).await, is(404, "session_not_found"));
    assert_eq!(refusal(client.get("/nobody/messages").await).await, is(404, "session_not_found"));
    assert_eq!(
        refusal(client.get("/nobody/turns?state=open").await).await,
        is(404, "session_not_found")
    );
    assert_eq!(
        refusal(client.get(&format!("/{session}/turns/t?after=0")).await).await,
        is(404, "turn_not_found")
    );
    assert_eq!(refusal(client.get("/nobody/turns/t").await).await, is(404, "session_not_found"));
    assert_eq!(refusal(cancel("nobody").await).await, is(404, "session_not_found"));
    assert_eq!(refusal(cancel(&session).await).await, is(404, "turn_not_found"));
    assert_eq!(refusal(client.get("/%ff/messages").await).await, is(404, "not_found"));
    assert_eq!(refusal(client.get("/a/b/c/d").await).await, is(404, "not_found"));
    assert_eq!(rig.substrate.runs(), 0, "a resume starts nothing");
}

#[tokio::test]
async fn a_query_that_is_not_one_is_refused() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    for query in [
        "turns",
        "turns?state=closed",
        "turns/t?after=-1",
        "turns/t?after=x",
        "turns/t?after=01",
        "turns/t?after=%2B1",
        "turns/t?after=",
        "turns/t?after=18446744073709551616",
        "turns/t?after=1&after=2",
        "messages?before=00",
        "messages?turns=0",
        "messages?turns=201",
    ] {
        let response = rig.client().get(&format!("/{session}/{query}")).await;
        assert_eq!(refusal(response).await, is(400, "invalid_request"), "{query}");
    }
}

#[tokio::test]
async fn a_body_that_is_there_must_be_an_object() {
    let rig = Rig::start().await;
    let client = rig.client();
    let session = client.session().await;
    let cancel = format!("/{session}/turns/t/cancel");
    for path in ["", cancel.as_str(), &format!("/{session}/turns")] {
        for body in ["[", "[]", "{\"a\":", "{junk", "null", "{} {}", " "] {
            let request =
                client.http.post(client.at(path)).header(CONTENT_TYPE, "application/json");
            let answer = refusal(request.body(body).send().await.unwrap()).await;
            assert_eq!(answer, is(400, "invalid_request"), "{path} {body}");
        }
        let request = client.http.post(client.at(path)).header(CONTENT_TYPE, "application/json");
        let request = request.header(CONTENT_ENCODING, "gzip").body("{}");
        let answer = refusal(request.send().await.unwrap()).await;
        assert_eq!(answer, is(415, "unsupported_media_type"), "{path}");
    }
    let created = client.post("", &json!({ "title": "ours to ignore" })).await;
    assert_eq!(
        (created.status().as_u16(), &created.headers()["cache-control"]),
        (201, &"no-store".parse().unwrap())
    );
}

#[tokio::test]
async fn no_refusal_speaks_of_what_the_server_is_made_of() {
    let rig = Rig::start().await;
    let client = rig.client();
    let session = client.session().await;
    for refused in [
        client.post(&format!("/{session}/turns"), &json!(["t", "hello"])).await,
        client.post(&format!("/{session}/turns"), &json!([])).await,
        client.get(&format!("/{session}/turns/t?after=x")).await,
        client.get(&format!("/{session}/messages?turns=-1")).await,
        client.get("?limit=1&limit=2").await,
    ] {
        let message = json_of(refused).await["error"]["message"].to_string();
        for word in ["struct", "deserialize", "u64", "u32", "digit found"] {
            assert!(!message.contains(word), "{message}");
        }
    }
}

#[tokio::test]
async fn a_refusal_names_the_member_and_what_is_wrong_with_it() {
    let rig = Rig::start().await;
    let session = rig.client().session().await;
    for (body, why) in [
        ("{}", "turnId is missing"),
        (r#"{"turnId":"t"}"#, "message is missing"),
        (r#"{"turnId":1,"message":"hello"}"#, "turnId must be a string"),
        (r#"{"turnId":"t","message":["hello"]}"#, "message must be a string"),
        (r#"{"turnId":"t","message":"hello","agent":7}"#, "agent must be a string"),
        (
            r#"{"turnId":"t","turnId":"t","message":"hello"}"#,
            "the request body must be one JSON object, with each member once: line 1, column 22",
        ),
    ] {
        let request = rig.client().http.post(rig.client().at(&format!("/{session}/turns")));
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let refused = json_of(request.send().await.unwrap()).await;
        assert_eq!(refused["error"]["message"], why, "{body}");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_refused() {
    let rig = Rig::start().await;
    let response = rig.client().http.delete(rig.client().at("")).send().await.unwrap();
    let allowed = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    assert_eq!(refusal(response).await, is(405, "method_not_allowed"));
}

async fn with(client: &Client, path: &str, headers: &[(HeaderName, &str)]) -> (u16, String) {
    let mut request = client.http.post(format!("{}{path}", client.url)).body("{}");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    refusal(request.send().await.unwrap()).await
}

#[tokio::test]
async fn pages_of_other_sites_are_kept_out_of_every_route() {
    let rig = Rig::start().await;
    let json = (CONTENT_TYPE, "application/json");
    for path in [
        "/",
        "/health",
        "/metrics",
        "/api/sessions",
        "/api/sessions/s/turns",
        "/api/sessions/s/turns/t/cancel",
        "/nothing",
    ] {
        let client = rig.client();
        assert_eq!(
            with(client, path, &[json.clone(), (HOST, "evil.example")]).await,
            is(403, "forbidden"),
            "{path}"
        );
        assert_eq!(
            with(client, path, &[json.clone(), (ORIGIN, "http://evil.example")]).await,
            is(403, "forbidden"),
            "{path}"
        );
        assert_eq!(
            with(client, path, &[json.clone(), (ORIGIN, "null")]).await,
            is(403, "forbidden"),
            "{path}"
        );
        assert_eq!(
            with(client, path, &[(CONTENT_TYPE, "text/plain")]).await,
            is(415, "unsupported_media_type"),
            "{path}"
        );
        assert_eq!(with(client, path, &[]).await, is(415, "unsupported_media_type"), "{path}");
    }
}

#[tokio::test]
async fn the_servers_own_pages_are_let_in() {
    let rig = Rig::start().await;
    let client = rig.client();
    let request = client.http.post(client.at("")).header(ORIGIN, &client.url);
    assert_eq!(request.send().await.unwrap().status(), 201);
}
