//! Finding bytes eight and thirty-two at a time, in safe Rust.
//!
//! A *stop* is a byte that ends a plain run. The word functions flag each stop in the top bit of its byte; borrows can flag
//! bytes after the first stop wrongly, so only the first flag counts. The block functions are loops over fixed-size arrays,
//! which compile to vector compares on every target that has them.

const ONES: u64 = u64::from_le_bytes([1; 8]);

/// The top bit of every byte: marks what is not ASCII.
pub(crate) const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

const BLOCK: usize = 32;

/// The first byte at or after `at` that is `"`, `\`, a control character, or (with `high` = [`HIGH`]) not ASCII;
/// the length of `bytes` where there is none. `high` is 0 once the input is known to be UTF-8.
#[inline]
pub(crate) fn string_stop(bytes: &[u8], mut at: usize, high: u64) -> usize {
    for _ in 0..2 {
        let Some(word) = word_at(bytes, at) else {
            return string_stop_tail(bytes, at, high);
        };
        let stops = string_stops(word, high);
        if stops != 0 {
            return at + first(stops);
        }
        at += 8;
    }
    string_stop_long(bytes, at, high)
}

/// The first byte at or after `at` that is CR, LF, another control character below 14, or not ASCII.
#[inline]
pub(crate) fn line_stop(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = block_at(bytes, at) {
        if block
            .iter()
            .fold(false, |any, &byte| any | is_line_stop(byte))
        {
            break;
        }
        at += BLOCK;
    }
    while let Some(word) = word_at(bytes, at) {
        let stops = (below(word, 14) | word) & HIGH;
        if stops != 0 {
            return at + first(stops);
        }
        at += 8;
    }
    at + bytes[at..]
        .iter()
        .take_while(|&&byte| !is_line_stop(byte))
        .count()
}

#[cold]
fn string_stop_tail(bytes: &[u8], at: usize, high: u64) -> usize {
    let plain = |&&byte: &&u8| string_stops(u64::from(byte) | FILL, high) == 0;
    at + bytes[at..].iter().take_while(plain).count()
}

/// Seven harmless bytes above the one that is looked at.
const FILL: u64 = u64::from_le_bytes([0, b' ', b' ', b' ', b' ', b' ', b' ', b' ']);

fn string_stop_long(bytes: &[u8], mut at: usize, high: u64) -> usize {
    while let Some(block) = block_at(bytes, at) {
        if has_string_stop(block, high) {
            break;
        }
        at += BLOCK;
    }
    while let Some(word) = word_at(bytes, at) {
        let stops = string_stops(word, high);
        if stops != 0 {
            return at + first(stops);
        }
        at += 8;
    }
    string_stop_tail(bytes, at, high)
}

#[inline]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "lazy operators branch, and a loop that branches is not vectorised"
)]
fn has_string_stop(block: &[u8; BLOCK], high: u64) -> bool {
    if high == 0 {
        block.iter().fold(false, |any, &byte| {
            any | (byte < b' ') | (byte == b'"') | (byte == b'\\')
        })
    } else {
        block.iter().fold(false, |any, &byte| {
            any | (byte.cast_signed() < 0x20) | (byte == b'"') | (byte == b'\\')
        })
    }
}

/// CR and LF are below 14, and what is not ASCII is negative: one signed compare finds both.
#[inline]
fn is_line_stop(byte: u8) -> bool {
    byte.cast_signed() < 14
}

#[inline]
fn string_stops(word: u64, high: u64) -> u64 {
    let quote = (word ^ u64::from_le_bytes([b'"'; 8])).wrapping_sub(ONES);
    let escape = (word ^ u64::from_le_bytes([b'\\'; 8])).wrapping_sub(ONES);
    let control = word.wrapping_sub(u64::from_le_bytes([b' '; 8]));
    ((quote | escape | control) & !word & HIGH) | (word & high)
}

#[inline]
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(u64::from_le_bytes([bound; 8])) & !word
}

#[inline]
fn first(stops: u64) -> usize {
    stops.trailing_zeros() as usize / 8
}

#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u64::from_le_bytes(*word))
}

#[inline]
fn block_at(bytes: &[u8], at: usize) -> Option<&[u8; BLOCK]> {
    bytes.get(at..)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn every_byte_stops_a_string_at_every_position_exactly_when_it_should() {
        for byte in 0..=u8::MAX {
            for position in 0..80 {
                let mut bytes = vec![b'a'; 80];
                bytes[position] = byte;
                let ascii_stop = byte < 0x20 || byte == b'"' || byte == b'\\';
                let expected = |stop: bool| if stop { position } else { 80 };
                assert_eq!(
                    string_stop(&bytes, 0, HIGH),
                    expected(ascii_stop || byte >= 0x80)
                );
                assert_eq!(string_stop(&bytes, 0, 0), expected(ascii_stop));
                assert_eq!(line_stop(&bytes, 0), expected(!(14..0x80).contains(&byte)));
            }
        }
    }
}
