//! Plain text: whatever a program prints is the answer.

use turnkit_wire::write::{FinishReason, TurnResult};

use super::super::told::Told;

/// Text, as far as it has come.
#[derive(Default)]
pub(crate) struct Text {
    /// The beginning of a character.
    rest: Vec<u8>,
    /// Nothing was told but white space, which is held.
    blank: String,
    has_begun: bool,
    /// Something was printed, of whatever kind.
    has_printed: bool,
}

impl Text {
    /// Takes what was printed, wherever it is cut.
    pub(in super::super) fn chunk(&mut self, chunk: &[u8], told: &mut Told) {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(chunk);
        // A BOM is no text. It comes at once, or is none.
        if !std::mem::replace(&mut self.has_printed, true) && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let is_cut = chunks.peek().is_none()
                && str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if is_cut {
                self.rest = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.tell(&text, told);
    }

    fn tell(&mut self, text: &str, told: &mut Told) {
        if !self.has_begun && text.trim().is_empty() {
            if self.blank.len() < MAX_BLANK {
                self.blank.push_str(text);
            }
            return;
        }
        self.has_begun = true;
        let text = std::mem::take(&mut self.blank) + text;
        if !text.is_empty() {
            let event = told.part("prt_1", Some("msg_1")).text_delta(&text);
            told.push(event);
        }
    }

    /// There is no more of it.
    pub(in super::super) fn close(&mut self, told: &mut Told) {
        if !self.rest.is_empty() {
            self.rest.clear();
            self.tell("\u{fffd}", told);
        }
    }

    /// The program has ended. An answer is whole where it ended well.
    pub(in super::super) fn end(&mut self, is_good: bool, told: &mut Told) {
        if is_good && self.has_begun {
            told.answer(TurnResult::new().finish_reason(FinishReason::Stop));
        }
    }
}

/// How much white space is held in front of the first word, in bytes.
const MAX_BLANK: usize = 1_024;
