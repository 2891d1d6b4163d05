//! The block of lines at hand: what its fields have set so far (WHATWG HTML 9.2.6).

use core::ops::Range;

use super::{
    frame::Frame,
    line::{Field, Text},
    slot::{MARGIN, Slot},
    utf8::Utf8,
};

/// Pieces of this size are decoded between two looks at the limit, for U+FFFD is longer than what it stands for.
const PIECE: usize = 1024;
const _: () = assert!(3 * (PIECE + 1) <= MARGIN);

/// A line that does not fit into the limit.
#[derive(Debug)]
pub(crate) struct OverLimit;

#[derive(Debug)]
pub(crate) struct Block {
    max_data: usize,
    max_id: usize,
    name: Slot,
    data: Slot,
    new_id: Slot,
    /// Where in the stream the data begins.
    data_start: u64,
    lossy: bool,
    id: Slot,
    /// An id was set since [`Block::take_id_set`] was asked.
    id_set: bool,
    retry: Option<u64>,
    digits: Digits,
    utf8: Utf8,
    /// How long the cut line at hand may be.
    line_limit: usize,
    /// How much of ids was held when it began.
    value_start: usize,
    /// Whether the block had an id before it.
    had_id: bool,
}

/// The digits of a `retry` line so far.
#[derive(Clone, Copy, Debug)]
enum Digits {
    None,
    Number(u64),
    Invalid,
}

impl Block {
    pub(crate) fn new(max_data: usize, max_id: usize) -> Self {
        let max_id = max_id.min(max_data);
        Block {
            max_data,
            max_id,
            name: Slot::new(max_id),
            data: Slot::new(max_data),
            new_id: Slot::new(max_id),
            data_start: 0,
            lossy: false,
            id: Slot::new(max_id),
            id_set: false,
            retry: None,
            digits: Digits::None,
            utf8: Utf8::default(),
            line_limit: 0,
            value_start: 0,
            had_id: false,
        }
    }

    #[inline]
    pub(crate) fn frame<'a>(&'a self, chunk: &'a [u8]) -> Frame<'a> {
        Frame {
            name: self.name.get(chunk),
            data: self.data.get(chunk),
            id: self.id.get(chunk),
            lossy: self.lossy,
        }
    }

    #[inline]
    pub(crate) fn data_in_chunk(&self) -> Option<Range<usize>> {
        self.data.in_chunk()
    }

    pub(crate) fn data_start(&self) -> u64 {
        self.data_start
    }

    #[inline]
    pub(crate) fn id(&self) -> &Slot {
        &self.id
    }

    #[inline]
    pub(crate) fn take_id_set(&mut self) -> bool {
        core::mem::take(&mut self.id_set)
    }

    pub(crate) fn set_last_id(&mut self, id: &str) {
        self.id.copy(id.as_bytes());
    }

    pub(crate) fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// A blank line ends the block: its id counts in any case, the frame only with data.
    #[inline]
    pub(crate) fn dispatch(&mut self) -> bool {
        if self.new_id.is_set() {
            self.id.take(&mut self.new_id);
            self.id_set = true;
        }
        let complete = self.data.is_set();
        if !complete {
            self.clear();
        }
        complete
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.name.clear();
        self.data.clear();
        self.lossy = false;
    }

    /// Forgets the unfinished block; the id and the reconnection time stay.
    pub(crate) fn discard(&mut self) {
        self.clear();
        self.new_id.clear();
        self.utf8 = Utf8::default();
    }

    /// The chunk is about to go.
    #[inline]
    pub(crate) fn spill(&mut self, chunk: &[u8]) {
        for slot in [&mut self.name, &mut self.data, &mut self.new_id, &mut self.id] {
            slot.spill(chunk);
        }
    }

    /// Whether a line of `field` with `length` bytes may follow what is held.
    #[inline]
    pub(crate) fn admit(&self, field: Field, length: usize) -> Result<(), OverLimit> {
        if length > self.limit_of(field) { Err(OverLimit) } else { Ok(()) }
    }

    /// How long a line of `field` may be now: data and line are bounded together.
    #[inline]
    fn limit_of(&self, field: Field) -> usize {
        match field {
            Field::Data => self.max_data.saturating_sub(self.data.len()),
            Field::Event | Field::Id => self.max_id,
            Field::Retry => usize::MAX,
        }
    }

    /// Whether the line whose value was begun may have `length` bytes.
    #[inline]
    pub(crate) fn admit_longer(&self, length: usize) -> Result<(), OverLimit> {
        if length > self.line_limit { Err(OverLimit) } else { Ok(()) }
    }

    /// Takes the value of a whole line, which is UTF-8 and stands in the chunk.
    #[expect(
        clippy::inline_always,
        reason = "once for each line; left to the compiler, it costs a tenth of parsing in one program and nothing in another"
    )]
    #[inline(always)]
    pub(crate) fn set(
        &mut self,
        chunk: &[u8],
        chunk_start: u64,
        field: Field,
        value: Range<usize>,
        text: Text,
    ) {
        match field {
            Field::Data if !self.data.is_set() => {
                self.data_start = chunk_start + value.start as u64;
                self.data.set_in_chunk(value);
            }
            Field::Data => {
                let data = self.data.append(chunk, value.len() + 1);
                data.push(b'\n');
                data.extend_from_slice(&chunk[value]);
            }
            Field::Event => self.name.set_in_chunk(value),
            Field::Id if text != Text::Plain && chunk[value.clone()].contains(&0) => {}
            Field::Id => self.new_id.set_in_chunk(value),
            Field::Retry => {
                self.digits = Digits::None;
                self.digits.extend(&chunk[value]);
                self.finish_retry();
            }
        }
    }

    /// A value begins that may come in pieces; `at` is its place in the stream.
    pub(crate) fn begin(&mut self, chunk: &[u8], field: Field, at: u64) {
        self.line_limit = self.limit_of(field);
        match field {
            Field::Data => {
                if self.data.is_set() {
                    self.data.append(chunk, 1).push(b'\n');
                } else {
                    self.data_start = at;
                    self.data.append(chunk, 0);
                }
            }
            Field::Event => {
                self.name.clear();
                self.name.append(chunk, 0);
            }
            // Until the line's end it is open whether it holds NUL: the id before it must not be lost.
            Field::Id => {
                self.had_id = self.new_id.is_set();
                self.value_start = self.new_id.append(chunk, 0).len();
            }
            Field::Retry => self.digits = Digits::None,
        }
    }

    /// The next piece of the value that was begun.
    #[inline]
    pub(crate) fn extend(
        &mut self,
        field: Field,
        value: &[u8],
        text: Text,
    ) -> Result<(), OverLimit> {
        if text == Text::Mixed || !self.utf8.is_clean() {
            return self.extend_mixed(field, value);
        }
        match self.slot(field) {
            Some((slot, _)) => slot.append(&[], value.len()).extend_from_slice(value),
            None => self.digits.extend(value),
        }
        Ok(())
    }

    /// The first piece, plain text, of the value of a line of which `length` bytes were seen. Whether it fitted and can stand in
    /// the chunk for now.
    #[inline]
    pub(crate) fn begin_plain(
        &mut self,
        chunk: &[u8],
        chunk_start: u64,
        field: Field,
        length: usize,
        value: Range<usize>,
    ) -> bool {
        if self.admit(field, length).is_err() {
            return false;
        }
        match field {
            Field::Data | Field::Event => {}
            Field::Id if !self.new_id.is_set() => {
                self.value_start = 0;
                self.had_id = false;
            }
            Field::Id | Field::Retry => return false,
        }
        self.line_limit = self.limit_of(field);
        self.set(chunk, chunk_start, field, value, Text::Plain);
        true
    }

    /// The next piece, plain text, of the value of a line of which `length` bytes were seen, these included. Whether it fitted
    /// and nothing stood in its way.
    #[inline]
    pub(crate) fn extend_plain(&mut self, field: Field, length: usize, piece: &[u8]) -> bool {
        self.admit_longer(length).is_ok()
            && self.utf8.is_clean()
            && self.slot(field).is_some_and(|(slot, _)| slot.extend(piece))
    }

    /// The end of the value that was begun.
    #[inline]
    pub(crate) fn finish(&mut self, field: Field) -> Result<(), OverLimit> {
        if !self.utf8.is_clean() {
            self.finish_mixed(field)?;
        }
        match field {
            Field::Id => self.finish_id(),
            Field::Retry => self.finish_retry(),
            Field::Data | Field::Event => {}
        }
        Ok(())
    }

    #[cold]
    fn extend_mixed(&mut self, field: Field, value: &[u8]) -> Result<(), OverLimit> {
        for piece in value.chunks(PIECE) {
            let mut utf8 = self.utf8;
            let Some((slot, limit)) = self.slot(field) else {
                self.digits.extend(piece);
                continue;
            };
            let buffer = slot.append(&[], 3 * (piece.len() + 1));
            utf8.push(piece, buffer);
            let fits = buffer.len() <= limit;
            self.utf8 = utf8;
            if !fits {
                return Err(OverLimit);
            }
        }
        Ok(())
    }

    #[cold]
    fn finish_mixed(&mut self, field: Field) -> Result<(), OverLimit> {
        let mut utf8 = core::mem::take(&mut self.utf8);
        let Some((slot, limit)) = self.slot(field) else {
            return Ok(());
        };
        let buffer = slot.append(&[], 3);
        let lossy = utf8.finish(buffer);
        let fits = buffer.len() <= limit;
        self.lossy |= lossy;
        if fits { Ok(()) } else { Err(OverLimit) }
    }

    /// Where the value of a field is put together, and how much may stand there; nowhere for `retry`.
    #[inline]
    fn slot(&mut self, field: Field) -> Option<(&mut Slot, usize)> {
        match field {
            Field::Data => Some((&mut self.data, self.max_data)),
            Field::Event => Some((&mut self.name, self.max_id)),
            Field::Id => Some((&mut self.new_id, self.value_start + self.max_id)),
            Field::Retry => None,
        }
    }

    /// Keeps the new id, or the one before it where the new one holds NUL.
    fn finish_id(&mut self) {
        let start = self.value_start;
        let ids = self.new_id.append(&[], 0);
        if memchr::memchr(0, &ids[start..]).is_none() {
            ids.drain(..start);
            return;
        }
        ids.truncate(start);
        if !self.had_id {
            self.new_id.clear();
        }
    }

    fn finish_retry(&mut self) {
        if let Digits::Number(milliseconds) = self.digits {
            self.retry = Some(milliseconds);
        }
    }
}

impl Digits {
    fn extend(&mut self, text: &[u8]) {
        for &byte in text {
            *self = match (*self, byte) {
                (Digits::None, b'0'..=b'9') => Digits::Number(u64::from(byte - b'0')),
                (Digits::Number(number), b'0'..=b'9') => {
                    Digits::Number(number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
                }
                _ => Digits::Invalid,
            };
        }
    }
}
