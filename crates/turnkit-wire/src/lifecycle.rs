//! The envelope around a turn: the four events that the engine makes itself (PROTOCOL 1.1).
//!
//! ```
//! use turnkit_wire::lifecycle;
//!
//! let event = lifecycle::error("the agent is busy", Some("busy"));
//! assert_eq!(event.as_json(), r#"{"type":"error","data":{"message":"the agent is busy","code":"busy"}}"#);
//! ```

use alloc::{string::ToString, vec::Vec};

use crate::{Event, json::string, kind};

/// `session.run.started {"sessionId","tenantId","turnIndex"}`.
#[must_use]
pub fn run_started(session_id: &str, tenant_id: &str, turn_index: u64) -> Event {
    let mut data = Object::default();
    data.string("sessionId", session_id)
        .string("tenantId", tenant_id)
        .raw("turnIndex", &turn_index.to_string());
    data.into_event(kind::RUN_STARTED)
}

/// `session.run.completed {"sessionId"}`, with `"replayed":true` when the answer came from the product's own store.
#[must_use]
pub fn run_completed(session_id: &str, replayed: bool) -> Event {
    let mut data = Object::default();
    data.string("sessionId", session_id);
    if replayed {
        data.raw("replayed", "true");
    }
    data.into_event(kind::RUN_COMPLETED)
}

/// `error {"message"}`, with `"code"` when there is one.
#[must_use]
pub fn error(message: &str, code: Option<&str>) -> Event {
    let mut data = Object::default();
    data.string("message", message).optional("code", code);
    data.into_event(kind::ERROR)
}

/// `session.run.failed {"sessionId","message","retryable"}`, with `"code"` and `"phase"` when there are any; `retryable`: the
/// same turn may be tried again.
#[must_use]
pub fn run_failed(
    session_id: &str,
    message: &str,
    retryable: bool,
    code: Option<&str>,
    phase: Option<&str>,
) -> Event {
    let mut data = Object::default();
    data.string("sessionId", session_id).string("message", message);
    data.raw("retryable", if retryable { "true" } else { "false" });
    data.optional("code", code).optional("phase", phase);
    data.into_event(kind::RUN_FAILED)
}

/// A flat JSON object, spelt directly: it cannot fail, so these functions need no error.
#[derive(Default)]
struct Object(Vec<u8>);

impl Object {
    fn string(&mut self, key: &str, text: &str) -> &mut Self {
        self.key(key);
        self.0.push(b'"');
        string::escape_into(text, &mut self.0);
        self.0.push(b'"');
        self
    }

    fn optional(&mut self, key: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.string(key, text),
            None => self,
        }
    }

    fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key);
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn into_event(mut self, kind: &str) -> Event {
        self.0.push(b'}');
        Event::compose(kind, &self.0, false)
    }
}
