//! A turn for the front ends that people have: the AI SDK's UI message stream and AG-UI 1.0, for `no_std` with `alloc`.
//!
//! ```
//! use turnkit_ui::{AiSdk, Chunks, Encoder};
//! use turnkit_wire::write::Part;
//!
//! let (mut encoder, mut chunks) = (AiSdk::new("project:chat:0"), Chunks::new());
//! encoder.event(&Part::new("p").text_delta("Hello"), &mut chunks);
//! assert_eq!(chunks.counted(), 4); // start, start-step, text-start, text-delta
//! ```
//!
//! An encoder reads a turn's events like any client of its body, and tells them in another vocabulary. The engine and the
//! byte-exact rule stay as they are, and it works on the bytes of a turnkit elsewhere as well.
//!
//! | type | for |
//! |---|---|
//! | [`AiSdk`] | `useChat` and the transports of the AI SDK 5, 6 and 7, assistant-ui, AI Elements |
//! | [`AgUi`] | `HttpAgent`, CopilotKit, TanStack AI |
//! | `Encoded` | the response's body over any `http_body::Body` of lines (feature `body`, needs std) |
//! | [`request`] | what these clients send, read and checked |
//! | [`ui_message`], [`ag_ui_messages`], [`tanstack_messages`] | the same turn at rest, as the client has it in the end |
//!
//! **Resuming.** The chunks are a pure function of the turn's live lines, so their count is a cursor: each counted one carries its
//! number as `id:`. Any worker serves the rest. It reads the live lines from the first event, and leaves out what the client has
//! ([`Chunks::after`]), also where the answer is saved by now. Chunks that belong to a connection or an attempt carry no number:
//! the end at a question, those of terminal lines, those of a replay. Who has chunks is never told a replay, but
//! one error with the code `cursor_expired`.
//!
//! **A cut breaks the connection.** These clients take a clean end for success, so a body that was cut is an error.
//!
//! # In scope
//!
//! The two vocabularies, both ways: chunks, requests, messages at rest. Deltas go on as the JSON string that they came as, so
//! escapes and lone surrogates survive. What is held is bounded by counts, not by the length of texts.
//!
//! # Out of scope
//!
//! HTTP, routes, and which turn a request is about (that is `turnkit-chat`); drawing anything.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "body"))]
extern crate std;

mod ag_ui;
mod ai_sdk;
mod chunks;
#[cfg(feature = "body")]
mod encoded;
mod encoder;
mod json;
pub mod request;
mod story;
mod told;

#[cfg(feature = "body")]
pub use crate::encoded::{Cut, Encoded};
pub use crate::{
    ag_ui::{
        AgUi, ag_ui_interrupt,
        messages::{ag_ui_messages, ag_ui_user_message, messages_snapshot},
        tanstack::{tanstack_messages, tanstack_user_message},
    },
    ai_sdk::{
        AiSdk, Version,
        message::{ui_message, ui_user_message},
    },
    chunks::Chunks,
    encoder::Encoder,
};
