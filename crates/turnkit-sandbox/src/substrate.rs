//! The substrate's calls: which request is sent, and what its answer is (PROTOCOL 3.1, 4.1).

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST},
};
use http_body_util::Full;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::time::timeout;
use turnkit_http::client::{BaseUrl, retry_after};
use turnkit_id::{ExecutionId, LogId};
use turnkit_wire::{Event, sse, text};

use crate::{
    AgentList, Error, ExecutionStatus, ProtocolError, Refusal, Retry, TransportError,
    resume::error_of,
    transport::{ResponseBody, Transport, chunk},
};

/// The longest body of an error, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// The longest body of any other answer that is no stream, in bytes: a status holds the questions that are pending.
const MAX_ANSWER: usize = 8 << 20;

/// How long the body of an error may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

const EXECUTION_ID: HeaderName = HeaderName::from_static("x-execution-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const LOG_ID: HeaderName = HeaderName::from_static("x-log-id");

/// What the builder sets.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) before_answer: Retry,
    pub(crate) after_answer: Retry,
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_event: usize,
    pub(crate) jitter_seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            before_answer: Retry::BEFORE_ANSWER,
            after_answer: Retry::AFTER_ANSWER,
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(60),
            call_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(45),
            max_event: 1 << 20,
            jitter_seed: None,
        }
    }
}

/// The substrate, as the protocol's calls.
pub(crate) struct Substrate {
    transport: Arc<dyn Transport>,
    authorization: Option<HeaderValue>,
    base: BaseUrl,
    pub(crate) settings: Settings,
    /// See [`SandboxClient::reconnects`](crate::SandboxClient::reconnects).
    pub(crate) reconnects: AtomicU64,
}

/// A usable answer to a request for a stream.
pub(crate) enum Opened {
    Stream(ResponseBody),
    NothingMore,
    Refused(Refusal),
}

impl Substrate {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        base: BaseUrl,
        authorization: Option<HeaderValue>,
        settings: Settings,
    ) -> Self {
        Self { transport, authorization, base, settings, reconnects: AtomicU64::new(0) }
    }

    /// Sends the run itself, into the log of this id where one is named.
    pub(crate) async fn run(
        &self,
        id: &ExecutionId,
        body: Bytes,
        log_id: Option<&LogId>,
    ) -> Result<Opened, Error> {
        let log_id = log_id.map(|log_id| header_of(log_id.as_str())).transpose()?;
        self.open(id, body, log_id.map(|log_id| (LOG_ID, log_id))).await
    }

    /// Asks for what follows `cursor` in an execution's log.
    pub(crate) async fn attach(
        &self,
        id: &ExecutionId,
        body: Bytes,
        cursor: &str,
    ) -> Result<Opened, Error> {
        let cursor = HeaderValue::from_bytes(cursor.as_bytes()).map_err(unsendable)?;
        self.open(id, body, Some((LAST_EVENT_ID, cursor))).await
    }

    async fn open(
        &self,
        id: &ExecutionId,
        body: Bytes,
        about: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Opened, Error> {
        let mut request = self.request(Method::POST, &["agents", "run", "stream"], body)?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(sse::CONTENT_TYPE));
        headers.insert(EXECUTION_ID, header_of(id.as_str())?);
        headers.extend(about);
        self.opened(self.send(request).await?, id).await
    }

    pub(crate) async fn cancel(&self, id: &ExecutionId) -> Result<ExecutionStatus, Error> {
        let body = serde_json::json!({ "executionId": id.as_str() }).to_string();
        let request = self.request(Method::POST, &["agents", "run", "cancel"], body.into())?;
        self.json_of(request).await
    }

    pub(crate) async fn status(&self, id: &ExecutionId) -> Result<ExecutionStatus, Error> {
        self.json_of(self.about(Method::GET, id, &[], Bytes::new())?).await
    }

    /// Sends what an event says into an execution: its data is the body.
    pub(crate) async fn post_into(
        &self,
        id: &ExecutionId,
        path: &[&str],
        event: &Event,
    ) -> Result<(), Error> {
        let body = Bytes::from(event.data_json().unwrap_or_default().to_owned());
        self.json_of::<IgnoredAny>(self.about(Method::POST, id, path, body)?).await?;
        Ok(())
    }

    pub(crate) async fn erase(&self, id: &ExecutionId) -> Result<(), Error> {
        let request = self.about(Method::DELETE, id, &[], Bytes::new())?;
        let limit = self.settings.call_timeout;
        let call = async {
            let answer = self.send(request).await?;
            match answer.status().as_u16() {
                204 => Ok(()),
                _ => Err(error_of(self.refused(answer).await?)),
            }
        };
        timeout(limit, call).await.map_err(|_| once(TransportError::Silent(limit)))?
    }

    /// A request for an execution by its path, and what follows that.
    fn about(
        &self,
        method: Method,
        id: &ExecutionId,
        rest: &[&str],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        // URLs drop dot segments, also encoded ones.
        if matches!(id.as_str(), "." | "..") {
            return Err(Error::Protocol(ProtocolError::Unaddressable));
        }
        self.request(method, &[&["agents", "executions", id.as_str()], rest].concat(), body)
    }

    pub(crate) async fn agents(&self) -> Result<AgentList, Error> {
        self.json_of(self.request(Method::GET, &["agents"], Bytes::new())?).await
    }

    pub(crate) async fn log_id(&self) -> Result<Option<LogId>, Error> {
        let request = self.request(Method::GET, &["capabilities"], Bytes::new())?;
        let capabilities: Capabilities = match self.json_of(request).await {
            Ok(capabilities) => capabilities,
            // A service that tells nothing about itself has no log that one could name.
            Err(Error::Refused(refusal)) if matches!(refusal.status(), 404 | 405) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let log_id = capabilities.log_id.as_deref().map(LogId::parse).transpose();
        log_id.map_err(|error| Error::Protocol(ProtocolError::LogId(error)))
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let request = Request::builder().method(method).uri(self.base.under(path));
        let mut request = request.body(Full::new(body)).map_err(unsendable)?;
        let headers = request.headers_mut();
        // A service that is called without a connection between sees no other name of the host.
        let host = HeaderValue::from_str(self.base.authority()).map_err(unsendable)?;
        headers.insert(HOST, host);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        Ok(request)
    }

    async fn opened(
        &self,
        answer: Response<ResponseBody>,
        id: &ExecutionId,
    ) -> Result<Opened, Error> {
        match answer.status().as_u16() {
            200 => {
                check_stream(answer.headers(), id).map_err(Error::Protocol)?;
                Ok(Opened::Stream(answer.into_body()))
            }
            204 => Ok(Opened::NothingMore),
            _ => self.refused(answer).await.map(Opened::Refused),
        }
    }

    /// The answer to a call that is no stream, in the time that such a call has.
    async fn json_of<T: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<T, Error> {
        let limit = self.settings.call_timeout;
        let answer = timeout(limit, self.unbounded_json_of(request)).await;
        answer.map_err(|_| once(TransportError::Silent(limit)))?
    }

    async fn unbounded_json_of<T: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<T, Error> {
        let answer = self.send(request).await?;
        if !matches!(answer.status().as_u16(), 200 | 202) {
            return Err(error_of(self.refused(answer).await?));
        }
        check_encoding(answer.headers()).map_err(Error::Protocol)?;
        let body = read_to_end(answer.into_body(), MAX_ANSWER).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Protocol(ProtocolError::Json(error)))
    }

    /// What an answer that is no success says; an error where it is not even a refusal.
    async fn refused(&self, answer: Response<ResponseBody>) -> Result<Refusal, Error> {
        let status = answer.status();
        if status.is_redirection() {
            return Err(Error::Protocol(ProtocolError::Redirect(status.as_u16())));
        }
        if !status.is_client_error() && !status.is_server_error() {
            return Err(Error::Protocol(ProtocolError::Status(status.as_u16())));
        }
        let retry_after = retry_after(answer.headers(), SystemTime::now());
        let body = self.error_body(answer).await?;
        Ok(Refusal::new(status.as_u16(), &body, retry_after))
    }

    /// Nothing of a body that is compressed or has no end: then the status alone speaks. One that breaks off may have held
    /// the reason, so the answer counts as lost.
    async fn error_body(&self, answer: Response<ResponseBody>) -> Result<Vec<u8>, Error> {
        let limit = self.settings.answer_timeout.min(ERROR_BODY_TIMEOUT);
        let is_plain = check_encoding(answer.headers()).is_ok();
        match read_body(answer.into_body(), limit).await {
            Ok(body) if is_plain => Ok(body),
            Ok(_) | Err(Error::Protocol(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<ResponseBody>, Error> {
        let limit = self.settings.answer_timeout;
        let answer = timeout(limit, self.transport.send(request)).await;
        answer.map_err(|_| once(TransportError::Silent(limit)))?.map_err(once)
    }
}

/// Without the transport, which may be anyone's.
impl fmt::Debug for Substrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Substrate")
            .field("base", &self.base)
            .field("authorization", &self.authorization)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Execution ids are visible ASCII, and URLs come out of a URL parser, so this does not happen.
fn unsendable(error: impl Into<http::Error>) -> Error {
    once(TransportError::Connect(error.into().into()))
}

fn header_of(id: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(id).map_err(unsendable)
}

/// What is read of `GET /capabilities`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    #[serde(default)]
    log_id: Option<String>,
}

/// A failure that is the first of its row.
fn once(cause: TransportError) -> Error {
    Error::Transport { cause, failures: 1 }
}

fn check_stream(headers: &HeaderMap, id: &ExecutionId) -> Result<(), ProtocolError> {
    check_content_type(headers)?;
    check_encoding(headers)?;
    match headers.get(EXECUTION_ID) {
        Some(found) if found.as_bytes() != id.as_str().as_bytes() => {
            Err(ProtocolError::OtherExecution(shown(Some(found))))
        }
        _ => Ok(()),
    }
}

/// Parameters are allowed and without effect: the stream is UTF-8 whatever they say (WHATWG HTML 9.2.6).
fn check_content_type(headers: &HeaderMap) -> Result<(), ProtocolError> {
    let found = headers.get(CONTENT_TYPE);
    let essence = found.and_then(|value| value.to_str().ok()?.split(';').next());
    match essence {
        Some(essence) if essence.trim().eq_ignore_ascii_case(sse::CONTENT_TYPE) => Ok(()),
        _ => Err(ProtocolError::ContentType(shown(found))),
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ProtocolError> {
    match headers.get(CONTENT_ENCODING) {
        Some(found) if !found.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(ProtocolError::Encoding(shown(Some(found))))
        }
        _ => Ok(()),
    }
}

fn shown(header: Option<&HeaderValue>) -> String {
    let value = header.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let said = value.as_deref().and_then(|value| text::said(value, text::MAX_CODE));
    said.map_or_else(|| "(none)".to_owned(), Cow::into_owned)
}

async fn read_body(stream: ResponseBody, limit: Duration) -> Result<Vec<u8>, Error> {
    let body = timeout(limit, read_to_end(stream, MAX_ERROR)).await;
    body.map_err(|_| once(TransportError::Silent(limit)))?
}

async fn read_to_end(mut stream: ResponseBody, max: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = chunk(&mut stream).await {
        let chunk = chunk.map_err(once)?;
        if body.len() + chunk.len() > max {
            return Err(Error::Protocol(ProtocolError::TooLarge(max)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).unwrap();
        HeaderMap::from_iter([(HeaderName::from_static(name), value)])
    }

    #[test]
    fn only_an_event_stream_is_a_stream() {
        let check = |value| check_content_type(&headers("content-type", value)).is_ok();
        assert!(check("text/event-stream"));
        assert!(check("Text/Event-Stream ; charset=windows-1252"));
        assert!(!check("text/event-streams"));
        assert!(!check("text/html"));
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }
}
