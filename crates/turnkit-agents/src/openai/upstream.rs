//! Asking an endpoint until it answers, or refuses for good.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode, header};
use reqwest::Response;
use tokio::time::{self, Instant};
use turnkit_http::client::{BearerToken, is_transient};
use turnkit_wire::sse;

use super::{AgentError, api::Api, builder::Settings, code, failure, request::Question, retry};

/// No answer.
struct Refusal {
    failure: AgentError,
    /// Another status than a good one, and what the server said with it.
    said: Option<(StatusCode, Bytes)>,
    /// It may be another one next time.
    is_passing: bool,
    /// When the server wants to be asked again.
    asked: Option<Duration>,
}

/// What was changed of a question before it was answered, for the user.
pub(super) struct Asked {
    pub(super) reply: Response,
    /// Messages of the history that are not in the question that was answered, or not in full.
    pub(super) omitted: usize,
}

/// Asks, and asks again where that may help: at once, once each, without an option that the server does not know and with half
/// of a history that is too long for it, or with less where the refusal says how much it takes; after a wait where it is overloaded or its model is still being loaded.
pub(super) async fn ask(
    settings: &Settings,
    question: &mut Question<'_>,
) -> Result<Asked, AgentError> {
    let started = Instant::now();
    let (mut retry, mut has_halved, mut omitted) = (0, false, 0);
    loop {
        let refusal = match send(settings, question.body()?).await {
            Ok(reply) => return Ok(Asked { reply, omitted }),
            Err(refusal) => refusal,
        };
        let (status, words) = match &refusal.said {
            Some((status, body)) => (status.as_u16(), String::from_utf8_lossy(body).to_lowercase()),
            None => (0, String::new()),
        };
        if matches!(status, 400 | 422) && question.drop_options(&words) {
            tracing::warn!(error = %refusal.failure, "an upstream is asked again without an option");
            continue;
        }
        if matches!(status, 400 | 413 | 422) && !has_halved && is_too_long(status, &words) {
            has_halved = true;
            omitted = question.drop_half(taken_share(&words));
            if omitted > 0 {
                tracing::warn!(error = %refusal.failure, omitted, "an upstream is asked again with less of the conversation");
                continue;
            }
        }
        let wait = if matches!(status, 500 | 503 | 425) && words.contains("loading") {
            let wait = refusal.asked.unwrap_or(LOADING_PAUSE);
            Some(wait).filter(|wait| started.elapsed().saturating_add(*wait) <= settings.loading)
        } else {
            let jitter = fastrand::f64();
            let wait = settings.retry.wait(retry, started.elapsed(), refusal.asked, jitter);
            retry += 1;
            wait.filter(|_| refusal.is_passing)
        };
        let Some(wait) = wait else { return Err(refusal.failure) };
        tracing::info!(error = %refusal.failure, ?wait, "an upstream is asked again");
        time::sleep(wait).await;
    }
}

/// Whether a server refuses a question for its length. `words` are what it said, in lower case.
fn is_too_long(status: u16, words: &str) -> bool {
    const SAID: [&str; 14] = [
        "context length",
        "context_length",
        "context size",
        "context window",
        "context_window",
        "maximum context",
        "exceed_context",
        "prompt is too long",
        "prompt too long",
        "too many tokens",
        "input is too long",
        "input length",
        "token limit",
        "reduce the length",
    ];
    status == 413 || SAID.iter().any(|said| words.contains(said))
}

/// The share of a question that a server takes, where it says both how long the question is and how long it may be, in tokens: the first
/// two numbers of such a size. A little less than that, since text is not as many tokens everywhere.
fn taken_share(words: &str) -> Option<f64> {
    let mut sizes = words
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | ',')))
        .filter_map(|word| word.trim_matches(',').replace(',', "").parse::<u32>().ok())
        .filter(|size| TOKENS.contains(size))
        .map(f64::from);
    let (one, other) = (sizes.next()?, sizes.next()?);
    Some(0.9 * one.min(other) / one.max(other))
}

/// Sizes of a question in tokens, and no status or time.
const TOKENS: std::ops::Range<u32> = 512..100_000_000;

/// How long to wait for a model that is being loaded before the server is asked again.
const LOADING_PAUSE: Duration = Duration::from_secs(1);

async fn send(settings: &Settings, body: Bytes) -> Result<Response, Refusal> {
    let mut request = settings
        .client
        .post(&settings.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, sse::CONTENT_TYPE)
        .headers(settings.headers.clone())
        .body(body);
    if settings.api == Api::Messages && !settings.headers.contains_key(VERSION) {
        request = request.header(VERSION, "2023-06-01");
    }
    if let Some((name, value)) = settings.key.as_ref().and_then(|key| credential(settings.api, key))
    {
        request = request.header(name, value);
    }
    match time::timeout(settings.answer_timeout, request.send()).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(response),
        Ok(Ok(response)) => Err(refused(settings, response).await),
        Ok(Err(error)) => Err(unanswered(error)),
        Err(_) => Err(Refusal::lasting(late(settings.answer_timeout))),
    }
}

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// The header that carries the key. The builder refuses a key that no header can carry.
fn credential(api: Api, key: &BearerToken) -> Option<(HeaderName, HeaderValue)> {
    let bearer = key.header().ok()?;
    if api != Api::Messages {
        return Some((header::AUTHORIZATION, bearer));
    }
    let key = bearer.as_bytes().strip_prefix(b"Bearer ")?;
    let mut value = HeaderValue::from_bytes(key).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::from_static("x-api-key"), value))
}

async fn refused(settings: &Settings, response: Response) -> Refusal {
    let status = response.status();
    let asked = retry::asked(response.headers(), SystemTime::now());
    let body = read(response).await;
    Refusal {
        failure: failure::of_status(status, &body, settings.key.as_ref()),
        said: Some((status, body)),
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
        said: None,
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
        Self { failure, said: None, is_passing: false, asked: None }
    }
}

/// The body of a refusal: at most [`ERROR_BODY`] bytes of it, for at most [`BODY`].
async fn read(mut response: Response) -> Bytes {
    let mut body = BytesMut::new();
    let deadline = Instant::now() + BODY;
    while let Ok(Ok(Some(chunk))) = time::timeout_at(deadline, response.chunk()).await {
        let room = ERROR_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    body.freeze()
}

/// How much of an error's body is read.
const ERROR_BODY: usize = 64 * 1024;

/// How long that may take.
const BODY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_length_says_how_much_is_taken() {
        for (words, share) in [
            (
                "this model's maximum context length is 8192 tokens. however, you requested 16384 tokens (15884 in the messages, 500 in the completion).",
                Some(0.45),
            ),
            (
                r#"{"error":{"code":400,"message":"request (20000 tokens) exceeds the available context size (4000 tokens)","n_ctx":4000}}"#,
                Some(0.18),
            ),
            ("prompt is too long: 400,000 tokens > 200,000 maximum", Some(0.45)),
            (
                "the input token count (2000000) exceeds the maximum number of tokens allowed (1000000).",
                Some(0.45),
            ),
            (
                r#"{"code":400,"message":"your input exceeds the context window of this model","request_id":"req_123456 c0ffee-9999"}"#,
                None,
            ),
        ] {
            assert_eq!(taken_share(words), share, "{words}");
        }
    }
}
