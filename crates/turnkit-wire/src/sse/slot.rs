//! Where the value of a field stands: in the chunk where it can, in a buffer where it must.

use alloc::vec::Vec;
use core::{mem, ops::Range};

use crate::arena::BLOCK;

/// How far a value may grow before it is seen that it is over its limit, in bytes.
pub(crate) const MARGIN: usize = 4 * 1024;

/// A value of up to `limit` bytes.
#[derive(Debug)]
pub(crate) struct Slot {
    place: Place,
    buffer: Vec<u8>,
    limit: usize,
}

#[derive(Clone, Debug)]
enum Place {
    Nowhere,
    Chunk(Range<usize>),
    Buffer,
}

impl Slot {
    pub(crate) fn new(limit: usize) -> Self {
        Slot { place: Place::Nowhere, buffer: Vec::new(), limit: limit.saturating_add(MARGIN) }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.place = Place::Nowhere;
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.place {
            Place::Nowhere => 0,
            Place::Chunk(range) => range.len(),
            Place::Buffer => self.buffer.len(),
        }
    }

    #[inline]
    pub(crate) fn get<'a>(&'a self, chunk: &'a [u8]) -> &'a [u8] {
        match &self.place {
            Place::Nowhere => &[],
            Place::Chunk(range) => chunk.get(range.clone()).unwrap_or_default(),
            Place::Buffer => &self.buffer,
        }
    }

    /// Where in the current chunk the whole value stands, if it does.
    #[inline]
    pub(crate) fn in_chunk(&self) -> Option<Range<usize>> {
        match &self.place {
            Place::Chunk(range) => Some(range.clone()),
            Place::Nowhere | Place::Buffer => None,
        }
    }

    #[inline]
    pub(crate) fn set_in_chunk(&mut self, range: Range<usize>) {
        self.place = Place::Chunk(range);
    }

    /// The value in the buffer, with room for `additional` more bytes.
    #[inline]
    pub(crate) fn append(&mut self, chunk: &[u8], additional: usize) -> &mut Vec<u8> {
        self.spill(chunk);
        if !self.is_set() {
            self.buffer.clear();
            self.place = Place::Buffer;
        }
        self.reserve(additional);
        &mut self.buffer
    }

    /// Adds to a value in the buffer, if there is one with room.
    #[inline]
    pub(crate) fn extend(&mut self, piece: &[u8]) -> bool {
        let room = self.buffer.capacity() - self.buffer.len();
        let possible = matches!(self.place, Place::Buffer) && room >= piece.len();
        if possible {
            self.buffer.extend_from_slice(piece);
        }
        possible
    }

    /// Takes a value that stands in `chunk`, which is about to go, into the buffer.
    #[inline]
    pub(crate) fn spill(&mut self, chunk: &[u8]) {
        if let Some(range) = self.in_chunk() {
            self.copy(&chunk[range]);
        }
    }

    /// Takes the value of another slot, which is not set any more.
    #[inline]
    pub(crate) fn take(&mut self, other: &mut Slot) {
        if matches!(other.place, Place::Buffer) {
            mem::swap(&mut self.buffer, &mut other.buffer);
        }
        self.place = mem::replace(&mut other.place, Place::Nowhere);
    }

    /// Takes the same value as another slot.
    #[inline]
    pub(crate) fn follow(&mut self, other: &Slot) {
        match &other.place {
            Place::Buffer => self.copy(&other.buffer),
            place => self.place = place.clone(),
        }
    }

    pub(crate) fn copy(&mut self, value: &[u8]) {
        self.buffer.clear();
        self.reserve(value.len());
        self.buffer.extend_from_slice(value);
        self.place = Place::Buffer;
    }

    #[inline]
    fn reserve(&mut self, additional: usize) {
        if self.buffer.capacity() - self.buffer.len() < additional {
            self.grow(additional);
        }
    }

    /// What most values need first, then one block, then at once the limit: doubling would hold more than the limit while it
    /// copies.
    #[cold]
    fn grow(&mut self, additional: usize) {
        const MOST: usize = 512;
        const EAGER_LIMIT: usize = 32 << 20;
        let needed = self.buffer.len() + additional;
        let capacity = match self.limit {
            _ if needed <= MOST => MOST,
            _ if needed <= BLOCK => BLOCK.min(self.limit),
            limit if limit <= EAGER_LIMIT => limit,
            limit => needed.saturating_mul(2).clamp(EAGER_LIMIT, limit),
        };
        self.buffer.reserve_exact(capacity.max(needed) - self.buffer.len());
    }
}
