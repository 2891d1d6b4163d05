//! What is told at the start and at the end of a turn.

use alloc::vec::Vec;

use turnkit_wire::{value::Value, view::Text};

/// Longer pieces of an agent's account are left out of what the end tells.
const MAX_ACCOUNT: usize = 64 * 1024;

/// What the turn is, each as it is spelt in JSON, quotes included; empty where it is not known.
#[derive(Clone, Default)]
pub(crate) struct Started {
    pub(crate) execution_id: Vec<u8>,
    pub(crate) turn_id: Vec<u8>,
    pub(crate) session_id: Vec<u8>,
    pub(crate) tenant_id: Vec<u8>,
    pub(crate) turn_index: Vec<u8>,
}

impl Started {
    /// The execution's id, as the inside of its JSON string.
    pub(crate) fn prefix(&self) -> &[u8] {
        match &*self.execution_id {
            [b'"', id @ .., b'"'] => id,
            _ => b"",
        }
    }

    /// Takes what `session.run.started` says: it outweighs what was known before.
    pub(super) fn read(&mut self, data: Value<'_>) {
        data.members(|key, value| {
            let member = match &*key.to_str() {
                "executionId" => &mut self.execution_id,
                "turnId" => &mut self.turn_id,
                "sessionId" => &mut self.session_id,
                "tenantId" => &mut self.tenant_id,
                "turnIndex" if value.whole_number().is_some() => {
                    return keep(&mut self.turn_index, value);
                }
                _ => return,
            };
            if value.string().is_some() {
                keep(member, value);
            }
        });
    }
}

/// What the last `result` says, and how the turn ends. Each piece as it is spelt in JSON; empty where there is none.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) usage: Vec<u8>,
    pub(crate) timing: Vec<u8>,
    pub(crate) agent: Vec<u8>,
    pub(crate) model: Vec<u8>,
    pub(crate) finish_reason: &'static str,
    /// Whole numbers: input, output, reasoning, cached input.
    pub(crate) tokens: [Option<u64>; 4],
    pub(crate) replayed: bool,
    /// A terminal line has come.
    pub(super) is_over: bool,
}

/// The most that JavaScript counts exactly.
const MAX_SAFE: u64 = (1 << 53) - 1;

impl Summary {
    pub(super) fn read(&mut self, data: Value<'_>) {
        *self = Self { replayed: self.replayed, is_over: self.is_over, ..Self::default() };
        data.members(|key, value| match &*key.to_str() {
            "tokenUsage" if value.is_object() => {
                keep(&mut self.usage, value);
                value.members(|key, value| {
                    let number = value.whole_number().filter(|&number| number <= MAX_SAFE);
                    match &*key.to_str() {
                        "inputTokens" => self.tokens[0] = number,
                        "outputTokens" => self.tokens[1] = number,
                        "reasoningTokens" => self.tokens[2] = number,
                        "cachedInputTokens" => self.tokens[3] = number,
                        _ => {}
                    }
                });
            }
            "timing" if value.is_object() => keep(&mut self.timing, value),
            "metadata" if value.is_object() => keep(&mut self.agent, value),
            "model" if value.string().is_some() => keep(&mut self.model, value),
            "finishReason" => {
                self.finish_reason = match value.string().map(|reason| reason.to_str()).as_deref() {
                    Some("stop") => "stop",
                    Some("length") => "length",
                    Some("content-filter") => "content-filter",
                    Some("tool-calls") => "tool-calls",
                    Some(_) => "other",
                    None => "",
                }
            }
            _ => {}
        });
    }

    /// Why the model stopped: `stop` where nothing else was said.
    pub(crate) fn reason(&self) -> &'static str {
        if self.finish_reason.is_empty() { "stop" } else { self.finish_reason }
    }
}

/// How a turn failed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Failure<'a> {
    pub(crate) code: Option<Text<'a>>,
    pub(crate) message: Option<Text<'a>>,
    pub(crate) phase: Option<Text<'a>>,
    pub(crate) retryable: bool,
    pub(crate) temporary: bool,
}

impl<'a> Failure<'a> {
    pub(super) fn of(data: Value<'a>) -> Self {
        let mut failure = Self::default();
        data.members(|key, value| match &*key.to_str() {
            "code" => failure.code = value.string(),
            "message" => failure.message = value.string(),
            "phase" => failure.phase = value.string(),
            "retryable" => failure.retryable = value.boolean() == Some(true),
            "temporary" => failure.temporary = value.boolean() == Some(true),
            _ => {}
        });
        failure
    }

    /// Whether somebody stopped the turn.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.code.is_some_and(|code| code.is("cancelled"))
    }

    pub(crate) fn message(&self) -> &'a [u8] {
        self.message.map_or(b"the turn failed", |message| message.raw())
    }
}

fn keep(member: &mut Vec<u8>, value: Value<'_>) {
    member.clear();
    if value.json().len() <= MAX_ACCOUNT {
        member.extend_from_slice(value.json());
    }
}
