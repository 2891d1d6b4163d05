//! Chunks of `/chat/completions`, and whole completions: tolerant where servers differ.

use serde_json::Value;
use turnkit_wire::write::TokenUsage;

use super::{
    AgentError,
    answer::{Answer, Kind, ToolPiece},
    reader::{Frame, Taken},
};
use crate::lenient::number;

/// Takes a chunk, or a whole completion.
pub(super) fn take(answer: &mut Answer, frame: Frame<'_>) -> Result<Taken, AgentError> {
    let chunk = frame.value;
    if let Some(id) = chunk.get("id").and_then(Value::as_str) {
        answer.set_id(id);
    }
    let usage =
        [chunk.get("usage"), chunk.pointer("/x_groq/usage"), chunk.pointer("/choices/0/usage")];
    let usage = usage.into_iter().flatten().find_map(token_usage);
    if let Some(usage) = usage {
        answer.set_usage(usage);
    }
    let choices = match chunk.get("choices") {
        Some(Value::Array(choices)) => choices.as_slice(),
        Some(choice @ Value::Object(_)) => std::slice::from_ref(choice),
        _ => &[],
    };
    let is_known = chunk.get("choices").is_some() || usage.is_some();
    let mut taken = if is_known { Taken::Known } else { Taken::Unknown };
    for choice in choices {
        // Only one answer was asked for.
        if choice.get("index").and_then(number).unwrap_or_default() != 0 {
            continue;
        }
        match take_choice(answer, choice, frame)? {
            Taken::Known => {}
            odd => taken = odd,
        }
    }
    Ok(taken)
}

fn take_choice(answer: &mut Answer, choice: &Value, frame: Frame<'_>) -> Result<Taken, AgentError> {
    let Value::Object(members) = choice else { return Ok(Taken::Unknown) };
    let object = |name: &str| members.get(name).filter(|member| member.is_object());
    let delta = object("delta").map(Said::of).unwrap_or_default();
    let message = object("message").map(Said::of).unwrap_or_default();
    let text = members.get("text").filter(|text| text.is_string());
    let is_odd_member = |name: &str| {
        members.get(name).is_some_and(|member| !member.is_object() && !member.is_null())
    };
    let mut is_odd = is_odd_member("delta") || is_odd_member("message");
    let mut is_message = false;
    if delta.says_something() && !(answer.has_messages() && message.says_something()) {
        is_odd |= delta.is_odd;
        for (kind, text) in &delta.texts {
            answer.delta(*kind, text, frame.at);
        }
        answer.refuse(&delta.refusal, frame.at);
        for piece in &delta.calls {
            piece.tell(|piece| answer.call(piece, frame.at))?;
        }
    } else if message.says_something() {
        is_odd |= message.is_odd;
        is_message = frame.is_body;
        if answer.takes_messages() {
            for kind in [Kind::Reasoning, Kind::Text] {
                let texts = message.texts.iter().filter(|(found, _)| *found == kind);
                let whole: String = texts.map(|(_, text)| text.as_str()).collect();
                answer.message(kind, &whole, frame.at);
            }
            answer.refuse(&message.refusal, frame.at);
            for (number, piece) in message.calls.iter().enumerate() {
                piece.tell(|piece| answer.whole_call(number, piece, frame.at))?;
            }
        }
    } else if let Some(text) = text.and_then(Value::as_str) {
        answer.delta(Kind::Text, text, frame.at);
    } else {
        is_odd |= delta.is_odd || message.is_odd;
    }
    if frame.is_body {
        // A body that is whole has its reason behind its text, wherever that stands.
        answer.begin_frame();
    }
    let reason =
        ["finish_reason", "finishReason"].into_iter().find_map(|name| members.get(name)?.as_str());
    if let Some(reason) = reason {
        answer.reason(reason, frame.at);
    }
    Ok(match (is_message, is_odd) {
        (true, _) => Taken::Message,
        (false, true) => Taken::Unknown,
        (false, false) => Taken::Known,
    })
}

/// What a delta or a message says.
#[derive(Default)]
struct Said {
    texts: Vec<(Kind, String)>,
    refusal: String,
    calls: Vec<Call>,
    /// Something stood in it that is neither.
    is_odd: bool,
}

/// A piece of a tool call, as it was found.
#[derive(Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

/// Members in which servers send what a model thinks. Some send several of them, with the same text.
const REASONING: [&str; 7] = [
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "thinking_content",
    "reasoning_details",
    "thinking_blocks",
];

impl Said {
    fn of(delta: &Value) -> Self {
        let mut said = Self::default();
        for name in REASONING {
            if let Some(thought) = delta.get(name) {
                collect(thought, Kind::Reasoning, &mut said, 0);
            }
            if !said.texts.is_empty() {
                break;
            }
        }
        let content = delta.get("content").filter(|content| !content.is_null());
        if let Some(content) = content.or_else(|| delta.get("text")) {
            collect(content, Kind::Text, &mut said, 0);
        }
        if let Some(refusal) = delta.get("refusal") {
            let mut refused = Self::default();
            collect(refusal, Kind::Text, &mut refused, 0);
            said.is_odd |= refused.is_odd;
            said.refusal = refused.texts.into_iter().map(|(_, text)| text).collect();
        }
        let calls = match delta.get("tool_calls") {
            Some(Value::Array(calls)) => calls.as_slice(),
            Some(call @ Value::Object(_)) => std::slice::from_ref(call),
            Some(Value::Null) | None => &[],
            Some(_) => {
                said.is_odd = true;
                &[]
            }
        };
        let legacy = delta.get("function_call").filter(|call| call.is_object());
        for call in calls.iter().chain(legacy) {
            match Call::of(call) {
                Some(call) => said.calls.push(call),
                None => said.is_odd = true,
            }
        }
        said
    }

    fn says_something(&self) -> bool {
        !self.texts.is_empty() || !self.refusal.is_empty() || !self.calls.is_empty()
    }
}

/// The texts of a content: a text, an object that holds one, or pieces of it. What is of a type without a text is left out.
fn collect(content: &Value, kind: Kind, said: &mut Said, depth: usize) {
    match content {
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => said.texts.push((kind, text.clone())),
        Value::Array(pieces) if depth < MAX_DEPTH => {
            for piece in pieces {
                collect(piece, kind, said, depth + 1);
            }
        }
        Value::Object(piece) if depth < MAX_DEPTH => {
            let is = |word: &str| {
                piece.get("type").and_then(Value::as_str).unwrap_or("text").contains(word)
            };
            let kind = if is("think") || is("reason") { Kind::Reasoning } else { kind };
            if kind == Kind::Text && !is("text") {
                said.is_odd = true;
                return;
            }
            let names = ["text", "thinking", "content", "parts", "reasoning", "summary", "value"];
            match names.into_iter().find_map(|name| piece.get(name).filter(|text| !text.is_null()))
            {
                Some(text) => collect(text, kind, said, depth + 1),
                None => said.is_odd = true,
            }
        }
        Value::Null => {}
        _ => said.is_odd = true,
    }
}

/// How deep pieces of a content may stand in each other.
const MAX_DEPTH: usize = 6;

impl Call {
    /// None where it is no object, or says nothing.
    fn of(call: &Value) -> Option<Self> {
        let call = call.as_object()?;
        let function = call.get("function").and_then(Value::as_object).unwrap_or(call);
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let arguments = function.get("arguments").or_else(|| function.get("parameters"));
        let arguments = match arguments {
            Some(arguments @ (Value::Object(_) | Value::Array(_))) => arguments.to_string(),
            arguments => arguments.and_then(Value::as_str).unwrap_or_default().to_owned(),
        };
        let index = call.get("index").and_then(number);
        let found =
            Self { index, id: text(call.get("id")), name: text(function.get("name")), arguments };
        let says = index.is_some()
            || !(found.id.is_empty() && found.name.is_empty() && found.arguments.is_empty());
        says.then_some(found)
    }

    fn tell<T>(&self, tell: impl FnOnce(ToolPiece<'_>) -> T) -> T {
        tell(ToolPiece {
            index: self.index,
            id: &self.id,
            name: &self.name,
            arguments: &self.arguments,
        })
    }
}

/// From the `usage` of an answer; none where the two counts are not there.
fn token_usage(usage: &Value) -> Option<TokenUsage> {
    let count =
        |paths: [&str; 2]| paths.into_iter().find_map(|path| usage.pointer(path).and_then(number));
    let tokens = TokenUsage::new(
        count(["/prompt_tokens", "/input_tokens"])?,
        count(["/completion_tokens", "/output_tokens"])?,
    );
    let tokens = tokens
        .reasoning(count([
            "/completion_tokens_details/reasoning_tokens",
            "/output_tokens_details/reasoning_tokens",
        ]))
        .cached_input(count([
            "/prompt_tokens_details/cached_tokens",
            "/input_tokens_details/cached_tokens",
        ]));
    Some(tokens)
}
