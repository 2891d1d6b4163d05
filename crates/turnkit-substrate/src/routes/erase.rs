//! `DELETE /agents/executions/{id}`.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use turnkit_http::server::ApiError;

use super::{
    cancel,
    headers::{self, IdPath},
    to_the_end,
};
use crate::{
    Scope,
    log::{ExecutionKey, Found},
    substrate::Shared,
};

/// How often a run that is started again and again between the two steps is ended. An id is bound once, so one is enough.
const TRIES: usize = 3;

pub(super) async fn erase(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    path: IdPath,
) -> Result<Response, ApiError> {
    let key = ExecutionKey { scope, id: headers::id_in_path(path)? };
    to_the_end(erase_execution(shared, key)).await
}

/// What runs is ended first; nothing can be appended to its log after that, so that its events go once and for all.
async fn erase_execution(shared: Arc<Shared>, key: ExecutionKey) -> Result<Response, ApiError> {
    for _ in 0..TRIES {
        if shared.log.erase(&key).await? {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        if let Found::Retained(reader) = shared.log.find(&key).await? {
            cancel::stop(&shared, &key, &*reader).await?;
        }
    }
    Err(ApiError::unavailable("the execution has not ended yet"))
}
