//! One chunk of an answer, as servers send it: tolerant where they differ.

use serde::Deserialize;
use serde_json::Value;

/// A chunk, or a whole answer of a server that does not stream. Members that are not read here do not matter.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    pub(super) id: Option<String>,
    pub(super) choices: Option<Vec<Choice>>,
    pub(super) usage: Option<Value>,
    pub(super) error: Option<Value>,
    object: Option<String>,
    message: Option<Value>,
}

/// One of the answers that were asked for: only one is.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    index: Option<u64>,
    #[serde(alias = "message")]
    pub(super) delta: Option<Delta>,
    finish_reason: Option<String>,
}

/// What is new.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta {
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    pub(super) tool_calls: Option<Vec<ToolCall>>,
}

/// A piece of a tool call.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolCall {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) function: Option<Function>,
}

/// Which function a tool call names, and a piece of its arguments.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Function {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

impl Chunk {
    /// The error that it is instead of an answer, in any of the ways in which servers say so.
    pub(super) fn take_error(&mut self) -> Option<Value> {
        let is_error = self.object.as_deref() == Some("error");
        let whole = self.message.take().filter(|_| is_error);
        self.error.take().or(whole)
    }
}

impl Choice {
    pub(super) fn is_first(&self) -> bool {
        self.index.unwrap_or_default() == 0
    }

    /// Why the answer ends here, if it does: some servers say `""` until then.
    pub(super) fn take_finish_reason(&mut self) -> Option<String> {
        let reason = self.finish_reason.take();
        reason.filter(|reason| !reason.is_empty())
    }
}

impl Delta {
    /// Some servers send both members, with the same text.
    pub(super) fn reasoning(&self) -> Option<&str> {
        let texts = [&self.reasoning_content, &self.reasoning];
        let mut texts = texts.into_iter().flatten().map(String::as_str);
        texts.find(|text| !text.is_empty())
    }
}
