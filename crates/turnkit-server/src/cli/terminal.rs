//! What people see: colour where a terminal wants it, and nothing that could make the terminal do something.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write};

/// A place to write to, with or without colour.
pub(super) struct Screen<W> {
    out: W,
    name: &'static str,
    has_color: bool,
}

/// What became of writing.
pub(super) type Written<T = ()> = Result<T, WriteError>;

/// Nothing more can be written there.
#[derive(Debug, thiserror::Error)]
#[error("write to {name}")]
pub(super) struct WriteError {
    name: &'static str,
    source: io::Error,
}

impl WriteError {
    /// Whether the reader has gone, as `head` does when it has seen enough.
    pub(super) fn is_unread(&self) -> bool {
        self.source.kind() == io::ErrorKind::BrokenPipe
    }
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
    Magenta,
}

impl Look {
    /// The SGR parameter (ECMA-48 8.3.117).
    fn code(self) -> u8 {
        match self {
            Look::Bold => 1,
            Look::Dim => 2,
            Look::Red => 31,
            Look::Green => 32,
            Look::Yellow => 33,
            Look::Magenta => 35,
            Look::Cyan => 36,
        }
    }
}

impl Screen<io::Stdout> {
    pub(super) fn stdout() -> Screen<io::Stdout> {
        let out = io::stdout();
        let has_color = wants_color(out.is_terminal());
        Screen { out, name: "standard output", has_color }
    }
}

impl Screen<io::Stderr> {
    pub(super) fn stderr() -> Screen<io::Stderr> {
        let out = io::stderr();
        let has_color = wants_color(out.is_terminal());
        Screen { out, name: "standard error", has_color }
    }
}

impl<W: Write> Screen<W> {
    /// Writes a line.
    pub(super) fn line(&mut self, text: impl Display) -> Written {
        writeln!(self.out, "{text}").map_err(|error| self.failed(error))
    }

    /// Writes text as it comes, at once.
    pub(super) fn text(&mut self, text: impl Display) -> Written {
        let written = write!(self.out, "{text}").and_then(|()| self.out.flush());
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> WriteError {
        WriteError { name: self.name, source }
    }

    /// `text` in a look, for [`line`](Self::line) and [`text`](Self::text).
    pub(super) fn paint<T: Display>(&self, look: Look, text: T) -> Painted<T> {
        Painted { code: self.has_color.then(|| look.code()), text }
    }
}

/// Text with its look. What is in the text cannot take it away, or steer the terminal otherwise.
pub(super) struct Painted<T> {
    code: Option<u8>,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.code {
            Some(code) => {
                write!(f, "\x1b[{code}m")?;
                write!(Spelling(f), "{text}")?;
                f.write_str("\x1b[0m")
            }
            None => write!(Spelling(f), "{text}"),
        }
    }
}

/// Spells what would steer a terminal on its way.
struct Spelling<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Spelling<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&harmless(text))
    }
}

/// `NO_COLOR` (no-color.org) and `TERM=dumb` are respected.
pub(super) fn wants_color(is_terminal: bool) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_terminal && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text from elsewhere, for a terminal: what would move its cursor, recolour or rename it, write to its clipboard or ring, and what turns
/// the writing direction of all that follows, is spelt as Rust spells it (PROTOCOL 2.4). Lines, also those that end in CR and LF, and
/// tabs stay.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") {
        return harmless(&text.replace("\r\n", "\n")).into_owned().into();
    }
    replaced(text, |character| matches!(character, '\n' | '\t'), as_rust)
}

/// [`harmless`] text for a place that is one line: a name, an id, an error.
pub(super) fn in_line(text: &str) -> Cow<'_, str> {
    replaced(text, |_| false, as_rust)
}

/// JSON for a terminal: the same value. Outside of its strings there is nothing to spell but white space.
pub(super) fn harmless_json(json: &str) -> Cow<'_, str> {
    let is_space = |character: char| character.is_ascii_whitespace();
    replaced(json, is_space, |character| format!("\\u{:04x}", u32::from(character)))
}

fn as_rust(character: char) -> String {
    character.escape_default().to_string()
}

/// `text` with the spelling of each character that would steer a terminal, but for those that stay.
fn replaced(text: &str, stays: fn(char) -> bool, spelling: fn(char) -> String) -> Cow<'_, str> {
    // Embeddings, overrides and isolates hold until somebody ends them; marks turn nothing but their neighbours.
    let is_turn =
        |character| matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_harmful =
        |character: char| (character.is_control() && !stays(character)) || is_turn(character);
    if !text.contains(is_harmful) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            shown.push_str(&spelling(character));
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

/// At most `width` characters of a line: an ellipsis stands for what is left out before its last third.
pub(super) fn fitted(text: &str, width: Option<usize>) -> Cow<'_, str> {
    let length = text.chars().count();
    let Some(width) = width.filter(|width| *width < length) else {
        return text.into();
    };
    let tail = width / 3;
    let head = text.chars().take(width.saturating_sub(tail + 1));
    head.chain(['\u{2026}']).chain(text.chars().skip(length - tail)).collect::<String>().into()
}

/// The width of standard output in characters: as `COLUMNS` says, or the terminal's; `None` where there is none.
pub(super) fn columns() -> Option<usize> {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    set.or_else(|| terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_controls_the_terminal() {
        assert_eq!(
            harmless("a\x1b[31mb\u{9b}0mc\rd\ne\tf\u{202e}g\x07\x7f"),
            "a\\u{1b}[31mb\\u{9b}0mc\\rd\ne\tf\\u{202e}g\\u{7}\\u{7f}"
        );
        assert!(matches!(harmless("plain ä\n\u{200f}\t"), Cow::Borrowed(_)));
        assert_eq!(in_line("bash\n! failed\t\x1b"), "bash\\n! failed\\t\\u{1b}");
        let json = "{\"a\":\t\"\u{9b}\u{7f}\u{2066}ä\"}";
        let shown = harmless_json(json);
        assert_eq!(shown, "{\"a\":\t\"\\u009b\\u007f\\u2066ä\"}");
        let value = |json| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&shown), value(json));
    }

    #[test]
    fn a_line_is_fitted_by_characters() {
        assert_eq!(fitted("äöü", Some(3)), "äöü");
        assert_eq!(fitted("äöüß", Some(3)), "ä…ß");
        assert_eq!(fitted("äöüß", Some(0)), "…");
        assert_eq!(fitted("äöüß", None), "äöüß");
    }

    #[test]
    fn without_colour_a_look_leaves_no_trace() {
        let screen = Screen { out: Vec::new(), name: "a test", has_color: false };
        assert_eq!(screen.paint(Look::Green, "x").to_string(), "x");
        let screen = Screen { out: Vec::new(), name: "a test", has_color: true };
        assert_eq!(screen.paint(Look::Green, "x\x1b[m").to_string(), "\x1b[32mx\\u{1b}[m\x1b[0m");
    }
}
