//! The refusals that are the product's own, by code (PROTOCOL 4.2).

use std::time::Duration;

use http::StatusCode;
use turnkit_http::server::ApiError;

use crate::agents::CatalogError;
use crate::store::StoreError;

pub(super) fn no_session() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "session_not_found", "there is no such session")
}

pub(super) fn no_turn() -> ApiError {
    let message = "there is no such turn in this session";
    ApiError::new(StatusCode::NOT_FOUND, "turn_not_found", message)
}

pub(super) fn no_trace() -> ApiError {
    let message =
        "nothing is known of this turn's attempts: they were long ago, or in another process";
    ApiError::new(StatusCode::NOT_FOUND, "trace_not_found", message)
}

pub(super) fn no_agent() -> ApiError {
    ApiError::invalid_request("there is no agent of this name, see /api/agents").field("agent")
}

pub(super) fn no_users() -> ApiError {
    ApiError::invalid_request("nobody signs in at this server: it has one local user")
}

/// The same answer whatever is wrong: missing, unknown, or over.
pub(super) fn unauthorized() -> ApiError {
    ApiError::unauthorized("a bearer token or a sign-in that this server knows is needed")
}

pub(super) fn conflict() -> ApiError {
    let message =
        "this turnId was used for another message or agent; make a new one for each message";
    ApiError::new(StatusCode::CONFLICT, "turn_conflict", message)
}

/// `turn_id` is the open turn that is in the way.
pub(super) fn running(turn_id: String) -> ApiError {
    let message = "another turn of this session is still open; wait for its end, or cancel it";
    ApiError::new(StatusCode::CONFLICT, "turn_running", message).with("turnId", turn_id)
}

pub(super) fn too_many(limit: usize) -> ApiError {
    let message = format!("this server drives {limit} turns already");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_turns", message)
        .with("limit", limit)
        .retry_after(Duration::from_secs(1))
}

pub(super) fn no_random(error: &turnkit::BoxError) -> ApiError {
    tracing::error!(error = &**error as &dyn std::error::Error, "failed to get random bytes");
    ApiError::unavailable("no secret can be made at the moment")
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> ApiError {
        tracing::warn!(error = &error as &dyn std::error::Error, "failed to list the agents");
        ApiError::unavailable("the substrate cannot be asked for its agents at the moment")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to answer a request");
        ApiError::unavailable("the database is not available at the moment")
    }
}
