//! What the substrate is: `GET /agents`, `GET /capabilities`, `GET /health`, `GET /ready`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Value, json};
use turnkit_http::server::{ApiError, json_response};

use crate::substrate::Shared;

pub(super) async fn agents(State(shared): State<Arc<Shared>>) -> Response {
    let agents = shared.agents.iter().map(|(identifier, agent)| {
        let mut told =
            json!({ "identifier": identifier, "description": agent.description_boxed() });
        let takes = agent.takes_boxed();
        if takes.any() {
            told["takes"] = json!({ "answers": takes.answers, "input": takes.input });
        }
        told
    });
    let default = shared.agents.default_name();
    let body = json!({ "agents": agents.collect::<Value>(), "default": default });
    json_response(StatusCode::OK, &body)
}

pub(super) async fn capabilities(State(shared): State<Arc<Shared>>) -> Result<Response, ApiError> {
    let log_id = shared.log.id().await?;
    let body = json!({
        "protocolVersion": 1,
        "features": ["attach", "cancel", "detach", "input", "interactions", "replay", "status"],
        "logId": log_id.as_str(),
        "limits": shared.limits.to_json(),
    });
    Ok(json_response(StatusCode::OK, &body))
}

pub(super) async fn health() -> Response {
    json_response(StatusCode::OK, &json!({ "status": "ok" }))
}

pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Response, ApiError> {
    shared.ready().await.map_err(|why| ApiError::unavailable(why.to_string()))?;
    Ok(json_response(StatusCode::OK, &json!({ "status": "ready" })))
}
