//! `GET /agents/executions/{id}`.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use turnkit_http::server::{ApiError, json_response};
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use super::{
    headers::{self, IdPath},
    inbox::event_at,
};
use crate::{
    Scope,
    log::{ExecutionKey, Found, State as ExecutionState, Status},
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
        Found::Retained(reader) => {
            // In this order: a question that is pending in a status of a run that goes on was so after that.
            let status = reader.status().await?;
            let mut pending = Vec::new();
            for seq in reader.pending().await? {
                pending.push(event_at(&*reader, seq).await?);
            }
            Ok(respond(&key.id, &status, &pending))
        }
        Found::Spent => Err(refusal::execution_expired()),
        Found::Unknown => Err(refusal::execution_not_found()),
    }
}

/// `pending`: the questions that wait for an answer.
pub(super) fn respond(id: &ExecutionId, status: &Status, pending: &[Event]) -> Response {
    // What is in a log is verified JSON.
    let data = |event| serde_json::from_str(Event::data_json(event)?).ok();
    let body = StatusBody {
        execution_id: id.as_str(),
        state: status.state.as_str(),
        last: status.last.to_string(),
        started_at: status.started_at,
        ended_at: status.ended_at,
        accepts_input: status.takes_input && status.state == ExecutionState::Running,
        pending: pending.iter().filter_map(data).collect(),
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
    accepts_input: bool,
    pending: Vec<&'a RawValue>,
}
