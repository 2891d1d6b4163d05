//! What the headers and paths of a request say, checked before anything is done with it.

use axum::extract::{Path, rejection::PathRejection};
use http::{HeaderMap, HeaderName};
use turnkit_id::ExecutionId;

use crate::{Cursor, error::ApiError};

pub(super) const EXECUTION_ID: HeaderName = HeaderName::from_static("x-execution-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The path parameter of an execution's routes.
pub(super) type IdPath = Result<Path<String>, PathRejection>;

pub(super) fn execution_id(headers: &HeaderMap) -> Result<Option<ExecutionId>, ApiError> {
    let parse = |text: &str| parse_id(text, "X-Execution-ID");
    one(headers, &EXECUTION_ID, "X-Execution-ID")?.map(parse).transpose()
}

pub(super) fn cursor(headers: &HeaderMap) -> Result<Option<Cursor>, ApiError> {
    let malformed = |error: crate::cursor::MalformedCursor| {
        ApiError::invalid("Last-Event-ID", error.to_string())
    };
    let parse = |text: &str| text.parse().map_err(malformed);
    one(headers, &LAST_EVENT_ID, "Last-Event-ID")?.map(parse).transpose()
}

pub(super) fn id_in_path(path: IdPath) -> Result<ExecutionId, ApiError> {
    let Path(text) = path.map_err(|_| ApiError::invalid("id", "the id is not UTF-8"))?;
    parse_id(&text, "id")
}

pub(super) fn parse_id(text: &str, field: &str) -> Result<ExecutionId, ApiError> {
    ExecutionId::parse(text).map_err(|error| ApiError::invalid(field, error.to_string()))
}

/// The value of a header that may stand there once.
fn one<'a>(
    headers: &'a HeaderMap,
    header: &HeaderName,
    field: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::invalid(field, "the header stands there twice"));
    }
    let text = value.to_str();
    text.map(Some).map_err(|_| ApiError::invalid(field, "the header is not visible ASCII"))
}
