//! Questions of an agent, answered in the terminal: from the keyboard, or by what the command line says (PROTOCOL 3.6).

use std::collections::VecDeque;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::mem;

use clap::Args;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use turnkit_client::{NewAnswer, Refusal, Update};
use turnkit_wire::interaction::{Answered, Kind, Outcome, Question};
use turnkit_wire::{Event, kind, value};

use super::drawing::Drawing;
use super::terminal::{Look, Written};

/// What is answered without anybody who types.
#[derive(Args)]
pub(super) struct Answers {
    /// Say yes to whatever an agent asks for, and ask here only for what it wants to know.
    #[arg(long, env = "TURNKIT_YES", conflicts_with = "no")]
    yes: bool,
    /// Say no to whatever an agent asks.
    #[arg(long, env = "TURNKIT_NO")]
    no: bool,
}

/// The questions that wait for an answer, in the order in which they were asked. The first one is at work.
pub(super) struct Questions {
    by: By,
    keyboard: Keyboard,
    /// Whether the turn's agent takes answers, once that is known. From any other one these are events like all others.
    takes_answers: Option<bool>,
    /// Whether what is typed while nothing is asked is meant for somebody.
    is_heard: bool,
    waiting: VecDeque<Asked>,
    stage: Stage,
}

/// Who answers.
enum By {
    Yes,
    No,
    /// Whoever sits at the keyboard, if anybody does.
    Person,
}

/// How far the first question is.
enum Stage {
    New,
    /// A line is waited for.
    Prompted,
    Typed(NewAnswer),
    /// The answer to the question of this id is on its way.
    Sent(String),
}

/// What is to be done.
pub(super) enum Act {
    /// Send this answer to the question of this id.
    Answer(String, NewAnswer),
    /// Nobody can be asked.
    Leave,
}

impl Questions {
    /// `is_heard`: also what is typed while nothing is asked.
    pub(super) fn new(answers: &Answers, is_heard: bool) -> Questions {
        let by = match answers {
            Answers { yes: true, .. } => By::Yes,
            Answers { no: true, .. } => By::No,
            Answers { .. } => By::Person,
        };
        let mut keyboard = Keyboard::new();
        let is_heard = is_heard && keyboard.begin().is_some();
        let (waiting, stage, takes_answers) = (VecDeque::new(), Stage::New, None);
        Questions { by, keyboard, takes_answers, is_heard, waiting, stage }
    }

    /// What another turn asks comes from here on.
    pub(super) fn begin(&mut self) {
        self.waiting.clear();
        self.stage = Stage::New;
    }

    /// Notes whether the turn's agent takes answers. Before that is known nobody is asked.
    pub(super) fn takes_answers(&mut self, takes_answers: bool) {
        self.takes_answers = Some(takes_answers);
        if !takes_answers {
            self.begin();
        }
    }

    /// Sees what happens to the turn: a question comes, or somebody has answered one.
    pub(super) fn see(&mut self, update: &Update) {
        match update {
            // From here on the turn is told anew.
            Update::Connected { cursor: 0, .. } => self.begin(),
            Update::Event { event, .. }
                if event.kind() == kind::INTERACTION && self.takes_answers != Some(false) =>
            {
                self.waiting.extend(Asked::of(event));
            }
            Update::Event { event, .. } if event.kind() == kind::INTERACTION_ANSWERED => {
                let answered = Answered::of(event).and_then(|answered| answered.id());
                if let Some(id) = answered {
                    self.drop(&id.to_str());
                }
            }
            _ => {}
        }
    }

    /// Whether anything looks like a question that waits.
    pub(super) fn are_there(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What is to be done about the first question, if anything. Whoever is to type is asked to.
    pub(super) fn next(&mut self, drawing: &mut Drawing) -> Written<Option<Act>> {
        if self.takes_answers.is_none() {
            return Ok(None);
        }
        let Some(asked) = self.waiting.front() else { return Ok(None) };
        let answer = match (mem::replace(&mut self.stage, Stage::New), &self.by) {
            (Stage::Typed(answer), _) => answer,
            (Stage::New, By::No) => NewAnswer::declined(),
            (Stage::New, By::Yes) if asked.kind == Kind::Approval => NewAnswer::accepted(),
            (Stage::New, _) => {
                if !self.keyboard.listen() {
                    let ways =
                        "--yes and --no answer it here, any other client of the session does";
                    drawing.line_beside(Look::Dim, &format!("nobody can be asked here: {ways}"))?;
                    return Ok(Some(Act::Leave));
                }
                drawing.prompt(&asked.prompt())?;
                self.stage = Stage::Prompted;
                return Ok(None);
            }
            (stage, _) => {
                self.stage = stage;
                return Ok(None);
            }
        };
        self.stage = Stage::Sent(asked.id.clone());
        Ok(Some(Act::Answer(asked.id.clone(), answer)))
    }

    /// The next line that is typed; none where nobody types any more. Where nobody wants to know it waits for ever. Dropping the future
    /// loses nothing.
    pub(super) async fn line(&mut self) -> Option<String> {
        match self.stage {
            Stage::Prompted => self.keyboard.line().await,
            _ if self.is_heard => self.keyboard.line().await,
            _ => std::future::pending().await,
        }
    }

    /// Takes what was typed, and gives it back where it is no answer.
    pub(super) fn take(
        &mut self,
        line: Option<String>,
        drawing: &mut Drawing,
    ) -> Written<Option<String>> {
        drawing.typed();
        if !matches!(self.stage, Stage::Prompted) {
            self.is_heard &= line.is_some();
            return Ok(line.filter(|line| !line.trim().is_empty()));
        }
        self.stage = Stage::New;
        let (Some(line), Some(asked)) = (line, self.waiting.front_mut()) else { return Ok(None) };
        match asked.typed(line.trim()) {
            Ok(Some(answer)) => self.stage = Stage::Typed(answer),
            // The next field.
            Ok(None) => {}
            Err(wrong) => drawing.line_beside(Look::Red, &format!("  {wrong}"))?,
        }
        Ok(None)
    }

    /// What was typed before a question was put, and is no answer to it.
    pub(super) fn typed_before(&mut self) -> impl Iterator<Item = String> + use<'_> {
        let is_heard = self.is_heard;
        self.keyboard.early.drain(..).filter(move |line| is_heard && !line.trim().is_empty())
    }

    /// The answer that was sent is the one.
    pub(super) fn answered(&mut self) {
        if let Stage::Sent(id) = &self.stage {
            let id = id.clone();
            self.drop(&id);
        }
    }

    /// It is not: somebody was faster, nobody wants to know any more, or it does not fit.
    pub(super) fn refused(&mut self, refusal: &Refusal, drawing: &mut Drawing) -> Written {
        drawing.line_beside(Look::Red, &format!("  {}", refusal.message()))?;
        if refusal.status() != 422 {
            self.answered();
            return Ok(());
        }
        // A mere yes is no answer to it.
        self.by = By::Person;
        self.stage = Stage::New;
        if let Some(asked) = self.waiting.front_mut() {
            asked.begin();
        }
        Ok(())
    }

    fn drop(&mut self, id: &str) {
        if self.waiting.front().is_some_and(|asked| asked.id == id) {
            self.stage = Stage::New;
        }
        self.waiting.retain(|asked| asked.id != id);
    }
}

/// A question, and what was typed to it so far.
struct Asked {
    event: Event,
    id: String,
    kind: Kind,
    /// The ids of its options.
    options: Vec<String>,
    fields: Vec<Field>,
    has_schema: bool,
    /// The field that is asked for.
    at: usize,
    data: Map<String, Value>,
}

/// A member of the data that a question asks for.
struct Field {
    name: String,
    title: String,
    kind: String,
    /// The values that it can have, where they are given.
    values: Vec<Value>,
    is_required: bool,
}

impl Asked {
    /// A question that can be answered; from an agent that takes no answers anything may come.
    fn of(event: &Event) -> Option<Asked> {
        let question = Question::read(event).ok()?;
        let (id, kind) = (question.id().to_owned(), question.kind());
        let data = value::Value::of(event);
        let mut options = Vec::new();
        data.get("options").unwrap_or_default().items(|option| {
            let id = option.get("id").and_then(value::Value::string);
            options.extend(id.map(|id| id.to_str().into_owned()));
        });
        let schema = data.get("schema").filter(|schema| schema.is_object());
        let fields = schema.map(Field::all).unwrap_or_default();
        let has_schema = schema.is_some();
        let event = event.clone();
        Some(Asked { event, id, kind, options, fields, has_schema, at: 0, data: Map::new() })
    }

    fn begin(&mut self) {
        self.at = 0;
        self.data.clear();
    }

    fn prompt(&self) -> String {
        if let Some(field) = self.fields.get(self.at) {
            let begins = if self.at == 0 { ", or all as JSON" } else { "" };
            return format!("  {}{begins}:", field.prompt());
        }
        match self.kind {
            _ if !self.options.is_empty() => {
                format!("  [1-{}, or n for none]", self.options.len())
            }
            Kind::Tool if !self.has_schema => {
                "  its output as JSON, or nothing to decline:".to_owned()
            }
            Kind::Question if !self.has_schema => {
                "  your answer, or nothing to decline:".to_owned()
            }
            _ => "  [y/n]".to_owned(),
        }
    }

    /// What a line comes to: an answer, or the next field to be asked for; or what is wrong with it.
    fn typed(&mut self, line: &str) -> Result<Option<NewAnswer>, String> {
        if !self.fields.is_empty() {
            return self.field_typed(line);
        }
        let is_no = matches!(&*line.to_ascii_lowercase(), "n" | "no");
        if !self.options.is_empty() {
            let at = line.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            return match at.and_then(|at| self.options.get(at)) {
                Some(option) => {
                    let data = serde_json::json!({ "option": option });
                    Ok(Some(NewAnswer::accepted().data(data)))
                }
                None if is_no => Ok(Some(NewAnswer::declined())),
                None => Err(format!("type a number from 1 to {}, or n", self.options.len())),
            };
        }
        let data = match self.kind {
            Kind::Tool | Kind::Question if !self.has_schema && line.is_empty() => {
                return Ok(Some(NewAnswer::declined()));
            }
            Kind::Tool if !self.has_schema => {
                let json = serde_json::from_str(line);
                Some(json.map_err(|error| format!("that is no JSON: {error}"))?)
            }
            Kind::Question if !self.has_schema => Some(Value::from(line)),
            _ if is_no => return Ok(Some(NewAnswer::declined())),
            _ if matches!(&*line.to_ascii_lowercase(), "y" | "yes") => {
                self.has_schema.then(|| Value::Object(Map::new()))
            }
            _ => return Err("type y or n".to_owned()),
        };
        let answer = NewAnswer::accepted();
        Ok(Some(data.into_iter().fold(answer, NewAnswer::data)))
    }

    fn field_typed(&mut self, line: &str) -> Result<Option<NewAnswer>, String> {
        if self.at == 0 && line.starts_with('{') {
            let whole: Map<String, Value> =
                serde_json::from_str(line).map_err(|error| format!("that is no JSON: {error}"))?;
            return match self.misfit(&whole) {
                Some((_, why)) => Err(why),
                None => Ok(Some(NewAnswer::accepted().data(Value::Object(whole)))),
            };
        }
        let Some(field) = self.fields.get(self.at) else { return Ok(None) };
        match field.read(line)? {
            Some(value) => {
                let mut data = self.data.clone();
                data.insert(field.name.clone(), value);
                // What is missing still is asked for later.
                if let Some((place, why)) = self.misfit(&data)
                    && place == format!("data.{}", field.name)
                {
                    return Err(why);
                }
                self.data = data;
            }
            None if field.is_required => return Err("it is needed".to_owned()),
            None => {}
        }
        self.at += 1;
        if self.at < self.fields.len() {
            return Ok(None);
        }
        Ok(Some(NewAnswer::accepted().data(Value::Object(self.data.clone()))))
    }

    /// Where these do not fit the question, and why: by the rule that the server has, too.
    fn misfit(&self, data: &Map<String, Value>) -> Option<(String, String)> {
        let json = serde_json::to_vec(data).ok()?;
        let data = value::Value::verify(&json).ok()?;
        let question = Question::read(&self.event).ok()?;
        let misfit = question.check(Outcome::Accepted, Some(data)).err()?;
        Some((misfit.place().to_owned(), misfit.to_string()))
    }
}

impl Field {
    /// Those of a schema, in its order.
    fn all(schema: value::Value<'_>) -> Vec<Field> {
        let (mut fields, mut required) = (Vec::new(), Vec::new());
        schema.get("required").unwrap_or_default().items(|name| {
            required.extend(name.string().map(|name| name.to_str().into_owned()));
        });
        schema.get("properties").unwrap_or_default().members(|name, property| {
            let name = name.to_str().into_owned();
            let text = |member: &str| {
                let text = property.get(member).and_then(value::Value::string);
                text.map(|text| text.to_str().into_owned())
            };
            let mut values = Vec::new();
            property.get("enum").unwrap_or_default().items(|value| {
                values.extend(serde_json::from_slice::<Value>(value.json()));
            });
            fields.push(Field {
                title: text("title").unwrap_or_else(|| name.clone()),
                kind: text("type").unwrap_or_default(),
                is_required: required.contains(&name),
                values,
                name,
            });
        });
        fields
    }

    fn prompt(&self) -> String {
        let wanted = match &*self.kind {
            _ if !self.values.is_empty() => {
                let values = self.values.iter().enumerate();
                let shown = |(at, value): (usize, &Value)| match value.as_str() {
                    Some(text) => format!("{} {text}", at + 1),
                    None => format!("{} {value}", at + 1),
                };
                values.map(shown).collect::<Vec<_>>().join(", ")
            }
            "boolean" => "y/n".to_owned(),
            kind => kind.to_owned(),
        };
        let optional = if self.is_required { "" } else { ", or nothing" };
        format!("{} ({wanted}{optional})", self.title)
    }

    /// The value that a line stands for; none for nothing.
    fn read(&self, line: &str) -> Result<Option<Value>, String> {
        if line.is_empty() {
            return Ok(None);
        }
        if !self.values.is_empty() {
            let at = line.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let named = || self.values.iter().find(|value| value.as_str() == Some(line));
            let value = at.and_then(|at| self.values.get(at)).or_else(named);
            let wrong = || format!("type a number from 1 to {}", self.values.len());
            return value.cloned().map(Some).ok_or_else(wrong);
        }
        match &*self.kind {
            "boolean" => match &*line.to_ascii_lowercase() {
                "y" | "yes" | "true" => Ok(Some(true.into())),
                "n" | "no" | "false" => Ok(Some(false.into())),
                _ => Err("type y or n".to_owned()),
            },
            "number" | "integer" => match serde_json::from_str(line) {
                Ok(number @ Value::Number(_)) => Ok(Some(number)),
                _ => Err("type a number".to_owned()),
            },
            _ => Ok(Some(line.into())),
        }
    }
}

/// The lines that are typed. Nothing is read before somebody wants to know.
struct Keyboard {
    lines: Option<mpsc::Receiver<String>>,
    /// What was typed and nobody had read when a question was put.
    early: VecDeque<String>,
}

impl Keyboard {
    fn new() -> Keyboard {
        Keyboard { lines: None, early: VecDeque::new() }
    }

    /// Reads from here on, if this is a terminal.
    fn begin(&mut self) -> Option<&mut mpsc::Receiver<String>> {
        if !io::stdin().is_terminal() {
            return None;
        }
        Some(self.lines.get_or_insert_with(|| {
            let (typed, lines) = mpsc::channel(1);
            // A thread of its own: one of the runtime's would be waited for at the end.
            std::thread::spawn(move || {
                for line in io::stdin().lock().lines() {
                    if line.is_err() || line.is_ok_and(|line| typed.blocking_send(line).is_err()) {
                        return;
                    }
                }
            });
            lines
        }))
    }

    /// Whether somebody may be there. What was typed before now was no answer to what is asked now.
    fn listen(&mut self) -> bool {
        if !io::stdin().is_terminal() {
            return false;
        }
        #[cfg(unix)]
        if let Err(error) =
            rustix::termios::tcflush(io::stdin(), rustix::termios::QueueSelector::IFlush)
        {
            tracing::debug!(%error, "what was typed before could not be dropped");
        }
        let mut early = Vec::new();
        let Some(lines) = self.begin() else { return false };
        let is_there = loop {
            match lines.try_recv() {
                Ok(line) => early.push(line),
                Err(mpsc::error::TryRecvError::Empty) => break true,
                Err(mpsc::error::TryRecvError::Disconnected) => break false,
            }
        };
        self.early.extend(early);
        is_there
    }

    async fn line(&mut self) -> Option<String> {
        match &mut self.lines {
            Some(lines) => lines.recv().await,
            None => None,
        }
    }
}
