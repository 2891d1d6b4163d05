//! `GET /agents/executions/{id}/stream`, and the stream that every reader gets.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time;
use turnkit_http::server::ApiError;
use turnkit_id::ExecutionId;
use turnkit_wire::sse;

use super::headers::{self, IdPath};
use crate::{
    Cursor, Scope,
    log::{ExecutionKey, Found, LogError, LogReader, Position},
    refusal,
    substrate::Shared,
};

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    path: IdPath,
    request_headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = headers::id_in_path(path)?;
    let cursor = headers::cursor(&request_headers)?.unwrap_or(Cursor::Start);
    open(&shared, &ExecutionKey { scope, id }, cursor).await
}

/// Answers with the execution's events after `cursor`; starts nothing.
pub(super) async fn open(
    shared: &Shared,
    key: &ExecutionKey,
    cursor: Cursor,
) -> Result<Response, ApiError> {
    match shared.log.find(key).await? {
        Found::Retained(reader) => respond(shared, &key.id, reader, cursor).await,
        Found::Spent => Err(refusal::execution_expired()),
        Found::Unknown => Err(refusal::execution_not_found()),
    }
}

pub(super) async fn respond(
    shared: &Shared,
    id: &ExecutionId,
    reader: Arc<dyn LogReader>,
    cursor: Cursor,
) -> Result<Response, ApiError> {
    let after = match reader.locate(cursor).await? {
        Position::After(after) => after,
        Position::AtEnd => return Ok((StatusCode::NO_CONTENT, id_header(id)).into_response()),
        Position::NotHeld => {
            let last = reader.status().await?.last;
            return Err(refusal::invalid_replay_cursor(last.to_string()));
        }
    };
    let frames = Frames { reader, after, heartbeat: shared.limits.heartbeat, is_opened: false };
    let body = Body::from_stream(stream::unfold(frames, Frames::next));
    Ok((id_header(id), STREAM_HEADERS, body).into_response())
}

const STREAM_HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, sse::CONTENT_TYPE),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// An id is visible ASCII, which every header may carry.
fn id_header(id: &ExecutionId) -> HeaderMap {
    let value = HeaderValue::from_str(id.as_str()).ok();
    value.map(|value| (HeaderName::from_static("x-execution-id"), value)).into_iter().collect()
}

/// One reader's way through a log: its cursor, and nothing else.
struct Frames {
    reader: Arc<dyn LogReader>,
    after: u64,
    heartbeat: Duration,
    is_opened: bool,
}

impl Frames {
    /// The next bytes to send. An error cuts the connection: what follows is missing, and a clean end would hide it.
    async fn next(mut self) -> Option<(Result<Bytes, LogError>, Self)> {
        if !self.is_opened {
            self.is_opened = true;
            return Some((Ok(RETRY), self));
        }
        let Ok(page) = time::timeout(self.heartbeat, self.reader.next(self.after)).await else {
            return Some((Ok(HEARTBEAT), self));
        };
        let frames = page.transpose()?.map(|page| {
            self.after = page.last;
            page.frames
        });
        Some((frames, self))
    }
}

/// How soon a browser's `EventSource` comes back.
const RETRY: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// A comment, which every SSE parser drops.
const HEARTBEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");
