//! Users by bearer tokens: in a header, or behind the cookie of a sign-in (PROTOCOL 4.2). For products without a login of
//! their own; one that has its own gives [`Chat::router`] an extractor instead.

mod users;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts, State};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router, middleware};
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, ORIGIN, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use turnkit_http::server::{ApiError, Hosts, InBody, Nothing, Origins, bearer_token, guard};

pub use self::users::{Users, UsersError};
use crate::router::{LIMITS, required};
use crate::store::{SignIns, StoreError, StoreErrorKind};
use crate::{Chat, Principal, Refusal};

/// The cookie of a sign-in over plain HTTP, or for a path of its host.
const NAME: &str = "turnkit";
/// The one of a sign-in over https for the whole host. Browsers take a cookie of this prefix from its own host alone (RFC 6265bis, 4.1.3.2), so a page of a
/// sibling domain can't put others before it until it is not looked at any more.
const HOST_NAME: &str = "__Host-turnkit";
/// Cookies of each name that are looked at. Other paths of this host may have set some, which the browser sends as well.
const MAX_COOKIES: usize = 4;
/// How long a sign-in holds.
const LASTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Users' tokens, and the chat whose store keeps their sign-ins.
#[derive(Clone, Debug)]
pub struct Tokens {
    users: Users,
    chat: Chat,
    path: Arc<str>,
}

impl Tokens {
    /// The users of a chat.
    #[must_use]
    pub fn new(users: Users, chat: Chat) -> Tokens {
        Tokens { users, chat, path: "/".into() }
    }

    /// Where the routes lie under a path of their host, such as `/chat`: a sign-in's cookie is sent there and nowhere else. An empty one
    /// is the whole host.
    #[must_use]
    pub fn under(self, path: &str) -> Tokens {
        let path = if path.is_empty() { "/" } else { path };
        Tokens { path: path.into(), ..self }
    }

    /// The chat's routes for these users, and `/api/sign-in` and `/api/sign-out`.
    pub fn router(&self) -> Router {
        self.router_for(&Origins::default())
    }

    /// [`router`](Self::router), whose routes of the chat pages of these other origins may use as well (CORS). They do not sign in: a
    /// sign-in's cookie is the server's own pages'.
    pub fn router_for(&self, origins: &Origins) -> Router {
        let signing = Router::new()
            .route("/api/sign-in", post(sign_in))
            .route("/api/sign-out", post(sign_out))
            .route_layer(Extension(LIMITS))
            .route_layer(middleware::from_fn_with_state(Hosts::any(), guard));
        self.chat.routes::<Tokens, TokenUser>(true, origins).merge(signing).with_state(self.clone())
    }

    fn sign_ins(&self) -> Result<&dyn SignIns, ApiError> {
        let none =
            "this server's database keeps no sign-ins: send the token as Authorization: Bearer";
        self.chat.sign_ins().ok_or_else(|| ApiError::invalid_request(none))
    }

    /// Whether a sign-in's cookie can be one that no other host of its domain can set: over https, and for the whole host.
    fn is_hosts_own(&self, request: &HeaderMap) -> bool {
        is_https(request) && &*self.path == "/"
    }

    /// No script reads it and no other site sends it (RFC 6265bis); over https it never travels in the clear.
    fn cookie(
        &self,
        secret: &str,
        lasts: Duration,
        is_hosts_own: bool,
        request: &HeaderMap,
    ) -> String {
        let name = if is_hosts_own { HOST_NAME } else { NAME };
        let secure = if is_https(request) { "; Secure" } else { "" };
        let (path, lasts) = (&self.path, lasts.as_secs());
        format!("{name}={secret}; Max-Age={lasts}; Path={path}; HttpOnly; SameSite=Strict{secure}")
    }
}

/// The user of a request, known by a token (PROTOCOL 4.2): 401 `unauthorized` otherwise. A header that is there and wrong is
/// not made good by a cookie.
#[derive(Clone, Debug)]
pub struct TokenUser(pub Principal);

impl From<TokenUser> for Principal {
    fn from(user: TokenUser) -> Principal {
        user.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TokenUser
where
    Tokens: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<TokenUser, ApiError> {
        let tokens = Tokens::from_ref(state);
        if parts.headers.contains_key(AUTHORIZATION) {
            let user = bearer_token(&parts.headers).and_then(|token| tokens.users.of_token(token));
            return user.map(|(user, _)| TokenUser(user)).ok_or_else(unauthorized);
        }
        for secret in secrets(&parts.headers) {
            let secret = users::digest(secret.as_bytes());
            let token = tokens.sign_ins()?.signed_in(secret).await.map_err(Refusal::from)?;
            // A token that is no longer in the file ends its sign-ins.
            if let Some(user) = token.and_then(|token| tokens.users.of_digest(&token)) {
                return Ok(TokenUser(user));
            }
        }
        Err(unauthorized())
    }
}

#[derive(Deserialize)]
struct Asked {
    token: Option<Value>,
}

/// `POST /api/sign-in`: 204 with a cookie that stands for the token.
async fn sign_in(
    State(tokens): State<Tokens>,
    headers: HeaderMap,
    InBody(asked): InBody<Asked>,
) -> Result<Response, ApiError> {
    let token = required(asked.token, "token")?;
    let known = tokens.users.of_token(token.trim().as_bytes());
    let (_, token) = known.ok_or_else(unauthorized)?;
    let secret = secret()
        .map_err(|error| Refusal::from(StoreError::because(StoreErrorKind::Unavailable, error)))?;
    let digest = users::digest(secret.as_bytes());
    tokens.sign_ins()?.sign_in(digest, token, LASTS).await.map_err(Refusal::from)?;
    Ok(signed([tokens.cookie(&secret, LASTS, tokens.is_hosts_own(&headers), &headers)]))
}

/// `POST /api/sign-out`: 204; ends the sign-in, and takes the cookie back.
async fn sign_out(
    State(tokens): State<Tokens>,
    headers: HeaderMap,
    _: Nothing,
) -> Result<Response, ApiError> {
    for secret in secrets(&headers) {
        let secret = users::digest(secret.as_bytes());
        tokens.sign_ins()?.sign_out(secret).await.map_err(Refusal::from)?;
    }
    // Where it may be of the host alone both: one may be of a time before.
    let names = if tokens.is_hosts_own(&headers) { &[false, true][..] } else { &[false] };
    let gone = |is_hosts_own: &bool| tokens.cookie("", Duration::ZERO, *is_hosts_own, &headers);
    Ok(signed(names.iter().map(gone)))
}

fn signed(cookies: impl IntoIterator<Item = String>) -> Response {
    let cookies = cookies.into_iter().map(|cookie| (SET_COOKIE, cookie));
    let cookies = AppendHeaders(cookies.collect::<Vec<_>>());
    (StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")], cookies).into_response()
}

/// The same answer whatever is wrong: missing, unknown, or over.
fn unauthorized() -> ApiError {
    ApiError::unauthorized("a bearer token or a sign-in that this server knows is needed")
}

/// The secrets of the sign-ins that a request comes with, those first that nobody else can have put there.
fn secrets(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let of = |wanted: &'static str| {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|cookies| cookies.split(';'));
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        let wanted = pairs.filter(move |(name, _)| name.trim() == wanted);
        wanted.map(|(_, secret)| secret.trim()).take(MAX_COOKIES)
    };
    of(HOST_NAME).chain(of(NAME))
}

/// 256 bits from the operating system, in hexadecimal digits.
fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [[0; 16]; 2];
    getrandom::fill(bytes.as_flattened_mut())?;
    Ok(format!("{:032x}{:032x}", u128::from_be_bytes(bytes[0]), u128::from_be_bytes(bytes[1])))
}

/// Whether the browser speaks https: it says so in `Origin`, and a proxy that ends TLS may say so too. Who lies here only
/// keeps a cookie from himself.
fn is_https(headers: &HeaderMap) -> bool {
    let starts = |name: &str, with: &str| {
        headers.get(name).is_some_and(|value| value.as_bytes().starts_with(with.as_bytes()))
    };
    starts(ORIGIN.as_str(), "https://") || starts("x-forwarded-proto", "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cookies_are_found_among_others() {
        let cookies = "a=b; turnkit=one;turnkit = two ; xturnkit=3; turnkit";
        let headers = HeaderMap::from_iter([(COOKIE, http::HeaderValue::from_static(cookies))]);
        assert_eq!(secrets(&headers).collect::<Vec<_>>(), ["one", "two"]);
        let headers = HeaderMap::from_iter([(
            COOKIE,
            http::HeaderValue::from_static("turnkit=one; __Host-turnkit=0"),
        )]);
        assert_eq!(secrets(&headers).collect::<Vec<_>>(), ["0", "one"]);
        assert_eq!(secrets(&HeaderMap::new()).count(), 0);
    }
}
