//! `GET /agents/executions/{id}`.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use turnkit_http::server::{ApiError, json_response};
use turnkit_id::ExecutionId;

use super::headers::{self, IdPath};
use crate::{
    Scope,
    log::{ExecutionKey, Found, Status},
    refusal,
    substrate::Shared,
};

pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    path: IdPath,
) -> Result<Response, ApiError> {
    let id = headers::id_in_path(path)?;
    let key = ExecutionKey { scope, id };
    match shared.log.find(&key).await? {
        Found::Retained(reader) => Ok(respond(&key.id, &reader.status().await?)),
        Found::Spent => Err(refusal::execution_expired()),
        Found::Unknown => Err(refusal::execution_not_found()),
    }
}

pub(super) fn respond(id: &ExecutionId, status: &Status) -> Response {
    let body = StatusBody {
        execution_id: id.as_str(),
        state: status.state.as_str(),
        last: status.last.to_string(),
        started_at: status.started_at,
        ended_at: status.ended_at,
    };
    json_response(StatusCode::OK, &body)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody<'a> {
    execution_id: &'a str,
    state: &'static str,
    last: String,
    started_at: u64,
    ended_at: Option<u64>,
}
