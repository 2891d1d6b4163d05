//! What front ends send, read and checked: bytes in, a typed request or a bounded error out.
//!
//! ```
//! use turnkit_ui::request::{ChatRequest, Trigger, turn_id};
//!
//! let body = br#"{"id":"chat-1","trigger":"submit-message","messages":[{"id":"m1","role":"user","parts":[{"type":"text","text":"Hi"}]}]}"#;
//! let request = ChatRequest::parse(body)?;
//! assert_eq!((&*request.id, request.trigger), ("chat-1", Trigger::Submit));
//! let message = request.last_user().ok_or("no message")?;
//! assert_eq!((&*message.text, &*turn_id(&message.id)), ("Hi", "m1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Of what a client says of the conversation only its newest messages count, because the server has the history. A body is verified once
//! (PROTOCOL 1.1) and read in place; what is kept of it is bounded by the constants here.

mod chat;
mod run;

use alloc::{borrow::Cow, format, string::String};
use core::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use turnkit_wire::{DecodeError, value::Value};

pub use self::{
    chat::{Approval, ChatRequest, Held, Message, Role, ToolOutput, Trigger},
    run::{ResumeEntry, ResumeStatus, RunAgentInput},
};

/// The most bytes of a body: 8 MiB.
pub const MAX_BODY: usize = 8 << 20;
/// The most messages of a body.
pub const MAX_MESSAGES: usize = 10_000;
/// The most parts of a message that is read.
pub const MAX_PARTS: usize = 10_000;
/// The most bytes of a message's text: 512 KiB.
pub const MAX_TEXT: usize = 512 << 10;
/// The most bytes of an id.
pub const MAX_ID: usize = 1024;
/// The most bytes of an answer's data or a tool's output: 512 KiB.
pub const MAX_DATA: usize = 512 << 10;
/// The most answers and tool outputs of a request.
pub const MAX_ANSWERS: usize = 256;

/// Why a request is refused. It names members and limits, never what stands in them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The body is longer than [`MAX_BODY`].
    #[error("read the request: its body is over {limit} bytes")]
    BodyTooLarge {
        /// [`MAX_BODY`].
        limit: usize,
    },
    /// The body is no JSON.
    #[error("read the request's JSON")]
    Json(#[source] DecodeError),
    /// A member is missing, or not what it has to be.
    #[error("read the request: `{field}` is not {expected}")]
    Invalid {
        /// Which one.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A member has too many elements.
    #[error("read the request: `{field}` has more than {limit} elements")]
    TooMany {
        /// Which one.
        field: &'static str,
        /// How many it may have.
        limit: usize,
    },
    /// A member is too long.
    #[error("read the request: `{field}` is over {limit} bytes")]
    TooLong {
        /// Which one.
        field: &'static str,
        /// How many bytes it may have.
        limit: usize,
    },
    /// The new message has a file, and files are not taken yet.
    #[error("take the message: files are not supported, send its text alone")]
    Files,
}

impl RequestError {
    /// The member that is refused.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { field, .. }
            | Self::TooMany { field, .. }
            | Self::TooLong { field, .. } => Some(field),
            Self::Files => Some("messages"),
            Self::BodyTooLarge { .. } | Self::Json(_) => None,
        }
    }

    /// The limit that was passed: the request is too large (413), where there is one.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        match self {
            Self::BodyTooLarge { limit }
            | Self::TooMany { limit, .. }
            | Self::TooLong { limit, .. } => Some(*limit),
            Self::Json(_) | Self::Invalid { .. } | Self::Files => None,
        }
    }
}

/// Whether a client may call a session so: 1 to 160 of `A-Za-z0-9:_-`, not beginning with `run_`.
#[must_use]
pub fn is_session_name(name: &str) -> bool {
    is_word(name, 160) && !name.starts_with("run_")
}

/// The turn that a client's id stands for: the id itself where it is 1 to 120 of `A-Za-z0-9:_-`, else `h:` and the base64url of its SHA-256.
///
/// ```
/// assert_eq!(turnkit_ui::request::turn_id("msg-1"), "msg-1");
/// assert_eq!(turnkit_ui::request::turn_id("ä"), "h:M-bXP-6CkEyNevt43hFU0ejcKg7bCBIOY99bk4XC2cw");
/// ```
#[must_use]
pub fn turn_id(id: &str) -> Cow<'_, str> {
    if is_word(id, 120) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("h:{}", BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(id.as_bytes()))))
}

/// The turn that is another answer to `turn_id`: `<turn id>:r<siblings>`, where `siblings` is how many there are before it.
#[must_use]
pub fn sibling_id(turn_id: &str, siblings: u64) -> String {
    format!("{turn_id}:r{siblings}")
}

/// The number of chunks that a client says it has: decimal digits and nothing else. `None` for anything else, a negative one too.
#[must_use]
pub fn cursor(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// The name of a response's run, for `x-workflow-run-id`: an execution, or what comes of it behind a question.
///
/// ```
/// use turnkit_ui::request::WorkflowRun;
///
/// let run = WorkflowRun { execution_id: "p:chat.1:3", behind: 12 };
/// assert_eq!(run.to_string(), "run_p:chat.1:3.12");
/// assert_eq!(WorkflowRun::parse("run_p:chat.1:3.12"), Some(run));
/// assert_eq!(WorkflowRun::parse("run_p:chat.1:3"), Some(WorkflowRun { behind: 0, ..run }));
/// assert_eq!(WorkflowRun::parse("chat.1"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkflowRun<'a> {
    /// The execution.
    pub execution_id: &'a str,
    /// How many chunks of its turn stand before the run: 0 for the turn from its start.
    pub behind: u64,
}

impl<'a> WorkflowRun<'a> {
    /// The run of this name.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let id = name.strip_prefix("run_").filter(|id| !id.is_empty())?;
        // An execution's id has no point behind its last colon (PROTOCOL 1.4).
        let last = id.rfind(':').map_or(0, |colon| colon + 1);
        match id[last..].rsplit_once('.') {
            None => Some(Self { execution_id: id, behind: 0 }),
            Some((_, number)) => {
                let behind = cursor(number).filter(|&behind| behind > 0)?;
                Some(Self { execution_id: &id[..id.len() - number.len() - 1], behind })
            }
        }
    }
}

impl fmt::Display for WorkflowRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run_{}", self.execution_id)?;
        if self.behind > 0 { write!(f, ".{}", self.behind) } else { Ok(()) }
    }
}

fn is_word(text: &str, max: usize) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-');
    (1..=max).contains(&text.len()) && text.bytes().all(known)
}

/// The body as a JSON object.
fn object(body: &[u8]) -> Result<Value<'_>, RequestError> {
    if body.len() > MAX_BODY {
        return Err(RequestError::BodyTooLarge { limit: MAX_BODY });
    }
    let value = Value::verify(body).map_err(RequestError::Json)?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(RequestError::Invalid { field: "body", expected: "a JSON object" })
    }
}

/// A string of at most [`MAX_ID`] bytes.
fn id<'a>(value: Option<Value<'a>>, field: &'static str) -> Result<Cow<'a, str>, RequestError> {
    let text = value
        .and_then(Value::string)
        .ok_or(RequestError::Invalid { field, expected: "a string" })?;
    within(text.to_str(), field, MAX_ID)
}

fn within<'a>(
    text: Cow<'a, str>,
    field: &'static str,
    limit: usize,
) -> Result<Cow<'a, str>, RequestError> {
    if text.len() > limit { Err(RequestError::TooLong { field, limit }) } else { Ok(text) }
}

/// A session's name.
fn session<'a>(
    value: Option<Value<'a>>,
    field: &'static str,
) -> Result<Cow<'a, str>, RequestError> {
    let expected = "1 to 160 of A-Z a-z 0-9 : _ -, not beginning with run_";
    let name = value.and_then(Value::string).map(|name| name.to_str()).unwrap_or_default();
    if is_session_name(&name) { Ok(name) } else { Err(RequestError::Invalid { field, expected }) }
}

/// JSON that an answer brings.
fn data<'a>(value: Value<'a>, field: &'static str) -> Result<&'a str, RequestError> {
    if value.json().len() > MAX_DATA {
        return Err(RequestError::TooLong { field, limit: MAX_DATA });
    }
    // It was verified; the default is never taken.
    Ok(core::str::from_utf8(value.json()).unwrap_or_default())
}

/// Puts one more text part behind `text`.
fn join(text: &mut String, part: &str, is_first: bool) -> Result<(), RequestError> {
    if !is_first {
        text.push('\n');
    }
    if text.len() + part.len() > MAX_TEXT {
        return Err(RequestError::TooLong { field: "messages", limit: MAX_TEXT });
    }
    text.push_str(part);
    Ok(())
}
