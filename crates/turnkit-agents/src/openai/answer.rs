//! From the chunks of an answer to its events. Pure: time is an argument.

use std::{collections::VecDeque, time::Duration};

use serde_json::Value;
use turnkit_http::client::BearerToken;
use turnkit_wire::{
    Event,
    sse::Frame,
    write::{FinishReason, Json, Part, TokenUsage, ToolCall, ToolStatus, TurnResult},
};

use super::{
    AgentError,
    chunk::{Choice, Chunk, Delta, TEXT, ToolPiece},
    code, failure,
};
use crate::millis;

/// An answer, as far as it has come.
pub(super) struct Answer {
    session: Option<String>,
    key: Option<BearerToken>,
    ready: VecDeque<Event>,
    parts: usize,
    /// The part of text or reasoning that the next delta may belong to.
    open: Option<Open>,
    calls: Vec<Call>,
    /// All text; none once it is longer than a `result` should carry.
    text: Option<String>,
    /// What that text takes in JSON, at most.
    text_size: usize,
    usage: Option<TokenUsage>,
    finish_reason: Option<String>,
    model: Option<String>,
    id: Option<String>,
    first_at: Option<Duration>,
    is_over: bool,
}

#[derive(Clone)]
struct Open {
    kind: &'static str,
    id: String,
}

#[derive(Default)]
struct Call {
    part: String,
    index: u64,
    id: String,
    name: String,
    arguments: String,
}

impl Answer {
    /// Of this session, and to requests with this key.
    pub(super) fn new(session: Option<String>, key: Option<BearerToken>) -> Self {
        Self {
            session,
            key,
            ready: VecDeque::new(),
            parts: 0,
            open: None,
            calls: Vec::new(),
            text: Some(String::new()),
            text_size: 0,
            usage: None,
            finish_reason: None,
            model: None,
            id: None,
            first_at: None,
            is_over: false,
        }
    }

    /// Which model is asked. What a server calls it may be a path on its disk.
    pub(super) fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Whether the last event was made.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether nothing is missing but, perhaps, the usage.
    pub(super) fn is_finished(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// Takes the next frame of the stream, `at` this time after the request. What follows `[DONE]` does not matter.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, at: Duration) -> Result<(), AgentError> {
        if self.is_over {
            return Ok(());
        }
        if frame.lossy() {
            return Err(failure::protocol("is not UTF-8"));
        }
        match frame.data().trim_ascii() {
            b"[DONE]" => self.end(at),
            data if frame.event() == "error" => Err(self.error_frame(data)),
            data => self.chunk(parse(data)?, at),
        }
    }

    /// Takes an answer that came in one piece.
    pub(super) fn whole(&mut self, json: &[u8], at: Duration) -> Result<(), AgentError> {
        self.chunk(parse(json)?, at)?;
        self.close(at)
    }

    /// The stream has ended, well or not.
    pub(super) fn close(&mut self, at: Duration) -> Result<(), AgentError> {
        if self.is_over {
            return Ok(());
        }
        if self.is_finished() {
            return self.end(at);
        }
        let message =
            "the upstream's answer stopped in the middle: neither a finish_reason nor [DONE] came";
        Err(AgentError::new(code::UPSTREAM_INTERRUPTED, message).temporary())
    }

    fn error_frame(&self, data: &[u8]) -> AgentError {
        let text = || Value::String(String::from_utf8_lossy(data).into_owned());
        let json = serde_json::from_slice(data).unwrap_or_else(|_| text());
        failure::of_object(json.get("error").unwrap_or(&json), self.key.as_ref())
    }

    fn chunk(&mut self, mut chunk: Chunk, at: Duration) -> Result<(), AgentError> {
        if let Some(error) = chunk.take_error() {
            return Err(failure::of_object(&error, self.key.as_ref()));
        }
        self.id = self.id.take().or(short(chunk.id));
        self.usage = chunk.usage.as_ref().and_then(token_usage).or(self.usage);
        let choices = chunk.choices.into_iter().flatten();
        for mut choice in choices.filter(Choice::is_first) {
            let reason = short(choice.take_finish_reason());
            self.finish_reason = reason.or(self.finish_reason.take());
            self.delta(&choice.delta.unwrap_or_default(), at)?;
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Delta, at: Duration) -> Result<(), AgentError> {
        let parts_before = self.ready.len();
        let said = delta.said();
        let said = said.ok_or_else(|| failure::protocol("has a content that is not text"))?;
        for (kind, text) in said {
            self.say(kind, text);
        }
        for piece in delta.tool_calls.iter().flatten() {
            self.call(piece)?;
        }
        if self.ready.len() > parts_before {
            self.first_at.get_or_insert(at);
        }
        Ok(())
    }

    fn say(&mut self, kind: &'static str, delta: &str) {
        if delta.is_empty() {
            return;
        }
        if kind == TEXT {
            self.keep(delta);
        }
        let open = match self.open.take() {
            Some(open) if open.kind == kind => open,
            _ => Open { kind, id: self.new_part() },
        };
        let part = self.part(&open.id);
        let event = if kind == TEXT { part.text_delta(delta) } else { part.reasoning_delta(delta) };
        self.open = Some(open);
        self.ready.push_back(event);
    }

    /// Keeps text for the `result`, as long as that stays small.
    fn keep(&mut self, delta: &str) {
        self.text_size += delta.bytes().map(escaped).sum::<usize>();
        let text = self.text.take();
        self.text = text.filter(|_| self.text_size <= FINAL_TEXT).map(|text| text + delta);
    }

    fn call(&mut self, piece: &ToolPiece) -> Result<(), AgentError> {
        self.open = None;
        let at = self.find_call(piece)?;
        let function = piece.function.as_ref();
        let name = function.and_then(|function| function.name.as_deref());
        let delta = function.and_then(|function| function.arguments.as_deref());
        let held: usize = self.calls.iter().map(|call| call.arguments.len()).sum();
        if held + delta.map_or(0, str::len) > ARGUMENTS {
            return Err(failure::protocol(format!(
                "has tool calls of more than {ARGUMENTS} bytes"
            )));
        }
        self.calls[at].learn(piece.id.as_deref(), name, delta);
        let call = &self.calls[at];
        let (part, told) = (self.part(&call.part), call.told());
        let event = match delta {
            Some(delta) => part.tool_delta(&told, delta),
            None => part.tool(&told),
        };
        self.ready.push_back(event);
        Ok(())
    }

    /// Which call a piece belongs to: that of its id, else the latest of its index, else the latest. A new id is a new call,
    /// whatever index it gives: some servers give 0 to all.
    fn find_call(&mut self, piece: &ToolPiece) -> Result<usize, AgentError> {
        let id = piece.id.as_deref().filter(|id| !id.is_empty());
        let is_its = |call: &Call| match (id, piece.index) {
            (Some(id), Some(index)) => call.id == id || (call.id.is_empty() && call.index == index),
            (Some(id), None) => call.id == id,
            (None, Some(index)) => call.index == index,
            (None, None) => true,
        };
        if let Some(at) = self.calls.iter().rposition(is_its) {
            return Ok(at);
        }
        if self.calls.len() == CALLS {
            return Err(failure::protocol(format!("has more than {CALLS} tool calls")));
        }
        let index = piece.index.unwrap_or(self.calls.len() as u64);
        let part = self.new_part();
        let call = Call { part, index, ..Call::default() };
        self.calls.push(call);
        Ok(self.calls.len() - 1)
    }

    /// A call with all of its arguments. Where these are no JSON that can stand in an event, they stand in it as text alone.
    fn called(&self, call: &Call) -> Event {
        let told = call.told().raw(&call.arguments);
        let input = Json::verify(&call.arguments).ok();
        self.part(&call.part).tool(&told.input(input.as_ref()))
    }

    /// The answer is whole: tell what is known only now.
    fn end(&mut self, at: Duration) -> Result<(), AgentError> {
        self.is_over = true;
        let is_withheld = self.finish_reason.as_deref() == Some("content_filter");
        if is_withheld && self.parts == 0 {
            let message = "the upstream's content filter withheld the answer";
            return Err(AgentError::new(code::CONTENT_FILTER, message));
        }
        for call in std::mem::take(&mut self.calls) {
            let event = self.called(&call);
            self.ready.push_back(event);
        }
        let result = self.result(at);
        self.ready.push_back(result);
        Ok(())
    }

    fn result(&self, at: Duration) -> Event {
        let mut result = TurnResult::new()
            .finish_reason(self.finish_reason.as_deref().map(finish_reason))
            .token_usage(self.usage)
            .total_ms(millis(at))
            .first_token_ms(self.first_at.map(millis));
        if let Some(text) = &self.text {
            result = result.final_text(text);
        }
        if let Some(model) = &self.model {
            result = result.model(model);
        }
        if let Some(session) = &self.session {
            result = result.session_id(session);
        }
        if let Some(id) = &self.id {
            result = result.trace_id(id);
        }
        result.event()
    }

    fn new_part(&mut self) -> String {
        self.parts += 1;
        format!("prt_{}", self.parts)
    }

    fn part<'a>(&'a self, id: &'a str) -> Part<'a> {
        let part = Part::new(id).message("msg_1");
        match &self.session {
            Some(session) => part.session(session),
            None => part,
        }
    }
}

impl Call {
    /// The first id and name stay: some servers repeat them with every piece.
    fn learn(&mut self, id: Option<&str>, name: Option<&str>, arguments: Option<&str>) {
        for (known, told) in [(&mut self.id, id), (&mut self.name, name)] {
            if known.is_empty() {
                known.push_str(told.unwrap_or_default());
            }
        }
        self.arguments.push_str(arguments.unwrap_or_default());
    }

    /// Asked for, and run by nobody here.
    fn told(&self) -> ToolCall<'_> {
        ToolCall::new(&self.name, ToolStatus::Pending).call_id(&self.id)
    }
}

/// The API's reasons in the words of PROTOCOL 1.1.
fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "content_filter" => FinishReason::ContentFilter,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        _ => FinishReason::Other,
    }
}

/// From the `usage` of an answer; none where the two counts are not there.
fn token_usage(usage: &Value) -> Option<TokenUsage> {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64);
    let tokens = TokenUsage::new(count("/prompt_tokens")?, count("/completion_tokens")?)
        .reasoning(count("/completion_tokens_details/reasoning_tokens"))
        .cached_input(count("/prompt_tokens_details/cached_tokens"));
    Some(tokens)
}

fn parse(json: &[u8]) -> Result<Chunk, AgentError> {
    if json.first() != Some(&b'{') {
        return Err(failure::protocol("has a chunk that is no JSON object"));
    }
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        failure::protocol(format!(
            "has a chunk that cannot be read: line {line}, column {column} of it"
        ))
    })
}

/// What is passed on as it was told: nothing long.
fn short(text: Option<String>) -> Option<String> {
    text.filter(|text| text.len() <= 256)
}

/// How long a byte may become in a JSON string (RFC 8259, section 7).
fn escaped(byte: u8) -> usize {
    match byte {
        ..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    }
}

/// The longest text that a `result` repeats, in bytes of JSON: below an event's 1 MiB, with room for the rest.
const FINAL_TEXT: usize = 512 * 1024;

/// The arguments of all tool calls, in bytes: twice in an event they stay below its 1 MiB.
const ARGUMENTS: usize = 256 * 1024;

const CALLS: usize = 128;

#[cfg(test)]
mod tests;
