//! The routes of the binary: the chat's own, and around them the page, liveness, metrics and traces.

use std::future::ready;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use serde::Serialize;
use turnkit_chat::tokens::{TokenUser, Tokens};
use turnkit_chat::{
    Chat, LocalUser, Origins, Principal, SessionId, TrustedHeader, TrustedUser, TurnRef,
};
use turnkit_http::server::{ApiError, Hosts, InPath, guard, json_response, linger};
use turnkit_sandbox::SandboxClient;
use turnkit_substrate::Substrate;

use crate::base_path::BasePath;
use crate::metrics::{Metrics, Now};
use crate::page;
use crate::stderr;
use crate::traces::{AttemptTrace, Traces};

/// What the routes share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) chat: Chat,
    pub(crate) users: KnownBy,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Traces,
    pub(crate) sandbox: SandboxClient,
    /// Other origins whose pages may use the routes.
    pub(crate) origins: Origins,
    /// The path that all routes lie under.
    pub(crate) base_path: BasePath,
    /// The substrate inside this process, where there is one.
    pub(crate) embedded: Option<Substrate>,
}

/// How the user of a request is known.
#[derive(Clone)]
pub(crate) enum KnownBy {
    /// There is one, and only this machine reaches the server.
    Nothing,
    /// By a token.
    Tokens(Tokens),
    /// By a proxy.
    Header(TrustedHeader),
}

impl App {
    /// All routes, behind the guard.
    pub(crate) fn router(self) -> Router {
        let nobody =
            |why: &'static str| post(move || async move { ApiError::invalid_request(why) });
        let (hosts, chat) = match &self.users {
            KnownBy::Tokens(tokens) => (Hosts::any(), tokens.router_for(&self.origins)),
            KnownBy::Header(header) => {
                let chat = self.chat.router_for::<TrustedHeader, TrustedUser>(&self.origins);
                let why = "nobody signs in at this server: the proxy before it says who asks";
                (Hosts::any(), chat.with_state(header.clone()).route("/api/sign-in", nobody(why)))
            }
            // Whoever bears no token is told from the pages of other sites by the host alone.
            KnownBy::Nothing => {
                let chat = self.chat.router_for::<(), LocalUser>(&self.origins);
                let why = "nobody signs in at this server: it has one local user";
                (Hosts::loopback(), chat.route("/api/sign-in", nobody(why)))
            }
        };
        let hosts = hosts.allowing(&self.origins);
        let base_path = self.base_path.clone();
        let routes = Router::new()
            .route("/api/sessions/{session}/turns/{turn}/trace", get(trace))
            .route("/health", get(health))
            .route("/ready", get(is_ready))
            .route("/metrics", get(metrics))
            .with_state(self)
            .merge(chat)
            .merge(page::routes())
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
        under(&base_path, routes)
            .fallback(|| async { ApiError::no_route() })
            .layer(middleware::from_fn_with_state(hosts, guard))
            .layer(middleware::map_request(|request: Request| ready(linger(request))))
    }
}

/// `routes` under a path. The page names what it loads by where it lies itself, so it has to lie behind the slash.
fn under(base_path: &BasePath, routes: Router) -> Router {
    let path = base_path.as_str();
    let Some((_, name)) = path.rsplit_once('/') else {
        return routes;
    };
    let to_page = Redirect::temporary(&format!("{name}/"));
    Router::new().route(path, get(|| ready(to_page))).nest(&format!("{path}/"), routes)
}

/// The user of a request, whichever way users are known here.
struct User(Principal);

impl FromRequestParts<App> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<User, ApiError> {
        Ok(User(match &app.users {
            KnownBy::Nothing => LocalUser.into(),
            KnownBy::Tokens(tokens) => TokenUser::from_request_parts(parts, tokens).await?.into(),
            KnownBy::Header(header) => TrustedUser::from_request_parts(parts, header).await?.into(),
        }))
    }
}

#[derive(Serialize)]
struct Trace {
    attempts: Vec<AttemptTrace>,
}

/// `GET …/turns/{turnId}/trace`: the attempts at one of this process's last turns.
async fn trace(
    State(app): State<App>,
    User(user): User,
    InPath((session, turn_id)): InPath<(String, String)>,
) -> Result<Response, ApiError> {
    let turn = app.chat.turn(&user, &TurnRef::new(SessionId::new(session), turn_id)).await?;
    let attempts = app.traces.of(&turn.execution_id).ok_or_else(|| {
        let message =
            "nothing is known of this turn's attempts: they were long ago, or in another process";
        ApiError::new(StatusCode::NOT_FOUND, "trace_not_found", message)
    })?;
    Ok(json_response(StatusCode::OK, &Trace { attempts }))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// `GET /health`: 200 while the process can answer and its database can be used. For whoever restarts processes.
async fn health(State(app): State<App>) -> Response {
    match app.chat.check().await {
        Ok(()) => json_response(StatusCode::OK, &Health { status: "ok" }),
        Err(refusal) => refusal.into_response(),
    }
}

/// `GET /ready`: 200 while turns can be started, and 503 with the reason otherwise. For whoever sends requests here.
async fn is_ready(State(app): State<App>) -> Result<Response, ApiError> {
    app.chat.ready().await?;
    if let Some(substrate) = &app.embedded {
        substrate.ready().await.map_err(|why| ApiError::unavailable(why.to_string()))?;
    }
    Ok(json_response(StatusCode::OK, &Health { status: "ready" }))
}

/// `GET /metrics`, in Prometheus' text format.
async fn metrics(State(app): State<App>, _: User) -> Response {
    let log = match &app.embedded {
        Some(substrate) => substrate.usage().await.ok(),
        None => None,
    };
    let now = Now {
        running: app.chat.running(),
        waiting: app.chat.waiting(),
        reconnects: app.sandbox.reconnects(),
        log,
        dropped_lines: stderr::dropped_lines(),
    };
    let headers =
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (headers, app.metrics.render(&now)).into_response()
}
