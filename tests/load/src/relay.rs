//! The route that everybody writes first: it makes the lines of a turn, sends them, and keeps nothing.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::IntoResponse,
    routing::post,
};
use futures_util::{TryStreamExt as _, stream};
use serde_json::json;
use tokio::time::sleep;
use turnkit_agent::{Agent as _, Cancel, Run, RunRequest};
use turnkit_agents::demo::Demo;
use turnkit_id::ExecutionId;
use turnkit_wire::ndjson;

use crate::{agent::dated, client::MESSAGE};

/// The lines of one turn without their moments: those of the same agent, and the first and last ones of a product.
pub(crate) async fn lines() -> Result<Vec<String>> {
    let request = RunRequest::new(ExecutionId::derive("load", "relay", 0)?, MESSAGE);
    let run = Run::new(request, Cancel::never());
    let events: Vec<_> = Demo::new().pace(Duration::ZERO).run(run).try_collect().await?;
    let started = json!({"type": "session.run.started", "sessionId": "relay"}).to_string();
    let completed = json!({"type": "session.run.completed", "sessionId": "relay"}).to_string();
    let said = events.iter().map(|event| event.as_json().to_owned());
    Ok([started].into_iter().chain(said).chain([completed]).collect())
}

/// The routes that a client of this tool uses.
pub(crate) async fn router(pace: Duration) -> Result<Router> {
    let script = Arc::new(Script { lines: lines().await?, pace });
    let session = post(async || Json(json!({"sessionId": "relay"})));
    let routes = Router::new().route("/api/sessions", session);
    Ok(routes.route("/api/sessions/{session}/turns", post(turn)).with_state(script))
}

struct Script {
    lines: Vec<String>,
    pace: Duration,
}

async fn turn(State(script): State<Arc<Script>>, _message: Bytes) -> impl IntoResponse {
    let last = script.lines.len() - 1;
    let lines = stream::try_unfold((script, 0), move |(script, at)| async move {
        let Some(line) = script.lines.get(at) else { return Ok(None) };
        let mut line = if at == 0 || at == last {
            line.clone()
        } else {
            sleep(script.pace).await;
            dated(line)
        };
        line.push('\n');
        Ok::<_, std::convert::Infallible>(Some((Bytes::from(line), (script, at + 1))))
    });
    ([(CONTENT_TYPE, ndjson::CONTENT_TYPE)], Body::from_stream(lines))
}
