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
    content: Option<Value>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    pub(super) tool_calls: Option<Vec<ToolPiece>>,
}

/// A piece of a tool call.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolPiece {
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
    /// What it says, by type of part and in order. None where that is neither text nor pieces of it.
    pub(super) fn said(&self) -> Option<Vec<Said<'_>>> {
        let thought = self.reasoning().map(|text| (REASONING, text));
        let content = self.content.as_ref().map(content_said);
        let content = content.unwrap_or(Some(Vec::new()))?;
        let refusal = self.refusal.as_deref().map(|text| (TEXT, text));
        Some(thought.into_iter().chain(content).chain(refusal).collect())
    }

    /// Some servers send both members, with the same text.
    fn reasoning(&self) -> Option<&str> {
        let texts = [&self.reasoning_content, &self.reasoning];
        let mut texts = texts.into_iter().flatten().map(String::as_str);
        texts.find(|text| !text.is_empty())
    }
}

/// The type of a part of the answer itself.
pub(super) const TEXT: &str = "text";

/// The type of a part of the thoughts before it.
pub(super) const REASONING: &str = "reasoning";

/// The type of a part, and text of it.
pub(super) type Said<'a> = (&'static str, &'a str);

fn content_said(content: &Value) -> Option<Vec<Said<'_>>> {
    match content {
        Value::String(text) => Some(vec![(TEXT, text)]),
        Value::Array(pieces) => {
            let said: Option<Vec<_>> = pieces.iter().map(piece_said).collect();
            Some(said?.concat())
        }
        _ => None,
    }
}

/// One piece of a content in pieces: text, or thoughts that are pieces again.
fn piece_said(piece: &Value) -> Option<Vec<Said<'_>>> {
    match piece.get("type")?.as_str()? {
        "text" => Some(vec![(TEXT, piece.get("text")?.as_str()?)]),
        "thinking" => {
            let thoughts = piece.get("thinking")?.as_array()?.iter();
            thoughts.map(|thought| Some((REASONING, thought.get("text")?.as_str()?))).collect()
        }
        _ => None,
    }
}
