//! What an [`OpenAi`] agent is told once.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::{Client, Proxy, redirect, retry as http_retry};
use serde_json::{Map, Value};
use thiserror::Error;
use turnkit_http::client::{
    BaseUrl, BearerToken, InvalidBaseUrl, InvalidToken, TlsError, tls_config_with,
};

use super::{OpenAi, api::Api, history, retry::Retry};

/// Makes an [`OpenAi`].
#[must_use]
#[derive(Clone)]
pub struct OpenAiBuilder {
    base_url: String,
    connect_timeout: Duration,
    proxy: Option<String>,
    roots: Vec<Vec<u8>>,
    settings: Draft,
}

/// Why an [`OpenAi`] cannot be made. Never holds the key, nor a URL as it was given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base URL cannot be used.
    #[error("use the base URL")]
    BaseUrl(#[from] InvalidBaseUrl),
    /// The key cannot stand in a header.
    #[error("use the key")]
    Key(#[from] InvalidToken),
    /// A model without a name.
    #[error("use the model: its name is empty")]
    Model,
    /// A parameter that is the agent's own.
    #[error("set the parameter {0}: it is the agent's own")]
    Parameter(String),
    /// A header that cannot be sent, or that is the agent's own.
    #[error("send the header {0}: it is the agent's own, or no header")]
    Header(String),
    /// The proxy's URL cannot be used.
    #[error("use the proxy: it must be an http:// or https:// URL")]
    Proxy,
    /// The certificates of further authorities cannot be read.
    #[error("read the CA certificates")]
    Roots(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The HTTP client cannot be set up, for one because the host has no usable TLS roots.
    #[error("set up the HTTP client")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What all runs share.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) api: Api,
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) key: Option<BearerToken>,
    pub(super) models: Vec<String>,
    pub(super) system: Option<String>,
    pub(super) parameters: Map<String, Value>,
    pub(super) history: history::Limits,
    pub(super) retry: Retry,
    pub(super) loading: Duration,
    pub(super) answer_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) description: String,
}

/// Settings before they are checked.
#[derive(Clone)]
struct Draft {
    api: Api,
    headers: Vec<(String, String)>,
    key: Option<BearerToken>,
    models: Vec<String>,
    system: Option<String>,
    parameters: Map<String, Value>,
    history: history::Limits,
    retry: Retry,
    loading: Duration,
    answer_timeout: Duration,
    idle_timeout: Duration,
    description: Option<String>,
}

impl OpenAiBuilder {
    pub(super) fn new(base_url: String, model: String) -> Self {
        let (proxy, roots) = (None, Vec::new());
        let connect_timeout = Duration::from_secs(10);
        Self { base_url, connect_timeout, proxy, roots, settings: Draft::new(model) }
    }

    /// What the endpoint speaks: [`Api::ChatCompletions`] by default.
    pub fn api(mut self, api: Api) -> Self {
        self.settings.api = api;
        self
    }

    /// Sends one more header with every request. Its value counts as a secret: it is never printed.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.headers.push((name.into(), value.into()));
        self
    }

    /// Sends requests through this proxy, an `http://` or `https://` URL. Default: they go straight to the base URL's host.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Trusts these authorities too, beside those of the platform: certificates in PEM.
    pub fn roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Sends this key: as the bearer token, or as `x-api-key` to [`Api::Messages`]. Default: none is sent.
    pub fn key(mut self, key: impl Into<BearerToken>) -> Self {
        self.settings.key = Some(key.into());
        self
    }

    /// Lets requests choose one more model by `backend.model`.
    pub fn offer(mut self, model: impl Into<String>) -> Self {
        self.settings.models.push(model.into());
        self
    }

    /// Puts a system message in front of every conversation.
    pub fn system(mut self, prompt: impl Into<String>) -> Self {
        self.settings.system = Some(prompt.into());
        self
    }

    /// Sends one more member with every request: `temperature`, `max_completion_tokens`, `tools`, … or replaces
    /// `stream_options`, by which usage is asked for; `null` leaves that out, for servers that refuse it.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let parameters = &mut self.settings.parameters;
        parameters.insert(name.into(), value.into());
        self
    }

    /// How much of a conversation is sent before the message: by default 100 messages, and 256 KiB of their text.
    pub fn history(mut self, messages: usize, bytes: usize) -> Self {
        self.settings.history = history::Limits { messages, bytes };
        self
    }

    /// How often a refused request is sent again, and within which time in all: by default twice within 30 s. A
    /// `Retry-After` beyond that is not waited for.
    pub fn retry(mut self, times: u32, within: Duration) -> Self {
        self.settings.retry = Retry { times, within };
        self
    }

    /// How long is waited for a server that says it is still loading its model: 30 s by default.
    pub fn loading(mut self, within: Duration) -> Self {
        self.settings.loading = within;
        self
    }

    /// How long a connection may take to stand: 10 s by default.
    pub fn connect_timeout(mut self, after: Duration) -> Self {
        self.connect_timeout = after;
        self
    }

    /// How long the head of an answer may take: 5 min by default, for many servers read the whole prompt first.
    pub fn answer_timeout(mut self, after: Duration) -> Self {
        self.settings.answer_timeout = after;
        self
    }

    /// How long an answer may be without a single byte: 2 min by default.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.settings.idle_timeout = after;
        self
    }

    /// What `GET /agents` says about it. Default: the model's name.
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.settings.description = Some(description.into());
        self
    }

    /// Checks everything and sets up the HTTP client; nothing is sent.
    ///
    /// Requests go straight to the base URL's host, or through [`proxy`](Self::proxy): no redirect is followed, and no proxy of
    /// the environment is asked.
    ///
    /// # Errors
    /// [`BuildError`] says what cannot be used.
    pub fn build(self) -> Result<OpenAi, BuildError> {
        let base = BaseUrl::parse(&self.base_url)?;
        let headers = headers(&self.settings.headers)?;
        let draft = self.settings.check()?;
        if draft.key.is_some() && base.is_in_the_clear() {
            tracing::warn!(host = base.host(), "the key is sent without encryption");
        }
        let client = client(self.connect_timeout, self.proxy.as_deref(), &self.roots)?;
        let url = base.under(draft.api.path());
        let settings = draft.with(url, headers, client);
        Ok(OpenAi { settings: settings.into() })
    }
}

/// Without the base URL as given, which may hold what [`build`](OpenAiBuilder::build) refuses.
impl std::fmt::Debug for OpenAiBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAiBuilder")
            .field("models", &self.settings.models)
            .field("key", &self.settings.key)
            .finish_non_exhaustive()
    }
}

impl Draft {
    fn new(model: String) -> Self {
        Self {
            api: Api::default(),
            headers: Vec::new(),
            key: None,
            models: vec![model],
            system: None,
            parameters: Map::new(),
            history: history::Limits::default(),
            retry: Retry::default(),
            loading: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(120),
            description: None,
        }
    }

    fn check(self) -> Result<Self, BuildError> {
        self.key.as_ref().map(BearerToken::header).transpose()?;
        if self.models.iter().any(String::is_empty) {
            return Err(BuildError::Model);
        }
        let own = ["model", "messages", "input", "instructions", "system", "stream"];
        match own.iter().find(|name| self.parameters.contains_key(**name)) {
            Some(name) => Err(BuildError::Parameter((*name).to_owned())),
            None => Ok(self),
        }
    }

    fn with(self, url: String, headers: HeaderMap, client: Client) -> Settings {
        let description = self.description.or_else(|| self.models.first().cloned());
        Settings {
            api: self.api,
            client,
            url,
            headers,
            key: self.key,
            models: self.models,
            system: self.system,
            parameters: self.parameters,
            history: self.history,
            retry: self.retry,
            loading: self.loading,
            answer_timeout: self.answer_timeout,
            idle_timeout: self.idle_timeout,
            description: description.unwrap_or_default(),
        }
    }
}

/// The operator's own headers. Those that say what a body is, and which key is sent, are the agent's.
fn headers(given: &[(String, String)]) -> Result<HeaderMap, BuildError> {
    let own = [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
        header::ACCEPT,
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let refused = || BuildError::Header(turnkit_wire::text::excerpt(name, 64).into_owned());
        let header: HeaderName = name.parse().map_err(|_| refused())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
        value.set_sensitive(true);
        if own.contains(&header) {
            return Err(refused());
        }
        headers.insert(header, value);
    }
    Ok(headers)
}

fn client(
    connect_timeout: Duration,
    proxy: Option<&str>,
    roots: &[Vec<u8>],
) -> Result<Client, BuildError> {
    let tls = tls_config_with(roots).map_err(|error| match error {
        TlsError::Roots(error) => BuildError::Roots(error),
        error => BuildError::Http(error.into()),
    })?;
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("turnkit-agents/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(http_retry::never())
        // A variable of the environment would send the key and the user's words to another host.
        .no_proxy()
        .connect_timeout(connect_timeout);
    if let Some(url) = proxy {
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        // The URL may hold a password: what is wrong with it is not told.
        let proxy = is_http.then(|| Proxy::all(url).ok()).flatten().ok_or(BuildError::Proxy)?;
        client = client.proxy(proxy);
    }
    client.build().map_err(|error| BuildError::Http(error.without_url().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(builder: OpenAiBuilder) -> String {
        let printed = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        let printed = format!("{printed} {error:?} {error}");
        assert!(!printed.contains("s3cret"), "{printed}");
        error.to_string()
    }

    #[test]
    fn a_base_url_that_is_refused_is_not_told() {
        for url in
            ["s3cret.example", "https://me:s3cret@api.example", "https://api.example?key=s3cret"]
        {
            assert_eq!(refused(OpenAi::builder(url, "m")), "use the base URL");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let builder = || OpenAi::builder("http://localhost", "m");
        for key in ["", "s3cret s3cret", "s3cret\r\nX-Evil: 1", "s3cretключ"] {
            assert_eq!(refused(builder().key(key)), "use the key", "{key:?}");
        }
        assert!(refused(builder().offer("")).contains("name is empty"));
        assert!(refused(builder().parameter("stream", false)).contains("parameter stream"));
    }

    #[test]
    fn no_debug_output_holds_the_key() {
        let builder = OpenAi::builder("http://localhost", "m").key("s3cret");
        let printed = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(printed.contains("BearerToken(..)") && !printed.contains("s3cret"), "{printed}");
    }
}
