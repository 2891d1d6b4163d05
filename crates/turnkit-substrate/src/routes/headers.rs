//! What the headers and paths of a request say, checked before anything is done with it.

use axum::extract::{Path, rejection::PathRejection};
use http::HeaderMap;
use turnkit_http::server::{ApiError, single_header};
use turnkit_id::{ExecutionId, InvalidLogId, LogId};

use crate::{Cursor, refusal};

const EXECUTION_ID: &str = "X-Execution-ID";
const LAST_EVENT_ID: &str = "Last-Event-ID";
const LOG_ID: &str = "X-Log-Id";

/// The path parameter of an execution's routes.
pub(super) type IdPath = Result<Path<String>, PathRejection>;

pub(super) fn execution_id(headers: &HeaderMap) -> Result<Option<ExecutionId>, ApiError> {
    let parse = |text: &str| parse_id(text, EXECUTION_ID);
    single_header(headers, EXECUTION_ID)?.map(parse).transpose()
}

pub(super) fn cursor(headers: &HeaderMap) -> Result<Option<Cursor>, ApiError> {
    let malformed =
        |error: crate::cursor::MalformedCursor| refusal::invalid(LAST_EVENT_ID, error.to_string());
    let parse = |text: &str| text.parse().map_err(malformed);
    single_header(headers, LAST_EVENT_ID)?.map(parse).transpose()
}

pub(super) fn log_id(headers: &HeaderMap) -> Result<Option<LogId>, ApiError> {
    let malformed = |error: InvalidLogId| refusal::invalid(LOG_ID, error.to_string());
    let parse = |text: &str| text.parse().map_err(malformed);
    single_header(headers, LOG_ID)?.map(parse).transpose()
}

pub(super) fn id_in_path(path: IdPath) -> Result<ExecutionId, ApiError> {
    let Path(text) = path.map_err(|_| refusal::invalid("id", "the id is not UTF-8"))?;
    parse_id(&text, "id")
}

pub(super) fn parse_id(text: &str, field: &str) -> Result<ExecutionId, ApiError> {
    ExecutionId::parse(text).map_err(|error| refusal::invalid(field, error.to_string()))
}
