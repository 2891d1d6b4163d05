//! Byte-exact turn events, with NDJSON and SSE codecs, for `no_std` with `alloc`.
//!
//! ```
//! use turnkit_wire::{BytesMut, Event, ndjson, sse};
//!
//! let mut stream = BytesMut::new();
//! sse::write_event(&mut stream, Some("1-1"), &Event::new("greeting", "hello")?)?;
//! let mut decoder = sse::Decoder::new();
//! decoder.push(stream.freeze());
//! let event = decoder.next_event().ok_or("no event")??;
//! assert_eq!((event.kind(), decoder.last_event_id()), ("greeting", "1-1"));
//! assert_eq!(event.as_line(), b"{\"type\":\"greeting\",\"data\":\"hello\"}\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An [`Event`] is serialised once, where it is born, and never again: in memory it *is* its verified line. Decoding verifies
//! (RFC 8259 to the letter, valid UTF-8, bounded depth and size), encoding hands out the line, typed access parses on demand.
//!
//! | module | holds |
//! |---|---|
//! | [`lifecycle`] | the events of a turn's envelope |
//! | [`write`](mod@write) | the events of an answer: parts, `result`, `warning`, `error` |
//! | [`interaction`] | questions of a running agent, their answers, and inputs |
//! | [`kind`] | the names of the events that the layers act on, and who does |
//! | [`view`] | tolerant, borrowed views of those events' data |
//! | [`value`] | any JSON, verified once and read in place |
//! | [`text`] | text from elsewhere, made fit for a client or a log |
//! | [`ndjson`] | the client's side: one event a line |
//! | [`sse`] | the producer's side: `text/event-stream`, parser and writer |
//!
//! # In scope
//!
//! The bytes of a turn's events: verifying, framing, unframing, in bounded memory and linear time, whatever the peer sends.
//!
//! # Out of scope
//!
//! I/O, clocks, runtimes, HTTP; what events mean and in which order they may come (that is `turnkit`).
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod arena;
mod error;
mod event;
pub mod interaction;
mod json;
pub mod kind;
pub mod lifecycle;
pub mod ndjson;
pub mod sse;
pub mod text;
pub mod value;
pub mod view;
pub mod write;

pub use bytes::{Bytes, BytesMut};

pub use crate::{
    error::{DataError, DecodeError, DecodeErrorKind, EncodeError, Expected},
    event::Event,
};
