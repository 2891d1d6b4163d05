//! Server-sent events, `text/event-stream` (PROTOCOL 1.3; WHATWG HTML, section 9.2).
//!
//! [`Parser`] is the WHATWG algorithm, push style; [`Decoder`] puts the rule on top that makes events of frames, pull style;
//! [`write_frame`] and [`write_event`] are the other direction.
//!
//! ```
//! use turnkit_wire::sse::Parser;
//!
//! let mut parser = Parser::new();
//! let mut seen = Vec::new();
//! for chunk in ["id: 7\nevent: gre", "eting\ndata: hello\ndata: there\n", "\n"] {
//!     parser.feed(chunk.as_bytes(), |frame| seen.push((frame.event().to_owned(), frame.data().to_owned())))?;
//! }
//! assert_eq!(seen, [("greeting".to_owned(), b"hello\nthere".to_vec())]);
//! assert_eq!(parser.last_event_id(), "7");
//! # Ok::<(), turnkit_wire::sse::TooLarge>(())
//! ```

mod block;
mod decoder;
mod frame;
mod line;
mod parser;
mod slot;
mod utf8;
mod writer;

use core::{error::Error, fmt};

pub use self::{
    decoder::Decoder,
    frame::Frame,
    parser::Parser,
    writer::{InvalidFrame, write_event, write_frame},
};
use crate::{DecodeError, DecodeErrorKind};

/// The media type of a producer's stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// A frame that is longer than the parser was allowed to hold.
///
/// What follows in the stream cannot be trusted to begin at a frame, so the parser takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    limit: usize,
    offset: u64,
}

impl TooLarge {
    /// The limit that was passed, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Where in the stream the line begins that passed it, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "parse an event stream: a frame longer than {} bytes at byte {}",
            self.limit, self.offset
        )
    }
}

impl Error for TooLarge {}

impl From<TooLarge> for DecodeError {
    fn from(error: TooLarge) -> Self {
        DecodeError::new(error.offset, DecodeErrorKind::TooLarge { limit: error.limit })
    }
}

#[cfg(test)]
mod tests;
