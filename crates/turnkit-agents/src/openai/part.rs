//! The events of an answer, as PROTOCOL 1.1 spells them.

use serde::Serialize;
use serde_json::{Value, value::RawValue};
use turnkit_wire::{EncodeError, Event, kind};

/// More of a part, or what it is now.
#[derive(Clone, Copy, Serialize)]
pub(super) struct PartUpdated<'a> {
    pub(super) part: Part<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delta: Option<&'a str>,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct Part<'a> {
    pub(super) id: &'a str,
    #[serde(rename = "sessionID", skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<&'a str>,
    #[serde(rename = "messageID")]
    pub(super) message: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool: Option<&'a str>,
    #[serde(rename = "callID", skip_serializing_if = "Option::is_none")]
    pub(super) call: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<ToolState<'a>>,
}

/// What became of a tool call.
#[derive(Clone, Copy, Serialize)]
pub(super) struct ToolState<'a> {
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw: Option<&'a str>,
}

/// The end of an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finished<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) final_text: Option<&'a str>,
    pub(super) metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_usage: Option<TokenUsage>,
    pub(super) timing: Timing,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<&'a str>,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct TokenUsage {
    #[serde(rename = "inputTokens")]
    input: u64,
    #[serde(rename = "outputTokens")]
    output: u64,
    #[serde(rename = "reasoningTokens", skip_serializing_if = "Option::is_none")]
    reasoning: Option<u64>,
    #[serde(rename = "cachedInputTokens", skip_serializing_if = "Option::is_none")]
    cached_input: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timing {
    pub(super) total_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_token_ms: Option<u64>,
}

impl PartUpdated<'_> {
    pub(super) fn event(&self) -> Result<Event, EncodeError> {
        Event::new(kind::MESSAGE_PART_UPDATED, self)
    }
}

impl Finished<'_> {
    pub(super) fn event(&self) -> Result<Event, EncodeError> {
        Event::new(kind::RESULT, self)
    }
}

impl TokenUsage {
    /// From the `usage` of an answer; none where the two counts are not there.
    pub(super) fn read(usage: &Value) -> Option<Self> {
        let count = |path: &str| usage.pointer(path).and_then(Value::as_u64);
        Some(Self {
            input: count("/prompt_tokens")?,
            output: count("/completion_tokens")?,
            reasoning: count("/completion_tokens_details/reasoning_tokens"),
            cached_input: count("/prompt_tokens_details/cached_tokens"),
        })
    }
}
