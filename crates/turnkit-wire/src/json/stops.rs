//! Finding the bytes that end a plain run, many at a time, in safe Rust.
//!
//! A block of 64 bytes is compared in loops over fixed-size arrays, which compile to vector compares on every target that has
//! them. What was found is kept as one bit for each byte, so that the next search within the block costs a shift and a count.

const BLOCK: usize = 64;

/// No position is within a block of this.
const NOWHERE: usize = usize::MAX / 2;

/// Finds the bytes that end a plain run within a JSON string: `"`, `\`, control characters, and what is not ASCII
/// where that is still to be looked at.
pub(crate) struct Stops {
    /// Where the block begins that `mask` describes.
    base: usize,
    mask: u64,
    non_ascii: bool,
}

impl Stops {
    #[inline]
    pub(crate) fn new() -> Self {
        Stops { base: NOWHERE, mask: 0, non_ascii: true }
    }

    /// For input that is known to be UTF-8: what is not ASCII is no stop.
    #[inline]
    pub(crate) fn of_utf8() -> Self {
        Stops { non_ascii: false, ..Stops::new() }
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
        while at < bytes.len() {
            self.load(bytes, at);
            let ahead = self.mask >> (at - self.base);
            if ahead != 0 {
                return at + ahead.trailing_zeros() as usize;
            }
            at = self.base + BLOCK;
        }
        bytes.len()
    }

    /// Looks at the block that holds `at`: the one that begins there, or the last one.
    #[inline]
    fn load(&mut self, bytes: &[u8], at: usize) {
        if let Some(block) = bytes[at..].first_chunk() {
            self.base = at;
            self.mask = self.find(block);
        } else if let Some(block) = bytes.last_chunk() {
            self.base = bytes.len() - BLOCK;
            self.mask = self.find(block);
        } else {
            let mut block = [b' '; BLOCK];
            block[..bytes.len()].copy_from_slice(bytes);
            self.base = 0;
            self.mask = self.find(&block);
        }
    }

    #[inline]
    fn find(&self, block: &[u8; BLOCK]) -> u64 {
        let mut found = [0; BLOCK];
        if self.non_ascii {
            for (found, &byte) in found.iter_mut().zip(block) {
                *found = u8::from(byte.cast_signed() < 0x20)
                    | u8::from(byte == b'"')
                    | u8::from(byte == b'\\');
            }
        } else {
            for (found, &byte) in found.iter_mut().zip(block) {
                *found = u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
            }
        }
        bits(&found)
    }
}

/// One bit for each byte, which is 0 or 1.
#[inline]
fn bits(found: &[u8; BLOCK]) -> u64 {
    // Brings bit 0 of byte i to bit 56 + i.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    if found.iter().fold(0, |any, byte| any | byte) == 0 {
        return 0;
    }
    let (words, _) = found.as_chunks();
    words
        .iter()
        .rev()
        .fold(0, |mask, &word| mask << 8 | u64::from_le_bytes(word).wrapping_mul(GATHER) >> 56)
}

/// The first byte of `text` that cannot stand in a JSON string as it is.
pub(crate) fn first_to_escape(text: &[u8], at: usize) -> usize {
    let is_plain = |byte: &&u8| !matches!(byte, 0..b' ' | b'"' | b'\\');
    at + text[at..].iter().take_while(is_plain).count()
}

/// The first byte at or after `at` that is CR, LF, another control character below 14, or not ASCII.
#[inline]
pub(crate) fn line_stop(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = bytes[at..].first_chunk::<32>() {
        if block.iter().fold(false, |any, &byte| any | is_line_stop(byte)) {
            break;
        }
        at += block.len();
    }
    while let Some(&word) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(word);
        // Borrows can mark bytes after the first stop, which is all that counts.
        let stops = (word.wrapping_sub(FOURTEENS) & !word | word) & HIGH;
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|&&byte| !is_line_stop(byte)).count()
}

const FOURTEENS: u64 = u64::from_le_bytes([14; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

/// CR and LF are below 14, and what is not ASCII is negative: one signed compare finds both.
#[inline]
fn is_line_stop(byte: u8) -> bool {
    byte.cast_signed() < 14
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn every_byte_stops_at_every_position_exactly_when_it_should() {
        for length in [1, 7, 40, 64, 65, 200] {
            for byte in 0..=u8::MAX {
                for position in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[position] = byte;
                    let ascii_stop = byte < 0x20 || byte == b'"' || byte == b'\\';
                    let expected = |stop: bool| if stop { position } else { length };
                    assert_eq!(Stops::new().next(&bytes, 0), expected(ascii_stop || byte >= 0x80));
                    assert_eq!(Stops::of_utf8().next(&bytes, 0), expected(ascii_stop));
                    assert_eq!(first_to_escape(&bytes, 0), expected(ascii_stop));
                    assert_eq!(line_stop(&bytes, 0), expected(!(14..0x80).contains(&byte)));
                }
            }
        }
    }

    #[test]
    fn all_stops_are_found_from_everywhere() {
        let bytes = br#"{"type":"a","data":{"text":"some \"longer\" text, over sixty-four bytes in all","b":["",""]}}"#;
        for from in 0..bytes.len() {
            let mut stops = Stops::new();
            let mut at = from;
            while at < bytes.len() {
                let expected = at
                    + bytes[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\')).count();
                at = stops.next(bytes, at);
                assert_eq!(at, expected);
                at += 1;
            }
        }
    }
}
