//! Codex: `codex exec --json`.

use serde_json::{Value, json};
use turnkit_wire::write::{FinishReason, Json, TokenUsage, ToolCall, ToolStatus, TurnResult};

use super::{
    super::told::{self, Told},
    Format, Mapper, object, text_of,
};
use crate::lenient::{is_nothing, number, words};

pub(super) struct Codex {
    is_first: bool,
}

impl Default for Codex {
    fn default() -> Self {
        Self { is_first: true }
    }
}

impl Mapper for Codex {
    fn line(&mut self, line: &[u8], told: &mut Told) {
        let Some(value) = object(line, Format::Codex, &mut self.is_first, told) else { return };
        match text_of(&value, "type") {
            "thread.started" => {
                told.agent_session =
                    value.get("thread_id").and_then(Value::as_str).map(str::to_owned);
            }
            "item.started" | "item.updated" | "item.completed" => {
                if let Some(found) = value.get("item") {
                    item(found, text_of(&value, "type") == "item.completed", told);
                }
            }
            "error" => {
                let words =
                    words(&value).unwrap_or_else(|| "the tool reported an error".to_owned());
                told.hold(&words, None);
            }
            "turn.failed" => {
                let words = words(&value).unwrap_or_else(|| "the turn failed".to_owned());
                told.fail(&words, None);
            }
            "turn.completed" => {
                let usage = value.get("usage").and_then(token_usage);
                told.answer(TurnResult::new().finish_reason(FinishReason::Stop).token_usage(usage));
            }
            _ => {}
        }
    }
}

fn item(item: &Value, is_completed: bool, told: &mut Told) {
    let (id, text) = (text_of(item, "id"), text_of(item, "text"));
    let kind = text_of(item, "type");
    let tool;
    let (name, input, output) = match kind {
        "agent_message" | "assistant_message" => {
            if !text.is_empty() {
                let event = told.part(id, Some(id)).text(text);
                told.push(event);
            }
            return;
        }
        "reasoning" => {
            if !text.is_empty() {
                let event = told.part(id, Some(id)).reasoning(text);
                told.push(event);
            }
            return;
        }
        "error" => {
            let words = words(item).unwrap_or_else(|| "the tool reported an error".to_owned());
            return told.warn(&words, None);
        }
        "command_execution" => {
            let output = item.get("aggregated_output").filter(|_| is_completed);
            ("bash", json!({ "command": text_of(item, "command") }), output.cloned())
        }
        "mcp_tool_call" => {
            tool = format!("{}.{}", text_of(item, "server"), text_of(item, "tool"));
            let input = item.get("arguments").cloned().unwrap_or_default();
            (
                tool.as_str(),
                input,
                item.get("result").filter(|result| !result.is_null()).map(content),
            )
        }
        "" => return,
        // A change of files, a search, a list of things to do: what is there is what it is about.
        other => {
            let mut input = item.clone();
            if let Some(members) = input.as_object_mut() {
                members.retain(|name, _| !["id", "type", "status"].contains(&name.as_str()));
            }
            (other, input, None)
        }
    };
    let status = match (text_of(item, "status"), is_completed) {
        ("failed" | "declined", _) => ToolStatus::Error,
        ("completed", _) | (_, true) => ToolStatus::Completed,
        _ => ToolStatus::Running,
    };
    let error = item.get("error").filter(|error| !is_nothing(error)).and_then(words);
    let error = error.or_else(|| {
        match (text_of(item, "status"), item.get("exit_code").and_then(Value::as_i64)) {
            ("declined", _) => Some("declined".to_owned()),
            ("failed", Some(code)) => Some(format!("exit status {code}")),
            ("failed", None) => Some("failed".to_owned()),
            _ => None,
        }
    });
    let input = told::output(&input);
    let output: Option<Json<'_>> = output.as_ref().and_then(told::output);
    let mut call =
        ToolCall::new(name, status).call_id(id).input(input.as_ref()).output(output.as_ref());
    if let Some(error) = error.as_deref().filter(|_| status == ToolStatus::Error) {
        call = call.error(error);
    }
    let event = told.part(id, None).tool(&call);
    told.push(event);
}

/// The texts of a tool's answer, where it has nothing but texts.
fn content(result: &Value) -> Value {
    let pieces = result.get("content").and_then(Value::as_array);
    let texts = pieces.map(|pieces| {
        pieces.iter().map(|piece| piece.get("text")?.as_str()).collect::<Option<Vec<_>>>()
    });
    texts.flatten().map_or_else(|| result.clone(), |texts| texts.join("\n").into())
}

fn token_usage(usage: &Value) -> Option<TokenUsage> {
    let count = |name: &str| usage.get(name).and_then(number);
    let tokens = TokenUsage::new(count("input_tokens")?, count("output_tokens")?)
        .reasoning(count("reasoning_output_tokens"))
        .cached_input(count("cached_input_tokens"));
    Some(tokens)
}
