//! JSON read in place: verified once, then walked without a tree.
//!
//! ```
//! use turnkit_wire::value::Value;
//!
//! let value = Value::verify(br#" {"id":"chat-1","messages":[{"role":"user"},{"role":"assistant"}]} "#)?;
//! assert!(value.get("id").and_then(Value::string).is_some_and(|id| id.is("chat-1")));
//! let mut roles = 0;
//! value.get("messages").unwrap_or_default().items(|message| roles += usize::from(message.get("role").is_some()));
//! assert_eq!(roles, 2);
//! # Ok::<(), turnkit_wire::DecodeError>(())
//! ```

use alloc::vec::Vec;
use core::fmt;

use crate::{
    DecodeError, Event,
    json::{scan, string, walk},
    view::Text,
};

/// One value in JSON that was verified (PROTOCOL 1.1), as tolerant as the views: what has another shape is `None` or empty, and
/// of a member that is there twice the last counts, as in ECMAScript.
///
/// It borrows, and walking it allocates nothing. The default is no value at all: empty JSON without a shape. `Debug` shows the
/// length, never the content.
#[derive(Clone, Copy, Default)]
pub struct Value<'a>(pub(crate) walk::Value<'a>);

impl<'a> Value<'a> {
    /// Verifies one value of any size, nested at most 1,024 deep, with nothing but white space around it.
    ///
    /// # Errors
    ///
    /// Whatever PROTOCOL 1.1 refuses, with the offset in `json`.
    pub fn verify(json: &'a [u8]) -> Result<Self, DecodeError> {
        scan::value(json)?;
        Ok(Self(walk::Value(json.trim_ascii())))
    }

    /// The event's data; no value at all where it has none.
    #[must_use]
    pub fn of(event: &'a Event) -> Self {
        Self(walk::Value(event.data_bytes().unwrap_or_default()))
    }

    /// The JSON, as it stands.
    #[must_use]
    pub fn json(self) -> &'a [u8] {
        self.0.0
    }

    /// A string. Numbers do not count.
    #[must_use]
    pub fn string(self) -> Option<Text<'a>> {
        self.0.string()
    }

    /// A string, or the spelling of a number.
    #[must_use]
    pub fn text(self) -> Option<Text<'a>> {
        self.0.text()
    }

    /// A whole number that is not negative, also as a string, also spelt as `9.0`.
    #[must_use]
    pub fn whole_number(self) -> Option<u64> {
        self.0.whole_number()
    }

    /// `true` or `false`, also as a string.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        self.0.boolean()
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        self.json().first() == Some(&b'{')
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(self) -> bool {
        self.json().first() == Some(&b'[')
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.json() == b"null"
    }

    /// The member of this name, if it is an object that has one.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Self> {
        let mut found = None;
        self.members(|key, value| {
            if key.is(name) {
                found = Some(value);
            }
        });
        found
    }

    /// Calls `visit` with each member, if it is an object.
    pub fn members(self, mut visit: impl FnMut(Text<'a>, Self)) {
        self.0.members(|key, value| visit(key, Self(value)));
    }

    /// Calls `visit` with each element, if it is an array.
    pub fn items(self, mut visit: impl FnMut(Self)) {
        self.0.items(|value| visit(Self(value)));
    }
}

/// Appends `text` as the inside of a JSON string: escaped is only what RFC 8259 section 7 demands.
pub fn spell(text: &str, out: &mut Vec<u8>) {
    string::escape_into(text, out);
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.json().len())
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    #[test]
    fn elements_are_visited_in_order_whatever_stands_between_them() {
        let value = Value::verify(b" [1 , [2,[3]],\n{\"a\":[4]} , \"]\" ,null ] ").unwrap();
        let mut items = Vec::new();
        value.items(|item| items.push(String::from_utf8_lossy(item.json()).into_owned()));
        assert_eq!(items, ["1", "[2,[3]]", "{\"a\":[4]}", "\"]\"", "null"]);
        let mut none = 0;
        Value::verify(b"[ ]").unwrap().items(|_| none += 1);
        Value::verify(b"{\"a\":1}").unwrap().items(|_| none += 1);
        assert_eq!(none, 0);
    }

    #[test]
    fn the_last_of_two_members_counts_and_keys_are_read_as_they_are_meant() {
        let value = Value::verify(br#"{"a":1,"\u0061":2,"b":null}"#).unwrap();
        assert_eq!(value.get("a").and_then(Value::whole_number), Some(2));
        assert!(value.get("b").is_some_and(Value::is_null));
        assert!(value.get("c").is_none());
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        assert_eq!(Value::verify(b"{\"a\":01}").unwrap_err().offset(), 6);
        assert!(Value::verify(&[b'['; 2000]).is_err());
        assert!(Value::verify(b"").is_err());
    }
}
