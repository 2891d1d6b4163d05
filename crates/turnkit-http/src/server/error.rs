//! The one shape of an answer that is an error.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// An answer that is an error: a status and `{"success":false,"error":{"code","message", …}}`.
///
/// A 401 is sent with `WWW-Authenticate: Bearer`, and none is kept by a cache. Messages are sentences for whoever wrote the
/// request, and must hold neither a secret nor what was sent.
///
/// ```
/// use turnkit_http::server::ApiError;
///
/// let refused = ApiError::invalid_request("timeout must be 1 to 60000 milliseconds").field("timeout");
/// assert_eq!((refused.status().as_u16(), refused.code()), (400, "invalid_request"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(Box<Details>);

#[derive(Clone, Debug, PartialEq)]
struct Details {
    status: StatusCode,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    members: Vec<(&'static str, Value)>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// Any error: for codes that are a server's own.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (code, message) = (code.into(), message.into());
        Self(Box::new(Details { status, code, message, members: Vec::new(), retry_after: None }))
    }

    /// 400 `invalid_request`.
    #[must_use]
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 401 `unauthorized`.
    #[must_use]
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403 `forbidden`.
    #[must_use]
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404 `not_found`, for a path that no route has.
    #[must_use]
    pub fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    /// 405 `method_not_allowed`. axum adds the header `Allow`.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let message = "this path does not take this method; see the header Allow";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 408 `request_timeout`: the body was not there within `limit`.
    #[must_use]
    pub fn request_timeout(limit: Duration) -> Self {
        let message = format!("the request body did not arrive within {} s", limit.as_secs_f64());
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    /// 413 `payload_too_large`: the body is over `limit` bytes, which its member `limit` says.
    #[must_use]
    pub fn payload_too_large(limit: usize) -> Self {
        let message = format!("the request body is over the limit of {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message).with("limit", limit)
    }

    /// 415 `unsupported_media_type`.
    #[must_use]
    pub fn unsupported_media_type(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// 431 `head_too_large`: the head of the request is over `limit` bytes, which its member `limit` says.
    #[must_use]
    pub fn head_too_large(limit: usize) -> Self {
        let message = format!("the head of the request is over the limit of {limit} bytes");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::new(status, "head_too_large", message).with("limit", limit)
    }

    /// 500 `internal`.
    #[must_use]
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// 503 `unavailable`, with `Retry-After: 1`.
    #[must_use]
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            .retry_after(Duration::from_secs(1))
    }

    /// Names the part of the request that is wrong, a member of its body or a header: its member `field`.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        self.with("field", name)
    }

    /// Adds a member beside `code` and `message`. Members keep the order in which they were added; `name` is neither of those
    /// two, and is not added twice.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.members.push((name, value.into()));
        self
    }

    /// Sends `Retry-After`, in whole seconds and rounded up.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Its message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

/// What stands under `error`.
impl Serialize for Details {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.members.len()))?;
        map.serialize_entry("code", &self.code)?;
        map.serialize_entry("message", &self.message)?;
        for (name, value) in &self.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            success: bool,
            error: &'a Details,
        }

        let mut response = json_response(self.status(), &Body { success: false, error: &self.0 });
        let headers = response.headers_mut();
        if let Some(after) = self.0.retry_after {
            let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON answer that no cache keeps. A bare 500 where `body` is nothing that JSON can say, such as a map with keys that are no
/// strings; the log tells why.
#[must_use]
pub fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    match serde_json::to_vec(body) {
        Ok(json) => (status, headers, json).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn sent(error: ApiError) -> (http::response::Parts, String) {
        let (head, body) = error.into_response().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn an_error_is_json_in_the_order_in_which_it_was_said() {
        let error = ApiError::invalid_request("no \"such\" thing").field("what").with("limit", 7);
        let (head, body) = sent(error.with("a", "b")).await;
        assert_eq!(
            body,
            r#"{"success":false,"error":{"code":"invalid_request","message":"no \"such\" thing","field":"what","limit":7,"a":"b"}}"#
        );
        assert_eq!(head.status, 400);
        assert_eq!(head.headers["content-type"], "application/json");
        assert_eq!(head.headers["cache-control"], "no-store");
    }

    #[tokio::test]
    async fn a_status_brings_the_headers_that_belong_to_it() {
        let (head, _) = sent(ApiError::unauthorized("who are you?")).await;
        assert_eq!(head.headers["www-authenticate"], "Bearer");
        let (head, _) = sent(ApiError::unavailable("not now")).await;
        assert_eq!(head.headers["retry-after"], "1");
        for (after, seconds) in [(0, "0"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let error = ApiError::unavailable("not now").retry_after(Duration::from_millis(after));
            assert_eq!(sent(error).await.0.headers["retry-after"], seconds);
        }
        let error = ApiError::unavailable("never").retry_after(Duration::MAX);
        assert_eq!(sent(error).await.0.headers["retry-after"], u64::MAX.to_string());
    }
}
