//! Events of Anthropic's `/messages`, and whole messages.

use serde_json::Value;

use super::{
    AgentError,
    answer::{Answer, Kind, ToolPiece},
    reader::{Frame, Taken},
};
use crate::{lenient::number, usage::Usage};

/// What is kept between events: the counts come in two of them.
#[derive(Default)]
pub(super) struct Messages {
    usage: Usage,
}

impl Messages {
    pub(super) fn take(
        &mut self,
        answer: &mut Answer,
        frame: Frame<'_>,
    ) -> Result<Taken, AgentError> {
        let (event, at) = (frame.value, frame.at);
        let index = event.get("index").and_then(number);
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => {
                if let Some(message) = event.get("message") {
                    self.about(answer, message);
                }
            }
            "content_block_start" => {
                let Some(block) = event.get("content_block") else { return Ok(Taken::Unknown) };
                self::block(answer, block, index, frame)?;
            }
            "content_block_delta" => {
                let Some(delta) = event.get("delta") else { return Ok(Taken::Unknown) };
                let text = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
                match text("type") {
                    "text_delta" => answer.delta(Kind::Text, text("text"), at),
                    "thinking_delta" => answer.delta(Kind::Reasoning, text("thinking"), at),
                    "input_json_delta" => {
                        let arguments = text("partial_json");
                        if !arguments.is_empty() {
                            answer
                                .call(ToolPiece { index, arguments, ..ToolPiece::default() }, at)?;
                        }
                    }
                    // What proves a thought, and where a text has its sources.
                    "signature_delta" | "citations_delta" => {}
                    _ => return Ok(Taken::Unknown),
                }
            }
            "message_delta" => {
                if let Some(usage) = event.get("usage") {
                    self.usage.learn(usage);
                }
                if let Some(usage) = self.usage.tokens() {
                    answer.set_usage(usage);
                }
                if let Some(reason) = event.pointer("/delta/stop_reason").and_then(Value::as_str) {
                    answer.reason(reason, at);
                }
            }
            "message_stop" => return Ok(Taken::Last),
            "content_block_stop" | "ping" => {}
            "message" => {
                self.about(answer, event);
                for (index, block) in
                    event.get("content").and_then(Value::as_array).into_iter().flatten().enumerate()
                {
                    self::block(answer, block, Some(index as u64), frame)?;
                }
                answer.begin_frame();
                if let Some(reason) = event.get("stop_reason").and_then(Value::as_str) {
                    answer.reason(reason, at);
                }
                return Ok(Taken::Message);
            }
            _ => return Ok(Taken::Unknown),
        }
        Ok(Taken::Known)
    }

    fn about(&mut self, answer: &mut Answer, message: &Value) {
        if let Some(id) = message.get("id").and_then(Value::as_str) {
            answer.set_id(id);
        }
        if let Some(usage) = message.get("usage") {
            self.usage.learn(usage);
        }
        if let Some(usage) = self.usage.tokens() {
            answer.set_usage(usage);
        }
    }
}

/// A block, with what stands in it already.
fn block(
    answer: &mut Answer,
    block: &Value,
    index: Option<u64>,
    frame: Frame<'_>,
) -> Result<(), AgentError> {
    let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "text" => answer.delta(Kind::Text, text("text"), frame.at),
        "thinking" => answer.delta(Kind::Reasoning, text("thinking"), frame.at),
        kind if kind.ends_with("tool_use") => {
            // An empty input is what comes in front of its pieces.
            let is_whole = |input: &&Value| {
                input.as_object().is_some_and(|input| !input.is_empty() || frame.is_body)
            };
            let arguments =
                block.get("input").filter(is_whole).map(Value::to_string).unwrap_or_default();
            let piece =
                ToolPiece { index, id: text("id"), name: text("name"), arguments: &arguments };
            answer.call(piece, frame.at)?;
        }
        _ => {}
    }
    Ok(())
}
