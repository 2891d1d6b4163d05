//! A chat's calls over HTTP, for axum (PROTOCOL 4.2).

mod ag_ui;
mod ai_sdk;
mod endpoint;
mod event_source;
mod feed;
mod front_ends;
#[cfg(test)]
mod openapi;
mod wire;

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get};
use axum::{Extension, Router, middleware};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use turnkit_http::server::{
    ApiError, BodyLimits, Hosts, InBody, InPath, InQuery, Nothing, Origins, guard, json_response,
};

use self::endpoint::{Caller, Endpoint};
use self::wire::{
    Agents, AnswerTaken, InputAccepted, Me, Messages, OpenTurns, Opened, Queued, Session,
    SessionList, SessionWhole, StoppedTurn, Waiting, WaitingTurn,
};
use crate::chat::X_TURN_ID;
use crate::store::{MessagePage, Outcome, SessionPage, SessionState, SessionUpdate};
use crate::{
    Chat, NewTurn, Principal, QueuedTurn, Refusal, SessionId, Started, TurnRef, TurnState,
    TurnStream,
};

/// How large a request may be. A message reaches the substrate in a body of at most 1 MiB (PROTOCOL 3.2).
pub(crate) const LIMITS: BodyLimits =
    BodyLimits { bytes: 512 * 1024, time: Duration::from_secs(30) };
/// Entries of a page where the request does not say, and at most.
const MAX_LIMIT: u32 = 200;

impl Chat {
    /// The routes under `/api` that a page, `turnkit chat` and any other client of PROTOCOL 4.2 use, and those of front ends that people
    /// have: `/api/chat` for the AI SDK, `/api/ag-ui` for AG-UI 1.0. `U` is whoever the
    /// product's own extractor says a request is made for; what it rejects is answered by its rejection.
    ///
    /// Bodies are bounded, and a request from a page of another origin than the `Host` that it names is refused, so that no
    /// other site acts for a user whose login is a cookie. Which hosts are the product's own is not known here: see
    /// [`Hosts`](turnkit_http::server::Hosts) for servers on loopback.
    pub fn router<S, U>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
        U: FromRequestParts<S> + Into<Principal> + Send + 'static,
    {
        self.router_for::<S, U>(&Origins::default())
    }

    /// [`router`](Self::router), which pages of these other origins may use as well, with credentials (CORS).
    pub fn router_for<S, U>(&self, origins: &Origins) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
        U: FromRequestParts<S> + Into<Principal> + Send + 'static,
    {
        self.routes::<S, U>(false, origins)
    }

    /// [`router_for`](Self::router_for), whose `/api/me` says whether users sign in with tokens.
    pub(crate) fn routes<S, U>(&self, signs_in: bool, origins: &Origins) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
        U: FromRequestParts<S> + Into<Principal> + Send + 'static,
    {
        let routes = endpoints(signs_in)
            .into_iter()
            .chain(ai_sdk::endpoints())
            .chain(ag_ui::endpoints())
            .fold(Router::new(), |router, endpoint| endpoint.add_to::<S, U>(router, self))
            .route("/api/openapi.json", get(async || openapi_document()))
            .route_layer(Extension(LIMITS))
            .route_layer(middleware::from_fn_with_state(Hosts::any().allowing(origins), guard));
        if origins.is_empty() {
            return routes;
        }
        // A browser's preflight comes to the fallback of a route. One that the host sets for its whole router takes the place of
        // axum's own, and of the layers around that: not of ours.
        routes
            .method_not_allowed_fallback(async || ApiError::method_not_allowed())
            .layer(origins.layer(EXPOSED))
    }
}

/// What pages of other origins may read of an answer's head.
const EXPOSED: [HeaderName; 5] = [
    X_TURN_ID,
    HeaderName::from_static("x-execution-id"),
    ai_sdk::RUN_ID,
    ai_sdk::VERSION,
    RETRY_AFTER,
];

/// The one user `local` of the tenant `local`: for products whose host checks that only this machine reaches them.
#[derive(Clone, Copy, Debug)]
pub struct LocalUser;

impl From<LocalUser> for Principal {
    fn from(_: LocalUser) -> Principal {
        Principal::new("local", "local")
    }
}

impl<S: Sync> FromRequestParts<S> for LocalUser {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<LocalUser, Infallible> {
        Ok(LocalUser)
    }
}

type Answer = Result<Response, ApiError>;

fn endpoints(signs_in: bool) -> Vec<Endpoint> {
    use MethodFilter as Method;
    let one_session = "/api/sessions/{session}";
    let turns = "/api/sessions/{session}/turns";
    let turn = "/api/sessions/{session}/turns/{turn}";
    let interaction = "/api/sessions/{session}/turns/{turn}/interactions/{interaction}";
    vec![
        Endpoint::new(Method::GET, "/api/me", async move |caller| me(&caller, signs_in)),
        Endpoint::new(Method::DELETE, "/api/me", delete_user),
        Endpoint::new(Method::GET, "/api/agents", agents),
        Endpoint::new(Method::GET, "/api/events", feed::events),
        Endpoint::new(Method::GET, "/api/sessions", sessions),
        Endpoint::new(Method::POST, "/api/sessions", open_session),
        Endpoint::new(Method::GET, one_session, session),
        Endpoint::new(Method::PATCH, one_session, update_session),
        Endpoint::new(Method::DELETE, one_session, delete_session),
        Endpoint::new(Method::GET, "/api/sessions/{session}/events", feed::of_session),
        Endpoint::new(Method::GET, "/api/sessions/{session}/messages", messages),
        Endpoint::new(Method::GET, turns, unfinished),
        Endpoint::new(Method::POST, turns, start),
        Endpoint::new(Method::GET, turn, resume),
        Endpoint::new(Method::PATCH, turn, edit),
        Endpoint::new(Method::DELETE, turn, remove),
        Endpoint::new(Method::POST, "/api/sessions/{session}/turns/{turn}/cancel", cancel),
        Endpoint::new(Method::POST, interaction, answer),
        Endpoint::new(Method::POST, "/api/sessions/{session}/turns/{turn}/input", input),
    ]
}

/// `GET /api/me`: who asks, and whether users sign in here.
fn me(caller: &Caller, sign_in: bool) -> Response {
    let Principal { tenant_id, user_id, .. } = &caller.user;
    let me = Me { tenant_id, user_id, sign_in };
    json_response(StatusCode::OK, &me)
}

/// `GET /api/openapi.json`: these routes for clients' authors and their tools.
fn openapi_document() -> Response {
    ([(CONTENT_TYPE, "application/json")], include_str!("../openapi.json")).into_response()
}

/// `GET /api/agents`: what a turn may be answered by, and who answers where none is named.
async fn agents(Caller { chat, .. }: Caller) -> Answer {
    Ok(json_response(StatusCode::OK, &Agents::from(chat.agents().await?)))
}

/// `POST /api/sessions`: 201 with the id of a new session.
async fn open_session(Caller { chat, user }: Caller, _: Nothing) -> Answer {
    let session_id = chat.open_session(&user).await?;
    Ok(json_response(StatusCode::CREATED, &Opened { session_id: session_id.as_str() }))
}

/// `DELETE /api/sessions/{session}`: nothing of it stays.
async fn delete_session(Caller { chat, user }: Caller, InPath(session): InPath<String>) -> Answer {
    chat.delete_session(&user, &SessionId::new(session)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE /api/me`: nothing of the user's sessions stays.
async fn delete_user(Caller { chat, user }: Caller) -> Answer {
    chat.delete_user(&user).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "SessionUpdate"))]
struct SessionChanged {
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    title: Option<Value>,
    #[cfg_attr(test, schemars(with = "Option<bool>"))]
    archived: Option<Value>,
}

/// `PATCH /api/sessions/{session}`: what it is called, and whether it is archived. 200 with the session as lists have it.
async fn update_session(
    Caller { chat, user }: Caller,
    InPath(session): InPath<String>,
    InBody(changed): InBody<SessionChanged>,
) -> Answer {
    let update = SessionUpdate {
        title: text(changed.title, "title")?,
        archived: flag(changed.archived.as_ref(), "archived")?,
    };
    let info = chat.update_session(&user, &SessionId::new(session), update).await?;
    Ok(json_response(StatusCode::OK, &Session::from(info)))
}

#[derive(Deserialize)]
struct SessionsQuery {
    before: Option<String>,
    limit: Option<String>,
    archived: Option<String>,
}

/// `GET /api/sessions?before=ID&limit=N&archived=WHICH`: the user's sessions, the newest first; without archived ones where the request
/// does not ask for them.
async fn sessions(Caller { chat, user }: Caller, InQuery(query): InQuery<SessionsQuery>) -> Answer {
    let before = query.before.map(SessionId::new);
    let archived = match query.archived.as_deref() {
        None | Some("false") => Some(false),
        Some("true") => Some(true),
        Some("any") => None,
        Some(_) => {
            let message = "archived must be true, false or any";
            return Err(ApiError::invalid_request(message).field("archived"));
        }
    };
    let limit = limit("limit", query.limit.as_deref())?;
    let list = chat.sessions(&user, SessionPage { before, limit, archived }).await?;
    Ok(json_response(StatusCode::OK, &SessionList::from(list)))
}

#[derive(Deserialize)]
struct MessagesQuery {
    before: Option<String>,
    turns: Option<String>,
    branch: Option<String>,
}

impl MessagesQuery {
    /// The session as the query asks for it.
    async fn read(
        self,
        chat: &Chat,
        user: &Principal,
        id: &SessionId,
    ) -> Result<SessionState, ApiError> {
        let page = MessagePage {
            before: number("before", self.before.as_deref())?,
            turns: limit("turns", self.turns.as_deref())?,
            branch: match self.branch {
                Some(turn_id) => {
                    Some(chat.turn(user, &TurnRef::new(id.clone(), turn_id)).await?.index)
                }
                None => None,
            },
        };
        Ok(chat.session(user, id, page).await?)
    }
}

/// `GET …/{session}?before=TURN_INDEX&turns=N`: messages and the open turn, of one moment.
async fn session(
    Caller { chat, user }: Caller,
    InPath(session): InPath<String>,
    InQuery(query): InQuery<MessagesQuery>,
) -> Answer {
    let state = query.read(&chat, &user, &SessionId::new(session)).await?;
    let open = OpenTurns::of(&chat, &state).await;
    Ok(json_response(StatusCode::OK, &SessionWhole::new(open, state)))
}

/// `GET …/messages?before=TURN_INDEX&turns=N`: what was said, the oldest first, of the newest turns.
async fn messages(
    Caller { chat, user }: Caller,
    InPath(session): InPath<String>,
    InQuery(query): InQuery<MessagesQuery>,
) -> Answer {
    let state = query.read(&chat, &user, &SessionId::new(session)).await?;
    let open = OpenTurns::of(&chat, &state).await;
    Ok(json_response(StatusCode::OK, &Messages::new(open, state)))
}

#[derive(Deserialize)]
struct TurnsQuery {
    state: Option<String>,
}

/// `GET …/turns?state=open`: how a page that was reloaded finds its turn. `?state=queued`: the turns that wait.
async fn unfinished(
    Caller { chat, user }: Caller,
    InPath(session): InPath<String>,
    InQuery(query): InQuery<TurnsQuery>,
) -> Answer {
    let is_queue = match query.state.as_deref() {
        Some("open") => false,
        Some("queued") => true,
        _ => {
            let message = "the query must be state=open or state=queued: for turns that have ended see messages";
            return Err(ApiError::invalid_request(message).field("state"));
        }
    };
    let state = chat.session(&user, &SessionId::new(session), MessagePage::none()).await?;
    Ok(if is_queue {
        json_response(StatusCode::OK, &Waiting::from(state.queue))
    } else {
        json_response(StatusCode::OK, &OpenTurns::of(&chat, &state).await)
    })
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "NewTurn"))]
#[serde(rename_all = "camelCase")]
struct TurnAsked {
    #[cfg_attr(test, schemars(with = "String"))]
    turn_id: Option<Value>,
    #[cfg_attr(test, schemars(with = "String"))]
    message: Option<Value>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    agent: Option<Value>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    after: Option<Value>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    replaces: Option<Value>,
    #[cfg_attr(test, schemars(with = "Option<bool>"))]
    queue: Option<Value>,
}

/// `POST …/turns`: starts a turn, or takes up the one that has this `turnId`, from its first event; 202 where it has to wait.
async fn start(
    Caller { chat, user }: Caller,
    InPath(session): InPath<String>,
    InBody(asked): InBody<TurnAsked>,
) -> Answer {
    let turn = NewTurn {
        turn_id: required(asked.turn_id, "turnId")?,
        message: required(asked.message, "message")?,
        agent: text(asked.agent, "agent")?,
        after: text(asked.after, "after")?,
        replaces: text(asked.replaces, "replaces")?,
        client_id: None,
        queue: flag(asked.queue.as_ref(), "queue")?.unwrap_or(false),
    };
    Ok(chat.start(&user, &SessionId::new(session), turn).await?.into_response())
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "TurnEdit"))]
struct TurnEdited {
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    message: Option<Value>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    agent: Option<Value>,
}

/// `PATCH …/turns/{turnId}`: edits a turn that is queued.
async fn edit(
    Caller { chat, user }: Caller,
    InPath((session, turn_id)): InPath<(String, String)>,
    InBody(edited): InBody<TurnEdited>,
) -> Answer {
    let at = TurnRef::new(SessionId::new(session), turn_id);
    let (message, agent) = (text(edited.message, "message")?, text(edited.agent, "agent")?);
    let queued = chat.edit_queued(&user, &at, message, agent).await?;
    Ok(json_response(StatusCode::OK, &WaitingTurn::from(queued)))
}

/// `DELETE …/turns/{turnId}`: removes a turn that is queued. 204, as often as one asks.
async fn remove(
    Caller { chat, user }: Caller,
    InPath((session, turn_id)): InPath<(String, String)>,
) -> Answer {
    let at = TurnRef::new(SessionId::new(session), turn_id);
    chat.remove_queued(&user, &at).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct ResumeQuery {
    after: Option<String>,
}

/// `GET …/turns/{turnId}?after=N`: the turn's body after its first N events, as Server-Sent Events where these are asked for. Never
/// starts anything.
async fn resume(
    Caller { chat, user }: Caller,
    InPath((session, turn_id)): InPath<(String, String)>,
    InQuery(query): InQuery<ResumeQuery>,
    headers: HeaderMap,
) -> Answer {
    let after = number("after", query.after.as_deref())?.unwrap_or(0);
    let at = TurnRef::new(SessionId::new(session), turn_id);
    match event_source::place(&headers, after)? {
        None => Ok(chat.resume(&user, &at, after).await?.into_response()),
        Some(event_source::Place::After(after)) => match chat.resume(&user, &at, after).await? {
            Started::Stream(stream) => Ok(event_source::response(stream, after)),
            queued @ Started::Queued(_) => Ok(queued.into_response()),
        },
        Some(event_source::Place::Ended) => {
            chat.turn(&user, &at).await?;
            Ok(event_source::ended())
        }
    }
}

/// `POST …/turns/{turnId}/cancel`: stops the turn. 200 with the state in which it ended, as often as one asks; 202 where the
/// end is still to come.
async fn cancel(
    Caller { chat, user }: Caller,
    InPath((session, turn_id)): InPath<(String, String)>,
    _: Nothing,
) -> Answer {
    let at = TurnRef::new(SessionId::new(session), turn_id);
    let stopped = chat.stop(&user, &at).await?;
    let is_open = stopped.state == TurnState::Open;
    let status = if is_open { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(json_response(status, &StoppedTurn::new(&at.turn_id, &stopped)))
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Answer"))]
struct AnswerGiven {
    #[cfg_attr(test, schemars(with = "String"))]
    outcome: Option<Value>,
    #[cfg_attr(test, schemars(with = "Option<Value>"))]
    data: Option<Box<RawValue>>,
}

/// `POST …/turns/{turnId}/interactions/{id}`: answers a question of the turn's agent. 200 once the answer is in the log, and for the same
/// one again.
async fn answer(
    Caller { chat, user }: Caller,
    InPath((session, turn_id, interaction)): InPath<(String, String, String)>,
    InBody(given): InBody<AnswerGiven>,
) -> Answer {
    let at = TurnRef::new(SessionId::new(session), turn_id);
    let outcome = required(given.outcome, "outcome")?;
    let outcome = Outcome::parse(&outcome).filter(|outcome| outcome.is_answer());
    let must = "outcome must be accepted, declined or cancelled";
    let outcome = outcome.ok_or_else(|| ApiError::invalid_request(must).field("outcome"))?;
    let data = given.data.as_deref().map(RawValue::get);
    chat.answer(&user, &at, &interaction, outcome, data).await?;
    Ok(json_response(StatusCode::OK, &AnswerTaken::new(outcome)))
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Input"))]
struct InputGiven {
    #[cfg_attr(test, schemars(with = "String"))]
    id: Option<Value>,
    #[cfg_attr(test, schemars(with = "String"))]
    message: Option<Value>,
}

/// `POST …/turns/{turnId}/input`: puts a message into the running turn. 202 once it is in the log, and for the same one again.
async fn input(
    Caller { chat, user }: Caller,
    InPath((session, turn_id)): InPath<(String, String)>,
    InBody(given): InBody<InputGiven>,
) -> Answer {
    let at = TurnRef::new(SessionId::new(session), turn_id);
    let (id, message) = (required(given.id, "id")?, required(given.message, "message")?);
    chat.input(&user, &at, &id, &message).await?;
    Ok(json_response(StatusCode::ACCEPTED, &InputAccepted::new(&id)))
}

impl IntoResponse for TurnStream {
    fn into_response(self) -> Response {
        TurnStream::into_response(self).map(Body::new)
    }
}

/// The turn's body, or 202 with its place in the queue.
impl IntoResponse for Started {
    fn into_response(self) -> Response {
        match self {
            Started::Stream(stream) => IntoResponse::into_response(stream),
            Started::Queued(queued) => queued_response(&queued),
        }
    }
}

fn queued_response(queued: &QueuedTurn) -> Response {
    let mut response = json_response(StatusCode::ACCEPTED, &Queued::from(queued));
    // It is 1 to 160 of `A-Za-z0-9:_-`.
    let id = HeaderValue::from_str(&queued.turn_id);
    response.headers_mut().extend(id.ok().map(|id| (X_TURN_ID, id)));
    response
}

/// The answer that says so, with `turnId`, `limit` or `field` where there is one (PROTOCOL 4.2).
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let (status, code, message) =
            (refusal.status(), refusal.code().to_owned(), refusal.to_string());
        if matches!(refusal, Refusal::Store(_) | Refusal::Substrate(_) | Refusal::Broke) {
            let error = &refusal as &dyn std::error::Error;
            tracing::error!(error, "failed to answer a request");
        }
        let error = ApiError::new(status, code, message);
        let error = match refusal.retry_after() {
            Some(after) => error.retry_after(after),
            None => error,
        };
        match refusal {
            Refusal::Running { turn_id } => error.with("turnId", turn_id),
            Refusal::TooMany { limit }
            | Refusal::QueueFull { limit }
            | Refusal::TooManyWishes { limit: Some(limit) } => error.with("limit", limit),
            Refusal::NoAgent => error.field("agent"),
            Refusal::OtherAnswer { outcome: Some(outcome) } => {
                error.with("outcome", outcome.as_str())
            }
            Refusal::InvalidAnswer { field: Some(field), .. } => error.field(&field),
            _ => error,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        ApiError::from(self).into_response()
    }
}

/// A member that must be there, and text.
pub(crate) fn required(member: Option<Value>, name: &str) -> Result<String, ApiError> {
    let missing = || ApiError::invalid_request(format!("{name} is missing")).field(name);
    text(member, name)?.ok_or_else(missing)
}

/// A member that is text where it is there.
fn text(member: Option<Value>, name: &str) -> Result<Option<String>, ApiError> {
    match member {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid_request(format!("{name} must be a string")).field(name)),
    }
}

/// A member that is true or false where it is there.
fn flag(member: Option<&Value>, name: &str) -> Result<Option<bool>, ApiError> {
    match member {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => {
            let message = format!("{name} must be true or false");
            Err(ApiError::invalid_request(message).field(name))
        }
    }
}

/// How many entries a page may have, as the query's member `name` says.
fn limit(name: &str, asked: Option<&str>) -> Result<u32, ApiError> {
    if let limit @ 1..=MAX_LIMIT = number(name, asked)?.unwrap_or(MAX_LIMIT) {
        Ok(limit)
    } else {
        let message = format!("{name} must be a number from 1 to {MAX_LIMIT}");
        Err(ApiError::invalid_request(message).field(name).with("limit", MAX_LIMIT))
    }
}

/// The number that the query's member `name` holds: digits, and one way to write each number.
fn number<N: FromStr>(name: &str, text: Option<&str>) -> Result<Option<N>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_plain && (text == "0" || !text.starts_with('0')) => Ok(Some(number)),
        _ => {
            let message = format!("{name} must be a whole number, without sign or leading zeros");
            Err(ApiError::invalid_request(message).field(name))
        }
    }
}
