//! One event: its verified line, and where `type` and `data` stand in it.

use alloc::{sync::Arc, vec::Vec};
use core::{fmt, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{
    error::{DataError, DecodeError, DecodeErrorKind, EncodeError},
    json::{
        scan::{self, Layout},
        string,
    },
    kind::Class,
};

/// One event of a turn, held as the line that it is on the wire (PROTOCOL 1.1).
///
/// The line was verified when the event was made and is never serialised again: forwarding an event forwards its bytes, with
/// key order, number spelling, escapes and unknown members as they came. A clone is a reference count. Two events are equal
/// when their bytes are. `Debug` shows the type and the length, never the content.
///
/// ```
/// use turnkit_wire::Event;
///
/// let event = Event::from_json(br#"{"type":"price","data":{"eur":1E5}}"#)?;
/// assert_eq!(event.kind(), "price");
/// assert_eq!(event.data_json(), Some(r#"{"eur":1E5}"#));
/// assert_eq!(event.as_line(), b"{\"type\":\"price\",\"data\":{\"eur\":1E5}}\n");
/// # Ok::<(), turnkit_wire::DecodeError>(())
/// ```
#[derive(Clone)]
pub struct Event {
    line: Bytes,
    kind: Kind,
    data: Data,
}

/// Where the event's type is spelt. Positions of 32 bits keep an event within a cache line.
#[derive(Clone)]
enum Kind {
    Line {
        start: u32,
        len: u32,
    },
    /// Spelt with escapes in the line.
    Decoded(Arc<str>),
}

/// Where the data stands: `start` from the line's beginning (0 without data), `tail` from its end, so that both stay small
/// in the canonical form however long the data is.
#[derive(Clone, Copy)]
struct Data {
    start: u32,
    tail: u32,
}

impl Event {
    /// The default limit of what is decoded, in bytes of the object without its newline: 1 MiB (PROTOCOL 1.1).
    pub const MAX_BYTES: usize = 1 << 20;

    /// Decoded lines stay below this whatever limit was asked for, so that positions fit into 32 bits.
    const MAX_ADDRESSABLE: usize = u32::MAX as usize - 1;

    /// An event made here: `{"type":kind,"data":data}`, of any size.
    ///
    /// # Errors
    ///
    /// An empty `kind`; data that `serde_json` cannot serialise, or whose JSON is nested deeper than 1,023.
    pub fn new<T: Serialize + ?Sized>(kind: &str, data: &T) -> Result<Event, EncodeError> {
        check_kind(kind)?;
        let data = serde_json::to_vec(data).map_err(EncodeError::Serialize)?;
        let breaks = scan::value(&data).map_err(EncodeError::Invalid)?;
        Ok(Event::compose(kind, &data, breaks))
    }

    /// An event without data: `{"type":kind}`.
    ///
    /// # Errors
    ///
    /// An empty `kind`.
    pub fn bare(kind: &str) -> Result<Event, EncodeError> {
        check_kind(kind)?;
        let mut line = Vec::with_capacity(kind.len() + 12);
        let kind = push_kind(&mut line, kind);
        line.put_slice(b"\"}\n");
        Ok(Event { line: line.into(), kind, data: Data::NONE })
    }

    /// Verifies and copies one JSON object of up to [`Event::MAX_BYTES`].
    ///
    /// # Errors
    ///
    /// Whatever PROTOCOL 1.1 refuses, with the offset in `json`.
    pub fn from_json(json: &[u8]) -> Result<Event, DecodeError> {
        check_size(json, Event::MAX_BYTES)?;
        let object = without_line_end(json);
        let layout = scan::event(object)?;
        Ok(Event::from_layout(copy_line(object, layout.breaks), &layout))
    }

    /// Like [`Event::from_json`], without copying where the bytes can be kept: they are when they end in their one LF and
    /// hold no other line break, and they are changed in place when nobody else holds them.
    ///
    /// The event then keeps the whole allocation alive that `json` is part of; [`Event::detached`] frees it from that.
    ///
    /// # Errors
    ///
    /// As [`Event::from_json`].
    pub fn from_bytes(json: Bytes) -> Result<Event, DecodeError> {
        Event::from_bytes_within(json, Event::MAX_BYTES)
    }

    /// Like [`Event::from_bytes`] with a limit of one's own, in bytes of the object.
    ///
    /// # Errors
    ///
    /// As [`Event::from_json`].
    pub fn from_bytes_within(json: Bytes, max_bytes: usize) -> Result<Event, DecodeError> {
        check_size(&json, max_bytes)?;
        let layout = scan::event(without_line_end(&json))?;
        let length = without_line_end(&json).len();
        let line = if !layout.breaks && json.get(length..) == Some(b"\n") {
            json
        } else {
            into_line(json, length, layout.breaks)
        };
        Ok(Event::from_layout(line, &layout))
    }

    /// The event `{"type":kind,"data":data}`, its data byte for byte as given, up to [`Event::MAX_BYTES`] in all.
    ///
    /// # Errors
    ///
    /// An empty `kind`; data that is not one JSON value by PROTOCOL 1.1. The offset counts from the start of `data`.
    pub fn from_parts(kind: &str, data: &[u8]) -> Result<Event, DecodeError> {
        Event::from_parts_within(kind, data, Event::MAX_BYTES)
    }

    pub(crate) fn from_parts_within(
        kind: &str,
        data: &[u8],
        max_bytes: usize,
    ) -> Result<Event, DecodeError> {
        let max_bytes = max_bytes.min(Event::MAX_ADDRESSABLE);
        if kind.is_empty() {
            return Err(DecodeError::new(0, DecodeErrorKind::EmptyType));
        }
        if kind.len().saturating_add(data.len()) > max_bytes.saturating_sub(CANONICAL_OVERHEAD) {
            return Err(too_large(max_bytes));
        }
        let breaks = scan::value(data)?;
        Ok(Event::compose(kind, data, breaks))
    }

    /// The event's type, decoded where it is spelt with escapes (a lone surrogate escape reads as U+FFFD). Never empty.
    #[must_use]
    pub fn kind(&self) -> &str {
        match &self.kind {
            Kind::Line { .. } => string::verified(self.kind_bytes()),
            Kind::Decoded(kind) => kind,
        }
    }

    /// [`Event::kind`] as bytes, at no cost.
    #[must_use]
    pub fn kind_bytes(&self) -> &[u8] {
        match &self.kind {
            Kind::Line { start, len } => &self.line[*start as usize..][..*len as usize],
            Kind::Decoded(kind) => kind.as_bytes(),
        }
    }

    /// What the event's type means to the layers.
    #[must_use]
    #[inline]
    pub fn class(&self) -> Class {
        Class::of(self.kind_bytes())
    }

    /// The JSON of the data, exactly as received.
    #[must_use]
    pub fn data_json(&self) -> Option<&str> {
        self.data_bytes().map(string::verified)
    }

    /// [`Event::data_json`] as bytes, at no cost.
    #[must_use]
    pub fn data_bytes(&self) -> Option<&[u8]> {
        self.data_range().map(|range| &self.line[range])
    }

    /// The data as a value of one's own.
    ///
    /// # Errors
    ///
    /// There is no data, or it has another shape.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DataError> {
        let data = self.data_bytes().ok_or(DataError::Missing)?;
        serde_json::from_slice(data).map_err(DataError::Mismatch)
    }

    /// The object, without the newline.
    #[must_use]
    pub fn as_json(&self) -> &str {
        string::verified(&self.line[..self.line.len() - 1])
    }

    /// How many bytes [`Event::as_json`] has, at no cost.
    #[must_use]
    pub fn json_len(&self) -> usize {
        self.line.len() - 1
    }

    /// The line: the object and one LF.
    #[must_use]
    pub fn as_line(&self) -> &[u8] {
        &self.line
    }

    /// [`Event::as_line`] as shared bytes.
    #[must_use]
    pub fn line(&self) -> &Bytes {
        &self.line
    }

    /// The line, without touching a reference count.
    #[must_use]
    pub fn into_line(self) -> Bytes {
        self.line
    }

    /// The same event in an allocation of its own and of its size, for those who keep events for long.
    ///
    /// A decoded event may share its allocation with the events around it: [`crate::ndjson::Decoder`] says how much that is.
    #[must_use]
    pub fn detached(&self) -> Event {
        Event { line: Bytes::copy_from_slice(&self.line), kind: self.kind.clone(), data: self.data }
    }

    /// Type and data of an event that is exactly `{"type":T,"data":D}`, with T spelt as it stands (PROTOCOL 1.3).
    pub(crate) fn canonical_parts(&self) -> Option<(&[u8], &[u8])> {
        let Kind::Line { start: KIND_START, len } = self.kind else {
            return None;
        };
        let canonical = self.data.start == KIND_START + len + DATA_GAP && self.data.tail == 2;
        if canonical { self.data_bytes().map(|data| (self.kind_bytes(), data)) } else { None }
    }

    /// An event over a `line` (newline included) that was verified with `layout`.
    pub(crate) fn from_layout(line: Bytes, layout: &Layout) -> Event {
        let kind = if layout.kind_escaped {
            Kind::Decoded(string::decode(&line[layout.kind.clone()]).into())
        } else {
            Kind::Line { start: address(layout.kind.start), len: address(layout.kind.len()) }
        };
        let data = layout.data.as_ref().map_or(Data::NONE, |range| Data::within(range, line.len()));
        Event { line, kind, data }
    }

    /// An event over the line `{"type":kind,"data":data}` whose parts were verified; `kind` is spelt as it stands.
    pub(crate) fn from_canonical_line(line: Bytes, kind_len: usize) -> Event {
        let len = address(kind_len);
        let data = Data { start: KIND_START + len + DATA_GAP, tail: 2 };
        Event { line, kind: Kind::Line { start: KIND_START, len }, data }
    }

    /// An event of parts that were verified. Infallible: the caller has checked that `kind` is neither empty nor over 4 GiB.
    pub(crate) fn compose(kind: &str, data: &[u8], breaks: bool) -> Event {
        let mut line = Vec::with_capacity(kind.len() + data.len() + CANONICAL_OVERHEAD + 1);
        let kind = push_kind(&mut line, kind);
        line.put_slice(DATA_KEY);
        let start = line.len();
        line.put_slice(data);
        if breaks {
            blank_breaks(&mut line[start..]);
        }
        line.put_slice(b"}\n");
        let start = address(start + data.len() - data.trim_ascii_start().len());
        let tail = address(2 + data.len() - data.trim_ascii_end().len());
        Event { line: line.into(), kind, data: Data { start, tail } }
    }

    fn data_range(&self) -> Option<Range<usize>> {
        (self.data.start != 0)
            .then(|| self.data.start as usize..self.line.len() - self.data.tail as usize)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("kind", &self.kind())
            .field("bytes", &self.line.len())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line
    }
}

impl Eq for Event {}

impl Data {
    const NONE: Data = Data { start: 0, tail: 0 };

    fn within(range: &Range<usize>, line: usize) -> Data {
        Data { start: address(range.start), tail: address(line - range.end) }
    }
}

pub(crate) const TYPE_KEY: &[u8] = br#"{"type":""#;
pub(crate) const DATA_KEY: &[u8] = br#"","data":"#;
const KIND_START: u32 = 9;
/// From the end of the type's inside to the start of the data.
const DATA_GAP: u32 = 9;
/// What `{"type":"","data":}` adds to its parts.
const CANONICAL_OVERHEAD: usize = 19;

/// Turns the CR and LF of verified JSON, which stand only between tokens, into spaces.
pub(crate) fn blank_breaks(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

/// The limit in force, or that `json` is beyond it.
pub(crate) fn check_size(json: &[u8], max_bytes: usize) -> Result<(), DecodeError> {
    let max_bytes = max_bytes.min(Event::MAX_ADDRESSABLE);
    if without_line_end(json).len() > max_bytes { Err(too_large(max_bytes)) } else { Ok(()) }
}

fn too_large(limit: usize) -> DecodeError {
    DecodeError::new(limit as u64, DecodeErrorKind::TooLarge { limit })
}

/// `json` without the one LF or CRLF that may end it.
pub(crate) fn without_line_end(json: &[u8]) -> &[u8] {
    match json {
        [object @ .., b'\r', b'\n'] | [object @ .., b'\n'] => object,
        _ => json,
    }
}

fn check_kind(kind: &str) -> Result<(), EncodeError> {
    match kind.len() {
        0 => Err(EncodeError::EmptyKind),
        // Each byte takes up to six when it is escaped.
        long if long > Event::MAX_ADDRESSABLE / 8 => Err(EncodeError::KindTooLong),
        _ => Ok(()),
    }
}

/// Writes `{"type":"kind`, without the closing quote, and says where the type stands.
fn push_kind(line: &mut Vec<u8>, kind: &str) -> Kind {
    line.put_slice(TYPE_KEY);
    string::escape_into(kind, line);
    let spelt = line.len() - TYPE_KEY.len();
    if spelt == kind.len() {
        Kind::Line { start: KIND_START, len: address(spelt) }
    } else {
        Kind::Decoded(kind.into())
    }
}

fn copy_line(object: &[u8], breaks: bool) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 1);
    line.put_slice(object);
    if breaks {
        blank_breaks(&mut line);
    }
    line.put_u8(b'\n');
    line.into()
}

/// The line of an object that stands in the first `length` bytes of `json`; in place where nobody else holds them.
fn into_line(json: Bytes, length: usize, breaks: bool) -> Bytes {
    let mut line = match json.try_into_mut() {
        Ok(own) => own,
        Err(shared) => {
            let mut copy = BytesMut::with_capacity(length + 1);
            copy.put_slice(&shared[..length]);
            copy
        }
    };
    line.truncate(length);
    if breaks {
        blank_breaks(&mut line);
    }
    line.put_u8(b'\n');
    line.freeze()
}

/// A position in a line that was checked to be shorter than 4 GiB, or near one of its ends.
fn address(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
