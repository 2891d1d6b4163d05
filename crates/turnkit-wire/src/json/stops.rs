//! Finding the bytes that end a plain run, 64 at a time, in safe Rust.
//!
//! `wide` compares by vector instructions on every target whose baseline has them, and in plain Rust on the others. What was
//! found is kept as one bit for each byte, so that the next search within the block costs a shift and a count.

use core::marker::PhantomData;

use wide::{i8x16, u8x16};

/// How many bytes are looked at in one go.
pub(crate) const BLOCK: usize = 64;

/// No position is within a block of this.
const NOWHERE: usize = usize::MAX / 2;

/// Which bytes end a plain run. A space never does.
pub(crate) trait Class {
    /// Sets the high bit of the lanes that hold such a byte.
    fn ends(lanes: u8x16) -> u8x16;
}

/// Within a JSON string: `"`, `\`, control characters, and what is not ASCII.
pub(crate) struct InString;

/// Within a JSON string that is known to be UTF-8: `"`, `\` and control characters.
pub(crate) struct InUtf8String;

/// Within a line: CR, LF, another control character below 14, and what is not ASCII.
#[derive(Debug)]
pub(crate) struct InLine;

/// Finds the bytes of a class, in one run of bytes from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Stops<C> {
    /// Where the block begins that `mask` describes.
    base: usize,
    mask: u64,
    class: PhantomData<C>,
}

impl<C: Class> Stops<C> {
    #[inline]
    pub(crate) fn new() -> Self {
        Stops { base: NOWHERE, mask: 0, class: PhantomData }
    }

    /// Makes ready for other bytes.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.base = NOWHERE;
    }

    /// The first stop at or after `at`, or the length of `bytes`, which must be the same in every call.
    #[inline]
    pub(crate) fn next(&mut self, bytes: &[u8], at: usize) -> usize {
        let offset = at.wrapping_sub(self.base);
        if offset < BLOCK {
            let ahead = self.mask >> offset;
            if ahead != 0 {
                return at + ahead.trailing_zeros() as usize;
            }
        }
        self.search(bytes, at)
    }

    /// Goes on where the block at hand has no more stops.
    #[inline(never)]
    fn search(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if at.wrapping_sub(self.base) < BLOCK {
            at = self.base + BLOCK;
        }
        while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let mask = find::<C>(block);
            if mask != 0 {
                self.base = at;
                self.mask = mask;
                return at + mask.trailing_zeros() as usize;
            }
            at += BLOCK;
        }
        if at < bytes.len() { self.search_rest(bytes, at) } else { bytes.len() }
    }

    /// Where less than a block is left, it is the end of the last one.
    #[inline(never)]
    fn search_rest(&mut self, bytes: &[u8], at: usize) -> usize {
        if let Some(block) = bytes.last_chunk() {
            self.base = bytes.len() - BLOCK;
            self.mask = find::<C>(block);
        } else {
            self.base = 0;
            self.mask = find::<C>(&padded(bytes));
        }
        match self.mask >> (at - self.base) {
            0 => bytes.len(),
            ahead => at + ahead.trailing_zeros() as usize,
        }
    }
}

impl Class for InString {
    #[inline]
    fn ends(lanes: u8x16) -> u8x16 {
        // What is not ASCII is negative: one signed compare finds it with the control characters.
        let special = lanes.cast_signed().simd_lt(i8x16::splat(0x20)).cast_unsigned();
        special | quotes(lanes)
    }
}

impl Class for InUtf8String {
    #[inline]
    fn ends(lanes: u8x16) -> u8x16 {
        lanes.simd_lt(u8x16::splat(0x20)) | quotes(lanes)
    }
}

impl Class for InLine {
    #[inline]
    fn ends(lanes: u8x16) -> u8x16 {
        lanes.cast_signed().simd_lt(i8x16::splat(14)).cast_unsigned()
    }
}

#[inline]
fn quotes(lanes: u8x16) -> u8x16 {
    lanes.simd_eq(u8x16::splat(b'"')) | lanes.simd_eq(u8x16::splat(b'\\'))
}

/// One bit for each byte of the block that ends a run.
#[inline]
fn find<C: Class>(block: &[u8; BLOCK]) -> u64 {
    let (quarters, _) = block.as_chunks();
    let ends = quarters.iter().map(|&lanes| C::ends(u8x16::new(lanes)));
    if ends.clone().fold(u8x16::ZERO, |any, ends| any | ends).to_bitmask() == 0 {
        return 0;
    }
    ends.rev().fold(0, |mask, ends| mask << 16 | u64::from(ends.to_bitmask()))
}

/// Less than a block, with spaces behind it.
#[cold]
fn padded(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

/// The first byte of `text` that cannot stand in a JSON string as it is.
pub(crate) fn first_to_escape(text: &[u8], at: usize) -> usize {
    let is_plain = |byte: &&u8| !matches!(byte, 0..b' ' | b'"' | b'\\');
    at + text[at..].iter().take_while(is_plain).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn every_byte_stops_at_every_position_exactly_when_it_should() {
        for length in [1, 7, 40, 63, 64, 65, 200] {
            for byte in 0..=u8::MAX {
                for position in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[position] = byte;
                    let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                    let line_stop = !(14..0x80).contains(&byte);
                    let expected = |stop: bool| if stop { position } else { length };
                    assert_eq!(
                        Stops::<InString>::new().next(&bytes, 0),
                        expected(special || byte >= 0x80)
                    );
                    assert_eq!(Stops::<InUtf8String>::new().next(&bytes, 0), expected(special));
                    assert_eq!(Stops::<InLine>::new().next(&bytes, 0), expected(line_stop));
                    assert_eq!(first_to_escape(&bytes, 0), expected(special));
                }
            }
        }
    }

    #[test]
    fn all_stops_are_found_from_everywhere() {
        let bytes = br#"{"type":"a","data":{"text":"some \"longer\" text, over sixty-four bytes in all","b":["",""]}}"#;
        for from in 0..=bytes.len() {
            let mut stops = Stops::<InString>::new();
            let mut at = from;
            while at <= bytes.len() {
                let plain = bytes[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\'));
                let expected = at + plain.count();
                at = stops.next(bytes, at);
                assert_eq!(at, expected);
                at += 1;
            }
        }
    }
}
