//! What a program has told so far, as events.

use std::collections::VecDeque;

use turnkit_wire::{
    Event, kind, text,
    write::{self, Json, Part, TurnResult},
};

use super::{AgentError, code};

/// The events of a run, and what they come to.
pub(super) struct Told {
    ready: VecDeque<Event>,
    /// Bytes for the program's standard input.
    input: Vec<u8>,
    /// The session that the run belongs to.
    session: Option<String>,
    /// Values that no reader may see.
    secrets: Vec<String>,
    /// The session of the tool's own goes on: where it does not know it, its failure is not told but tried without.
    is_resumed: bool,
    /// The agent's own name for its session.
    pub(super) agent_session: Option<String>,
    /// The model that answers.
    pub(super) model: Option<String>,
    has_events: bool,
    has_parts: bool,
    end: Option<End>,
    /// An error that is one only where nothing good follows: tools say `error` while they reconnect.
    held: Option<(String, Option<String>)>,
    failure: Option<AgentError>,
    stray: Stray,
}

/// What a run has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// A good result was told.
    Answered,
    /// An error was told.
    Failed,
    /// It failed before it said anything, in a session of the tool's own that went on.
    Lost,
}

/// What was printed that is no event.
#[derive(Default)]
struct Stray {
    lines: u64,
    /// The beginning of it.
    first: String,
}

impl Told {
    pub(super) fn new(session: Option<String>, secrets: Vec<String>, is_resumed: bool) -> Self {
        Self {
            ready: VecDeque::new(),
            input: Vec::new(),
            session,
            secrets,
            is_resumed,
            agent_session: None,
            model: None,
            has_events: false,
            has_parts: false,
            end: None,
            held: None,
            failure: None,
            stray: Stray::default(),
        }
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// What must end the run at once, if anything.
    pub(super) fn take_failure(&mut self) -> Option<AgentError> {
        self.failure.take()
    }

    /// What the program is to be told, since the last call.
    pub(super) fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Whether a good result was told: nothing takes it back.
    pub(super) fn is_answered(&self) -> bool {
        self.end == Some(End::Answered)
    }

    /// Whether an error was told: the turn fails by it.
    pub(super) fn has_failed(&self) -> bool {
        self.end == Some(End::Failed)
    }

    /// Whether the run has failed before it said anything, in a session of the tool's own that went on.
    pub(super) fn is_lost(&self) -> bool {
        self.end == Some(End::Lost)
    }

    /// Whether anything was an event.
    pub(super) fn has_events(&self) -> bool {
        self.has_events
    }

    /// Whether a part of the answer was told.
    pub(super) fn has_parts(&self) -> bool {
        self.has_parts
    }

    /// The part of this id.
    pub(super) fn part<'a>(&'a self, id: &'a str, message: Option<&'a str>) -> Part<'a> {
        let part = Part::new(id);
        let part = message.map_or(part, |message| part.message(message));
        self.session.as_deref().map_or(part, |session| part.session(session))
    }

    /// Tells an event. Behind a good result nothing is told that would take it back.
    pub(super) fn push(&mut self, event: Event) {
        let class = event.class();
        if self.is_answered() && (class.is_failure() || class.is_reserved()) {
            tracing::warn!(kind = event.kind(), "a program said this behind its result");
            return;
        }
        self.has_events = true;
        match event.kind() {
            kind::MESSAGE_PART_UPDATED => {
                self.settle();
                self.has_parts = true;
            }
            kind::RESULT => {
                self.settle();
                self.end = Some(End::Answered);
            }
            kind::ERROR => self.end = Some(End::Failed),
            _ => {}
        }
        self.ready.push_back(event);
    }

    /// Tells what the answer came to, with what is known of its session and model.
    pub(super) fn answer(&mut self, result: TurnResult<'_>) {
        let event = {
            let mut result = result;
            if let Some(session) = &self.session {
                result = result.session_id(session);
            }
            result = result.agent_session_id(self.agent_session.as_deref());
            if let Some(model) = &self.model {
                result = result.model(model);
            }
            result.event()
        };
        self.push(event);
    }

    /// Something went wrong that does not end the turn.
    pub(super) fn warn(&mut self, words: &str, code: Option<&str>) {
        let words = self.cleaned(words);
        self.push(write::warning(&words, code));
    }

    /// The tool says that the turn has failed.
    pub(super) fn fail(&mut self, words: &str, code: Option<&str>) {
        if self.is_answered() {
            let words = self.cleaned(words);
            tracing::warn!(words, "a program told an error behind its result");
            return;
        }
        if self.held.as_ref().is_some_and(|(held, _)| held != words) {
            self.settle();
        }
        self.held = None;
        self.has_events = true;
        if self.is_resumed && !self.has_parts {
            self.end = Some(End::Lost);
            return;
        }
        let words = self.cleaned(words);
        self.push(write::error(&words, code));
    }

    /// An error that is one unless something good follows.
    pub(super) fn hold(&mut self, words: &str, code: Option<&str>) {
        self.has_events = true;
        if self.is_answered() {
            self.fail(words, code);
        } else {
            self.settle();
            self.held = Some((words.to_owned(), code.map(str::to_owned)));
        }
    }

    /// Something good follows: what was held is no more than a warning.
    fn settle(&mut self) {
        if let Some((words, code)) = self.held.take() {
            let words = self.cleaned(&words);
            self.ready.push_back(write::warning(&words, code.as_deref()));
        }
    }

    /// Nothing follows any more: what is held is the failure.
    pub(super) fn finish(&mut self) {
        if let Some((words, code)) = self.held.take() {
            self.fail(&words, code.as_deref());
        }
    }

    /// Ends the run with this failure, unless it has answered.
    pub(super) fn refuse(&mut self, code: &str, message: &str) {
        if self.is_answered() {
            tracing::warn!(message, "a program went wrong behind its result");
        } else if self.failure.is_none() {
            let message = self.cleaned(message);
            self.failure = Some(AgentError::new(code, message));
        }
    }

    /// A line that is no event: a diagnostic.
    pub(super) fn stray(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.stray.lines += 1;
        let shown = String::from_utf8_lossy(&line[..line.len().min(MAX_STRAY)]);
        let shown = text::printable(&shown).into_owned();
        if self.stray.lines <= LOGGED {
            tracing::info!(line = shown, "a program printed a line that is no event");
        }
        if self.stray.first.len() < MAX_STRAY {
            if !self.stray.first.is_empty() {
                self.stray.first.push(' ');
            }
            self.stray.first.push_str(&shown);
        }
    }

    /// The first words of what was printed and is no event, for a run that has nothing else; empty where there are none.
    pub(super) fn first_words(&self) -> String {
        text::excerpt(&self.cleaned(&self.stray.first), TOLD).into_owned()
    }

    /// How many lines were no events.
    pub(super) fn stray_lines(&self) -> u64 {
        self.stray.lines
    }

    /// Bytes for the program's standard input.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// As a reader may see it: no secret, and not too long.
    fn cleaned(&self, words: &str) -> String {
        let mut words = words.trim().to_owned();
        for secret in &self.secrets {
            words = words.replace(secret.as_str(), "[secret]");
        }
        text::message(&words).into_owned()
    }
}

/// A tool's output as it stands in an event: a text is cut where it is too long, and says so; other JSON is told as a text then.
pub(super) fn output(output: &serde_json::Value) -> Option<Json<'static>> {
    match output {
        serde_json::Value::String(text) => Json::of(&cut(text)).ok(),
        other => {
            let json = other.to_string();
            if json.len() <= MAX_OUTPUT { Json::of(other).ok() } else { Json::of(&cut(&json)).ok() }
        }
    }
}

/// A text of at most [`MAX_OUTPUT`] bytes in JSON, which says where it was cut.
pub(super) fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    let escaped = |character: char| match character {
        '\0'..' ' => 6,
        '"' | '\\' => 2,
        other => other.len_utf8(),
    };
    let mut size = 0;
    let end = text.char_indices().find(|(_, character)| {
        size += escaped(*character);
        size > MAX_OUTPUT
    });
    match end {
        None => text.into(),
        Some((end, _)) => format!("{}\n[cut: {} bytes in all]", &text[..end], text.len()).into(),
    }
}

/// What an event holds of a tool's input or output, in bytes.
pub(super) const MAX_OUTPUT: usize = 256 * 1024;

/// What is kept of lines that are no events, in bytes.
const MAX_STRAY: usize = 1_024;

/// How many such lines are logged.
const LOGGED: u64 = 100;

/// What is told of them, in characters.
const TOLD: usize = 300;

/// What a run without any event is told to have printed.
pub(super) fn nothing(told: &Told, hint: &str) -> AgentError {
    match told.first_words().as_str() {
        "" => AgentError::new(
            code::NO_EVENTS,
            "the program ended without an answer: it printed nothing",
        ),
        words => AgentError::new(
            code::INVALID_OUTPUT,
            format!("the program printed no event{hint}. What it printed begins with: {words}"),
        ),
    }
}
