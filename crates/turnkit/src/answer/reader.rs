//! Reads an answer out of its events (PROTOCOL 2.3).

use std::char::REPLACEMENT_CHARACTER;

use turnkit_wire::{
    Event,
    kind::Class,
    value::Value,
    view::{PartUpdate, Text, ToolCall, TurnResult, Warning},
};

use super::{AnswerPart, RawText, Summary, assembly::Assembly, part::PartKind, template::Template};
use crate::{TurnError, turn::Settings};

/// Reads an answer out of its events.
pub(crate) struct AnswerReader {
    assembly: Assembly,
    template: Template,
    half: Option<Half>,
    summary: Summary,
}

/// A high surrogate that a part's text ends with. It reads as U+FFFD until its other half comes.
struct Half {
    high: u16,
    place: usize,
    end: usize,
}

impl AnswerReader {
    pub(crate) fn new(settings: &Settings, prompt: Option<&str>) -> Self {
        Self {
            assembly: Assembly::new(settings.max_text, settings.max_parts, prompt),
            template: Template::default(),
            half: None,
            summary: Summary::default(),
        }
    }

    /// A `message.part.updated`.
    #[inline]
    pub(crate) fn part(&mut self, event: &Event) {
        match self.template.read(event.as_line()) {
            Some((place, delta)) => self.assembly.append(place, delta),
            None => self.view_part(event),
        }
    }

    /// A `result`.
    pub(crate) fn result(&mut self, event: &Event) {
        let text = TurnResult::of(event).and_then(|result| result.final_text());
        if let Some(text) = text {
            self.assembly.answer(text.to_str().into_owned(), true);
        }
        self.summary = Summary::of(event).unwrap_or_default();
    }

    /// A `warning`.
    pub(crate) fn warning(&mut self, event: &Event) {
        let warning = Warning::of(event).unwrap_or_default();
        let message = warning.message().map(|message| message.to_str()).unwrap_or_default();
        let code = warning.code().map(|code| code.to_str());
        self.assembly.warn(&message, code.as_deref());
    }

    /// An event of the kinds that PROTOCOL 3.6 has.
    pub(crate) fn interaction(&mut self, event: &Event) {
        let kind = match event.class() {
            Class::Interaction => PartKind::Interaction,
            Class::InteractionAnswered => PartKind::Answered,
            class => {
                let id = Value::of(event).get("id").and_then(Value::string);
                let id = id.map(|id| id.to_str()).unwrap_or_default();
                if class == Class::Input {
                    self.assembly.input(&id, event);
                } else if self.assembly.taken(&id) {
                    // What the parts say from here on stands behind the input.
                    self.template = Template::default();
                }
                return;
            }
        };
        if let Some(part) = AnswerPart::of_event(kind, event) {
            self.assembly.tell(&part);
        }
    }

    /// The producer is done: says whether there is a text that can be the answer.
    pub(crate) fn settle(&mut self, final_text: Option<String>) -> Result<(), TurnError> {
        if let Some(text) = final_text {
            self.assembly.answer(text, false);
        }
        self.assembly.check()
    }

    /// The answer so far, whole or partial. Leaves nothing behind.
    pub(crate) fn take(&mut self) -> RawText {
        self.assembly.take(std::mem::take(&mut self.summary))
    }

    fn view_part(&mut self, event: &Event) {
        let Some(update) = PartUpdate::of(event) else {
            return;
        };
        let message = update.message_id().map(|id| id.to_str());
        self.assembly.see_part(message.as_deref());
        let kind = update.part_type().and_then(|kind| PartKind::parse(&kind.to_str()));
        let Some(kind) = kind.filter(|kind| kind.is_part()) else {
            return;
        };
        let call = ToolCall::of(&update);
        let id = update.part_id().or_else(|| call?.call_id());
        let id = id.map(|id| id.to_str()).unwrap_or_default();
        let Some(place) = self.assembly.part(kind, &id, message.as_deref()) else {
            return;
        };
        match (kind, update.delta()) {
            (PartKind::Text | PartKind::Reasoning, Some(delta)) => {
                self.append(place, delta);
                self.template.learn(event.as_line(), place, delta, update.text());
            }
            (PartKind::Text | PartKind::Reasoning, None) => {
                if let Some(text) = update.text() {
                    self.assembly.replace(place, &text.to_str());
                    self.keep_half(place, text);
                }
            }
            (_, delta) => {
                let piece = delta.map(|delta| delta.to_str());
                self.assembly.keep(place, &update, call.as_ref(), piece.as_deref());
            }
        }
    }

    fn append(&mut self, place: usize, delta: Text<'_>) {
        let text = delta.to_str();
        let mut rest = &*text;
        if let Some(character) = self.joined(place, delta) {
            self.assembly.replace_last(place, character);
            rest = text.strip_prefix(REPLACEMENT_CHARACTER).unwrap_or_default();
        }
        self.assembly.append(place, rest);
        self.keep_half(place, delta);
    }

    /// The character whose first half the part ends with and whose other half `delta` begins with.
    fn joined(&self, place: usize, delta: Text<'_>) -> Option<char> {
        let half = self.half.as_ref()?;
        let is_last = half.place == place && self.assembly.end(place) == Some(half.end);
        if is_last { delta.joined_to(half.high) } else { None }
    }

    fn keep_half(&mut self, place: usize, text: Text<'_>) {
        if !text.is_empty() {
            let half = text.high_surrogate_at_end().zip(self.assembly.end(place));
            self.half = half.map(|(high, end)| Half { high, place, end });
        }
    }
}

#[cfg(test)]
mod tests;
