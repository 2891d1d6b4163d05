//! Asking an endpoint until it answers, or refuses for good.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use reqwest::Response;
use tokio::time::{self, Instant};
use turnkit_http::client::{BearerToken, is_transient};
use turnkit_wire::{Event, sse, text};

use super::{AgentError, builder::Settings, code, failure, retry};

/// A good answer.
pub(super) enum Reply {
    /// It streams.
    Stream(Response),
    /// The server does not stream: one JSON object.
    Whole(Bytes),
}

/// No answer.
struct Refusal {
    failure: AgentError,
    /// It may be another one next time.
    is_passing: bool,
    /// When the server wants to be asked again.
    asked: Option<Duration>,
}

/// Sends `body`, again where that may help.
pub(super) async fn ask(settings: &Settings, body: Bytes) -> Result<Reply, AgentError> {
    let started = Instant::now();
    let mut retry = 0;
    loop {
        let refusal = match send(settings, body.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(refusal) => refusal,
        };
        let jitter = fastrand::f64();
        let wait = settings.retry.wait(retry, started.elapsed(), refusal.asked, jitter);
        let Some(wait) = wait.filter(|_| refusal.is_passing) else {
            return Err(refusal.failure);
        };
        tracing::info!(error = %refusal.failure, ?wait, "an upstream is asked again");
        time::sleep(wait).await;
        retry += 1;
    }
}

async fn send(settings: &Settings, body: Bytes) -> Result<Reply, Refusal> {
    let mut request = settings
        .client
        .post(&settings.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, sse::CONTENT_TYPE)
        .body(body);
    // The builder refuses a key that no header can carry.
    if let Some(Ok(key)) = settings.key.as_ref().map(BearerToken::header) {
        request = request.header(header::AUTHORIZATION, key);
    }
    match time::timeout(settings.answer_timeout, request.send()).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => accept(response).await,
        Ok(Ok(response)) => Err(refused(settings, response).await),
        Ok(Err(error)) => Err(unanswered(error)),
        Err(_) => Err(Refusal::lasting(late(settings.answer_timeout))),
    }
}

/// By content type; without one, it is taken for a stream.
async fn accept(response: Response) -> Result<Reply, Refusal> {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type =
        content_type.map_or(sse::CONTENT_TYPE, |value| value.to_str().unwrap_or("?"));
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(sse::CONTENT_TYPE) {
        return Ok(Reply::Stream(response));
    }
    if essence.eq_ignore_ascii_case("application/json") {
        return whole(response).await;
    }
    let what = format!("is {}, not {}", text::excerpt(essence, 100), sse::CONTENT_TYPE);
    Err(Refusal::lasting(failure::protocol(what)))
}

async fn whole(response: Response) -> Result<Reply, Refusal> {
    match read(response, Event::MAX_BYTES).await {
        Read { body, end: End::Whole } => Ok(Reply::Whole(body)),
        Read { end: End::TooLong, .. } => {
            let what = format!("is longer than {} bytes", Event::MAX_BYTES);
            Err(Refusal::lasting(failure::protocol(what)))
        }
        Read { end: End::Broken, .. } => Err(Refusal::lasting(
            AgentError::new(
                code::UPSTREAM_INTERRUPTED,
                "the connection to the upstream broke in the middle of the answer",
            )
            .temporary(),
        )),
    }
}

async fn refused(settings: &Settings, response: Response) -> Refusal {
    let status = response.status();
    let asked = retry::asked(response.headers(), SystemTime::now());
    let body = read(response, ERROR_BODY).await.body;
    Refusal {
        failure: failure::of_status(status, &body, settings.key.as_ref()),
        is_passing: is_transient(status.as_u16()),
        asked,
    }
}

fn unanswered(error: reqwest::Error) -> Refusal {
    let error = error.without_url();
    tracing::warn!(error = &error as &dyn std::error::Error, "an upstream did not answer");
    let message = if error.is_connect() {
        "no connection to the upstream could be made"
    } else {
        "the upstream closed the connection before it answered"
    };
    Refusal {
        failure: AgentError::new(code::UPSTREAM_UNREACHABLE, message).temporary(),
        is_passing: true,
        asked: None,
    }
}

fn late(after: Duration) -> AgentError {
    let message = format!("the upstream did not answer within {after:?}");
    AgentError::new(code::UPSTREAM_TIMEOUT, message).temporary()
}

impl Refusal {
    fn lasting(failure: AgentError) -> Self {
        Self { failure, is_passing: false, asked: None }
    }
}

/// A body, as far as it came.
struct Read {
    body: Bytes,
    end: End,
}

enum End {
    Whole,
    TooLong,
    Broken,
}

/// Reads at most `limit` bytes, for at most [`BODY`].
async fn read(mut response: Response, limit: usize) -> Read {
    let mut body = BytesMut::new();
    let deadline = Instant::now() + BODY;
    let end = loop {
        match time::timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) if body.len() + chunk.len() > limit => break End::TooLong,
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => break End::Whole,
            Ok(Err(_)) | Err(_) => break End::Broken,
        }
    };
    Read { body: body.freeze(), end }
}

/// How much of an error's body is read.
const ERROR_BODY: usize = 64 * 1024;

/// How long a body that does not stream may take.
const BODY: Duration = Duration::from_secs(10);
