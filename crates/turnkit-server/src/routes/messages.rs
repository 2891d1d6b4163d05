//! `/api/sessions/{session}/messages`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use turnkit_http::server::{ApiError, InPath, InQuery};

use super::listing::{limit, number, rfc3339};
use super::{App, refusal};
use crate::principal::Principal;
use crate::store::{Failure, Message, MessagePage};

#[derive(Deserialize)]
pub(super) struct ListQuery {
    before: Option<String>,
    turns: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    messages: Vec<Item>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    role: &'static str,
    text: String,
    status: &'static str,
    turn_index: u64,
    turn_id: String,
    execution_id: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

#[derive(Serialize)]
struct Error {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    message: String,
}

/// `GET …/messages?before=TURN_INDEX&turns=N`: what was said, the oldest first, of the newest turns.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    owner: Principal,
    InPath(session): InPath<String>,
    InQuery(query): InQuery<ListQuery>,
) -> Result<Response, ApiError> {
    let page = MessagePage {
        before: number("before", query.before.as_deref())?,
        turns: limit("turns", query.turns.as_deref())?,
    };
    let messages =
        app.store.messages(owner, session, page).await?.ok_or_else(refusal::no_session)?;
    let messages = messages.into_iter().map(Item::from).collect();
    Ok(Json(Listed { messages }).into_response())
}

impl From<Message> for Item {
    fn from(message: Message) -> Item {
        Item {
            role: message.role.as_str(),
            text: message.text,
            status: message.status.as_str(),
            turn_index: message.turn_index,
            turn_id: message.turn_id,
            execution_id: message.execution_id,
            created_at: rfc3339(message.created_at),
            error: message.failure.map(|Failure { code, message }| Error { code, message }),
        }
    }
}
