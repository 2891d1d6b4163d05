//! The NDJSON stream that a client reads.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use crate::{ExecutionId, pipe::Reader};

/// The lines of a turn as a client reads them, `application/x-ndjson` (PROTOCOL 1.2, 2.1).
///
/// A stream of chunks of whole lines: all lines that are ready leave as one chunk, and a line leaves at once when nothing else
/// does. It ends after its terminal lines, or without any where it was cut. It never fails. Under the feature `http-body` it
/// is an `http_body::Body` too, and `into_response` makes a whole response of it.
///
/// Dropping it before its end tells the engine that the client left ([`ClientLeft`](crate::ClientLeft)); by default the turn
/// goes on. Not reading it slows the turn down once 256 KiB are held.
#[must_use = "a client reads the turn from its body"]
pub struct TurnBody {
    reader: Reader,
    execution_id: ExecutionId,
}

impl TurnBody {
    pub(crate) fn new(reader: Reader, execution_id: ExecutionId) -> Self {
        Self { reader, execution_id }
    }

    /// The execution whose turn this is.
    #[must_use]
    pub fn execution_id(&self) -> &ExecutionId {
        &self.execution_id
    }

    /// The response with this body, status 200, as axum and hyper take it. Needs the feature `http-body`.
    ///
    /// It has the headers that a stream of events needs on its way: `Content-Type: application/x-ndjson`; `Cache-Control:
    /// no-store`, so that nobody answers from a copy; `X-Accel-Buffering: no`, so that nginx does not hold lines back; and
    /// `X-Execution-ID`. Leave it out of compression, which holds lines back as well.
    ///
    /// ```
    /// # use turnkit_testkit::{Recorder, Script, turn};
    /// let (body, driver) = turn().start(Script::new().text("Hello"), Recorder::new());
    /// let response = body.into_response();
    /// assert_eq!(response.headers()["x-execution-id"], "project:thread-abc:3");
    /// # drop(driver);
    /// ```
    #[cfg(feature = "http-body")]
    pub fn into_response(self) -> http::Response<Self> {
        use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};

        // An id is visible ASCII (PROTOCOL 1.4), so it always is a header's value.
        let id = HeaderValue::from_str(self.execution_id.as_str());
        let mut response = http::Response::new(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(turnkit_wire::ndjson::CONTENT_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers
            .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        headers.extend(id.ok().map(|id| (HeaderName::from_static("x-execution-id"), id)));
        response
    }
}

impl Stream for TurnBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll_take(cx).map(|chunk| chunk.map(Ok))
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
        let chunk = self.reader.poll_take(cx);
        chunk.map(|chunk| chunk.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.reader.is_ended()
    }
}

impl fmt::Debug for TurnBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.reader.is_ended();
        f.debug_struct("TurnBody").field("ended", &ended).finish_non_exhaustive()
    }
}
