//! What is kept of an answer: its text, its parts, and what its agent told of it (PROTOCOL 2.3).

mod assembly;
mod part;
mod reader;
mod template;

use std::{fmt, sync::Arc};

use turnkit_wire::{
    DecodeError, Event, interaction,
    view::{PartUpdate, TurnResult as TurnResultView},
    write::{FinishReason, Part, TokenUsage, TurnResult},
};

use self::assembly::{Joined, Piece};
pub use self::part::{AnswerPart, PartError, PartKind};
pub(crate) use self::reader::AnswerReader;

/// An answer at rest: what a product saves of a turn, and what it gives back to be replayed (PROTOCOL 2.1 rule 9, 2.3).
///
/// ```
/// use turnkit::Answer;
///
/// let answer = Answer::new("Hello");
/// assert_eq!(answer.parts[0].as_json(), r#"{"id":"final","type":"text","text":"Hello"}"#);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The text, as histories and lists have it.
    pub text: String,
    /// The parts, in order of first appearance. Their text parts, joined, are the text.
    pub parts: Arc<[AnswerPart]>,
    /// What the agent told of the turn in its last `result`.
    pub summary: Summary,
}

impl Answer {
    /// An answer of which only the text is known: one text part, or none where it is blank.
    pub fn new(text: impl Into<String>) -> Self {
        Self::default().with_text(text.into())
    }

    /// An answer of these parts, whose text parts are `text` when they are joined.
    pub fn of_parts(
        text: impl Into<String>,
        parts: impl Into<Arc<[AnswerPart]>>,
        summary: Summary,
    ) -> Self {
        Self { text: text.into(), parts: parts.into(), summary }
    }

    /// Whether there is anything beside text.
    fn has_more_than_text(&self) -> bool {
        self.parts.iter().any(|part| part.kind() != PartKind::Text)
    }

    /// The answer with another text: one part with it stands in the place of the last text part, and no other text part is
    /// left. A blank text has no part.
    fn with_text(&self, text: String) -> Self {
        let texts = || self.parts.iter().filter(|part| part.kind() == PartKind::Text);
        let last = texts().next_back();
        let id = last.and_then(AnswerPart::id).unwrap_or_else(|| FINAL_PART.to_owned());
        let whole = (!text.trim().is_empty()).then(|| AnswerPart::text(&Part::new(&id), &text));
        let mut parts = Vec::with_capacity(self.parts.len() + 1);
        for part in self.parts.iter() {
            if part.kind() != PartKind::Text {
                parts.push(part.clone());
            } else if last.is_some_and(|last| std::ptr::eq(last, part)) {
                parts.extend(whole.clone());
            }
        }
        if last.is_none() {
            parts.extend(whole);
        }
        Self { text, parts: parts.into(), summary: self.summary.clone() }
    }
}

/// A stretch of an answer between two inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Half {
    /// The input that it follows; none at the beginning.
    pub input: Option<AnswerPart>,
    /// What was said then. The summary is with the last one.
    pub answer: Answer,
}

impl Half {
    /// The id of the input that it follows, and what that says; nothing where there was no room for it.
    #[must_use]
    pub fn said(&self) -> Option<(String, Option<String>)> {
        let event = self.input.as_ref()?.event();
        let input = interaction::Input::of(&event).unwrap_or_default();
        let [id, message] =
            [input.id(), input.message()].map(|text| text.map(|text| text.to_str().into_owned()));
        Some((id.unwrap_or_default(), message))
    }
}

impl Answer {
    /// The answer with the inputs that its agent has had, as messages between its halves, in order (PROTOCOL 2.3). One half where
    /// there are none. A first half of nothing is left out.
    #[must_use]
    pub fn halves(&self) -> Vec<Half> {
        let is_input = |part: &AnswerPart| part.kind() == PartKind::Input;
        if !self.parts.iter().any(is_input) {
            return vec![Half { input: None, answer: self.clone() }];
        }
        let mut halves: Vec<(Option<AnswerPart>, Vec<AnswerPart>)> = vec![(None, Vec::new())];
        for part in self.parts.iter() {
            if is_input(part) {
                halves.push((Some(part.clone()), Vec::new()));
            } else if let Some((_, parts)) = halves.last_mut() {
                parts.push(part.clone());
            }
        }
        let last = halves.len() - 1;
        let halves = halves.into_iter().enumerate();
        let halves = halves.filter(|(_, (input, parts))| input.is_some() || !parts.is_empty());
        let half = |(place, (input, parts)): (usize, (_, Vec<AnswerPart>))| {
            let summary = if place == last { self.summary.clone() } else { Summary::default() };
            Half { input, answer: Self::of_parts(joined(&parts), parts, summary) }
        };
        halves.map(half).collect()
    }
}

/// The joined text of parts at rest.
fn joined(parts: &[AnswerPart]) -> String {
    let events: Vec<(PartKind, Event)> =
        parts.iter().map(|part| (part.kind(), part.event())).collect();
    let views: Vec<_> = events
        .iter()
        .map(|(kind, event)| {
            let update = PartUpdate::of(event).unwrap_or_default();
            let [text, message] =
                [update.text(), update.message_id()].map(|text| text.map(|text| text.to_str()));
            (*kind, text.unwrap_or_default(), message)
        })
        .collect();
    let pieces = views.iter().map(|(kind, text, message)| Piece {
        kind: *kind,
        text,
        message: message.as_deref(),
        is_cut: false,
        is_echo: false,
    });
    Joined::of_pieces(pieces).text.into_owned()
}

/// The id of a text part that no event had.
const FINAL_PART: &str = "final";

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Shows lengths, not the text.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes, {} parts)", self.text.len(), self.parts.len())
    }
}

/// What an agent tells of a turn beside its text: what is kept of a `result` (PROTOCOL 1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// The model that answered.
    pub model: Option<String>,
    /// The tokens that it took.
    pub usage: Option<TokenUsage>,
    /// How long it took, in milliseconds.
    pub total_ms: Option<u64>,
    /// How long it took to the first piece of the answer, in milliseconds.
    pub first_token_ms: Option<u64>,
    /// The session of the agent's own that goes on with the next turn (PROTOCOL 3.4); not one of over 256 bytes.
    pub agent_session_id: Option<String>,
}

/// Bytes of an agent's own name for a session, at most.
const AGENT_SESSION_BYTES: usize = 256;

impl Summary {
    /// What a `result` says; `None` for every other event.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let result = TurnResultView::of(event)?;
        let usage = |input, output| TokenUsage {
            input,
            output,
            reasoning: result.reasoning_tokens(),
            cached_input: result.cached_input_tokens(),
        };
        Some(Self {
            finish_reason: result.finish_reason(),
            model: result.model().map(|model| model.to_str().into_owned()),
            usage: result.input_tokens().zip(result.output_tokens()).map(|(i, o)| usage(i, o)),
            total_ms: result.total_ms(),
            first_token_ms: result.first_token_ms(),
            agent_session_id: result
                .agent_session_id()
                .map(|id| id.to_str().into_owned())
                .filter(|id| (1..=AGENT_SESSION_BYTES).contains(&id.len())),
        })
    }

    /// The `result` that says it, with the text where there is one.
    #[must_use]
    pub fn event(&self, final_text: Option<&str>) -> Event {
        let mut result = TurnResult::new()
            .finish_reason(self.finish_reason)
            .token_usage(self.usage)
            .total_ms(self.total_ms)
            .first_token_ms(self.first_token_ms)
            .agent_session_id(self.agent_session_id.as_deref());
        if let Some(model) = &self.model {
            result = result.model(model);
        }
        if let Some(text) = final_text {
            result = result.final_text(text);
        }
        result.event()
    }

    /// What stores keep: the data of such a `result`. `{}` where there is nothing to keep.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.event(None).data_json().unwrap_or("{}").to_owned()
    }

    /// What [`to_json`](Self::to_json) gave.
    ///
    /// # Errors
    /// Text that is not JSON.
    pub fn from_json(json: &str) -> Result<Self, DecodeError> {
        let event = Event::from_json(format!(r#"{{"type":"result","data":{json}}}"#).as_bytes())?;
        Ok(Self::of(&event).unwrap_or_default())
    }
}

/// The answer as it was produced (PROTOCOL 2.3): whole for
/// [`transform_final_text`](crate::TurnHooks::transform_final_text), partial for
/// [`on_turn_failed`](crate::TurnHooks::on_turn_failed).
///
/// It cannot be persisted: [`persist_assistant_message`](crate::TurnHooks::persist_assistant_message) takes a [`FinalText`],
/// and only the engine makes one. `Debug` shows the length, not the text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawText {
    answer: Answer,
    /// Whether the text is not the one that a client has drawn from the events.
    unseen: bool,
}

/// The answer that is saved, with the text as [`transform_final_text`](crate::TurnHooks::transform_final_text) made it
/// (PROTOCOL 2.1, 2.3).
///
/// Only the engine makes one. `Debug` shows the length, not the text.
#[derive(Clone, PartialEq, Eq)]
pub struct FinalText {
    answer: Answer,
    unseen: bool,
}

impl RawText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.answer.text
    }

    /// The text, without copying it.
    #[must_use]
    pub fn into_string(self) -> String {
        self.answer.text
    }

    /// The text with everything else that is kept of the answer.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Whether it has a part that is no text.
    pub(crate) fn has_more_than_text(&self) -> bool {
        self.answer.has_more_than_text()
    }

    /// Puts these in the place of its parts.
    pub(crate) fn set_parts(&mut self, parts: Vec<AnswerPart>) {
        self.answer.parts = parts.into();
    }

    /// Leaves only its text.
    pub(crate) fn keep_text_only(&mut self) {
        let texts = self.answer.parts.iter().filter(|part| part.kind() == PartKind::Text);
        self.answer.parts = texts.cloned().collect();
    }

    /// The answer that is saved, if its text is to be `text`.
    pub(crate) fn transformed(self, text: String) -> FinalText {
        if text == self.answer.text {
            return FinalText { answer: self.answer, unseen: self.unseen };
        }
        FinalText { answer: self.answer.with_text(text), unseen: true }
    }
}

impl FinalText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.answer.text
    }

    /// The text, without copying it.
    #[must_use]
    pub fn into_string(self) -> String {
        self.answer.text
    }

    /// The text with everything else that is kept of the answer.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The text, where it is not the one that a client has drawn from the events.
    pub(crate) fn unseen(&self) -> Option<&str> {
        self.unseen.then_some(&*self.answer.text)
    }

    /// Whether it has a part that is no text.
    pub(crate) fn has_more_than_text(&self) -> bool {
        self.answer.has_more_than_text()
    }

    /// Puts these in the place of its parts.
    pub(crate) fn set_parts(&mut self, parts: Vec<AnswerPart>) {
        self.answer.parts = parts.into();
    }

    /// An answer that was saved before.
    pub(crate) fn saved(answer: Answer) -> Self {
        Self { answer, unseen: false }
    }

    /// As it was before it was to be saved.
    pub(crate) fn into_raw(self) -> RawText {
        RawText { answer: self.answer, unseen: self.unseen }
    }
}

impl fmt::Debug for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawText({} bytes)", self.as_str().len())
    }
}

impl fmt::Debug for FinalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FinalText({} bytes)", self.as_str().len())
    }
}
