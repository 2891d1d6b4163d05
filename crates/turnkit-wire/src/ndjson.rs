//! Newline-delimited JSON, `application/x-ndjson` (PROTOCOL 1.2).
//!
//! Encoding needs no code: an [`Event`]'s line is its encoding.
//!
//! ```
//! use turnkit_wire::{Bytes, ndjson::Decoder};
//!
//! let mut decoder = Decoder::new();
//! decoder.push(Bytes::from_static(b"{\"type\":\"a\"}\n\n{\"ty"));
//! assert_eq!(decoder.next_event().unwrap()?.kind(), "a");
//! assert!(decoder.next_event().is_none());
//! decoder.push(Bytes::from_static(b"pe\":\"b\"}"));
//! assert_eq!(decoder.finish().unwrap()?.kind(), "b");
//! # Ok::<(), turnkit_wire::DecodeError>(())
//! ```

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::{
    Event,
    arena::Arena,
    error::{DecodeError, DecodeErrorKind},
    event,
    json::scan::{self, Layout},
};

/// The media type of a turn's body.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// An incremental decoder: chunks go in as they come, events come out.
///
/// It looks at each byte for its newline once, however the input is cut, and holds at most one unfinished line.
/// Blank lines (spaces, tabs, CR) are keep-alives and are skipped. After an error decoding goes on with the next line.
///
/// **Sharing.** An event whose line lies within one chunk shares that chunk's memory if the chunk has at most 64 KiB or the line
/// is at least an eighth of it; otherwise it is copied into a block of at most 48 KiB that it shares with its neighbours. So
/// a small event that is kept pins at most 64 KiB, as far as the caller's `Bytes` are no part of something larger. See
/// [`Event::detached`].
#[derive(Debug)]
pub struct Decoder {
    max_line: usize,
    chunk: Bytes,
    at: usize,
    waiting: VecDeque<Bytes>,
    /// The unfinished line, from earlier chunks.
    line: Arena,
    /// The rest of a line that was too long is to be skipped.
    skipping: bool,
    /// Where the current line begins in the stream.
    line_start: u64,
}

impl Decoder {
    /// The default bound of one line, in bytes without its newline: 32 MiB, for a replayed answer is one line.
    pub const MAX_LINE: usize = 32 << 20;

    /// A decoder of lines of up to [`Decoder::MAX_LINE`].
    #[must_use]
    pub fn new() -> Self {
        Decoder::with_max_line(Decoder::MAX_LINE)
    }

    /// A decoder of lines of up to `bytes`, newline not counted.
    #[must_use]
    pub fn with_max_line(bytes: usize) -> Self {
        Decoder {
            max_line: bytes,
            chunk: Bytes::new(),
            at: 0,
            waiting: VecDeque::new(),
            line: Arena::new(bytes.saturating_add(1)),
            skipping: false,
            line_start: 0,
        }
    }

    /// Takes the next chunk of the stream, cut anywhere. Chunks not yet decoded are kept: take the events between pushes.
    pub fn push(&mut self, chunk: Bytes) {
        if self.at == self.chunk.len() {
            self.chunk = chunk;
            self.at = 0;
        } else {
            self.waiting.push_back(chunk);
        }
    }

    /// The next complete event, or error; `None` until more is pushed.
    ///
    /// Offsets of errors count from the start of the stream. [`DecodeErrorKind::TooLarge`] comes once for its line.
    pub fn next_event(&mut self) -> Option<Result<Event, DecodeError>> {
        loop {
            if self.at == self.chunk.len() {
                self.chunk = self.waiting.pop_front()?;
                self.at = 0;
                continue;
            }
            let step = match memchr::memchr(b'\n', &self.chunk[self.at..]) {
                Some(length) => self.line_ends(length),
                None => self.line_goes_on(),
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// The end of the stream. An unterminated last line is an event if it is complete, and otherwise an error of kind
    /// [`DecodeErrorKind::Truncated`]. To be called after [`Decoder::next_event`] gave `None`, until it gives `None` too;
    /// the decoder is then ready for a new stream.
    pub fn finish(&mut self) -> Option<Result<Event, DecodeError>> {
        if let Some(event) = self.next_event() {
            return Some(event);
        }
        let start = core::mem::take(&mut self.line_start);
        let skipped = core::mem::take(&mut self.skipping);
        if skipped || is_blank(self.line.open()) {
            self.line.clear();
            return None;
        }
        self.line.put(b"\n");
        let truncated = |error: DecodeError| {
            DecodeError::new(start + error.offset(), DecodeErrorKind::Truncated)
        };
        Some(self.decode_collected().map_err(truncated))
    }

    /// A newline stands `length` bytes ahead.
    #[inline]
    fn line_ends(&mut self, length: usize) -> Option<Result<Event, DecodeError>> {
        let start = self.at;
        self.at += length + 1;
        let base = self.line_start;
        let before = self.line.open().len();
        if core::mem::take(&mut self.skipping) {
            self.line_start += (length + 1) as u64;
            return None;
        }
        self.line_start += (before + length + 1) as u64;
        if before + length > self.max_line {
            self.line.clear();
            return Some(Err(self.too_large(base)));
        }
        let decoded = if before == 0 {
            self.decode_in_chunk(start, length)
        } else {
            self.decode_over_chunks(start, length)
        };
        decoded.map(|decoded| decoded.map_err(|error| error.shifted(base)))
    }

    /// No newline in the rest of the chunk.
    #[cold]
    fn line_goes_on(&mut self) -> Option<Result<Event, DecodeError>> {
        let rest = &self.chunk[self.at..];
        self.at = self.chunk.len();
        if self.skipping {
            self.line_start += rest.len() as u64;
            return None;
        }
        let length = self.line.open().len() + rest.len();
        if length <= self.max_line {
            self.line.put(rest);
            return None;
        }
        let base = self.line_start;
        self.line_start += length as u64;
        self.line.clear();
        self.skipping = true;
        Some(Err(self.too_large(base)))
    }

    #[inline]
    fn decode_in_chunk(
        &mut self,
        start: usize,
        length: usize,
    ) -> Option<Result<Event, DecodeError>> {
        let line = &self.chunk[start..start + length];
        let object = line.strip_suffix(b"\r").unwrap_or(line);
        if is_blank(object) {
            return None;
        }
        let layout = match scan::event(object) {
            Ok(layout) => layout,
            Err(error) => return Some(Err(error)),
        };
        if object.len() == length && !layout.breaks && may_share(length, self.chunk.len()) {
            let line = self.chunk.slice(start..=start + length);
            return Some(Ok(Event::from_layout(line, &layout)));
        }
        self.line.put(object);
        self.line.put(b"\n");
        Some(Ok(self.take_event(&layout)))
    }

    #[cold]
    fn decode_over_chunks(
        &mut self,
        start: usize,
        length: usize,
    ) -> Option<Result<Event, DecodeError>> {
        self.line.put(&self.chunk[start..=start + length]);
        if is_blank(self.line.open()) {
            self.line.clear();
            return None;
        }
        Some(self.decode_collected())
    }

    /// Decodes the collected line, which ends in its newline.
    fn decode_collected(&mut self) -> Result<Event, DecodeError> {
        let line = self.line.open();
        if let [object @ .., b'\r', b'\n'] = line {
            let length = object.len();
            self.line.open_mut()[length] = b'\n';
            self.line.truncate(length + 1);
        }
        let line = self.line.open();
        match event::check_size(line, self.max_line)
            .and_then(|()| scan::event(&line[..line.len() - 1]))
        {
            Ok(layout) => Ok(self.take_event(&layout)),
            Err(error) => {
                self.line.clear();
                Err(error)
            }
        }
    }

    /// The collected line as an event.
    fn take_event(&mut self, layout: &Layout) -> Event {
        if layout.breaks {
            let object = self.line.open().len() - 1;
            event::blank_breaks(&mut self.line.open_mut()[..object]);
        }
        Event::from_layout(self.line.take(), layout)
    }

    #[cold]
    fn too_large(&self, line_start: u64) -> DecodeError {
        let limit = self.max_line;
        DecodeError::new(line_start + limit as u64, DecodeErrorKind::TooLarge { limit })
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

/// Chunks up to this size are shared by their events, in bytes.
pub(crate) const SHARED_CHUNK: usize = 64 * 1024;

/// Whether an event of `length` bytes may keep a chunk alive.
#[inline]
pub(crate) fn may_share(length: usize, chunk: usize) -> bool {
    chunk <= SHARED_CHUNK || length >= chunk / 8
}

#[inline]
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests;
