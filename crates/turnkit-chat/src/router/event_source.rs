//! A turn for a browser's own `EventSource`: its lines as Server-Sent Events (PROTOCOL 1.3, 4.2).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use turnkit::TurnBody;
use turnkit_http::server::ApiError;
use turnkit_wire::kind::Class;
use turnkit_wire::{Event, ndjson, sse};

use super::front_ends::{EVENT_STREAM, header};
use super::number;
use crate::TurnStream;

pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The id of the last frame of a turn that has ended: who comes with it has everything.
const ENDED: &str = "end";
/// How long `EventSource` is to wait before it connects again, in milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// Where an `EventSource` stands.
pub(super) enum Place {
    /// After so many events.
    After(u64),
    /// At the end of the turn.
    Ended,
}

/// Where the request stands, if it comes from an `EventSource`: what `Last-Event-ID` says, or else `after`.
pub(super) fn place(headers: &HeaderMap, after: u64) -> Result<Option<Place>, ApiError> {
    if !header(headers, &ACCEPT).is_some_and(|accept| accept.contains(EVENT_STREAM)) {
        return Ok(None);
    }
    Ok(Some(match header(headers, &LAST_EVENT_ID) {
        None | Some("") => Place::After(after),
        Some(ENDED) => Place::Ended,
        Some(id) => Place::After(number("Last-Event-ID", Some(id))?.unwrap_or(after)),
    }))
}

/// 204: an `EventSource` that gets it asks no more.
pub(super) fn ended() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The response with the turn's lines as frames. Each counted one has its number as id, the last one of a turn that has ended
/// another; where the attempt has failed and may be made again, the cursor is void.
pub(super) fn response(stream: TurnStream, after: u64) -> Response {
    let (head, body) = stream.into_response().into_parts();
    let frames = Frames {
        body,
        decoder: ndjson::Decoder::new(),
        cursor: after,
        is_replay: false,
        begun: false,
        is_over: false,
    };
    let mut response = Response::from_parts(head, Body::from_stream(frames));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    response
}

struct Frames {
    body: TurnBody,
    decoder: ndjson::Decoder,
    cursor: u64,
    is_replay: bool,
    begun: bool,
    is_over: bool,
}

impl Frames {
    fn write(&mut self, out: &mut BytesMut, event: &Event) {
        let number;
        let id = match event.class() {
            Class::Error => None,
            Class::RunFailed if is(event, "retryable") => Some("0"),
            class if class.ends_body() => Some(ENDED),
            Class::RunStarted if is(event, "replayed") => {
                (self.cursor, self.is_replay) = (0, true);
                Some("0")
            }
            _ if self.is_replay => None,
            _ => {
                self.cursor += 1;
                number = self.cursor.to_string();
                Some(&*number)
            }
        };
        // An id of digits or letters is never refused.
        let _ = sse::write_event(out, id, event);
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if !self.begun {
            self.begun = true;
            return Poll::Ready(Some(Ok(Bytes::from_static(RETRY))));
        }
        while !self.is_over {
            let chunk = ready!(Pin::new(&mut self.body).poll_next(cx));
            let mut out = BytesMut::new();
            match chunk {
                Some(Ok(chunk)) => {
                    self.decoder.push(chunk);
                    while let Some(Ok(event)) = self.decoder.next_event() {
                        self.write(&mut out, &event);
                    }
                    if out.is_empty() {
                        // A blank line of the body: it is alive.
                        out.extend_from_slice(b":\n\n");
                    }
                }
                _ => self.is_over = true,
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(out.freeze())));
            }
        }
        Poll::Ready(None)
    }
}

/// Whether the event's data has this member, and it is `true`.
fn is(event: &Event, member: &str) -> bool {
    let data = event.data::<serde_json::Map<String, serde_json::Value>>();
    data.is_ok_and(|data| data.get(member) == Some(&serde_json::Value::Bool(true)))
}
