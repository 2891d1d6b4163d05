//! Events of OpenAI's `/responses`, and whole responses.

use serde_json::Value;
use turnkit_wire::write::TokenUsage;

use super::{
    AgentError,
    answer::{Answer, Kind, ToolPiece},
    reader::{Frame, Taken},
};
use crate::lenient::number;

/// Takes an event, or a whole response.
pub(super) fn take(answer: &mut Answer, frame: Frame<'_>) -> Result<Taken, AgentError> {
    let (event, at) = (frame.value, frame.at);
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let index = event.get("output_index").and_then(number);
    match text("type") {
        "response.output_text.delta" => answer.delta(Kind::Text, text("delta"), at),
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
            answer.delta(Kind::Reasoning, text("delta"), at);
        }
        "response.refusal.delta" => answer.refuse(text("delta"), at),
        "response.function_call_arguments.delta" => {
            answer
                .call(ToolPiece { index, arguments: text("delta"), ..ToolPiece::default() }, at)?;
        }
        "response.output_item.added" => {
            let Some(item) = event.get("item") else { return Ok(Taken::Unknown) };
            let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
            if text("type") == "function_call" {
                answer.call(
                    ToolPiece { index, id: text("call_id"), name: text("name"), arguments: "" },
                    at,
                )?;
            }
        }
        "response.completed"
        | "response.incomplete"
        | "response.failed"
        | "response.cancelled"
        | "response.done" => {
            let Some(response) = event.get("response") else { return Ok(Taken::Unknown) };
            whole(answer, response, frame)?;
            return Ok(Taken::Last);
        }
        "" if text("object") == "response" => {
            whole(answer, event, frame)?;
            return Ok(Taken::Last);
        }
        "response.created" | "response.in_progress" | "response.queued" => {
            if let Some(id) = event.pointer("/response/id").and_then(Value::as_str) {
                answer.set_id(id);
            }
        }
        kind if kind.starts_with("response.") => {}
        "keepalive" | "ping" => {}
        _ => return Ok(Taken::Unknown),
    }
    Ok(Taken::Known)
}

/// A response at its end: what it took and why it ended, and its texts where no piece of them came.
fn whole(answer: &mut Answer, response: &Value, frame: Frame<'_>) -> Result<(), AgentError> {
    let at = frame.at;
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    answer.set_id(&text(response, "id"));
    if let Some(usage) = response.get("usage").and_then(token_usage) {
        answer.set_usage(usage);
    }
    let items = response.get("output").and_then(Value::as_array);
    let (mut texts, mut thoughts, mut refusal, mut calls) =
        (String::new(), String::new(), String::new(), 0);
    for item in items.into_iter().flatten() {
        let pieces = |name: &str| item.get(name).and_then(Value::as_array).into_iter().flatten();
        match text(item, "type").as_str() {
            "message" => {
                for piece in pieces("content") {
                    texts.push_str(&text(piece, "text"));
                    refusal.push_str(&text(piece, "refusal"));
                }
            }
            "reasoning" => {
                for piece in pieces("summary").chain(pieces("content")) {
                    thoughts.push_str(&text(piece, "text"));
                }
            }
            "function_call" => {
                let (id, name, arguments) =
                    (text(item, "call_id"), text(item, "name"), text(item, "arguments"));
                answer.whole_call(
                    calls,
                    ToolPiece { index: None, id: &id, name: &name, arguments: &arguments },
                    at,
                )?;
                calls += 1;
            }
            _ => {}
        }
    }
    answer.message(Kind::Reasoning, &thoughts, at);
    answer.message(Kind::Text, &texts, at);
    if !answer.has_refused() {
        answer.refuse(&refusal, at);
    }
    answer.begin_frame();
    match text(response, "status").as_str() {
        "completed" | "" => answer.reason(if calls > 0 { "tool_calls" } else { "stop" }, at),
        "incomplete" => {
            let reason = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
            answer.reason(reason.unwrap_or("incomplete"), at);
        }
        status => {
            if let Some(error) = response.get("error").filter(|error| !error.is_null()) {
                return Err(answer.error(error));
            }
            answer.reason(status, at);
        }
    }
    Ok(())
}

fn token_usage(usage: &Value) -> Option<TokenUsage> {
    let count = |path: &str| usage.pointer(path).and_then(number);
    let tokens = TokenUsage::new(count("/input_tokens")?, count("/output_tokens")?)
        .reasoning(count("/output_tokens_details/reasoning_tokens"))
        .cached_input(count("/input_tokens_details/cached_tokens"));
    Some(tokens)
}
