//! Where decoders build what they cannot share: blocks that many small events have in common.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

/// A block that small events share, in bytes.
pub(crate) const BLOCK: usize = 16 * 1024;

/// One size between a block and the limit. Going on in one step to the limit, not by doubling, keeps the old and the new
/// buffer together within the limit and 64 KiB; what is never written is never committed.
const LARGE_BLOCK: usize = 48 * 1024;

/// Limits beyond this are grown towards by doubling.
const EAGER_LIMIT: usize = 32 * 1024 * 1024 + LARGE_BLOCK;

/// The capacity for `needed` bytes where `limit` is the most that can ever be needed.
pub(crate) fn capacity(needed: usize, limit: usize) -> usize {
    match needed {
        _ if needed <= BLOCK => BLOCK,
        _ if needed <= LARGE_BLOCK => LARGE_BLOCK,
        _ if limit <= EAGER_LIMIT => limit.max(needed),
        _ => needed.saturating_mul(2).clamp(EAGER_LIMIT, limit.max(needed)),
    }
}

/// Bytes that are put together piece by piece and handed out whole.
///
/// Blocks are reused when everything that was handed out of them is gone: at steady state nothing is allocated.
#[derive(Debug)]
pub(crate) struct Arena {
    open: BytesMut,
    limit: usize,
}

impl Arena {
    /// `limit`: the most bytes that one piece of work can take.
    pub(crate) fn new(limit: usize) -> Self {
        Arena { open: BytesMut::new(), limit }
    }

    /// What was put since the last [`Arena::take`].
    pub(crate) fn open(&self) -> &[u8] {
        &self.open
    }

    pub(crate) fn open_mut(&mut self) -> &mut [u8] {
        &mut self.open
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.open.put_slice(bytes);
    }

    #[inline]
    pub(crate) fn reserve(&mut self, additional: usize) {
        if self.open.capacity() - self.open.len() < additional {
            self.grow(additional);
        }
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.open.truncate(length);
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }

    /// Hands out what was put. Beyond [`LARGE_BLOCK`] it gets an allocation of its own size.
    #[inline]
    pub(crate) fn take(&mut self) -> Bytes {
        if self.open.len() > LARGE_BLOCK { self.take_large() } else { self.open.split().freeze() }
    }

    #[cold]
    fn grow(&mut self, additional: usize) {
        if self.open.try_reclaim(additional) {
            return;
        }
        let needed = self.open.len() + additional;
        let mut block = BytesMut::with_capacity(capacity(needed, self.limit));
        block.put_slice(&self.open);
        self.open = block;
    }

    #[cold]
    fn take_large(&mut self) -> Bytes {
        let mut exact = Vec::from(core::mem::take(&mut self.open));
        exact.shrink_to_fit();
        Bytes::from(exact)
    }
}
