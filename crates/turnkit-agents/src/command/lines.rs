//! A program's output in lines.

use bytes::{Bytes, BytesMut};

/// Splits bytes at line feeds.
pub(super) struct Lines {
    max: usize,
    line: BytesMut,
    /// The rest of a line that is too long is on its way.
    is_skipping: bool,
    /// Lines that have begun.
    number: u64,
    is_first: bool,
}

/// A line with its line feed, where it has one; or one that was longer than the limit, by its number from 1.
pub(super) enum Line {
    Whole(Bytes),
    TooLong(u64),
}

impl Lines {
    pub(super) fn new(max: usize) -> Self {
        Self { max, line: BytesMut::new(), is_skipping: false, number: 1, is_first: true }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Line)) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            bytes = rest;
            if !self.is_skipping {
                let length = self.line.len() + piece.len() - usize::from(end.is_some());
                if length > self.max {
                    self.is_skipping = true;
                    self.line = BytesMut::new();
                    take(Line::TooLong(self.number));
                } else {
                    self.line.extend_from_slice(piece);
                }
            }
            if end.is_some() {
                self.end_line(&mut take);
            }
        }
    }

    /// There is no more.
    pub(super) fn finish(&mut self, mut take: impl FnMut(Line)) {
        self.end_line(&mut take);
    }

    fn end_line(&mut self, take: &mut impl FnMut(Line)) {
        self.number += 1;
        let mut line = self.line.split().freeze();
        if std::mem::take(&mut self.is_first) && line.starts_with(b"\xef\xbb\xbf") {
            line = line.slice(3..);
        }
        if !std::mem::take(&mut self.is_skipping) && !line.is_empty() {
            take(Line::Whole(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let text = "\u{feff}a\n\nbc\r\n0123456789\nd".as_bytes();
        for size in 1..=text.len() {
            let (mut lines, mut found) = (Lines::new(8), Vec::new());
            let mut take = |line| {
                found.push(match line {
                    Line::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
                    Line::TooLong(number) => number.to_string(),
                });
            };
            for chunk in text.chunks(size) {
                lines.feed(chunk, &mut take);
            }
            lines.finish(&mut take);
            assert_eq!(found, ["a\n", "\n", "bc\r\n", "4", "d"], "{size}");
        }
    }
}
