//! `/api/chat`: the routes that the transports of the AI SDK use, in its UI message stream.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use axum::routing::MethodFilter;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;
use turnkit_http::server::{ApiError, InPath, InQuery, json_response};
use turnkit_ui::request::{ChatRequest, Held, Message, Role, Trigger, WorkflowRun, cursor};
use turnkit_ui::{AiSdk, Encoded, Version, ui_message, ui_user_message};

use super::Answer;
use super::endpoint::{Caller, Endpoint};
use super::front_ends::{
    Asking, Conversation, EVENT_STREAM, Reply, Said, chunked, invalid, lines_of, pending_now,
    refused,
};
use super::wire::StoppedTurn;
use crate::store::{MessagePage, TurnRow};
use crate::{Chat, Principal, Refusal, TurnRef, TurnState, TurnStream};

pub(super) const VERSION: HeaderName = HeaderName::from_static("x-vercel-ai-ui-message-stream");
pub(super) const RUN_ID: HeaderName = HeaderName::from_static("x-workflow-run-id");
/// Turns of a conversation that is read at rest.
const TURNS: u32 = 200;

pub(super) fn endpoints() -> [Endpoint; 4] {
    [
        Endpoint::new(MethodFilter::POST, "/api/chat", send),
        Endpoint::new(MethodFilter::GET, "/api/chat/{chat}", conversation),
        Endpoint::new(MethodFilter::GET, "/api/chat/{chat}/stream", stream),
        Endpoint::new(MethodFilter::DELETE, "/api/chat/{chat}/stream", stop),
    ]
}

#[derive(Deserialize)]
struct Client {
    ai: Option<String>,
}

/// The release of the AI SDK that reads the response. Each knows other chunks, and an unknown one is fatal to it.
fn version(ai: Option<&str>) -> Result<Version, ApiError> {
    match ai {
        None => Ok(Version::default()),
        Some(number) => Version::parse(number).ok_or_else(|| invalid("ai must be 5, 6 or 7", "ai")),
    }
}

/// `POST /api/chat`: the turn that the last message is about, from its first chunk.
async fn send(
    Caller { chat, user: who }: Caller,
    InQuery(client): InQuery<Client>,
    Conversation(body): Conversation,
) -> Answer {
    let version = version(client.ai.as_deref())?;
    let request = ChatRequest::parse(&body).map_err(|error| refused(&error))?;
    let session = chat.open_named(&who, &request.id).await?;
    let asking = Asking { chat: &chat, who: &who, session: &session };
    let last = request.last();
    if last.role == Role::Assistant && request.trigger == Trigger::Submit {
        let row = asking.of_execution(&last.id).await?;
        let unknown = "the last message is no answer of this chat";
        let row = row.ok_or_else(|| invalid(unknown, "messages"))?;
        return answered(&asking, row, last, version).await;
    }
    let none = || invalid("there is no message of the user to answer", "messages");
    let message = request.last_user().ok_or_else(none)?;
    let said = Said {
        id: &message.id,
        client_id: &message.id,
        text: &message.text,
        agent: request.agent.as_deref(),
    };
    let stream = match request.trigger {
        Trigger::Submit => asking.send(&said).await?,
        Trigger::Regenerate => asking.answer_again(&said, request.message_id.as_deref()).await?,
    };
    Ok(response(&asking, stream, version, 0, Place::Start).await?)
}

/// The turn of an answer that its client goes on with. What the message brings, approvals and the outputs of a client's tools, is passed
/// on; then it is told behind the newest question that the message holds, or up to it where that waits still.
async fn answered(
    asking: &Asking<'_>,
    row: TurnRow,
    last: &Message<'_>,
    version: Version,
) -> Answer {
    let at = TurnRef::new(row.turn.session_id.clone(), row.turn.turn_id.clone());
    let approvals = last.approvals.iter().map(|approval| {
        let reply = Reply::Approval(approval.approved, approval.reason.as_deref());
        (Held::Interaction(approval.id.clone()), reply)
    });
    let outputs = last.tool_outputs.iter().map(|output| {
        let reply = match &output.output {
            Ok(json) => Reply::Data(Some(json)),
            Err(words) => Reply::Declined(Some(words).map(|words| &**words)),
        };
        (output.of.clone(), reply)
    });
    let replies: Vec<_> = approvals.chain(outputs).collect();
    asking.pass_on(&at, &replies).await?;
    let place = match &last.newest_question {
        Some(held) if !asking.waits(&at, held).await? => Place::Behind(held),
        _ => Place::Start,
    };
    let stream = asking.take_up(row.clone()).await?;
    match response(asking, stream, version, 0, place).await {
        // What the message holds is not in the log: it is told from its start.
        Err(NotFound) if !matches!(place, Place::Start) => {
            let stream = asking.take_up(row).await?;
            Ok(response(asking, stream, version, 0, Place::Start).await?)
        }
        response => Ok(response?),
    }
}

#[derive(Deserialize)]
struct StreamQuery {
    ai: Option<String>,
    #[serde(rename = "startIndex")]
    start_index: Option<String>,
    #[serde(rename = "messageId")]
    message_id: Option<String>,
}

/// `GET /api/chat/{id}/stream`: the open turn from its first chunk, or 204. With `startIndex` what follows so many chunks of the
/// newest turn, with `messageId` the turn that has this answer; neither is ever 204. In the place of the chat's id the id of a run
/// can stand.
async fn stream(
    Caller { chat, user: who }: Caller,
    InPath(name): InPath<String>,
    InQuery(query): InQuery<StreamQuery>,
) -> Answer {
    let version = version(query.ai.as_deref())?;
    let start = match query.start_index.as_deref() {
        None => None,
        Some(number) => {
            let wrong = "startIndex must be a whole number that is not negative";
            Some(cursor(number).ok_or_else(|| invalid(wrong, "startIndex"))?)
        }
    };
    let (row, behind) = if let Some(run) = WorkflowRun::parse(&name) {
        let id = run.execution_id.parse().map_err(|_| Refusal::NoTurn)?;
        (chat.of_execution(&who, id).await?, run.behind)
    } else {
        let row = match (chat.named(&who, &name).await?, query.message_id.as_deref()) {
            (None, _) => None,
            (Some(session), answer) => {
                let asking = Asking { chat: &chat, who: &who, session: &session };
                match answer {
                    Some(answer) => asking.of_execution(answer).await?,
                    None => newest(&asking, start.is_some()).await?,
                }
            }
        };
        match row {
            Some(row) => (row, 0),
            None if start.is_some() || query.message_id.is_some() => {
                return Err(Refusal::NoTurn.into());
            }
            None => return Ok(nothing()),
        }
    };
    let session = row.turn.session_id.clone();
    let asking = Asking { chat: &chat, who: &who, session: &session };
    let stream = asking.take_up(row).await?;
    let place = if behind > 0 { Place::Chunks(behind) } else { Place::Start };
    Ok(response(&asking, stream, version, start.unwrap_or(0), place).await?)
}

/// The session's open turn; where none is, the newest one if that is wanted as well.
pub(super) async fn newest(
    asking: &Asking<'_>,
    or_ended: bool,
) -> Result<Option<TurnRow>, Refusal> {
    let Asking { chat, who, session } = asking;
    let state = chat.session(who, session, MessagePage::newest(u32::from(or_ended))).await?;
    match (state.open, state.messages.last()) {
        (Some(open), _) => Ok(Some(open)),
        (None, Some(message)) => asking.named(&message.turn_id).await,
        (None, None) => Ok(None),
    }
}

/// `DELETE /api/chat/{id}/stream`: stops the open turn, and says how it ended; 204 where none is open.
async fn stop(Caller { chat, user }: Caller, InPath(name): InPath<String>) -> Answer {
    stop_open(&chat, &user, &name).await
}

/// Stops the open turn of the session of this name.
pub(super) async fn stop_open(chat: &Chat, who: &Principal, name: &str) -> Answer {
    let session = chat.named(who, name).await?.ok_or(Refusal::NoSession)?;
    let Some(open) = chat.session(who, &session, MessagePage::none()).await?.open else {
        return Ok(nothing());
    };
    let at = TurnRef::new(session, open.turn.turn_id);
    let stopped = chat.stop(who, &at).await?;
    let is_open = stopped.state == TurnState::Open;
    let status = if is_open { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(json_response(status, &StoppedTurn::new(&at.turn_id, &stopped)))
}

/// `GET /api/chat/{id}`: the conversation at rest, as `UIMessage[]`.
async fn conversation(
    Caller { chat, user: who }: Caller,
    InPath(name): InPath<String>,
    InQuery(client): InQuery<Client>,
) -> Answer {
    let version = version(client.ai.as_deref())?;
    let session = chat.named(&who, &name).await?.ok_or(Refusal::NoSession)?;
    let state = chat.session(&who, &session, MessagePage::newest(TURNS)).await?;
    let mut messages = Vec::with_capacity(state.messages.len());
    for message in &state.messages {
        messages.push(match message.role {
            crate::Role::User => ui_user_message(
                message.client_id.as_deref().unwrap_or(&message.turn_id),
                &message.text,
            ),
            crate::Role::Assistant => {
                let id = message.execution_id.as_str();
                let encoder = AiSdk::new(id).turn_id(&message.turn_id).version(version);
                ui_message(encoder, &lines_of(&who, &session, message))
            }
        });
    }
    let mut response = Response::new(Body::from(format!("[{}]", messages.join(","))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Where a response begins.
#[derive(Clone, Copy)]
enum Place<'a> {
    Start,
    /// Behind so many chunks of the turn.
    Chunks(u64),
    /// Behind a question.
    Behind(&'a Held<'a>),
}

/// The lines of the turn do not have the place at which the response was to begin.
struct NotFound;

impl From<NotFound> for ApiError {
    fn from(_: NotFound) -> ApiError {
        let message = "the turn cannot be read up to where it goes on";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).retry_after(PATIENCE)
    }
}

/// How long a question that a client has may take to be found: it is in the log already.
const PATIENCE: Duration = Duration::from_secs(5);

/// The chunks of a turn from this place, without the first `start` of them, up to its end or a question that waits.
async fn response(
    asking: &Asking<'_>,
    stream: TurnStream,
    version: Version,
    start: u64,
    place: Place<'_>,
) -> Result<Response, NotFound> {
    let execution_id = stream.execution_id.clone();
    let encoder = AiSdk::new(execution_id.as_str()).turn_id(&stream.turn_id).version(version);
    let at = TurnRef::new(asking.session.clone(), stream.turn_id.clone());
    let (head, body) = stream.into_response().into_parts();
    let chunks = Encoded::new(body, encoder).asking(pending_now(asking.chat, asking.who, at));
    let mut chunks = match place {
        Place::Start => chunks,
        Place::Chunks(behind) => chunks.behind_chunks(behind),
        Place::Behind(Held::Interaction(id)) => chunks.behind_question(id),
        Place::Behind(Held::Call(id)) => chunks.behind_call(id),
    }
    .after(start);
    let behind = match place {
        Place::Start => 0,
        Place::Chunks(behind) => behind,
        Place::Behind(_) => match timeout(PATIENCE, chunks.found()).await {
            Ok(Ok(behind)) => behind,
            Ok(Err(_)) | Err(_) => return Err(NotFound),
        },
    };
    let mut response = chunked(head, chunks, EVENT_STREAM);
    let run = WorkflowRun { execution_id: execution_id.as_str(), behind }.to_string();
    let headers = response.headers_mut();
    headers.insert(VERSION, HeaderValue::from_static("v1"));
    headers.extend(HeaderValue::from_str(&run).ok().map(|run| (RUN_ID, run)));
    Ok(response)
}

fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
