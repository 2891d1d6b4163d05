//! The routes (PROTOCOL 3.1). Every answer that is no stream is JSON, errors included.

mod cancel;
mod erase;
mod headers;
mod inbox;
mod info;
mod run;
mod status;
mod stream;

use std::{future::ready, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state, map_request},
    response::Response,
    routing::{get, post},
};

use turnkit_http::server::{ApiError, linger};

use crate::{refusal, substrate::Shared};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/agents", get(info::agents))
        .route("/agents/executions/{id}", get(status::status).delete(erase::erase))
        .route("/agents/executions/{id}/input", post(inbox::input))
        .route("/agents/executions/{id}/interactions/{interaction}", post(inbox::answer))
        .route("/agents/executions/{id}/stream", get(stream::attach))
        .route("/agents/run/cancel", post(cancel::cancel))
        .route("/agents/run/stream", post(run::run))
        .route("/capabilities", get(info::capabilities))
        .route_layer(from_fn_with_state(Arc::clone(&shared), into_scope))
        .route("/health", get(info::health))
        .route("/ready", get(info::ready))
        .fallback(|| ready(ApiError::no_route()))
        .method_not_allowed_fallback(|| ready(ApiError::method_not_allowed()))
        .layer(map_request(|request: Request| ready(linger(request))))
        .with_state(shared)
}

/// Lets a request through as one of its scope.
async fn into_scope(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let scope = shared.guard.scope(&request)?;
    request.extensions_mut().insert(scope);
    Ok(next.run(request).await)
}

/// Does `work` to its end, whatever becomes of the request: a client that disconnects drops the future that answers it, and an
/// id that was bound without a run, or a run without an end, would be left behind.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request was not answered");
        Err(refusal::internal())
    })
}
