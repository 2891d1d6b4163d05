//! The product's routes.

mod agents;
mod authentication;
mod body;
mod listing;
mod messages;
mod refusal;
mod sessions;
mod sign_in;
mod trace;
mod turns;

use std::future::ready;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use turnkit_http::server::{ApiError, Hosts, guard, linger};

use crate::page;
use crate::principal::Principal;
use crate::store::Store;
use crate::turns::Turns;
use crate::users::Users;

/// What the routes share.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) turns: Arc<Turns>,
    /// Without them there is one local user.
    pub(crate) users: Option<Users>,
}

/// For answers that are of this moment.
const NO_STORE: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// All routes, behind the guard.
pub(crate) fn router(app: App) -> Router {
    // Whoever bears no token is told from the pages of other sites by the host alone.
    let hosts = if app.users.is_some() { Hosts::any() } else { Hosts::loopback() };
    Router::new()
        .route("/api/me", get(sign_in::me))
        .route("/api/sign-in", post(sign_in::sign_in))
        .route("/api/sign-out", post(sign_in::sign_out))
        .route("/api/agents", get(agents::list))
        .route("/api/sessions", get(sessions::list).post(sessions::create))
        .route("/api/sessions/{session}/messages", get(messages::list))
        .route("/api/sessions/{session}/turns", get(turns::open).post(turns::start))
        .route("/api/sessions/{session}/turns/{turn}", get(turns::resume))
        .route("/api/sessions/{session}/turns/{turn}/cancel", post(turns::cancel))
        .route("/api/sessions/{session}/turns/{turn}/trace", get(trace::of_turn))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .merge(page::routes())
        .fallback(|| async { ApiError::no_route() })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(Extension(body::LIMITS))
        .layer(middleware::from_fn_with_state(hosts, guard))
        .layer(middleware::map_request(|request: Request| ready(linger(request))))
        .with_state(Arc::new(app))
}

/// `GET /health`: 200 while the server can work, 503 once its database threads are gone.
async fn health(State(app): State<Arc<App>>) -> Response {
    if !app.store.is_alive() {
        return ApiError::unavailable("the database is closed").into_response();
    }
    let headers = [(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "application/json")];
    (headers, r#"{"status":"ok"}"#).into_response()
}

/// `GET /metrics`, in Prometheus' text format.
async fn metrics(State(app): State<Arc<App>>, _: Principal) -> Response {
    let page = app.turns.metrics.render(&app.turns.now().await);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}
