//! A turn's events as a terminal shows them: text as it comes, reasoning and tools beside it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, IsTerminal as _};

use serde::Deserialize;
use turnkit_wire::Event;

use super::terminal::{Look, Screen, Written, harmless};

/// What has been drawn of a turn. Text goes to standard output, everything else to standard error.
pub(super) struct Drawing {
    text: Screen<io::Stdout>,
    beside: Screen<io::Stderr>,
    /// Whether text is shown among everything else, so that each needs lines of its own.
    is_shown: bool,
    /// What was drawn of each part, by its id.
    parts: HashMap<String, String>,
    /// The part that the last line belongs to, if it may go on.
    open: Option<(String, bool)>,
    /// All text that was drawn.
    answer: String,
}

#[derive(Deserialize)]
struct Update {
    part: Part,
    delta: Option<String>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    id: String,
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    tool: Option<String>,
    state: Option<ToolState>,
}

#[derive(Deserialize)]
struct ToolState {
    status: String,
    title: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    final_text: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
    code: Option<String>,
}

impl Drawing {
    pub(super) fn new() -> Drawing {
        let (text, beside) = (Screen::stdout(), Screen::stderr());
        let is_shown = io::stdout().is_terminal();
        let (parts, open, answer) = (HashMap::new(), None, String::new());
        Drawing { text, beside, is_shown, parts, open, answer }
    }

    /// Draws what is new with this event. What cannot be drawn is left out: agents send many things.
    pub(super) fn event(&mut self, event: &Event) -> Written {
        match event.kind() {
            "message.part.updated" => event.data().map_or(Ok(()), |update| self.update(update)),
            "result" => event.data().map_or(Ok(()), |answer| self.result(answer)),
            "session.run.completed" => self.end_text(),
            "session.run.failed" => event.data().map_or(Ok(()), |failure| self.failed(&failure)),
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
        let has_open_line = !self.is_shown && !self.answer.is_empty();
        self.make_way()?;
        if has_open_line { self.text.text('\n') } else { Ok(()) }
    }

    /// What was drawn is void.
    pub(super) fn start_anew(&mut self) -> Written {
        self.end_text()?;
        self.parts.clear();
        self.answer.clear();
        Ok(())
    }

    fn update(&mut self, update: Update) -> Written {
        match update.part.kind.as_str() {
            "text" => self.grow(update, true),
            "reasoning" => self.grow(update, false),
            "tool" => self.tool(&update.part),
            _ => Ok(()),
        }
    }

    /// A delta is appended; a snapshot is drawn as far as it is new (PROTOCOL 2.3).
    fn grow(&mut self, update: Update, is_text: bool) -> Written {
        let drawn = self.parts.entry(update.part.id.clone()).or_default();
        let new = match (update.delta, update.part.text) {
            (Some(delta), _) => delta,
            (None, Some(snapshot)) => new_of(drawn, &snapshot),
            (None, None) => return Ok(()),
        };
        drawn.push_str(&new);
        self.turn_to(update.part.id, is_text)?;
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
            let painted = self.beside.paint(Look::Dim, harmless(new)).to_string();
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

    fn tool(&mut self, part: &Part) -> Written {
        self.make_way()?;
        let name = harmless(part.tool.as_deref().unwrap_or("tool"));
        let (status, title) = match &part.state {
            Some(state) => (state.status.as_str(), state.title.as_deref().unwrap_or_default()),
            None => ("", ""),
        };
        let mark = if status == "completed" { '\u{2713}' } else { '\u{2026}' };
        let line = format!("{mark} {name} {}", harmless(title));
        let painted = self.beside.paint(Look::Cyan, line.trim_end()).to_string();
        self.beside.line(painted)
    }

    /// The whole answer: all there is where it was saved before, and nothing new where it was streamed.
    fn result(&mut self, answer: Answer) -> Written {
        let Some(whole) = answer.final_text else {
            return Ok(());
        };
        let new = new_of(&self.answer, &self.fit_to_show(&whole));
        if new.is_empty() {
            return Ok(());
        }
        self.turn_to("result".to_owned(), true)?;
        self.draw(&new, true)
    }

    fn failed(&mut self, failure: &Failure) -> Written {
        self.end_text()?;
        let code = failure.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        let line = format!("failed: {}{code}", failure.message);
        let painted = self.beside.paint(Look::Red, harmless(&line)).to_string();
        self.beside.line(painted)
    }
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
