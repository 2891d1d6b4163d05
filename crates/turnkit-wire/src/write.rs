//! Writers of the events that an agent or a producer sends (PROTOCOL 1.1): parts of the answer, `result`, `warning`, `error`.
//!
//! Each one spells its event's line directly: no JSON value is built, and an event of text is one allocation. Members come in
//! the order of PROTOCOL 1.1; what is not given is left out. Counts, times, reasons and
//! JSON may be given as an `Option`. Nothing here can fail but [`Json`], which takes what others made.
//!
//! ```
//! use turnkit_wire::write::{FinishReason, Json, Part, TokenUsage, ToolCall, ToolStatus, TurnResult};
//!
//! let text = Part::new("prt_1").message("msg_1");
//! assert_eq!(
//!     text.text_delta("Hel").as_json(),
//!     r#"{"type":"message.part.updated","data":{"part":{"id":"prt_1","messageID":"msg_1","type":"text"},"delta":"Hel"}}"#,
//! );
//!
//! let input = Json::verify(r#"{"command":"wc -w"}"#)?;
//! let call = ToolCall::new("bash", ToolStatus::Running).call_id("call_1").input(&input);
//! assert_eq!(
//!     Part::new("prt_2").tool(&call).data_json(),
//!     Some(r#"{"part":{"id":"prt_2","type":"tool","tool":"bash","callID":"call_1","state":{"status":"running","input":{"command":"wc -w"}}}}"#),
//! );
//!
//! let result = TurnResult::new().final_text("Hello").finish_reason(FinishReason::Stop).token_usage(TokenUsage::new(2, 3));
//! assert_eq!(
//!     result.event().data_json(),
//!     Some(r#"{"finalText":"Hello","finishReason":"stop","tokenUsage":{"inputTokens":2,"outputTokens":3}}"#),
//! );
//! # Ok::<(), turnkit_wire::DecodeError>(())
//! ```

use alloc::{borrow::Cow, string::String, vec::Vec};

use serde::Serialize;

#[doc(inline)]
pub use crate::lifecycle::error;
use crate::{
    DecodeError, EncodeError, Event,
    event::blank_breaks,
    json::{
        nesting::MAX_DEPTH,
        object::{self, Object},
        scan, string,
    },
    kind,
};

/// A part of the answer: its id and where it belongs. Each method writes one `message.part.updated` about it.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    id: &'a str,
    session: Option<&'a str>,
    message: Option<&'a str>,
    is_cut: bool,
}

/// What is known of a tool call: a `tool` part's `tool`, `callID` and `state`.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    tool: &'a str,
    call_id: Option<&'a str>,
    status: ToolStatus,
    input: Option<&'a Json<'a>>,
    raw: Option<&'a str>,
    output: Option<&'a Json<'a>>,
    error: Option<&'a str>,
    title: Option<&'a str>,
}

/// How far a tool call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToolStatus {
    /// Asked for; its input may still be growing.
    Pending,
    /// The tool runs.
    Running,
    /// The tool has answered.
    Completed,
    /// The tool has failed.
    Error,
}

/// A `result`: the agent's own account of the turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnResult<'a> {
    final_text: Option<&'a str>,
    finish_reason: Option<FinishReason>,
    model: Option<&'a str>,
    session_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    agent_session_id: Option<&'a str>,
    cost_usd: Option<&'a Json<'a>>,
    token_usage: Option<TokenUsage>,
    total_ms: Option<u64>,
    first_token_ms: Option<u64>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It came to the most tokens that it was allowed.
    Length,
    /// A filter cut its answer.
    ContentFilter,
    /// It wants tools to be called.
    ToolCalls,
    /// Anything else.
    Other,
}

/// The tokens that a turn took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUsage {
    /// What the model read, `inputTokens`.
    pub input: u64,
    /// What the model wrote, `outputTokens`.
    pub output: u64,
    /// How much of that is reasoning, `reasoningTokens`.
    pub reasoning: Option<u64>,
    /// How much of the input came from a cache, `cachedInputTokens`.
    pub cached_input: Option<u64>,
}

/// JSON that others made, verified to fit into a part: RFC 8259 to the letter, at most 1,020 containers inside each other.
///
/// `Debug` shows its length, never the content.
#[derive(Clone)]
pub struct Json<'a>(Cow<'a, str>);

/// A `warning`: something went wrong that does not end the turn. `code` is for programs.
#[must_use]
pub fn warning(message: &str, code: Option<&str>) -> Event {
    let size = message.len() + code.map_or(0, str::len) + 32;
    object::event(kind::WARNING, size, |data| {
        data.optional("code", code).string("message", message);
    })
}

/// A `message.part.updated` with the part as it stands.
#[must_use]
pub fn part(part: &Json<'_>) -> Event {
    let size = part.0.len() + r#""part":"#.len();
    object::event(kind::MESSAGE_PART_UPDATED, size, |data| {
        data.raw("part", &part.0);
    })
}

impl<'a> Part<'a> {
    /// The part of this id. Within an answer an id is one part.
    #[must_use]
    pub const fn new(id: &'a str) -> Self {
        Self { id, session: None, message: None, is_cut: false }
    }

    /// The message that it is part of, `messageID`.
    #[must_use]
    pub const fn message(self, id: &'a str) -> Self {
        Self { message: Some(id), ..self }
    }

    /// The session that it is part of, `sessionID`.
    #[must_use]
    pub const fn session(self, id: &'a str) -> Self {
        Self { session: Some(id), ..self }
    }

    /// The part is not whole: `"cut":true` (PROTOCOL 2.3).
    #[must_use]
    pub const fn cut(self, is_cut: bool) -> Self {
        Self { is_cut, ..self }
    }

    /// More of a text.
    #[must_use]
    pub fn text_delta(&self, delta: &str) -> Event {
        self.event("text", Some(delta), 0, |_| {})
    }

    /// A text, whole as of now: it replaces what was there.
    #[must_use]
    pub fn text(&self, text: &str) -> Event {
        self.snapshot("text", text)
    }

    /// More of the model's reasoning.
    #[must_use]
    pub fn reasoning_delta(&self, delta: &str) -> Event {
        self.event("reasoning", Some(delta), 0, |_| {})
    }

    /// The model's reasoning, whole as of now: it replaces what was there.
    #[must_use]
    pub fn reasoning(&self, text: &str) -> Event {
        self.snapshot("reasoning", text)
    }

    /// A tool call as it stands.
    #[must_use]
    pub fn tool(&self, call: &ToolCall<'_>) -> Event {
        self.event("tool", None, call.size(), |part| call.write(part))
    }

    /// A tool call as it stands, and one more piece of the JSON of its input.
    #[must_use]
    pub fn tool_delta(&self, call: &ToolCall<'_>, input: &str) -> Event {
        self.event("tool", Some(input), call.size(), |part| call.write(part))
    }

    /// A file that the answer holds: where it is, of which media type, and its name where it has one.
    #[must_use]
    pub fn file(&self, url: &str, media_type: &str, filename: Option<&str>) -> Event {
        let size = url.len() + media_type.len() + filename.map_or(0, str::len) + 64;
        self.event("file", None, size, |part| {
            part.string("url", url).string("mediaType", media_type).optional("filename", filename);
        })
    }

    /// A source that the answer draws on: where it is, and its title where it has one.
    #[must_use]
    pub fn source(&self, url: &str, title: Option<&str>) -> Event {
        let size = url.len() + title.map_or(0, str::len) + 32;
        self.event("source", None, size, |part| {
            part.string("url", url).optional("title", title);
        })
    }

    /// Data of the application's own, under a name of its own.
    #[must_use]
    pub fn data(&self, name: &str, data: &Json<'_>) -> Event {
        self.event("data", None, name.len() + data.0.len() + 32, |part| {
            part.string("name", name).raw("data", &data.0);
        })
    }

    /// The part of this type, of which nothing more is told.
    #[must_use]
    pub fn bare(&self, kind: &str) -> Event {
        self.event(kind, None, 0, |_| {})
    }

    fn snapshot(&self, kind: &str, text: &str) -> Event {
        self.event(kind, None, text.len() + r#","text":"""#.len(), |part| {
            part.string("text", text);
        })
    }

    /// `size` is what `members` take in the line.
    fn event(
        &self,
        kind: &str,
        delta: Option<&str>,
        size: usize,
        members: impl FnOnce(&mut Object<'_>),
    ) -> Event {
        let member = |key: &str, text: Option<&str>| text.map_or(0, |text| key.len() + text.len());
        let size = size
            + r#""part":{"id":"","type":""}"#.len()
            + if self.is_cut { r#","cut":true"#.len() } else { 0 }
            + (self.id.len() + kind.len())
            + member(r#","sessionID":"""#, self.session)
            + member(r#","messageID":"""#, self.message)
            + member(r#","delta":"""#, delta);
        object::event(kind::MESSAGE_PART_UPDATED, size, |data| {
            data.object("part", |part| {
                part.string("id", self.id)
                    .optional("sessionID", self.session)
                    .optional("messageID", self.message)
                    .string("type", kind);
                if self.is_cut {
                    part.raw("cut", "true");
                }
                members(part);
            });
            data.optional("delta", delta);
        })
    }
}

impl<'a> ToolCall<'a> {
    /// A call of the tool of this name.
    #[must_use]
    pub const fn new(tool: &'a str, status: ToolStatus) -> Self {
        Self {
            tool,
            call_id: None,
            status,
            input: None,
            raw: None,
            output: None,
            error: None,
            title: None,
        }
    }

    /// The call's own id, `callID`.
    #[must_use]
    pub const fn call_id(self, id: &'a str) -> Self {
        Self { call_id: Some(id), ..self }
    }

    /// The input, whole.
    #[must_use]
    pub fn input(self, input: impl Into<Option<&'a Json<'a>>>) -> Self {
        Self { input: input.into(), ..self }
    }

    /// The input as the model spelt it, which need not be JSON.
    #[must_use]
    pub const fn raw(self, input: &'a str) -> Self {
        Self { raw: Some(input), ..self }
    }

    /// What the tool answered.
    #[must_use]
    pub fn output(self, output: impl Into<Option<&'a Json<'a>>>) -> Self {
        Self { output: output.into(), ..self }
    }

    /// How the tool failed, for people.
    #[must_use]
    pub const fn error(self, message: &'a str) -> Self {
        Self { error: Some(message), ..self }
    }

    /// What the call does, for people.
    #[must_use]
    pub const fn title(self, title: &'a str) -> Self {
        Self { title: Some(title), ..self }
    }

    /// About what the call takes in a line.
    fn size(&self) -> usize {
        let texts = [Some(self.tool), self.call_id, self.raw, self.error, self.title];
        let jsons = [self.input, self.output].map(|json| json.map(|json| &*json.0));
        texts.into_iter().chain(jsons).flatten().map(str::len).sum::<usize>() + 128
    }

    fn write(&self, part: &mut Object<'_>) {
        part.string("tool", self.tool).optional("callID", self.call_id).object("state", |state| {
            state.string("status", self.status.as_str());
            if let Some(input) = self.input {
                state.raw("input", &input.0);
            }
            state.optional("raw", self.raw);
            if let Some(output) = self.output {
                state.raw("output", &output.0);
            }
            state.optional("error", self.error).optional("title", self.title);
        });
    }
}

impl ToolStatus {
    /// The name on the wire: `pending`, `running`, `completed` or `error`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Error => "error",
        }
    }

    /// The status of this name; `failed` is read as `error`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "pending" => Some(Self::Pending),
            "running" => Some(Self::Running),
            "completed" => Some(Self::Completed),
            "error" | "failed" => Some(Self::Error),
            _ => None,
        }
    }
}

impl<'a> TurnResult<'a> {
    /// A result that says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole text of the answer.
    #[must_use]
    pub const fn final_text(self, text: &'a str) -> Self {
        Self { final_text: Some(text), ..self }
    }

    /// Why the model stopped.
    #[must_use]
    pub fn finish_reason(self, reason: impl Into<Option<FinishReason>>) -> Self {
        Self { finish_reason: reason.into(), ..self }
    }

    /// The model that answered.
    #[must_use]
    pub const fn model(self, model: &'a str) -> Self {
        Self { model: Some(model), ..self }
    }

    /// The session, `metadata.sessionId`.
    #[must_use]
    pub const fn session_id(self, id: &'a str) -> Self {
        Self { session_id: Some(id), ..self }
    }

    /// What names the run where it ran, `metadata.traceId`.
    #[must_use]
    pub const fn trace_id(self, id: &'a str) -> Self {
        Self { trace_id: Some(id), ..self }
    }

    /// The session of the agent's own that goes on with the next turn, `metadata.agentSessionId`.
    #[must_use]
    pub fn agent_session_id(self, id: impl Into<Option<&'a str>>) -> Self {
        Self { agent_session_id: id.into(), ..self }
    }

    /// What it cost in US dollars, as the agent counts it: `metadata.costUsd`, a number.
    #[must_use]
    pub fn cost_usd(self, cost: impl Into<Option<&'a Json<'a>>>) -> Self {
        Self { cost_usd: cost.into(), ..self }
    }

    /// The tokens that it took.
    #[must_use]
    pub fn token_usage(self, usage: impl Into<Option<TokenUsage>>) -> Self {
        Self { token_usage: usage.into(), ..self }
    }

    /// How long it took, in milliseconds: `timing.totalMs`.
    #[must_use]
    pub fn total_ms(self, millis: impl Into<Option<u64>>) -> Self {
        Self { total_ms: millis.into(), ..self }
    }

    /// How long it took to the first piece of the answer, in milliseconds: `timing.firstTokenMs`.
    #[must_use]
    pub fn first_token_ms(self, millis: impl Into<Option<u64>>) -> Self {
        Self { first_token_ms: millis.into(), ..self }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> Event {
        let ids = [self.session_id, self.trace_id, self.agent_session_id];
        let texts = [self.final_text, self.model].into_iter().chain(ids);
        let size = texts.flatten().map(str::len).sum::<usize>() + 320;
        object::event(kind::RESULT, size, |data| {
            data.optional("finalText", self.final_text)
                .optional("finishReason", self.finish_reason.map(FinishReason::as_str))
                .optional("model", self.model);
            if ids.iter().any(Option::is_some) || self.cost_usd.is_some() {
                data.object("metadata", |metadata| {
                    metadata.optional("sessionId", self.session_id);
                    metadata.optional("traceId", self.trace_id);
                    metadata.optional("agentSessionId", self.agent_session_id);
                    if let Some(cost) = self.cost_usd {
                        metadata.raw("costUsd", &cost.0);
                    }
                });
            }
            if let Some(usage) = self.token_usage {
                data.object("tokenUsage", |tokens| {
                    tokens
                        .number("inputTokens", Some(usage.input))
                        .number("outputTokens", Some(usage.output))
                        .number("reasoningTokens", usage.reasoning)
                        .number("cachedInputTokens", usage.cached_input);
                });
            }
            if self.total_ms.is_some() || self.first_token_ms.is_some() {
                data.object("timing", |timing| {
                    timing.number("totalMs", self.total_ms);
                    timing.number("firstTokenMs", self.first_token_ms);
                });
            }
        })
    }
}

impl FinishReason {
    /// The name on the wire: `stop`, `length`, `content-filter`, `tool-calls` or `other`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content-filter",
            Self::ToolCalls => "tool-calls",
            Self::Other => "other",
        }
    }

    /// The reason of this name. One that is not known is [`FinishReason::Other`].
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "content-filter" => Self::ContentFilter,
            "tool-calls" => Self::ToolCalls,
            _ => Self::Other,
        }
    }
}

impl TokenUsage {
    /// The tokens that the model read and wrote.
    #[must_use]
    pub const fn new(input: u64, output: u64) -> Self {
        Self { input, output, reasoning: None, cached_input: None }
    }

    /// How many of the tokens that it wrote are reasoning.
    #[must_use]
    pub fn reasoning(self, tokens: impl Into<Option<u64>>) -> Self {
        Self { reasoning: tokens.into(), ..self }
    }

    /// How many of the tokens that it read came from a cache.
    #[must_use]
    pub fn cached_input(self, tokens: impl Into<Option<u64>>) -> Self {
        Self { cached_input: tokens.into(), ..self }
    }
}

/// How many containers of an event are around the JSON of a part, beside the event's own object: data, part, state.
const AROUND: usize = 3;

impl<'a> Json<'a> {
    /// The JSON of a value.
    ///
    /// # Errors
    ///
    /// A value that `serde_json` cannot serialise, or whose JSON is nested too deep.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Json<'static>, EncodeError> {
        let json = serde_json::to_string(value).map_err(EncodeError::Serialize)?;
        check(&json).map_err(EncodeError::Invalid)?;
        Ok(Json(Cow::Owned(json)))
    }

    /// The JSON string that a text is. Only what RFC 8259 section 7 demands is escaped, as in every text that these writers spell.
    #[must_use]
    pub fn string(text: &str) -> Json<'static> {
        let mut json = Vec::with_capacity(text.len() + 2);
        json.push(b'"');
        string::escape_into(text, &mut json);
        json.push(b'"');
        Json(Cow::Owned(String::from_utf8(json).unwrap_or_default()))
    }

    /// JSON as it stands, without the white space around it. It is copied only where it holds line breaks.
    ///
    /// # Errors
    ///
    /// Text that is not one JSON value, or nested too deep. The offset counts from the start of `json`.
    pub fn verify(json: &'a str) -> Result<Self, DecodeError> {
        let has_breaks = check(json)?;
        let json = json.trim_ascii();
        if !has_breaks {
            return Ok(Self(Cow::Borrowed(json)));
        }
        let mut line = Vec::from(json);
        blank_breaks(&mut line);
        Ok(Self(Cow::Owned(string::verified(&line).into())))
    }

    /// The JSON, on one line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Json").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

/// Verifies JSON for a place inside a part; says whether line breaks stand between its tokens.
fn check(json: &str) -> Result<bool, DecodeError> {
    let has_breaks = scan::value(json.as_bytes())?;
    // What is valid can be nested too deep only if it has so many brackets.
    let opens = |byte: &u8| matches!(byte, b'[' | b'{');
    if json.bytes().filter(opens).nth(MAX_DEPTH - AROUND - 1).is_some() {
        let mut around = String::with_capacity(json.len() + 2 * AROUND);
        around.extend(["["; AROUND]);
        around.push_str(json);
        around.extend(["]"; AROUND]);
        scan::value(around.as_bytes()).map_err(|error| {
            DecodeError::new(error.offset() - AROUND as u64, error.kind().clone())
        })?;
    }
    Ok(has_breaks)
}

#[cfg(test)]
mod tests;
