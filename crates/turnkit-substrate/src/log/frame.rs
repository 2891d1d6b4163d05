use std::fmt::Write as _;

use bytes::BytesMut;
use turnkit_wire::{
    Event,
    sse::{self, InvalidFrame},
};

use crate::EventId;

/// The frames of consecutive events before they are stored, back to back in a buffer that is used again.
#[derive(Default)]
pub(super) struct FrameBuffer {
    bytes: BytesMut,
    /// Where each of them ends.
    ends: Vec<usize>,
    id: String,
}

impl FrameBuffer {
    /// Holds the frame of this event alone.
    pub(super) fn encode(&mut self, id: EventId, event: &Event) -> Result<(), InvalidFrame> {
        self.clear();
        self.push(id, event)
    }

    /// Holds the frames of these events, the first of which gets the id `first`; where one fits into no frame, of those before it.
    #[cfg(feature = "redis")]
    pub(super) fn encode_all(
        &mut self,
        first: EventId,
        events: &[Event],
    ) -> Result<(), InvalidFrame> {
        self.clear();
        (first.seq..)
            .zip(events)
            .try_for_each(|(seq, event)| self.push(EventId { seq, ..first }, event))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            (self.bytes, self.ends) = Default::default();
        }
        self.ends.clear();
    }

    fn push(&mut self, id: EventId, event: &Event) -> Result<(), InvalidFrame> {
        self.id.clear();
        // Writing to a `String` cannot fail.
        let _ = write!(self.id, "{id}");
        let begin = self.bytes.len();
        let written = sse::write_event(&mut self.bytes, Some(&self.id), event);
        match written {
            Ok(()) => self.ends.push(self.bytes.len()),
            Err(_) => self.bytes.truncate(begin),
        }
        written
    }

    /// All of them, in one piece.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each of them.
    #[cfg(feature = "redis")]
    pub(super) fn frames(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut begin = 0;
        self.ends.iter().map(move |&end| {
            let frame = &self.bytes[begin..end];
            begin = end;
            frame
        })
    }
}

/// A larger buffer is not kept for the next frames: thousands of runs would each hold on to their largest event.
const KEPT: usize = 64 * 1024;
