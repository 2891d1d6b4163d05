//! `/api/ag-ui`: AG-UI 1.0, as `HttpAgent` and TanStack AI speak it.

use std::borrow::Cow;

use axum::response::Response;
use axum::routing::MethodFilter;
use http::header::{ACCEPT, HeaderName};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use turnkit_http::server::{ApiError, InPath, InQuery, json_response};
use turnkit_ui::request::{Held, ResumeStatus, RunAgentInput, cursor, turn_id};
use turnkit_ui::{
    AgUi, Encoded, ag_ui_interrupt, ag_ui_messages, ag_ui_user_message, messages_snapshot,
    tanstack_messages, tanstack_user_message,
};

use super::Answer;
use super::ai_sdk::{newest, stop_open};
use super::endpoint::{Caller, Endpoint};
use super::front_ends::{
    Asking, Conversation, EVENT_STREAM, LINES, Reply, Said, chunked, header, invalid, lines_of,
    pending_now, refused,
};
use crate::store::MessagePage;
use crate::{Message, Principal, Refusal, Role, SessionId, TurnRef, TurnStream};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const RUN_ID: HeaderName = HeaderName::from_static("x-run-id");
/// Turns of a thread that is read at rest.
const TURNS: u32 = 200;

pub(super) fn endpoints() -> [Endpoint; 3] {
    [
        Endpoint::new(MethodFilter::GET, "/api/ag-ui", read),
        Endpoint::new(MethodFilter::POST, "/api/ag-ui", run),
        Endpoint::new(MethodFilter::DELETE, "/api/ag-ui/{thread}/stream", stop),
    ]
}

/// How many chunks a client says it has.
fn last_event_id(headers: &HeaderMap) -> Result<u64, ApiError> {
    let Some(id) = header(headers, &LAST_EVENT_ID).filter(|id| !id.is_empty()) else {
        return Ok(0);
    };
    cursor(id).ok_or_else(|| invalid("Last-Event-ID is no number of a chunk", "Last-Event-ID"))
}

/// `POST /api/ag-ui`: a run. The same `runId` takes it up, after the chunk that `Last-Event-ID` names.
async fn run(
    Caller { chat, user: who }: Caller,
    headers: HeaderMap,
    Conversation(body): Conversation,
) -> Answer {
    let after = last_event_id(&headers)?;
    let input = RunAgentInput::parse(&body).map_err(|error| refused(&error))?;
    let session = chat.open_named(&who, &input.thread_id).await?;
    let asking = Asking { chat: &chat, who: &who, session: &session };
    let named = header(&headers, &RUN_ID).unwrap_or(&input.run_id);
    let brings_outputs = !input.tool_outputs.is_empty() && !input.ends_with_user;
    let known = match asking.named(&turn_id(named)).await? {
        // An answer comes under a new run's id, and is about the turn that asked: the open one, or the one that was.
        None if !input.resume.is_empty() || brings_outputs => {
            let none = || invalid("no run of this thread has asked for it", "resume");
            Some(newest(&asking, true).await?.ok_or_else(none)?)
        }
        // Nothing in it is new: it goes on with what it has of the newest turn.
        None if !input.ends_with_user => newest(&asking, true)
            .await?
            .filter(|row| input.has_parts_of(row.turn.execution_id.as_str())),
        known => known,
    };
    if let Some(row) = &known {
        let at = TurnRef::new(session.clone(), row.turn.turn_id.clone());
        // So that the run can be asked for again by its own id.
        if turn_id(named) != at.turn_id {
            chat.name_turn(&who, &at, turn_id(named).into()).await?;
        }
        asking.pass_on(&at, &replies(&input, row.turn.execution_id.as_str())).await?;
    }
    let stream = match (known, &input.user) {
        (Some(row), _) => asking.take_up(row).await?,
        (None, Some((client_id, text))) => {
            let agent = input.agent.as_deref();
            let said = Said { id: named, client_id, text, agent };
            asking.send(&said).await?
        }
        (None, None) => {
            return Err(invalid("there is no message of the user to answer", "messages"));
        }
    };
    let execution_id = stream.execution_id.as_str().to_owned();
    let mut encoder = AgUi::new(&input.thread_id, named, &execution_id);
    if after == 0 && input.has_parts_of(&execution_id) {
        let before = before(&chat, &who, &session, &stream.turn_id).await?;
        let before = before.iter().map(String::as_str);
        encoder = encoder.snapshot(messages_snapshot(before, &input, &execution_id));
    }
    Ok(response(&asking, stream, encoder, after, &headers))
}

/// What a run brings for the questions of this execution: answers to interrupts, and the outputs of tools that its client ran.
fn replies<'a>(input: &'a RunAgentInput<'_>, execution_id: &str) -> Vec<(Held<'a>, Reply<'a>)> {
    let resumed = input.resume.iter().map(|entry| {
        let reply = match entry.status {
            ResumeStatus::Resolved => Reply::Data(entry.payload),
            ResumeStatus::Cancelled => Reply::Cancelled,
        };
        (Held::Interaction(Cow::Borrowed(&*entry.interrupt_id)), reply)
    });
    let outputs = input.tool_outputs.iter().filter_map(|(call, text)| {
        let name = call.strip_prefix(execution_id)?.strip_prefix('/')?;
        let held = match name.strip_prefix("interaction:") {
            Some(id) => Held::Interaction(Cow::Borrowed(id)),
            None => Held::Call(Cow::Borrowed(name)),
        };
        Some((held, Reply::Text(text)))
    });
    resumed.chain(outputs).collect()
}

/// The messages of the thread up to the user's of a turn.
async fn before(
    chat: &crate::Chat,
    who: &Principal,
    session: &SessionId,
    turn_id: &str,
) -> Result<Vec<String>, Refusal> {
    let at = TurnRef::new(session.clone(), turn_id);
    let branch = Some(chat.turn(who, &at).await?.index);
    let page = MessagePage { branch, ..MessagePage::newest(TURNS) };
    let messages = chat.session(who, session, page).await?.messages;
    let is_answer =
        |message: &&Message| !(message.turn_id == turn_id && message.role == Role::Assistant);
    let before = messages.iter().take_while(is_answer);
    Ok(before.flat_map(|message| at_rest(who, session, message)).collect())
}

/// A message as AG-UI has it at rest: an answer may be several.
fn at_rest(who: &Principal, session: &SessionId, message: &Message) -> Vec<String> {
    let id = message.client_id.as_deref().unwrap_or(&message.turn_id);
    match message.role {
        Role::User => vec![ag_ui_user_message(id, &message.text)],
        Role::Assistant => {
            let encoder = AgUi::new("", id, message.execution_id.as_str());
            ag_ui_messages(encoder, &lines_of(who, session, message))
        }
    }
}

/// A message as TanStack AI has it at rest.
fn at_rest_in_tanstack(who: &Principal, session: &SessionId, message: &Message) -> Vec<String> {
    let id = message.client_id.as_deref().unwrap_or(&message.turn_id);
    match message.role {
        Role::User => vec![tanstack_user_message(id, &message.text)],
        Role::Assistant => {
            let encoder = AgUi::new("", id, message.execution_id.as_str());
            tanstack_messages(encoder, &lines_of(who, session, message))
        }
    }
}

#[derive(Deserialize)]
struct ReadQuery {
    #[serde(rename = "runId")]
    run_id: Option<String>,
    offset: Option<String>,
    #[serde(rename = "threadId")]
    thread_id: Option<String>,
}

/// A thread at rest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    #[serde(rename = "threadId")]
    name: String,
    messages: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_run: Option<ActiveRun>,
    interrupts: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveRun {
    run_id: String,
}

/// `GET /api/ag-ui?runId=&offset=`: joins a run, after so many chunks, from its first one where that is -1. `?threadId=`: the
/// messages of a thread, and its run where one is active.
async fn read(
    Caller { chat, user: who }: Caller,
    headers: HeaderMap,
    InQuery(query): InQuery<ReadQuery>,
) -> Answer {
    let run_id = query.run_id.as_deref().or_else(|| header(&headers, &RUN_ID));
    match (run_id, query.thread_id) {
        (Some(run_id), thread) => {
            let after = match query.offset.as_deref() {
                // A client that goes on says so beside the offset that it began with.
                _ if headers.contains_key(LAST_EVENT_ID) => last_event_id(&headers)?,
                None | Some("-1") => 0,
                Some(offset) => {
                    let wrong = "offset must be -1 or the number of a chunk";
                    cursor(offset).ok_or_else(|| invalid(wrong, "offset"))?
                }
            };
            let row = chat.of_turn_id(&who, thread.as_deref(), &turn_id(run_id)).await?;
            let session = row.turn.session_id.clone();
            let thread = match thread {
                Some(name) => name,
                None => chat.session(&who, &session, MessagePage::none()).await?.info.name,
            };
            let encoder = AgUi::new(&thread, run_id, row.turn.execution_id.as_str());
            let asking = Asking { chat: &chat, who: &who, session: &session };
            let stream = asking.take_up(row).await?;
            Ok(response(&asking, stream, encoder, after, &headers))
        }
        (None, Some(name)) => {
            let session = chat.named(&who, &name).await?.ok_or(Refusal::NoSession)?;
            let state = chat.session(&who, &session, MessagePage::newest(TURNS)).await?;
            let messages = state.messages.iter();
            // TanStack AI keeps messages of its own form. It is the client that asks for JSON and nothing else.
            let is_tanstack = header(&headers, &ACCEPT) == Some("application/json");
            let at_rest = if is_tanstack { at_rest_in_tanstack } else { at_rest };
            let messages = messages.flat_map(|message| at_rest(&who, &session, message));
            let execution_id = state.open.as_ref().map(|open| open.turn.execution_id.clone());
            let interrupts = state.pending.iter().filter_map(|question| {
                let interrupt = ag_ui_interrupt(question, execution_id.as_ref()?.as_str())?;
                RawValue::from_string(interrupt).ok()
            });
            let interrupts = interrupts.collect();
            // The name of the turn stands for the run, also where the client's own was no name.
            let active_run = state.open.map(|open| ActiveRun { run_id: open.turn.turn_id });
            let thread = Thread {
                name: name.clone(),
                messages: messages.filter_map(|json| RawValue::from_string(json).ok()).collect(),
                active_run,
                interrupts,
            };
            Ok(json_response(StatusCode::OK, &thread))
        }
        (None, None) => Err(invalid("the query must have runId or threadId", "threadId")),
    }
}

/// `DELETE /api/ag-ui/{threadId}/stream`: stops the thread's open run; 204 where there is none.
async fn stop(Caller { chat, user }: Caller, InPath(name): InPath<String>) -> Answer {
    stop_open(&chat, &user, &name).await
}

/// The chunks of a turn behind so many, up to its end or a question that waits.
fn response(
    asking: &Asking<'_>,
    stream: TurnStream,
    encoder: AgUi,
    after: u64,
    headers: &HeaderMap,
) -> Response {
    let wants_lines = header(headers, &ACCEPT).is_some_and(|accept| accept.contains(LINES));
    let at = TurnRef::new(asking.session.clone(), stream.turn_id.clone());
    let (head, body) = stream.into_response().into_parts();
    let chunks = Encoded::new(body, encoder).asking(pending_now(asking.chat, asking.who, at));
    let chunks = if wants_lines { chunks.ndjson() } else { chunks };
    chunked(head, chunks.after(after), if wants_lines { LINES } else { EVENT_STREAM })
}
