//! A client of the product's routes, as any client could be written.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Client, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use turnkit_http::client::{BaseUrl, BearerToken, InvalidBaseUrl, InvalidToken, is_transient};
use turnkit_wire::{DecodeError, Event, ndjson};

/// A server sends a blank line every 15 s (PROTOCOL 2.4); one that is silent for three of them is gone.
const IDLE: Duration = Duration::from_secs(45);
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of an answer that is not a stream.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// A server, reached over HTTP.
#[derive(Clone)]
pub(super) struct ProductClient {
    http: Client,
    base: BaseUrl,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("use the server's URL, one like http://127.0.0.1:8787")]
    Url(#[from] InvalidBaseUrl),
    #[error("use the token")]
    Token(#[from] InvalidToken),
    #[error("reach the server")]
    Http(#[from] reqwest::Error),
    #[error("get what was asked for: {message} ({code})")]
    Refused { status: u16, code: String, message: String },
    #[error("read the server's answer: status {status} without an error that could be read")]
    Unreadable { status: u16 },
    #[error("read the server's answer: it is over {MAX_ANSWER} bytes")]
    TooLarge,
    #[error("read the server's answer")]
    Json(#[from] serde_json::Error),
    #[error("read a line of the answer")]
    Line(#[from] DecodeError),
    #[error("read on: the answer broke off")]
    Cut,
}

impl ClientError {
    /// Whether the same call may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            ClientError::Http(error) => !error.is_builder(),
            ClientError::Refused { status, .. } | ClientError::Unreadable { status } => {
                is_transient(*status)
            }
            ClientError::Cut => true,
            _ => false,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    session_id: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: Details,
}

#[derive(Deserialize)]
struct Details {
    code: String,
    message: String,
}

/// A turn to be started.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ask {
    pub(super) turn_id: String,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<String>,
}

/// One message, as the messages route tells it.
#[derive(Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    pub(super) role: String,
    pub(super) text: String,
    pub(super) status: String,
    pub(super) turn_index: u64,
    pub(super) turn_id: String,
    pub(super) execution_id: String,
    pub(super) created_at: String,
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<Message>,
}

impl ProductClient {
    /// A client of the server at `base`, with a user's token where it needs one.
    pub(super) fn new(base: &str, token: Option<&str>) -> Result<ProductClient, ClientError> {
        ProductClient::with_patience(base, token, IDLE)
    }

    /// One that gives a server up after `patience` without a byte: of an answer's head as well as of its body.
    fn with_patience(
        base: &str,
        token: Option<&str>,
        patience: Duration,
    ) -> Result<ProductClient, ClientError> {
        let base = BaseUrl::parse(base)?;
        let authorization = token.map(|token| BearerToken::from(token).header()).transpose()?;
        let headers = authorization.map(|value| (AUTHORIZATION, value)).into_iter();
        let http = Client::builder()
            .default_headers(headers.collect::<HeaderMap>())
            .connect_timeout(CONNECT)
            .read_timeout(patience)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(ProductClient { http, base })
    }

    pub(super) async fn create_session(&self) -> Result<String, ClientError> {
        let created: Created = answer(self.http.post(self.url(&[]))).await?;
        Ok(created.session_id)
    }

    /// Starts the turn, or takes it up from its first event.
    pub(super) async fn start(&self, session: &str, ask: &Ask) -> Result<Lines, ClientError> {
        let body = serde_json::to_string(ask)?;
        let request = self
            .http
            .post(self.url(&[session, "turns"]))
            .header("content-type", "application/json");
        Lines::of(request.body(body)).await
    }

    /// Takes the turn up after the first `after` events.
    pub(super) async fn resume(
        &self,
        session: &str,
        turn: &str,
        after: u64,
    ) -> Result<Lines, ClientError> {
        let url = self.url(&[session, "turns", turn]);
        Lines::of(self.http.get(format!("{url}?after={after}"))).await
    }

    pub(super) async fn cancel(&self, session: &str, turn: &str) -> Result<(), ClientError> {
        let url = self.url(&[session, "turns", turn, "cancel"]);
        accepted(self.http.post(url)).await?;
        Ok(())
    }

    /// All messages of a session, the oldest first.
    pub(super) async fn messages(&self, session: &str) -> Result<Vec<Message>, ClientError> {
        let mut messages = Vec::new();
        loop {
            let mut url = self.url(&[session, "messages"]);
            if let Some(Message { turn_index, .. }) = messages.first() {
                url.push_str(&format!("?before={turn_index}"));
            }
            let Messages { messages: mut older } = answer(self.http.get(url)).await?;
            if older.is_empty() {
                return Ok(messages);
            }
            older.append(&mut messages);
            messages = older;
        }
    }

    /// `/api/sessions` and what follows, each part encoded.
    fn url(&self, parts: &[&str]) -> String {
        self.base.under(&[&["api", "sessions"], parts].concat())
    }
}

/// The events of one body.
pub(super) struct Lines {
    response: Response,
    decoder: ndjson::Decoder,
    has_ended: bool,
}

impl Lines {
    async fn of(request: RequestBuilder) -> Result<Lines, ClientError> {
        let response = accepted(request).await?;
        Ok(Lines { response, decoder: ndjson::Decoder::new(), has_ended: false })
    }

    /// The header that names the execution.
    pub(super) fn execution_id(&self) -> Option<String> {
        let id = self.response.headers().get("x-execution-id")?;
        id.to_str().ok().map(str::to_owned)
    }

    /// The next event; `None` where the body has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return Ok(Some(event?));
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.response.chunk().await? {
                Some(chunk) => self.decoder.push(chunk),
                None => return self.finish(),
            }
        }
    }

    /// A line that the end has torn was not sent whole: that is a cut, not a mistake of the server.
    fn finish(&mut self) -> Result<Option<Event>, ClientError> {
        self.has_ended = true;
        match self.decoder.finish() {
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(_)) => Err(ClientError::Cut),
            None => Ok(None),
        }
    }
}

async fn accepted(request: RequestBuilder) -> Result<Response, ClientError> {
    let response = request.send().await?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status().as_u16();
    match serde_json::from_slice(&whole(response).await?) {
        Ok(Refusal { error: Details { code, message } }) => {
            Err(ClientError::Refused { status, code, message })
        }
        Err(_) => Err(ClientError::Unreadable { status }),
    }
}

async fn answer<T: for<'a> Deserialize<'a>>(request: RequestBuilder) -> Result<T, ClientError> {
    let body = whole(accepted(request).await?).await?;
    Ok(serde_json::from_slice(&body)?)
}

async fn whole(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(ClientError::TooLarge);
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_takes_a_request_and_never_answers_is_given_up() {
        // The system takes the connection and the request; nobody reads them.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", silent.local_addr().unwrap());
        let client = ProductClient::with_patience(&base, None, Duration::from_millis(50)).unwrap();
        assert!(client.create_session().await.unwrap_err().is_passing());
        assert!(client.cancel("s", "t").await.unwrap_err().is_passing());
    }
}
