//! A turn's events as a terminal shows them: text as it comes, reasoning and tools beside it.

use std::borrow::Cow;
use std::char::REPLACEMENT_CHARACTER;
use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::mem;

use serde::Deserialize;
use serde_json::Value;
use turnkit_wire::view::{Failure, PartUpdate, Text, TurnResult};
use turnkit_wire::write::FinishReason;
use turnkit_wire::{Event, kind};

use super::terminal::{Look, Screen, Written, harmless, in_line};

/// What has been drawn of a turn. Text goes to standard output, everything else to standard error.
pub(super) struct Drawing {
    text: Screen<io::Stdout>,
    beside: Screen<io::Stderr>,
    /// Whether text is shown among everything else, so that each needs lines of its own.
    is_shown: bool,
    /// What was drawn of each part, by its id.
    parts: HashMap<String, Drawn>,
    /// The line that was drawn last of each tool call, by its part's id or its own.
    tools: HashMap<String, String>,
    /// The part that the last line belongs to, if it may go on.
    open: Option<(String, bool)>,
    /// All text that was drawn: the joined text of the answer so far (PROTOCOL 2.3).
    answer: String,
    /// The message of the text part that was begun last, and whether a tool part, a question or its answer came since.
    last_text: (Option<String>, bool),
}

/// What was drawn of a part.
#[derive(Default)]
struct Drawn {
    text: String,
    /// The first half of a character, which waits for the other one (PROTOCOL 2.3).
    high: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Completed {
    final_text: Option<String>,
}

#[derive(Deserialize)]
struct ToolUpdate {
    part: Tool,
}

#[derive(Deserialize)]
struct Tool {
    id: Option<Value>,
    #[serde(rename = "callID")]
    call_id: Option<Value>,
    #[serde(rename = "tool")]
    name: Option<String>,
    state: Option<ToolState>,
}

#[derive(Deserialize)]
struct ToolState {
    status: String,
    title: Option<String>,
}

impl Drawing {
    pub(super) fn new() -> Drawing {
        let (text, beside) = (Screen::stdout(), Screen::stderr());
        let is_shown = io::stdout().is_terminal();
        let (parts, tools, open, answer, last_text) = Default::default();
        Drawing { text, beside, is_shown, parts, tools, open, answer, last_text }
    }

    /// Draws what is new with this event. What cannot be drawn is left out: agents send many things.
    pub(super) fn event(&mut self, event: &Event) -> Written {
        match event.kind() {
            kind::MESSAGE_PART_UPDATED => self.update(event),
            kind::RESULT => self.result(event),
            kind::WARNING => self.warned(event),
            kind::INTERACTION => self.asked(event),
            kind::INTERACTION_ANSWERED => self.answered(event),
            kind::INPUT => self.heard(event),
            kind::RUN_COMPLETED => {
                self.whole(event.data().map(|Completed { final_text }| final_text).ok().flatten())?;
                self.end_text()
            }
            kind::RUN_FAILED => self.failed(event),
            _ => Ok(()),
        }
    }

    /// Ends the line that is being drawn, so that something else can be shown. Text that is not shown has no line to end:
    /// it goes to its reader as it is.
    pub(super) fn make_way(&mut self) -> Written {
        match self.open.take() {
            Some((_, true)) if self.is_shown => self.text.text('\n'),
            Some((_, false)) => self.beside.text('\n'),
            _ => Ok(()),
        }
    }

    /// Ends the text: there will be no more of it.
    fn end_text(&mut self) -> Written {
        if let Some((part, is_text)) = self.open.clone() {
            let half = self.parts.get_mut(&part).and_then(|drawn| drawn.high.take());
            half.map_or(Ok(()), |_| self.draw("\u{FFFD}", is_text))?;
        }
        let has_open_line = !self.is_shown && !self.answer.is_empty();
        self.make_way()?;
        if has_open_line { self.text.text('\n') } else { Ok(()) }
    }

    /// What was drawn is void.
    pub(super) fn start_anew(&mut self) -> Written {
        self.end_text()?;
        self.parts.clear();
        self.tools.clear();
        self.answer.clear();
        self.last_text = (None, false);
        Ok(())
    }

    fn update(&mut self, event: &Event) -> Written {
        let update = PartUpdate::of(event).unwrap_or_default();
        match update.part_type().map(|part| part.to_str()).as_deref() {
            Some("text") => self.grow(&update, true),
            Some("reasoning") => self.grow(&update, false),
            Some("tool") => {
                self.last_text.1 = true;
                event.data().map_or(Ok(()), |ToolUpdate { part }| self.tool(&part))
            }
            _ => Ok(()),
        }
    }

    /// A delta is appended; a snapshot is drawn as far as it is new (PROTOCOL 2.3).
    fn grow(&mut self, update: &PartUpdate<'_>, is_text: bool) -> Written {
        let id = update.part_id().map(|id| id.to_str()).unwrap_or_default().into_owned();
        let drawn = self.parts.entry(id.clone()).or_default();
        let new = match (update.delta(), update.text()) {
            (Some(delta), _) => drawn.append(delta),
            (None, Some(snapshot)) => drawn.replace(snapshot),
            (None, None) => return Ok(()),
        };
        let drawn_bytes = drawn.text.len();
        self.turn_to(id, is_text)?;
        let is_first = !new.trim().is_empty() && new.len() == drawn_bytes;
        if is_text && is_first {
            let message = update.message_id().map(|id| id.to_str().into_owned());
            let (last, follows_tool) = mem::replace(&mut self.last_text, (message.clone(), false));
            let is_other = last.zip(message).is_some_and(|(last, message)| last != message);
            if !self.answer.is_empty() && (follows_tool || is_other) {
                let missing = 2_usize.saturating_sub(line_feeds(&self.answer, &new));
                self.draw(&"\n".repeat(missing), true)?;
            }
        }
        self.draw(&new, is_text)
    }

    fn turn_to(&mut self, part: String, is_text: bool) -> Written {
        if self.open.as_ref().is_some_and(|(open, _)| *open == part) {
            return Ok(());
        }
        self.make_way()?;
        self.open = Some((part, is_text));
        Ok(())
    }

    fn draw(&mut self, new: &str, is_text: bool) -> Written {
        if !is_text {
            let painted = self.beside.paint(Look::Dim, new).to_string();
            return self.beside.text(painted);
        }
        let new = self.fit_to_show(new);
        self.answer.push_str(&new);
        self.text.text(new)
    }

    /// A terminal is kept from harm; any other reader gets the text as it is.
    fn fit_to_show<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_shown { harmless(text) } else { text.into() }
    }

    /// A tool call, once for each thing that is new about it: its input may come in many pieces.
    fn tool(&mut self, part: &Tool) -> Written {
        let name = part.name.as_deref().unwrap_or("tool");
        let (status, title) = match &part.state {
            Some(state) => (state.status.as_str(), state.title.as_deref().unwrap_or_default()),
            None => ("", ""),
        };
        let mark = match status {
            "completed" => '\u{2713}',
            "error" | "failed" => '\u{2717}',
            _ => '\u{2026}',
        };
        let line = format!("{mark} {} {}", in_line(name), in_line(title));
        let id = part.id.as_ref().or(part.call_id.as_ref()).map(Value::to_string);
        if self.tools.insert(id.unwrap_or_default(), line.clone()).as_ref() == Some(&line) {
            return Ok(());
        }
        self.line_beside(Look::Cyan, line.trim_end())
    }

    /// The whole answer, of which nothing is new where it was streamed (PROTOCOL 2.3).
    fn whole(&mut self, text: Option<String>) -> Written {
        let text = text.unwrap_or_default();
        let whole = self.fit_to_show(&text);
        let words = |text: &str| text.split_whitespace().collect::<String>();
        let new = new_of(&self.answer, &whole);
        if new.trim().is_empty() || words(&self.answer).ends_with(&words(&whole)) {
            return Ok(());
        }
        self.turn_to("result".to_owned(), true)?;
        self.draw(&new, true)
    }

    /// The agent's own account of the turn. An answer that was cut says so.
    fn result(&mut self, event: &Event) -> Written {
        let result = TurnResult::of(event).unwrap_or_default();
        self.whole(result.final_text().map(|text| text.to_str().into_owned()))?;
        result.finish_reason().and_then(cut_by).map_or(Ok(()), |cut| self.note(cut))
    }

    fn warned(&mut self, event: &Event) -> Written {
        #[derive(Deserialize)]
        struct Warning {
            message: String,
        }
        event.data().map_or(Ok(()), |Warning { message }| self.note(&message))
    }

    /// A question, as far as it can be understood. Whoever cannot answer it sees it all the same.
    fn asked(&mut self, event: &Event) -> Written {
        #[derive(Deserialize)]
        struct Asked {
            title: Option<String>,
            message: Option<String>,
            tool: Option<String>,
            input: Option<Value>,
            #[serde(default)]
            options: Vec<Choice>,
        }
        #[derive(Deserialize)]
        struct Choice {
            label: String,
        }
        let Ok(asked) = event.data::<Asked>() else { return Ok(()) };
        self.last_text.1 = true;
        let title = asked.title.as_deref().or(asked.tool.as_deref()).unwrap_or("The agent asks");
        self.line_beside(Look::Bold, &format!("? {title}"))?;
        for line in asked.message.iter().flat_map(|message| message.lines()) {
            self.line_beside(Look::Dim, &format!("  {line}"))?;
        }
        if let Some(input) = &asked.input {
            let tool = asked.tool.as_deref().unwrap_or("input");
            let input: String = input.to_string().chars().take(SHOWN).collect();
            self.line_beside(Look::Cyan, &format!("  {tool} {input}"))?;
        }
        for (at, option) in asked.options.iter().enumerate() {
            self.line_beside(Look::Dim, &format!("  {}  {}", at + 1, option.label))?;
        }
        Ok(())
    }

    fn answered(&mut self, event: &Event) -> Written {
        #[derive(Deserialize)]
        struct Told {
            outcome: String,
            data: Option<Value>,
            by: Option<String>,
        }
        let Ok(told) = event.data::<Told>() else { return Ok(()) };
        self.last_text.1 = true;
        let by = told.by.map(|by| format!(" by {by}")).unwrap_or_default();
        let data = told.data.map(|data| format!(": {data}")).unwrap_or_default();
        let line = format!("= {}{by}{data}", told.outcome);
        self.line_beside(Look::Dim, &line.chars().take(SHOWN).collect::<String>())
    }

    /// A message that somebody sent into the turn.
    fn heard(&mut self, event: &Event) -> Written {
        #[derive(Deserialize)]
        struct Heard {
            message: String,
        }
        event.data().map_or(Ok(()), |Heard { message }| {
            self.line_beside(Look::Bold, &format!("> {message}"))
        })
    }

    /// What is to be typed, on a line that goes on.
    pub(super) fn prompt(&mut self, text: &str) -> Written {
        self.make_way()?;
        let painted = self.beside.paint(Look::Bold, in_line(text)).to_string();
        self.open = Some((String::new(), false));
        self.beside.text(format_args!("{painted} "))
    }

    /// Whoever typed has ended that line.
    pub(super) fn typed(&mut self) {
        self.open = None;
    }

    fn note(&mut self, message: &str) -> Written {
        self.line_beside(Look::Dim, &format!("! {message}"))
    }

    /// A line beside the text.
    pub(super) fn line_beside(&mut self, look: Look, line: &str) -> Written {
        self.make_way()?;
        let painted = self.beside.paint(look, in_line(line)).to_string();
        self.beside.line(painted)
    }

    fn failed(&mut self, event: &Event) -> Written {
        self.end_text()?;
        let failure = Failure::of(event).unwrap_or_default();
        let message = failure.message().map(|message| message.to_str()).unwrap_or_default();
        let code = failure.code().map(|code| format!(" ({})", code.to_str())).unwrap_or_default();
        self.line_beside(Look::Red, &format!("failed: {message}{code}"))
    }
}

impl Drawn {
    /// What a delta adds.
    fn append(&mut self, delta: Text<'_>) -> String {
        if delta.is_empty() {
            return String::new();
        }
        let text = delta.to_str();
        let (mut new, mut rest) = (String::new(), &*text);
        if let Some(high) = self.high.take() {
            let joined = delta.joined_to(high);
            new.push(joined.unwrap_or(REPLACEMENT_CHARACTER));
            rest = joined.and_then(|_| rest.strip_prefix(REPLACEMENT_CHARACTER)).unwrap_or(rest);
        }
        self.high = delta.high_surrogate_at_end();
        let whole = self.high.and_then(|_| rest.strip_suffix(REPLACEMENT_CHARACTER));
        new.push_str(whole.unwrap_or(rest));
        self.text.push_str(&new);
        new
    }

    /// What a snapshot adds.
    fn replace(&mut self, snapshot: Text<'_>) -> String {
        self.high = None;
        let new = new_of(&self.text, &snapshot.to_str());
        self.text.push_str(&new);
        new
    }
}

/// How much of a question's input, and of an answer, is shown, in characters.
const SHOWN: usize = 400;

/// What is said of an answer that its model did not bring to an end.
pub(super) fn cut_by(reason: FinishReason) -> Option<&'static str> {
    match reason {
        FinishReason::Length => Some("the answer was cut: the model came to its limit"),
        FinishReason::ContentFilter => Some("the answer was cut by the model's content filter"),
        _ => None,
    }
}

/// The line feeds between two texts: those that the one ends with and the other begins with.
fn line_feeds(before: &str, after: &str) -> usize {
    let count = |breaks: &str| breaks.bytes().filter(|&byte| byte == b'\n').count();
    let is_break = |character| matches!(character, '\r' | '\n');
    let ends = &before[before.trim_end_matches(is_break).len()..];
    count(ends) + count(&after[..after.len() - after.trim_start_matches(is_break).len()])
}

/// What a snapshot adds to what was drawn; all of it, on a line of its own, where it is another text.
fn new_of(drawn: &str, snapshot: &str) -> String {
    match snapshot.strip_prefix(drawn) {
        Some(new) => new.to_owned(),
        None if snapshot.is_empty() => String::new(),
        None => format!("\n{snapshot}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_drawn_as_far_as_it_is_new() {
        assert_eq!(new_of("Hel", "Hello"), "lo");
        assert_eq!(new_of("Hello", "Hello"), "");
        assert_eq!(new_of("Hello", ""), "");
        assert_eq!(new_of("Hello", "Bye"), "\nBye");
    }
}
