//! opencode: `opencode run --format json`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use turnkit_wire::{
    Event, kind,
    write::{Json, TokenUsage, TurnResult},
};

use super::{
    super::told::{self, Told},
    Format, Mapper, object, text_of,
};
use crate::{
    ending::Ending,
    lenient::{number, words},
};

pub(super) struct OpenCode {
    is_first: bool,
    input: u64,
    output: u64,
    reasoning: u64,
    cached: u64,
    cost: f64,
    has_usage: bool,
    /// Why the last step ended.
    ending: Option<Ending>,
    has_answered: bool,
}

impl Default for OpenCode {
    fn default() -> Self {
        Self {
            is_first: true,
            input: 0,
            output: 0,
            reasoning: 0,
            cached: 0,
            cost: 0.0,
            has_usage: false,
            ending: None,
            has_answered: false,
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Data<'a> {
    #[serde(borrow)]
    part: &'a RawValue,
}

impl Mapper for OpenCode {
    fn line(&mut self, line: &[u8], told: &mut Told) {
        let Some(value) = object(line, Format::OpenCode, &mut self.is_first, told) else { return };
        if let Some(session) = value.get("sessionID").and_then(Value::as_str) {
            told.agent_session = Some(session.to_owned());
        }
        let part = value.get("part").cloned().unwrap_or_default();
        match text_of(&value, "type") {
            "text" | "reasoning" | "tool_use" => {
                // The part is one of PROTOCOL 1.1 as it is.
                self.ending = None;
                let as_it_is: Option<Data<'_>> = serde_json::from_slice(line.trim_ascii()).ok();
                let as_it_is = as_it_is.filter(|data| data.part.get().len() <= told::MAX_OUTPUT);
                let event = match as_it_is {
                    Some(data) => Event::new(kind::MESSAGE_PART_UPDATED, &data),
                    None => Event::new(
                        kind::MESSAGE_PART_UPDATED,
                        &serde_json::json!({ "part": shortened(part) }),
                    ),
                };
                match event {
                    Ok(event) => told.push(event),
                    Err(_) => told.stray(line),
                }
            }
            "step_start" => self.ending = None,
            "step_finish" => {
                let count = |path: &str| part.pointer(path).and_then(number).unwrap_or_default();
                let cached = count("/tokens/cache/read");
                self.has_usage |= part.get("tokens").is_some();
                self.input = self
                    .input
                    .saturating_add(count("/tokens/input"))
                    .saturating_add(cached)
                    .saturating_add(count("/tokens/cache/write"));
                self.output = self.output.saturating_add(count("/tokens/output"));
                self.reasoning = self.reasoning.saturating_add(count("/tokens/reasoning"));
                self.cached = self.cached.saturating_add(cached);
                self.cost += part.get("cost").and_then(Value::as_f64).unwrap_or_default();
                let reason = text_of(&part, "reason");
                // A step that calls tools is followed by another one.
                self.ending = Ending::of(reason).filter(|_| !reason.starts_with("tool"));
            }
            "error" => {
                let words =
                    words(&value).unwrap_or_else(|| "the tool reported an error".to_owned());
                told.hold(&words, value.pointer("/error/name").and_then(Value::as_str));
            }
            _ => {}
        }
    }

    fn end(&mut self, _is_good: bool, told: &mut Told) {
        let Some(ending) = self.ending.take().filter(|_| !self.has_answered) else { return };
        self.has_answered = true;
        if let Ending::Failed(name) = &ending {
            return told.hold(&format!("the answer ended with {name}"), None);
        }
        let usage = TokenUsage::new(self.input, self.output)
            .reasoning((self.reasoning > 0).then_some(self.reasoning))
            .cached_input((self.cached > 0).then_some(self.cached));
        let cost = (self.cost > 0.0).then(|| Json::of(&self.cost).ok()).flatten();
        let result = TurnResult::new().finish_reason(ending.finish_reason());
        told.answer(result.token_usage(self.has_usage.then_some(usage)).cost_usd(cost.as_ref()));
    }
}

/// A part that is too long for an event: its texts are cut, and say so.
fn shortened(mut part: Value) -> Value {
    match &mut part {
        Value::String(text) => *text = told::cut(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| *item = shortened(item.take())),
        Value::Object(members) => {
            // What the page does not draw, and which often has the output once more.
            members.remove("metadata");
            members.values_mut().for_each(|member| *member = shortened(member.take()));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    part
}
