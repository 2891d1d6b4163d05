//! The messages of TanStack AI as its client has them when a turn was told.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use turnkit_wire::{Event, value::Value};

use super::{AgUi, content};
use crate::{
    json::{Object, inside, into_string, string, text_of},
    story::{Call, CallStep, Kind, Step},
};

/// The messages that a client of TanStack AI holds at the end of a turn that `encoder` tells, each as JSON: what it asks for when its page
/// is loaded again. It reads the events of AG-UI, and keeps messages with `parts` of its own.
///
/// `events` are those of one turn: as they were live, or a replay's (PROTOCOL 2.1, rule 9). It takes the memory of the whole
/// answer. The id of a message without a text is made up by each client.
///
/// ```
/// use turnkit_ui::{AgUi, tanstack_messages};
/// use turnkit_wire::write::Part;
///
/// let messages = tanstack_messages(AgUi::new("s", "t", "t:s:0"), &[Part::new("p").text("Hello")]);
/// assert_eq!(messages, [r#"{"id":"t:s:0/p","role":"assistant","parts":[{"type":"text","content":"Hello"}]}"#]);
/// ```
#[must_use]
pub fn tanstack_messages<'a>(
    encoder: AgUi,
    events: impl IntoIterator<Item = &'a Event>,
) -> Vec<String> {
    let mut story = encoder.story;
    let mut messages = Messages::default();
    for event in events {
        if let Some(more) = story.grows(event) {
            messages.grow(more.kind, more.delta);
        } else {
            story.read(event, false, false, &mut |step: Step<'_>, _: bool| messages.take(step));
        }
    }
    // A last message of white space alone is dropped there when its run has finished.
    let is_blank =
        |part: &Part| matches!(part, Part::Text(text) if text_of(text).trim().is_empty());
    if messages.has_finished
        && messages.all.last().is_some_and(|last| last.parts.iter().all(is_blank))
    {
        messages.all.pop();
    }
    messages.all.iter().map(|message| into_string(message.json(story.prefix()))).collect()
}

/// A user's message in TanStack AI: `id` is the one that its client gave it.
///
/// ```
/// assert_eq!(
///     turnkit_ui::tanstack_user_message("m1", "Hi"),
///     r#"{"id":"m1","role":"user","parts":[{"type":"text","content":"Hi"}]}"#,
/// );
/// ```
#[must_use]
pub fn tanstack_user_message(id: &str, text: &str) -> String {
    let part = Object::new().raw("type", b"text").json("content", &string(text)).end();
    let message = Object::new().json("id", &string(id)).raw("role", b"user");
    into_string(message.json("parts", &[b"[", &*part, b"]"].concat()).end())
}

#[derive(Default)]
struct Messages {
    all: Vec<Message>,
    /// By the id of the call: its message, and its part.
    calls: BTreeMap<Vec<u8>, (usize, usize)>,
    has_finished: bool,
}

/// One text, and what comes around it.
#[derive(Default)]
struct Message {
    /// Of its text, or of what it began with while it has none.
    id: Vec<u8>,
    has_text: bool,
    parts: Vec<Part>,
}

enum Part {
    Text(Vec<u8>),
    Thinking { id: Vec<u8>, text: Vec<u8> },
    Call { id: Vec<u8>, tool: Vec<u8>, arguments: Vec<u8>, is_whole: bool, result: Option<Vec<u8>> },
    Result { id: Vec<u8>, content: Vec<u8> },
}

impl Messages {
    fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Begins(Kind::Text, name) => {
                if self.all.last().is_none_or(|last| last.has_text) {
                    self.all.push(Message::default());
                }
                if let Some(last) = self.all.last_mut() {
                    last.id = name.to_vec();
                    last.has_text = true;
                    last.parts.push(Part::Text(Vec::new()));
                }
            }
            Step::Begins(Kind::Reasoning, name) => {
                let message = self.last_or_new(name);
                // A message has one train of thought.
                if !message.parts.iter().any(|part| matches!(part, Part::Thinking { .. })) {
                    message.parts.push(Part::Thinking { id: name.to_vec(), text: Vec::new() });
                }
            }
            Step::Grows(kind, _, delta) => self.grow(kind, delta),
            Step::Call(call, step) => self.call(call, step),
            Step::Completed(_) => self.has_finished = true,
            Step::Failed(_, failure) => self.has_finished = failure.is_cancelled(),
            _ => {}
        }
    }

    fn last_or_new(&mut self, id: &[u8]) -> &mut Message {
        if self.all.is_empty() {
            self.all.push(Message { id: id.to_vec(), ..Message::default() });
        }
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    fn grow(&mut self, kind: Kind, delta: &[u8]) {
        let parts = self.all.last_mut().map(|message| message.parts.iter_mut());
        let text = parts.into_iter().flatten().find_map(|part| match (kind, part) {
            (Kind::Text, Part::Text(text)) | (Kind::Reasoning, Part::Thinking { text, .. }) => {
                Some(text)
            }
            _ => None,
        });
        if let Some(text) = text {
            text.extend_from_slice(delta);
        }
    }

    fn call(&mut self, call: &Call, step: CallStep<'_>) {
        if let CallStep::Begins { .. } = step {
            let message = self.last_or_new(&call.name);
            message.parts.push(Part::Call {
                id: call.name.to_vec(),
                tool: call.tool.to_vec(),
                arguments: Vec::new(),
                is_whole: false,
                result: None,
            });
            let place = (message.parts.len() - 1, self.all.len() - 1);
            self.calls.insert(call.name.to_vec(), (place.1, place.0));
        }
        let Some(&(message, part)) = self.calls.get(&*call.name) else { return };
        let parts = &mut self.all[message].parts;
        let Some(Part::Call { arguments, is_whole, result, id, .. }) = parts.get_mut(part) else {
            return;
        };
        let told = match step {
            CallStep::Piece(piece) => return arguments.extend_from_slice(piece),
            CallStep::Input { json, .. } if call.is_open() => {
                if !call.has_pieces() {
                    *arguments = inside(json);
                }
                *is_whole = true;
                return;
            }
            CallStep::InputEnds => {
                *is_whole = true;
                return;
            }
            CallStep::Output { json, again: false } => content(json),
            CallStep::Fails { message, again: false } => message.to_vec(),
            _ => return,
        };
        *result = Some(told.clone());
        let id = id.clone();
        parts.push(Part::Result { id, content: told });
    }
}

impl Message {
    fn json(&self, prefix: &[u8]) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = self.parts.iter().map(|part| part.json(prefix)).collect();
        Object::new()
            .raw("id", &[prefix, b"/", &self.id].concat())
            .raw("role", b"assistant")
            .json("parts", &[b"[", &*parts.join(&b","[..]), b"]"].concat())
            .end()
    }
}

impl Part {
    fn json(&self, prefix: &[u8]) -> Vec<u8> {
        let own = |id: &[u8]| [prefix, b"/", id].concat();
        match self {
            Self::Text(text) => Object::new().raw("type", b"text").raw("content", text).end(),
            Self::Thinking { id, text } => Object::new()
                .raw("type", b"thinking")
                .raw("content", text)
                .raw("stepId", &own(id))
                .end(),
            Self::Call { id, tool, arguments, is_whole, result } => {
                let state: &[u8] = match (result, is_whole, arguments.is_empty()) {
                    (Some(_), _, _) => b"complete",
                    (None, true, _) => b"input-complete",
                    (None, false, true) => b"awaiting-input",
                    (None, false, false) => b"input-streaming",
                };
                let parsed = |inside: &[u8]| {
                    let text = text_of(inside);
                    Value::verify(text.as_bytes()).map(|value| value.json().to_vec()).ok()
                };
                let output = result.as_deref().map(|content| {
                    parsed(content).unwrap_or_else(|| [b"\"", content, b"\""].concat())
                });
                Object::new()
                    .raw("type", b"tool-call")
                    .raw("id", &own(id))
                    .raw("name", tool)
                    .raw("arguments", arguments)
                    .raw("state", state)
                    .json(
                        "input",
                        &parsed(arguments).filter(|input| input != b"null").unwrap_or_default(),
                    )
                    .json("output", &output.unwrap_or_default())
                    .end()
            }
            Self::Result { id, content } => Object::new()
                .raw("type", b"tool-result")
                .raw("toolCallId", &own(id))
                .raw("content", content)
                .raw("state", b"complete")
                .end(),
        }
    }
}
