//! One part of an answer at rest.

use std::{borrow::Cow, error::Error, fmt, sync::OnceLock};

use turnkit_wire::{
    DecodeError, Event, kind,
    value::Value,
    view::{PartUpdate, Warning},
    write::{self, Json, Part},
};

/// What a part of an answer is (PROTOCOL 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartKind {
    /// Text of the answer.
    Text,
    /// The model's reasoning.
    Reasoning,
    /// A tool call.
    Tool,
    /// A file.
    File,
    /// A source that the answer draws on.
    Source,
    /// Data of the application's own.
    Data,
    /// A `warning`, which is an event of its own on the wire, as all that follow are.
    Warning,
    /// An `interaction`: what the agent has asked.
    Interaction,
    /// An `interaction.answered`: what came of it, and who said so.
    Answered,
    /// An `input`, at the place where the agent had it: a message of the user's between two halves of the answer.
    Input,
}

impl PartKind {
    /// The name on the wire, `part.type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Reasoning => "reasoning",
            Self::Tool => "tool",
            Self::File => "file",
            Self::Source => "source",
            Self::Data => "data",
            Self::Warning => kind::WARNING,
            Self::Interaction => kind::INTERACTION,
            Self::Answered => kind::INTERACTION_ANSWERED,
            Self::Input => kind::INPUT,
        }
    }

    /// Whether it is told by a `message.part.updated`. All others are events of their own, of the type that they are named by.
    #[must_use]
    pub const fn is_part(self) -> bool {
        !matches!(self, Self::Warning | Self::Interaction | Self::Answered | Self::Input)
    }

    /// The kind of this name. Parts of other types are kept in no answer.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        use PartKind::{
            Answered, Data, File, Input, Interaction, Reasoning, Source, Text, Tool, Warning,
        };
        let all =
            [Text, Reasoning, Tool, File, Source, Data, Warning, Interaction, Answered, Input];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One part of an answer at rest: a JSON object with a `type`, as `part` stands in its last event (PROTOCOL 1.1, 2.3).
///
/// `Debug` shows the length, not the content.
#[derive(Clone)]
pub struct AnswerPart {
    kind: PartKind,
    form: Form,
}

#[derive(Clone)]
enum Form {
    Json(Box<str>),
    /// A text, the last member of its part. It may have megabytes, and a store that has the answer's text asks for no JSON.
    Text {
        /// The part's JSON, of an empty text.
        without: Box<str>,
        text: Box<str>,
        json: OnceLock<Box<str>>,
    },
}

/// How the JSON of such a part ends while its text is empty.
const EMPTY_TEXT: &str = r#""text":""}"#;

impl AnswerPart {
    /// A part as a store has kept it.
    ///
    /// # Errors
    /// Text that is not one JSON object whose `type` is the name of a [`PartKind`].
    pub fn from_json(json: &str) -> Result<Self, PartError> {
        let event = update(json).map_err(|error| PartError(Some(error)))?;
        let update = PartUpdate::of(&event).unwrap_or_default();
        let kind = update.part_type().and_then(|kind| PartKind::parse(&kind.to_str()));
        let (kind, json) = (kind.ok_or(PartError(None))?, json.trim_ascii());
        // A quote that a comma or a brace stands before begins a key: it is not one within another key.
        let before = json.strip_suffix(EMPTY_TEXT).map(str::trim_ascii_end);
        let ends_with_empty_text = kind == PartKind::Text
            && update.text().is_some_and(|text| text.is_empty())
            && before.is_some_and(|before| before.ends_with([',', '{']));
        Ok(if ends_with_empty_text {
            Self::split(json.into(), "".into())
        } else {
            Self::verbatim(kind, json)
        })
    }

    /// The part that such an update leaves, where it is whole and of a kind that is kept.
    pub(super) fn verbatim(kind: PartKind, json: &str) -> Self {
        Self { kind, form: Form::Json(json.into()) }
    }

    /// A text as this writer spells it.
    pub(super) fn text(writer: &Part<'_>, text: &str) -> Self {
        let without = Self::of(PartKind::Text, &writer.text(""));
        Self::split(without.as_json().into(), text.into())
    }

    fn split(without: Box<str>, text: Box<str>) -> Self {
        Self { kind: PartKind::Text, form: Form::Text { without, text, json: OnceLock::new() } }
    }

    /// The part of an event that a writer has just made.
    pub(super) fn of(kind: PartKind, event: &Event) -> Self {
        let part = PartUpdate::of(event).and_then(|update| update.part_json());
        Self::verbatim(kind, part.unwrap_or("{}"))
    }

    pub(super) fn warning(message: &str, code: Option<&str>) -> Self {
        let event = write::warning(message, code);
        let members = event.data_json().and_then(|data| data.strip_prefix('{')).unwrap_or("}");
        Self::verbatim(PartKind::Warning, &format!(r#"{{"type":"warning",{members}"#))
    }

    /// The part that an event of its own is: its data, and the kind as its `type`. `None` for data that is no object, is empty, or has
    /// a `type` of its own: then nobody could tell which one it is.
    pub(super) fn of_event(kind: PartKind, event: &Event) -> Option<Self> {
        let members = event.data_json()?.trim_ascii_start().strip_prefix('{')?;
        if Value::of(event).get("type").is_some() {
            return None;
        }
        let json = format!(r#"{{"type":"{}",{members}"#, kind.as_str());
        Self::from_json(&json).ok()
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> PartKind {
        self.kind
    }

    /// The part's JSON object. That of a text is spelt when it is first asked for.
    #[must_use]
    pub fn as_json(&self) -> &str {
        match &self.form {
            Form::Json(json) => json,
            Form::Text { json, .. } => json.get_or_init(|| self.spell().into()),
        }
    }

    /// The part's JSON, of which nothing is kept that is not there already.
    fn spell(&self) -> Cow<'_, str> {
        match &self.form {
            Form::Json(json) => Cow::Borrowed(json),
            Form::Text { without, text, json } => json.get().map_or_else(
                || {
                    let begin = without.strip_suffix("\"\"}").unwrap_or_default();
                    [begin, Json::string(text).as_str(), "}"].concat().into()
                },
                |json| Cow::Borrowed(&**json),
            ),
        }
    }

    /// About how many bytes its JSON takes: what has to be escaped in a text is counted as it stands.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.form {
            Form::Json(json) => json.len(),
            Form::Text { without, text, .. } => without.len() + text.len(),
        }
    }

    /// The part's JSON with an empty text, and its text: for stores, which keep the answer's text already. What they have of it gives
    /// the part again: [`from_json`](Self::from_json), and then [`with_text`](Self::with_text).
    ///
    /// `None` for what is no text, for a text with members behind it, and for one that `from_json` has read with its text.
    #[must_use]
    pub fn without_text(&self) -> Option<(&str, &str)> {
        match &self.form {
            Form::Json(_) => None,
            Form::Text { without, text, .. } => Some((without, text)),
        }
    }

    /// The part with this text in the place of its own; as it is where [`without_text`](Self::without_text) gives nothing.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Self {
        match &self.form {
            Form::Json(_) => self.clone(),
            Form::Text { without, .. } => Self::split(without.clone(), text.into()),
        }
    }

    /// `id`, where it has one.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        let event = match &self.form {
            Form::Json(_) => self.event(),
            Form::Text { without, .. } => update(without).ok()?,
        };
        let id = if self.kind.is_part() {
            PartUpdate::of(&event)?.part_id()
        } else {
            Value::of(&event).get("id")?.string()
        };
        Some(id?.to_str().into_owned())
    }

    /// The event that tells it whole: a `message.part.updated`, or one of its own.
    #[must_use]
    pub fn event(&self) -> Event {
        if self.kind == PartKind::Warning {
            let line = format!(r#"{{"type":"warning","data":{}}}"#, self.as_json());
            if let Ok(event) = Event::from_json(line.as_bytes()) {
                let warning = Warning::of(&event).unwrap_or_default();
                let (message, code) = (warning.message(), warning.code());
                let message = message.map(|text| text.to_str()).unwrap_or_default();
                return write::warning(&message, code.map(|text| text.to_str()).as_deref());
            }
        }
        if !self.kind.is_part() {
            let kind = self.kind.as_str();
            let members = self.as_json().strip_prefix(&*format!(r#"{{"type":"{kind}","#));
            let data =
                members.map_or_else(|| self.as_json().to_owned(), |rest| format!("{{{rest}"));
            let line = format!(r#"{{"type":"{kind}","data":{data}}}"#);
            if let Ok(event) = Event::from_json(line.as_bytes()) {
                return event;
            }
        }
        // It was verified when the part was made.
        update(&self.spell()).unwrap_or_else(|_| Part::new("").text(""))
    }
}

fn update(json: &str) -> Result<Event, DecodeError> {
    Ok(write::part(&Json::verify(json)?))
}

impl PartialEq for AnswerPart {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.spell() == other.spell()
    }
}

impl Eq for AnswerPart {}

impl fmt::Debug for AnswerPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerPart({}, {} bytes)", self.kind.as_str(), self.size())
    }
}

/// Text that is no [`AnswerPart`]. What is wrong with its JSON is the source.
#[derive(Debug)]
pub struct PartError(Option<DecodeError>);

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read a part of an answer: it must be a JSON object of a known type")
    }
}

impl Error for PartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_spelt_as_its_writer_spells_it_and_read_again_without_and_with_its_text() {
        let writer = Part::new("p\"1").message("m\\1").cut(true);
        for text in ["", "short", &"a line\n\u{1f}\"quoted\" \u{e9}".repeat(20)] {
            let event = writer.text(text);
            let part = AnswerPart::text(&writer, text);
            assert_eq!(part.event(), event);
            let written = AnswerPart::of(PartKind::Text, &event);
            assert_eq!((part.as_json(), part.id().as_deref()), (written.as_json(), Some("p\"1")));
            assert_eq!(AnswerPart::from_json(part.as_json()).unwrap(), part);
            let (without, told) = part.without_text().unwrap();
            assert_eq!(told, text);
            assert_eq!(AnswerPart::from_json(without).unwrap().with_text(text), part);
        }
    }
}
