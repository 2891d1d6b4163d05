//! The short way through a stream of deltas.
//!
//! From one delta of a part to the next nothing of the line changes but the delta. A template remembers the rest. A line that is
//! equal to it outside of that string says the same about the same part: both are verified JSON, so a reader that stands inside
//! the same string of both leaves it at the first quote without an escape.

use alloc::vec::Vec;

use memchr::memchr2;

#[derive(Default)]
pub(super) struct Template {
    /// Nothing was learnt while this is empty.
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Template {
    /// Remembers `line` around `delta`, which is a part of it.
    pub(super) fn learn(&mut self, line: &[u8], delta: &[u8]) {
        self.forget();
        let start = delta.as_ptr().addr().checked_sub(line.as_ptr().addr());
        let around =
            start.and_then(|start| Some((line.get(..start)?, line.get(start + delta.len()..)?)));
        if let Some((head, tail)) = around {
            self.head.extend_from_slice(head);
            self.tail.extend_from_slice(tail);
        }
    }

    #[inline]
    pub(super) fn forget(&mut self) {
        self.head.clear();
        self.tail.clear();
    }

    /// The delta as it is spelt, if the line is of this kind and it is not empty.
    #[inline]
    pub(super) fn read<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        if self.head.is_empty() {
            return None;
        }
        let delta = line.strip_prefix(self.head.as_slice())?.strip_suffix(self.tail.as_slice())?;
        let mut at = 0;
        while let Some(found) = memchr2(b'"', b'\\', delta.get(at..)?) {
            if delta[at + found] == b'"' {
                return None;
            }
            at += found + 2;
        }
        (!delta.is_empty()).then_some(delta)
    }
}
