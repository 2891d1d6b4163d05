//! JSON as peers write it.

use serde_json::Value;

use super::halves;

/// Reads one JSON value, also where a strict reader refuses it for something that matters to nobody: a number that is none
/// (`NaN`, `-Infinity`, `1e999`), bytes that are not UTF-8, a control character or one half of a surrogate pair in a string,
/// containers that are nested too deep. What cannot be kept is `null`; what is half of a character stands in the value in a
/// form that [`Halves`](super::Halves) puts together, or replaces. None where it is no JSON value all the same. Members of objects
/// come in alphabetical order, whatever else in the process switches on `serde_json/preserve_order`.
pub(crate) fn read(json: &[u8]) -> Option<Value> {
    let strictly = serde_json::from_slice::<Value>(json).ok();
    let mut value = strictly.or_else(|| {
        let value: Value = serde_json::from_str(&mended(&halves::text_of(json))).ok()?;
        // A word that stands alone was not meant as JSON.
        (value.is_object() || value.is_array()).then_some(value)
    })?;
    value.sort_all_objects();
    Some(value)
}

/// Containers inside each other that are kept: below the 128 that `serde_json` reads.
const MAX_DEPTH: usize = 100;

/// `json` with what a strict reader minds replaced. What is no JSON at all stays so.
fn mended(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut depth = 0_usize;
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let is_kept = depth <= MAX_DEPTH;
        let length = match first {
            '"' => {
                let length = string_length(rest);
                if is_kept {
                    mend_string(&rest[..length], &mut out);
                }
                length
            }
            '{' | '[' => {
                depth += 1;
                if depth <= MAX_DEPTH {
                    out.push(first);
                } else if depth == MAX_DEPTH + 1 {
                    out.push_str("null");
                }
                1
            }
            '}' | ']' => {
                if is_kept {
                    out.push(first);
                }
                depth = depth.saturating_sub(1);
                1
            }
            ',' | ':' => {
                if is_kept {
                    out.push(first);
                }
                1
            }
            _ if first.is_ascii_whitespace() => {
                if is_kept {
                    out.push(' ');
                }
                1
            }
            _ => {
                let ends = |c: char| c.is_ascii_whitespace() || "\"{}[],:".contains(c);
                let length = rest.find(ends).unwrap_or(rest.len());
                let token = &rest[..length];
                if is_kept {
                    let is_scalar = serde_json::from_str::<Value>(token).is_ok();
                    out.push_str(if is_scalar { token } else { "null" });
                }
                length
            }
        };
        rest = &rest[length..];
    }
    out
}

/// How long the string at the beginning is, with its quotes; all of it where it does not end.
fn string_length(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            // What follows may be a character of several bytes: those are none of the bytes that are looked for.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// A string with its quotes: control characters are escaped, and half a surrogate pair is marked.
fn mend_string(string: &str, out: &mut String) {
    let mut rest = string;
    while let Some(at) = rest.find(|c: char| c == '\\' || c < ' ') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(unit) = unit(rest) {
            let pair = rest.get(6..).and_then(self::unit).filter(|low| halves::is_low(*low));
            match (halves::is_high(unit), pair) {
                (true, Some(_)) => {
                    out.push_str(&rest[..12]);
                    rest = &rest[12..];
                    continue;
                }
                _ if halves::is_high(unit) || halves::is_low(unit) => {
                    out.push(halves::mark(unit));
                }
                _ => out.push_str(&rest[..6]),
            }
            rest = &rest[6..];
            continue;
        }
        let mut characters = rest.chars();
        match characters.next() {
            Some('\\') => match characters.next() {
                Some(escaped) if "\"\\/bfnrt".contains(escaped) => {
                    out.extend(['\\', escaped]);
                }
                // An escape that there is not: the backslash is one.
                Some(other) => {
                    out.push_str("\\\\");
                    if other < ' ' {
                        // It is looked at again.
                        rest = &rest[1..];
                        continue;
                    }
                    out.push(other);
                }
                None => out.push_str("\\\\"),
            },
            Some(control) => {
                out.push_str("\\u00");
                let digits = b"0123456789abcdef";
                let code = u32::from(control) as usize;
                out.extend([digits[code >> 4 & 15], digits[code & 15]].map(char::from));
            }
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
}

/// The code unit of the escape at the beginning: `\u` and four hexadecimal digits.
fn unit(json: &str) -> Option<u16> {
    let digits = json.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

/// A whole number, as a number or as text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let number =
                number.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0)?;
            // Only a whole number that a `f64` holds exactly is one.
            format!("{number}").parse().ok()
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Tells where a JSON object or array that comes in pieces ends.
#[cfg(any(test, feature = "openai"))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Depth {
    open: u64,
    in_string: bool,
    is_escaped: bool,
}

#[cfg(any(test, feature = "openai"))]
impl Depth {
    /// Takes the next bytes. They should begin with a bracket where nothing is open.
    pub(crate) fn go_on(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.open += 1,
                b'}' | b']' => self.open = self.open.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Whether everything that was opened is closed.
    pub(crate) fn is_closed(self) -> bool {
        self.open == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenient::halves::Halves;
    use proptest::prelude::*;
    use serde_json::json;

    fn read_text(text: &str) -> Option<Value> {
        read(text.as_bytes())
    }

    #[test]
    fn what_nobody_reads_does_not_matter() {
        for odd in ["NaN", "-Infinity", "1e999", "None", "+1", "0x1", "'x'"] {
            let json = format!(r#"{{"a":{odd},"b":[{odd}, {odd}],"c":"NaN"}}"#);
            let expected = json!({ "a": null, "b": [null, null], "c": "NaN" });
            assert_eq!(read_text(&json), Some(expected), "{odd}");
        }
        let deep = format!(r#"{{"a":{}1{},"b":2}}"#, "[{\"x\":".repeat(5_000), "}]".repeat(5_000));
        assert_eq!(read_text(&deep).unwrap()["b"], 2);
        assert_eq!(
            read_text("{\"a\":\"x\ny\t\",\"b\":\"\\q\"}"),
            Some(json!({ "a": "x\ny\t", "b": "\\q" }))
        );
        assert_eq!(read(b"{\"a\":1,\"a\":2}"), Some(json!({ "a": 2 })));
    }

    #[test]
    fn what_is_no_json_stays_so() {
        for not in
            ["", "{", "{\"a\":", "{\"a\":\"x", "[1,2", "{\"choices\":[{]", "x", "x y", "{}{}"]
        {
            assert_eq!(read_text(not), None, "{not}");
        }
    }

    #[test]
    fn a_half_of_a_character_is_kept() {
        let text = |json: &[u8]| read(json).unwrap()["t"].as_str().unwrap().to_owned();
        let mut halves = Halves::default();
        assert_eq!(halves.join(&text(br#"{"t":"a\ud83d"}"#)), "a");
        assert_eq!(
            halves.join(&text(br#"{"t":"\ude00b\ud83d\ude00\ud83d!"}"#)),
            "\u{1f600}b\u{1f600}\u{fffd}!"
        );
        assert_eq!(halves.join(&text(b"{\"t\":\"c\xf0\x9f\"}")), "c");
        assert_eq!(halves.join(&text(b"{\"t\":\"\x98\x80d\xff\"}")), "\u{1f600}d\u{fffd}");
        assert_eq!(halves.rest(), "");
    }

    #[test]
    fn the_end_of_an_object_is_found_wherever_it_is_cut() {
        let json = br#"{"a":"}\"]{","b":[{}, {"c":"\\"}]}"#;
        for cut in 0..json.len() {
            let mut depth = Depth::default();
            depth.go_on(&json[..cut]);
            assert_eq!(depth.is_closed(), cut == 0, "{cut}");
            depth.go_on(&json[cut..]);
            assert!(depth.is_closed());
        }
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn what_looks_like_json_is_read_or_refused(text in r#"[{}\[\],:"\\ud83e0019aNntrue\n\x00é -]{0,60}"#) {
            let _ = read_text(&text);
        }

        #[test]
        fn mending_changes_nothing_that_is_right(text in ".{0,40}") {
            let json = json!({ "a": [text, 1.5, null, { text.clone(): true }] });
            prop_assert_eq!(serde_json::from_str::<Value>(&mended(&json.to_string())).unwrap(), json);
        }
    }
}
