//! Tolerant, borrowed views of the events that the layers act on (PROTOCOL 1.1).
//!
//! A view reads what it knows and passes over the rest: unknown members are no error, a missing one is `None`, a number may be
//! spelt as a string, and of a member that is there twice the last counts, as in ECMAScript. Nothing is copied: [`Text`]
//! borrows from the event and decodes on demand.
//!
//! ```
//! use turnkit_wire::{Event, view::PartUpdate};
//!
//! let event = Event::from_json(br#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"hi"}}"#)?;
//! let update = PartUpdate::of(&event).unwrap();
//! assert!(update.is_text());
//! assert_eq!(update.delta().unwrap().to_str(), "hi");
//! # Ok::<(), turnkit_wire::DecodeError>(())
//! ```

pub use crate::json::walk::Text;
use crate::{
    Event,
    json::walk::{Value, Walk},
    kind, value,
    write::{FinishReason, ToolStatus},
};

/// `message.part.updated`: a part of the answer grew (`delta`) or stands now as it is (`text`).
#[derive(Clone, Copy, Debug, Default)]
pub struct PartUpdate<'a> {
    part: Option<Value<'a>>,
    part_id: Option<Text<'a>>,
    message_id: Option<Text<'a>>,
    part_type: Option<Text<'a>>,
    text: Option<Text<'a>>,
    content: Option<Text<'a>>,
    delta: Option<Text<'a>>,
}

/// A tool call: the part of a `message.part.updated` whose type is `tool`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToolCall<'a> {
    tool: Option<Text<'a>>,
    call_id: Option<Text<'a>>,
    status: Option<Text<'a>>,
    input: Option<Value<'a>>,
    raw: Option<Text<'a>>,
    output: Option<Value<'a>>,
    error: Option<Text<'a>>,
    title: Option<Text<'a>>,
}

/// `result`: the agent's own account of the turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnResult<'a> {
    final_text: Option<Text<'a>>,
    finish_reason: Option<Text<'a>>,
    model: Option<Text<'a>>,
    session_id: Option<Text<'a>>,
    trace_id: Option<Text<'a>>,
    agent_session_id: Option<Text<'a>>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    total_ms: Option<u64>,
    first_token_ms: Option<u64>,
}

/// `warning`: something went wrong that does not end the turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Warning<'a> {
    code: Option<Text<'a>>,
    message: Option<Text<'a>>,
}

/// What failed, in `error`, `execution.failed`, `execution.cancelled` or `session.run.failed`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failure<'a> {
    code: Option<Text<'a>>,
    message: Option<Text<'a>>,
    phase: Option<Text<'a>>,
    retryable: Option<bool>,
    temporary: Option<bool>,
}

/// The life of an execution: any event whose type begins with `execution.`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Execution<'a> {
    id: Option<Text<'a>>,
    session_id: Option<Text<'a>>,
    timestamp: Option<u64>,
}

impl<'a> PartUpdate<'a> {
    /// The view of a `message.part.updated`; `None` for every other type.
    #[must_use]
    pub fn of(event: &'a Event) -> Option<Self> {
        if event.kind_bytes() != kind::MESSAGE_PART_UPDATED.as_bytes() {
            return None;
        }
        let mut view = PartUpdate::default();
        let mut walk = Walk::new(event.data_bytes().unwrap_or_default());
        if walk.at_object() {
            walk.members(|key, walk| view.member(key, walk));
        }
        Some(view)
    }

    /// `part`, as its JSON stands in the event.
    #[must_use]
    pub fn part_json(&self) -> Option<&'a str> {
        self.part.map(Value::json)
    }

    /// `part.id`.
    #[must_use]
    pub fn part_id(&self) -> Option<Text<'a>> {
        self.part_id
    }

    /// `part.messageID` (or `messageId`).
    #[must_use]
    pub fn message_id(&self) -> Option<Text<'a>> {
        self.message_id
    }

    /// `part.type`.
    #[must_use]
    pub fn part_type(&self) -> Option<Text<'a>> {
        self.part_type
    }

    /// Whether the part is of the type that counts in the assembled text (PROTOCOL 2.3).
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.part_type.is_some_and(|part_type| part_type.is("text"))
    }

    /// `delta`, where it is a string: it appends to the part.
    #[must_use]
    pub fn delta(&self) -> Option<Text<'a>> {
        self.delta
    }

    /// `part.text`, or else `part.content`, where it is a string: it is the whole part as of now.
    #[must_use]
    pub fn text(&self) -> Option<Text<'a>> {
        self.text.or(self.content)
    }

    #[inline]
    fn member(&mut self, key: Text<'a>, walk: &mut Walk<'a>) {
        if key.is("delta") {
            self.delta = walk.value().string();
        } else if key.is("part") {
            *self = Self { delta: self.delta, ..Self::default() };
            if walk.at_object() {
                let from = walk.place();
                walk.members(|key, walk| self.part_member(key, walk.value()));
                self.part = Some(walk.since(from));
            } else {
                walk.value();
            }
        } else {
            walk.value();
        }
    }

    #[inline]
    fn part_member(&mut self, key: Text<'a>, value: Value<'a>) {
        if key.is("id") {
            self.part_id = value.text();
        } else if key.is("type") {
            self.part_type = value.string();
        } else if key.is("text") {
            self.text = value.string();
        } else if key.is("content") {
            self.content = value.string();
        } else if key.is("messageID") || key.is("messageId") {
            self.message_id = value.text();
        }
    }
}

impl<'a> ToolCall<'a> {
    /// The view of a tool part; `None` for every other part.
    #[must_use]
    pub fn of(update: &PartUpdate<'a>) -> Option<Self> {
        let part = update.part.filter(|_| update.part_type.is_some_and(|kind| kind.is("tool")))?;
        let mut view = ToolCall::default();
        part.members(|key, value| match &*key.to_str() {
            "tool" => view.tool = value.string(),
            "callID" | "callId" => view.call_id = value.text(),
            "state" => value.members(|key, value| match &*key.to_str() {
                "status" => view.status = value.string(),
                "input" => view.input = Some(value),
                "raw" => view.raw = value.string(),
                "output" => view.output = Some(value),
                "error" => view.error = value.string(),
                "title" => view.title = value.string(),
                _ => {}
            }),
            _ => {}
        });
        Some(view)
    }

    /// `tool`: its name.
    #[must_use]
    pub fn tool(&self) -> Option<Text<'a>> {
        self.tool
    }

    /// `callID`: the call's own id.
    #[must_use]
    pub fn call_id(&self) -> Option<Text<'a>> {
        self.call_id
    }

    /// `state.status`, where it is one that is known; `failed` reads as `error`.
    #[must_use]
    pub fn status(&self) -> Option<ToolStatus> {
        self.status.and_then(|status| ToolStatus::parse(&status.to_str()))
    }

    /// `state.input`: the input, whole.
    #[must_use]
    pub fn input(&self) -> Option<value::Value<'a>> {
        self.input.map(value::Value)
    }

    /// `state.raw`: the input as the model spelt it.
    #[must_use]
    pub fn raw(&self) -> Option<Text<'a>> {
        self.raw
    }

    /// `state.output`: what the tool answered.
    #[must_use]
    pub fn output(&self) -> Option<value::Value<'a>> {
        self.output.map(value::Value)
    }

    /// `state.error`: how the tool failed.
    #[must_use]
    pub fn error(&self) -> Option<Text<'a>> {
        self.error
    }

    /// `state.title`: what the call does.
    #[must_use]
    pub fn title(&self) -> Option<Text<'a>> {
        self.title
    }
}

impl<'a> TurnResult<'a> {
    /// The view of a `result`; `None` for every other type.
    #[must_use]
    pub fn of(event: &'a Event) -> Option<Self> {
        if event.kind_bytes() != kind::RESULT.as_bytes() {
            return None;
        }
        let mut view = TurnResult::default();
        data(event).members(|key, value| view.member(key, value));
        Some(view)
    }

    /// `finalText`, where it is a string.
    #[must_use]
    pub fn final_text(&self) -> Option<Text<'a>> {
        self.final_text
    }

    /// `finishReason`: why the model stopped. A word that is not known is [`FinishReason::Other`].
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason.map(|reason| FinishReason::parse(&reason.to_str()))
    }

    /// `model`: the one that answered.
    #[must_use]
    pub fn model(&self) -> Option<Text<'a>> {
        self.model
    }

    /// `metadata.sessionId`.
    #[must_use]
    pub fn session_id(&self) -> Option<Text<'a>> {
        self.session_id
    }

    /// `metadata.traceId`.
    #[must_use]
    pub fn trace_id(&self) -> Option<Text<'a>> {
        self.trace_id
    }

    /// `metadata.agentSessionId`: the session of the agent's own that goes on with the next turn.
    #[must_use]
    pub fn agent_session_id(&self) -> Option<Text<'a>> {
        self.agent_session_id
    }

    /// `tokenUsage.inputTokens`.
    #[must_use]
    pub fn input_tokens(&self) -> Option<u64> {
        self.input_tokens
    }

    /// `tokenUsage.outputTokens`.
    #[must_use]
    pub fn output_tokens(&self) -> Option<u64> {
        self.output_tokens
    }

    /// `tokenUsage.reasoningTokens`: a part of the output.
    #[must_use]
    pub fn reasoning_tokens(&self) -> Option<u64> {
        self.reasoning_tokens
    }

    /// `tokenUsage.cachedInputTokens`: a part of the input.
    #[must_use]
    pub fn cached_input_tokens(&self) -> Option<u64> {
        self.cached_input_tokens
    }

    /// `timing.totalMs`, in milliseconds.
    #[must_use]
    pub fn total_ms(&self) -> Option<u64> {
        self.total_ms
    }

    /// `timing.firstTokenMs`, in milliseconds.
    #[must_use]
    pub fn first_token_ms(&self) -> Option<u64> {
        self.first_token_ms
    }

    fn member(&mut self, key: Text<'a>, value: Value<'a>) {
        if key.is("finalText") {
            self.final_text = value.string();
        } else if key.is("finishReason") {
            self.finish_reason = value.string();
        } else if key.is("model") {
            self.model = value.string();
        } else if key.is("metadata") || key.is("tokenUsage") || key.is("timing") {
            value.members(|key, value| self.inner_member(key, value));
        }
    }

    fn inner_member(&mut self, key: Text<'a>, value: Value<'a>) {
        match &*key.to_str() {
            "sessionId" => self.session_id = value.text(),
            "traceId" => self.trace_id = value.text(),
            "agentSessionId" => self.agent_session_id = value.string(),
            "inputTokens" => self.input_tokens = value.whole_number(),
            "outputTokens" => self.output_tokens = value.whole_number(),
            "reasoningTokens" => self.reasoning_tokens = value.whole_number(),
            "cachedInputTokens" => self.cached_input_tokens = value.whole_number(),
            "firstTokenMs" => self.first_token_ms = value.whole_number(),
            "totalMs" => self.total_ms = value.whole_number(),
            _ => {}
        }
    }
}

impl<'a> Warning<'a> {
    /// The view of a `warning`; `None` for every other type.
    #[must_use]
    pub fn of(event: &'a Event) -> Option<Self> {
        if event.kind_bytes() != kind::WARNING.as_bytes() {
            return None;
        }
        let mut view = Warning::default();
        data(event).members(|key, value| match &*key.to_str() {
            "code" => view.code = value.text(),
            "message" => view.message = value.text(),
            _ => {}
        });
        Some(view)
    }

    /// What went wrong, for programs. Numbers count by their spelling.
    #[must_use]
    pub fn code(&self) -> Option<Text<'a>> {
        self.code
    }

    /// What went wrong, for people.
    #[must_use]
    pub fn message(&self) -> Option<Text<'a>> {
        self.message
    }
}

impl<'a> Failure<'a> {
    /// The view of an `error`, `execution.failed`, `execution.cancelled` or `session.run.failed`; `None` for every other type.
    ///
    /// Code and message may stand in the data, in its member `error`, or be that member or the data itself.
    #[must_use]
    pub fn of(event: &'a Event) -> Option<Self> {
        if !event.class().is_failure() {
            return None;
        }
        let mut view = Failure { message: data(event).string(), ..Failure::default() };
        data(event).members(|key, value| view.member(key, value));
        Some(view)
    }

    /// What failed, for programs. Numbers count by their spelling.
    #[must_use]
    pub fn code(&self) -> Option<Text<'a>> {
        self.code
    }

    /// What failed, for people.
    #[must_use]
    pub fn message(&self) -> Option<Text<'a>> {
        self.message
    }

    /// `phase`, in `session.run.failed`.
    #[must_use]
    pub fn phase(&self) -> Option<Text<'a>> {
        self.phase
    }

    /// Whether the same turn may be tried again.
    #[must_use]
    pub fn retryable(&self) -> Option<bool> {
        self.retryable
    }

    /// Whether a new turn may help.
    #[must_use]
    pub fn temporary(&self) -> Option<bool> {
        self.temporary
    }

    fn member(&mut self, key: Text<'a>, value: Value<'a>) {
        match &*key.to_str() {
            "code" => self.code = value.text().or(self.code),
            "message" => self.message = value.text().or(self.message),
            "phase" => self.phase = value.text(),
            "retryable" => self.retryable = value.boolean(),
            "temporary" => self.temporary = value.boolean().or(self.temporary),
            "error" => {
                self.message = self.message.or(value.string());
                value.members(|key, value| self.inner_member(key, value));
            }
            _ => {}
        }
    }

    /// What stands in `error` counts where the data itself says nothing.
    fn inner_member(&mut self, key: Text<'a>, value: Value<'a>) {
        match &*key.to_str() {
            "code" => self.code = self.code.or(value.text()),
            "message" => self.message = self.message.or(value.text()),
            "temporary" => self.temporary = self.temporary.or(value.boolean()),
            _ => {}
        }
    }
}

impl<'a> Execution<'a> {
    /// The view of an event whose type begins with `execution.`; `None` for every other type.
    #[must_use]
    pub fn of(event: &'a Event) -> Option<Self> {
        if !event.class().is_reserved() {
            return None;
        }
        let mut view = Execution::default();
        data(event).members(|key, value| match &*key.to_str() {
            "executionId" => view.id = value.text(),
            "sessionId" => view.session_id = value.text(),
            "timestamp" => view.timestamp = value.whole_number(),
            _ => {}
        });
        Some(view)
    }

    /// `executionId`.
    #[must_use]
    pub fn id(&self) -> Option<Text<'a>> {
        self.id
    }

    /// `sessionId`.
    #[must_use]
    pub fn session_id(&self) -> Option<Text<'a>> {
        self.session_id
    }

    /// `timestamp`, in the producer's own unit.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.timestamp
    }
}

fn data(event: &Event) -> Value<'_> {
    Value(event.data_bytes().unwrap_or_default())
}

#[cfg(test)]
mod tests;
