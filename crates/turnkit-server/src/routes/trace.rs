//! `/api/sessions/{session}/turns/{turn}/trace`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use turnkit_http::server::{ApiError, InPath};

use super::turns::find;
use super::{App, NO_STORE, refusal};
use crate::principal::Principal;
use crate::turns::AttemptTrace;

#[derive(Serialize)]
struct Trace {
    attempts: Vec<AttemptTrace>,
}

/// `GET …/turns/{turnId}/trace`: the attempts at one of this process's last turns.
pub(super) async fn of_turn(
    State(app): State<Arc<App>>,
    owner: Principal,
    InPath((session, turn_id)): InPath<(String, String)>,
) -> Result<Response, ApiError> {
    let turn = find(&app, owner, session, turn_id).await?;
    let attempts = app.turns.traces.of(&turn.execution_id).ok_or_else(refusal::no_trace)?;
    Ok((NO_STORE, Json(Trace { attempts })).into_response())
}
