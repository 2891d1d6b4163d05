//! AG-UI 1.0.

pub(crate) mod messages;
pub(crate) mod tanstack;

use alloc::{format, string::String, vec::Vec};

use turnkit_wire::{Event, value::Value, view::Text};

use crate::{
    Chunks, Encoder,
    json::{Object, inside, into_string, string},
    story::{Call, CallStep, Kind, Started, Step, Story, Summary},
};

/// A turn as the events of AG-UI 1.0: what `HttpAgent`, CopilotKit and TanStack AI read.
///
/// The ids of messages and calls are those of the turn's parts behind a prefix, so that they are unique in a thread.
///
/// ```
/// use turnkit_ui::{AgUi, Chunks, Encoder};
/// use turnkit_wire::Event;
///
/// let (mut encoder, mut chunks) = (AgUi::new("thread", "run", "t:s:0"), Chunks::new());
/// encoder.event(&Event::from_json(br#"{"type":"session.run.started","data":{}}"#)?, &mut chunks);
/// assert_eq!(&chunks.take()[..], &b"id: 1\ndata: {\"type\":\"RUN_STARTED\",\"threadId\":\"thread\",\"runId\":\"run\"}\n\n"[..]);
/// # Ok::<(), turnkit_wire::DecodeError>(())
/// ```
pub struct AgUi {
    story: Story,
    /// Each with its quotes.
    thread_id: Vec<u8>,
    run_id: Vec<u8>,
    snapshot: Option<Vec<u8>>,
}

impl AgUi {
    /// The turn as the run of this id in this thread. `message_prefix` is the execution's id; what `session.run.started` says
    /// outweighs it.
    #[must_use]
    pub fn new(thread_id: &str, run_id: &str, message_prefix: &str) -> Self {
        let started = Started { execution_id: string(message_prefix), ..Started::default() };
        Self {
            story: Story::new(started),
            thread_id: string(thread_id),
            run_id: string(run_id),
            snapshot: None,
        }
    }

    /// Tells the client first, behind `RUN_STARTED`, which messages it is to have: those before this turn. It is for a client
    /// that has parts of the turn and asks for the whole, because these clients put what comes behind what they have.
    /// [`messages_snapshot`](crate::messages_snapshot) makes it.
    #[must_use]
    pub fn snapshot(self, event: Vec<u8>) -> Self {
        Self { snapshot: Some(event), ..self }
    }

    fn tell(&mut self, event: &Event, is_pending: bool, out: &mut Chunks) {
        let counted = !self.story.is_replay();
        if let Some(more) = self.story.grows(event) {
            return grow(
                more.kind,
                more.prefix,
                more.name,
                more.delta,
                &mut Frames { out, counted },
            );
        }
        let Self { story, thread_id, run_id, snapshot } = self;
        let resumes = out.resumes();
        let mut prefix = story.prefix().to_vec();
        story.read(event, is_pending, resumes, &mut |step: Step<'_>, counted| {
            if let Step::Started(started) = step {
                prefix = started.prefix().to_vec();
            }
            let run = Run { thread: thread_id, id: run_id, prefix: &prefix };
            let mut frames = Frames { out, counted };
            run.write(step, &mut frames);
            if let (Step::Started(_), Some(snapshot), false) = (step, &snapshot, resumes) {
                frames.out.last(&[snapshot]);
            }
        });
        if self.story.is_ended() {
            out.end();
        }
    }
}

impl Encoder for AgUi {
    #[inline]
    fn event(&mut self, event: &Event, out: &mut Chunks) {
        self.tell(event, false, out);
    }

    fn pending(&mut self, interaction: &Event, out: &mut Chunks) {
        self.tell(interaction, true, out);
    }

    fn pause(&mut self, interaction: &Event, out: &mut Chunks) {
        let data = Value::of(interaction);
        let Some(id) =
            data.get("id").and_then(Value::string).filter(|id| self.story.has_asked(*id))
        else {
            return;
        };
        let call =
            self.story.call_of(id).map(|call| [self.story.prefix(), b"/", &call.name].concat());
        let interrupt = interrupt(id, data, call.as_deref());
        let (thread_id, run_id) = (&self.thread_id, &self.run_id);
        let head = br#"{"type":"RUN_FINISHED","threadId":"#;
        let outcome = br#","outcome":{"type":"interrupt","interrupts":["#;
        out.last(&[head, thread_id, br#","runId":"#, run_id, outcome, &interrupt, b"]}}"]);
        out.end();
    }

    fn resume(&mut self, out: &mut Chunks) {
        out.count(&[
            br#"{"type":"RUN_STARTED","threadId":"#,
            &self.thread_id,
            br#","runId":"#,
            &self.run_id,
            b"}",
        ]);
    }
}

impl core::fmt::Debug for AgUi {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AgUi").finish_non_exhaustive()
    }
}

/// An interrupt of AG-UI: `question` is the data of an `interaction` that waits for its answer, as JSON, and `prefix` the execution's id.
/// Nothing where it is no question.
///
/// ```
/// assert_eq!(
///     turnkit_ui::ag_ui_interrupt(r#"{"id":"q","kind":"approval","callId":"c","title":"May I?"}"#, "t:s:0").as_deref(),
///     Some(r#"{"id":"q","reason":"tool_call","message":"May I?","toolCallId":"t:s:0/c","metadata":{"title":"May I?"}}"#),
/// );
/// ```
#[must_use]
pub fn ag_ui_interrupt(question: &str, prefix: &str) -> Option<String> {
    let data = Value::verify(question.as_bytes()).ok()?;
    let id = data.get("id").and_then(Value::string)?;
    let is_tool = data.get("kind").and_then(Value::string).is_some_and(|kind| kind.is("tool"));
    let call = match data.get("callId").and_then(Value::string) {
        Some(call) => Some(call.raw().to_vec()),
        None if is_tool => Some([b"interaction:", id.raw()].concat()),
        None => None,
    };
    let call = call.map(|call| [&inside(prefix.as_bytes()), &b"/"[..], &call].concat());
    Some(into_string(interrupt(id, data, call.as_deref())))
}

/// What a client is to answer.
fn interrupt(id: Text<'_>, data: Value<'_>, call: Option<&[u8]>) -> Vec<u8> {
    let (mut kind, mut title, mut message, mut schema, mut expires) =
        (None, None, None, None, None);
    let mut metadata = Object::new();
    data.members(|key, value| match &*key.to_str() {
        "kind" => kind = value.string(),
        "message" => message = value.string(),
        "schema" => schema = Some(value).filter(|value| value.is_object()),
        "expiresAt" => expires = value.whole_number(),
        name @ ("title" | "tool" | "input" | "options") => {
            if name == "title" {
                title = value.string();
            }
            metadata = core::mem::replace(&mut metadata, Object::new()).json(name, value.json());
        }
        _ => {}
    });
    let metadata = metadata.end();
    let has_metadata = metadata != b"{}";
    // The names of the specification for why a run waits.
    let reason: &[u8] = match kind {
        Some(kind) if kind.is("question") => b"input_required",
        _ if call.is_some() => b"tool_call",
        _ => b"confirmation",
    };
    Object::new()
        .raw("id", id.raw())
        .raw("reason", reason)
        .optional("message", message.or(title).map(|text| text.raw()))
        .optional("toolCallId", call)
        .json("responseSchema", schema.map(Value::json).unwrap_or_default())
        .optional("expiresAt", expires.and_then(date).as_deref().map(str::as_bytes))
        .json("metadata", if has_metadata { &metadata } else { b"" })
        .end()
}

/// A time in Unix milliseconds as RFC 3339 has it, by the days of 400 years (Hinnant, "chrono-compatible low-level date algorithms").
fn date(unix_ms: u64) -> Option<String> {
    let (day, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let days = day.checked_add(719_468)?;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + 400 * era + u64::from(month <= 2);
    if year > 9_999 {
        return None;
    }
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1_000 % 60, ms % 1_000);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"))
}

/// Where a step's events go.
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
fn grow(kind: Kind, prefix: &[u8], name: &[u8], delta: &[u8], frames: &mut Frames<'_>) {
    let head: &[u8] = match kind {
        Kind::Text => br#"{"type":"TEXT_MESSAGE_CONTENT","messageId":""#,
        Kind::Reasoning => br#"{"type":"REASONING_MESSAGE_CONTENT","messageId":""#,
    };
    frames.put(&[head, prefix, b"/", name, br#"","delta":""#, delta, br#""}"#]);
}

/// The run that events are told of.
struct Run<'a> {
    thread: &'a [u8],
    id: &'a [u8],
    prefix: &'a [u8],
}

impl Run<'_> {
    fn write(&self, step: Step<'_>, frames: &mut Frames<'_>) {
        match step {
            Step::Started(_) => {
                let (thread_id, run_id) = (self.thread, self.id);
                let head = br#"{"type":"RUN_STARTED","threadId":"#;
                frames.put(&[head, thread_id, br#","runId":"#, run_id, b"}"]);
            }
            Step::Apart => {}
            Step::Begins(Kind::Text, name) => {
                self.of_message("TEXT_MESSAGE_START", name, br#"","role":"assistant"}"#, frames);
            }
            Step::Begins(Kind::Reasoning, name) => {
                self.of_message("REASONING_START", name, br#""}"#, frames);
                self.of_message(
                    "REASONING_MESSAGE_START",
                    name,
                    br#"","role":"reasoning"}"#,
                    frames,
                );
            }
            Step::Grows(kind, name, delta) => grow(kind, self.prefix, name, delta, frames),
            Step::Ends(Kind::Text, name) => {
                self.of_message("TEXT_MESSAGE_END", name, br#""}"#, frames);
            }
            Step::Ends(Kind::Reasoning, name) => {
                self.of_message("REASONING_MESSAGE_END", name, br#""}"#, frames);
                self.of_message("REASONING_END", name, br#""}"#, frames);
            }
            Step::Call(call, step) => self.call(call, step, frames),
            Step::File { data, .. } | Step::Source { data, .. } | Step::OtherPart { data, .. } => {
                custom(b"message.part.updated", data, frames);
            }
            Step::Asked(question) => custom(b"interaction", question.data, frames),
            Step::Answered(answer) => custom(b"interaction.answered", answer.data, frames),
            Step::Differs(text) => {
                frames.put(&[
                    br#"{"type":"CUSTOM","name":"final-text","value":{"text":""#,
                    text,
                    br#""}}"#,
                ]);
            }
            Step::Other { kind, data } => custom(&inside(kind.as_bytes()), data, frames),
            Step::Completed(summary) => {
                let finished = self
                    .finished()
                    .json("result", &result(summary))
                    .json("outcome", br#"{"type":"success"}"#)
                    .json("usage", &usage(summary));
                frames.out.last(&[&finished.end()]);
            }
            Step::Failed(_, failure) if failure.is_cancelled() => {
                frames
                    .out
                    .last(&[&self.finished().json("outcome", br#"{"type":"cancelled"}"#).end()]);
            }
            Step::Failed(summary, failure) => {
                let retryable: &[u8] = if failure.retryable { b"true" } else { b"false" };
                let metadata = Object::new()
                    .json("retryable", retryable)
                    .flag("temporary", failure.temporary)
                    .optional("phase", failure.phase.map(|phase| phase.raw()));
                let error = Object::new()
                    .raw("type", b"RUN_ERROR")
                    .raw("message", failure.message())
                    .optional("code", failure.code.map(|code| code.raw()))
                    .json("metadata", &metadata.end())
                    .json("usage", &usage(summary));
                frames.out.last(&[&error.end()]);
            }
            Step::Expired => {
                frames.out.last(&[br#"{"type":"RUN_ERROR","message":"the events after this place are gone: read the conversation again","code":"cursor_expired"}"#]);
            }
        }
    }

    fn finished(&self) -> Object {
        Object::new()
            .raw("type", b"RUN_FINISHED")
            .json("threadId", self.thread)
            .json("runId", self.id)
    }

    fn of_message(&self, kind: &str, name: &[u8], tail: &[u8], frames: &mut Frames<'_>) {
        frames.put(&[
            br#"{"type":""#,
            kind.as_bytes(),
            br#"","messageId":""#,
            self.prefix,
            b"/",
            name,
            tail,
        ]);
    }

    fn call(&self, call: &Call, step: CallStep<'_>, frames: &mut Frames<'_>) {
        let id = [self.prefix, b"/", &call.name].concat();
        let event = |kind: &str| Object::new().raw("type", kind.as_bytes()).raw("toolCallId", &id);
        let end = event("TOOL_CALL_END").end();
        match step {
            CallStep::Begins { .. } => {
                frames.put(&[&event("TOOL_CALL_START").raw("toolCallName", &call.tool).end()]);
            }
            CallStep::Piece(piece) => {
                frames.put(&[&event("TOOL_CALL_ARGS").raw("delta", piece).end()]);
            }
            CallStep::Input { json, .. } if call.is_open() => {
                if !call.has_pieces() {
                    frames.put(&[&event("TOOL_CALL_ARGS").raw("delta", &inside(json)).end()]);
                }
                frames.put(&[&end]);
            }
            CallStep::InputEnds => frames.put(&[&end]),
            CallStep::Output { json, again: false } => {
                frames.put(&[&result_of(&id, &content(json)).end()]);
            }
            CallStep::Fails { message, again: false } => {
                frames.put(&[&result_of(&id, message)
                    .json("metadata", br#"{"isError":true}"#)
                    .end()]);
            }
            // A result is told once, and no part of it before.
            CallStep::Input { .. }
            | CallStep::Preliminary(_)
            | CallStep::Output { .. }
            | CallStep::Fails { .. } => {}
        }
    }
}

fn result_of(call: &[u8], content: &[u8]) -> Object {
    Object::new()
        .raw("type", b"TOOL_CALL_RESULT")
        .raw("messageId", &[call, b":result"].concat())
        .raw("toolCallId", call)
        .raw("role", b"tool")
        .raw("content", content)
}

/// A tool's output as the text that a tool message has, as it is spelt in JSON: a string as it is, other JSON as its text.
pub(crate) fn content(json: &[u8]) -> Vec<u8> {
    match json {
        b"null" => Vec::new(),
        [b'"', text @ .., b'"'] => text.to_vec(),
        json => inside(json),
    }
}

fn result(summary: &Summary) -> Vec<u8> {
    Object::new()
        .flag("saved", true)
        .flag("replayed", summary.replayed)
        .raw("finishReason", summary.reason().as_bytes())
        .json("usage", &summary.usage)
        .json("timing", &summary.timing)
        .json("agent", &summary.agent)
        .end()
}

/// Whole numbers only: nothing else is let in by the clients.
fn usage(summary: &Summary) -> Vec<u8> {
    let names = ["inputTokens", "outputTokens", "reasoningTokens", "cachedInputTokens"];
    let mut usage = Object::new().json("model", &summary.model);
    for (name, tokens) in names.into_iter().zip(summary.tokens) {
        let tokens = tokens.map(|tokens| format!("{tokens}"));
        usage = usage.json(name, tokens.unwrap_or_default().as_bytes());
    }
    let known = summary.tokens.iter().any(Option::is_some);
    if known { [&b"["[..], &usage.end(), b"]"].concat() } else { Vec::new() }
}

fn custom(name: &[u8], value: Value<'_>, frames: &mut Frames<'_>) {
    let value = if value.json().is_empty() { b"null" } else { value.json() };
    frames.put(&[br#"{"type":"CUSTOM","name":""#, name, br#"","value":"#, value, b"}"]);
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn a_time_is_told_as_a_date() {
        assert_eq!(date(0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(date(951_827_696_789).as_deref(), Some("2000-02-29T12:34:56.789Z"));
        assert_eq!(date(4_107_542_399_999).as_deref(), Some("2100-02-28T23:59:59.999Z"));
        assert_eq!(date(u64::MAX), None);
    }
}
