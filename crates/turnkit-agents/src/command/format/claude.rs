//! Claude Code: `claude -p --output-format stream-json --verbose`, with or without `--include-partial-messages`.

use std::collections::BTreeMap;

use serde_json::Value;
use turnkit_wire::write::{FinishReason, Json, ToolCall, ToolStatus, TurnResult};

use super::{
    super::told::{self, Told},
    Format, Mapper, object, text_of,
};
use crate::{
    ending::Ending,
    lenient::{number, words},
    usage::Usage,
};

pub(super) struct Claude {
    is_first: bool,
    /// The message that streams.
    message: String,
    /// What streamed of it: text and reasoning.
    has_streamed: [bool; 2],
    /// Blocks that came whole, of the message that came last.
    whole: (String, usize),
    stop_reason: Option<String>,
    /// The calls whose input or output is still to come, by their ids.
    calls: BTreeMap<String, Call>,
    /// The streaming block of each index that is a call.
    streaming: BTreeMap<u64, String>,
}

#[derive(Clone, Default)]
struct Call {
    part: String,
    message: String,
    name: String,
    input: Option<Json<'static>>,
}

impl Default for Claude {
    fn default() -> Self {
        Self {
            is_first: true,
            message: String::new(),
            has_streamed: [false; 2],
            whole: (String::new(), 0),
            stop_reason: None,
            calls: BTreeMap::new(),
            streaming: BTreeMap::new(),
        }
    }
}

impl Mapper for Claude {
    fn line(&mut self, line: &[u8], told: &mut Told) {
        let Some(value) = object(line, Format::Claude, &mut self.is_first, told) else { return };
        if value.get("parent_tool_use_id").is_some_and(|parent| !parent.is_null()) {
            // What an agent below this one says is its own.
            return;
        }
        match text_of(&value, "type") {
            "system" => system(&value, told),
            "stream_event" => {
                if let Some(event) = value.get("event") {
                    self.streams(event, told);
                }
            }
            "assistant" => {
                if let Some(message) = value.get("message") {
                    self.assistant(message, told);
                }
            }
            "user" => {
                let blocks = value.pointer("/message/content").and_then(Value::as_array);
                for block in blocks
                    .into_iter()
                    .flatten()
                    .filter(|block| text_of(block, "type") == "tool_result")
                {
                    self.tool_result(block, told);
                }
            }
            "result" => self.result(&value, told),
            "error" => {
                let words =
                    words(&value).unwrap_or_else(|| "the tool reported an error".to_owned());
                told.hold(&words, None);
            }
            _ => {}
        }
    }
}

fn system(value: &Value, told: &mut Told) {
    match text_of(value, "subtype") {
        "init" => {
            let known = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
            told.agent_session = known("session_id");
            told.model = known("model");
        }
        "api_retry" => {
            let number = |name: &str| value.get(name).and_then(number);
            let attempt = number("attempt")
                .map_or_else(String::new, |attempt| format!(", attempt {attempt}"));
            let status = number("error_status")
                .map_or_else(String::new, |status| format!(" after {status}"));
            let words = words(value).map_or_else(String::new, |words| format!(": {words}"));
            told.warn(
                &format!("the model is asked again{status}{attempt}{words}"),
                Some("api_retry"),
            );
        }
        _ => {}
    }
}

impl Claude {
    /// An event of the model's own stream.
    fn streams(&mut self, event: &Value, told: &mut Told) {
        let index = event.get("index").and_then(number).unwrap_or_default();
        let part = format!("{}:{index}", self.message);
        match text_of(event, "type") {
            "message_start" => {
                let id = event.pointer("/message/id").and_then(Value::as_str);
                id.unwrap_or("msg").clone_into(&mut self.message);
                self.has_streamed = [false; 2];
                self.streaming.clear();
            }
            "content_block_start" => {
                let Some(block) = event.get("content_block") else { return };
                if !text_of(block, "type").ends_with("tool_use") {
                    return;
                }
                let (id, name) =
                    (text_of(block, "id").to_owned(), text_of(block, "name").to_owned());
                let call = ToolCall::new(&name, ToolStatus::Pending).call_id(&id);
                let event = told.part(&part, Some(&self.message)).tool(&call);
                told.push(event);
                if self.calls.len() < MAX_CALLS {
                    let call = Call { part, message: self.message.clone(), name, input: None };
                    self.calls.insert(id.clone(), call);
                    self.streaming.insert(index, id);
                }
            }
            "content_block_delta" => {
                let Some(delta) = event.get("delta") else { return };
                let (text, thinking, input) = (
                    text_of(delta, "text"),
                    text_of(delta, "thinking"),
                    text_of(delta, "partial_json"),
                );
                match text_of(delta, "type") {
                    "text_delta" if !text.is_empty() => {
                        self.has_streamed[0] = true;
                        let event = told.part(&part, Some(&self.message)).text_delta(text);
                        told.push(event);
                    }
                    "thinking_delta" if !thinking.is_empty() => {
                        self.has_streamed[1] = true;
                        let event = told.part(&part, Some(&self.message)).reasoning_delta(thinking);
                        told.push(event);
                    }
                    "input_json_delta" if !input.is_empty() => {
                        let id = self.streaming.get(&index);
                        if let Some((id, call)) = id.and_then(|id| Some((id, self.calls.get(id)?)))
                        {
                            let told_call =
                                ToolCall::new(&call.name, ToolStatus::Pending).call_id(id);
                            let event = told
                                .part(&call.part, Some(&call.message))
                                .tool_delta(&told_call, input);
                            told.push(event);
                        }
                    }
                    _ => {}
                }
            }
            "message_delta" => {
                let reason = event.pointer("/delta/stop_reason").and_then(Value::as_str);
                self.stop_reason = reason.map(str::to_owned).or(self.stop_reason.take());
            }
            _ => {}
        }
    }

    /// A message of the model, one of its blocks in a line.
    fn assistant(&mut self, message: &Value, told: &mut Told) {
        if text_of(message, "model") == "<synthetic>" {
            // The `result` says it.
            return;
        }
        let id = text_of(message, "id").to_owned();
        if self.whole.0 != id {
            self.whole = (id.clone(), 0);
        }
        for block in message.get("content").and_then(Value::as_array).into_iter().flatten() {
            let part = format!("{id}:{}", self.whole.1);
            self.whole.1 += 1;
            let has_streamed = |kind: usize| self.message == id && self.has_streamed[kind];
            let (text, thinking) = (text_of(block, "text"), text_of(block, "thinking"));
            match text_of(block, "type") {
                "text" if !text.is_empty() && !has_streamed(0) => {
                    let event = told.part(&part, Some(&id)).text(text);
                    told.push(event);
                }
                "thinking" if !thinking.is_empty() && !has_streamed(1) => {
                    let event = told.part(&part, Some(&id)).reasoning(thinking);
                    told.push(event);
                }
                kind if kind.ends_with("tool_use") => {
                    let call_id = text_of(block, "id").to_owned();
                    let mut call = self.calls.get(&call_id).cloned().unwrap_or_else(|| Call {
                        part,
                        message: id.clone(),
                        name: text_of(block, "name").to_owned(),
                        input: None,
                    });
                    call.input = block.get("input").and_then(told::output);
                    let running = ToolCall::new(&call.name, ToolStatus::Running)
                        .call_id(&call_id)
                        .input(call.input.as_ref());
                    let event = told.part(&call.part, Some(&call.message)).tool(&running);
                    told.push(event);
                    if self.calls.len() < MAX_CALLS {
                        self.calls.insert(call_id, call);
                    }
                }
                _ => {}
            }
        }
    }

    fn tool_result(&mut self, block: &Value, told: &mut Told) {
        let id = text_of(block, "tool_use_id");
        let Some(call) = self.calls.remove(id) else { return };
        // Texts are told as one; an image or a document has no text.
        let texts = match block.get("content") {
            Some(Value::Array(pieces)) => {
                let texts: Vec<_> = pieces
                    .iter()
                    .map(|piece| text_of(piece, "text"))
                    .filter(|text| !text.is_empty())
                    .collect();
                texts.join("\n")
            }
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        let has_failed = block.get("is_error") == Some(&Value::Bool(true));
        let output = told::output(&Value::String(texts.clone()));
        let status = if has_failed { ToolStatus::Error } else { ToolStatus::Completed };
        let mut ended = ToolCall::new(&call.name, status).call_id(id).input(call.input.as_ref());
        let error = told::cut(&texts);
        ended = if has_failed { ended.error(&error) } else { ended.output(output.as_ref()) };
        let event = told.part(&call.part, Some(&call.message)).tool(&ended);
        told.push(event);
    }

    fn result(&mut self, value: &Value, told: &mut Told) {
        if let Some(session) = value.get("session_id").and_then(Value::as_str) {
            told.agent_session = Some(session.to_owned());
        }
        let (subtype, text) = (text_of(value, "subtype"), text_of(value, "result"));
        if value.get("is_error") == Some(&Value::Bool(true)) || subtype != "success" {
            let words = value.get("errors").and_then(words);
            let words = [Some(text.to_owned()), words]
                .into_iter()
                .flatten()
                .find(|words| !words.trim().is_empty());
            let words = words.unwrap_or_else(|| format!("the turn ended with {subtype}"));
            return told.fail(&words, Some(subtype).filter(|subtype| subtype.starts_with("error")));
        }
        if !told.has_parts() && !text.is_empty() {
            // Nothing else has said it: no message was printed.
            let event = told.part("result", None).text(text);
            told.push(event);
        }
        let reason =
            value.get("stop_reason").and_then(Value::as_str).or(self.stop_reason.as_deref());
        let reason =
            reason.and_then(Ending::of).map_or(FinishReason::Stop, |ending| ending.finish_reason());
        let mut usage = Usage::default();
        if let Some(counts) = value.get("usage") {
            usage.learn(counts);
        }
        let count = |name: &str| value.get(name).and_then(number);
        let cost = value
            .get("total_cost_usd")
            .filter(|cost| cost.is_number())
            .and_then(|cost| Json::of(cost).ok());
        let result = TurnResult::new()
            .finish_reason(reason)
            .token_usage(usage.tokens())
            .cost_usd(cost.as_ref());
        told.answer(result.total_ms(count("duration_ms")).first_token_ms(count("ttft_ms")));
    }
}

/// How many calls may run at once.
const MAX_CALLS: usize = 256;
