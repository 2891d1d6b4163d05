//! What a route answers when it cannot do what was asked.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::agents::CatalogError;
use crate::store::StoreError;

/// An error with its status: `{"success":false,"error":{"code","message"}}`, as the substrate's (PROTOCOL 3.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The open turn that is in the way.
    turn_id: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), turn_id: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn no_route() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    pub(crate) fn no_session() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "session_not_found", "there is no such session")
    }

    pub(crate) fn no_turn() -> ApiError {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "turn_not_found",
            "there is no such turn in this session",
        )
    }

    pub(crate) fn no_trace() -> ApiError {
        let message =
            "nothing is known of this turn's attempts: they were long ago, or in another process";
        ApiError::new(StatusCode::NOT_FOUND, "trace_not_found", message)
    }

    pub(crate) fn no_agent() -> ApiError {
        ApiError::invalid("there is no agent of this name, see /api/agents")
    }

    pub(crate) fn no_users() -> ApiError {
        ApiError::invalid("nobody signs in at this server: it has one local user")
    }

    /// The same answer whatever is wrong: missing, unknown, or over.
    pub(crate) fn unauthorized() -> ApiError {
        let message = "a bearer token or a sign-in that this server knows is needed";
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn wrong_method() -> ApiError {
        let message = "this path does not take this method; see the header Allow";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(crate) fn too_slow() -> ApiError {
        let message = "the request body did not arrive within 30 s";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub(crate) fn conflict() -> ApiError {
        let message =
            "this turnId was used for another message or agent; make a new one for each message";
        ApiError::new(StatusCode::CONFLICT, "turn_conflict", message)
    }

    pub(crate) fn running(turn_id: String) -> ApiError {
        let message = "another turn of this session is still open; wait for its end, or cancel it";
        ApiError {
            turn_id: Some(turn_id),
            ..ApiError::new(StatusCode::CONFLICT, "turn_running", message)
        }
    }

    pub(crate) fn too_large(limit: usize) -> ApiError {
        let message = format!("the request body is over the limit of {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    pub(crate) fn not_json() -> ApiError {
        let message = "the request body must be application/json";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn encoded() -> ApiError {
        let message = "the request body must be sent as it is, without a Content-Encoding";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn too_many(limit: usize) -> ApiError {
        let message = format!("this server drives {limit} turns already");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_turns", message)
    }

    pub(crate) fn no_random(error: &turnkit::BoxError) -> ApiError {
        tracing::error!(error = &**error as &dyn std::error::Error, "failed to get random bytes");
        ApiError::unavailable("no secret can be made at the moment")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> ApiError {
        tracing::warn!(error = &error as &dyn std::error::Error, "failed to list the agents");
        ApiError::unavailable("the substrate cannot be asked for its agents at the moment")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to answer a request");
        ApiError::unavailable("the database is not available at the moment")
    }
}

#[derive(Serialize)]
struct Body<'a> {
    success: bool,
    error: Details<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<&'a str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error =
            Details { code: self.code, message: &self.message, turn_id: self.turn_id.as_deref() };
        let mut response =
            (self.status, axum::Json(Body { success: false, error })).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
