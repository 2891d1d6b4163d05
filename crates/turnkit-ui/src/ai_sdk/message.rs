//! A `UIMessage` as the client has it when a turn was told.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use turnkit_wire::{Event, value::Value};

use super::{AiSdk, Version, account, error, metadata, shown_as, write_question_input};
use crate::{
    json::{Object, into_string, string, text_of},
    story::{Answer, Call, CallStep, Kind, Question, QuestionKind, Step},
};

/// The message that a client of the AI SDK holds at the end of a turn that `encoder` tells: the JSON of a `UIMessage`. So what is at
/// rest equals what the client has assembled.
///
/// `events` are those of one turn: as they were live, or a replay's (PROTOCOL 2.1, rule 9). It takes the memory of the whole
/// answer. The input of a call that was cut while it grew is its `rawInput`.
///
/// ```
/// use turnkit_ui::{AiSdk, ui_message};
/// use turnkit_wire::write::Part;
///
/// let message = ui_message(AiSdk::new("t:s:0"), &[Part::new("p").text("Hello")]);
/// assert_eq!(
///     message,
///     r#"{"id":"t:s:0","metadata":{},"role":"assistant","parts":[{"type":"step-start"},{"type":"text","text":"Hello","state":"streaming"}]}"#,
/// );
/// ```
#[must_use]
pub fn ui_message<'a>(encoder: AiSdk, events: impl IntoIterator<Item = &'a Event>) -> String {
    let AiSdk { mut story, version } = encoder;
    let mut message = Message { version, ..Message::default() };
    for event in events {
        if let Some(more) = story.grows(event) {
            message.grow(more.delta);
        } else {
            story.read(event, false, false, &mut |step: Step<'_>, _: bool| message.take(step));
        }
    }
    let parts: Vec<Vec<u8>> = message.parts.iter().map(|part| part.json(version)).collect();
    let json = Object::new()
        .json("id", &story.started().execution_id)
        .json("metadata", &message.metadata())
        .raw("role", b"assistant")
        .json("parts", &[b"[", &*parts.join(&b","[..]), b"]"].concat());
    into_string(json.end())
}

/// A user's message as a `UIMessage`: `id` is the one that its client gave it.
///
/// ```
/// assert_eq!(
///     turnkit_ui::ui_user_message("m1", "Hi"),
///     r#"{"id":"m1","role":"user","parts":[{"type":"text","text":"Hi"}]}"#,
/// );
/// ```
#[must_use]
pub fn ui_user_message(id: &str, text: &str) -> String {
    let part = Object::new().raw("type", b"text").json("text", &string(text)).end();
    let message = Object::new()
        .json("id", &string(id))
        .raw("role", b"user")
        .json("parts", &[b"[", &*part, b"]"].concat());
    into_string(message.end())
}

#[derive(Default)]
struct Message {
    version: Version,
    metadata: Vec<Vec<u8>>,
    parts: Vec<Part>,
    /// By the id of the call.
    tools: BTreeMap<Vec<u8>, usize>,
    /// The tool parts that show a question.
    approvals: BTreeMap<Vec<u8>, usize>,
}

enum Part {
    Whole(Vec<u8>),
    Text { kind: Kind, id: Vec<u8>, text: Vec<u8>, is_done: bool },
    Tool(Tool),
}

#[derive(Default)]
struct Tool {
    id: Vec<u8>,
    name: Vec<u8>,
    state: &'static str,
    input: Vec<u8>,
    /// The pieces of the input, as they are spelt in JSON.
    raw: Vec<u8>,
    output: Vec<u8>,
    error: Option<Vec<u8>>,
    executed: Vec<u8>,
    title: Option<Vec<u8>>,
    is_preliminary: bool,
    approval: Vec<u8>,
}

impl Message {
    /// The members of the objects that came, in one.
    fn metadata(&self) -> Vec<u8> {
        let members: Vec<&[u8]> = self
            .metadata
            .iter()
            .map(|object| &object[1..object.len() - 1])
            .filter(|members| !members.is_empty())
            .collect();
        [b"{", &*members.join(&b","[..]), b"}"].concat()
    }

    fn grow(&mut self, delta: &[u8]) {
        // What grows is the last text: whatever else came since then was no part, or ended it.
        let last = self.parts.iter_mut().rev().find_map(|part| match part {
            Part::Text { text, .. } => Some(text),
            _ => None,
        });
        if let Some(text) = last {
            text.extend_from_slice(delta);
        }
    }

    fn take(&mut self, step: Step<'_>) {
        match step {
            Step::Started(started) => {
                self.metadata.push(metadata(started));
                self.whole(Object::new().raw("type", b"step-start"));
            }
            Step::Apart => self.whole(Object::new().raw("type", b"step-start")),
            Step::Begins(kind, name) => {
                self.parts.push(Part::Text {
                    kind,
                    id: name.to_vec(),
                    text: Vec::new(),
                    is_done: false,
                });
            }
            Step::Grows(_, _, delta) => self.grow(delta),
            Step::Ends(..) => {
                let last = self.parts.iter_mut().rev().find_map(|part| match part {
                    Part::Text { is_done, .. } => Some(is_done),
                    _ => None,
                });
                if let Some(is_done) = last {
                    *is_done = true;
                }
            }
            Step::Call(call, step) => self.call(call, step),
            Step::File { url, media_type, .. } => {
                let file = Object::new().raw("type", b"file").raw("mediaType", media_type.raw());
                self.whole(file.raw("url", url.raw()));
            }
            Step::Source { id, url, title, .. } => {
                let source = Object::new()
                    .raw("type", b"source-url")
                    .raw("sourceId", id)
                    .raw("url", url.raw());
                self.whole(source.optional("title", title.map(|title| title.raw())));
            }
            Step::Asked(question) => self.ask(&question),
            Step::Answered(answer) => self.answer(&answer),
            Step::Differs(text) => {
                let data = Object::new().raw("text", text).end();
                self.whole(Object::new().raw("type", b"data-final-text").json("data", &data));
            }
            Step::Completed(summary) => self.metadata.push(account(summary)),
            Step::Failed(_, failure) => {
                self.metadata.push(Object::new().json("error", &error(&failure)).end());
            }
            Step::Other { .. } | Step::OtherPart { .. } | Step::Expired => {}
        }
    }

    fn whole(&mut self, part: Object) {
        self.parts.push(Part::Whole(part.end()));
    }

    fn tool(&mut self, id: &[u8]) -> Option<&mut Tool> {
        match self.parts.get_mut(*self.tools.get(id)?)? {
            Part::Tool(tool) => Some(tool),
            _ => None,
        }
    }

    fn push_tool(&mut self, tool: Tool) {
        self.tools.insert(tool.id.clone(), self.parts.len());
        self.parts.push(Part::Tool(tool));
    }

    fn call(&mut self, call: &Call, step: CallStep<'_>) {
        if let CallStep::Begins { title } = step {
            return self.push_tool(Tool {
                id: call.name.to_vec(),
                name: call.tool.to_vec(),
                state: "input-streaming",
                executed: b"true".to_vec(),
                title: title.map(|title| title.raw().to_vec()),
                ..Tool::default()
            });
        }
        // A client looks for a call in the step that it is in: one that it is to run, and that began before, is there once more.
        let step_began = self.parts.iter().rposition(Part::begins_a_step);
        if let CallStep::Input { .. } = step
            && self.tools.get(&*call.name).copied() < step_began
        {
            let (id, name) = (call.name.to_vec(), call.tool.to_vec());
            self.push_tool(Tool { id, name, ..Tool::default() });
        }
        let Some(tool) = self.tool(&call.name) else { return };
        match step {
            CallStep::Begins { .. } | CallStep::InputEnds => {}
            CallStep::Piece(piece) => tool.raw.extend_from_slice(piece),
            CallStep::Input { json, title, by_client } => {
                tool.state = "input-available";
                tool.raw.clear();
                (tool.output, tool.error, tool.is_preliminary) = (Vec::new(), None, false);
                tool.input = json.to_vec();
                tool.executed = if by_client { b"false".to_vec() } else { b"true".to_vec() };
                tool.title = title.map(|title| title.raw().to_vec()).or(tool.title.take());
            }
            CallStep::Preliminary(json) => tool.end("output-available", Some(json), None, true),
            CallStep::Output { json, .. } => tool.end("output-available", Some(json), None, false),
            CallStep::Fails { message, .. } => tool.end("output-error", None, Some(message), false),
        }
    }

    fn ask(&mut self, question: &Question<'_>) {
        if question.kind == QuestionKind::Tool {
            return;
        }
        let call = question.call.filter(|_| self.version != Version::V5);
        let id = shown_as(question.id, call);
        if call.is_none() {
            let (name, input) = write_question_input(question);
            let is_approval =
                question.kind == QuestionKind::Approval && self.version != Version::V5;
            self.push_tool(Tool {
                id: id.clone(),
                name,
                state: "input-available",
                input,
                executed: if is_approval { b"true".to_vec() } else { Vec::new() },
                ..Tool::default()
            });
        }
        if self.version == Version::V5 {
            return;
        }
        let approval = Object::new().raw("id", question.id.raw()).end();
        if let Some(tool) = self.tool(&id) {
            // At rest a call stands before the question about it, and as it was in the end.
            if !tool.is_over() {
                tool.state = "approval-requested";
            }
            tool.approval = approval;
        }
        if let Some(&place) = self.tools.get(&id) {
            self.approvals.insert(question.id.raw().to_vec(), place);
        }
    }

    fn answer(&mut self, answer: &Answer<'_>) {
        if answer.kind == QuestionKind::Tool {
            return;
        }
        let version = self.version;
        let call = answer.call.filter(|_| version != Version::V5);
        let id = shown_as(answer.id, call);
        let Some(tool) = self.tool(&id) else { return };
        let is_accepted = answer.outcome.is("accepted");
        if version == Version::V7 && answer.kind == QuestionKind::Approval {
            let outcome =
                Some(answer.outcome).filter(|outcome| !is_accepted && !outcome.is("declined"));
            let approved: &[u8] = if is_accepted { b"true" } else { b"false" };
            if !tool.is_over() {
                tool.state = "approval-responded";
            }
            tool.approval = Object::new()
                .raw("id", answer.id.raw())
                .json("approved", approved)
                .optional("reason", outcome.map(|outcome| outcome.raw()))
                .end();
        }
        match (is_accepted, version, call) {
            (true, _, Some(_)) => {}
            (true, _, None) => {
                let outcome = Object::new().raw("outcome", answer.outcome.raw()).end();
                tool.end(
                    "output-available",
                    Some(answer.given.map_or(&*outcome, Value::json)),
                    None,
                    false,
                );
            }
            (false, Version::V5, _) => {
                tool.end("output-error", None, Some(answer.outcome.raw()), false);
            }
            (false, _, _) if tool.is_over() => {}
            (false, _, _) => tool.state = "output-denied",
        }
    }
}

impl Tool {
    fn is_over(&self) -> bool {
        self.error.is_some() || !self.output.is_empty() && !self.is_preliminary
    }

    fn end(
        &mut self,
        state: &'static str,
        output: Option<&[u8]>,
        error: Option<&[u8]>,
        is_preliminary: bool,
    ) {
        if self.input.is_empty() && !self.raw.is_empty() {
            // The client reads the pieces as JSON.
            let text = text_of(&self.raw);
            self.input = Value::verify(text.as_bytes())
                .map_or_else(|_| Vec::new(), |input| input.json().to_vec());
        }
        self.raw.clear();
        self.state = state;
        self.output = output.unwrap_or_default().to_vec();
        self.error = error.map(<[u8]>::to_vec);
        self.is_preliminary = is_preliminary;
    }
}

impl Part {
    fn begins_a_step(&self) -> bool {
        matches!(self, Self::Whole(json) if json == br#"{"type":"step-start"}"#)
    }

    fn json(&self, version: Version) -> Vec<u8> {
        match self {
            Self::Whole(json) => json.clone(),
            Self::Text { kind, id, text, is_done } => {
                let state: &[u8] = if *is_done { b"done" } else { b"streaming" };
                let part = match kind {
                    Kind::Text => Object::new().raw("type", b"text"),
                    Kind::Reasoning => Object::new().raw("type", b"reasoning").raw("id", id),
                };
                part.raw("text", text).raw("state", state).end()
            }
            Self::Tool(tool) => {
                let raw = Some(&*tool.raw).filter(|raw| !raw.is_empty());
                let title = tool.title.as_deref().filter(|_| version != Version::V5);
                Object::new()
                    .raw("type", b"dynamic-tool")
                    .raw("toolName", &tool.name)
                    .raw("toolCallId", &tool.id)
                    .raw("state", tool.state.as_bytes())
                    .json("input", &tool.input)
                    .optional("rawInput", raw)
                    .json("output", &tool.output)
                    .optional("errorText", tool.error.as_deref())
                    .json("providerExecuted", &tool.executed)
                    .flag("preliminary", tool.is_preliminary)
                    .optional("title", title)
                    .json("approval", &tool.approval)
                    .end()
            }
        }
    }
}
