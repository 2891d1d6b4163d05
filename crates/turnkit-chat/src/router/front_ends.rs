//! What the routes of both front-end protocols share: bodies of requests, and which turn a message is.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use turnkit::TurnBody;
use turnkit_http::server::{ApiError, BodyLimits};
use turnkit_ui::request::{Held, MAX_BODY, RequestError, sibling_id, turn_id};
use turnkit_ui::{Encoded, Encoder};
use turnkit_wire::interaction::{Kind, Outcome};
use turnkit_wire::lifecycle::{self, RunStarted};
use turnkit_wire::{Event, ndjson};

use crate::chat::Lines;
use crate::store::TurnRow;
use crate::{
    Answer, Chat, Message, NewTurn, Principal, Refusal, SessionId, Started, TurnRef, TurnState,
    TurnStream,
};

/// What bodies of such requests may take in all of this process while they are read: a client sends its whole conversation.
const BUDGET: usize = 64 << 20;
/// How long a request waits for a turn that is queued.
const PATIENCE: Duration = Duration::from_secs(25);
/// How often it looks whether the turn has begun.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes of one of the budget's permits.
const PERMIT: usize = 1024;

static READING: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(BUDGET / PERMIT)));

/// The body of a request, at most 8 MiB, within the budget that all of them share.
pub(super) struct Conversation(pub(super) Bytes);

impl<S: Sync> FromRequest<S> for Conversation {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Conversation, ApiError> {
        let most = request.body().size_hint().upper().unwrap_or(u64::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(MAX_BODY);
        let permits = u32::try_from(most.div_ceil(PERMIT)).unwrap_or(u32::MAX);
        let full = |_| {
            let message = "this server reads as many conversations as it may at the moment";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
                .retry_after(Duration::from_secs(1))
        };
        let _reading = Arc::clone(&READING).try_acquire_many_owned(permits).map_err(full)?;
        let limits = BodyLimits { bytes: MAX_BODY, time: Duration::from_secs(30) };
        Ok(Conversation(limits.read(request).await?))
    }
}

/// 413 where a limit was passed, and 400 otherwise.
pub(super) fn refused(error: &RequestError) -> ApiError {
    let refused = match error.limit() {
        Some(limit) => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            ApiError::new(status, "payload_too_large", error.to_string()).with("limit", limit)
        }
        None => ApiError::invalid_request(error.to_string()),
    };
    match error.field() {
        Some(field) => refused.field(field),
        None => refused,
    }
}

/// A request that names something that the chat does not have.
pub(super) fn invalid(message: &'static str, field: &str) -> ApiError {
    ApiError::invalid_request(message).field(field)
}

/// A message of the user's, as a front end sends it.
pub(super) struct Said<'a> {
    /// What the front end calls the turn that it begins.
    pub(super) id: &'a str,
    /// The id that the front end gave the message.
    pub(super) client_id: &'a str,
    /// What is said.
    pub(super) text: &'a str,
    /// The agent that is asked for.
    pub(super) agent: Option<&'a str>,
}

impl Said<'_> {
    /// The turn that it begins, under this `turnId`.
    fn turn(&self, id: String, text: &str) -> NewTurn {
        let client_id = (id != self.client_id).then(|| self.client_id.to_owned());
        NewTurn { agent: self.agent.map(str::to_owned), client_id, ..NewTurn::new(id, text) }
    }
}

/// What is asked of a session.
pub(super) struct Asking<'a> {
    pub(super) chat: &'a Chat,
    pub(super) who: &'a Principal,
    pub(super) session: &'a SessionId,
}

impl Asking<'_> {
    /// A turn of the session, by the name that its client gave it.
    pub(super) async fn named(&self, turn_id: &str) -> Result<Option<TurnRow>, Refusal> {
        let at = TurnRef::new(self.session.clone(), turn_id);
        match self.chat.row(self.who, &at).await {
            Ok(row) => Ok(Some(row)),
            // One that is queued is known when it is sent again.
            Err(Refusal::NoTurn | Refusal::NoSession | Refusal::Queued) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// A turn of the session, by its execution.
    pub(super) async fn of_execution(&self, id: &str) -> Result<Option<TurnRow>, Refusal> {
        let Ok(id) = id.parse() else {
            return Ok(None);
        };
        match self.chat.of_execution(self.who, id).await {
            Ok(row) if row.turn.session_id == *self.session => Ok(Some(row)),
            Ok(_) | Err(Refusal::NoTurn) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// The live lines of a turn, from the first one.
    pub(super) async fn take_up(&self, row: TurnRow) -> Result<TurnStream, Refusal> {
        // An accepted turn that was never dispatched is started by a start alone; the sweep does that.
        self.chat.resume_row(row, Lines::Live).await
    }

    /// Starts the turn. One that went behind a queue that was paused is waited for: these clients know of no queue.
    async fn start(&self, turn: NewTurn) -> Result<TurnStream, Refusal> {
        let until = Instant::now() + PATIENCE;
        loop {
            let started = self.chat.start_from(self.who, self.session, turn.clone(), Lines::Live);
            match started.await? {
                Started::Queued(_) if Instant::now() < until => sleep(LOOK).await,
                started => return started.stream(),
            }
        }
    }

    /// The turn of a message: the one that it began, where its newest sibling has the same text; else an edit of that; else a
    /// new one.
    pub(super) async fn send(&self, said: &Said<'_>) -> Result<TurnStream, Refusal> {
        let first = turn_id(said.id).into_owned();
        let Some(known) = self.named(&first).await? else {
            return self.start(said.turn(first, said.text)).await;
        };
        let siblings = self.siblings(&known).await?;
        if siblings.newest.turn.message == said.text {
            return self.take_up(siblings.newest).await;
        }
        let edit = said.turn(sibling_id(&first, siblings.count), said.text);
        self.start(edit.replaces(known.turn.turn_id)).await
    }

    /// Another answer to a message. While the newest one is open, and where an older one is named, as by a request that is sent
    /// again, it is the newest.
    pub(super) async fn answer_again(
        &self,
        said: &Said<'_>,
        answer: Option<&str>,
    ) -> Result<TurnStream, Refusal> {
        let first = turn_id(said.id).into_owned();
        let named = match answer {
            Some(answer) => self.of_execution(answer).await?,
            None => None,
        };
        let known = match named {
            Some(row) => Some(row),
            None => self.named(&first).await?,
        };
        let Some(known) = known else {
            return self.start(said.turn(first, said.text)).await;
        };
        let siblings = self.siblings(&known).await?;
        let is_older = answer.is_some() && siblings.newest.turn.turn_id != known.turn.turn_id;
        if siblings.newest.state == TurnState::Open || is_older {
            return self.take_up(siblings.newest).await;
        }
        let again = said.turn(sibling_id(&first, siblings.count), &known.turn.message);
        self.start(again.replaces(known.turn.turn_id)).await
    }

    async fn siblings(&self, row: &TurnRow) -> Result<crate::store::Siblings, Refusal> {
        let at = TurnRef::new(self.session.clone(), row.turn.turn_id.clone());
        self.chat.siblings(self.who, &at).await
    }
}

/// What a front end answers to a question.
pub(super) enum Reply<'a> {
    /// An approval, or what is said beside a no.
    Approval(bool, Option<&'a str>),
    /// The data of an answer, or the output of a tool that a client ran, as JSON. None where nothing more is said than that it is
    /// answered.
    Data(Option<&'a str>),
    /// The output of a tool that a client ran, as the text of a message: JSON where it is some, and a string otherwise.
    Text(&'a str),
    /// It went wrong with these words, or nobody wants to.
    Declined(Option<&'a str>),
    /// Nobody answers it.
    Cancelled,
}

/// A question that is pending, as far as an answer depends on it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    id: String,
    kind: String,
    call_id: Option<String>,
    options: Option<IgnoredAny>,
    schema: Option<IgnoredAny>,
}

impl Asked {
    fn is(&self, held: &Held<'_>) -> bool {
        match held {
            Held::Interaction(id) => self.id == *id,
            Held::Call(call) => {
                self.kind == Kind::Tool.as_str() && self.call_id.as_deref() == Some(&**call)
            }
        }
    }

    /// What the agent is told. An approval that is answered by data is one only where the data say so, as front ends do: whatever else
    /// they say is a no.
    fn told(&self, reply: &Reply<'_>) -> (Outcome, Option<String>) {
        let words = |words: &str| Value::from(words).to_string();
        let data: Option<Cow<'_, str>> = match reply {
            Reply::Approval(true, _) => return (Outcome::Accepted, None),
            Reply::Approval(false, why) | Reply::Declined(why) => {
                return (Outcome::Declined, why.map(words));
            }
            Reply::Cancelled => return (Outcome::Cancelled, None),
            Reply::Data(json) => json.map(Cow::Borrowed),
            Reply::Text(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
                Some(Cow::Borrowed(*text))
            }
            Reply::Text(text) => Some(Cow::Owned(words(text))),
        };
        let data = data.as_deref();
        let said: Value = data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        let option = |id: &Value| Some(serde_json::json!({ "option": id }).to_string());
        match &said {
            // The id of an option stands for the choice.
            Value::String(_) if self.options.is_some() => (Outcome::Accepted, option(&said)),
            _ if self.kind != Kind::Approval.as_str() => {
                (Outcome::Accepted, data.map(str::to_owned))
            }
            Value::Null => (Outcome::Accepted, None),
            Value::Bool(is_approved) => (outcome_of(*is_approved), None),
            Value::Object(members) => {
                let says_no =
                    members.get("approved").is_some_and(|said| *said != Value::Bool(true))
                        || members.get("outcome").is_some_and(|said| said != "accepted");
                let wants_data = self.options.is_some() || self.schema.is_some();
                match members.get("data").filter(|_| members.contains_key("outcome")) {
                    _ if says_no => (Outcome::Declined, None),
                    Some(data) => (Outcome::Accepted, Some(data.to_string())),
                    None if wants_data && !members.contains_key("approved") => {
                        (Outcome::Accepted, data.map(str::to_owned))
                    }
                    None => (Outcome::Accepted, None),
                }
            }
            Value::String(word) => {
                let yes = ["yes", "ok", "true", "approve", "approved", "accept", "accepted"];
                (outcome_of(yes.contains(&&*word.to_ascii_lowercase())), None)
            }
            Value::Number(_) | Value::Array(_) => (Outcome::Declined, None),
        }
    }
}

fn outcome_of(is_approved: bool) -> Outcome {
    if is_approved { Outcome::Accepted } else { Outcome::Declined }
}

impl Asking<'_> {
    /// Passes on what a front end answers to the questions of a turn, each alone. What is answered already, gone or unknown stops
    /// nothing: the turn goes on, and says what came of it.
    pub(super) async fn pass_on(
        &self,
        at: &TurnRef,
        replies: &[(Held<'_>, Reply<'_>)],
    ) -> Result<(), Refusal> {
        if replies.is_empty() {
            return Ok(());
        }
        let pending = self.pending(at).await?;
        let mut refused = Ok(());
        for (held, reply) in replies {
            let Some(asked) = pending.iter().find(|asked| asked.is(held)) else { continue };
            let (outcome, data) = asked.told(reply);
            let told = self.chat.answer(self.who, at, &asked.id, outcome, data.as_deref()).await;
            match told {
                Ok(())
                | Err(
                    Refusal::OtherAnswer { .. } | Refusal::InteractionGone | Refusal::NoInteraction,
                ) => {}
                Err(refusal) => refused = refused.and(Err(refusal)),
            }
        }
        refused
    }

    /// Whether the question that a client holds waits for its answer.
    pub(super) async fn waits(&self, at: &TurnRef, held: &Held<'_>) -> Result<bool, Refusal> {
        Ok(self.pending(at).await?.iter().any(|asked| asked.is(held)))
    }

    async fn pending(&self, at: &TurnRef) -> Result<Vec<Asked>, Refusal> {
        let pending = self.chat.pending(self.who, at).await?;
        Ok(pending.questions.iter().filter_map(|json| serde_json::from_str(json).ok()).collect())
    }
}

/// Says of the questions of a turn whether they are pending now: a response ends at one that is.
pub(super) fn pending_now(
    chat: &Chat,
    who: &Principal,
    at: TurnRef,
) -> impl FnMut(&str) -> BoxFuture<'static, bool> + Send + use<> {
    let asker = Arc::new((chat.clone(), who.clone(), at));
    move |id| {
        let (asker, held) = (Arc::clone(&asker), Held::Interaction(Cow::Owned(id.to_owned())));
        Box::pin(async move {
            let (chat, who, at) = &*asker;
            let asking = Asking { chat, who, session: &at.session_id };
            loop {
                match asking.waits(at, &held).await {
                    Ok(waits) => return waits,
                    // The turn's own lines come from there too: it is waited for.
                    Err(Refusal::Substrate(_) | Refusal::Busy { .. }) => sleep(LOOK).await,
                    // Of a turn that is gone nothing waits.
                    Err(_) => return false,
                }
            }
        })
    }
}

/// The response with these chunks.
pub(super) fn chunked<E: Encoder + Unpin + Send + 'static>(
    head: http::response::Parts,
    chunks: Encoded<TurnBody, E>,
    content_type: &'static str,
) -> Response {
    let mut response = Response::from_parts(head, Body::new(chunks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// `text/event-stream`, as both protocols have it.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Chunks as lines, for TanStack AI.
pub(super) const LINES: &str = ndjson::CONTENT_TYPE;

/// A header's text, where the header is there and visible ASCII.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The lines that would tell an answer at rest as it was told live, so that a client holds the same.
pub(super) fn lines_of(who: &Principal, session: &SessionId, message: &Message) -> Vec<Event> {
    let answer = Answer::of_parts(
        message.text.as_str(),
        Arc::clone(&message.parts),
        message.summary.clone(),
    );
    let is_whole = message.state == TurnState::Complete;
    let started = RunStarted {
        session_id: session.as_str(),
        tenant_id: &who.tenant_id,
        turn_index: message.turn_index,
        execution_id: message.execution_id.as_str(),
        turn_id: Some(&message.turn_id),
        replayed: false,
    };
    let mut lines = vec![started.event()];
    lines.extend(answer.parts.iter().map(crate::AnswerPart::event));
    lines.push(answer.summary.event(is_whole.then_some(&*answer.text)));
    if is_whole {
        lines.push(lifecycle::run_completed(session.as_str(), None, false));
    } else {
        let failure = message.failure.as_ref();
        let reason = failure.map_or("the turn failed", |failure| &failure.message);
        let code = failure.and_then(|failure| failure.code.as_deref());
        lines.push(lifecycle::error(reason, code));
        // What fails otherwise is retried (PROTOCOL 2.4), and ends no turn.
        let phase = Some("produce");
        lines.push(lifecycle::run_failed(session.as_str(), reason, false, false, code, phase));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_a_yes_only_where_that_is_said() {
        let asked = |more: &str| -> Asked {
            serde_json::from_str(&format!(r#"{{"id":"q","kind":"approval"{more}}}"#)).unwrap()
        };
        let told = |more, data| asked(more).told(&Reply::Data(data));
        let (yes, no) = ((Outcome::Accepted, None), (Outcome::Declined, None));
        for said in
            [None, Some("null"), Some("true"), Some(r#"{"approved":true}"#), Some(r#""yes""#)]
        {
            assert_eq!(told("", said), yes, "{said:?}");
        }
        let words =
            [r#"{"approved":false}"#, r#"{"approved":"true"}"#, r#"{"outcome":"declined"}"#];
        for said in ["false", "0", "[]", r#""no""#, r#""never mind""#].into_iter().chain(words) {
            assert_eq!(told("", Some(said)), no, "{said}");
        }
        let options = r#","options":[{"id":"a","label":"A"}]"#;
        let chosen = (Outcome::Accepted, Some(r#"{"option":"a"}"#.to_owned()));
        for said in
            [r#""a""#, r#"{"option":"a"}"#, r#"{"outcome":"accepted","data":{"option":"a"}}"#]
        {
            assert_eq!(told(options, Some(said)), chosen, "{said}");
        }
        assert_eq!(told(options, Some(r#"{"approved":true}"#)), yes);
        let why = asked("").told(&Reply::Approval(false, Some("too \"late\"")));
        assert_eq!(why, (Outcome::Declined, Some(r#""too \"late\"""#.to_owned())));
    }

    #[test]
    fn the_output_of_a_tool_is_the_answer_as_it_is() {
        let tool: Asked = serde_json::from_str(r#"{"id":"q","kind":"tool","callId":"c"}"#).unwrap();
        assert!(tool.is(&Held::Call("c".into())) && !tool.is(&Held::Call("q".into())));
        for (reply, data) in [
            (Reply::Data(Some("false")), "false"),
            (Reply::Text("[1]"), "[1]"),
            (Reply::Text("Graz, I think"), r#""Graz, I think""#),
        ] {
            assert_eq!(tool.told(&reply), (Outcome::Accepted, Some(data.to_owned())));
        }
        let failed = tool.told(&Reply::Declined(Some("no signal")));
        assert_eq!(failed, (Outcome::Declined, Some(r#""no signal""#.to_owned())));
        assert_eq!(tool.told(&Reply::Cancelled), (Outcome::Cancelled, None));
    }
}
