//! Who a request is made for: a user by bearer token or by the cookie of a sign-in, or the one local user.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use turnkit_http::server::{ApiError, bearer_token};

use super::{App, refusal};
use crate::principal::Principal;
use crate::users::{Users, digest};

/// The cookie of a sign-in.
pub(super) const NAME: &str = "turnkit";
/// Cookies of this name that are looked at. Other paths of this host may have set some, which the browser sends as well.
const MAX_COOKIES: usize = 4;

impl FromRequestParts<Arc<App>> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Principal, ApiError> {
        let Some(users) = &app.users else {
            return Ok(Principal::local());
        };
        if parts.headers.contains_key(AUTHORIZATION) {
            let user = bearer_token(&parts.headers).and_then(|token| users.of_token(token));
            return user.map(|(user, _)| user).ok_or_else(refusal::unauthorized);
        }
        signed_in(app, users, &parts.headers).await?.ok_or_else(refusal::unauthorized)
    }
}

async fn signed_in(
    app: &App,
    users: &Users,
    headers: &HeaderMap,
) -> Result<Option<Principal>, ApiError> {
    for secret in secrets(headers) {
        let token = app.store.signed_in(digest(secret.as_bytes())).await?;
        // A token that is no longer in the file ends its sign-ins.
        if let Some(user) = token.and_then(|token| users.of_digest(&token)) {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

/// The secrets of the sign-ins that a request comes with.
pub(super) fn secrets(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.split_once('='));
    let ours = pairs.filter(|(name, _)| name.trim() == NAME);
    ours.map(|(_, secret)| secret.trim()).take(MAX_COOKIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        let value = |value| http::HeaderValue::from_static(value);
        headers.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn our_cookies_are_found_among_others() {
        let headers = with(&[(COOKIE, "a=b; turnkit=one;turnkit = two ; xturnkit=3; turnkit")]);
        assert_eq!(secrets(&headers).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(secrets(&HeaderMap::new()).count(), 0);
    }
}
