//! What an [`OpenAi`] agent is told once.

use std::time::Duration;

use reqwest::{Client, redirect, retry as http_retry};
use serde_json::{Map, Value};
use thiserror::Error;
use url::{Host, Url};

use super::{ApiKey, OpenAi, history, retry::Retry};

/// Makes an [`OpenAi`].
#[must_use]
#[derive(Clone)]
pub struct OpenAiBuilder {
    base_url: String,
    connect_timeout: Duration,
    settings: Draft,
}

/// Why an [`OpenAi`] cannot be made. Never holds the key, nor a URL as it was given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base URL is none.
    #[error("parse the base URL: {0}")]
    Url(String),
    /// The base URL has another scheme than `http` and `https`.
    #[error("use the base URL: its scheme {0} is not http or https")]
    Scheme(String),
    /// The base URL holds a user name or password.
    #[error("use the base URL: it must not hold user information")]
    UserInfo,
    /// The base URL has a query or a fragment.
    #[error("use the base URL: it must not have a query or fragment")]
    Query,
    /// The key cannot stand in a header: it must be visible ASCII, and not empty.
    #[error("use the key: it must be visible ASCII, and not empty")]
    Key,
    /// A model without a name.
    #[error("use the model: its name is empty")]
    Model,
    /// A parameter that is the agent's own.
    #[error("set the parameter {0}: it is the agent's own")]
    Parameter(String),
    /// The HTTP client cannot be set up, for one because the host has no usable TLS roots.
    #[error("set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// What all runs share.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) key: Option<ApiKey>,
    pub(super) models: Vec<String>,
    pub(super) system: Option<String>,
    pub(super) parameters: Map<String, Value>,
    pub(super) history: history::Limits,
    pub(super) retry: Retry,
    pub(super) answer_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) description: String,
}

/// Settings before they are checked.
#[derive(Clone)]
struct Draft {
    key: Option<ApiKey>,
    models: Vec<String>,
    system: Option<String>,
    parameters: Map<String, Value>,
    history: history::Limits,
    retry: Retry,
    answer_timeout: Duration,
    idle_timeout: Duration,
    description: Option<String>,
}

impl OpenAiBuilder {
    pub(super) fn new(base_url: String, model: String) -> Self {
        Self { base_url, connect_timeout: Duration::from_secs(10), settings: Draft::new(model) }
    }

    /// Sends this key as the bearer token. Default: none is sent.
    pub fn key(mut self, key: impl Into<ApiKey>) -> Self {
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
    /// Requests go straight to the base URL's host: no redirect is followed, and no proxy of the environment is asked.
    ///
    /// # Errors
    /// [`BuildError`] says what cannot be used.
    pub fn build(self) -> Result<OpenAi, BuildError> {
        let url = endpoint(&self.base_url)?;
        let draft = self.settings.check()?;
        if draft.key.is_some() && is_in_the_clear(&url) {
            tracing::warn!(host = url.host_str(), "the key is sent without encryption");
        }
        let settings = draft.with(url, client(self.connect_timeout)?);
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
            key: None,
            models: vec![model],
            system: None,
            parameters: Map::new(),
            history: history::Limits::default(),
            retry: Retry::default(),
            answer_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(120),
            description: None,
        }
    }

    fn check(self) -> Result<Self, BuildError> {
        if self.key.as_ref().is_some_and(|key| key.header().is_none()) {
            return Err(BuildError::Key);
        }
        if self.models.iter().any(String::is_empty) {
            return Err(BuildError::Model);
        }
        let own = ["model", "messages", "stream"];
        match own.iter().find(|name| self.parameters.contains_key(**name)) {
            Some(name) => Err(BuildError::Parameter((*name).to_owned())),
            None => Ok(self),
        }
    }

    fn with(self, url: Url, client: Client) -> Settings {
        let description = self.description.or_else(|| self.models.first().cloned());
        Settings {
            client,
            url,
            key: self.key,
            models: self.models,
            system: self.system,
            parameters: self.parameters,
            history: self.history,
            retry: self.retry,
            answer_timeout: self.answer_timeout,
            idle_timeout: self.idle_timeout,
            description: description.unwrap_or_default(),
        }
    }
}

fn endpoint(base_url: &str) -> Result<Url, BuildError> {
    let mut url = Url::parse(base_url).map_err(|error| BuildError::Url(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BuildError::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BuildError::UserInfo);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BuildError::Query);
    }
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["chat", "completions"]);
    }
    Ok(url)
}

/// Whether others can read what is sent there.
fn is_in_the_clear(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && !is_loopback
}

fn client(connect_timeout: Duration) -> Result<Client, BuildError> {
    let client = Client::builder()
        .user_agent(concat!("turnkit-substrate/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(http_retry::never())
        // A variable of the environment would send the key and the user's words to another host.
        .no_proxy()
        .connect_timeout(connect_timeout)
        .build();
    client.map_err(|error| BuildError::Http(error.without_url()))
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
    fn a_base_url_is_http_or_https_and_carries_no_secret() {
        let of = |url: &str| refused(OpenAi::builder(url, "m"));
        assert!(of("api.example").starts_with("parse the base URL"));
        assert!(of("file:///etc/passwd").contains("scheme file"));
        assert!(of("https://me:s3cret@api.example").contains("user information"));
        assert!(of("https://s3cret@api.example").contains("user information"));
        assert!(of("https://api.example?key=s3cret").contains("query"));
    }

    #[test]
    fn the_endpoint_is_below_the_base_url() {
        for base in ["http://h:1/v1", "http://h:1/v1/"] {
            assert_eq!(endpoint(base).unwrap().as_str(), "http://h:1/v1/chat/completions");
        }
        let bare = endpoint("https://api.example").unwrap();
        assert_eq!(bare.as_str(), "https://api.example/chat/completions");
    }

    #[test]
    fn only_plain_http_to_others_is_in_the_clear() {
        let is_in_the_clear = |base| is_in_the_clear(&endpoint(base).unwrap());
        assert!(is_in_the_clear("http://192.168.0.2:8000/v1"));
        assert!(is_in_the_clear("http://api.example/v1"));
        for base in
            ["http://localhost:1", "http://127.0.0.9", "http://[::1]:1", "https://api.example"]
        {
            assert!(!is_in_the_clear(base), "{base}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let builder = || OpenAi::builder("http://localhost", "m");
        for key in ["", "s3cret s3cret", "s3cret\r\nX-Evil: 1", "s3cretключ"] {
            assert!(refused(builder().key(key)).contains("visible ASCII"), "{key:?}");
        }
        assert!(refused(builder().offer("")).contains("name is empty"));
        assert!(refused(builder().parameter("stream", false)).contains("parameter stream"));
    }

    #[test]
    fn no_debug_output_holds_the_key() {
        let builder = OpenAi::builder("http://localhost", "m").key("s3cret");
        let printed = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(printed.contains("ApiKey(..)") && !printed.contains("s3cret"), "{printed}");
    }
}
