//! `/api/sessions/{session}/turns`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use turnkit::TurnBody;
use turnkit_http::server::{ApiError, InBody, InPath, InQuery, Nothing};
use turnkit_id::is_name;

use super::listing::number;
use super::{App, NO_STORE, body, refusal};
use crate::agents::DEFAULT_AGENT;
use crate::principal::Principal;
use crate::store::{NewTurn, Turn, TurnState};
use crate::turns::Refused;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ask {
    turn_id: Option<Value>,
    message: Option<Value>,
    agent: Option<Value>,
}

/// The same, read.
struct Asked {
    turn_id: String,
    message: String,
    agent: String,
}

/// `POST …/turns`: starts a turn, or takes up the one that has this `turnId`, from its first event.
pub(super) async fn start(
    State(app): State<Arc<App>>,
    owner: Principal,
    InPath(session_id): InPath<String>,
    InBody(ask): InBody<Ask>,
) -> Result<http::Response<TurnBody>, ApiError> {
    let Asked { turn_id, message, agent } = read(ask)?;
    let worker = app.turns.worker.id().to_owned();
    let new = NewTurn { owner, session_id, turn_id, agent, message, worker };
    // Not part of the request: a client that leaves now leaves an accepted turn behind, and that one has to be driven.
    let started = tokio::spawn(Arc::clone(&app.turns).start(new));
    Ok(started.await.map_err(|_| broke())??.into_response())
}

#[derive(Deserialize)]
pub(super) struct ResumeQuery {
    after: Option<String>,
}

/// `GET …/turns/{turnId}?after=N`: the turn's body after its first N events. Never starts anything.
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    owner: Principal,
    InPath((session, turn_id)): InPath<(String, String)>,
    InQuery(query): InQuery<ResumeQuery>,
) -> Result<http::Response<TurnBody>, ApiError> {
    let after = number("after", query.after.as_deref())?.unwrap_or(0);
    let turn = find(&app, owner, session, turn_id).await?;
    let resumed = tokio::spawn(Arc::clone(&app.turns).resume(turn, after));
    Ok(resumed.await.map_err(|_| broke())??.into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cancelled {
    turn_id: String,
    execution_id: String,
    state: &'static str,
}

/// `POST …/turns/{turnId}/cancel`: stops the turn. 200 with the state in which it ended, as often as one asks; 202 where the
/// end is still to come.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    owner: Principal,
    InPath((session, turn_id)): InPath<(String, String)>,
    _: Nothing,
) -> Result<Response, ApiError> {
    let turn = find(&app, owner, session, turn_id.clone()).await?;
    let execution_id = turn.execution_id.to_string();
    let cancelled = tokio::spawn(Arc::clone(&app.turns).cancel(turn));
    let state = cancelled.await.map_err(|_| broke())??;
    let status = if state == TurnState::Open { StatusCode::ACCEPTED } else { StatusCode::OK };
    let state = state.as_str();
    Ok((status, NO_STORE, Json(Cancelled { turn_id, execution_id, state })).into_response())
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    state: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    turns: Vec<Item>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    turn_id: String,
    execution_id: String,
    turn_index: u64,
}

/// `GET …/turns?state=open`: how a page that was reloaded finds its turn.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    owner: Principal,
    InPath(session): InPath<String>,
    InQuery(query): InQuery<ListQuery>,
) -> Result<Response, ApiError> {
    if query.state.as_deref() != Some("open") {
        return Err(ApiError::invalid_request(
            "the query must be state=open: only open turns are listed, see messages for the others",
        )
        .field("state"));
    }
    let open = app.store.open_turn(owner, session).await?.ok_or_else(refusal::no_session)?;
    let turns = open.into_iter().map(Item::from).collect();
    Ok(Json(Listed { turns }).into_response())
}

impl From<Turn> for Item {
    fn from(turn: Turn) -> Item {
        Item {
            turn_id: turn.id,
            execution_id: turn.execution_id.to_string(),
            turn_index: turn.index,
        }
    }
}

/// What the client asks for, checked; gives the agent's name.
fn read(ask: Ask) -> Result<Asked, ApiError> {
    let turn_id = body::text(ask.turn_id, "turnId")?;
    if !is_turn_id(&turn_id) {
        return Err(ApiError::invalid_request("turnId must be 1 to 160 of A-Z a-z 0-9 : _ -")
            .field("turnId"));
    }
    let message = body::text(ask.message, "message")?;
    if message.trim().is_empty() {
        return Err(ApiError::invalid_request("message must not be blank").field("message"));
    }
    let agent = body::optional_text(ask.agent, "agent")?;
    let agent = agent.unwrap_or_else(|| DEFAULT_AGENT.to_owned());
    if !is_name(&agent) {
        return Err(
            ApiError::invalid_request("agent must be 1 to 64 of A-Z a-z 0-9 . _ -").field("agent")
        );
    }
    Ok(Asked { turn_id, message, agent })
}

fn is_turn_id(text: &str) -> bool {
    (1..=160).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte))
}

/// The user's turn, or what there is none of.
pub(super) async fn find(
    app: &App,
    owner: Principal,
    session: String,
    turn_id: String,
) -> Result<Turn, ApiError> {
    if let Some(turn) = app.store.turn(owner.clone(), session.clone(), turn_id).await? {
        return Ok(turn);
    }
    app.store.open_turn(owner, session).await?.ok_or_else(refusal::no_session)?;
    Err(refusal::no_turn())
}

/// A task of ours panicked. What it was at is in the log.
fn broke() -> ApiError {
    ApiError::unavailable("the request could not be carried out")
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::NoSession => refusal::no_session(),
            Refused::NoAgent => refusal::no_agent(),
            Refused::Conflict => refusal::conflict(),
            Refused::Running { turn_id } => refusal::running(turn_id),
            Refused::TooMany { limit } => refusal::too_many(limit),
            Refused::Store(error) => ApiError::from(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(turn_id: &str, message: &str, agent: Option<&str>) -> Result<String, ApiError> {
        let ask = Ask {
            turn_id: Some(turn_id.into()),
            message: Some(message.into()),
            agent: agent.map(Value::from),
        };
        read(ask).map(|asked| asked.agent)
    }

    #[test]
    fn a_turn_id_is_what_a_path_carries_as_it_is() {
        for id in ["a", "A-z_0:9", &"x".repeat(160)] {
            assert_eq!(ask(id, "hello", None).unwrap(), "default", "{id}");
        }
        for id in ["", "a b", "a/b", "a.b", "ä", "a\n", &"x".repeat(161)] {
            assert!(ask(id, "hello", None).is_err(), "{id}");
        }
    }

    #[test]
    fn a_blank_message_starts_nothing() {
        assert!(ask("t", " \n\u{a0}", None).is_err());
        assert!(ask("t", " x ", None).is_ok());
    }

    #[test]
    fn an_agent_is_a_name() {
        assert_eq!(ask("t", "hello", Some("coder-1.5")).unwrap(), "coder-1.5");
        for agent in ["", "a b", "a\r\nX: y", &"x".repeat(65)] {
            assert!(ask("t", "hello", Some(agent)).is_err(), "{agent}");
        }
    }
}
