//! The envelope around a turn: the four events that the engine makes itself (PROTOCOL 1.1).
//!
//! ```
//! use turnkit_wire::lifecycle;
//!
//! let event = lifecycle::error("the agent is busy", Some("busy"));
//! assert_eq!(event.as_json(), r#"{"type":"error","data":{"message":"the agent is busy","code":"busy"}}"#);
//! ```

use crate::{Event, json::object, kind};

/// `session.run.started {"sessionId","tenantId","turnIndex"}`.
#[must_use]
pub fn run_started(session_id: &str, tenant_id: &str, turn_index: u64) -> Event {
    object::event(kind::RUN_STARTED, session_id.len() + tenant_id.len() + 64, |data| {
        data.string("sessionId", session_id)
            .string("tenantId", tenant_id)
            .number("turnIndex", Some(turn_index));
    })
}

/// `session.run.completed {"sessionId"}`, with `"replayed":true` when the answer came from the product's own store.
#[must_use]
pub fn run_completed(session_id: &str, replayed: bool) -> Event {
    object::event(kind::RUN_COMPLETED, session_id.len() + 32, |data| {
        data.string("sessionId", session_id);
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
