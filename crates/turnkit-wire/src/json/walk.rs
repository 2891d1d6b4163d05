//! Walking over JSON that was verified: no checks, no tree, only positions.
//!
//! On bytes that were not verified a walk ends early; it never panics and never runs on.

use core::fmt;

use alloc::borrow::Cow;

use super::{
    stops::{InUtf8String, Stops},
    string, surrogate,
};

/// Text as it is spelt in a JSON string (without the quotes), or the spelling of a number where text was looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// The spelling: two equal spellings are equal texts.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The text: borrowed where it is spelt without escapes. A lone surrogate escape reads as U+FFFD.
    #[must_use]
    pub fn to_str(&self) -> Cow<'a, str> {
        if self.escaped {
            Cow::Owned(string::decode(self.raw))
        } else {
            Cow::Borrowed(string::verified(self.raw))
        }
    }

    /// Whether the text is `other`, without decoding where it is spelt without escapes.
    #[must_use]
    #[inline]
    pub fn is(&self, other: &str) -> bool {
        if self.escaped { string::decode(self.raw) == other } else { self.raw == other.as_bytes() }
    }

    /// The high surrogate whose escape the text ends with: the first half of a character, which reads as U+FFFD here.
    ///
    /// Where the text that follows begins with the other half, the two are one character, as they are where ECMAScript puts
    /// them together (PROTOCOL 2.3): see [`Text::joined_to`].
    #[must_use]
    pub fn high_surrogate_at_end(&self) -> Option<u16> {
        surrogate::high_at_end(self.raw)
    }

    /// The character of `high` and of the low surrogate whose escape the text begins with, which reads as U+FFFD here.
    ///
    /// ```
    /// use turnkit_wire::{Event, view::PartUpdate};
    ///
    /// let first = Event::from_json(br#"{"type":"message.part.updated","data":{"delta":"\ud83d"}}"#)?;
    /// let next = Event::from_json(br#"{"type":"message.part.updated","data":{"delta":"\ude00!"}}"#)?;
    /// let [first, next] = [&first, &next].map(|event| PartUpdate::of(event).unwrap().delta().unwrap());
    /// let high = first.high_surrogate_at_end().unwrap();
    /// assert_eq!(next.joined_to(high), Some('😀'));
    /// # Ok::<(), turnkit_wire::DecodeError>(())
    /// ```
    #[must_use]
    pub fn joined_to(&self, high: u16) -> Option<char> {
        surrogate::join(high, self.raw)
    }

    /// Whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.raw.len())
    }
}

/// One value, somewhere in verified JSON.
#[derive(Clone, Copy, Default)]
pub(crate) struct Value<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl<'a> Value<'a> {
    /// A string, or the spelling of a number.
    pub(crate) fn text(self) -> Option<Text<'a>> {
        match self.0.first()? {
            b'"' => Walk::new(self.0).string(),
            b'-' | b'0'..=b'9' => Some(Text { raw: self.0, escaped: false }),
            _ => None,
        }
    }

    /// A string; numbers do not count.
    pub(crate) fn string(self) -> Option<Text<'a>> {
        if self.is(b'"') { Walk::new(self.0).string() } else { None }
    }

    /// The JSON, as it stands.
    pub(crate) fn json(self) -> &'a str {
        string::verified(self.0)
    }

    /// A whole number that is not negative, also as a string, also spelt as `9.0`.
    pub(crate) fn whole_number(self) -> Option<u64> {
        let text = self.text()?.to_str();
        let whole = match text.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
            _ => &text,
        };
        whole.parse().ok()
    }

    /// `true` or `false`, also as a string.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.0 {
            b"true" | br#""true""# => Some(true),
            b"false" | br#""false""# => Some(false),
            _ => None,
        }
    }

    /// Calls `visit` with each member, if it is an object.
    pub(crate) fn members(self, mut visit: impl FnMut(Text<'a>, Value<'a>)) {
        if self.is(b'{') {
            Walk::new(self.0).members(|key, walk| visit(key, walk.value()));
        }
    }

    /// Calls `visit` with each element, if it is an array.
    pub(crate) fn items(self, mut visit: impl FnMut(Value<'a>)) {
        if !self.is(b'[') {
            return;
        }
        let mut walk = Walk::new(self.0);
        walk.at += 1;
        loop {
            match walk.token() {
                Some(b',') => walk.at += 1,
                Some(b']' | b'}' | b':') | None => return,
                Some(_) => visit(walk.value()),
            }
        }
    }

    fn is(self, first: u8) -> bool {
        self.0.first() == Some(&first)
    }
}

/// A position in verified JSON.
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    stops: Stops<InUtf8String>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut walk = Walk { bytes, at: 0, stops: Stops::new() };
        walk.token();
        walk
    }

    /// Where the walk stands, for [`since`](Self::since).
    #[inline]
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// What was walked over since `from`.
    #[inline]
    pub(crate) fn since(&self, from: usize) -> Value<'a> {
        Value(self.bytes.get(from..self.at).unwrap_or_default())
    }

    /// Whether an object stands ahead.
    #[inline]
    pub(crate) fn at_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Walks the object ahead. `visit` gets each key, and the walk at its value, which it has to take.
    #[inline]
    pub(crate) fn members(&mut self, mut visit: impl FnMut(Text<'a>, &mut Walk<'a>)) {
        self.at += 1;
        loop {
            match self.token() {
                Some(b'"') => {
                    let Some(key) = self.string() else { return };
                    self.token();
                    self.at += 1;
                    self.token();
                    visit(key, self);
                }
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return;
                }
                _ => {
                    self.at = self.bytes.len();
                    return;
                }
            }
        }
    }

    /// Takes the value ahead.
    #[inline]
    pub(crate) fn value(&mut self) -> Value<'a> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{' | b'[') => self.skip_container(),
            _ => self.skip_scalar(),
        }
        Value(self.bytes.get(start..self.at).unwrap_or_default())
    }

    /// Takes the string ahead.
    #[inline]
    fn string(&mut self) -> Option<Text<'a>> {
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            end = self.stops.next(self.bytes, end);
            match self.bytes.get(end)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    end += 2;
                }
                _ => return None,
            }
        }
        self.at = end + 1;
        Some(Text { raw: &self.bytes[start..end], escaped })
    }

    #[inline]
    fn skip_string(&mut self) {
        if self.string().is_none() {
            self.at = self.bytes.len();
        }
    }

    fn skip_container(&mut self) {
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_scalar(&mut self) {
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
    }

    /// The next byte that is not white space; it is not taken.
    #[inline]
    fn token(&mut self) -> Option<u8> {
        loop {
            match self.peek()? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                token => return Some(token),
            }
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}
