//! Characters that come in two halves.
//!
//! A model makes its text of tokens, which may be parts of a character, and some servers send each of them by itself: one half
//! of a surrogate pair as an escape, or some of the bytes of UTF-8. Neither can stand in a `String`. So a half is marked there
//! by one of the last characters of the last private plane, which nobody uses in texts; where one stands in a text all the
//! same, it is shown as U+FFFD.

use std::borrow::Cow;

/// The marks of the 2,048 surrogates end at the last character of all, those of the 128 bytes stand before them.
const SURROGATES: u32 = 0x10_f800;
const BYTES: u32 = SURROGATES - 0x80;

pub(super) fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

pub(super) fn is_low(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

/// The mark of a surrogate.
pub(super) fn mark(surrogate: u16) -> char {
    let offset = u32::from(surrogate) - 0xd800;
    char::from_u32(SURROGATES + offset).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The bytes as text, with a mark for each that is no part of UTF-8.
pub(super) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let marks = chunk.invalid().iter().map(|byte| BYTES + u32::from(byte & 0x7f));
        text.extend(marks.map(|mark| char::from_u32(mark).unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
    Cow::Owned(text)
}

#[cfg(any(test, feature = "openai"))]
enum Half {
    Surrogate(u16),
    Byte(u8),
}

#[cfg(any(test, feature = "openai"))]
fn half(character: char) -> Option<Half> {
    match u32::from(character) {
        mark @ SURROGATES.. => {
            Some(Half::Surrogate(u16::try_from(mark - SURROGATES).ok()? + 0xd800))
        }
        mark @ BYTES.. => Some(Half::Byte(u8::try_from(mark - BYTES).ok()? | 0x80)),
        _ => None,
    }
}

/// Joins the pieces of one text.
#[cfg(any(test, feature = "openai"))]
#[derive(Default)]
pub(crate) struct Halves {
    high: Option<u16>,
    /// The beginning of a character in UTF-8: at most three bytes.
    bytes: Vec<u8>,
}

#[cfg(any(test, feature = "openai"))]
impl Halves {
    /// The next piece of the text. A half at its end is kept until the next one.
    pub(crate) fn join<'a>(&mut self, piece: &'a str) -> Cow<'a, str> {
        let is_plain = |piece: &str| !piece.chars().any(|character| u32::from(character) >= BYTES);
        if piece.is_empty() || (self.high.is_none() && self.bytes.is_empty() && is_plain(piece)) {
            return Cow::Borrowed(piece);
        }
        let mut text = String::with_capacity(piece.len());
        for character in piece.chars() {
            match half(character) {
                None => {
                    text.push_str(self.rest());
                    text.push(character);
                }
                Some(Half::Surrogate(low)) if is_low(low) => {
                    if let Some(high) = self.high.take() {
                        text.extend(char::decode_utf16([high, low]).flatten());
                    } else {
                        text.push_str(self.rest());
                        text.push(char::REPLACEMENT_CHARACTER);
                    }
                }
                Some(Half::Surrogate(high)) => {
                    text.push_str(self.rest());
                    self.high = Some(high);
                }
                Some(Half::Byte(byte)) => {
                    if self.high.is_some() {
                        text.push_str(self.rest());
                    }
                    self.bytes.push(byte);
                    match str::from_utf8(&self.bytes) {
                        Ok(whole) => {
                            text.push_str(whole);
                            self.bytes.clear();
                        }
                        // More of it may come.
                        Err(error) if error.error_len().is_none() => {}
                        Err(_) => {
                            // The last byte may begin another one.
                            let is_start = self.bytes.len() > 1 && (0xc2..0xf5).contains(&byte);
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.bytes.clear();
                            self.bytes.extend(is_start.then_some(byte));
                        }
                    }
                }
            }
        }
        Cow::Owned(text)
    }

    /// What stands for a half whose other one does not come; nothing where there is none.
    pub(crate) fn rest(&mut self) -> &'static str {
        let is_open = self.high.take().is_some() || !self.bytes.is_empty();
        self.bytes.clear();
        if is_open { "\u{fffd}" } else { "" }
    }
}
