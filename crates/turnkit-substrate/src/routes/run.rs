//! `POST /agents/run/stream`: start or attach.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use turnkit_agent::{ErasedAgent, InvalidRequest, RunRequest};
use turnkit_http::server::ApiError;
use turnkit_id::{ExecutionId, LogId};
use uuid::Uuid;

use super::{headers, stream, to_the_end};
use crate::{
    Cursor, Scope, events,
    execution::Run,
    limits::millis,
    log::{ExecutionKey, Fingerprint, Found, LogReader, Opening, Start},
    refusal,
    substrate::Shared,
};

pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    request: Request,
) -> Result<Response, ApiError> {
    let id = headers::execution_id(request.headers())?;
    let cursor = headers::cursor(request.headers())?;
    let log_id = headers::log_id(request.headers())?;
    let body = shared.limits.body().read(request).await?;
    let fingerprint = Fingerprint::of(&body);
    let key = ExecutionKey { scope, id: id.clone().map_or_else(fresh_id, Ok)? };
    let request = RunRequest::parse(key.id.clone(), body).map_err(|error| invalid(&error))?;
    if cursor.is_none() && !request.message().is_empty() {
        return start_or_attach(&shared, key, request, fingerprint, log_id).await;
    }
    if id.is_none() {
        return Err(refusal::invalid(
            "X-Execution-ID",
            "only a message starts an execution; an attach needs its id",
        ));
    }
    stream::open(&shared, &key, cursor.unwrap_or(Cursor::Start)).await
}

async fn start_or_attach(
    shared: &Arc<Shared>,
    key: ExecutionKey,
    request: RunRequest,
    fingerprint: Fingerprint,
    log_id: Option<LogId>,
) -> Result<Response, ApiError> {
    let reader = match shared.log.find(&key).await? {
        Found::Retained(reader) => same(reader, fingerprint)?,
        Found::Spent => return Err(refusal::execution_expired()),
        Found::Unknown => {
            to_the_end(start(Arc::clone(shared), key.clone(), request, fingerprint, log_id)).await?
        }
    };
    stream::respond(shared, &key.id, reader, Cursor::Start).await
}

/// Binds the id and asks the agent, unless someone else just did.
async fn start(
    shared: Arc<Shared>,
    key: ExecutionKey,
    request: RunRequest,
    fingerprint: Fingerprint,
    log_id: Option<LogId>,
) -> Result<Arc<dyn LogReader>, ApiError> {
    let agent = agent(&shared, &request)?;
    let timeout = timeout(&shared, &request)?;
    let first = first(&shared, &request)?;
    let permit = shared.runs.admit(&key.scope, &shared.limits)?;
    let takes_input = agent.takes_boxed().input;
    let opening = Opening { fingerprint: Some(fingerprint), first, takes_input, log_id };
    match shared.log.start(&key, opening).await? {
        Start::Exists(reader) => same(reader, fingerprint),
        Start::Spent => Err(refusal::execution_expired()),
        Start::LogChanged => Err(refusal::log_changed()),
        Start::Started { writer, reader } => {
            let timeout = timeout.min(shared.limits.run_in_all);
            Run::spawn(shared, key, agent, request, writer, permit, timeout);
            Ok(reader)
        }
    }
}

/// Whoever comes with a message attaches only to the execution of that very body.
fn same(
    reader: Arc<dyn LogReader>,
    fingerprint: Fingerprint,
) -> Result<Arc<dyn LogReader>, ApiError> {
    match reader.fingerprint() {
        Some(started_with) if started_with != fingerprint => Err(refusal::execution_conflict()),
        _ => Ok(reader),
    }
}

fn agent(shared: &Shared, request: &RunRequest) -> Result<Arc<dyn ErasedAgent>, ApiError> {
    let agent = shared.agents.find(request.identifier()).cloned();
    agent.ok_or_else(|| refusal::invalid("identifier", "there is no agent of this name"))
}

fn timeout(shared: &Shared, request: &RunRequest) -> Result<Duration, ApiError> {
    let limit = shared.limits.max_run_timeout;
    match request.timeout_ms().map(Duration::from_millis) {
        None => Ok(shared.limits.run_timeout),
        Some(timeout) if !timeout.is_zero() && timeout <= limit => Ok(timeout),
        Some(_) => {
            Err(refusal::invalid("timeout", format!("must be 1 to {} milliseconds", millis(limit))))
        }
    }
}

fn first(shared: &Shared, request: &RunRequest) -> Result<turnkit_wire::Event, ApiError> {
    let session = request.session_id();
    if session.is_some_and(|session| session.len() > MAX_SESSION) {
        return Err(refusal::invalid("sessionId", format!("must be at most {MAX_SESSION} bytes")));
    }
    events::started(request.execution_id(), session, shared.clock.unix_ms()).map_err(|error| {
        tracing::error!(%error, "the first event of an execution could not be encoded");
        refusal::internal()
    })
}

/// The longest session id, in bytes.
const MAX_SESSION: usize = 512;

fn fresh_id() -> Result<ExecutionId, ApiError> {
    headers::parse_id(&format!("exec-{}", Uuid::new_v4()), "X-Execution-ID")
}

fn invalid(error: &InvalidRequest) -> ApiError {
    match error {
        InvalidRequest::Member { name, must } => refusal::invalid(name, format!("must be {must}")),
        _ => refusal::invalid("body", error.to_string()),
    }
}
