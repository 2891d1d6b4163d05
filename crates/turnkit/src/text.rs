//! The text of an answer.

mod assembly;
mod template;

use std::{char::REPLACEMENT_CHARACTER, fmt};

use turnkit_wire::{
    Event,
    view::{PartUpdate, Text, TurnResult},
};

use self::{assembly::Assembly, template::Template};
use crate::TurnError;

/// The text as it was produced (PROTOCOL 2.3): whole for
/// [`transform_final_text`](crate::TurnHooks::transform_final_text), partial for
/// [`on_turn_failed`](crate::TurnHooks::on_turn_failed).
///
/// It cannot be persisted: [`persist_assistant_message`](crate::TurnHooks::persist_assistant_message) takes a [`FinalText`],
/// and only the engine makes one. `Debug` shows the length, not the text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawText(pub(crate) String);

/// The text that is saved, as [`transform_final_text`](crate::TurnHooks::transform_final_text) made it (PROTOCOL 2.1).
///
/// Only the engine makes one. `Debug` shows the length, not the text.
#[derive(Clone, PartialEq, Eq)]
pub struct FinalText(pub(crate) String);

impl RawText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, without copying it.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl FinalText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, without copying it.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawText({} bytes)", self.0.len())
    }
}

impl fmt::Debug for FinalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FinalText({} bytes)", self.0.len())
    }
}

/// Reads the text of an answer out of its events (PROTOCOL 2.3).
pub(crate) struct TextReader {
    assembly: Assembly,
    template: Template,
    half: Option<Half>,
}

/// A high surrogate that a part's text ends with. It reads as U+FFFD until its other half comes.
struct Half {
    high: u16,
    place: usize,
    end: usize,
}

impl TextReader {
    pub(crate) fn new(limit: usize, prompt: Option<&str>) -> Self {
        Self { assembly: Assembly::new(limit, prompt), template: Template::default(), half: None }
    }

    /// A `message.part.updated`.
    #[inline]
    pub(crate) fn part(&mut self, event: &Event) {
        if self.assembly.has_answer() {
            return;
        }
        match self.template.read(event.as_line()) {
            Some((place, delta)) => self.assembly.append(place, delta),
            None => self.view_part(event),
        }
    }

    /// A `result`.
    pub(crate) fn result(&mut self, event: &Event) {
        let text = TurnResult::of(event).and_then(|result| result.final_text());
        if let Some(text) = text {
            self.assembly.answer(text.to_str().into_owned());
        }
    }

    /// The producer is done: says whether there is a text that can be the answer.
    pub(crate) fn settle(&mut self, final_text: Option<String>) -> Result<(), TurnError> {
        if let Some(text) = final_text {
            self.assembly.answer(text);
        }
        self.assembly.check()
    }

    /// The text so far, whole or partial. Leaves nothing behind.
    pub(crate) fn take(&mut self) -> RawText {
        RawText(self.assembly.take())
    }

    fn view_part(&mut self, event: &Event) {
        let Some(update) = PartUpdate::of(event) else {
            return;
        };
        let message = update.message_id().map(|id| id.to_str());
        self.assembly.see_part(message.as_deref());
        if update.is_text() {
            let id = update.part_id().map(|id| id.to_str()).unwrap_or_default();
            if let Some(place) = self.assembly.part(&id, message.as_deref()) {
                self.change(place, &update, event.as_line());
            }
        }
    }

    fn change(&mut self, place: usize, update: &PartUpdate<'_>, line: &[u8]) {
        if let Some(delta) = update.delta() {
            self.append(place, delta);
            self.template.learn(line, place, delta, update.text());
        } else if let Some(text) = update.text() {
            self.assembly.replace(place, &text.to_str());
            self.keep_half(place, text);
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
