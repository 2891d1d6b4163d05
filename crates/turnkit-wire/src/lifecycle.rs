//! The envelope around a turn: the four events that the engine makes itself (PROTOCOL 1.1).
//!
//! ```
//! use turnkit_wire::lifecycle;
//!
//! let event = lifecycle::error("the agent is busy", Some("busy"));
//! assert_eq!(event.as_json(), r#"{"type":"error","data":{"message":"the agent is busy","code":"busy"}}"#);
//! ```

use crate::{Event, json::object, kind};

/// What a `session.run.started` says.
#[derive(Clone, Copy, Debug)]
pub struct RunStarted<'a> {
    /// The session.
    pub session_id: &'a str,
    /// Its tenant.
    pub tenant_id: &'a str,
    /// The turn's place in the session, counted from 0.
    pub turn_index: u64,
    /// The execution that is told.
    pub execution_id: &'a str,
    /// The client's own name for the turn, where the product knows one.
    pub turn_id: Option<&'a str>,
    /// Whether a replay follows.
    pub replayed: bool,
}

impl RunStarted<'_> {
    /// `session.run.started {"sessionId","tenantId","turnIndex","executionId","turnId"?,"replayed"?}`.
    #[must_use]
    pub fn event(&self) -> Event {
        let texts =
            [self.session_id, self.tenant_id, self.execution_id, self.turn_id.unwrap_or("")];
        let size = texts.into_iter().map(str::len).sum::<usize>() + 128;
        object::event(kind::RUN_STARTED, size, |data| {
            data.string("sessionId", self.session_id)
                .string("tenantId", self.tenant_id)
                .number("turnIndex", Some(self.turn_index))
                .string("executionId", self.execution_id)
                .optional("turnId", self.turn_id);
            if self.replayed {
                data.raw("replayed", "true");
            }
        })
    }
}

/// `session.run.completed {"sessionId"}`, with `"finalText"` when the saved text is not the one that was streamed, and
/// `"replayed":true` when the answer came from the product's own store.
#[must_use]
pub fn run_completed(session_id: &str, final_text: Option<&str>, replayed: bool) -> Event {
    let size = session_id.len() + final_text.map_or(0, str::len) + 64;
    object::event(kind::RUN_COMPLETED, size, |data| {
        data.string("sessionId", session_id).optional("finalText", final_text);
        if replayed {
            data.raw("replayed", "true");
        }
    })
}

/// `error {"message"}`, with `"code"` when there is one.
#[must_use]
pub fn error(message: &str, code: Option<&str>) -> Event {
    let size = message.len() + code.map_or(0, str::len) + 32;
    object::event(kind::ERROR, size, |data| {
        data.string("message", message).optional("code", code);
    })
}

/// `session.run.failed {"sessionId","message","retryable"}`, with `"temporary":true` when it is so, and `"code"` and `"phase"` when
/// there are any; `retryable`: the same turn may be tried again; `temporary`: a new one may help.
#[must_use]
pub fn run_failed(
    session_id: &str,
    message: &str,
    retryable: bool,
    temporary: bool,
    code: Option<&str>,
    phase: Option<&str>,
) -> Event {
    object::event(kind::RUN_FAILED, session_id.len() + message.len() + 128, |data| {
        data.string("sessionId", session_id)
            .string("message", message)
            .raw("retryable", if retryable { "true" } else { "false" });
        if temporary {
            data.raw("temporary", "true");
        }
        data.optional("code", code).optional("phase", phase);
    })
}
