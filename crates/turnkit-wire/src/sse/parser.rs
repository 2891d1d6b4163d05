//! The WHATWG algorithm, push style (WHATWG HTML 9.2.5 and 9.2.6).
//!
//! A line that lies within one chunk is read where it stands; only what a chunk's end cuts is copied. Each byte is looked at
//! once for its line end, however the input is cut.

mod cut;

use core::ops::Range;

use super::{
    TooLarge,
    block::Block,
    frame::Frame,
    line::{self, Field, Line, Text},
    slot::Slot,
};
use crate::{
    Event,
    json::{
        stops::{InLine, Stops},
        string,
    },
};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// An incremental parser of `text/event-stream`: chunks go in as they come, frames come out (PROTOCOL 1.3).
///
/// Linear in its input however that is cut, and bounded: it holds one frame of up to its limit, and an id. It allocates only
/// when a frame is cut by a chunk's end and is longer than all such frames before.
#[derive(Debug)]
pub struct Parser {
    max_event: usize,
    failed: Option<TooLarge>,
    /// How much of a byte order mark was seen at the start of the stream; `None` behind it.
    bom: Option<usize>,
    /// The chunk before ended in CR: an LF now belongs to it.
    after_cr: bool,
    line: Line,
    stops: Stops<InLine>,
    block: Block,
    /// The block at hand was handed out as a frame.
    dispatched: bool,
    /// Where in the stream the current chunk begins.
    chunk_start: u64,
    /// Where in the stream the current line begins.
    line_start: u64,
}

impl Parser {
    /// The default bound of one frame, in bytes: an event of [`Event::MAX_BYTES`] in one `data` line passes.
    pub const MAX_EVENT: usize = Event::MAX_BYTES + 64;

    /// The bound of an `id` and of an `event` line, in bytes: what HTTP servers take as one header, and so as a `Last-Event-ID`.
    pub const MAX_ID: usize = 8 * 1024;

    /// A parser with the bound [`Parser::MAX_EVENT`].
    #[must_use]
    pub fn new() -> Self {
        Parser::with_max_event(Parser::MAX_EVENT)
    }

    /// A parser that holds up to `bytes` of one frame: its data and the line being read together. Ids and event names are
    /// bounded by [`Parser::MAX_ID`] besides; comments and unknown fields are dropped as they come and have no bound.
    ///
    /// It holds at most `bytes` and 64 KiB, and up to 12 KiB for each long value that it remembers: the event's name, its id
    /// and the id before it.
    #[must_use]
    pub fn with_max_event(bytes: usize) -> Self {
        Parser {
            max_event: bytes,
            failed: None,
            bom: Some(0),
            after_cr: false,
            line: Line::Start,
            stops: Stops::new(),
            block: Block::new(bytes, Parser::MAX_ID),
            dispatched: false,
            chunk_start: 0,
            line_start: 0,
        }
    }

    /// The same parser with a last event id from an earlier connection, in force until the stream sets another.
    #[must_use]
    pub fn with_last_event_id(mut self, id: &str) -> Self {
        self.block.set_last_id(id);
        self
    }

    /// Parses the next chunk, cut anywhere, and calls `on_frame` for each frame that it completes.
    ///
    /// An unfinished frame at the end of a stream is discarded by never being completed, its id with it.
    ///
    /// # Errors
    ///
    /// A frame longer than the bound. The frames before it were handed out; every later call gives the same error.
    pub fn feed(
        &mut self,
        chunk: &[u8],
        mut on_frame: impl FnMut(Frame<'_>),
    ) -> Result<(), TooLarge> {
        if self.is_within_value(chunk) {
            return Ok(());
        }
        let mut at = 0;
        while self.step(chunk, &mut at)? {
            on_frame(self.frame(chunk));
        }
        Ok(())
    }

    /// The last event id: of the last frame that was completed, also if it had no data and so was not handed out.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        string::verified(self.id().get(&[]))
    }

    /// The reconnection time in force, in milliseconds; `None` until the stream sets one.
    #[must_use]
    pub fn retry_ms(&self) -> Option<u64> {
        self.block.retry()
    }

    /// Takes a chunk that is one plain piece of a value that was begun, as most small ones are. Whether it was.
    #[inline]
    fn is_within_value(&mut self, chunk: &[u8]) -> bool {
        let taken = matches!(self.line, Line::Value { begun: true, .. })
            && self.stops.next(chunk, 0) == chunk.len()
            && self.value_goes_on(chunk);
        if taken {
            self.stops.forget();
            self.chunk_start += chunk.len() as u64;
        }
        taken
    }

    /// Goes on at `*at` until a frame is complete (`true`) or the chunk is used up (`false`). To be called until then.
    #[inline]
    pub(crate) fn step(&mut self, chunk: &[u8], at: &mut usize) -> Result<bool, TooLarge> {
        if let Some(failed) = &self.failed {
            return Err(*failed);
        }
        if core::mem::take(&mut self.dispatched) {
            self.block.clear();
        }
        if self.after_cr || self.bom.is_some() {
            self.prologue(chunk, at);
        }
        let complete = self.lines(chunk, at);
        if !matches!(complete, Ok(true)) {
            self.block.spill(chunk);
            self.stops.forget();
            self.chunk_start += chunk.len() as u64;
        }
        complete
    }

    /// The frame that [`Parser::step`] completed in `chunk`.
    #[inline]
    pub(crate) fn frame<'a>(&'a self, chunk: &'a [u8]) -> Frame<'a> {
        self.block.frame(chunk)
    }

    /// Where in the chunk the whole data of the completed frame stands, if it does.
    #[inline]
    pub(crate) fn data_in_chunk(&self) -> Option<Range<usize>> {
        self.block.data_in_chunk()
    }

    /// Where in the stream the data of the completed frame begins.
    pub(crate) fn data_start(&self) -> u64 {
        self.block.data_start()
    }

    #[inline]
    pub(crate) fn id(&self) -> &Slot {
        self.block.id()
    }

    /// Whether a completed frame set the id since this was asked.
    #[inline]
    pub(crate) fn take_id_set(&mut self) -> bool {
        self.block.take_id_set()
    }

    /// Forgets the unfinished rest of a stream that ended in `chunk`; a new stream may follow. The id and the reconnection time
    /// stay.
    pub(crate) fn reset(&mut self, chunk: &[u8]) {
        self.block.spill(chunk);
        self.block.discard();
        self.stops.forget();
        self.bom = Some(0);
        self.after_cr = false;
        self.line = Line::Start;
        self.dispatched = false;
        self.failed = None;
        self.chunk_start = 0;
        self.line_start = 0;
    }

    /// What can only stand at the beginning of a chunk: the LF of a CRLF, and the byte order mark.
    #[cold]
    fn prologue(&mut self, chunk: &[u8], at: &mut usize) {
        let Some(&first) = chunk.get(*at) else { return };
        if core::mem::take(&mut self.after_cr) && first == b'\n' {
            *at += 1;
        }
        let Some(mut seen) = self.bom else { return };
        while let Some(byte) = chunk.get(*at) {
            if BOM.get(seen) != Some(byte) {
                self.bom = None;
                if !matches!(seen, 0 | 3) {
                    self.line = Line::Ignored;
                }
                return;
            }
            seen += 1;
            *at += 1;
            self.bom = Some(seen);
        }
    }

    /// Reads lines until a frame is complete, or the chunk is used up.
    #[inline]
    fn lines(&mut self, chunk: &[u8], at: &mut usize) -> Result<bool, TooLarge> {
        while *at < chunk.len() {
            if self.line_at(chunk, at)? {
                self.dispatched = true;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the line at `*at`, or what the chunk has of it. Whether that completed a frame.
    #[inline]
    fn line_at(&mut self, chunk: &[u8], at: &mut usize) -> Result<bool, TooLarge> {
        let start = *at;
        let (end, text) = self.line_end(chunk, start);
        *at = end;
        let Some(&terminator) = chunk.get(end) else {
            return self.line_goes_on(chunk, start, text).map(|()| false);
        };
        *at += 1;
        if terminator == b'\r' {
            self.skip_lf(chunk, at);
        }
        if !matches!(self.line, Line::Start) {
            return self.line_ends(chunk, start..end, text).map(|()| false);
        }
        if start == end {
            return Ok(self.block.dispatch());
        }
        self.whole_line(chunk, start..end, text).map(|()| false)
    }

    /// The end of the line at `start`, or of the chunk, and what stands before it.
    #[inline]
    fn line_end(&mut self, chunk: &[u8], start: usize) -> (usize, Text) {
        let end = self.stops.next(chunk, start);
        match chunk.get(end) {
            None | Some(b'\n' | b'\r') => (end, Text::Plain),
            Some(_) => self.line_end_behind(chunk, end),
        }
    }

    /// The end of a line with more in it than plain text, of which the first such byte stands at `at`.
    fn line_end_behind(&mut self, chunk: &[u8], mut at: usize) -> (usize, Text) {
        loop {
            match chunk.get(at) {
                None | Some(b'\n' | b'\r') => return (at, Text::Ascii),
                Some(0x80..) => break,
                Some(_) => at = self.stops.next(chunk, at + 1),
            }
        }
        let rest = &chunk[at..];
        (at + memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()), Text::Mixed)
    }

    #[cold]
    fn skip_lf(&mut self, chunk: &[u8], at: &mut usize) {
        match chunk.get(*at) {
            Some(b'\n') => *at += 1,
            Some(_) => {}
            None => self.after_cr = true,
        }
    }

    /// A line that stands wholly in the chunk.
    #[inline]
    fn whole_line(
        &mut self,
        chunk: &[u8],
        range: Range<usize>,
        text: Text,
    ) -> Result<(), TooLarge> {
        let line = &chunk[range.clone()];
        let Some((field, name)) = line::split(line) else {
            return Ok(());
        };
        if self.block.admit(field, line.len()).is_err() {
            return Err(self.fail(self.chunk_start + range.start as u64));
        }
        let value = range.start + name..range.end;
        if text == Text::Mixed && core::str::from_utf8(line).is_err() {
            self.line_start = self.chunk_start + range.start as u64;
            return self.lossy_line(chunk, field, value);
        }
        self.block.set(chunk, self.chunk_start, field, value, text);
        Ok(())
    }

    /// A whole line with invalid UTF-8 goes the way of a cut one, which decodes it.
    #[cold]
    fn lossy_line(
        &mut self,
        chunk: &[u8],
        field: Field,
        value: Range<usize>,
    ) -> Result<(), TooLarge> {
        self.block.begin(chunk, field, self.chunk_start + value.start as u64);
        let taken = self
            .block
            .extend(field, &chunk[value], Text::Mixed)
            .and_then(|()| self.block.finish(field));
        taken.map_err(|_| self.fail(self.line_start))
    }

    #[cold]
    fn fail(&mut self, offset: u64) -> TooLarge {
        let failed = TooLarge { limit: self.max_event, offset };
        self.failed = Some(failed);
        self.line = Line::Ignored;
        failed
    }
}

impl Default for Parser {
    fn default() -> Self {
        Parser::new()
    }
}
