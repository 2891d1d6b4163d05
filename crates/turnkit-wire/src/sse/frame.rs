//! One dispatched frame, and the event that it carries.

use core::fmt;

use crate::{DecodeError, DecodeErrorKind, Event, json::string};

/// What an OpenAI-style stream ends with instead of an event.
pub(crate) const DONE: &[u8] = b"[DONE]";

/// One frame, as dispatched by WHATWG HTML 9.2.6. It borrows from the parser and the chunk.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) data: &'a [u8],
    pub(crate) id: &'a [u8],
    pub(crate) lossy: bool,
}

impl Frame<'_> {
    /// The name of the event; `message` where the frame gives none.
    #[must_use]
    pub fn event(&self) -> &str {
        if self.has_event() { string::verified(self.name) } else { "message" }
    }

    /// Whether the frame gives a name (that is not empty).
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.name.is_empty()
    }

    /// The data, its lines joined by LF. Always UTF-8.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.data
    }

    /// The last event id in force: the frame's own or, where it gives none, that of a frame before.
    #[must_use]
    pub fn id(&self) -> &str {
        string::verified(self.id)
    }

    /// Whether invalid UTF-8 in the frame was replaced by U+FFFD.
    #[must_use]
    pub fn lossy(&self) -> bool {
        self.lossy
    }

    /// The event that the frame carries (PROTOCOL 1.3); `None` is the end marker `[DONE]`.
    ///
    /// # Errors
    ///
    /// A lossy frame; data that is not what PROTOCOL 1.3 asks for. The offset counts from the start of the data.
    pub fn to_event(&self) -> Result<Option<Event>, DecodeError> {
        if self.lossy {
            return Err(DecodeError::new(0, DecodeErrorKind::NotUtf8));
        }
        if self.data == DONE {
            return Ok(None);
        }
        let event = if self.has_event() {
            Event::from_parts(self.event(), self.data)
        } else {
            Event::from_json(self.data)
        };
        event.map(Some)
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { data, lossy, .. } = self;
        f.debug_struct("Frame")
            .field("event", &self.event())
            .field("bytes", &data.len())
            .field("lossy", lossy)
            .finish()
    }
}
