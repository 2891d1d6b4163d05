//! `POST /agents/run/cancel`.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use serde::Deserialize;
use tokio::time;
use turnkit_http::server::{ApiError, object};
use turnkit_wire::EncodeError;

use super::{headers, status, to_the_end};
use crate::{
    Scope, events,
    execution::ended,
    log::{
        AppendError, Ending, ExecutionKey, Found, LogReader, LogWriter, Opening, Start,
        State as ExecutionState,
    },
    refusal,
    substrate::Shared,
};

pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = shared.limits.body().read(request).await?;
    let asked: Asked = object(&body).map_err(|_| {
        refusal::invalid("executionId", "the body must be an object with the string `executionId`")
    })?;
    let id = headers::parse_id(&asked.execution_id, "executionId")?;
    let key = ExecutionKey { scope, id };
    to_the_end(cancel_execution(shared, key)).await
}

async fn cancel_execution(shared: Arc<Shared>, key: ExecutionKey) -> Result<Response, ApiError> {
    let reader = match shared.log.find(&key).await? {
        Found::Retained(reader) => reader,
        Found::Spent => return Err(refusal::execution_expired()),
        Found::Unknown => bind_cancelled(&shared, &key).await?,
    };
    stop(&shared, &key, &*reader).await?;
    Ok(status::respond(&key.id, &reader.status().await?, &[]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    execution_id: String,
}

/// Binds an unknown id to a log that is cancelled from the first: a start that is still under way finds it and runs nothing.
async fn bind_cancelled(
    shared: &Shared,
    key: &ExecutionKey,
) -> Result<Arc<dyn LogReader>, ApiError> {
    let first =
        events::started(&key.id, None, shared.clock.unix_ms()).map_err(|error| encoding(&error))?;
    let opening = Opening { fingerprint: None, first, takes_input: false, log_id: None };
    match shared.log.start(key, opening).await? {
        Start::Exists(reader) => Ok(reader),
        Start::Spent => Err(refusal::execution_expired()),
        // It named none.
        Start::LogChanged => Err(refusal::log_changed()),
        Start::Started { writer, reader } => {
            end(shared, key, writer).await?;
            Ok(reader)
        }
    }
}

/// Returns once the execution has ended, by this or by itself.
pub(super) async fn stop(
    shared: &Shared,
    key: &ExecutionKey,
    reader: &dyn LogReader,
) -> Result<(), ApiError> {
    if reader.status().await?.state != ExecutionState::Running {
        return Ok(());
    }
    if shared.runs.cancel(key) && time::timeout(PATIENCE, ended(reader)).await.is_ok() {
        return Ok(());
    }
    // Its runner is stuck, or gone: the fence keeps it from saying anything more.
    if let Some(writer) = shared.log.take_over(key).await? {
        end(shared, key, writer).await?;
    }
    Ok(())
}

/// How long a runner may take to end what it was told to cancel.
const PATIENCE: Duration = Duration::from_secs(2);

async fn end(
    shared: &Shared,
    key: &ExecutionKey,
    writer: Box<dyn LogWriter>,
) -> Result<(), ApiError> {
    let untaken = writer.untaken().await?;
    let cancelled = events::cancelled(&key.id, &untaken, shared.clock.unix_ms())
        .map_err(|error| encoding(&error))?;
    match writer.end(Ending::Cancelled, &cancelled).await {
        // Fenced: whoever took over ends it.
        Ok(_) | Err(AppendError::Fenced) => Ok(()),
        Err(error) => {
            tracing::error!(execution_id = %key.id, %error, "an execution could not be cancelled");
            Err(ApiError::unavailable("the log cannot be reached"))
        }
    }
}

fn encoding(error: &EncodeError) -> ApiError {
    tracing::error!(%error, "an event of the substrate could not be encoded");
    refusal::internal()
}
