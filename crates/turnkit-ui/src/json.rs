//! Spelling JSON.

use alloc::{string::String, vec::Vec};

use turnkit_wire::value::Value;

pub(crate) use turnkit_wire::value::spell;

/// UTF-8 as the inside of a JSON string.
pub(crate) fn inside(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    // It was verified; the default is never taken.
    spell(core::str::from_utf8(text).unwrap_or_default(), &mut out);
    out
}

/// `text` as a JSON string, with its quotes.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut json = Vec::with_capacity(text.len() + 2);
    json.push(b'"');
    spell(text, &mut json);
    json.push(b'"');
    json
}

/// The text that the inside of a JSON string spells.
pub(crate) fn text_of(inside: &[u8]) -> String {
    let json = [b"\"", inside, b"\""].concat();
    let text = Value::verify(&json).ok().and_then(Value::string);
    text.map(|text| text.to_str().into_owned()).unwrap_or_default()
}

/// JSON that was put together of what was verified.
pub(crate) fn into_string(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}

/// An object that is being written.
pub(crate) struct Object(Vec<u8>);

impl Object {
    pub(crate) fn new() -> Self {
        Self(alloc::vec![b'{'])
    }

    /// A member whose value is JSON; left out where that is empty. `key` is spelt as it stands.
    pub(crate) fn json(mut self, key: &str, json: &[u8]) -> Self {
        if !json.is_empty() {
            if self.0.len() > 1 {
                self.0.push(b',');
            }
            self.0.push(b'"');
            self.0.extend_from_slice(key.as_bytes());
            self.0.extend_from_slice(b"\":");
            self.0.extend_from_slice(json);
        }
        self
    }

    /// A member whose value is a string, as its inside is spelt in JSON.
    pub(crate) fn raw(self, key: &str, inside: &[u8]) -> Self {
        self.json(key, &[b"\"", inside, b"\""].concat())
    }

    pub(crate) fn optional(self, key: &str, inside: Option<&[u8]>) -> Self {
        match inside {
            Some(inside) => self.raw(key, inside),
            None => self,
        }
    }

    pub(crate) fn flag(self, key: &str, flag: bool) -> Self {
        if flag { self.json(key, b"true") } else { self }
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
