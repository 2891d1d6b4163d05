//! An answer as it comes, and the events that tell it: the same for every API. Pure: time is an argument.

use std::{collections::VecDeque, time::Duration};

use turnkit_http::client::BearerToken;
use turnkit_wire::{
    Event, text,
    write::{self, Json, Part, TokenUsage, ToolCall, ToolStatus, TurnResult},
};

use super::{AgentError, code, failure, think::Think};
use crate::{
    ending::Ending,
    lenient::{Depth, Halves},
    millis,
};

/// An answer, as far as it has come.
pub(super) struct Answer {
    session: Option<String>,
    key: Option<BearerToken>,
    ready: VecDeque<Event>,
    parts: usize,
    /// The part of text or reasoning that the next delta may belong to.
    open: Option<(Kind, String)>,
    source: Source,
    think: Think,
    text_halves: Halves,
    reasoning_halves: Halves,
    calls: Vec<Call>,
    /// All text; none once it is longer than a `result` should carry.
    text: Option<String>,
    /// What that text takes in JSON, at most.
    text_size: usize,
    refusal: String,
    usage: Option<TokenUsage>,
    ending: Option<Ending>,
    /// When the reason of the end came, and whether something of the answer stood in its frame.
    ended_at: Option<(Duration, bool)>,
    /// Something of the answer stood in the frame that is being read.
    frame_said: bool,
    model: Option<String>,
    id: Option<String>,
    first_at: Option<Duration>,
    skipped: Skipped,
    is_over: bool,
}

/// The type of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the answer itself.
    Text,
    /// Of the thoughts before it.
    Reasoning,
}

/// Where the texts of an answer stand.
enum Source {
    /// Nothing has come.
    Unknown,
    /// In pieces, each of them new.
    Deltas,
    /// In messages, each of them the whole as of then.
    Messages(Messages),
}

/// What messages have told, and the one part that each kind has then.
#[derive(Default)]
struct Messages {
    text: String,
    reasoning: String,
    parts: [Option<String>; 2],
}

/// How the bytes of an answer stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// The server says that this is all: `[DONE]` and its like.
    Said,
    /// The body has ended, as HTTP ends one.
    Body,
    /// The connection broke.
    Broken,
    /// Nothing came any more behind a reason.
    Silent,
}

#[derive(Default)]
struct Call {
    part: String,
    index: u64,
    id: String,
    name: String,
    arguments: String,
    depth: Depth,
    halves: Halves,
}

/// A piece of a tool call.
#[derive(Clone, Copy, Default)]
pub(super) struct ToolPiece<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

/// What came and is nothing that this client knows.
#[derive(Default)]
struct Skipped {
    count: u64,
    /// The beginning of the first of it.
    first: String,
    /// What a frame said that was no answer and not clearly an error.
    words: String,
}

impl Answer {
    /// Of this session, and to requests with this key.
    pub(super) fn new(session: Option<String>, key: Option<BearerToken>) -> Self {
        Self {
            session,
            key,
            ready: VecDeque::new(),
            parts: 0,
            open: None,
            source: Source::Unknown,
            think: Think::default(),
            text_halves: Halves::default(),
            reasoning_halves: Halves::default(),
            calls: Vec::new(),
            text: Some(String::new()),
            text_size: 0,
            refusal: String::new(),
            usage: None,
            ending: None,
            ended_at: None,
            frame_said: false,
            model: None,
            id: None,
            first_at: None,
            skipped: Skipped::default(),
            is_over: false,
        }
    }

    /// Which model is asked. What a server calls it may be a path on its disk.
    pub(super) fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    /// The server's name for the answer: the first one that is not too long.
    pub(super) fn set_id(&mut self, id: &str) {
        if self.id.is_none() && !id.is_empty() && id.len() <= MAX_NAME {
            self.id = Some(id.to_owned());
        }
    }

    /// What the answer took. A server that tells it with every frame may forget it again.
    pub(super) fn set_usage(&mut self, usage: TokenUsage) {
        if self.usage.is_none() || usage != TokenUsage::new(0, 0) {
            self.usage = Some(usage);
        }
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Whether the last event was made.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Until when more is waited for, once a reason of the end has come: not long, unless the server has put text beside the
    /// reason, as some do with every piece.
    pub(super) fn deadline(&self, epilogue: Duration, idle: Duration) -> Option<Duration> {
        let (at, beside_text) = self.ended_at?;
        Some(at + if beside_text { idle } else { epilogue.min(idle) })
    }

    /// A new frame is about to be read.
    pub(super) fn begin_frame(&mut self) {
        self.frame_said = false;
    }

    /// Something of the answer has come: what was said about its end does not hold.
    fn goes_on(&mut self, at: Duration) {
        self.first_at.get_or_insert(at);
        if !self.frame_said {
            self.frame_said = true;
            self.ending = None;
            self.ended_at = None;
        }
    }

    /// More of a text.
    pub(super) fn delta(&mut self, kind: Kind, delta: &str, at: Duration) {
        if delta.is_empty() {
            return;
        }
        self.goes_on(at);
        self.source = Source::Deltas;
        self.say(kind, delta);
    }

    /// Whether the whole as of now, in a `message`, is what is told: only where no piece has come.
    pub(super) fn takes_messages(&self) -> bool {
        !matches!(self.source, Source::Deltas)
    }

    /// Whether messages were told, and no piece.
    pub(super) fn has_messages(&self) -> bool {
        matches!(self.source, Source::Messages(_))
    }

    /// A text, whole as of now. An empty one erases nothing.
    pub(super) fn message(&mut self, kind: Kind, whole: &str, at: Duration) {
        if whole.is_empty() || !self.takes_messages() {
            return;
        }
        if !self.has_messages() {
            self.source = Source::Messages(Messages::default());
        }
        let Source::Messages(messages) = &mut self.source else { return };
        let told = match kind {
            Kind::Text => &mut messages.text,
            Kind::Reasoning => &mut messages.reasoning,
        };
        if told == whole {
            return;
        }
        let before = std::mem::replace(told, whole.to_owned());
        self.goes_on(at);
        if let Some(new) = whole.strip_prefix(before.as_str()) {
            self.say(kind, new);
        } else {
            self.replace(kind, whole);
        }
    }

    /// What was told of this kind was not the beginning of what is told now.
    fn replace(&mut self, kind: Kind, whole: &str) {
        if kind == Kind::Reasoning {
            self.reasoning_halves = Halves::default();
            return self.say_joined(kind, whole, true);
        }
        self.text_halves = Halves::default();
        self.think = Think::default();
        self.text = Some(String::new());
        self.text_size = 0;
        let mut said = [String::new(), String::new()];
        let mut tell =
            |kind: Kind, piece: &str| said[usize::from(kind == Kind::Text)].push_str(piece);
        self.think.push(whole, &mut tell);
        let [thought, text] = said;
        for (kind, text) in [(Kind::Reasoning, thought), (Kind::Text, text)] {
            if !text.is_empty() {
                self.say_joined(kind, &text, true);
            }
        }
    }

    fn say(&mut self, kind: Kind, delta: &str) {
        if kind == Kind::Reasoning {
            return self.say_joined(kind, delta, false);
        }
        let mut think = std::mem::take(&mut self.think);
        think.push(delta, &mut |kind, piece| self.say_joined(kind, piece, false));
        self.think = think;
    }

    /// What is held because it could still have become something else.
    fn flush(&mut self) {
        let mut think = std::mem::take(&mut self.think);
        think.finish(&mut |kind, piece| self.say_joined(kind, piece, false));
        self.think = think;
        for (kind, rest) in
            [(Kind::Reasoning, self.reasoning_halves.rest()), (Kind::Text, self.text_halves.rest())]
        {
            self.tell(kind, rest, false);
        }
    }

    fn say_joined(&mut self, kind: Kind, delta: &str, is_whole: bool) {
        let halves = match kind {
            Kind::Text => &mut self.text_halves,
            Kind::Reasoning => &mut self.reasoning_halves,
        };
        let delta = halves.join(delta).into_owned();
        self.tell(kind, &delta, is_whole);
    }

    fn tell(&mut self, kind: Kind, text: &str, is_whole: bool) {
        if text.is_empty() {
            return;
        }
        let mut is_whole = is_whole;
        let mut rest = text;
        while !rest.is_empty() {
            // No piece is longer than an event may be.
            let (piece, behind) = rest.split_at(text::head(rest, MAX_PIECE).len());
            rest = behind;
            if kind == Kind::Text {
                self.keep(piece);
            }
            let of_message = match &self.source {
                Source::Messages(messages) => messages.parts[kind as usize].clone(),
                Source::Unknown | Source::Deltas => None,
            };
            let id = match (of_message, self.open.take()) {
                (Some(id), _) => id,
                (None, Some((open, id))) if open == kind => id,
                _ => self.new_part(),
            };
            if let Source::Messages(messages) = &mut self.source {
                messages.parts[kind as usize] = Some(id.clone());
            }
            let part = self.part(&id);
            let event = match (kind, std::mem::take(&mut is_whole)) {
                (Kind::Text, false) => part.text_delta(piece),
                (Kind::Text, true) => part.text(piece),
                (Kind::Reasoning, false) => part.reasoning_delta(piece),
                (Kind::Reasoning, true) => part.reasoning(piece),
            };
            self.open = Some((kind, id));
            self.ready.push_back(event);
        }
    }

    /// Keeps text for the `result`, as long as that stays small.
    fn keep(&mut self, delta: &str) {
        self.text_size += delta.bytes().map(escaped).sum::<usize>();
        let text = self.text.take();
        self.text = text.filter(|_| self.text_size <= FINAL_TEXT).map(|text| text + delta);
    }

    /// The model refuses, in these words.
    pub(super) fn refuse(&mut self, words: &str, at: Duration) {
        if words.is_empty() {
            return;
        }
        self.goes_on(at);
        if self.refusal.len() < MAX_REFUSAL {
            self.refusal.push_str(text::head(words, MAX_REFUSAL));
        }
    }

    /// Whether the model has refused.
    pub(super) fn has_refused(&self) -> bool {
        !self.refusal.is_empty()
    }

    /// A piece of a tool call.
    pub(super) fn call(&mut self, piece: ToolPiece<'_>, at: Duration) -> Result<(), AgentError> {
        self.goes_on(at);
        self.flush();
        self.open = None;
        let call = self.find_call(piece)?;
        let held: usize = self.calls.iter().map(|call| call.arguments.len()).sum();
        if held + piece.arguments.len() > ARGUMENTS {
            return Err(failure::protocol(format!(
                "has tool calls of more than {ARGUMENTS} bytes"
            )));
        }
        let delta = self.calls[call].learn(piece);
        self.tell_call(call, Some(&delta));
        Ok(())
    }

    /// A tool call of a message, whole as of now: the call of this number.
    pub(super) fn whole_call(
        &mut self,
        number: usize,
        piece: ToolPiece<'_>,
        at: Duration,
    ) -> Result<(), AgentError> {
        if number >= self.calls.len() {
            return self.call(ToolPiece { index: Some(number as u64), ..piece }, at);
        }
        let others = self.calls.iter().enumerate().filter(|(other, _)| *other != number);
        let held: usize = others.map(|(_, call)| call.arguments.len()).sum();
        if !piece.arguments.is_empty() && held + piece.arguments.len() <= ARGUMENTS {
            // The event behind the last one tells it.
            piece.arguments.clone_into(&mut self.calls[number].arguments);
        }
        Ok(())
    }

    fn tell_call(&mut self, call: usize, delta: Option<&str>) {
        let call = &self.calls[call];
        let (part, told) = (self.part(&call.part), call.told());
        let event = match delta {
            Some(delta) => part.tool_delta(&told, delta),
            None => part.tool(&told),
        };
        self.ready.push_back(event);
    }

    /// Which call a piece belongs to: that of its id, else the latest of its index, else the latest. A name begins a new call
    /// where the one that it would belong to has all of its arguments, or another id, or another name and arguments: some
    /// servers give the index 0 to all, some no id, and some a new id to every piece.
    fn find_call(&mut self, piece: ToolPiece<'_>) -> Result<usize, AgentError> {
        let by_id = self.calls.iter().rposition(|call| !piece.id.is_empty() && call.id == piece.id);
        let by_index = || match piece.index {
            Some(index) => self.calls.iter().rposition(|call| call.index == index),
            None if piece.id.is_empty() || piece.name.is_empty() => self.calls.len().checked_sub(1),
            None => None,
        };
        let found = by_id.or_else(by_index).filter(|at| {
            let call = &self.calls[*at];
            let is_other_id = !piece.id.is_empty() && !call.id.is_empty() && piece.id != call.id;
            let begins = |call: &Call| {
                let has_some = !call.arguments.trim_start().is_empty();
                let has_all =
                    call.arguments.trim_start().starts_with('{') && call.depth.is_closed();
                let has_more = !piece.arguments.trim().is_empty();
                let is_other = !call.name.is_empty() && call.name != piece.name;
                is_other_id || (has_all && has_more) || (has_some && is_other)
            };
            by_id.is_some() || piece.name.is_empty() || !begins(call)
        });
        if let Some(at) = found {
            return Ok(at);
        }
        if self.calls.len() == CALLS {
            return Err(failure::protocol(format!("has more than {CALLS} tool calls")));
        }
        let index = piece.index.unwrap_or(self.calls.len() as u64);
        let part = self.new_part();
        self.calls.push(Call { part, index, ..Call::default() });
        Ok(self.calls.len() - 1)
    }

    /// The server says why the answer ends. Of several reasons the worst one counts.
    pub(super) fn reason(&mut self, word: &str, at: Duration) {
        let ending = Ending::of(word).map(|ending| match ending {
            Ending::Failed(name) => Ending::Failed(text::excerpt(&name, MAX_NAME).into_owned()),
            good => good,
        });
        let Some(ending) = ending else { return };
        if self.ending.as_ref().is_none_or(|known| *known < ending) {
            self.ending = Some(ending);
        }
        let said = self.frame_said;
        match &mut self.ended_at {
            Some((_, false)) => {}
            Some((_, true)) if said => {}
            ended => *ended = Some((at, said)),
        }
    }

    /// Something came that is no part of an answer. `is_loss`: it may have been one, so that the user is told.
    pub(super) fn skip(&mut self, what: &[u8], is_loss: Option<&str>) {
        self.skipped.count += 1;
        if self.skipped.count == 1 {
            let begin = &what[..what.len().min(4 * MAX_TOLD)];
            let begin = self.keyless(String::from_utf8_lossy(begin).into_owned());
            let first = text::excerpt(begin.trim(), MAX_TOLD).into_owned();
            tracing::warn!(
                first,
                "an upstream sent something that is no part of an answer; it is skipped"
            );
            self.skipped.first = first;
        }
        if let Some(message) = is_loss {
            self.warn("upstream_skipped", message);
        }
    }

    /// What a frame said that was no answer: the words of a failure, where it comes to one.
    pub(super) fn overhear(&mut self, words: String) {
        if self.skipped.words.is_empty() {
            self.skipped.words = text::excerpt(&self.keyless(words), MAX_TOLD).into_owned();
        }
    }

    /// Tells the user of something that does not end the answer.
    pub(super) fn warn(&mut self, code: &str, message: &str) {
        self.ready.push_back(write::warning(
            &text::message(&self.keyless(message.to_owned())),
            Some(code),
        ));
    }

    /// There is no more. Tells what is known only now, or how the answer failed.
    pub(super) fn close(&mut self, close: Close, at: Duration) -> Result<(), AgentError> {
        if self.is_over {
            return Ok(());
        }
        self.is_over = true;
        self.flush();
        if !self.refusal.is_empty() {
            let words = self.keyless(self.refusal.clone());
            return Err(AgentError::new(
                code::REFUSED,
                format!("the model refused: {}", words.trim()),
            ));
        }
        let beside_text = self.ended_at.is_some_and(|(_, beside_text)| beside_text);
        let is_empty = self.parts == 0;
        match (&self.ending, close) {
            (Some(Ending::Failed(name)), _) => {
                let name = self.keyless(name.clone());
                let message =
                    format!("the upstream ended its answer with {name}{}", self.overheard());
                return Err(AgentError::new(code::UPSTREAM_ERROR, message));
            }
            (Some(ending), _)
                if is_empty && ending.finish_reason() == write::FinishReason::ContentFilter =>
            {
                let message = "the upstream's content filter withheld the answer";
                return Err(AgentError::new(code::CONTENT_FILTER, message));
            }
            (None, Close::Said) if is_empty && self.skipped.count > 0 => return Err(self.nothing()),
            (Some(Ending::Whole(_)), Close::Broken) if !beside_text => {}
            (Some(_), Close::Said | Close::Body | Close::Silent) | (None, Close::Said) => {}
            _ if is_empty && close == Close::Body && self.skipped.count > 0 => {
                return Err(self.nothing());
            }
            (_, Close::Broken) => {
                return Err(self.interrupted(
                    "the connection to the upstream broke in the middle of the answer",
                ));
            }
            (None, Close::Body | Close::Silent) => {
                return Err(self.interrupted("the upstream's answer stopped in the middle: neither a finish_reason nor [DONE] came"));
            }
        }
        for mut call in std::mem::take(&mut self.calls) {
            call.arguments.push_str(call.halves.rest());
            let told = call.told().raw(&call.arguments);
            // Arguments that are no JSON which can stand in an event stand in it as text alone.
            // None at all are those of a function that takes none.
            let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
            let input = Json::verify(arguments).ok();
            let event = self.part(&call.part).tool(&told.input(input.as_ref()));
            self.ready.push_back(event);
        }
        let result = self.result(at);
        self.ready.push_back(result);
        Ok(())
    }

    /// What is held is told behind a failure's back: it was said.
    pub(super) fn fail(&mut self, error: AgentError) -> AgentError {
        self.is_over = true;
        self.flush();
        error
    }

    fn interrupted(&self, message: &str) -> AgentError {
        AgentError::new(code::UPSTREAM_INTERRUPTED, format!("{message}{}", self.overheard()))
            .temporary()
    }

    fn overheard(&self) -> String {
        match self.skipped.words.as_str() {
            "" => String::new(),
            words => format!("; it had said: {words}"),
        }
    }

    /// Nothing of an answer came, and something else did.
    fn nothing(&self) -> AgentError {
        match self.skipped.words.as_str() {
            "" => failure::protocol(format!("is none. It begins with: {}", self.skipped.first)),
            words => AgentError::new(
                code::UPSTREAM_ERROR,
                format!("the upstream sent an error: {words}"),
            ),
        }
    }

    /// An error object in the middle of an answer, or instead of one.
    pub(super) fn error(&self, error: &serde_json::Value) -> AgentError {
        failure::of_object(error, self.key.as_ref())
    }

    fn keyless(&self, text: String) -> String {
        match &self.key {
            Some(key) => key.cut_from(text),
            None => text,
        }
    }

    fn result(&self, at: Duration) -> Event {
        let mut result = TurnResult::new()
            .finish_reason(self.ending.as_ref().map(Ending::finish_reason))
            .token_usage(self.usage)
            .total_ms(millis(at))
            .first_token_ms(self.first_at.map(millis));
        if let Some(text) = &self.text {
            result = result.final_text(text);
        }
        if let Some(model) = &self.model {
            result = result.model(model);
        }
        if let Some(session) = &self.session {
            result = result.session_id(session);
        }
        if let Some(id) = &self.id {
            result = result.trace_id(id);
        }
        result.event()
    }

    fn new_part(&mut self) -> String {
        self.parts += 1;
        format!("prt_{}", self.parts)
    }

    fn part<'a>(&'a self, id: &'a str) -> Part<'a> {
        let part = Part::new(id).message("msg_1");
        match &self.session {
            Some(session) => part.session(session),
            None => part,
        }
    }
}

impl Call {
    /// Takes a piece, and gives what is new of the arguments. The first id stays. A name may come in pieces too, before the
    /// arguments do; some servers repeat it with every piece.
    fn learn(&mut self, piece: ToolPiece<'_>) -> String {
        if self.id.is_empty() && piece.id.len() <= MAX_NAME {
            self.id.push_str(piece.id);
        }
        if self.name.is_empty() || (self.arguments.is_empty() && piece.name.starts_with(&self.name))
        {
            piece.name.clone_into(&mut self.name);
        } else if self.arguments.is_empty() {
            self.name.push_str(piece.name);
        }
        self.name.truncate(text::head(&self.name, MAX_NAME).len());
        let delta = self.halves.join(piece.arguments).into_owned();
        self.arguments.push_str(&delta);
        self.depth.go_on(delta.as_bytes());
        delta
    }

    /// Asked for, and run by nobody here.
    fn told(&self) -> ToolCall<'_> {
        let call = ToolCall::new(&self.name, ToolStatus::Pending);
        if self.id.is_empty() { call } else { call.call_id(&self.id) }
    }
}

/// How long a byte may become in a JSON string (RFC 8259, section 7).
fn escaped(byte: u8) -> usize {
    match byte {
        ..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    }
}

/// The longest text that a `result` repeats, in bytes of JSON: below an event's 1 MiB, with room for the rest.
const FINAL_TEXT: usize = 512 * 1024;

/// The longest text of one event, in bytes: below its 1 MiB though each of them is escaped.
const MAX_PIECE: usize = 128 * 1024;

/// The arguments of all tool calls, in bytes: twice in an event they stay below its 1 MiB.
const ARGUMENTS: usize = 256 * 1024;

const CALLS: usize = 128;

/// What is passed on of a name, an id or a reason.
const MAX_NAME: usize = 256;

/// What is kept of a refusal, in bytes.
const MAX_REFUSAL: usize = 4 * 1024;

/// What is told of something that is no answer, in characters.
const MAX_TOLD: usize = 300;

#[cfg(test)]
mod tests;
