//! Users, their tokens and their sign-ins.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;
use tempfile::TempDir;
use turnkit_chat::TrustedHeader;
use turnkit_server::{ServerConfig, SubstrateChoice, UsersChoice};

use crate::support::{TestServer, TestSubstrate, json_of};

const ANN: &str = "a-token-of-ann";
const FILE: &str = "a-token-of-ann acme ann\na-token-of-bob acme bob\na-token-of-eve other ann";

struct Rig {
    server: TestServer,
    data_dir: TempDir,
    substrate: TestSubstrate,
}

impl Rig {
    async fn start() -> Rig {
        let (data_dir, substrate) = (tempfile::tempdir().unwrap(), TestSubstrate::start().await);
        let server = serve(&data_dir, &substrate, FILE).await;
        Rig { server, data_dir, substrate }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let client = &self.server.client;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        client.http.request(method, format!("{}{path}", client.url))
    }

    async fn as_user(&self, token: &str, method: &str, path: &str) -> Response {
        self.request(method, path).bearer_auth(token).send().await.unwrap()
    }

    async fn sign_in(&self, token: &str) -> Response {
        let request = self.request("POST", "/api/sign-in").header(CONTENT_TYPE, "application/json");
        request.body(json!({ "token": token }).to_string()).send().await.unwrap()
    }

    /// `turnkit=…`, as a browser sends it.
    async fn cookie(&self, token: &str) -> String {
        let signed_in = self.sign_in(token).await;
        assert_eq!(signed_in.status(), 204);
        let cookie = signed_in.headers()[SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn with_cookie(&self, cookie: &str, path: &str) -> Response {
        self.request("GET", path).header(COOKIE, cookie).send().await.unwrap()
    }
}

async fn serve(data_dir: &TempDir, substrate: &TestSubstrate, tokens: &str) -> TestServer {
    TestServer::run(config(data_dir, substrate, tokens)).await
}

fn config(data_dir: &TempDir, substrate: &TestSubstrate, tokens: &str) -> ServerConfig {
    let substrate = SubstrateChoice::At { url: substrate.url.clone(), token: None };
    let config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir.path(), substrate);
    ServerConfig { users: UsersChoice::Tokens(tokens.parse().unwrap()), ..config }
}

#[tokio::test]
async fn everything_can_lie_under_a_path_of_the_host_and_a_sign_in_holds_there() {
    let (data_dir, substrate) = (tempfile::tempdir().unwrap(), TestSubstrate::start().await);
    let config = config(&data_dir, &substrate, FILE);
    let base_path = "/tools/chat".parse().unwrap();
    let server = TestServer::run(ServerConfig { base_path, ..config }).await;
    let rig = Rig { server, data_dir, substrate };
    assert!(rig.server.client.url.ends_with("/tools/chat"));
    let page = rig.request("GET", "").send().await.unwrap();
    assert!(page.url().path().ends_with("/tools/chat/"), "its addresses are relative");
    assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    let signed_in = rig.sign_in(ANN).await;
    let cookie = signed_in.headers()[SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("; Path=/tools/chat;"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(rig.with_cookie(&cookie, "/api/me").await.status(), 200);
    assert_eq!(rig.with_cookie(&cookie, "/health").await.status(), 200);
    for (path, status) in [("/../../api/me", 404), ("/../chat2/api/me", 404), ("/nothing", 404)] {
        assert_eq!(rig.with_cookie(&cookie, path).await.status(), status, "{path}");
    }
    assert_eq!(rig.request("PUT", "/api/me").send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn whoever_shows_no_token_sees_the_page_and_nothing_else() {
    let rig = Rig::start().await;
    for (method, path) in [
        ("GET", "/api/me"),
        ("GET", "/api/agents"),
        ("GET", "/api/sessions"),
        ("POST", "/api/sessions"),
        ("GET", "/api/sessions/s/messages"),
        ("GET", "/api/sessions/s/turns?state=open"),
        ("POST", "/api/sessions/s/turns"),
        ("GET", "/api/sessions/s/turns/t"),
        ("GET", "/api/sessions/s/turns/t/trace"),
        ("POST", "/api/sessions/s/turns/t/cancel"),
        ("GET", "/metrics"),
    ] {
        for request in [
            rig.request(method, path),
            rig.request(method, path).bearer_auth("a-token-of-nobody"),
            rig.request(method, path).header(AUTHORIZATION, "Basic YTpi"),
            rig.request(method, path).header(COOKIE, "turnkit=a-token-of-ann"),
            rig.request(method, path).bearer_auth(ANN).header(AUTHORIZATION, "Bearer x"),
        ] {
            let refused = request.send().await.unwrap();
            assert_eq!(refused.status(), 401, "{method} {path}");
            assert_eq!(refused.headers()[WWW_AUTHENTICATE], "Bearer");
            assert_eq!(json_of(refused).await["error"]["code"], "unauthorized");
        }
    }
    for path in ["/", "/assets/turnkit.js", "/health"] {
        assert_eq!(rig.request("GET", path).send().await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_session_belongs_to_its_user() {
    let rig = Rig::start().await;
    let created = json_of(rig.as_user(ANN, "POST", "/api/sessions").await).await;
    let session = created["sessionId"].as_str().unwrap();
    let messages = format!("/api/sessions/{session}/messages");
    assert_eq!(rig.as_user(ANN, "GET", &messages).await.status(), 200);
    for other in ["a-token-of-bob", "a-token-of-eve"] {
        let refused = rig.as_user(other, "GET", &messages).await;
        assert_eq!(refused.status(), 404);
        assert_eq!(json_of(refused).await["error"]["code"], "session_not_found");
        let list = json_of(rig.as_user(other, "GET", "/api/sessions").await).await;
        assert_eq!(list["sessions"], json!([]));
        let start = rig.request("POST", &format!("/api/sessions/{session}/turns"));
        let start = start.bearer_auth(other).header(CONTENT_TYPE, "application/json");
        let start = start.body(r#"{"turnId":"t","message":"hello"}"#).send().await.unwrap();
        assert_eq!(start.status(), 404);
    }
    assert_eq!(rig.substrate.runs(), 0);
    let me = json_of(rig.as_user("a-token-of-eve", "GET", "/api/me").await).await;
    assert_eq!(me, json!({ "tenantId": "other", "userId": "ann", "signIn": true }));
}

#[tokio::test]
async fn a_sign_in_gives_a_cookie_that_stands_for_the_token() {
    let rig = Rig::start().await;
    let signed_in = rig.sign_in(ANN).await;
    let cookie = signed_in.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=2592000"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(ANN), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let me = json_of(rig.with_cookie(cookie, "/api/me").await).await;
    assert_eq!(me["userId"], "ann");

    let out = rig.request("POST", "/api/sign-out").header(COOKIE, cookie).send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert!(
        out.headers()[SET_COOKIE].to_str().unwrap().starts_with("turnkit=; Max-Age=0; Path=/;")
    );
    assert_eq!(
        rig.with_cookie(cookie, "/api/me").await.status(),
        401,
        "the cookie is worth nothing now"
    );
    assert_eq!(rig.request("POST", "/api/sign-out").send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn behind_https_the_cookie_is_secure() {
    let rig = Rig::start().await;
    let host = rig.server.client.url.strip_prefix("http://").unwrap().to_owned();
    for header in
        [(ORIGIN.as_str(), format!("https://{host}")), ("x-forwarded-proto", "https".to_owned())]
    {
        let request = rig.request("POST", "/api/sign-in").header(CONTENT_TYPE, "application/json");
        let request = request.header(header.0, header.1).body(json!({ "token": ANN }).to_string());
        let signed_in = request.send().await.unwrap();
        assert!(signed_in.headers()[SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
    }
}

#[tokio::test]
async fn a_wrong_token_signs_nobody_in() {
    let rig = Rig::start().await;
    for token in ["", "a-token-of-nobody", "A-TOKEN-OF-ANN"] {
        let refused = rig.sign_in(token).await;
        assert_eq!(refused.status(), 401);
        assert!(!refused.headers().contains_key(SET_COOKIE));
    }
}

#[tokio::test]
async fn a_sign_in_outlives_the_server_and_not_its_token() {
    let mut rig = Rig::start().await;
    let cookie = rig.cookie(ANN).await;
    rig.server.kill().await;
    rig.server = serve(&rig.data_dir, &rig.substrate, FILE).await;
    assert_eq!(rig.with_cookie(&cookie, "/api/me").await.status(), 200);
    rig.server.kill().await;
    rig.server = serve(&rig.data_dir, &rig.substrate, "another-token acme ann").await;
    assert_eq!(rig.with_cookie(&cookie, "/api/me").await.status(), 401);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_use_the_cookie() {
    let rig = Rig::start().await;
    let cookie = rig.cookie(ANN).await;
    let post = |path: &str| rig.request("POST", path).header(COOKIE, &cookie);
    let json =
        |request: RequestBuilder| request.header(CONTENT_TYPE, "application/json").body("{}");
    for path in ["/api/sessions", "/api/sign-out"] {
        for origin in ["https://evil.example", "http://127.0.0.1:1", "null"] {
            let refused = json(post(path)).header(ORIGIN, origin).send().await.unwrap();
            assert_eq!(refused.status(), 403, "{path} {origin}");
        }
        let form = post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body("a=b");
        assert_eq!(form.send().await.unwrap().status(), 415, "{path}");
    }
    assert_eq!(rig.with_cookie(&cookie, "/api/me").await.status(), 200, "nobody was signed out");
    let own = json(post("/api/sessions")).header(ORIGIN, &rig.server.client.url);
    assert_eq!(own.send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn neither_token_nor_cookie_is_kept() {
    let rig = Rig::start().await;
    let cookie = rig.cookie(ANN).await;
    let secret = cookie.strip_prefix("turnkit=").unwrap();
    rig.server.kill().await;
    let mut bytes = 0;
    for file in ["turnkit.db", "turnkit.db-wal"] {
        let content = std::fs::read(rig.data_dir.path().join(file)).unwrap_or_default();
        bytes += content.len();
        for hidden in [ANN, secret] {
            let is_there = content.windows(hidden.len()).any(|window| window == hidden.as_bytes());
            assert!(!is_there, "{file}");
        }
    }
    assert!(bytes > 0);
}

#[tokio::test]
async fn without_users_there_is_one_and_nobody_signs_in() {
    let rig = crate::support::Rig::start().await;
    let client = rig.client();
    let me = client.http.get(format!("{}/api/me", client.url)).send().await.unwrap();
    assert_eq!(
        json_of(me).await,
        json!({ "tenantId": "local", "userId": "local", "signIn": false })
    );
    let request = client.http.post(format!("{}/api/sign-in", client.url));
    let request = request.header(CONTENT_TYPE, "application/json").body(r#"{"token":"t"}"#);
    assert_eq!(request.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn users_that_a_proxy_names_are_known_and_nobody_else_is() {
    let (data_dir, substrate) = (tempfile::tempdir().unwrap(), TestSubstrate::start().await);
    let behind = async |proxy: &str| {
        let at = SubstrateChoice::At { url: substrate.url.clone(), token: None };
        let config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir.path(), at);
        let header = TrustedHeader::new("x-user".parse().unwrap(), [proxy.parse().unwrap()]);
        TestServer::run(ServerConfig { users: UsersChoice::Header(header), ..config }).await
    };
    let ask = async |server: &TestServer, path: &str, user: Option<&str>| {
        let request = server.client.http.get(format!("{}{path}", server.client.url));
        let request =
            user.into_iter().fold(request, |request, user| request.header("X-User", user));
        request.send().await.unwrap()
    };
    let server = behind("127.0.0.0/8").await;
    let me = json_of(ask(&server, "/api/me", Some("ann")).await).await;
    assert_eq!(me, json!({ "tenantId": "proxy", "userId": "ann", "signIn": false }));
    for path in ["/api/me", "/api/sessions", "/metrics", "/api/chat/s"] {
        assert_eq!(ask(&server, path, None).await.status(), 401, "{path}");
    }
    assert_eq!(ask(&server, "/health", None).await.status(), 200);
    server.kill().await;

    let elsewhere = behind("10.0.0.0/8").await;
    for path in ["/api/me", "/api/sessions", "/metrics", "/api/chat/s"] {
        assert_eq!(ask(&elsewhere, path, Some("ann")).await.status(), 403, "{path}");
    }
}
