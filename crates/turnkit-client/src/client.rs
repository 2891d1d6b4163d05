use std::{
    fmt,
    future::Future,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fastrand::Rng;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderName, SET_COOKIE},
};
use http_body_util::{BodyExt as _, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt as _};
use turnkit_http::client::{BaseUrl, BearerToken, retry_after};
use turnkit_wire::ndjson;

use crate::{
    Agents, Answered, BoxError, BuildError, Cancelled, Error, Feed, Me, Message, NewAnswer,
    NewTurn, OpenTurn, Refusal, SessionInfo, SessionState, Turn, TurnBody,
    follow::{Answer, Policy, Row},
    model::{Created, Messages, OpenTurns, Queued, Sessions},
    transport::{self, Body, Transport},
};

/// Bytes of an answer that is no turn's body (PROTOCOL 4.4).
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// Bytes of a refusal.
const MAX_REFUSAL: usize = 64 * 1024;
/// How long the body of such an answer may take in all. Larger ones come over slow networks too.
const ANSWER: Duration = Duration::from_secs(5 * 60);
/// How long the body of a refusal may take in all.
const REFUSAL: Duration = Duration::from_secs(10);

/// A product that serves turnkit's chat routes, reached over HTTP (PROTOCOL 4.2). Cloning is cheap; clones share connections.
///
/// See the [crate](crate) for an example. Every call but those that [`send`](Client::send) and [`follow`](Client::follow) a
/// turn, or follow a [`feed`](Client::feed), is one request: nothing is retried. Dropping a call gives it up; what it asked for may have happened all the same.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    base: BaseUrl,
    headers: HeaderMap,
    settings: Settings,
}

#[derive(Clone, Debug)]
struct Settings {
    policy: Policy,
    idle_timeout: Duration,
    max_line: usize,
    connect_timeout: Duration,
    jitter_seed: Option<u64>,
}

/// Builds a [`Client`].
#[must_use]
#[derive(Clone)]
pub struct ClientBuilder {
    base_url: String,
    token: Option<BearerToken>,
    headers: HeaderMap,
    transport: Option<Transport>,
    settings: Settings,
}

impl Client {
    /// Begins a client of the product at `base_url`, such as `https://chat.example`: `http` or `https`, without user
    /// information, query and fragment. The routes' paths are appended to its path.
    pub fn builder(base_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            base_url: base_url.into(),
            token: None,
            headers: HeaderMap::new(),
            transport: None,
            settings: Settings {
                policy: Policy::default(),
                idle_timeout: Duration::from_secs(45),
                max_line: MAX_ANSWER,
                connect_timeout: Duration::from_secs(10),
                jitter_seed: None,
            },
        }
    }

    /// Makes a session, and gives its id.
    ///
    /// # Errors
    /// Any that a call can meet: the network, a refusal, an answer that is none. A lost answer may have made a session.
    pub async fn create_session(&self) -> Result<String, Error> {
        let created: Created = self.call(self.request(Method::POST, &["sessions"])?).await?;
        Ok(created.session_id)
    }

    /// The user's sessions, the newest first; with `before`, those that are older than that one.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn sessions(&self, before: Option<&str>) -> Result<Vec<SessionInfo>, Error> {
        let request =
            self.request_with(Method::GET, &["sessions"], before.map(|id| ("before", id)))?;
        Ok(self.call::<Sessions>(request).await?.sessions)
    }

    /// The messages of a session's newest turns, the oldest first; with `before`, of the turns before that index.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn messages(
        &self,
        session: &str,
        before: Option<u64>,
    ) -> Result<Vec<Message>, Error> {
        let before = before.map(|index| index.to_string());
        let query = before.as_deref().map(|index| ("before", index));
        let request = self.request_with(Method::GET, &["sessions", session, "messages"], query)?;
        Ok(self.call::<Messages>(request).await?.messages)
    }

    /// All messages of a session, the oldest first: as many calls as it takes, and at most 32 MiB of text.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session), and [`Error::TooLarge`].
    pub async fn all_messages(&self, session: &str) -> Result<Vec<Message>, Error> {
        let mut messages: Vec<Message> = Vec::new();
        let mut bytes = 0;
        loop {
            let before = messages.first().map(|message| message.turn_index);
            let mut older = self.messages(session, before).await?;
            if older.is_empty() {
                return Ok(messages);
            }
            if before.is_some_and(|before| older.iter().any(|older| older.turn_index >= before)) {
                return Err(Error::NotAnAnswer);
            }
            bytes += older.iter().map(|message| message.text.len()).sum::<usize>();
            if bytes > MAX_ANSWER {
                return Err(Error::TooLarge(MAX_ANSWER));
            }
            older.append(&mut messages);
            messages = older;
        }
    }

    /// A session at one moment: the messages of its newest turns, and its open turn. With `before`, the messages of the turns
    /// before that index.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn session(&self, session: &str, before: Option<u64>) -> Result<SessionState, Error> {
        let before = before.map(|index| index.to_string());
        let query = before.as_deref().map(|index| ("before", index));
        self.call(self.request_with(Method::GET, &["sessions", session], query)?).await
    }

    /// Deletes a session, with everything that was said in it: whoever reads one of its turns sees that fail with the code
    /// `session_deleted`. One that is deleted already is deleted.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn delete_session(&self, session: &str) -> Result<(), Error> {
        self.ask(self.request(Method::DELETE, &["sessions", session])?).await.map(drop)
    }

    /// The session's open turns: at most one today.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn open_turns(&self, session: &str) -> Result<Vec<OpenTurn>, Error> {
        let path = ["sessions", session, "turns"];
        let request = self.request_with(Method::GET, &path, Some(("state", "open")))?;
        Ok(self.call::<OpenTurns>(request).await?.turns)
    }

    /// What a turn can be answered by.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn agents(&self) -> Result<Agents, Error> {
        self.call(self.request(Method::GET, &["agents"])?).await
    }

    /// Who this client is to the product.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn me(&self) -> Result<Me, Error> {
        self.call(self.request(Method::GET, &["me"])?).await
    }

    /// Signs in with a user's token, and gives a client that carries the sign-in's cookie instead of any token.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session); [`Error::NotAnAnswer`] where no cookie came.
    pub async fn sign_in(&self, token: &str) -> Result<Client, Error> {
        #[derive(Serialize)]
        struct SignIn<'a> {
            token: &'a str,
        }
        let request = with_json(self.request(Method::POST, &["sign-in"])?, &SignIn { token })?;
        let answer = self.ask(request).await?;
        let cookie = answer.headers().get(SET_COOKIE).map(HeaderValue::as_bytes);
        let pair = cookie.and_then(|cookie| cookie.split(|byte| *byte == b';').next());
        let cookie = pair.and_then(|pair| HeaderValue::from_bytes(pair).ok());
        let mut cookie = cookie.ok_or(Error::NotAnAnswer)?;
        cookie.set_sensitive(true);
        let mut signed_in = self.clone();
        signed_in.headers.remove(AUTHORIZATION);
        signed_in.headers.insert(COOKIE, cookie);
        Ok(signed_in)
    }

    /// Ends the sign-in whose cookie this client carries: the cookie is worth nothing any more.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn sign_out(&self) -> Result<(), Error> {
        self.ask(self.request(Method::POST, &["sign-out"])?).await.map(drop)
    }

    /// Starts `turn`, or takes up the one that has its id, and follows it to its end. Nothing is sent before the first
    /// [`Turn::next`].
    ///
    /// # Errors
    /// [`Error::Request`] where no request can be made of the session's or the turn's id.
    pub fn send(&self, session: &str, turn: &NewTurn) -> Result<Turn, Error> {
        Turn::new(self.clone(), session, Some(turn), turn.turn_id(), 0)
    }

    /// Follows a turn to its end, after the first `after` of its events. Never starts one, and sends nothing before the first
    /// [`Turn::next`].
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub fn follow(&self, session: &str, turn_id: &str, after: u64) -> Result<Turn, Error> {
        Turn::new(self.clone(), session, None, turn_id, after)
    }

    /// Follows what changes for the user, on whichever client, or what of it is about one session: behind the entry whose id is `after`,
    /// such as [`SessionState::feed`], or from now on. Sends nothing before the first [`Feed::next`].
    ///
    /// # Errors
    /// [`Error::Request`] where no request can be made of the session's id or the place.
    pub fn feed(&self, session: Option<&str>, after: Option<&str>) -> Result<Feed, Error> {
        Feed::new(self.clone(), session, after)
    }

    /// Starts `turn`, or takes it up from its first event, over one connection: nothing is retried.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn start(&self, session: &str, turn: &NewTurn) -> Result<TurnBody, Error> {
        self.open(self.start_request(session, turn)?).await
    }

    /// Takes a turn up after `after` of its events, over one connection: nothing is retried.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn resume(&self, session: &str, turn: &str, after: u64) -> Result<TurnBody, Error> {
        self.open(self.resume_request(session, turn, after)?).await
    }

    /// Stops a turn: one request, which the server answers within 10 s or so. Idempotent. Whoever follows the turn sees it
    /// fail with the code `cancelled`. [`Turn::cancel`] asks again where that is lost.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session).
    pub async fn cancel(&self, session: &str, turn: &str) -> Result<Cancelled, Error> {
        self.call(self.cancel_request(session, turn)?).await
    }

    /// Answers a question of a turn's agent: one request, which the server answers within 10 s or so. It is safe to be asked again:
    /// the same answer is told the same, and another one never takes its place. [`Turn::answer`] asks again where that is lost.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session). A refusal with 409 `interaction_answered` where somebody else has answered,
    /// 410 `interaction_gone` where nobody wants to know any more, and 422 `invalid_answer` where the data does not fit.
    pub async fn answer(
        &self,
        session: &str,
        turn: &str,
        interaction: &str,
        answer: &NewAnswer,
    ) -> Result<Answered, Error> {
        self.call(self.answer_request(session, turn, interaction, answer)?).await
    }

    /// Sends a message into a running turn, whose agent must take any: one request. It is safe to be asked again under the same `id` (1 to
    /// 128 of `A-Za-z0-9:_-`, new for each message). [`Turn::input`] asks again where that is lost.
    ///
    /// # Errors
    /// As [`create_session`](Client::create_session). A refusal with 409 `input_not_accepted` where the agent takes none, and 410 where
    /// the turn has ended: it can be sent as a turn of its own then.
    pub async fn input(
        &self,
        session: &str,
        turn: &str,
        id: &str,
        message: &str,
    ) -> Result<(), Error> {
        let IgnoredAny = self.call(self.input_request(session, turn, id, message)?).await?;
        Ok(())
    }

    pub(crate) fn policy(&self) -> Policy {
        self.settings.policy.clone()
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.settings.idle_timeout
    }

    /// The jitter of one turn's waits.
    pub(crate) fn jitter(&self) -> Rng {
        self.settings.jitter_seed.map_or_else(Rng::new, Rng::with_seed)
    }

    pub(crate) fn start_request(
        &self,
        session: &str,
        turn: &NewTurn,
    ) -> Result<Request<Full<Bytes>>, Error> {
        with_json(self.request(Method::POST, &["sessions", session, "turns"])?, turn)
    }

    pub(crate) fn resume_request(
        &self,
        session: &str,
        turn: &str,
        after: u64,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let after = after.to_string();
        let path = ["sessions", session, "turns", turn];
        self.request_with(Method::GET, &path, Some(("after", &after)))
    }

    pub(crate) fn feed_request(
        &self,
        session: Option<&str>,
        after: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let path: &[&str] = match session {
            Some(session) => &["sessions", session, "events"],
            None => &["events"],
        };
        self.request_with(Method::GET, path, after.map(|after| ("after", after)))
    }

    fn cancel_request(&self, session: &str, turn: &str) -> Result<Request<Full<Bytes>>, Error> {
        self.request(Method::POST, &["sessions", session, "turns", turn, "cancel"])
    }

    fn answer_request(
        &self,
        session: &str,
        turn: &str,
        interaction: &str,
        answer: &NewAnswer,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let path = ["sessions", session, "turns", turn, "interactions", interaction];
        with_json(self.request(Method::POST, &path)?, answer)
    }

    fn input_request(
        &self,
        session: &str,
        turn: &str,
        id: &str,
        message: &str,
    ) -> Result<Request<Full<Bytes>>, Error> {
        #[derive(Serialize)]
        struct Input<'a> {
            id: &'a str,
            message: &'a str,
        }
        let path = ["sessions", session, "turns", turn, "input"];
        with_json(self.request(Method::POST, &path)?, &Input { id, message })
    }

    /// Cancels by the rules of PROTOCOL 4.4.
    pub(crate) fn cancel_until_answered(
        &self,
        session: &str,
        turn: &str,
    ) -> impl Future<Output = Result<Cancelled, Error>> + Send + use<> {
        self.until_answered(self.cancel_request(session, turn))
    }

    /// Answers by the same rules.
    pub(crate) fn answer_until_answered(
        &self,
        session: &str,
        turn: &str,
        interaction: &str,
        answer: &NewAnswer,
    ) -> impl Future<Output = Result<Answered, Error>> + Send + use<> {
        self.until_answered(self.answer_request(session, turn, interaction, answer))
    }

    /// Sends a message into a turn by the same rules.
    pub(crate) fn input_until_answered(
        &self,
        session: &str,
        turn: &str,
        id: &str,
        message: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let sent = self.until_answered(self.input_request(session, turn, id, message));
        async { sent.await.map(|IgnoredAny| ()) }
    }

    /// Sends a request that is idempotent again where it was lost or refused for now.
    fn until_answered<T: DeserializeOwned>(
        &self,
        request: Result<Request<Full<Bytes>>, Error>,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<T> {
        let client = self.clone();
        async move {
            let request = request?;
            let (began, mut row, mut jitter) = (Instant::now(), Row::default(), client.jitter());
            loop {
                let error = match client.call(request.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if error.is_transient() => error,
                    Err(error) => return Err(error),
                };
                let at_least = match error.answer() {
                    Some(Answer::Refused { retry_after, .. }) => retry_after,
                    _ => None,
                };
                let policy = &client.settings.policy;
                match row.failed(policy, at_least, began.elapsed(), jitter.f64()) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                }
            }
        }
    }

    /// A turn's body.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Result<TurnBody, Error> {
        let answer = self.ask(request).await?;
        if answer.status() == StatusCode::ACCEPTED {
            let body = timeout(REFUSAL, whole(answer.into_body(), MAX_REFUSAL)).await;
            let body = body.ok().and_then(Result::ok).unwrap_or_default();
            let queued = serde_json::from_slice::<Queued>(&body).ok();
            let queued = queued.filter(|queued| queued.state == "queued");
            return Err(queued
                .map_or(Error::NotAnAnswer, |queued| Error::Queued { position: queued.position }));
        }
        let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !kind.is_some_and(|kind| kind.starts_with(ndjson::CONTENT_TYPE.as_bytes())) {
            return Err(Error::NotAnAnswer);
        }
        Ok(TurnBody::new(answer, self.settings.idle_timeout, self.settings.max_line))
    }

    async fn call<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, Error> {
        let answer = timeout(ANSWER, whole(self.ask(request).await?.into_body(), MAX_ANSWER));
        let body = answer.await.map_err(|_| Error::Silent(ANSWER))??;
        serde_json::from_slice(&body).map_err(|error| Error::Json(error.into()))
    }

    /// The head of an answer that is a success.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        let idle = self.settings.idle_timeout;
        let answer = timeout(idle, self.transport.clone().oneshot(request)).await;
        let answer = answer.map_err(|_| Error::Silent(idle))?.map_err(Error::Unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let retry_after = retry_after(answer.headers(), SystemTime::now());
        let body = timeout(REFUSAL, whole(answer.into_body(), MAX_REFUSAL)).await;
        // The status alone says enough where the body says nothing.
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        Err(Error::Refused(Refusal::new(status.as_u16(), &body, retry_after)))
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<Request<Full<Bytes>>, Error> {
        self.request_with(method, path, None)
    }

    /// A request to `/api` and what follows, each part encoded.
    fn request_with(
        &self,
        method: Method,
        path: &[&str],
        query: Option<(&str, &str)>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        // A URL drops these, and the request would go elsewhere.
        if path.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return Err(Error::Request("an id is empty, or names a path".into()));
        }
        let mut url = self.base.under(&[&["api"], path].concat());
        if let Some((name, value)) = query {
            url.extend(["?", name, "="]);
            url.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        let request = Request::builder().method(method).uri(url);
        let mut request =
            request.body(Full::default()).map_err(|error| Error::Request(error.into()))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// Without headers, which hold secrets.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Sends `token` with every request, as `Authorization: Bearer`.
    pub fn bearer_token(mut self, token: impl Into<BearerToken>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sends this header with every request: for a product whose own login knows its users by something else than a bearer
    /// token. Of several values of one name, the last one. It is not printed.
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self
    }

    /// Another way to the product than HTTP over the host's network, such as its router in the same process. Needed where the
    /// feature `reqwest` is off.
    ///
    /// Requests have an absolute URI and a `Host`. The service sends each once, follows no redirect, changes no body, and gives
    /// up a call or a body that is dropped. It needs no time-outs.
    pub fn transport<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.transport = Some(transport::boxed(service));
        self
    }

    /// How turns are followed: [`Policy::default`] where it is not set.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// How long an answer may be without a byte, before its head and in a turn's body: 45 s where it is not set. Servers send a
    /// blank line every 15 s.
    pub fn idle_timeout(mut self, after: Duration) -> Self {
        self.settings.idle_timeout = after;
        self
    }

    /// How long a connection may take to stand: 10 s where it is not set. Another [`transport`](Self::transport) has its own.
    pub fn connect_timeout(mut self, after: Duration) -> Self {
        self.settings.connect_timeout = after;
        self
    }

    /// The longest line of a turn's body, in bytes: 32 MiB where it is not set, as a replayed answer is one line.
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.settings.max_line = bytes;
        self
    }

    /// Makes the jitter of waits repeatable, for simulations: by default each turn has a seed of its own.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.settings.jitter_seed = Some(seed);
        self
    }

    /// Checks everything and sets up the HTTP client; nothing is sent.
    ///
    /// # Errors
    /// A base URL or a token that cannot be used, a host without usable TLS roots, or no transport at all.
    pub fn build(self) -> Result<Client, BuildError> {
        let base = BaseUrl::parse(&self.base_url).map_err(BuildError::Url)?;
        let mut headers = self.headers;
        let authority = HeaderValue::from_str(base.authority());
        headers.insert(HOST, authority.map_err(|error| BuildError::Http(error.into()))?);
        if let Some(token) = self.token {
            headers.insert(AUTHORIZATION, token.header().map_err(BuildError::Token)?);
        }
        let transport = match self.transport {
            Some(transport) => transport,
            #[cfg(feature = "reqwest")]
            None => transport::network(self.settings.connect_timeout)?,
            #[cfg(not(feature = "reqwest"))]
            None => return Err(BuildError::NoTransport),
        };
        Ok(Client { transport, base, headers, settings: self.settings })
    }
}

/// Without the base URL as given, which may hold what [`build`](ClientBuilder::build) refuses, and without the token.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn with_json<T: Serialize>(
    request: Request<Full<Bytes>>,
    body: &T,
) -> Result<Request<Full<Bytes>>, Error> {
    let body = serde_json::to_vec(body).map_err(|error| Error::Request(error.into()))?;
    let (mut head, _) = request.into_parts();
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Request::from_parts(head, Full::new(body.into())))
}

async fn whole(mut body: Body, limit: usize) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(Error::Broken)?.into_data() else {
            continue;
        };
        if whole.len() + chunk.len() > limit {
            return Err(Error::TooLarge(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}
