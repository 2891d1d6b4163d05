//! `POST /agents/executions/{id}/interactions/{interaction}` and `POST /agents/executions/{id}/input` (PROTOCOL 3.6).

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{
    json,
    value::{RawValue, Value as Json},
};
use tokio::time;
use turnkit_http::server::{ApiError, json_response, object};
use turnkit_wire::{
    Event,
    interaction::{self, Answered, MAX_BY, Outcome, Question, is_id},
    sse,
    value::Value,
    write,
};

use super::headers::{self, IdPath};
use crate::{
    Scope,
    log::{Content, ExecutionKey, Found, LogError, LogReader, Post, Slot, State as ExecutionState},
    refusal,
    substrate::Shared,
};

/// How long a runner may take to append what was posted.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Path((id, interaction)) =
        path.map_err(|_| refusal::invalid("id", "the id is not UTF-8"))?;
    let key = ExecutionKey { scope, id: headers::parse_id(&id, "id")? };
    if !is_id(&interaction) {
        return Err(refusal::invalid("interaction", MUST_BE_ID));
    }
    let body = shared.limits.body().read(request).await?;
    let answer = Answer::read(&body)?;
    let reader = find(&shared, &key).await?;
    let slot = Slot::Interaction(interaction);
    let Some(state) = reader.slot(&slot).await? else {
        return Err(refusal::interaction_not_found());
    };
    let appended = if let Content::Appended(seq) = state.content {
        seq
    } else {
        let asked = event_at(&*reader, state.asked).await?;
        let question = Question::read(&asked).map_err(|error| {
            tracing::error!(execution_id = %key.id, %error, "a question in the log is none");
            refusal::internal()
        })?;
        let json = answer.data.as_ref().map(|data| &data.json);
        // It was verified when it was read.
        let value = json.and_then(|json| Value::verify(json.as_str().as_bytes()).ok());
        let check = question.check(answer.outcome, value);
        check.map_err(|misfit| refusal::invalid_answer(&misfit))?;
        let by = answer.by.as_deref();
        let event = interaction::answered(slot.id(), answer.outcome, json, by);
        check_size(&shared, &event)?;
        settle(&shared, &key, &*reader, &slot, &event).await?
    };
    let event = event_at(&*reader, appended).await?;
    let taken = Answered::of(&event).unwrap_or_default();
    let Some(outcome) = taken.outcome().filter(|outcome| outcome.is_answer()) else {
        return Err(refusal::interaction_gone());
    };
    let is_equal = match (&answer.data, taken.data()) {
        (Some(data), Some(taken)) => data.is(taken),
        (None, None) => true,
        _ => false,
    };
    if outcome != answer.outcome || !is_equal {
        return Err(refusal::interaction_answered(outcome.as_str()));
    }
    let body = json!({ "state": "answered", "outcome": outcome.as_str() });
    Ok(json_response(StatusCode::OK, &body))
}

pub(super) async fn input(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    path: IdPath,
    request: Request,
) -> Result<Response, ApiError> {
    let key = ExecutionKey { scope, id: headers::id_in_path(path)? };
    let body = shared.limits.body().read(request).await?;
    let asked: InputBody = object(&body)?;
    if !is_id(&asked.id) {
        return Err(refusal::invalid("id", MUST_BE_ID));
    }
    if asked.message.is_empty() {
        return Err(refusal::invalid("message", "must not be empty"));
    }
    check_by(asked.by.as_deref())?;
    let reader = find(&shared, &key).await?;
    let slot = Slot::Input(asked.id);
    let content = reader.slot(&slot).await?.map(|state| state.content);
    let appended = if let Some(Content::Appended(seq)) = content {
        seq
    } else {
        let status = reader.status().await?;
        if !status.takes_input {
            return Err(refusal::input_not_accepted());
        }
        if status.state != ExecutionState::Running {
            return Err(refusal::execution_ended());
        }
        let event = interaction::input(slot.id(), &asked.message, asked.by.as_deref());
        check_size(&shared, &event)?;
        settle(&shared, &key, &*reader, &slot, &event).await?
    };
    let event = event_at(&*reader, appended).await?;
    let message = interaction::Input::of(&event).and_then(|view| view.message());
    if !message.is_some_and(|message| message.is(&asked.message)) {
        return Err(refusal::input_conflict());
    }
    let body = json!({ "id": slot.id(), "state": "accepted" });
    Ok(json_response(StatusCode::ACCEPTED, &body))
}

const MUST_BE_ID: &str = "must be 1 to 128 of A-Za-z0-9:_-";

#[derive(Deserialize)]
struct AnswerBody<'a> {
    outcome: String,
    /// `null` is none.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    by: Option<String>,
}

#[derive(Deserialize)]
struct InputBody {
    id: String,
    message: String,
    by: Option<String>,
}

/// An answer that was read.
struct Answer<'a> {
    outcome: Outcome,
    data: Option<Data<'a>>,
    by: Option<String>,
}

/// An answer's data: as it is written, and as what it is compared.
struct Data<'a> {
    json: write::Json<'a>,
    value: Json,
}

impl<'a> Answer<'a> {
    fn read(body: &'a [u8]) -> Result<Self, ApiError> {
        let body: AnswerBody<'_> = object(body)?;
        let outcome = Outcome::parse(&body.outcome).filter(|outcome| outcome.is_answer());
        let must = "must be accepted, declined or cancelled";
        let outcome = outcome.ok_or_else(|| refusal::invalid("outcome", must))?;
        let data = body.data.map(Data::read).transpose()?;
        check_by(body.by.as_deref())?;
        Ok(Self { outcome, data, by: body.by })
    }
}

impl<'a> Data<'a> {
    /// No deeper, and no larger numbers, than what can be compared.
    fn read(raw: &'a RawValue) -> Result<Self, ApiError> {
        let must = "must be JSON, nested at most 127 deep, with numbers that a double can hold";
        let invalid = || refusal::invalid("data", must);
        let value = serde_json::from_str(raw.get()).map_err(|_| invalid())?;
        Ok(Self { json: write::Json::verify(raw.get()).map_err(|_| invalid())?, value })
    }

    fn is(&self, other: Value<'_>) -> bool {
        self.json.as_str().as_bytes() == other.json()
            || serde_json::from_slice(other.json()).is_ok_and(|other: Json| self.value == other)
    }
}

fn check_by(by: Option<&str>) -> Result<(), ApiError> {
    match by {
        Some(by) if by.len() > MAX_BY => {
            Err(refusal::invalid("by", format!("must be at most {MAX_BY} bytes")))
        }
        _ => Ok(()),
    }
}

fn check_size(shared: &Shared, event: &Event) -> Result<(), ApiError> {
    let most = shared.limits.event;
    if event.json_len() > most { Err(ApiError::payload_too_large(most)) } else { Ok(()) }
}

async fn find(shared: &Shared, key: &ExecutionKey) -> Result<Arc<dyn LogReader>, ApiError> {
    match shared.log.find(key).await? {
        Found::Retained(reader) => Ok(reader),
        Found::Spent => Err(refusal::execution_expired()),
        Found::Unknown => Err(refusal::execution_not_found()),
    }
}

/// Posts, and waits until what is in the slot, which may be another one's, is in the log. Gives the number of its event.
async fn settle(
    shared: &Shared,
    key: &ExecutionKey,
    reader: &dyn LogReader,
    slot: &Slot,
    event: &Event,
) -> Result<u64, ApiError> {
    let ended = || match slot {
        Slot::Interaction(_) => refusal::interaction_gone(),
        Slot::Input(_) => refusal::execution_ended(),
    };
    match shared.log.post(key, slot, event).await? {
        Post::Set | Post::Occupied => {}
        Post::Unknown => return Err(refusal::interaction_not_found()),
        Post::Crowded => return Err(refusal::too_many_inputs()),
        // What came into the log before that stays.
        Post::Ended => return appended(reader, slot).await?.ok_or_else(ended),
    }
    match time::timeout(PATIENCE, appended(reader, slot)).await {
        Ok(appended) => appended?.ok_or_else(ended),
        Err(_) => Err(ApiError::unavailable(
            "it is not in the log yet: asked again, it is the same and not taken twice",
        )),
    }
}

/// Waits until what is in a slot is in the log. `None` where the execution has ended without that.
async fn appended(reader: &dyn LogReader, slot: &Slot) -> Result<Option<u64>, LogError> {
    loop {
        let status = reader.status().await?;
        if let Some(Content::Appended(seq)) = reader.slot(slot).await?.map(|state| state.content) {
            return Ok(Some(seq));
        }
        if status.state != ExecutionState::Running {
            return Ok(None);
        }
        reader.next(status.last.seq).await?;
    }
}

/// The event of this number.
pub(super) async fn event_at(reader: &dyn LogReader, seq: u64) -> Result<Event, ApiError> {
    let page = reader.next(seq.saturating_sub(1)).await?;
    let frames = page.map(|page| page.frames).unwrap_or_default();
    let mut decoder = sse::Decoder::with_max_event(frames.len().max(1));
    decoder.push(frames);
    decoder.next_event().and_then(Result::ok).ok_or_else(|| {
        tracing::error!(seq, "an event in the log is none");
        refusal::internal()
    })
}
