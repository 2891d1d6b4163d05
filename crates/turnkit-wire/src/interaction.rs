//! What a running agent asks, what it is answered, and messages into its turn (PROTOCOL 1.1, 3.6).
//!
//! Writers of the four events, tolerant views of those that an agent is told, and the strict reading of a question, by which an
//! answer is checked.
//!
//! ```
//! use turnkit_wire::{interaction::{Interaction, Kind, Outcome, Question}, value::Value, write::Json};
//!
//! let schema = Json::verify(r#"{"type":"object","properties":{"age":{"type":"integer","minimum":0}},"required":["age"]}"#)?;
//! let asked = Interaction::new(Kind::Question, "q1").title("How old is it?").schema(&schema).event();
//! let question = Question::read(&asked).map_err(|error| error.to_string())?;
//! assert!(question.check(Outcome::Accepted, Some(Value::verify(br#"{"age":7}"#)?)).is_ok());
//! let misfit = question.check(Outcome::Accepted, Some(Value::verify(br#"{"age":-1}"#)?)).unwrap_err();
//! assert_eq!(misfit.to_string(), "data.age must be at least 0");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod schema;

use alloc::{borrow::Cow, format, string::String, vec::Vec};
use core::fmt;

pub use self::schema::Schema;
use crate::{Event, json::object, kind, value::Value, view::Text, write::Json};

/// The longest `interaction`, in bytes of its JSON.
pub const MAX_INTERACTION: usize = 256 * 1024;

/// The longest `by`, who has answered, in bytes.
pub const MAX_BY: usize = 256;

/// How many options a question can have.
pub const MAX_OPTIONS: usize = 32;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// May this be done?
    Approval,
    /// Something is to be chosen, or told.
    Question,
    /// A tool that a client runs: its output is the answer.
    Tool,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Yes, or the answer is in the data.
    Accepted,
    /// No.
    Declined,
    /// Whoever was asked does not want to say.
    Cancelled,
    /// Nobody answered in time.
    Expired,
    /// The agent no longer wants to know.
    Withdrawn,
}

/// Whether `text` can be the id of a question or of an input: 1 to 128 of `A-Za-z0-9:_-`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(is_allowed)
}

impl Kind {
    /// The name on the wire: `approval`, `question` or `tool`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Question => "question",
            Self::Tool => "tool",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Approval, Self::Question, Self::Tool].into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Outcome {
    /// The name on the wire: `accepted`, `declined`, `cancelled`, `expired` or `withdrawn`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The outcome of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Accepted, Self::Declined, Self::Cancelled, Self::Expired, Self::Withdrawn];
        all.into_iter().find(|outcome| outcome.as_str() == name)
    }

    /// Whether somebody said it who was asked: the substrate itself says the others.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Accepted | Self::Declined | Self::Cancelled)
    }
}

/// A question, to be written. Its id is new in its execution.
#[derive(Clone, Copy, Debug)]
pub struct Interaction<'a> {
    kind: Kind,
    id: &'a str,
    title: Option<&'a str>,
    message: Option<&'a str>,
    call_id: Option<&'a str>,
    tool: Option<&'a str>,
    input: Option<&'a Json<'a>>,
    schema: Option<&'a Json<'a>>,
    options: &'a [(&'a str, &'a str)],
    expires_at: Option<u64>,
}

impl<'a> Interaction<'a> {
    /// A question of this kind and id.
    #[must_use]
    pub const fn new(kind: Kind, id: &'a str) -> Self {
        Self {
            kind,
            id,
            title: None,
            message: None,
            call_id: None,
            tool: None,
            input: None,
            schema: None,
            options: &[],
            expires_at: None,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// What is asked, in a few words.
    #[must_use]
    pub const fn title(self, title: &'a str) -> Self {
        Self { title: Some(title), ..self }
    }

    /// What is asked, at length.
    #[must_use]
    pub const fn message(self, message: &'a str) -> Self {
        Self { message: Some(message), ..self }
    }

    /// The call that it is about: the `callID` of its part.
    #[must_use]
    pub const fn call_id(self, id: &'a str) -> Self {
        Self { call_id: Some(id), ..self }
    }

    /// The tool of that call.
    #[must_use]
    pub const fn tool(self, name: &'a str) -> Self {
        Self { tool: Some(name), ..self }
    }

    /// The input of that call.
    #[must_use]
    pub fn input(self, input: impl Into<Option<&'a Json<'a>>>) -> Self {
        Self { input: input.into(), ..self }
    }

    /// The shape of the answer's data ([`Schema`]).
    #[must_use]
    pub const fn schema(self, schema: &'a Json<'a>) -> Self {
        Self { schema: Some(schema), ..self }
    }

    /// What can be chosen: ids and labels.
    #[must_use]
    pub const fn options(self, options: &'a [(&'a str, &'a str)]) -> Self {
        Self { options, ..self }
    }

    /// Until when it can be answered, in Unix milliseconds.
    #[must_use]
    pub const fn expires_at(self, unix_ms: u64) -> Self {
        Self { expires_at: Some(unix_ms), ..self }
    }

    /// The `interaction`. Nothing of it is checked: that is [`Question::read`].
    #[must_use]
    pub fn event(&self) -> Event {
        let texts = [Some(self.id), self.title, self.message, self.call_id, self.tool];
        let jsons = [self.input, self.schema].map(|json| json.map(Json::as_str));
        let options = self.options.iter().map(|(id, label)| id.len() + label.len() + 24);
        let size = texts.into_iter().chain(jsons).flatten().map(str::len).sum::<usize>()
            + options.sum::<usize>()
            + 160;
        object::event(kind::INTERACTION, size, |data| {
            data.string("id", self.id)
                .string("kind", self.kind.as_str())
                .optional("title", self.title)
                .optional("message", self.message)
                .optional("callId", self.call_id)
                .optional("tool", self.tool);
            if let Some(input) = self.input {
                data.raw("input", input.as_str());
            }
            if let Some(schema) = self.schema {
                data.raw("schema", schema.as_str());
            }
            if !self.options.is_empty() {
                data.objects("options", self.options, |(id, label), option| {
                    option.string("id", id).string("label", label);
                });
            }
            data.number("expiresAt", self.expires_at);
        })
    }
}

/// `interaction.answered`: what came of a question, and who said so.
#[must_use]
pub fn answered(id: &str, outcome: Outcome, data: Option<&Json<'_>>, by: Option<&str>) -> Event {
    let size = id.len() + data.map_or(0, |data| data.as_str().len()) + by.map_or(0, str::len) + 64;
    object::event(kind::INTERACTION_ANSWERED, size, |members| {
        members.string("id", id).string("outcome", outcome.as_str());
        if let Some(data) = data {
            members.raw("data", data.as_str());
        }
        members.optional("by", by);
    })
}

/// `input`: a message into the running turn.
#[must_use]
pub fn input(id: &str, message: &str, by: Option<&str>) -> Event {
    let size = id.len() + message.len() + by.map_or(0, str::len) + 48;
    object::event(kind::INPUT, size, |data| {
        data.string("id", id).string("message", message).optional("by", by);
    })
}

/// `input.taken`: the agent has it.
#[must_use]
pub fn input_taken(id: &str) -> Event {
    object::event(kind::INPUT_TAKEN, id.len() + 8, |data| {
        data.string("id", id);
    })
}

/// An `interaction.answered`, read tolerantly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered<'a> {
    id: Option<Text<'a>>,
    outcome: Option<Text<'a>>,
    data: Option<Value<'a>>,
    by: Option<Text<'a>>,
}

impl<'a> Answered<'a> {
    /// The view of an `interaction.answered`; `None` for every other type.
    #[must_use]
    pub fn of(event: &'a Event) -> Option<Self> {
        if event.kind_bytes() != kind::INTERACTION_ANSWERED.as_bytes() {
            return None;
        }
        let mut view = Self::default();
        Value::of(event).members(|key, value| match &*key.to_str() {
            "id" => view.id = value.string(),
            "outcome" => view.outcome = value.string(),
            "data" => view.data = Some(value),
            "by" => view.by = value.string(),
            _ => {}
        });
        Some(view)
    }

    /// `id`: the question's.
    #[must_use]
    pub fn id(&self) -> Option<Text<'a>> {
        self.id
    }

    /// `outcome`, where it is one that is known.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::parse(&self.outcome?.to_str())
    }

    /// `data`.
    #[must_use]
    pub fn data(&self) -> Option<Value<'a>> {
        self.data
    }

    /// `by`: who said so.
    #[must_use]
    pub fn by(&self) -> Option<Text<'a>> {
        self.by
    }
}

/// An `input`, read tolerantly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    id: Option<Text<'a>>,
    message: Option<Text<'a>>,
    by: Option<Text<'a>>,
}

impl<'a> Input<'a> {
    /// The view of an `input`; `None` for every other type.
    #[must_use]
    pub fn of(event: &'a Event) -> Option<Self> {
        if event.kind_bytes() != kind::INPUT.as_bytes() {
            return None;
        }
        let mut view = Self::default();
        Value::of(event).members(|key, value| match &*key.to_str() {
            "id" => view.id = value.string(),
            "message" => view.message = value.string(),
            "by" => view.by = value.string(),
            _ => {}
        });
        Some(view)
    }

    /// `id`.
    #[must_use]
    pub fn id(&self) -> Option<Text<'a>> {
        self.id
    }

    /// `message`.
    #[must_use]
    pub fn message(&self) -> Option<Text<'a>> {
        self.message
    }

    /// `by`: who sent it.
    #[must_use]
    pub fn by(&self) -> Option<Text<'a>> {
        self.by
    }
}

/// An `interaction`, read strictly: what an answer is checked by.
#[derive(Debug)]
pub struct Question<'a> {
    id: String,
    kind: Kind,
    options: Vec<Cow<'a, str>>,
    schema: Option<Schema<'a>>,
    expires_at: Option<u64>,
}

impl<'a> Question<'a> {
    /// Reads an `interaction`. A member that is `null` counts as none; one that is not known is passed over.
    ///
    /// # Errors
    ///
    /// What PROTOCOL 1.1 and 3.6 refuse, with its place. Whether the id is new is not known here.
    pub fn read(event: &'a Event) -> Result<Self, Malformed> {
        if event.json_len() > MAX_INTERACTION {
            return Err(Malformed::new("data", "must be at most 256 KiB"));
        }
        let data = Value::of(event);
        let member = |name: &str| data.get(name).filter(|value| !value.is_null());
        let text = |name: &'static str| match member(name) {
            None => Ok(None),
            Some(value) => value.string().map(Some).ok_or_else(|| Malformed::of(name, "a string")),
        };
        let id = text("id")?.map(|id| id.to_str()).filter(|id| is_id(id));
        let id = id.ok_or_else(|| Malformed::of("id", "1 to 128 of A-Za-z0-9:_-"))?.into_owned();
        let kind = text("kind")?.and_then(|kind| Kind::parse(&kind.to_str()));
        let kind = kind.ok_or_else(|| Malformed::of("kind", "approval, question or tool"))?;
        for name in ["title", "message", "callId", "tool"] {
            text(name)?;
        }
        let expires_at = match member("expiresAt") {
            None => None,
            Some(value) if value.json().first().is_some_and(u8::is_ascii_digit) => {
                Some(value.whole_number().ok_or_else(|| Malformed::of("expiresAt", UNIX_MS))?)
            }
            Some(_) => return Err(Malformed::of("expiresAt", UNIX_MS)),
        };
        let options = member("options").map_or(Ok(Vec::new()), options)?;
        let schema = member("schema").map(Schema::parse).transpose()?;
        if schema.is_some() && !options.is_empty() {
            return Err(Malformed::new("data", "must have a schema or options, not both"));
        }
        Ok(Self { id, kind, options, schema, expires_at })
    }

    /// `id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `kind`.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `expiresAt`, in Unix milliseconds.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Whether an answer fits: only what is accepted has to.
    ///
    /// # Errors
    ///
    /// What does not fit, and where.
    pub fn check(&self, outcome: Outcome, data: Option<Value<'_>>) -> Result<(), Misfit> {
        if outcome != Outcome::Accepted {
            return Ok(());
        }
        if let Some(schema) = &self.schema {
            return schema.check(data.unwrap_or_default());
        }
        if self.options.is_empty() || (data.is_none() && self.kind == Kind::Approval) {
            return Ok(());
        }
        let chosen = data.and_then(|data| data.get("option")).and_then(Value::string);
        let is_known = chosen.is_some_and(|id| self.options.iter().any(|known| id.is(known)));
        is_known.then_some(()).ok_or_else(|| Misfit::new("data.option", "be the id of an option"))
    }
}

const UNIX_MS: &str = "a time in Unix milliseconds";

fn options(value: Value<'_>) -> Result<Vec<Cow<'_, str>>, Malformed> {
    let must = "1 to 32 objects with an id of its own, of 1 to 256 bytes, and a label";
    let malformed = || Malformed::of("options", must);
    if !value.is_array() {
        return Err(malformed());
    }
    let (mut options, mut count, mut is_well_formed) = (Vec::<Cow<'_, str>>::new(), 0, true);
    value.items(|option| {
        count += 1;
        if count > MAX_OPTIONS {
            return;
        }
        let [id, label] = ["id", "label"].map(|name| option.get(name).and_then(Value::string));
        let id = id.map(|id| id.to_str()).filter(|id| (1..=256).contains(&id.len()));
        match id {
            Some(id) if label.is_some() && !options.contains(&id) => options.push(id),
            _ => is_well_formed = false,
        }
    });
    if is_well_formed && (1..=MAX_OPTIONS).contains(&count) {
        Ok(options)
    } else {
        Err(malformed())
    }
}

/// Why an `interaction` is none. It names members and keywords, and repeats no other content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    place: String,
    must: &'static str,
}

impl Malformed {
    fn new(place: impl Into<String>, must: &'static str) -> Self {
        Self { place: place.into(), must }
    }

    /// The member of this name is not what it must be.
    fn of(name: &str, what: &'static str) -> Self {
        Self { place: format!("data.{name}"), must: what }
    }

    /// Where.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let be = if self.must.starts_with("must") { "" } else { "must be " };
        write!(f, "{} {be}{}", self.place, self.must)
    }
}

impl core::error::Error for Malformed {}

/// Where an answer's data does not fit, and why. It repeats nothing of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    place: String,
    must: String,
}

impl Misfit {
    fn new(place: impl Into<String>, must: impl Into<String>) -> Self {
        Self { place: place.into(), must: must.into() }
    }

    /// Where: `data`, or a member of it as `data.name`.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must {}", self.place, self.must)
    }
}

impl core::error::Error for Misfit {}

/// The spelling of a number, as one.
fn number(value: Value<'_>) -> Option<f64> {
    let first = value.json().first()?;
    if *first != b'-' && !first.is_ascii_digit() {
        return None;
    }
    let number: f64 = value.text()?.to_str().parse().ok()?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests;
