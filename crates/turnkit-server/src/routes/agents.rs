//! `/api/agents`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use turnkit_http::server::ApiError;

use super::{App, NO_STORE};
use crate::principal::Principal;

#[derive(Serialize)]
struct Listed {
    agents: Vec<Item>,
    default: Option<String>,
}

#[derive(Serialize)]
struct Item {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

/// `GET /api/agents`: what a turn may be answered by, as the substrate tells it, and who answers where none is named.
pub(super) async fn list(State(app): State<Arc<App>>, _: Principal) -> Result<Response, ApiError> {
    let list = app.turns.catalog.ask().await?;
    let agents: Vec<Item> = list
        .agents
        .into_iter()
        .map(|agent| Item { name: agent.identifier, description: agent.description })
        .collect();
    Ok((NO_STORE, Json(Listed { agents, default: list.default })).into_response())
}
