//! Events as agents send them.

use turnkit::{
    Event,
    wire::write::{Part, ToolCall, ToolStatus, TurnResult},
};

/// A `message.part.updated` that appends `delta` to the text part `part`.
#[must_use]
pub fn delta(part: &str, delta: &str) -> Event {
    Part::new(part).message("msg_1").text_delta(delta)
}

/// A `message.part.updated` whose text replaces that of the text part `part`.
#[must_use]
pub fn snapshot(part: &str, text: &str) -> Event {
    Part::new(part).message("msg_1").text(text)
}

/// A `message.part.updated` of a tool's part.
#[must_use]
pub fn tool(part: &str, status: ToolStatus) -> Event {
    Part::new(part).message("msg_1").tool(&ToolCall::new("bash", status))
}

/// A `result` with the whole answer.
#[must_use]
pub fn result(final_text: &str) -> Event {
    TurnResult::new().final_text(final_text).event()
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
