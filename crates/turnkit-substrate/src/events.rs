//! The substrate's own events (PROTOCOL 3.1).

use serde::Serialize;
use turnkit_agent::{AgentError, HistoryOmitted, RunRequest};
use turnkit_id::ExecutionId;
use turnkit_wire::{EncodeError, Event, kind, write};

pub(crate) fn started(
    id: &ExecutionId,
    session_id: Option<&str>,
    timestamp: u64,
) -> Result<Event, EncodeError> {
    let execution_id = id.as_str();
    let data = Started { execution_id, session_id, timestamp };
    Event::new(kind::EXECUTION_STARTED, &data)
}

/// That the agent is told a part of the conversation only. One that goes on with a session of its own knows it all.
pub(crate) fn history_omitted(request: &RunRequest) -> Option<Event> {
    let omitted = request.history_omitted().filter(|omitted| *omitted != HistoryOmitted::default());
    let omitted = omitted.filter(|_| request.agent_session_id().is_none())?;
    let message = format!("the agent was not told all of this conversation: {omitted} did not fit");
    Some(write::warning(&message, Some("history_omitted")))
}

/// `untaken`: the ids of the inputs that the agent has not taken (PROTOCOL 3.6), here and below.
pub(crate) fn completed(
    id: &ExecutionId,
    untaken: &[String],
    timestamp: u64,
) -> Result<Event, EncodeError> {
    let execution_id = id.as_str();
    Event::new(kind::EXECUTION_COMPLETED, &Ended { execution_id, untaken, timestamp })
}

pub(crate) fn cancelled(
    id: &ExecutionId,
    untaken: &[String],
    timestamp: u64,
) -> Result<Event, EncodeError> {
    let execution_id = id.as_str();
    Event::new(kind::EXECUTION_CANCELLED, &Ended { execution_id, untaken, timestamp })
}

pub(crate) fn failed(
    id: &ExecutionId,
    error: &AgentError,
    untaken: &[String],
    timestamp: u64,
) -> Result<Event, EncodeError> {
    let data = Failed {
        execution_id: id.as_str(),
        code: error.code(),
        message: error.message(),
        temporary: error.is_temporary().then_some(true),
        untaken,
        timestamp,
    };
    Event::new(kind::EXECUTION_FAILED, &data)
}

/// What a log ends with whose runner is gone.
pub(crate) fn runner_lost(
    id: &ExecutionId,
    untaken: &[String],
    timestamp: u64,
) -> Result<Event, EncodeError> {
    let message = "the runner of this execution is gone; the agent is not run again";
    failed(id, &AgentError::new("runner_lost", message), untaken, timestamp)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    execution_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    timestamp: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended<'a> {
    execution_id: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    untaken: &'a [String],
    timestamp: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    execution_id: &'a str,
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    temporary: Option<bool>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    untaken: &'a [String],
    timestamp: u64,
}
