//! Lines that the end of a chunk cuts: their pieces are put together.

use core::ops::Range;

use super::Parser;
use crate::sse::{
    TooLarge,
    line::{self, Field, Line, Text},
};

impl Parser {
    /// The chunk ends before the line does.
    #[inline]
    pub(super) fn line_goes_on(
        &mut self,
        chunk: &[u8],
        start: usize,
        text: Text,
    ) -> Result<(), TooLarge> {
        if text == Text::Plain && self.value_goes_on(&chunk[start..]) {
            return Ok(());
        }
        self.cut_line(chunk, start, text)
    }

    fn cut_line(&mut self, chunk: &[u8], start: usize, text: Text) -> Result<(), TooLarge> {
        if matches!(self.line, Line::Start) {
            self.line_start = self.chunk_start + start as u64;
            if text == Text::Plain && self.value_begins(chunk, start) {
                return Ok(());
            }
        }
        self.take_piece(chunk, start..chunk.len(), text)
    }

    /// Takes a plain piece of a value that was begun. Whether it was one, and fitted.
    #[inline]
    pub(super) fn value_goes_on(&mut self, piece: &[u8]) -> bool {
        let Line::Value { field, length, begun: true } = &mut self.line else {
            return false;
        };
        *length += piece.len();
        let taken = self.block.extend_plain(*field, *length, piece);
        if !taken {
            *length -= piece.len();
        }
        taken
    }

    /// Takes the plain beginning of a line. Whether its value begins in it, and fitted.
    #[inline]
    fn value_begins(&mut self, chunk: &[u8], start: usize) -> bool {
        let length = chunk.len() - start;
        let Some((field, name)) = line::split(&chunk[start..]) else {
            return false;
        };
        let value = start + name..chunk.len();
        let taken = !value.is_empty()
            && self.block.begin_plain(chunk, self.chunk_start, field, length, value);
        if taken {
            self.line = Line::Value { field, length, begun: true };
        }
        taken
    }

    /// The end of a line that an earlier chunk began.
    pub(super) fn line_ends(
        &mut self,
        chunk: &[u8],
        piece: Range<usize>,
        text: Text,
    ) -> Result<(), TooLarge> {
        let end = piece.end;
        if text != Text::Plain || !self.value_goes_on(&chunk[piece.clone()]) {
            self.take_piece(chunk, piece, text)?;
        }
        let line = core::mem::replace(&mut self.line, Line::Start);
        let field = match line {
            Line::Value { field, begun: true, .. } => field,
            Line::Value { field, length, begun: false } => self.begin(chunk, field, length, end)?,
            Line::Name { length, .. } => match line.bare_field() {
                Some(field) => self.begin(chunk, field, usize::from(length), end)?,
                None => return Ok(()),
            },
            Line::Start | Line::Ignored => return Ok(()),
        };
        self.block.finish(field).map_err(|_| self.fail(self.line_start))
    }

    /// A piece of a line that stands in more than one chunk.
    fn take_piece(
        &mut self,
        chunk: &[u8],
        mut piece: Range<usize>,
        text: Text,
    ) -> Result<(), TooLarge> {
        if matches!(self.line, Line::Start | Line::Name { .. }) {
            piece.start += self.line.read_name(&chunk[piece.clone()]);
        }
        let Line::Value { field, length, begun } = self.line else {
            return Ok(());
        };
        if piece.is_empty() {
            return Ok(());
        }
        let length = length + piece.len();
        if !begun {
            piece.start += usize::from(chunk[piece.start] == b' ');
            self.begin(chunk, field, length, piece.start)?;
        }
        self.line = Line::Value { field, length, begun: true };
        let admitted = self.block.admit_longer(length);
        let taken = admitted.and_then(|()| self.block.extend(field, &chunk[piece], text));
        taken.map_err(|_| self.fail(self.line_start))
    }

    /// The value of a line, of which `length` bytes were seen, begins at `at` in the chunk.
    fn begin(
        &mut self,
        chunk: &[u8],
        field: Field,
        length: usize,
        at: usize,
    ) -> Result<Field, TooLarge> {
        if self.block.admit(field, length).is_err() {
            return Err(self.fail(self.line_start));
        }
        self.block.begin(chunk, field, self.chunk_start + at as u64);
        Ok(field)
    }
}
