use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use thiserror::Error;

use crate::{Scope, log::LogError};

/// Why a [`Substrate`](crate::Substrate) was not built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No agent was given.
    #[error("build a substrate: it has no agent")]
    NoAgent,
    /// A name that is empty, longer than 64 bytes, or holds something else than `A-Za-z0-9._-`.
    #[error("build a substrate: the agent name {name:?} is not 1 to 64 of A-Za-z0-9._-")]
    AgentName {
        /// The name.
        name: String,
    },
    /// Two agents of one name.
    #[error("build a substrate: there are two agents named {name:?}")]
    AgentTwice {
        /// The name.
        name: String,
    },
    /// There is no agent of the name that is to be the default one's.
    #[error("build a substrate: there is no agent named {name:?} to be the default one")]
    DefaultAgent {
        /// The name.
        name: String,
    },
    /// A token that is empty, or that no header can carry. The token itself is not told.
    #[error("build a substrate: the token of scope {scope} must be visible ASCII, and not empty")]
    Token {
        /// Whose token it is.
        scope: Scope,
    },
    /// A limit that cannot be kept.
    #[error("build a substrate: {limit} must be {must}")]
    Limit {
        /// The field of [`Limits`](crate::Limits).
        limit: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

/// Why [`Substrate::serve`](crate::Substrate::serve) stopped, or did not begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Without any token, everyone who reaches the server may use it: it serves loopback only (PROTOCOL 3.3).
    #[error("serve on {address} without any token: only loopback addresses may be open")]
    NotLoopback {
        /// Where the listener is bound.
        address: std::net::SocketAddr,
    },
    /// The listener has no address, or the timer of its process is gone.
    #[error("serve")]
    Io(#[from] std::io::Error),
}

/// An answer that is an error: a status and `{"success":false,"error":{"code","message", …}}` (PROTOCOL 3.1).
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
    retry_after: Option<Duration>,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    code: &'static str,
    message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let body = Box::new(ErrorBody {
            code,
            message: message.into(),
            field: None,
            limit: None,
            last: None,
        });
        Self { status, body, retry_after: None }
    }

    fn limit(mut self, limit: usize) -> Self {
        self.body.limit = Some(limit);
        self
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// `field` is where in the request, `why` never repeats its value.
    pub(crate) fn invalid(field: &str, why: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, "invalid_request", why);
        error.body.field = Some(field.to_owned());
        error
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "a bearer token of this substrate is required";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn forbidden(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn no_route() -> Self {
        let message = "there is nothing under this path";
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "this path does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(crate) fn execution_not_found() -> Self {
        let message = "there is no execution of this id";
        Self::new(StatusCode::NOT_FOUND, "execution_not_found", message)
    }

    pub(crate) fn execution_expired() -> Self {
        let message = "the events of this execution are no longer kept";
        Self::new(StatusCode::GONE, "execution_expired", message)
    }

    pub(crate) fn execution_conflict() -> Self {
        let message = "this execution was started with another body";
        Self::new(StatusCode::CONFLICT, "execution_conflict", message)
    }

    pub(crate) fn invalid_replay_cursor(last: String) -> Self {
        let message = "the log of this execution does not hold the event of this cursor";
        let mut error = Self::new(StatusCode::CONFLICT, "invalid_replay_cursor", message);
        error.body.last = Some(last);
        error
    }

    pub(crate) fn payload_too_large(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message).limit(limit)
    }

    pub(crate) fn unsupported_media_type() -> Self {
        let message = "the body must be application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn encoded() -> Self {
        let message = "the body must not be compressed or encoded in another way";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn head_too_long(limit: usize) -> Self {
        let message = format!("the head of the request is longer than {limit} bytes");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", message)
            .limit(limit)
    }

    pub(crate) fn body_timeout(limit: Duration) -> Self {
        let message = format!("the body did not arrive within {limit:?}");
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub(crate) fn too_many_executions(limit: usize, whose: &'static str) -> Self {
        let message = format!("{whose} runs {limit} executions already");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_executions", message)
            .limit(limit)
            .retry_after(Duration::from_secs(1))
    }

    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            .retry_after(Duration::from_secs(5))
    }

    pub(crate) fn internal() -> Self {
        let message = "the substrate failed to answer";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full(bound) => Self::unavailable(format!("{bound} is used up")),
            LogError::Expired => Self::execution_expired(),
            LogError::Frame(error) => {
                tracing::error!(%error, "the first event of an execution could not be encoded");
                Self::internal()
            }
            LogError::Store(error) => {
                tracing::error!(%error, "the log's store failed");
                Self::unavailable("the log cannot be reached")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let failure = Failure { success: false, error: self.body };
        let mut response = json_response(self.status, &failure);
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[derive(Serialize)]
struct Failure {
    success: bool,
    error: Box<ErrorBody>,
}

/// A JSON answer that no cache keeps.
pub(crate) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    match serde_json::to_vec(body) {
        Ok(json) => (status, headers, json).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
