//! Gemini CLI: `gemini --output-format stream-json`.

use std::collections::BTreeMap;

use serde_json::Value;
use turnkit_wire::write::{FinishReason, TokenUsage, ToolCall, ToolStatus, TurnResult};

use super::{
    super::told::{self, Told},
    Format, Mapper, object, text_of,
};
use crate::lenient::{number, words};

pub(super) struct Gemini {
    is_first: bool,
    parts: usize,
    /// The part of text that goes on.
    text: Option<String>,
    /// The calls that run: their part, name and input.
    calls: BTreeMap<String, (String, String, Value)>,
}

impl Default for Gemini {
    fn default() -> Self {
        Self { is_first: true, parts: 0, text: None, calls: BTreeMap::new() }
    }
}

impl Gemini {
    fn new_part(&mut self) -> String {
        self.parts += 1;
        format!("prt_{}", self.parts)
    }
}

impl Mapper for Gemini {
    fn line(&mut self, line: &[u8], told: &mut Told) {
        let Some(value) = object(line, Format::Gemini, &mut self.is_first, told) else { return };
        let known = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        match text_of(&value, "type") {
            "init" => {
                told.agent_session = known("session_id");
                told.model = known("model");
            }
            "message" if text_of(&value, "role") == "assistant" => {
                let content = text_of(&value, "content");
                if content.is_empty() {
                    return;
                }
                let is_delta = value.get("delta") == Some(&Value::Bool(true));
                let part = self.text.take().filter(|_| is_delta).unwrap_or_else(|| self.new_part());
                let event = told.part(&part, None).text_delta(content);
                told.push(event);
                self.text = Some(part);
            }
            "tool_use" => {
                self.text = None;
                let part = self.new_part();
                let (id, name) = (
                    text_of(&value, "tool_id").to_owned(),
                    text_of(&value, "tool_name").to_owned(),
                );
                let input = value.get("parameters").cloned().unwrap_or_default();
                let json = told::output(&input);
                let call =
                    ToolCall::new(&name, ToolStatus::Running).call_id(&id).input(json.as_ref());
                let event = told.part(&part, None).tool(&call);
                told.push(event);
                if self.calls.len() < MAX_CALLS {
                    self.calls.insert(id, (part, name, input));
                }
            }
            "tool_result" => {
                self.text = None;
                let id = text_of(&value, "tool_id").to_owned();
                let (part, name, input) = self
                    .calls
                    .remove(&id)
                    .unwrap_or_else(|| (self.new_part(), "tool".to_owned(), Value::Null));
                let status = if text_of(&value, "status") == "error" {
                    ToolStatus::Error
                } else {
                    ToolStatus::Completed
                };
                let error = value.get("error").and_then(words);
                let input = told::output(&input);
                let output = value.get("output").and_then(told::output);
                let call = ToolCall::new(&name, status)
                    .call_id(&id)
                    .input(input.as_ref())
                    .output(output.as_ref());
                let call = match &error {
                    Some(error) if status == ToolStatus::Error => call.error(error),
                    _ => call,
                };
                let event = told.part(&part, None).tool(&call);
                told.push(event);
            }
            "error" => {
                let words =
                    words(&value).unwrap_or_else(|| "the tool reported an error".to_owned());
                if text_of(&value, "severity") == "warning" {
                    told.warn(&words, None);
                } else {
                    told.hold(&words, None);
                }
            }
            "result" => {
                let stats = value.get("stats").cloned().unwrap_or_default();
                let count = |name: &str| stats.get(name).and_then(number);
                if text_of(&value, "status") != "success" {
                    let words = words(&value).unwrap_or_else(|| "the turn failed".to_owned());
                    return told.fail(&words, value.pointer("/error/type").and_then(Value::as_str));
                }
                let usage = count("input_tokens").zip(count("output_tokens"));
                let usage = usage.map(|(input, output)| {
                    TokenUsage::new(input, output).cached_input(count("cached"))
                });
                let result = TurnResult::new().finish_reason(FinishReason::Stop).token_usage(usage);
                told.answer(result.total_ms(count("duration_ms")));
            }
            _ => {}
        }
    }
}

/// How many calls may run at once.
const MAX_CALLS: usize = 256;
