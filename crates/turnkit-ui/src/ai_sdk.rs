//! The AI SDK's UI message stream.

pub(crate) mod message;

use alloc::vec::Vec;

use turnkit_wire::{Event, value::Value, view::Text};

use crate::{
    Chunks, Encoder,
    json::{Object, inside, string},
    story::{
        Answer, Call, CallStep, Failure, Kind, Question, QuestionKind, Started, Step, Story,
        Summary,
    },
};

/// A turn as the AI SDK's UI message stream, version 1: what `useChat` and its transports read.
///
/// Chunks are made for the version of the package `ai` that reads them ([`Version`]): a type that a client does not know is
/// fatal there. The counts of versions differ.
///
/// ```
/// use turnkit_ui::{AiSdk, Chunks, Encoder};
/// use turnkit_wire::Event;
///
/// let lines = [
///     r#"{"type":"session.run.started","data":{"sessionId":"s","tenantId":"t","turnIndex":0,"executionId":"t:s:0"}}"#,
///     r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"Hi"}}"#,
///     r#"{"type":"session.run.completed","data":{"sessionId":"s"}}"#,
/// ];
/// let (mut encoder, mut chunks) = (AiSdk::new("t:s:0"), Chunks::new().after(3));
/// for line in lines {
///     encoder.event(&Event::from_json(line.as_bytes())?, &mut chunks);
/// }
/// let rest = chunks.take();
/// assert!(rest.starts_with(br#"id: 4
/// data: {"type":"text-delta","id":"p","delta":"Hi"}"#));
/// assert!(rest.ends_with(b"data: [DONE]\n\n"));
/// # Ok::<(), turnkit_wire::DecodeError>(())
/// ```
pub struct AiSdk {
    story: Story,
    version: Version,
}

/// The major version of the package `ai` that reads a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// It knows no approvals: a question is a tool part, a decline the part's error.
    V5,
    /// It knows approvals, but not that one was answered.
    V6,
    /// It knows them all.
    #[default]
    V7,
}

impl Version {
    /// The version of this number, as a client's URL says it (`?ai=7`).
    #[must_use]
    pub fn parse(number: &str) -> Option<Self> {
        match number {
            "5" => Some(Self::V5),
            "6" => Some(Self::V6),
            "7" => Some(Self::V7),
            _ => None,
        }
    }
}

impl AiSdk {
    /// The turn of this message id, which is the execution's. What `session.run.started` says outweighs it.
    #[must_use]
    pub fn new(message_id: &str) -> Self {
        let started = Started { execution_id: string(message_id), ..Started::default() };
        Self { story: Story::new(started), version: Version::default() }
    }

    /// The turn's id, for where `session.run.started` says none.
    #[must_use]
    pub fn turn_id(self, turn_id: &str) -> Self {
        let started = Started { turn_id: string(turn_id), ..self.story.started().clone() };
        Self { story: Story::new(started), ..self }
    }

    /// Makes chunks for this version, 7 unless set.
    #[must_use]
    pub fn version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    fn tell(&mut self, event: &Event, is_pending: bool, out: &mut Chunks) {
        let counted = !self.story.is_replay();
        if let Some(more) = self.story.grows(event) {
            return grow(more.kind, more.name, more.delta, &mut Frames { out, counted });
        }
        let (version, resumes) = (self.version, out.resumes());
        self.story.read(event, is_pending, resumes, &mut |step: Step<'_>, counted| {
            write(step, version, &mut Frames { out, counted });
        });
        if self.story.is_ended() {
            out.end();
        }
    }
}

impl Encoder for AiSdk {
    #[inline]
    fn event(&mut self, event: &Event, out: &mut Chunks) {
        self.tell(event, false, out);
    }

    fn pending(&mut self, interaction: &Event, out: &mut Chunks) {
        self.tell(interaction, true, out);
    }

    fn pause(&mut self, interaction: &Event, out: &mut Chunks) {
        let id = Value::of(interaction).get("id").and_then(Value::string);
        if id.is_some_and(|id| self.story.has_asked(id)) {
            out.last(&[br#"{"type":"finish","finishReason":"tool-calls"}"#]);
            out.last(&[b"[DONE]"]);
            out.end();
        }
    }

    fn resume(&mut self, out: &mut Chunks) {
        let id = &self.story.started().execution_id;
        out.count(&[br#"{"type":"start","messageId":"#, id, b"}"]);
    }
}

impl core::fmt::Debug for AiSdk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AiSdk").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Where a step's chunks go.
struct Frames<'a> {
    out: &'a mut Chunks,
    counted: bool,
}

impl Frames<'_> {
    #[inline]
    fn put(&mut self, json: &[&[u8]]) {
        if self.counted { self.out.count(json) } else { self.out.terminal(json) }
    }
}

#[inline]
fn grow(kind: Kind, name: &[u8], delta: &[u8], frames: &mut Frames<'_>) {
    let head: &[u8] = match kind {
        Kind::Text => br#"{"type":"text-delta","id":""#,
        Kind::Reasoning => br#"{"type":"reasoning-delta","id":""#,
    };
    frames.put(&[head, name, br#"","delta":""#, delta, br#""}"#]);
}

fn write(step: Step<'_>, version: Version, frames: &mut Frames<'_>) {
    match step {
        Step::Started(started) => {
            let metadata = metadata(started);
            let (id, end) = (&started.execution_id, b"}");
            frames.put(&[
                br#"{"type":"start","messageId":"#,
                id,
                br#","messageMetadata":"#,
                &metadata,
                end,
            ]);
            frames.put(&[br#"{"type":"start-step"}"#]);
        }
        Step::Apart => frames.put(&[br#"{"type":"start-step"}"#]),
        Step::Begins(Kind::Text, name) => {
            frames.put(&[br#"{"type":"text-start","id":""#, name, br#""}"#]);
        }
        Step::Begins(Kind::Reasoning, name) => {
            frames.put(&[br#"{"type":"reasoning-start","id":""#, name, br#""}"#]);
        }
        Step::Grows(kind, name, delta) => grow(kind, name, delta, frames),
        Step::Ends(Kind::Text, name) => {
            frames.put(&[br#"{"type":"text-end","id":""#, name, br#""}"#]);
        }
        Step::Ends(Kind::Reasoning, name) => {
            frames.put(&[br#"{"type":"reasoning-end","id":""#, name, br#""}"#]);
        }
        Step::Call(call, step) => write_call(call, step, frames),
        Step::File { url, media_type, .. } => {
            let (url, media_type) = (url.raw(), media_type.raw());
            frames.put(&[
                br#"{"type":"file","url":""#,
                url,
                br#"","mediaType":""#,
                media_type,
                br#""}"#,
            ]);
        }
        Step::Source { id, url, title, .. } => {
            let object =
                Object::new().raw("type", b"source-url").raw("sourceId", id).raw("url", url.raw());
            frames.put(&[&object.optional("title", title.map(|title| title.raw())).end()]);
        }
        Step::Asked(question) => write_question(&question, version, frames),
        Step::Answered(answer) => write_answer(&answer, version, frames),
        Step::Differs(text) => {
            frames.put(&[br#"{"type":"data-final-text","data":{"text":""#, text, br#""}}"#]);
        }
        Step::Other { kind, data } => write_data(&inside(kind.as_bytes()), data, frames),
        Step::OtherPart { part_type, data } => {
            let part_type = part_type.map(|part_type| [b"part-", part_type.raw()].concat());
            write_data(part_type.as_deref().unwrap_or(b"part"), data, frames);
        }
        Step::Completed(summary) => {
            frames.put(&[br#"{"type":"finish-step"}"#]);
            let (reason, metadata) = (summary.reason().as_bytes(), account(summary));
            let out = &mut *frames.out;
            out.last(&[
                br#"{"type":"finish","finishReason":""#,
                reason,
                br#"","messageMetadata":"#,
                &metadata,
                b"}",
            ]);
            out.last(&[b"[DONE]"]);
        }
        Step::Failed(_, failure) => {
            let error = error(&failure);
            frames.put(&[
                br#"{"type":"message-metadata","messageMetadata":{"error":"#,
                &error,
                b"}}",
            ]);
            let message = failure.message();
            if failure.is_cancelled() {
                frames.put(&[br#"{"type":"abort","reason":""#, message, br#""}"#]);
                // A transport that counts chunks knows no other end.
                frames.out.last(&[br#"{"type":"finish","finishReason":"other"}"#]);
            } else {
                frames.out.last(&[br#"{"type":"error","errorText":""#, message, br#""}"#]);
            }
            frames.out.last(&[b"[DONE]"]);
        }
        Step::Expired => {
            frames.out.last(&[br#"{"type":"error","errorText":"the chunks after this place are gone: read the conversation again","code":"cursor_expired"}"#]);
            frames.out.last(&[b"[DONE]"]);
        }
    }
}

/// A turn is told in one message: what it is.
fn metadata(started: &Started) -> Vec<u8> {
    Object::new()
        .json("turnId", &started.turn_id)
        .json("sessionId", &started.session_id)
        .json("tenantId", &started.tenant_id)
        .json("turnIndex", &started.turn_index)
        .end()
}

/// What the agent says of the turn, and that it is saved.
fn account(summary: &Summary) -> Vec<u8> {
    Object::new()
        .json("usage", &summary.usage)
        .json("timing", &summary.timing)
        .json("model", &summary.model)
        .json("agent", &summary.agent)
        .flag("saved", true)
        .flag("replayed", summary.replayed)
        .end()
}

fn error(failure: &Failure<'_>) -> Vec<u8> {
    let retryable: &[u8] = if failure.retryable { b"true" } else { b"false" };
    Object::new()
        .optional("code", failure.code.map(|code| code.raw()))
        .raw("message", failure.message())
        .json("retryable", retryable)
        .flag("temporary", failure.temporary)
        .optional("phase", failure.phase.map(|phase| phase.raw()))
        .end()
}

fn write_call(call: &Call, step: CallStep<'_>, frames: &mut Frames<'_>) {
    // A call is the agent's own unless a client is asked to run it: without `providerExecuted` the browser runs the tool.
    let chunk = |kind: &str, by_client: bool| {
        let executed: &[u8] = if by_client { b"false" } else { b"true" };
        Object::new()
            .raw("type", kind.as_bytes())
            .raw("toolCallId", &call.name)
            .json("dynamic", b"true")
            .json("providerExecuted", executed)
    };
    let title = |title: Option<Text<'_>>| title.map(|title| title.raw().to_vec());
    let json = match step {
        CallStep::Begins { title: it } => chunk("tool-input-start", false)
            .raw("toolName", &call.tool)
            .optional("title", title(it).as_deref())
            .end(),
        CallStep::Piece(piece) => {
            let head = br#"{"type":"tool-input-delta","toolCallId":""#;
            return frames.put(&[head, &call.name, br#"","inputTextDelta":""#, piece, br#""}"#]);
        }
        CallStep::Input { json, title: it, by_client } => chunk("tool-input-available", by_client)
            .raw("toolName", &call.tool)
            .json("input", json)
            .optional("title", title(it).as_deref())
            .end(),
        CallStep::InputEnds => return,
        CallStep::Preliminary(output) => chunk("tool-output-available", false)
            .json("output", output)
            .flag("preliminary", true)
            .end(),
        CallStep::Output { json, .. } => {
            chunk("tool-output-available", false).json("output", json).end()
        }
        CallStep::Fails { message, .. } => {
            chunk("tool-output-error", false).raw("errorText", message).end()
        }
    };
    frames.put(&[&json]);
}

/// The id of the tool part that shows a question.
fn shown_as(id: Text<'_>, call: Option<&Call>) -> Vec<u8> {
    match call {
        Some(call) => call.name.to_vec(),
        None => [b"interaction:", id.raw()].concat(),
    }
}

/// The tool and the input of the part that shows a question about no call.
fn write_question_input(question: &Question<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut tool, mut input) = (None, Object::new());
    question.data.members(|key, value| match &*key.to_str() {
        "tool" => tool = value.string(),
        name @ ("title" | "message" | "input" | "schema" | "options" | "expiresAt") => {
            input = core::mem::replace(&mut input, Object::new()).json(name, value.json());
        }
        _ => {}
    });
    let kind = question.kind.as_str().as_bytes();
    (tool.map_or(kind, |tool| tool.raw()).to_vec(), input.end())
}

fn write_question(question: &Question<'_>, version: Version, frames: &mut Frames<'_>) {
    if question.kind == QuestionKind::Tool {
        return;
    }
    let call = question.call.filter(|_| version != Version::V5);
    let id = shown_as(question.id, call);
    if call.is_none() {
        let (tool, input) = write_question_input(question);
        let part = Object::new()
            .raw("type", b"tool-input-available")
            .raw("toolCallId", &id)
            .raw("toolName", &tool)
            .json("input", &input)
            .flag("dynamic", true)
            // What is only approved is no tool that a client runs; what is answered with data is given as its output.
            .flag(
                "providerExecuted",
                version != Version::V5 && question.kind == QuestionKind::Approval,
            );
        frames.put(&[&part.end()]);
    }
    if version != Version::V5 {
        let approval = question.id.raw();
        let head = br#"{"type":"tool-approval-request","approvalId":""#;
        frames.put(&[head, approval, br#"","toolCallId":""#, &id, br#""}"#]);
    }
}

fn write_answer(answer: &Answer<'_>, version: Version, frames: &mut Frames<'_>) {
    if answer.kind == QuestionKind::Tool {
        return;
    }
    let call = answer.call.filter(|_| version != Version::V5);
    let id = shown_as(answer.id, call);
    let is_accepted = answer.outcome.is("accepted");
    // What is answered with data is given as an output, which takes the approval from the part: a response to that would be fatal.
    if version == Version::V7 && answer.kind == QuestionKind::Approval {
        let approved: &[u8] = if is_accepted { b"true" } else { b"false" };
        let outcome =
            Some(answer.outcome).filter(|outcome| !is_accepted && !outcome.is("declined"));
        let response = Object::new()
            .raw("type", b"tool-approval-response")
            .raw("approvalId", answer.id.raw())
            .json("approved", approved)
            .optional("reason", outcome.map(|outcome| outcome.raw()));
        frames.put(&[&response.end()]);
    }
    let json = match (is_accepted, version, call) {
        // The call itself goes on.
        (true, _, Some(_)) => return,
        (true, _, None) => {
            let outcome = Object::new().raw("outcome", answer.outcome.raw()).end();
            let output = answer.given.map_or(&*outcome, Value::json);
            Object::new()
                .raw("type", b"tool-output-available")
                .raw("toolCallId", &id)
                .json("output", output)
        }
        (false, Version::V5, _) => Object::new()
            .raw("type", b"tool-output-error")
            .raw("toolCallId", &id)
            .raw("errorText", answer.outcome.raw()),
        (false, _, _) => Object::new().raw("type", b"tool-output-denied").raw("toolCallId", &id),
    };
    frames.put(&[&json.flag("dynamic", version == Version::V5 || is_accepted).end()]);
}

/// What these clients do not know is handed to who listens for it, and kept in no message.
fn write_data(name: &[u8], data: Value<'_>, frames: &mut Frames<'_>) {
    let data = if data.json().is_empty() { b"null" } else { data.json() };
    frames.put(&[br#"{"type":"data-"#, name, br#"","data":"#, data, br#","transient":true}"#]);
}
