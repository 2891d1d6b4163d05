//! `/api/sign-in`, `/api/sign-out` and `/api/me`

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ORIGIN, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use turnkit_http::server::{ApiError, InBody, Nothing};

use super::authentication::{NAME, secrets};
use super::{App, NO_STORE, body, refusal};
use crate::principal::Principal;
use crate::random;
use crate::store::SignIn;
use crate::users::digest;

/// How long a sign-in holds.
const LASTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Deserialize)]
pub(super) struct Ask {
    token: Option<Value>,
}

/// `POST /api/sign-in`: 204 with a cookie that stands for the token.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    InBody(ask): InBody<Ask>,
) -> Result<Response, ApiError> {
    let users = app.users.as_ref().ok_or_else(refusal::no_users)?;
    let token = body::text(ask.token, "token")?;
    let (_, token) = users.of_token(token.trim().as_bytes()).ok_or_else(refusal::unauthorized)?;
    let secret = random::secret().map_err(|error| refusal::no_random(&error))?;
    let lasts = i64::try_from(LASTS.as_millis()).unwrap_or(i64::MAX);
    app.store.sign_in(SignIn { secret: digest(secret.as_bytes()), token, lasts }).await?;
    let cookie = cookie(&secret, LASTS, is_https(&headers));
    Ok((StatusCode::NO_CONTENT, NO_STORE, [(SET_COOKIE, cookie)]).into_response())
}

/// `POST /api/sign-out`: 204; ends the sign-in, and takes the cookie back.
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    _: Nothing,
) -> Result<Response, ApiError> {
    for secret in secrets(&headers) {
        app.store.sign_out(digest(secret.as_bytes())).await?;
    }
    let cookie = cookie("", Duration::ZERO, is_https(&headers));
    Ok((StatusCode::NO_CONTENT, NO_STORE, [(SET_COOKIE, cookie)]).into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Me {
    tenant_id: String,
    user_id: String,
    sign_in: bool,
}

/// `GET /api/me`: who asks, and whether users sign in here.
pub(super) async fn me(State(app): State<Arc<App>>, who: Principal) -> Response {
    let Principal { tenant_id, user_id } = who;
    (NO_STORE, Json(Me { tenant_id, user_id, sign_in: app.users.is_some() })).into_response()
}

/// No script reads it and no other site sends it (RFC 6265bis); over https it never travels in the clear.
fn cookie(secret: &str, lasts: Duration, is_https: bool) -> String {
    let secure = if is_https { "; Secure" } else { "" };
    let lasts = lasts.as_secs();
    format!("{NAME}={secret}; Max-Age={lasts}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

/// Whether the browser speaks https: it says so in `Origin`, and a proxy that ends TLS may say so too. Who lies here only
/// keeps a cookie from himself.
fn is_https(headers: &HeaderMap) -> bool {
    let starts = |name: &str, with: &str| {
        headers.get(name).is_some_and(|value| value.as_bytes().starts_with(with.as_bytes()))
    };
    starts(ORIGIN.as_str(), "https://") || starts("x-forwarded-proto", "https")
}
