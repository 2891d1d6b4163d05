//! Assembles the text of an answer out of its events (PROTOCOL 2.3).

use std::{collections::HashMap, mem};

use crate::{TurnError, code};

/// Part ids and bookkeeping up to this many bytes are free. Beyond it they count as text, so that a stream of countless tiny
/// parts is bounded as well.
const FREE_INDEX: usize = 16 * 1024;

/// What the bookkeeping of one part takes besides its id: its entry in the list and in the index.
const PART_OVERHEAD: usize = 128;

/// The text so far, at most `limit` bytes of it.
pub(super) struct Assembly {
    limit: usize,
    /// The whole answer, as a `result` or `Done` gave it: parts no longer matter then.
    answer: Option<Text>,
    /// In order of first appearance.
    parts: Vec<Part>,
    index: HashMap<Box<str>, usize>,
    index_bytes: usize,
    /// Bytes of text in `parts`.
    held: usize,
    /// Whether there was no room even to begin a part. Then none is begun after it: the text has no holes.
    lost_part: bool,
    saw_part: bool,
    echo: Echo,
}

/// A text that may have been cut at the limit.
#[derive(Default)]
struct Text {
    text: String,
    cut: bool,
}

#[derive(Default)]
struct Part {
    text: Text,
    /// It is the user's prompt and counts in no text.
    is_echo: bool,
}

/// Watches for the user's prompt as the first text part (PROTOCOL 4.1).
#[derive(Default)]
struct Echo {
    prompt: Option<Box<str>>,
    /// The message of the first text part.
    message: Option<Box<str>>,
}

impl Assembly {
    pub(super) fn new(limit: usize, prompt: Option<&str>) -> Self {
        Self {
            limit,
            answer: None,
            parts: Vec::new(),
            index: HashMap::new(),
            index_bytes: 0,
            held: 0,
            lost_part: false,
            saw_part: false,
            echo: Echo { prompt: prompt.map(Into::into), message: None },
        }
    }

    /// A `message.part.updated` of `message` came, whatever its part is.
    pub(super) fn see_part(&mut self, message: Option<&str>) {
        self.saw_part = true;
        let echoed = self.echo.is_over(message);
        if let (Some(prompt), Some(first)) = (echoed, self.parts.first_mut()) {
            first.is_echo = first.text.echoes(&prompt);
            if first.is_echo {
                self.held -= first.text.clear(0);
            }
        }
    }

    /// The place of the text part `id`, which is given one when it is new. None where there is no room for it.
    pub(super) fn part(&mut self, id: &str, message: Option<&str>) -> Option<usize> {
        if let Some(&place) = self.index.get(id) {
            return Some(place);
        }
        let index_bytes = self.index_bytes + PART_OVERHEAD + id.len();
        self.lost_part |= self.held + index_bytes.saturating_sub(FREE_INDEX) > self.limit;
        if self.lost_part {
            return None;
        }
        self.index_bytes = index_bytes;
        self.echo.begins(message);
        self.parts.push(Part::default());
        self.index.insert(id.into(), self.parts.len() - 1);
        Some(self.parts.len() - 1)
    }

    #[inline]
    pub(super) fn append(&mut self, place: usize, delta: &str) {
        let room = self.room();
        let part = &mut self.parts[place];
        if !part.is_echo {
            self.held += part.text.append(delta, room, self.limit);
        }
    }

    /// Puts `text` in the place of what the part had. An empty one replaces nothing.
    pub(super) fn replace(&mut self, place: usize, text: &str) {
        if !text.is_empty() {
            self.held -= self.parts[place].text.clear(text.len());
            self.append(place, text);
        }
    }

    /// Puts `character` in the place of the last one that the part has.
    pub(super) fn replace_last(&mut self, place: usize, character: char) {
        let last = self.parts[place].text.text.pop();
        self.held -= last.map_or(0, char::len_utf8);
        self.append(place, character.encode_utf8(&mut [0; 4]));
    }

    /// Where the part's text ends. None where it was cut.
    pub(super) fn end(&self, place: usize) -> Option<usize> {
        let text = &self.parts[place].text;
        (!text.cut).then_some(text.text.len())
    }

    /// The whole answer, unless it is blank.
    pub(super) fn answer(&mut self, text: String) {
        if !text.trim().is_empty() {
            self.parts = Vec::new();
            self.index = HashMap::new();
            self.answer = Some(Text::within(text, self.limit));
        }
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Whether the text can be an answer.
    pub(super) fn check(&self) -> Result<(), TurnError> {
        let cut = match &self.answer {
            Some(answer) => answer.cut,
            None => self.lost_part || self.parts.iter().any(|part| part.text.cut),
        };
        if cut {
            let message = format!("the answer's text is over {} bytes", self.limit);
            return Err(TurnError::produce(code::TEXT_TOO_LARGE, &message));
        }
        if self.answer.is_none() && !self.saw_part {
            return Err(TurnError::produce(code::EMPTY_ANSWER, "the answer is empty"));
        }
        Ok(())
    }

    /// The text, whole or partial. Leaves nothing behind.
    pub(super) fn take(&mut self) -> String {
        self.index = HashMap::new();
        let parts = mem::take(&mut self.parts);
        match self.answer.take() {
            Some(answer) => answer.text,
            None => join(parts),
        }
    }

    /// How much more text fits.
    fn room(&self) -> usize {
        let counted = self.held + self.index_bytes.saturating_sub(FREE_INDEX);
        self.limit.saturating_sub(counted)
    }
}

impl Text {
    fn within(mut text: String, limit: usize) -> Self {
        let cut = text.len() > limit;
        text.truncate(floor_char_boundary(&text, limit));
        if cut {
            text.shrink_to_fit();
        }
        Self { text, cut }
    }

    /// Whether it is `prompt`, as far as it is held.
    fn echoes(&self, prompt: &str) -> bool {
        let rest = prompt.strip_prefix(self.text.as_str());
        rest.is_some_and(|rest| rest.is_empty() != self.cut)
    }

    /// Appends as much of `delta` as there is room for, and says how much that was. After a cut nothing is appended: the text
    /// has no holes.
    #[inline]
    fn append(&mut self, delta: &str, room: usize, limit: usize) -> usize {
        if self.cut {
            return 0;
        }
        self.cut = delta.len() > room;
        let delta = &delta[..floor_char_boundary(delta, room)];
        if self.text.capacity() - self.text.len() < delta.len() {
            self.grow(delta.len(), limit);
        }
        self.text.push_str(delta);
        delta.len()
    }

    /// Makes way for a text of `length` bytes, and says how much there was. Keeps no more memory than a text that long may have
    /// from growing: the limit counts text.
    fn clear(&mut self, length: usize) -> usize {
        let former = self.text.len();
        self.text.clear();
        self.text.shrink_to(2 * length);
        self.cut = false;
        former
    }

    /// Doubles, but never beyond the limit.
    fn grow(&mut self, additional: usize, limit: usize) {
        let doubled = (self.text.capacity() * 2).min(limit);
        let needed = self.text.len() + additional;
        self.text.reserve_exact(doubled.max(needed) - self.text.len());
    }
}

impl Echo {
    fn begins(&mut self, message: Option<&str>) {
        if self.prompt.is_some() && self.message.is_none() {
            self.message = message.map(Into::into);
        }
    }

    /// The prompt, once: when the message of the first text part is followed by another one.
    fn is_over(&mut self, message: Option<&str>) -> Option<Box<str>> {
        let first = self.message.as_deref()?;
        let another = message.is_some_and(|message| message != first);
        another.then(|| self.prompt.take()).flatten()
    }
}

/// The text up to where it was first cut.
fn join(mut parts: Vec<Part>) -> String {
    if let Some(cut) = parts.iter().position(|part| part.text.cut) {
        parts.truncate(cut + 1);
    }
    let mut parts = parts.into_iter().map(|part| part.text.text);
    let mut text = parts.next().unwrap_or_default();
    parts.for_each(|part| text.push_str(&part));
    text
}

/// The end of the longest prefix of at most `limit` bytes that is whole characters.
fn floor_char_boundary(text: &str, limit: usize) -> usize {
    if limit >= text.len() {
        return text.len();
    }
    (0..=limit).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn a_text_doubles_its_memory_and_never_takes_more_than_the_limit() {
        let mut text = Text::default();
        let (mut grown, mut capacity) = (Vec::new(), 0);
        for length in [1; 5].into_iter().chain([300]).chain([1; 695]) {
            text.append(&"x".repeat(length), usize::MAX, 1000);
            if text.text.capacity() != capacity {
                capacity = text.text.capacity();
                grown.push((text.text.len(), capacity));
            }
        }
        assert_eq!(grown, [(1, 1), (2, 2), (3, 4), (5, 8), (305, 305), (306, 610), (611, 1000)]);
    }

    #[test]
    fn a_text_that_makes_way_keeps_memory_for_the_next_to_grow() {
        let mut text = Text::default();
        text.append(&"x".repeat(1000), usize::MAX, 1000);
        for (length, kept) in [(500, 1000), (100, 200), (0, 0)] {
            text.clear(length);
            assert_eq!(text.text.capacity(), kept);
        }
    }
}
