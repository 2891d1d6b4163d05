//! Users by tokens: the routes of signing in and out, as a client calls them (PROTOCOL 4.2).

#![cfg(all(feature = "axum", feature = "sqlite"))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fmt::Debug;

use axum::Router;
use axum::body::Body;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE};
use http::{Request, Response, StatusCode};
use tempfile::TempDir;
use tower::ServiceExt as _;
use turnkit_chat::sqlite::SqliteStore;
use turnkit_chat::store::memory::MemoryStore;
use turnkit_chat::tokens::{Tokens, Users};
use turnkit_chat::{Chat, ChatStore};
use turnkit_client::{Client, Error};
use turnkit_sandbox::SandboxClient;
use turnkit_substrate::{Agent, AgentError, Run, Substrate};
use turnkit_wire::{Event, write::TurnResult};

const ANN: &str = "a-token-of-ann";
const BOB: &str = "a-token-of-bob";

struct Echo;

impl Agent for Echo {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let said = TurnResult::new().final_text(run.request().message()).event();
        futures_util::stream::iter([Ok(said)])
    }
}

struct Rig {
    users: Users,
    routes: Router,
    _data: TempDir,
}

impl Rig {
    async fn new() -> Rig {
        let data = tempfile::tempdir().unwrap();
        Rig::over(SqliteStore::open(data.path().join("chat.db")).unwrap(), data).await
    }

    async fn over(store: impl ChatStore, data: TempDir) -> Rig {
        let substrate = Substrate::builder().agent("default", Echo).build().unwrap();
        let agents = SandboxClient::over(substrate.router()).build().unwrap();
        let (chat, attendant) = Chat::builder(store, agents).build().await.unwrap();
        tokio::spawn(attendant);
        let users: Users = format!("{ANN} acme ann\n{BOB} acme bob").parse().unwrap();
        Rig { routes: Tokens::new(users.clone(), chat).router(), users, _data: data }
    }

    /// Somebody who shows nothing.
    fn client(&self) -> Client {
        Client::builder("http://chat.test").transport(self.routes.clone()).build().unwrap()
    }

    async fn ask(&self, request: Request<Body>) -> Response<Body> {
        self.routes.clone().oneshot(request).await.unwrap()
    }

    async fn sign_in(&self, body: &'static str) -> Response<Body> {
        let request = Request::post("/api/sign-in").header("host", "chat.test");
        self.ask(request.header(CONTENT_TYPE, "application/json").body(body.into()).unwrap()).await
    }
}

fn is_refused<T: Debug>(answer: Result<T, Error>, status: u16, code: &str) {
    let Err(Error::Refused(refusal)) = answer else { panic!("{answer:?}") };
    assert_eq!((refusal.status(), refusal.code()), (status, code));
}

#[tokio::test]
async fn a_sign_in_stands_for_its_token_until_it_is_signed_out() {
    let rig = Rig::new().await;
    is_refused(rig.client().create_session().await, 401, "unauthorized");
    let (ann, elsewhere) =
        (rig.client().sign_in(ANN).await.unwrap(), rig.client().sign_in(ANN).await.unwrap());
    let me = ann.me().await.unwrap();
    assert_eq!((&*me.tenant_id, &*me.user_id, me.sign_in), ("acme", "ann", true));
    let session = ann.create_session().await.unwrap();
    ann.sign_out().await.unwrap();
    is_refused(ann.session(&session, None).await, 401, "unauthorized");
    let theirs = elsewhere.session(&session, None).await.unwrap();
    assert_eq!(theirs.session_id, session, "another sign-in of the same user holds on");
}

#[tokio::test]
async fn who_is_signed_in_sees_what_is_theirs() {
    let rig = Rig::new().await;
    let (ann, bob) =
        (rig.client().sign_in(ANN).await.unwrap(), rig.client().sign_in(BOB).await.unwrap());
    let session = ann.create_session().await.unwrap();
    is_refused(bob.session(&session, None).await, 404, "session_not_found");
    assert_eq!(bob.sessions(None).await.unwrap(), []);
    assert_eq!(ann.sessions(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_sign_in_is_told_by_a_cookie_that_nobody_keeps() {
    let rig = Rig::new().await;
    let answer = rig.sign_in(r#"{"token":"a-token-of-ann"}"#).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
    let (secret, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Max-Age=2592000; Path=/; HttpOnly; SameSite=Strict");
    assert!(!secret.contains(ANN));

    let out = Request::post("/api/sign-out").header("host", "chat.test").header(COOKIE, secret);
    let out = rig.ask(out.body(Body::empty()).unwrap()).await;
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    let taken_back = "turnkit=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict";
    assert_eq!(out.headers()[SET_COOKIE], taken_back);
}

#[tokio::test]
async fn cookies_that_a_sibling_domain_forges_lock_nobody_out() {
    let rig = Rig::new().await;
    let request = Request::post("/api/sign-in").header("host", "chat.test");
    let request = request.header(ORIGIN, "https://chat.test");
    let request = request.header(CONTENT_TYPE, "application/json");
    let answer = rig.ask(request.body(r#"{"token":"a-token-of-ann"}"#.into()).unwrap()).await;
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
    // Which a browser takes from no other host, and neither for a path nor without TLS.
    assert!(cookie.starts_with("__Host-turnkit=") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(cookie.contains("; Path=/;") && !cookie.contains("Domain"), "{cookie}");
    let own = cookie.split(';').next().unwrap();
    let forged = (0..40).map(|n| format!("turnkit={n:064}")).collect::<Vec<_>>().join("; ");
    let with = |path: &'static str, cookies: String| {
        let request = Request::builder().method(if path == "/api/me" { "GET" } else { "POST" });
        let request = request.uri(path).header("host", "chat.test").header(COOKIE, cookies);
        let request = request.header("x-forwarded-proto", "https").body(Body::empty());
        rig.ask(request.unwrap())
    };
    let me = with("/api/me", format!("{forged}; {own}")).await;
    assert_eq!(me.status(), StatusCode::OK);

    let out = with("/api/sign-out", format!("{forged}; {own}")).await;
    let taken_back: Vec<_> = out.headers().get_all(SET_COOKIE).iter().collect();
    assert_eq!(taken_back.len(), 2, "{taken_back:?}");
    assert_eq!(with("/api/me", own.to_owned()).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_that_is_none_signs_nobody_in() {
    let rig = Rig::new().await;
    for token in ["", "a-token-of-nobody", "A-TOKEN-OF-ANN"] {
        is_refused(rig.client().sign_in(token).await, 401, "unauthorized");
    }
    for body in ["{}", r#"{"token":7}"#, "[]", "no JSON"] {
        let refused = rig.sign_in(body).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{body}");
        assert!(!refused.headers().contains_key(SET_COOKIE));
    }
}

#[tokio::test]
async fn a_sign_in_ends_with_its_token() {
    let rig = Rig::new().await;
    let (ann, bob) =
        (rig.client().sign_in(ANN).await.unwrap(), rig.client().sign_in(BOB).await.unwrap());
    rig.users.replace(&format!("{BOB} acme robert").parse().unwrap());
    is_refused(ann.me().await, 401, "unauthorized");
    assert_eq!(bob.me().await.unwrap().user_id, "robert");
}

#[tokio::test]
async fn a_header_that_is_wrong_is_not_made_good_by_a_cookie() {
    let rig = Rig::new().await;
    let answer = rig.sign_in(r#"{"token":"a-token-of-ann"}"#).await;
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
    let me = |headers: &[(http::HeaderName, &str)]| {
        let request = Request::get("/api/me").header("host", "chat.test");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
        rig.ask(request.body(Body::empty()).unwrap())
    };
    assert_eq!(me(&[(COOKIE, cookie)]).await.status(), StatusCode::OK);
    let wrong = [(COOKIE, cookie), (AUTHORIZATION, "Bearer a-token-of-nobody")];
    assert_eq!(me(&wrong).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_store_in_memory_keeps_sign_ins_too() {
    let rig = Rig::over(MemoryStore::new(), tempfile::tempdir().unwrap()).await;
    let ann = rig.client().sign_in(ANN).await.unwrap();
    assert_eq!(ann.me().await.unwrap().user_id, "ann");
    ann.sign_out().await.unwrap();
    is_refused(ann.me().await, 401, "unauthorized");
    let shown = Client::builder("http://chat.test").bearer_token(ANN).transport(rig.routes.clone());
    assert_eq!(shown.build().unwrap().me().await.unwrap().user_id, "ann");
}
