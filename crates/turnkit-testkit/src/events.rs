//! Events as agents send them.

use serde_json::json;
use turnkit::Event;

/// A `message.part.updated` that appends `delta` to the text part `part`.
///
/// # Panics
/// Never: the event is well formed.
#[must_use]
pub fn delta(part: &str, delta: &str) -> Event {
    let part = json!({ "id": part, "messageID": "msg_1", "type": "text", "text": delta });
    event("message.part.updated", &json!({ "part": part, "delta": delta }))
}

/// A `message.part.updated` whose text replaces that of the text part `part`.
#[must_use]
pub fn snapshot(part: &str, text: &str) -> Event {
    let part = json!({ "id": part, "messageID": "msg_1", "type": "text", "text": text });
    event("message.part.updated", &json!({ "part": part }))
}

/// A `message.part.updated` of a tool's part.
#[must_use]
pub fn tool(part: &str, status: &str) -> Event {
    let state = json!({ "status": status });
    let part =
        json!({ "id": part, "messageID": "msg_1", "type": "tool", "tool": "bash", "state": state });
    event("message.part.updated", &json!({ "part": part }))
}

/// A `result` with the whole answer.
#[must_use]
pub fn result(final_text: &str) -> Event {
    event("result", &json!({ "finalText": final_text }))
}

/// An event of any type.
///
/// # Panics
/// On an empty `kind`.
#[must_use]
pub fn event(kind: &str, data: &serde_json::Value) -> Event {
    match Event::new(kind, data) {
        Ok(event) => event,
        Err(error) => panic!("{error}"),
    }
}

/// An event from its JSON, byte for byte.
///
/// # Panics
/// If `json` is not an event.
#[must_use]
pub fn verbatim(json: &str) -> Event {
    match Event::from_json(json.as_bytes()) {
        Ok(event) => event,
        Err(error) => panic!("{error}"),
    }
}
