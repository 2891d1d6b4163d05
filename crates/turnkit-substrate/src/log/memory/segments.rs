//! The memory of segments, which is used again.
//!
//! An allocator keeps what it is given back by size and by thread. With runs of all lengths coming and going on many threads it came to
//! hold half as much again as the log did. Segments have one size, and go from the log that is dropped to the one that grows.

use std::sync::Arc;

use bytes::Bytes;

use crate::sync::{Mutex, lock};

/// How many bytes of frames a segment holds.
pub(super) const SEGMENT: usize = 16 * 1024;

/// How much of a segment may stay empty. One with more room to spare is copied into memory of its own size.
const SPARE: usize = SEGMENT / 8;

/// Segments that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Segments {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Segments {
    /// An empty one.
    pub(super) fn take(&self) -> Vec<u8> {
        lock(&self.free).pop().unwrap_or_else(|| Vec::with_capacity(SEGMENT))
    }

    /// What is written is read from now on, and written no more.
    pub(super) fn seal(self: &Arc<Self>, mut written: Vec<u8>) -> Bytes {
        if written.capacity() != SEGMENT {
            written.shrink_to_fit();
            return Bytes::from(written);
        }
        let sealed = Sealed { written, segments: Arc::clone(self) };
        if SEGMENT - sealed.written.len() > SPARE {
            return Bytes::copy_from_slice(&sealed.written);
        }
        Bytes::from_owner(sealed)
    }

    /// Gives half of what nobody has used for a while back to the allocator.
    pub(super) fn trim(&self) {
        let mut free = lock(&self.free);
        let kept = free.len() / 2;
        free.truncate(kept);
        free.shrink_to_fit();
    }
}

/// A segment that is read. It is free again when its log and all its readers have let go of it.
struct Sealed {
    written: Vec<u8>,
    segments: Arc<Segments>,
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        &self.written
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let mut segment = std::mem::take(&mut self.written);
        segment.clear();
        lock(&self.segments.free).push(segment);
    }
}
