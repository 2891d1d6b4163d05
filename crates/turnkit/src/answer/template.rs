//! The short way through a stream of deltas.
//!
//! From one delta of a part to the next, hardly anything of the line changes: the delta, and the part's text where that is
//! sent along. A template remembers the rest of the last such line. A line that is equal to it outside of these strings says
//! the same about the same part, so it need not be read again.
//!
//! That is sound because both lines are verified JSON: up to the first string the bytes are equal, so a reader stands inside
//! the same string of both; it leaves each at its first quote without an escape, and goes on from there in the same state.

use memchr::memchr2;
use turnkit_wire::view::Text;

/// Literal bytes with one or two strings between them.
#[derive(Default)]
pub(super) struct Template {
    /// Nothing was learnt while this is empty.
    head: Vec<u8>,
    /// Between the strings, where there are two.
    middle: Option<Vec<u8>>,
    tail: Vec<u8>,
    /// Which of two strings is the delta.
    delta_is_first: bool,
    place: usize,
}

impl Template {
    /// Remembers the line of a `delta`, and of the part's `text` if that stands there too.
    pub(super) fn learn(
        &mut self,
        line: &[u8],
        place: usize,
        delta: Text<'_>,
        text: Option<Text<'_>>,
    ) {
        let Some(delta) = Span::of(delta, line) else {
            return self.head.clear();
        };
        let text = text.and_then(|text| Span::of(text, line));
        self.delta_is_first = text.is_none_or(|text| delta.start < text.start);
        let (first, second) = match text {
            Some(text) if self.delta_is_first => (delta, text),
            Some(text) => (text, delta),
            None => (delta, delta),
        };
        self.place = place;
        assign(&mut self.head, &line[..first.start]);
        assign(&mut self.tail, &line[second.end..]);
        self.middle = text.map(|_| line[first.end..second.start].to_vec());
    }

    /// The place and the delta, if the line is of this kind and its delta is spelt without escapes.
    #[inline]
    pub(super) fn read<'a>(&self, line: &'a [u8]) -> Option<(usize, &'a str)> {
        if self.head.is_empty() {
            return None;
        }
        let line = line.strip_prefix(self.head.as_slice())?;
        let line = line.strip_suffix(self.tail.as_slice())?;
        let delta = match &self.middle {
            None => line,
            Some(middle) if self.delta_is_first => {
                let (delta, rest) = line.split_at(plain_end(line)?);
                let text = rest.strip_prefix(middle.as_slice())?;
                (string_end(text)? == text.len()).then_some(delta)?
            }
            Some(middle) => line[string_end(line)?..].strip_prefix(middle.as_slice())?,
        };
        if plain_end(delta)? != delta.len() {
            return None;
        }
        Some((self.place, std::str::from_utf8(delta).ok()?))
    }
}

/// Where a string stands in a line, without its quotes.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// None for a text that is not a part of `line`.
    fn of(text: Text<'_>, line: &[u8]) -> Option<Self> {
        let start = text.raw().as_ptr().addr().checked_sub(line.as_ptr().addr())?;
        let end = start + text.raw().len();
        (end <= line.len()).then_some(Self { start, end })
    }
}

fn assign(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.clear();
    kept.extend_from_slice(bytes);
}

/// Where the string ends whose inside begins here, at its first quote or with the bytes, if it is spelt without escapes.
#[inline]
fn plain_end(bytes: &[u8]) -> Option<usize> {
    match memchr2(b'"', b'\\', bytes) {
        Some(at) => (bytes[at] == b'"').then_some(at),
        None => Some(bytes.len()),
    }
}

/// Where the string ends whose inside begins here: at its first quote without an escape, or with the bytes. None where the
/// bytes end within an escape.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', bytes.get(at..)?) {
        at += found;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
    Some(bytes.len())
}
