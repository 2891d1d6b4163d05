use std::fmt::Write as _;

use bytes::BytesMut;
use turnkit_wire::{
    Event,
    sse::{self, InvalidFrame},
};

use crate::EventId;

/// A frame before it is stored, in a buffer that is used again.
#[derive(Default)]
pub(super) struct FrameBuffer {
    bytes: BytesMut,
    id: String,
}

impl FrameBuffer {
    pub(super) fn encode(&mut self, id: EventId, event: &Event) -> Result<(), InvalidFrame> {
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = BytesMut::new();
        }
        self.id.clear();
        // Writing to a `String` cannot fail.
        let _ = write!(self.id, "{id}");
        sse::write_event(&mut self.bytes, Some(&self.id), event)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A larger buffer is not kept for the next frame: thousands of runs would each hold on to their largest event.
const KEPT: usize = 64 * 1024;
