use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;
use turnkit::BoxError;
use turnkit_http::client::{BaseUrl, BearerToken};
use turnkit_id::{ExecutionId, LogId};
use turnkit_wire::{
    interaction::{self, Outcome},
    write::Json,
};

use crate::{
    AgentList, BuildError, Error, ExecutionStatus, Retry, RunRequest, SandboxTurn,
    resume::Intent,
    substrate::{Settings, Substrate},
    transport::{self, Transport},
};

/// A substrate, reached over HTTP. Cloning is a reference count; clones share their connections.
///
/// See the [crate](crate) for an example.
#[derive(Clone, Debug)]
pub struct SandboxClient {
    substrate: Arc<Substrate>,
}

impl SandboxClient {
    /// Begins a client of the substrate at `base_url`, such as `https://agents.example/v1`: `http` or `https`, without user
    /// information, query and fragment. The protocol's paths are appended to its path.
    pub fn builder(base_url: impl Into<String>) -> SandboxClientBuilder {
        SandboxClientBuilder {
            base_url: base_url.into(),
            token: None,
            transport: None,
            settings: Settings::default(),
        }
    }

    /// Begins a client of the substrate that `service` is, such as `substrate.router()` for one in the same process: each request
    /// is a call, and no socket is opened.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// # use http_body_util::Full;
    /// # use turnkit_sandbox::SandboxClient;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let routes = tower::service_fn(|request: Request<Full<Bytes>>| async move {
    ///     assert_eq!(request.uri(), "http://localhost/capabilities");
    ///     Ok::<_, Infallible>(Response::new(Full::from(r#"{"logId":"log-1"}"#)))
    /// });
    /// let client = SandboxClient::over(routes).build()?;
    /// assert_eq!(client.log_id().await?.unwrap().as_str(), "log-1");
    /// # Ok(()) }
    /// ```
    ///
    /// It is [`builder("http://localhost")`](Self::builder) with this [`transport`](SandboxClientBuilder::transport), which says
    /// what a service has to keep to. `localhost` is no more than what requests name as their host.
    pub fn over<S, B>(service: S) -> SandboxClientBuilder
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::builder("http://localhost").transport(service)
    }

    /// A turn that starts `request`'s execution, or attaches to it where it runs already (PROTOCOL 4.1).
    ///
    /// Nothing is sent before the first [`next`](turnkit::TurnProducer::next).
    #[must_use]
    pub fn run(&self, request: RunRequest) -> SandboxTurn {
        SandboxTurn::run(Arc::clone(&self.substrate), request)
    }

    /// A turn that reads an execution from its first event and never starts one (PROTOCOL 4.1).
    #[must_use]
    pub fn attach(&self, execution_id: ExecutionId) -> SandboxTurn {
        SandboxTurn::attach(Arc::clone(&self.substrate), execution_id, Intent::Attach)
    }

    /// A turn that reads an execution from its first event, for the attempt that drives it on after one that may have sent its run
    /// (PROTOCOL 4.2).
    ///
    /// Where the execution is lost, that run may still be under way to the substrate. So it is cancelled before
    /// [`Error::Lost`] is given: that binds the id, and the run cannot start any more. Where the substrate knows it by then and it was
    /// not cancelled, it is read. Where it can't be told, that is the error, which is retryable.
    #[must_use]
    pub fn attach_or_bind(&self, execution_id: ExecutionId) -> SandboxTurn {
        SandboxTurn::attach(Arc::clone(&self.substrate), execution_id, Intent::AttachOrBind)
    }

    /// A turn that reads an execution along, and may come before the substrate has accepted its run (PROTOCOL 4.2).
    ///
    /// Where the execution is not there, `is_due` is asked: whether the run is still to come, because it was not sent yet or is being
    /// sent. As long as it is, the execution is asked for again, after 25 ms doubling to 1 s; and once more when it is due no longer,
    /// as it may have been accepted since. Then, and whenever an event was read before, it is [`Error::Lost`]. Whoever cannot tell
    /// says `false`.
    ///
    /// ```no_run
    /// # use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// # use turnkit_id::ExecutionId;
    /// # use turnkit_sandbox::SandboxClient;
    /// # fn example(client: SandboxClient, id: ExecutionId) {
    /// let is_driven = Arc::new(AtomicBool::new(true));
    /// let turn = client.join(id, move || {
    ///     let is_driven = Arc::clone(&is_driven);
    ///     async move { is_driven.load(Ordering::Relaxed) }
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn join<F>(
        &self,
        execution_id: ExecutionId,
        is_due: impl Fn() -> F + Send + Sync + 'static,
    ) -> SandboxTurn
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let due = Box::new(move || is_due().boxed());
        SandboxTurn::join(Arc::clone(&self.substrate), execution_id, due)
    }

    /// How often the turns of this client had to ask the substrate again since it was made: refused for now, or cut.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.substrate.reconnects.load(Relaxed)
    }

    /// Cancels an execution; idempotent. An unknown one is bound as cancelled, so a start that is still under way can not
    /// run. One request, no retry, and at most [`call_timeout`](SandboxClientBuilder::call_timeout) in all.
    ///
    /// Dropping the future gives the request up; whether it has come to the substrate is then not known.
    ///
    /// # Errors
    /// Any that a single call can meet: the network, a refusal, an answer that is no status, none in time
    /// ([`TransportError::Silent`](crate::TransportError::Silent)).
    pub async fn cancel(&self, execution_id: &ExecutionId) -> Result<ExecutionStatus, Error> {
        self.substrate.cancel(execution_id).await
    }

    /// Erases an execution; idempotent. What runs is cancelled, its events are dropped, and its id is spent for 24 h, also one that
    /// the substrate does not know (PROTOCOL 3.1). One request, no retry, bounded like [`cancel`](Self::cancel).
    ///
    /// Dropping the future gives the request up; whether it has come to the substrate is then not known.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn erase(&self, execution_id: &ExecutionId) -> Result<(), Error> {
        self.substrate.erase(execution_id).await
    }

    /// How far an execution is. One request, no retry, bounded like [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel), and [`Error::Lost`] where the substrate does not know the execution.
    pub async fn status(&self, execution_id: &ExecutionId) -> Result<ExecutionStatus, Error> {
        self.substrate.status(execution_id).await
    }

    /// Answers a question of an execution, and resolves once the answer is in its log (PROTOCOL 3.6). The same answer may be sent
    /// again, and is answered the same: one is taken, once. One request, no retry, bounded like [`cancel`](Self::cancel).
    ///
    /// Dropping the future gives the request up; whether it has come to the substrate is then not known.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel); [`Error::Refused`] with the codes `interaction_answered` (another answer was taken: its
    /// [`Refusal::outcome`](crate::Refusal::outcome)), `interaction_gone`, `interaction_not_found`, or `invalid_answer` (where:
    /// its [`Refusal::field`](crate::Refusal::field)); [`Error::Lost`] where the substrate does not know the execution.
    pub async fn answer(
        &self,
        execution_id: &ExecutionId,
        interaction: &str,
        outcome: Outcome,
        data: Option<&Json<'_>>,
        by: Option<&str>,
    ) -> Result<(), Error> {
        let answer = interaction::answered(interaction, outcome, data, by);
        self.substrate.post_into(execution_id, &["interactions", interaction], &answer).await
    }

    /// Puts a message into a running execution, and resolves once it is in its log (PROTOCOL 3.6). The same message under the same
    /// id may be sent again, and is in the log once. One request, no retry, bounded like [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel); [`Error::Refused`] with the codes `input_not_accepted`, `input_conflict`, `execution_ended` or
    /// `too_many_inputs`; [`Error::Lost`] where the substrate does not know the execution.
    pub async fn input(
        &self,
        execution_id: &ExecutionId,
        id: &str,
        message: &str,
        by: Option<&str>,
    ) -> Result<(), Error> {
        let input = interaction::input(id, message, by);
        self.substrate.post_into(execution_id, &["input"], &input).await
    }

    /// The id of its log now, for [`RunRequest::log_id`] (PROTOCOL 3.5). `None` where it tells none, as a service does that has
    /// no such ids, or no `/capabilities` at all (404, 405). One request, no retry, bounded like [`cancel`](Self::cancel).
    ///
    /// It has to be read before the first [`run`](Self::run) of the turn that names it, and kept with the turn: an id that was
    /// read after a run was sent says nothing about the log that this run came to.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel), and [`ProtocolError::LogId`](crate::ProtocolError::LogId) for an id that is none.
    pub async fn log_id(&self) -> Result<Option<LogId>, Error> {
        self.substrate.log_id().await
    }

    /// What it can run. One request, no retry, bounded like [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn agents(&self) -> Result<AgentList, Error> {
        self.substrate.agents().await
    }
}

/// Builds a [`SandboxClient`].
#[must_use]
#[derive(Clone)]
pub struct SandboxClientBuilder {
    base_url: String,
    token: Option<BearerToken>,
    transport: Option<Arc<dyn Transport>>,
    settings: Settings,
}

impl SandboxClientBuilder {
    /// Sends `token` with every request. Without one, no `Authorization` is sent.
    pub fn bearer_token(mut self, token: impl Into<BearerToken>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The policy until a request was answered with an event stream: [`Retry::BEFORE_ANSWER`] by default.
    pub fn retry_before_answer(mut self, policy: Retry) -> Self {
        self.settings.before_answer = policy;
        self
    }

    /// The policy once one was: [`Retry::AFTER_ANSWER`] by default.
    pub fn retry_after_answer(mut self, policy: Retry) -> Self {
        self.settings.after_answer = policy;
        self
    }

    /// Another way to the substrate than HTTP over the host's network: a router in the same process, a simulated network, a
    /// tunnel, or an HTTP client that the product has already. Needed where the feature `reqwest` is off.
    ///
    /// The service is cloned for each request. Requests have an absolute URI under the base URL, and its host in `Host`. The
    /// service keeps to this:
    /// - it sends a request once: no retries, no redirects followed. All of that is the adapter's;
    /// - it changes no body: no decompression. An empty body is sent as none;
    /// - it gives up a request or a body that is dropped, and closes what carried it;
    /// - it may take as long as it likes: the adapter has the time-outs;
    /// - it prints no header that is marked [sensitive](http::HeaderValue::is_sensitive).
    ///
    /// Where its error, or its body's, is a [`TransportError`](crate::TransportError), it is reported as that one. Any other counts
    /// as an answer that did not come, or as a stream that broke off. All of them are tried again.
    pub fn transport<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.transport = Some(transport::of(service));
        self
    }

    /// Makes the jitter of waits repeatable, for simulations: by default each turn has a seed of its own.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.settings.jitter_seed = Some(seed);
        self
    }

    /// How long a connection may take to stand: 10 s by default. Another [`transport`](Self::transport) has its own.
    pub fn connect_timeout(mut self, after: Duration) -> Self {
        self.settings.connect_timeout = after;
        self
    }

    /// How long the head of a stream's answer may take, from the first try to connect on: 60 s by default.
    pub fn answer_timeout(mut self, after: Duration) -> Self {
        self.settings.answer_timeout = after;
        self
    }

    /// How long a call that is no stream may take in all, from its first try to connect to the last byte of its answer: a
    /// cancel, a status, the list of agents, the id of the log. 10 s by default.
    pub fn call_timeout(mut self, after: Duration) -> Self {
        self.settings.call_timeout = after;
        self
    }

    /// How long a stream may be without a single byte before it counts as lost: 45 s by default. Keep-alive comments are
    /// life; time in which nobody asks for the next event does not count.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.settings.idle_timeout = after;
        self
    }

    /// The largest event, in bytes: 1 MiB by default. A larger one fails the turn.
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.settings.max_event = bytes;
        self
    }

    /// Checks everything and sets up the HTTP client; nothing is sent.
    ///
    /// # Errors
    /// A base URL or a token that can not be used, a host without usable TLS roots, or no transport at all.
    pub fn build(self) -> Result<SandboxClient, BuildError> {
        let base = BaseUrl::parse(&self.base_url)?;
        let authorization = self.token.as_ref().map(BearerToken::header).transpose()?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => transport::by_default(self.settings.connect_timeout)?,
        };
        let substrate = Substrate::new(transport, base, authorization, self.settings);
        Ok(SandboxClient { substrate: Arc::new(substrate) })
    }
}

/// Without the base URL as given, which may hold what [`build`](SandboxClientBuilder::build) refuses.
impl fmt::Debug for SandboxClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxClientBuilder")
            .field("token", &self.token)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_refused_base_url_prints_its_password() {
        let builder = SandboxClient::builder("https://me:secret@agents.example");
        assert!(!format!("{builder:?}").contains("secret"));
        let error = builder.build().unwrap_err();
        assert!(!format!("{error:?} {error}").contains("secret"));
    }

    #[test]
    fn no_debug_output_holds_the_token() {
        let builder = SandboxClient::builder("http://localhost").bearer_token("s3cret");
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
