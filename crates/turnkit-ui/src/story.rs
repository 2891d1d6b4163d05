//! A turn as a front end wants it told: parts that begin, grow and end, calls, questions, one end. Every rule about what a line
//! says beyond the lines before it lives here; the encoders only spell it.

mod names;
mod summary;
mod template;

use alloc::{
    borrow::Cow,
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use turnkit_wire::{
    Event,
    kind::Class,
    value::Value,
    view::{PartUpdate, Text, ToolCall},
    write::ToolStatus,
};

pub(crate) use turnkit_wire::interaction::Kind as QuestionKind;

pub(crate) use self::summary::{Failure, Started, Summary};
use self::{
    names::{Key, Names},
    template::Template,
};
use crate::told::{Digest, Joined, Told};

/// Parts, calls and questions that are told apart. What comes beyond them is told as what it is, an event of a part that is not
/// known: so a stream of countless tiny parts holds no memory.
const MAX_PARTS: usize = 16_384;

/// A longer name of a tool is left out.
const MAX_TOOL: usize = 1024;

/// Final texts that are compared with what was told; each takes the time of all parts.
const MAX_RESULTS: u32 = 64;

/// What is told next.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    /// First, and once.
    Started(&'a Started),
    /// What follows is not about the calls before it: a question stands between.
    Apart,
    Begins(Kind, &'a [u8]),
    /// More of the text, as it is spelt in JSON.
    Grows(Kind, &'a [u8], &'a [u8]),
    Ends(Kind, &'a [u8]),
    Call(&'a Call, CallStep<'a>),
    File {
        url: Text<'a>,
        media_type: Text<'a>,
        data: Value<'a>,
    },
    Source {
        id: &'a [u8],
        url: Text<'a>,
        title: Option<Text<'a>>,
        data: Value<'a>,
    },
    Asked(Question<'a>),
    Answered(Answer<'a>),
    /// The final text is another one than the parts say.
    Differs(&'a [u8]),
    /// An event that only its agent knows.
    Other {
        kind: &'a str,
        data: Value<'a>,
    },
    /// A part that only its agent knows.
    OtherPart {
        part_type: Option<Text<'a>>,
        data: Value<'a>,
    },
    Completed(&'a Summary),
    Failed(&'a Summary, Failure<'a>),
    /// The client has chunks that cannot be gone on from.
    Expired,
}

/// A text that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Reasoning,
}

/// The text that is open grows.
pub(crate) struct Growth<'s, 'e> {
    /// The execution's id.
    pub(crate) prefix: &'s [u8],
    pub(crate) kind: Kind,
    pub(crate) name: &'s [u8],
    pub(crate) delta: &'e [u8],
}

/// A step of a tool call.
#[derive(Clone, Copy)]
pub(crate) enum CallStep<'a> {
    Begins {
        title: Option<Text<'a>>,
    },
    /// A piece of the input, as it is spelt in JSON.
    Piece(&'a [u8]),
    /// The input, whole. `by_client`: a client is to run the tool.
    Input {
        json: &'a [u8],
        title: Option<Text<'a>>,
        by_client: bool,
    },
    /// No more pieces come, and no whole input either.
    InputEnds,
    Preliminary(&'a [u8]),
    /// `again`: another output than the one that was told.
    Output {
        json: &'a [u8],
        again: bool,
    },
    Fails {
        message: &'a [u8],
        again: bool,
    },
}

/// A tool call, as far as it was told.
pub(crate) struct Call {
    /// Its id in the chunks, as it is spelt in JSON.
    pub(crate) name: Box<[u8]>,
    /// The tool, as it is spelt in JSON.
    pub(crate) tool: Box<[u8]>,
    pieces: Pieces,
    input: Input,
    is_done: bool,
    /// The output or error that was told last.
    output: Digest,
    /// A question about it waits for its answer: a client's part has room for one.
    is_asked: bool,
    /// Which of the turn's steps it was told in.
    step: u32,
    place: usize,
}

/// The pieces of a call's input that were told.
enum Pieces {
    /// Some came before the tool had a name: none are told.
    Lost,
    Told(Told),
}

/// How far the input of a call was told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// It may still grow.
    Open,
    /// No more of it comes.
    Ended,
    /// It was told whole.
    Told,
}

/// An `interaction`.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) id: Text<'a>,
    pub(crate) kind: QuestionKind,
    /// The call that it is about.
    pub(crate) call: Option<&'a Call>,
    pub(crate) data: Value<'a>,
}

/// An `interaction.answered`.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) id: Text<'a>,
    pub(crate) kind: QuestionKind,
    pub(crate) call: Option<&'a Call>,
    pub(crate) outcome: Text<'a>,
    pub(crate) given: Option<Value<'a>>,
    pub(crate) data: Value<'a>,
}

/// What is known of a turn while it is told. Bounded: no text is kept.
#[derive(Default)]
pub(crate) struct Story {
    stage: Stage,
    started: Started,
    parts: Vec<Part>,
    index: BTreeMap<Key, usize>,
    /// By call id.
    calls: BTreeMap<Key, usize>,
    questions: BTreeMap<Key, Asked>,
    names: Names,
    open: Option<Open>,
    template: Template,
    /// How much has appeared that sets texts apart (PROTOCOL 2.3): tool parts, questions, what came of them, inputs.
    apart: u32,
    /// The calls whose input may still grow.
    open_calls: BTreeSet<usize>,
    /// How many final texts were compared.
    results: u32,
    step: u32,
    step_is_due: bool,
    summary: Summary,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Before,
    /// Nothing but the start was told.
    Begun,
    Told,
    Ended,
}

struct Part {
    state: State,
    /// How often it was begun.
    openings: u32,
    message: Digest,
    apart: u32,
}

enum State {
    Text(Kind, Told),
    /// Without a name of its tool there is no call yet.
    Tool {
        call: Option<Box<Call>>,
        lost_pieces: bool,
        has_appeared: bool,
    },
    /// A file or a source, as it was told.
    Other(Digest),
}

struct Open {
    part: usize,
    kind: Kind,
    name: Box<[u8]>,
}

struct Asked {
    kind: QuestionKind,
    call: Option<usize>,
    is_answered: bool,
}

/// Where steps go. The second is whether they are counted.
pub(crate) trait Sink: FnMut(Step<'_>, bool) {}

impl<F: FnMut(Step<'_>, bool)> Sink for F {}

impl Story {
    pub(crate) fn new(started: Started) -> Self {
        Self { started, ..Self::default() }
    }

    pub(crate) fn started(&self) -> &Started {
        &self.started
    }

    /// The execution's id, as the inside of its JSON string.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.started.prefix()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether the turn is told from the product's store.
    pub(crate) fn is_replay(&self) -> bool {
        self.summary.replayed
    }

    /// The call that the question of this id is about.
    pub(crate) fn call_of(&self, question: Text<'_>) -> Option<&Call> {
        let place = self.questions.get(&Key::of(QUESTION, Some(question)))?.call?;
        match &self.parts.get(place)?.state {
            State::Tool { call, .. } => call.as_deref(),
            _ => None,
        }
    }

    /// Whether the question of this id was told.
    pub(crate) fn has_asked(&self, question: Text<'_>) -> bool {
        self.questions.contains_key(&Key::of(QUESTION, Some(question)))
    }

    /// The short way: the text that grows, and by how much, if the line says no more than the one before it did.
    #[inline]
    pub(crate) fn grows<'e>(&mut self, event: &'e Event) -> Option<Growth<'_, 'e>> {
        let delta = self.template.read(event.as_line())?;
        let open = self.open.as_ref()?;
        if let State::Text(_, told) = &mut self.parts.get_mut(open.part)?.state {
            told.append(delta);
        }
        Some(Growth { prefix: self.started.prefix(), kind: open.kind, name: &open.name, delta })
    }

    /// Tells what `event` says. `is_pending`: an `interaction` that waits for its answer now. `resumes`: the client has chunks.
    pub(crate) fn read(
        &mut self,
        event: &Event,
        is_pending: bool,
        resumes: bool,
        sink: &mut impl Sink,
    ) {
        if self.is_ended() {
            return;
        }
        let class = event.class();
        if class == Class::RunStarted {
            return self.start(Value::of(event), resumes, sink);
        }
        if self.stage == Stage::Before {
            self.stage = Stage::Begun;
            sink(Step::Started(&self.started), true);
        }
        self.template.forget();
        match class {
            Class::Part => self.part(event, sink),
            Class::Result => {
                let data = Value::of(event);
                self.summary.read(data);
                if let Some(text) = data.get("finalText").and_then(Value::string) {
                    self.final_text(text.raw(), true, sink);
                }
            }
            Class::RunCompleted => {
                let data = Value::of(event);
                self.summary.replayed |=
                    data.get("replayed").and_then(Value::boolean) == Some(true);
                self.summary.is_over = true;
                if let Some(text) = data.get("finalText").and_then(Value::string) {
                    self.final_text(text.raw(), false, sink);
                }
                self.end_all(sink);
                self.stage = Stage::Ended;
                sink(Step::Completed(&self.summary), false);
            }
            Class::RunFailed => {
                self.summary.is_over = true;
                self.end_all(sink);
                self.stage = Stage::Ended;
                sink(Step::Failed(&self.summary, Failure::of(Value::of(event))), false);
            }
            // The line after it says the same (PROTOCOL 2.1, rule 4).
            Class::Error => {}
            _ => match event.kind() {
                "interaction" => {
                    self.apart += 1;
                    self.ask(event, is_pending, sink);
                }
                "interaction.answered" => {
                    self.apart += 1;
                    self.answer(event, sink);
                }
                kind @ ("input" | "input.taken") => {
                    self.apart += 1;
                    // What is said from here on is a part of its own.
                    if kind == "input.taken" {
                        self.close(sink);
                    }
                    self.tell(Step::Other { kind, data: Value::of(event) }, sink);
                }
                kind => self.tell(Step::Other { kind, data: Value::of(event) }, sink),
            },
        }
    }

    fn start(&mut self, data: Value<'_>, resumes: bool, sink: &mut impl Sink) {
        let is_replay = data.get("replayed").and_then(Value::boolean) == Some(true);
        if is_replay && (resumes || self.stage == Stage::Told) {
            // What the client has is void, and none of these clients can be told to forget it.
            self.stage = Stage::Ended;
            return sink(Step::Expired, false);
        }
        self.summary.replayed |= is_replay;
        if self.stage == Stage::Before {
            self.started.read(data);
            self.stage = Stage::Begun;
            sink(Step::Started(&self.started), !is_replay);
        }
    }

    fn part(&mut self, event: &Event, sink: &mut impl Sink) {
        let data = Value::of(event);
        let Some(update) = PartUpdate::of(event) else { return };
        let part_type = update.part_type();
        let kind = match part_type {
            Some(kind) if kind.is("text") => Kind::Text,
            Some(kind) if kind.is("reasoning") => Kind::Reasoning,
            Some(kind) if kind.is("tool") => return self.tool(&update, data, sink),
            Some(kind) if kind.is("file") || kind.is("source") => {
                return self.link(&update, data, sink);
            }
            _ => return self.tell(Step::OtherPart { part_type, data }, sink),
        };
        let key = Key::of(kind.tag(), update.part_id());
        let Some(part) =
            self.place_of(key, message_of(&update), || State::Text(kind, Told::default()))
        else {
            return self.tell(Step::OtherPart { part_type, data }, sink);
        };
        if let Some(delta) = update.delta() {
            self.grow(kind, part, update.part_id(), delta.raw(), sink);
            let open = self.open.as_ref().is_some_and(|open| open.part == part);
            if open && update.text().is_none() {
                self.template.learn(event.as_line(), delta.raw());
            }
        } else if let Some(text) = update.text().filter(|text| !text.is_empty()) {
            let State::Text(_, told) = &mut self.parts[part].state else { return };
            if let Some(rest) = told.rest_of(text.raw()) {
                return self.grow(kind, part, update.part_id(), &rest, sink);
            }
            // Another text in its place: it is told as one more part.
            *told = Told::default();
            if self.open.as_ref().is_some_and(|open| open.part == part) {
                self.close(sink);
            }
            self.grow(kind, part, update.part_id(), text.raw(), sink);
        }
    }

    fn grow(
        &mut self,
        kind: Kind,
        part: usize,
        id: Option<Text<'_>>,
        raw: &[u8],
        sink: &mut impl Sink,
    ) {
        if raw.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.part != part) {
            self.close(sink);
            let openings = &mut self.parts[part].openings;
            let name = self.names.give(id.map(|id| id.raw()).unwrap_or_default(), openings);
            self.tell(Step::Begins(kind, &name), sink);
            self.open = Some(Open { part, kind, name });
        }
        if let State::Text(_, told) = &mut self.parts[part].state {
            told.append(raw);
        }
        if let Some(open) = self.open.take() {
            self.tell(Step::Grows(kind, &open.name, raw), sink);
            self.open = Some(open);
        }
    }

    /// The final text as `raw` spells it: of the agent (`result`), or what the product made of it.
    fn final_text(&mut self, raw: &[u8], of_agent: bool, sink: &mut impl Sink) {
        let text = Told::of(raw);
        if text.is_blank() || self.results >= MAX_RESULTS {
            return;
        }
        self.results += 1;
        let (mut plain, mut lines, mut last) =
            (Joined::default(), Joined::default(), Joined::default());
        let mut before: Option<&Part> = None;
        for part in &self.parts {
            let State::Text(Kind::Text, told) = &part.state else { continue };
            if told.is_blank() {
                continue;
            }
            let apart = before
                .is_some_and(|before| before.message != part.message || before.apart != part.apart);
            plain.push(told, false);
            lines.push(told, apart);
            if apart {
                last = Joined::default();
            }
            last.push(told, false);
            before = Some(part);
        }
        if lines.is(&text) || of_agent && (plain.is(&text) || last.is(&text)) {
            return;
        }
        let rest = if lines.is_empty() {
            Some(raw)
        } else {
            lines.rest_of(raw, &text).or_else(|| plain.rest_of(raw, &text))
        };
        let Some(rest) = rest.filter(|_| self.parts.len() < MAX_PARTS) else {
            return self.tell(Step::Differs(raw), sink);
        };
        // It belongs to the text before it, if there is one.
        let place =
            before.map_or((Digest::default(), self.apart), |part| (part.message, part.apart));
        let (message, apart) = place;
        self.close(sink);
        let part = self.parts.len();
        self.parts.push(Part {
            state: State::Text(Kind::Text, Told::default()),
            openings: 0,
            message,
            apart,
        });
        let name = self.names.give(b"final", &mut self.parts[part].openings);
        self.tell(Step::Begins(Kind::Text, &name), sink);
        if let State::Text(_, told) = &mut self.parts[part].state {
            told.append(rest);
        }
        self.tell(Step::Grows(Kind::Text, &name, rest), sink);
        self.open = Some(Open { part, kind: Kind::Text, name });
        self.close(sink);
    }

    fn tool(&mut self, update: &PartUpdate<'_>, data: Value<'_>, sink: &mut impl Sink) {
        let Some(view) = ToolCall::of(update) else { return };
        let Some(place) = self.tool_part(update, &view) else {
            return self.tell(Step::OtherPart { part_type: update.part_type(), data }, sink);
        };
        let delta = update.delta().filter(|delta| !delta.is_empty());
        let name = view.tool().filter(|tool| !tool.is_empty());
        let is_over = matches!(view.status(), Some(ToolStatus::Completed | ToolStatus::Error));
        let State::Tool { call, lost_pieces, .. } = &mut self.parts[place].state else { return };
        if call.is_none() && name.is_none() && !is_over && view.input().is_none() {
            *lost_pieces |= delta.is_some();
            return;
        }
        let id = view.call_id().or_else(|| update.part_id());
        self.begin_call(place, id, name, view.title(), sink);
        let Some(mut call) = self.take_call(place) else { return };
        self.call(&mut call, &view, delta, sink);
        self.put_call(place, call);
    }

    /// What an event says of a call that has begun.
    fn call(
        &mut self,
        call: &mut Call,
        view: &ToolCall<'_>,
        delta: Option<Text<'_>>,
        sink: &mut impl Sink,
    ) {
        let status = view.status().unwrap_or(ToolStatus::Pending);
        // Clients find a call of an earlier step for its output only.
        let is_here = call.step == self.step;
        if let (Pieces::Told(told), Input::Open, true) = (&mut call.pieces, call.input, is_here) {
            let raw = view.raw().filter(|_| view.input().is_none());
            let piece = match (delta, raw) {
                (Some(delta), _) => Some(Cow::Borrowed(delta.raw())),
                (None, Some(raw)) => told.rest_of(raw.raw()),
                (None, None) => None,
            };
            if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                told.append(&piece);
                self.tell(Step::Call(call, CallStep::Piece(&piece)), sink);
            }
        }
        // An agent may say `{}` until it knows the input.
        let is_empty = |input: &Value<'_>| {
            let mut members = 0;
            input.members(|_, _| members += 1);
            input.is_null() || input.is_object() && members == 0
        };
        let input = view.input().filter(|input| status != ToolStatus::Pending || !is_empty(input));
        if let Some(input) = input.filter(|_| call.is_open() && is_here) {
            self.tell_input(call, input.json(), view.title(), false, sink);
        }
        let is_over = matches!(status, ToolStatus::Completed | ToolStatus::Error);
        let progress = view
            .output()
            .filter(|output| !output.is_null() && status == ToolStatus::Running && !call.is_done);
        let progress = progress.filter(|output| Digest::of(output.json()) != call.output);
        if call.is_open() && (is_over || progress.is_some()) {
            if call.has_pieces() || !is_here {
                self.end_input(call, sink);
            } else {
                self.tell_input(call, b"{}", view.title(), false, sink);
            }
        }
        match status {
            ToolStatus::Pending | ToolStatus::Running => {
                if let Some(output) = progress {
                    call.output = Digest::of(output.json());
                    self.tell(Step::Call(call, CallStep::Preliminary(output.json())), sink);
                }
            }
            ToolStatus::Completed => {
                let json = view.output().map_or(&b"null"[..], Value::json);
                self.tell_output(call, json, sink);
            }
            ToolStatus::Error => {
                let output = view.output().and_then(Value::string);
                let message =
                    view.error().or(output).map_or(&b"the tool failed"[..], |text| text.raw());
                self.tell_failure(call, message, sink);
            }
        }
    }

    /// A file or a source.
    fn link(&mut self, update: &PartUpdate<'_>, data: Value<'_>, sink: &mut impl Sink) {
        let (mut url, mut media_type, mut title) = (None, None, None);
        data.get("part").unwrap_or_default().members(|key, value| match &*key.to_str() {
            "url" => url = value.string(),
            "mediaType" => media_type = value.string(),
            "title" => title = value.string(),
            _ => {}
        });
        let part_type = update.part_type();
        let is_file = part_type.is_some_and(|kind| kind.is("file"));
        let key = Key::of(if is_file { FILE } else { SOURCE }, update.part_id());
        let place = self.place_of(key, message_of(update), || State::Other(Digest::default()));
        let (Some(url), Some(place)) = (url.filter(|_| !is_file || media_type.is_some()), place)
        else {
            return self.tell(Step::OtherPart { part_type, data }, sink);
        };
        let mut told = Digest::of(url.raw());
        told.push(title.or(media_type).map(|text| text.raw()).unwrap_or_default());
        let part = &mut self.parts[place];
        match &mut part.state {
            State::Other(before) if *before == told && part.openings > 0 => return,
            state => *state = State::Other(told),
        }
        let id = self
            .names
            .give(update.part_id().map(|id| id.raw()).unwrap_or_default(), &mut part.openings);
        match media_type.filter(|_| is_file) {
            Some(media_type) => self.tell(Step::File { url, media_type, data }, sink),
            None => self.tell(Step::Source { id: &id, url, title, data }, sink),
        }
    }

    fn ask(&mut self, event: &Event, is_pending: bool, sink: &mut impl Sink) {
        let data = Value::of(event);
        let (mut id, mut kind, mut call_id, mut tool, mut input) = (None, None, None, None, None);
        data.members(|key, value| match &*key.to_str() {
            "id" => id = value.string(),
            "kind" => kind = value.string().and_then(|kind| QuestionKind::parse(&kind.to_str())),
            "callId" => call_id = value.string(),
            "tool" => tool = value.string().filter(|tool| !tool.is_empty()),
            "input" => input = Some(value),
            _ => {}
        });
        let known = id.map(|id| Key::of(QUESTION, Some(id)));
        let is_new = known.is_some_and(|key| !self.questions.contains_key(&key));
        let (Some(id), Some(kind), Some(key)) =
            (id, kind, known.filter(|_| is_new && self.questions.len() < MAX_PARTS))
        else {
            return self.tell(Step::Other { kind: event.kind(), data }, sink);
        };
        self.close(sink);
        let place = match (call_id, kind) {
            (Some(call), _) => self.call_place(call),
            (None, QuestionKind::Tool) => self.call_place(id),
            (None, _) => None,
        };
        let place = place.filter(|&place| kind == QuestionKind::Tool || !self.is_asked(place));
        if let Some(place) = place {
            let own = call_id.is_none();
            if own {
                let name = alloc::format!("interaction:{}", id.to_str());
                self.begin_own_call(place, &name, tool, sink);
            } else {
                self.begin_call(place, call_id, tool, None, sink);
            }
            if let Some(mut call) = self.take_call(place) {
                let by_client = kind == QuestionKind::Tool && is_pending;
                // What a client is to run is told once more where it was taken for the agent's own.
                let must_say =
                    call.is_open() || kind == QuestionKind::Tool && call.input != Input::Told;
                if must_say {
                    let json = input.map_or(&b"{}"[..], Value::json);
                    if call.has_pieces() && input.is_none() {
                        if call.is_open() {
                            self.end_input(&mut call, sink);
                        }
                    } else {
                        self.tell_input(&mut call, json, None, by_client, sink);
                    }
                } else if kind == QuestionKind::Tool && call.step == self.step && !call.is_done {
                    let json = input.map_or(&b"{}"[..], Value::json);
                    self.tell(
                        Step::Call(&call, CallStep::Input { json, title: None, by_client }),
                        sink,
                    );
                }
                self.put_call(place, call);
            }
        }
        // Nothing stays open behind a question: what goes on after it goes on in another response.
        self.end_inputs(sink);
        self.questions.insert(key, Asked { kind, call: place, is_answered: false });
        let mut call = place.and_then(|place| self.take_call(place));
        self.tell(Step::Asked(Question { id, kind, call: call.as_deref(), data }), sink);
        if let Some(call) = &mut call {
            call.is_asked |= kind != QuestionKind::Tool;
        }
        if let (Some(place), Some(call)) = (place, call) {
            self.put_call(place, call);
        }
        self.step += 1;
        self.step_is_due = true;
    }

    fn answer(&mut self, event: &Event, sink: &mut impl Sink) {
        let data = Value::of(event);
        let (mut id, mut outcome, mut given) = (None, None, None);
        data.members(|key, value| match &*key.to_str() {
            "id" => id = value.string(),
            "outcome" => outcome = value.string(),
            "data" => given = Some(value),
            _ => {}
        });
        let asked = id.and_then(|id| self.questions.get_mut(&Key::of(QUESTION, Some(id))));
        let (Some(id), Some(outcome), Some(asked)) =
            (id, outcome, asked.filter(|asked| !asked.is_answered))
        else {
            return self.tell(Step::Other { kind: event.kind(), data }, sink);
        };
        asked.is_answered = true;
        let (kind, place) = (asked.kind, asked.call);
        self.close(sink);
        let mut call = place.and_then(|place| self.take_call(place));
        self.tell(
            Step::Answered(Answer { id, kind, call: call.as_deref(), outcome, given, data }),
            sink,
        );
        match (&mut call, kind) {
            (Some(call), QuestionKind::Tool) if outcome.is("accepted") => {
                self.tell_output(call, given.map_or(&b"null"[..], Value::json), sink);
            }
            (Some(call), QuestionKind::Tool) => self.tell_failure(call, outcome.raw(), sink),
            (Some(call), _) => call.is_asked = false,
            (None, _) => {}
        }
        if let (Some(place), Some(call)) = (place, call) {
            self.put_call(place, call);
        }
    }

    fn tell_input(
        &mut self,
        call: &mut Call,
        json: &[u8],
        title: Option<Text<'_>>,
        by_client: bool,
        sink: &mut impl Sink,
    ) {
        self.tell(Step::Call(call, CallStep::Input { json, title, by_client }), sink);
        call.input = Input::Told;
        self.open_calls.remove(&call.place);
    }

    fn end_input(&mut self, call: &mut Call, sink: &mut impl Sink) {
        self.tell(Step::Call(call, CallStep::InputEnds), sink);
        call.input = Input::Ended;
        self.open_calls.remove(&call.place);
    }

    fn tell_output(&mut self, call: &mut Call, json: &[u8], sink: &mut impl Sink) {
        let again = call.is_done;
        if !again || call.output != Digest::of(json) {
            call.is_done = true;
            call.output = Digest::of(json);
            self.tell(Step::Call(call, CallStep::Output { json, again }), sink);
        }
    }

    fn tell_failure(&mut self, call: &mut Call, message: &[u8], sink: &mut impl Sink) {
        let again = call.is_done;
        if !again || call.output != Digest::of(message) {
            call.is_done = true;
            call.output = Digest::of(message);
            self.tell(Step::Call(call, CallStep::Fails { message, again }), sink);
        }
    }

    fn tool_part(&mut self, update: &PartUpdate<'_>, view: &ToolCall<'_>) -> Option<usize> {
        let call_key = view.call_id().map(|id| Key::of(CALL, Some(id)));
        let known = call_key.and_then(|key| self.calls.get(&key).copied());
        let place = if let Some(place) = known {
            place
        } else {
            let key = Key::of(TOOL, update.part_id().or(view.call_id()));
            self.place_of(key, message_of(update), State::tool)?
        };
        if let State::Tool { has_appeared, .. } = &mut self.parts[place].state {
            self.apart += u32::from(!core::mem::replace(has_appeared, true));
        }
        if let Some(key) = call_key {
            self.calls.entry(key).or_insert(place);
        }
        Some(place)
    }

    /// The place of the part, which is given one when it is new. `None` where there are too many.
    fn place_of(
        &mut self,
        key: Key,
        message: Digest,
        state: impl FnOnce() -> State,
    ) -> Option<usize> {
        if let Some(&place) = self.index.get(&key) {
            return Some(place);
        }
        if self.parts.len() >= MAX_PARTS {
            return None;
        }
        self.parts.push(Part { state: state(), openings: 0, message, apart: self.apart });
        self.index.insert(key, self.parts.len() - 1);
        Some(self.parts.len() - 1)
    }

    /// The place of the call of this id, which is given one when it is new.
    fn call_place(&mut self, id: Text<'_>) -> Option<usize> {
        let key = Key::of(CALL, Some(id));
        let place = match self.calls.get(&key) {
            Some(&place) => place,
            None => self.place_of(Key::of(TOOL, Some(id)), Digest::default(), State::tool)?,
        };
        self.calls.insert(key, place);
        Some(place)
    }

    fn begin_call(
        &mut self,
        place: usize,
        id: Option<Text<'_>>,
        tool: Option<Text<'_>>,
        title: Option<Text<'_>>,
        sink: &mut impl Sink,
    ) {
        if self.lacks_call(place) {
            let id = id.map(|id| id.raw()).unwrap_or_default();
            self.new_call(place, id, tool, title, sink);
        }
    }

    fn begin_own_call(
        &mut self,
        place: usize,
        name: &str,
        tool: Option<Text<'_>>,
        sink: &mut impl Sink,
    ) {
        if self.lacks_call(place) {
            let mut id = Vec::new();
            crate::json::spell(name, &mut id);
            self.new_call(place, &id, tool, None, sink);
        }
    }

    fn is_asked(&self, place: usize) -> bool {
        matches!(&self.parts[place].state, State::Tool { call: Some(call), .. } if call.is_asked)
    }

    fn lacks_call(&self, place: usize) -> bool {
        matches!(self.parts[place].state, State::Tool { call: None, .. })
    }

    fn new_call(
        &mut self,
        place: usize,
        id: &[u8],
        tool: Option<Text<'_>>,
        title: Option<Text<'_>>,
        sink: &mut impl Sink,
    ) {
        self.close(sink);
        let part = &mut self.parts[place];
        let State::Tool { lost_pieces, .. } = part.state else { return };
        let call = Box::new(Call {
            name: self.names.give(id, &mut part.openings),
            tool: tool
                .filter(|tool| tool.raw().len() <= MAX_TOOL)
                .map_or(&b"tool"[..], |tool| tool.raw())
                .into(),
            pieces: if lost_pieces { Pieces::Lost } else { Pieces::Told(Told::default()) },
            input: Input::Open,
            is_done: false,
            output: Digest::default(),
            is_asked: false,
            step: self.step,
            place,
        });
        self.open_calls.insert(place);
        self.tell(Step::Call(&call, CallStep::Begins { title }), sink);
        self.put_call(place, call);
    }

    fn take_call(&mut self, place: usize) -> Option<Box<Call>> {
        match &mut self.parts[place].state {
            State::Tool { call, .. } => call.take(),
            _ => None,
        }
    }

    fn put_call(&mut self, place: usize, told: Box<Call>) {
        if let State::Tool { call, .. } = &mut self.parts[place].state {
            *call = Some(told);
        }
    }

    fn close(&mut self, sink: &mut impl Sink) {
        if let Some(open) = self.open.take() {
            self.tell(Step::Ends(open.kind, &open.name), sink);
        }
    }

    fn end_inputs(&mut self, sink: &mut impl Sink) {
        for place in core::mem::take(&mut self.open_calls) {
            if let Some(mut call) = self.take_call(place) {
                self.end_input(&mut call, sink);
                self.put_call(place, call);
            }
        }
    }

    fn end_all(&mut self, sink: &mut impl Sink) {
        self.close(sink);
        self.end_inputs(sink);
    }

    fn tell(&mut self, step: Step<'_>, sink: &mut impl Sink) {
        let counted = !self.summary.is_over && !self.summary.replayed;
        if self.stage == Stage::Begun {
            self.stage = Stage::Told;
        }
        if core::mem::take(&mut self.step_is_due) {
            sink(Step::Apart, counted);
        }
        sink(step, counted);
    }
}

impl Call {
    /// Whether pieces of its input were told.
    pub(crate) fn has_pieces(&self) -> bool {
        matches!(&self.pieces, Pieces::Told(told) if !told.is_empty())
    }

    /// Whether its input may still grow.
    pub(crate) fn is_open(&self) -> bool {
        self.input == Input::Open
    }
}

/// What ids are told apart by, beside themselves.
const TOOL: u8 = b'c';
const CALL: u8 = b'i';
const FILE: u8 = b'f';
const SOURCE: u8 = b's';
const QUESTION: u8 = b'q';

impl Kind {
    fn tag(self) -> u8 {
        match self {
            Self::Text => b't',
            Self::Reasoning => b'r',
        }
    }
}

impl State {
    fn tool() -> Self {
        Self::Tool { call: None, lost_pieces: false, has_appeared: false }
    }
}

fn message_of(update: &PartUpdate<'_>) -> Digest {
    update.message_id().map_or_else(Digest::default, |id| Digest::of(id.to_str().as_bytes()))
}
