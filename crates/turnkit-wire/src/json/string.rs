//! JSON strings: decoding what was verified, spelling what is new.

use alloc::{string::String, vec::Vec};

use super::stops::{BLOCK, InUtf8String, Stops, first_to_escape};

/// Decodes the inside of a verified JSON string. A lone surrogate escape becomes U+FFFD.
pub(crate) fn decode(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(escape) = memchr::memchr(b'\\', rest) {
        text.push_str(verified(&rest[..escape]));
        let (decoded, length) = decode_escape(&rest[escape..]);
        text.push(decoded);
        rest = rest.get(escape + length..).unwrap_or_default();
    }
    text.push_str(verified(rest));
    text
}

/// Appends `text` as the inside of a JSON string, escaping only what RFC 8259 section 7 demands.
pub(crate) fn escape_into(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let (mut stops, mut done) = (Stops::<InUtf8String>::new(), 0);
    loop {
        // A text of less than a block is read sooner byte by byte.
        let is_short = bytes.len() < BLOCK;
        let stop = if is_short { first_to_escape(bytes, done) } else { stops.next(bytes, done) };
        out.extend_from_slice(&bytes[done..stop]);
        let Some(&byte) = bytes.get(stop) else { return };
        escape_byte(byte, out);
        done = stop + 1;
    }
}

/// Whether `text` is spelt in JSON exactly as it stands.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    first_to_escape(text, 0) == text.len()
}

/// Text whose UTF-8 was verified before. `unsafe` is forbidden, so it is checked once more; the default is never taken.
pub(crate) fn verified(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or_default()
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0C => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            return out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// The character that an escape sequence stands for, and the sequence's length.
fn decode_escape(escape: &[u8]) -> (char, usize) {
    let decoded = match escape.get(1) {
        Some(b'u') => return decode_unicode(escape),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(&itself) => char::from(itself),
        None => char::REPLACEMENT_CHARACTER,
    };
    (decoded, 2)
}

fn decode_unicode(escape: &[u8]) -> (char, usize) {
    let Some(first) = code_unit(escape) else {
        return (char::REPLACEMENT_CHARACTER, 6);
    };
    let second = escape.get(6..).and_then(code_unit);
    if let (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) = (first, second) {
        let point = 0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00);
        return (char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

/// The code unit of a `\uXXXX` at the start of `escape`.
fn code_unit(escape: &[u8]) -> Option<u32> {
    let digits = escape.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_decode_to_what_they_spell() {
        assert_eq!(decode(br#"a\"\\\/\b\f\n\r\t\u0041\u00e9z"#), "a\"\\/\u{8}\u{c}\n\r\tA\u{e9}z");
        assert_eq!(decode(br"\ud83d\ude00"), "\u{1f600}");
    }

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        assert_eq!(decode(br"\ud800"), "\u{fffd}");
        assert_eq!(decode(br"\udc00\ud800x"), "\u{fffd}\u{fffd}x");
        assert_eq!(decode(br"\ud800\ud83d\ude00"), "\u{fffd}\u{1f600}");
    }

    #[test]
    fn spelling_agrees_with_serde_json_for_every_ascii_character() {
        for byte in 0..0x80u8 {
            let character: String = char::from(byte).into();
            // Alone, twice in one block, and across blocks.
            for around in ["", "é", &"é".repeat(50)] {
                let text = [around, &character, &character, around, &character].concat();
                let mut ours = Vec::new();
                escape_into(&text, &mut ours);
                let theirs = serde_json::to_string(&text).unwrap();
                assert_eq!(ours, theirs.as_bytes()[1..theirs.len() - 1], "{byte}");
            }
        }
    }
}
