//! JSON objects that are spelt directly into a line: nothing in them can fail, so their writers need no error.

use alloc::vec::Vec;

use bytes::BufMut;

use super::string;
use crate::{
    Event,
    event::{DATA_KEY, TYPE_KEY},
};

/// An object that is being written.
pub(crate) struct Object<'a> {
    line: &'a mut Vec<u8>,
    is_empty: bool,
}

/// What stands in a line beside the type and the members of the data: `{"type":"","data":{}}` and LF.
const FRAME: usize = 22;

/// The event `{"type":kind,"data":{…}}` with the members that `members` writes; `kind` is one that is spelt as it stands.
///
/// `size` is what the members take in the line. Where it is exact, the line is one allocation; where it is too small (because
/// something has to be escaped) it grows.
pub(crate) fn event(kind: &str, size: usize, members: impl FnOnce(&mut Object<'_>)) -> Event {
    let mut line = Vec::with_capacity(FRAME + kind.len() + size);
    line.put_slice(TYPE_KEY);
    line.put_slice(kind.as_bytes());
    line.put_slice(DATA_KEY);
    Object::write(&mut line, members);
    line.put_slice(b"}\n");
    Event::from_canonical_line(line.into(), kind.len())
}

impl Object<'_> {
    fn write(line: &mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        line.push(b'{');
        members(&mut Object { line, is_empty: true });
        line.push(b'}');
    }

    pub(crate) fn string(&mut self, key: &str, text: &str) -> &mut Self {
        self.key(key);
        self.line.push(b'"');
        string::escape_into(text, self.line);
        self.line.push(b'"');
        self
    }

    /// A string, where there is one.
    pub(crate) fn optional(&mut self, key: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.string(key, text),
            None => self,
        }
    }

    /// A whole number, where there is one.
    pub(crate) fn number(&mut self, key: &str, number: Option<u64>) -> &mut Self {
        match number {
            Some(number) => self.raw(key, &alloc::format!("{number}")),
            None => self,
        }
    }

    /// JSON that was verified.
    pub(crate) fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key);
        self.line.extend_from_slice(json.as_bytes());
        self
    }

    pub(crate) fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        self.key(key);
        Object::write(self.line, members);
        self
    }

    /// An array of objects, each with the members that `members` writes of its item.
    pub(crate) fn objects<T: Copy>(
        &mut self,
        key: &str,
        items: &[T],
        mut members: impl FnMut(T, &mut Object<'_>),
    ) -> &mut Self {
        self.key(key);
        self.line.push(b'[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.line.push(b',');
            }
            Object::write(self.line, |object| members(*item, object));
        }
        self.line.push(b']');
        self
    }

    /// `key` is one that is spelt as it stands.
    fn key(&mut self, key: &str) {
        if !self.is_empty {
            self.line.push(b',');
        }
        self.is_empty = false;
        self.line.push(b'"');
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
    }
}
