//! Request bodies and the parts of a path.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::timeout;

use super::error::ApiError;

/// The longest request body, in bytes. A message reaches the substrate in a body of at most 1 MiB (PROTOCOL 3.2).
pub(crate) const MAX_BODY: usize = 512 * 1024;
const BODY_READ: Duration = Duration::from_secs(30);

/// A JSON object of at most [`MAX_BODY`] bytes.
pub(super) struct Json<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, ApiError> {
        object(&read_in_time(request).await?).map(Json)
    }
}

/// A body that says nothing: none, or an object whose members nobody asked for.
pub(super) struct Nothing;

impl<S: Sync> FromRequest<S> for Nothing {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Nothing, ApiError> {
        let body = read_in_time(request).await?;
        if !body.is_empty() {
            object::<IgnoredAny>(&body)?;
        }
        Ok(Nothing)
    }
}

async fn read_in_time(request: Request) -> Result<bytes::Bytes, ApiError> {
    let read = timeout(BODY_READ, read(request.into_body()));
    read.await.map_err(|_| ApiError::too_slow())?
}

/// An array is refused: serde would take the members' values in their order.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::invalid("the request body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| not_as_expected(&error))
}

/// A body that says that it is longer than the limit is not waited for.
async fn read(body: Body) -> Result<bytes::Bytes, ApiError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(ApiError::too_large(MAX_BODY));
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(MAX_BODY)),
        Err(_) => Err(ApiError::invalid("the request body broke off")),
    }
}

/// Says where, in our own words: serde's would tell of types, and could repeat what was sent.
fn not_as_expected(error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let what = "the request body must be one JSON object, with each member once";
    ApiError::invalid(format!("{what}: line {line}, column {column}"))
}

/// A member that must be there, and text.
pub(super) fn text(member: Option<Value>, name: &str) -> Result<String, ApiError> {
    let text = optional_text(member, name)?;
    text.ok_or_else(|| ApiError::invalid(format!("{name} is missing")))
}

/// A member that is text where it is there.
pub(super) fn optional_text(member: Option<Value>, name: &str) -> Result<Option<String>, ApiError> {
    match member {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid(format!("{name} must be a string"))),
    }
}

/// The names in a path. What cannot be decoded names nothing.
pub(super) struct InPath<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<InPath<T>, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(names)| InPath(names)).map_err(|_| ApiError::no_route())
    }
}

/// The query of a URL. Its members are text: whoever wants a number says what is wrong with one.
pub(super) struct InQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<InQuery<T>, ApiError> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(values)| InQuery(values)).map_err(|_| {
            ApiError::invalid("the query must be name=value pairs, each name there once at most")
        })
    }
}
