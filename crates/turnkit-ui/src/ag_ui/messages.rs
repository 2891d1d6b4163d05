//! The messages of AG-UI as the client has them when a turn was told.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use turnkit_wire::{Event, value::Value};

use super::{AgUi, content};
use crate::{
    json::{Object, inside, into_string, string},
    request::RunAgentInput,
    story::{Call, CallStep, Kind, Step},
};

/// The messages that a client of AG-UI holds at the end of a turn that `encoder` tells, each as JSON. So what is at rest equals
/// what the client has assembled.
///
/// `events` are those of one turn: as they were live, or a replay's (PROTOCOL 2.1, rule 9). It takes the memory of the whole
/// answer.
///
/// ```
/// use turnkit_ui::{AgUi, ag_ui_messages};
/// use turnkit_wire::write::Part;
///
/// let messages = ag_ui_messages(AgUi::new("s", "t", "t:s:0"), &[Part::new("p").text("Hello")]);
/// assert_eq!(messages, [r#"{"id":"t:s:0/p","role":"assistant","content":"Hello"}"#]);
/// ```
#[must_use]
pub fn ag_ui_messages<'a>(
    encoder: AgUi,
    events: impl IntoIterator<Item = &'a Event>,
) -> Vec<String> {
    let mut story = encoder.story;
    let mut messages = Messages::default();
    for event in events {
        if let Some(more) = story.grows(event) {
            messages.grow(more.delta);
        } else {
            story.read(event, false, false, &mut |step: Step<'_>, _: bool| messages.take(step));
        }
    }
    messages.0.iter().flat_map(|message| message.json(story.prefix())).map(into_string).collect()
}

/// A user's message in AG-UI: `id` is the one that its client gave it.
///
/// ```
/// assert_eq!(turnkit_ui::ag_ui_user_message("m1", "Hi"), r#"{"id":"m1","role":"user","content":"Hi"}"#);
/// ```
#[must_use]
pub fn ag_ui_user_message(id: &str, text: &str) -> String {
    let message =
        Object::new().json("id", &string(id)).raw("role", b"user").json("content", &string(text));
    into_string(message.end())
}

/// A `MESSAGES_SNAPSHOT`, for [`AgUi::snapshot`]: `before` are the messages of the thread up to the user's of this turn, each as
/// JSON. `input` is what the client sent, and `prefix` the execution's id.
///
/// A client drops what a snapshot does not have, but for its reasoning where the snapshot has none. So what it holds of this turn
/// up to its first reasoning stays, emptied, and is filled again.
#[must_use]
pub fn messages_snapshot<'a>(
    before: impl IntoIterator<Item = &'a str>,
    input: &RunAgentInput<'_>,
    prefix: &str,
) -> Vec<u8> {
    let mut messages: Vec<Vec<u8>> =
        before.into_iter().map(|message| message.as_bytes().to_vec()).collect();
    let is_reasoning = |json: &[u8]| {
        Value::verify(json)
            .ok()
            .and_then(|message| message.get("role")?.string())
            .is_some_and(|role| role.is("reasoning"))
    };
    if !messages.iter().any(|message| is_reasoning(message)) {
        let mut emptied = Vec::new();
        let mut has_reasoning = false;
        input.messages_of(prefix, |message| {
            if !has_reasoning {
                has_reasoning = message
                    .get("role")
                    .and_then(Value::string)
                    .is_some_and(|role| role.is("reasoning"));
                emptied.extend(empty(message));
            }
        });
        if has_reasoning {
            messages.append(&mut emptied);
        }
    }
    [br#"{"type":"MESSAGES_SNAPSHOT","messages":["#, &*messages.join(&b","[..]), b"]}"].concat()
}

/// The message as it was when it began; nothing for a tool's.
fn empty(message: Value<'_>) -> Option<Vec<u8>> {
    let id = message.get("id")?.string()?;
    let role = message.get("role")?.string()?;
    let object = Object::new().raw("id", id.raw()).raw("role", role.raw());
    let mut calls = Vec::new();
    message.get("toolCalls").unwrap_or_default().items(|call| {
        let id = call.get("id").and_then(Value::string);
        let name =
            call.get("function").and_then(|function| function.get("name")).and_then(Value::string);
        if let (Some(id), Some(name)) = (id, name) {
            calls.push(call_json(id.raw(), name.raw(), b""));
        }
    });
    if role.is("tool") {
        None
    } else if calls.is_empty() {
        Some(object.raw("content", b"").end())
    } else {
        Some(object.json("toolCalls", &[b"[", &*calls.join(&b","[..]), b"]"].concat()).end())
    }
}

fn call_json(id: &[u8], name: &[u8], arguments: &[u8]) -> Vec<u8> {
    let function = Object::new().raw("name", name).raw("arguments", arguments).end();
    Object::new().raw("id", id).raw("type", b"function").json("function", &function).end()
}

#[derive(Default)]
struct Messages(Vec<Message>, BTreeMap<Vec<u8>, usize>);

enum Message {
    Text { kind: Kind, id: Vec<u8>, text: Vec<u8> },
    Call { id: Vec<u8>, tool: Vec<u8>, arguments: Vec<u8>, result: Option<(Vec<u8>, bool)> },
}

impl Messages {
    fn grow(&mut self, delta: &[u8]) {
        let last = self.0.iter_mut().rev().find_map(|message| match message {
            Message::Text { text, .. } => Some(text),
            Message::Call { .. } => None,
        });
        if let Some(text) = last {
            text.extend_from_slice(delta);
        }
    }

    fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Begins(kind, name) => {
                self.0.push(Message::Text { kind, id: name.to_vec(), text: Vec::new() });
            }
            Step::Grows(_, _, delta) => self.grow(delta),
            Step::Call(call, step) => self.call(call, step),
            _ => {}
        }
    }

    fn call(&mut self, call: &Call, step: CallStep<'_>) {
        if let CallStep::Begins { .. } = step {
            self.1.insert(call.name.to_vec(), self.0.len());
            self.0.push(Message::Call {
                id: call.name.to_vec(),
                tool: call.tool.to_vec(),
                arguments: Vec::new(),
                result: None,
            });
        }
        let place = self.1.get(&*call.name).copied();
        let Some(Message::Call { arguments, result, .. }) =
            place.and_then(|place| self.0.get_mut(place))
        else {
            return;
        };
        match step {
            CallStep::Piece(piece) => arguments.extend_from_slice(piece),
            CallStep::Input { json, .. } if call.is_open() && !call.has_pieces() => {
                *arguments = inside(json);
            }
            CallStep::Output { json, again: false } => *result = Some((content(json), false)),
            CallStep::Fails { message, again: false } => *result = Some((message.to_vec(), true)),
            _ => {}
        }
    }
}

impl Message {
    fn json(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Self::Text { kind, id, text } => {
                let role: &[u8] = match kind {
                    Kind::Text => b"assistant",
                    Kind::Reasoning => b"reasoning",
                };
                let id = [prefix, b"/", id].concat();
                alloc::vec![
                    Object::new().raw("id", &id).raw("role", role).raw("content", text).end()
                ]
            }
            Self::Call { id, tool, arguments, result } => {
                let id = [prefix, b"/", id].concat();
                let calls = [b"[", &*call_json(&id, tool, arguments), b"]"].concat();
                let call = Object::new()
                    .raw("id", &id)
                    .raw("role", b"assistant")
                    .json("toolCalls", &calls);
                let mut messages = alloc::vec![call.end()];
                if let Some((content, is_error)) = result {
                    let metadata: &[u8] = if *is_error { br#"{"isError":true}"# } else { b"" };
                    let result = Object::new()
                        .raw("id", &[&*id, b":result"].concat())
                        .raw("toolCallId", &id)
                        .raw("role", b"tool")
                        .raw("content", content)
                        .json("metadata", metadata);
                    messages.push(result.end());
                }
                messages
            }
        }
    }
}
