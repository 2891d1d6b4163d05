//! The refusals that are the substrate's own, by code (PROTOCOL 3.1).

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use turnkit_http::server::ApiError;

use turnkit_wire::interaction::Misfit;

use crate::log::{LogError, MAX_UNTAKEN};

/// 400 `invalid_request`: `field` is where in the request, `why` never repeats its value.
pub(crate) fn invalid(field: &str, why: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::invalid_request(why).field(field)
}

pub(crate) fn execution_not_found() -> ApiError {
    let message = "there is no execution of this id";
    ApiError::new(StatusCode::NOT_FOUND, "execution_not_found", message)
}

pub(crate) fn execution_expired() -> ApiError {
    let message = "the events of this execution are no longer kept";
    ApiError::new(StatusCode::GONE, "execution_expired", message)
}

pub(crate) fn execution_conflict() -> ApiError {
    let message = "this execution was started with another body";
    ApiError::new(StatusCode::CONFLICT, "execution_conflict", message)
}

pub(crate) fn invalid_replay_cursor(last: String) -> ApiError {
    let message = "the log of this execution does not hold the event of this cursor";
    ApiError::new(StatusCode::CONFLICT, "invalid_replay_cursor", message).with("last", last)
}

pub(crate) fn log_changed() -> ApiError {
    let message = "the log that this start counts on is lost: whether it ran there is not known";
    ApiError::new(StatusCode::PRECONDITION_FAILED, "log_changed", message)
}

pub(crate) fn too_many_executions(limit: usize, whose: &'static str) -> ApiError {
    let message = format!("{whose} runs {limit} executions already");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_executions", message)
        .with("limit", limit)
        .retry_after(Duration::from_secs(1))
}

pub(crate) fn interaction_not_found() -> ApiError {
    let message = "this execution has asked no question of this id";
    ApiError::new(StatusCode::NOT_FOUND, "interaction_not_found", message)
}

pub(crate) fn interaction_gone() -> ApiError {
    let message = "nobody waits for the answer to this question any more";
    ApiError::new(StatusCode::GONE, "interaction_gone", message)
}

pub(crate) fn interaction_answered(outcome: &'static str) -> ApiError {
    let message = "this question was answered before, and otherwise";
    ApiError::new(StatusCode::CONFLICT, "interaction_answered", message).with("outcome", outcome)
}

pub(crate) fn invalid_answer(misfit: &Misfit) -> ApiError {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    ApiError::new(status, "invalid_answer", misfit.to_string()).field(misfit.place())
}

pub(crate) fn input_not_accepted() -> ApiError {
    let message = "the agent of this execution takes no input while it runs";
    ApiError::new(StatusCode::CONFLICT, "input_not_accepted", message)
}

pub(crate) fn input_conflict() -> ApiError {
    let message = "this execution has an input of this id with another message";
    ApiError::new(StatusCode::CONFLICT, "input_conflict", message)
}

pub(crate) fn execution_ended() -> ApiError {
    let message = "this execution has ended";
    ApiError::new(StatusCode::GONE, "execution_ended", message)
}

pub(crate) fn too_many_inputs() -> ApiError {
    let message = format!("{MAX_UNTAKEN} inputs of this execution are not taken yet");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_inputs", message)
        .with("limit", MAX_UNTAKEN)
        .retry_after(Duration::from_secs(1))
}

pub(crate) fn internal() -> ApiError {
    ApiError::internal("the substrate failed to answer")
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full(bound) => Self::unavailable(format!("{bound} is used up")),
            LogError::Expired => execution_expired(),
            LogError::Frame(error) => {
                tracing::error!(%error, "the first event of an execution could not be encoded");
                internal()
            }
            LogError::Store(error) => {
                tracing::error!(%error, "the log's store failed");
                Self::unavailable("the log cannot be reached")
            }
        }
    }
}
