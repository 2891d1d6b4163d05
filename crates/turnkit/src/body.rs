//! The NDJSON stream that a client reads.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use crate::pipe::Reader;

/// The lines of a turn as a client reads them, `application/x-ndjson` (PROTOCOL 1.2, 2.1).
///
/// A stream of chunks of whole lines: all lines that are ready leave as one chunk, and a line leaves at once when nothing else
/// does. It ends after its terminal lines, or without any where it was cut. It never fails. Under the feature `http-body` it
/// is an `http_body::Body` too.
///
/// Dropping it before its end tells the engine that the client left ([`ClientLeft`](crate::ClientLeft)); by default the turn
/// goes on. Not reading it slows the turn down once 256 KiB are held.
#[must_use = "a client reads the turn from its body"]
pub struct TurnBody(Reader);

impl TurnBody {
    pub(crate) fn new(reader: Reader) -> Self {
        Self(reader)
    }
}

impl Stream for TurnBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_take(cx).map(|chunk| chunk.map(Ok))
    }
}

#[cfg(feature = "http-body")]
impl http_body::Body for TurnBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let chunk = self.0.poll_take(cx);
        chunk.map(|chunk| chunk.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_ended()
    }
}

impl fmt::Debug for TurnBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.0.is_ended();
        f.debug_struct("TurnBody").field("ended", &ended).finish_non_exhaustive()
    }
}
