//! Assembles an answer out of its events (PROTOCOL 2.3).

use std::{borrow::Cow, collections::HashMap, mem, sync::Arc};

use turnkit_wire::{
    Event,
    interaction::is_id,
    text,
    value::Value,
    view::{PartUpdate, ToolCall},
    write::{self, Json, Part as PartWriter, ToolStatus},
};

use super::{
    Answer, RawText, Summary,
    part::{AnswerPart, PartKind},
};
use crate::{TurnError, code};

/// Part ids and bookkeeping up to this many bytes are free. Beyond it they count as text, so that a stream of countless tiny
/// parts is bounded as well.
const FREE_INDEX: usize = 16 * 1024;

/// So many inputs are remembered by their ids where there is no room for them.
const MAX_INPUTS: usize = 1024;

/// What the bookkeeping of one part takes besides its id: its entry in the list and in the index.
const PART_OVERHEAD: usize = 128;

/// The answer so far: at most `max_text` bytes of text, and `max_parts` of everything else.
pub(super) struct Assembly {
    max_text: usize,
    max_parts: usize,
    /// The whole text, as a `result` or `Done` gave it, where the text parts say something else. They are empty then.
    answer: Option<Text>,
    /// A client has not drawn that text: `Done` gave it.
    unseen: bool,
    /// In order of first appearance.
    parts: Vec<Part>,
    /// Places by kind and id.
    index: HashMap<Box<str>, usize>,
    /// Where keys of `index` are put together.
    key: String,
    index_bytes: usize,
    /// Bytes of text in text parts.
    held: usize,
    /// Bytes of all other parts, of their ids and of their bookkeeping.
    held_beside: usize,
    /// Whether there was no room even to begin a text part. Then none is begun after it: the text has no holes.
    lost_part: bool,
    saw_part: bool,
    echo: Echo,
    /// Inputs that the agent has not taken yet.
    inputs: Vec<(Box<str>, AnswerPart)>,
    inputs_seen: usize,
    /// The place behind the last input that it has taken: what a part says from then on is another part.
    taken_until: usize,
}

/// A text that may have been cut at the limit.
#[derive(Default)]
struct Text {
    text: String,
    cut: bool,
}

struct Part {
    kind: PartKind,
    id: Box<str>,
    message: Option<Arc<str>>,
    /// The text of a text or of reasoning; of all others the JSON of the part as it is kept, or nothing.
    content: Text,
    /// The pieces of a tool's input, where the call does not tell it otherwise.
    pieces: Text,
    /// It is the user's prompt and counts in no text.
    is_echo: bool,
    /// The place of the part that it goes on from, behind an input.
    follows: Option<usize>,
}

/// Watches for the user's prompt as the first text part (PROTOCOL 4.1).
#[derive(Default)]
struct Echo {
    prompt: Option<Box<str>>,
    /// The place of the first text part, and its message.
    first: Option<(usize, Box<str>)>,
}

impl Assembly {
    pub(super) fn new(max_text: usize, max_parts: usize, prompt: Option<&str>) -> Self {
        Self {
            max_text,
            max_parts,
            answer: None,
            unseen: false,
            parts: Vec::new(),
            index: HashMap::new(),
            key: String::new(),
            index_bytes: 0,
            held: 0,
            held_beside: 0,
            lost_part: false,
            saw_part: false,
            echo: Echo { prompt: prompt.map(Into::into), first: None },
            inputs: Vec::new(),
            inputs_seen: 0,
            taken_until: 0,
        }
    }

    /// A `message.part.updated` of `message` came, whatever its part is.
    pub(super) fn see_part(&mut self, message: Option<&str>) {
        self.saw_part = true;
        if let Some((first, prompt)) = self.echo.is_over(message) {
            let first = &mut self.parts[first];
            first.is_echo = first.content.echoes(&prompt);
            if first.is_echo {
                self.held -= first.content.clear(0);
            }
        }
    }

    /// The place of the part `id`, which is given one when it is new. None where there is no room for it.
    pub(super) fn part(
        &mut self,
        kind: PartKind,
        id: &str,
        message: Option<&str>,
    ) -> Option<usize> {
        self.key.clear();
        self.key.push_str(kind.as_str());
        self.key.push(' ');
        self.key.push_str(id);
        let known = self.index.get(&*self.key).copied();
        if let Some(place) = known
            && (place >= self.taken_until || !matches!(kind, PartKind::Text | PartKind::Reasoning))
        {
            return Some(place);
        }
        let former = std::iter::successors(known, |&place| self.parts[place].follows).count();
        let id: Cow<'_, str> =
            if former == 0 { id.into() } else { format!("{id}#{}", former + 1).into() };
        let bytes = PART_OVERHEAD + id.len();
        if kind == PartKind::Text {
            let index_bytes = self.index_bytes + bytes;
            self.lost_part |= self.held + index_bytes.saturating_sub(FREE_INDEX) > self.max_text;
            if self.lost_part {
                return None;
            }
            self.index_bytes = index_bytes;
            self.echo.begins(self.parts.len(), message);
        } else {
            self.reserve_beside(bytes)?;
        }
        self.index.insert(self.key.as_str().into(), self.parts.len());
        self.begin(kind, &id, message);
        let place = self.parts.len() - 1;
        self.parts[place].follows = known;
        Some(place)
    }

    fn begin(&mut self, kind: PartKind, id: &str, message: Option<&str>) {
        let last = self.parts.last().and_then(|part| part.message.clone());
        let message = match (message, last) {
            (Some(message), Some(last)) if *message == *last => Some(last),
            (message, _) => message.map(Arc::from),
        };
        let (content, pieces) = (Text::default(), Text::default());
        let (id, is_echo, follows) = (id.into(), false, None);
        self.parts.push(Part { kind, id, message, content, pieces, is_echo, follows });
    }

    fn reserve_beside(&mut self, bytes: usize) -> Option<()> {
        let held = self.held_beside + bytes;
        (held <= self.max_parts).then(|| self.held_beside = held)
    }

    #[inline]
    pub(super) fn append(&mut self, place: usize, delta: &str) {
        let (text, beside) = (self.room(), self.room_beside());
        let part = &mut self.parts[place];
        if part.kind != PartKind::Text {
            self.held_beside += part.content.append(delta, beside, self.max_parts);
        } else if !part.is_echo && self.answer.is_none() {
            self.held += part.content.append(delta, text, self.max_text);
        }
    }

    /// Puts `text` in the place of what a text or a reasoning had. An empty one replaces nothing. Of a part that goes on behind an
    /// input the text is the whole: what stands before the input stays where it says the same, and gives way otherwise.
    pub(super) fn replace(&mut self, place: usize, mut text: &str) {
        if text.is_empty() {
            return;
        }
        let former = |place: usize| self.parts[place].follows;
        let former: Vec<usize> = std::iter::successors(former(place), |&at| former(at)).collect();
        let told = former.iter().rev().map(|&at| &*self.parts[at].content.text);
        match text.strip_prefix(&*told.collect::<String>()) {
            Some(rest) => text = rest,
            None => former.into_iter().for_each(|at| self.clear(at, 0)),
        }
        self.clear(place, text.len());
        self.append(place, text);
    }

    /// Puts `character` in the place of the last one that the part has.
    pub(super) fn replace_last(&mut self, place: usize, character: char) {
        let part = &mut self.parts[place];
        let last = part.content.text.pop().map_or(0, char::len_utf8);
        *if part.kind == PartKind::Text { &mut self.held } else { &mut self.held_beside } -= last;
        self.append(place, character.encode_utf8(&mut [0; 4]));
    }

    /// Where the part's text ends. None where it was cut.
    pub(super) fn end(&self, place: usize) -> Option<usize> {
        let text = &self.parts[place].content;
        (!text.cut).then_some(text.text.len())
    }

    /// Keeps a part that is no text as it stands in an event, or as much of it as there is room for. A `piece` of a tool's input
    /// counts where the call itself does not tell it.
    pub(super) fn keep(
        &mut self,
        place: usize,
        update: &PartUpdate<'_>,
        call: Option<&ToolCall<'_>>,
        piece: Option<&str>,
    ) {
        let json = update.part_json().unwrap_or("{}");
        self.clear(place, json.len());
        let room = self.room_beside();
        let part = &mut self.parts[place];
        if json.len() <= room {
            self.held_beside += part.content.append(json, room, self.max_parts);
        } else {
            let writer = PartWriter::new(&part.id).cut(true);
            let writer = part.message.as_deref().map_or(writer, |id| writer.message(id));
            let kept = shortened(&writer, part.kind, call, room);
            if kept.as_json().len() <= room {
                self.held_beside += part.content.append(kept.as_json(), room, self.max_parts);
            }
        }
        let tells_input = call.is_some_and(|call| call.input().is_some() || call.raw().is_some());
        if tells_input {
            self.held_beside -= part.pieces.clear(0);
        } else if let Some(piece) = piece {
            let room = self.max_parts.saturating_sub(self.held_beside);
            self.held_beside += part.pieces.append(piece, room, self.max_parts);
        }
    }

    /// A `warning`. One that there is no room for is left out.
    pub(super) fn warn(&mut self, message: &str, code: Option<&str>) {
        let warning = AnswerPart::warning(message, code);
        self.tell(&warning);
    }

    /// A part that is an event of its own, whole. What there is no room for is left out.
    pub(super) fn tell(&mut self, part: &AnswerPart) {
        if self.reserve_beside(PART_OVERHEAD + part.as_json().len()).is_some() {
            self.begin_whole(part);
        }
    }

    fn begin_whole(&mut self, part: &AnswerPart) {
        self.begin(part.kind(), "", None);
        if let Some(begun) = self.parts.last_mut() {
            begun.content.text.push_str(part.as_json());
        }
    }

    /// An `input`. One that there is no room for keeps its id: whoever saves the answer must know which ones the agent has had.
    pub(super) fn input(&mut self, id: &str, event: &Event) {
        let Some(part) = AnswerPart::of_event(PartKind::Input, event) else {
            return;
        };
        self.inputs_seen += 1;
        let has_room = self.reserve_beside(PART_OVERHEAD + part.as_json().len()).is_some();
        let part = if has_room {
            part
        } else if self.inputs_seen <= MAX_INPUTS && is_id(id) {
            let json = format!(r#"{{"type":"input","id":"{id}","cut":true}}"#);
            AnswerPart::verbatim(PartKind::Input, &json)
        } else {
            return;
        };
        self.inputs.push((id.into(), part));
    }

    /// The agent has an input: it stands here, and what comes is another half of the answer. Says whether there is one of this id.
    pub(super) fn taken(&mut self, id: &str) -> bool {
        let Some(place) = self.inputs.iter().position(|(input, _)| **input == *id) else {
            return false;
        };
        let (_, part) = self.inputs.remove(place);
        self.begin_whole(&part);
        self.taken_until = self.parts.len();
        true
    }

    /// The whole text, as a `result` (which clients see) or `Done` tells it, unless it is blank or says nothing new.
    pub(super) fn answer(&mut self, text: String, is_seen: bool) {
        if text.trim().is_empty() || self.is_known(&text) {
            return;
        }
        for part in self.parts.iter_mut().filter(|part| part.kind == PartKind::Text) {
            part.content = Text::default();
        }
        self.held = 0;
        self.unseen = !is_seen;
        self.answer = Some(Text::within(text, self.max_text));
    }

    /// Whether `text` says nothing new (PROTOCOL 2.3).
    fn is_known(&self, text: &str) -> bool {
        let text = text.trim();
        if let Some(answer) = &self.answer {
            return !answer.cut && answer.text.trim() == text;
        }
        let said = || self.texts().filter(|part| !part.is_echo && !part.is_blank());
        // What was said ends with its last part, so most other texts are told from it without a copy.
        let last = said().next_back().map(|part| part.content.text.trim());
        if self.lost_part || !last.is_some_and(|last| text.ends_with(last)) {
            return false;
        }
        let joined = Joined::of(&self.parts);
        let plain = || said().map(|part| &*part.content.text).collect::<String>();
        if joined.is_cut {
            return false;
        }
        joined.text.trim() == text
            || joined.text[joined.last..].trim() == text
            || plain().trim() == text
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Whether the text can be an answer.
    pub(super) fn check(&self) -> Result<(), TurnError> {
        let cut = match &self.answer {
            Some(answer) => answer.cut,
            None => self.lost_part || self.texts().any(|part| part.content.cut),
        };
        if cut {
            let message = format!("the answer's text is over {} bytes", self.max_text);
            return Err(TurnError::produce(code::TEXT_TOO_LARGE, &message));
        }
        if self.answer.is_none() && !self.saw_part {
            return Err(TurnError::produce(code::EMPTY_ANSWER, "the answer is empty"));
        }
        Ok(())
    }

    fn texts(&self) -> impl DoubleEndedIterator<Item = &Part> {
        self.parts.iter().filter(|part| part.kind == PartKind::Text)
    }

    /// The answer, whole or partial. Leaves nothing behind.
    pub(super) fn take(&mut self, summary: Summary) -> RawText {
        self.index = HashMap::new();
        let mut parts = mem::take(&mut self.parts);
        let answer = self.answer.take();
        let joined = Joined::of(&parts);
        let is_kept = |(place, part): &(usize, &Part)| {
            part.kind != PartKind::Text || answer.is_some() || joined.has(*place, part)
        };
        let kept = parts.iter().enumerate().filter(is_kept);
        let kept: Vec<_> = kept.filter_map(|(_, part)| part.kept()).collect();
        let text = match (joined.text, joined.end) {
            (Cow::Owned(text), _) => text,
            // It is one part's.
            (Cow::Borrowed(_), Some(end)) => {
                let mut text = mem::take(&mut parts[end].content.text);
                text.shrink_to_fit();
                text
            }
            (Cow::Borrowed(_), None) => String::new(),
        };
        let assembled = Answer::of_parts(text, kept, summary);
        match answer {
            None => RawText { answer: assembled, unseen: false },
            // The places of the text parts are known; their texts were dropped when this one came.
            Some(text) => RawText { answer: assembled.with_text(text.text), unseen: self.unseen },
        }
    }

    /// How much more text fits.
    fn room(&self) -> usize {
        let counted = self.held + self.index_bytes.saturating_sub(FREE_INDEX);
        self.max_text.saturating_sub(counted)
    }

    /// How much more fits of everything else.
    fn room_beside(&self) -> usize {
        self.max_parts.saturating_sub(self.held_beside)
    }

    fn clear(&mut self, place: usize, length: usize) {
        let part = &mut self.parts[place];
        let held = if part.kind == PartKind::Text { &mut self.held } else { &mut self.held_beside };
        *held -= part.content.clear(length);
    }
}

impl Part {
    fn writer(&self) -> PartWriter<'_> {
        let writer = PartWriter::new(&self.id).cut(self.content.cut || self.pieces.cut);
        self.message.as_deref().map_or(writer, |message| writer.message(message))
    }

    /// The part as it is kept; none where there was no room for anything of it.
    fn kept(&self) -> Option<AnswerPart> {
        let content = &*self.content.text;
        match self.kind {
            PartKind::Text if self.is_echo => None,
            PartKind::Text => Some(AnswerPart::text(&self.writer(), content)),
            PartKind::Reasoning if content.trim().is_empty() => None,
            PartKind::Reasoning => {
                Some(AnswerPart::of(self.kind, &self.writer().reasoning(content)))
            }
            _ if content.is_empty() => None,
            PartKind::Tool if !self.pieces.text.is_empty() => {
                let event = write::part(&Json::verify(content).ok()?);
                let call = ToolCall::of(&PartUpdate::of(&event)?)?;
                let written =
                    rewrite(&call, |call| self.writer().tool(&call.raw(&self.pieces.text)));
                Some(AnswerPart::of(self.kind, &written))
            }
            _ => Some(AnswerPart::verbatim(self.kind, content)),
        }
    }
}

/// As much as there is room for of a part that is too large: of a tool call its input, where that fits, and the beginning of its
/// output.
fn shortened(
    writer: &PartWriter<'_>,
    kind: PartKind,
    call: Option<&ToolCall<'_>>,
    room: usize,
) -> AnswerPart {
    let Some(call) = call else {
        return AnswerPart::of(kind, &writer.bare(kind.as_str()));
    };
    let input = call.input().map(spelt).filter(|input| input.len() <= room / 2);
    let input = input.and_then(|input| Json::verify(input).ok());
    let without = rewrite(call, |call| writer.tool(&call.input(&input)));
    let output = call.output().and_then(|output| {
        let text = output.string().map_or(spelt(output).into(), |text| text.to_str());
        // In JSON a character may take six times its bytes.
        let room = room.saturating_sub(without.line().len()) / 6;
        Json::of(text::head(&text, room)).ok()
    });
    let event = rewrite(call, |call| writer.tool(&call.input(&input).output(&output)));
    AnswerPart::of(kind, &event)
}

/// A value as its JSON stands in an event, which is valid UTF-8.
fn spelt(value: Value<'_>) -> &str {
    std::str::from_utf8(value.json()).unwrap_or_default()
}

/// A call as it was told, but for its input and its output.
fn rewrite<T>(call: &ToolCall<'_>, then: impl FnOnce(write::ToolCall<'_>) -> T) -> T {
    let texts = [call.tool(), call.call_id(), call.error(), call.title()];
    let [tool, id, error, title] = texts.map(|text| text.map(|text| text.to_str()));
    let status = call.status().unwrap_or(ToolStatus::Running);
    let mut written = write::ToolCall::new(tool.as_deref().unwrap_or_default(), status);
    if let Some(id) = &id {
        written = written.call_id(id);
    }
    if let Some(error) = &error {
        written = written.error(error);
    }
    if let Some(title) = &title {
        written = written.title(title);
    }
    then(written)
}

impl Text {
    fn within(mut text: String, limit: usize) -> Self {
        let cut = text.len() > limit;
        text.truncate(text::head(&text, limit).len());
        if cut {
            text.shrink_to_fit();
        }
        Self { text, cut }
    }

    /// Whether it is `prompt`, as far as it is held.
    fn echoes(&self, prompt: &str) -> bool {
        let rest = prompt.strip_prefix(self.text.as_str());
        rest.is_some_and(|rest| rest.is_empty() != self.cut)
    }

    /// Appends as much of `delta` as there is room for, and says how much that was. After a cut nothing is appended: the text
    /// has no holes.
    #[inline]
    fn append(&mut self, delta: &str, room: usize, limit: usize) -> usize {
        if self.cut {
            return 0;
        }
        self.cut = delta.len() > room;
        let delta = if self.cut { text::head(delta, room) } else { delta };
        if self.text.capacity() - self.text.len() < delta.len() {
            self.grow(delta.len(), limit);
        }
        self.text.push_str(delta);
        delta.len()
    }

    /// Makes way for a text of `length` bytes, and says how much there was. Keeps no more memory than a text that long may have
    /// from growing: the limit counts text.
    fn clear(&mut self, length: usize) -> usize {
        let former = self.text.len();
        self.text.clear();
        self.text.shrink_to(2 * length);
        self.cut = false;
        former
    }

    /// Doubles, but never beyond the limit.
    fn grow(&mut self, additional: usize, limit: usize) {
        let doubled = (self.text.capacity() * 2).min(limit);
        let needed = self.text.len() + additional;
        self.text.reserve_exact(doubled.max(needed) - self.text.len());
    }
}

impl Echo {
    fn begins(&mut self, place: usize, message: Option<&str>) {
        if self.prompt.is_some() && self.first.is_none() {
            self.first = message.map(|message| (place, message.into()));
        }
    }

    /// The prompt and the place of what may repeat it, once: when the message of the first text part is followed by another one.
    fn is_over(&mut self, message: Option<&str>) -> Option<(usize, Box<str>)> {
        let (place, first) = self.first.as_ref()?;
        let another = message.is_some_and(|message| *message != **first);
        let place = *place;
        another.then(|| self.prompt.take()).flatten().map(|prompt| (place, prompt))
    }
}

/// The joined text of an answer's text parts, up to where one was first cut (PROTOCOL 2.3).
pub(super) struct Joined<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where the text begins that follows the last blank line between parts.
    last: usize,
    /// The place of the last part in it.
    end: Option<usize>,
    is_cut: bool,
}

/// A part, as far as joining is about it.
pub(super) struct Piece<'a> {
    pub(super) kind: PartKind,
    pub(super) text: &'a str,
    pub(super) message: Option<&'a str>,
    pub(super) is_cut: bool,
    /// It is the user's prompt.
    pub(super) is_echo: bool,
}

impl<'a> Joined<'a> {
    fn of(parts: &'a [Part]) -> Self {
        Self::of_pieces(parts.iter().map(|part| Piece {
            kind: part.kind,
            text: &part.content.text,
            message: part.message.as_deref(),
            is_cut: part.content.cut,
            is_echo: part.is_echo,
        }))
    }

    pub(super) fn of_pieces(pieces: impl Iterator<Item = Piece<'a>>) -> Self {
        let mut joined = Self { text: Cow::Borrowed(""), last: 0, end: None, is_cut: false };
        let mut before: Option<Piece<'a>> = None;
        let mut is_apart = false;
        for (place, piece) in pieces.enumerate() {
            is_apart |= matches!(
                piece.kind,
                PartKind::Tool | PartKind::Interaction | PartKind::Answered | PartKind::Input
            );
            if piece.kind != PartKind::Text || piece.is_echo || piece.text.trim().is_empty() {
                continue;
            }
            if let Some(before) = before {
                let messages = before.message.zip(piece.message);
                if is_apart || messages.is_some_and(|(one, other)| one != other) {
                    let line_feeds = |bytes: &mut dyn Iterator<Item = u8>| {
                        let breaks = bytes.take_while(|byte| b"\r\n".contains(byte));
                        breaks.filter(|&byte| byte == b'\n').count()
                    };
                    let there = line_feeds(&mut joined.text.bytes().rev())
                        + line_feeds(&mut piece.text.bytes());
                    (there..2).for_each(|_| joined.text += "\n");
                    joined.last = joined.text.len();
                }
            }
            joined.text += piece.text;
            joined.end = Some(place);
            if piece.is_cut {
                joined.is_cut = true;
                break;
            }
            (before, is_apart) = (Some(piece), false);
        }
        joined
    }

    /// Whether the part is in it.
    fn has(&self, place: usize, part: &Part) -> bool {
        self.end.is_some_and(|end| place <= end) && !part.is_echo && !part.is_blank()
    }
}

impl Part {
    fn is_blank(&self) -> bool {
        self.content.text.trim().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn a_text_doubles_its_memory_and_never_takes_more_than_the_limit() {
        let mut text = Text::default();
        let (mut grown, mut capacity) = (Vec::new(), 0);
        for length in [1; 5].into_iter().chain([300]).chain([1; 695]) {
            text.append(&"x".repeat(length), usize::MAX, 1000);
            if text.text.capacity() != capacity {
                capacity = text.text.capacity();
                grown.push((text.text.len(), capacity));
            }
        }
        assert_eq!(grown, [(1, 1), (2, 2), (3, 4), (5, 8), (305, 305), (306, 610), (611, 1000)]);
    }

    #[test]
    fn a_text_that_makes_way_keeps_memory_for_the_next_to_grow() {
        let mut text = Text::default();
        text.append(&"x".repeat(1000), usize::MAX, 1000);
        for (length, kept) in [(500, 1000), (100, 200), (0, 0)] {
            text.clear(length);
            assert_eq!((text.text.len(), text.text.capacity()), (0, kept), "{length}");
        }
    }
}
