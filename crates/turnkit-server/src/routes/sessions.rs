//! `/api/sessions`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use turnkit_http::server::{ApiError, InQuery, Nothing};

use super::listing::{limit, rfc3339};
use super::{App, NO_STORE};
use crate::principal::Principal;
use crate::store::{Session, SessionPage};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    session_id: String,
}

/// `POST /api/sessions`: 201 with the id of a new session.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    owner: Principal,
    _: Nothing,
) -> Result<Response, ApiError> {
    let session_id = app.store.create_session(owner).await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(Created { session_id })).into_response())
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    before: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    sessions: Vec<Item>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    session_id: String,
    title: Option<String>,
    created_at: String,
}

/// `GET /api/sessions?before=ID&limit=N`: the user's sessions, the newest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    owner: Principal,
    InQuery(query): InQuery<ListQuery>,
) -> Result<Response, ApiError> {
    let page = SessionPage { before: query.before, limit: limit("limit", query.limit.as_deref())? };
    let sessions = app.store.sessions(owner, page).await?;
    let sessions = sessions.into_iter().map(Item::from).collect();
    Ok(Json(Listed { sessions }).into_response())
}

impl From<Session> for Item {
    fn from(session: Session) -> Item {
        let Session { id, title, created_at } = session;
        Item { session_id: id, title, created_at: rfc3339(created_at) }
    }
}
