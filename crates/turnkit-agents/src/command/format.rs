//! What a program prints: turnkit's own events, plain text, or the JSON lines of a known tool.

mod acp;
mod claude;
mod codex;
mod events;
mod gemini;
mod opencode;
mod text;

use std::{ffi::OsString, time::Duration};

use serde_json::Value;

pub(super) use self::acp::Task;
use self::text::Text;
use super::{Received, code, prompt, told::Told};
use crate::lenient::read;

/// What a program prints, and how it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Events of turnkit, one a line (PROTOCOL 1.2). It is asked by one line of JSON.
    #[default]
    Events,
    /// Text: all that it prints is the answer. It is asked by the message alone.
    Text,
    /// Claude Code: `claude -p --output-format stream-json --verbose --include-partial-messages`.
    Claude,
    /// Codex: `codex exec --json`.
    Codex,
    /// Gemini CLI: `gemini --output-format stream-json`.
    Gemini,
    /// opencode: `opencode run --format json`.
    OpenCode,
    /// The Agent Client Protocol, version 1: Gemini CLI (`gemini --acp`), goose (`goose acp`), opencode (`opencode acp`), the
    /// adapters of Claude Code and Codex, and others. Neither files nor terminals of the client are offered to the agent.
    Acp,
}

/// What is answered where an agent asks for a permission (ACP's `session/request_permission`) and nobody is to be asked, by the kind
/// of the option. Where the agent offers none of that kind, it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Permission {
    /// What is asked for is allowed this time.
    AllowOnce,
    /// It is allowed, and need not be asked for again.
    AllowAlways,
    /// It is refused this time.
    RejectOnce,
    /// It is refused, and need not be asked for again.
    RejectAlways,
}

impl Permission {
    /// The protocol's word, which is also the name by which it is chosen with hyphens in it.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::AllowOnce => "allow_once",
            Self::AllowAlways => "allow_always",
            Self::RejectOnce => "reject_once",
            Self::RejectAlways => "reject_always",
        }
    }
}

/// How the output is read.
pub(super) enum Reading {
    Text(Text),
    Lines(Box<dyn Mapper>),
}

/// Reads a tool's lines. Pure: what it makes of them goes into [`Told`].
pub(super) trait Mapper: Send {
    /// One line, with its end.
    fn line(&mut self, line: &[u8], told: &mut Told);

    /// The program has ended, well or not.
    fn end(&mut self, _is_good: bool, _told: &mut Told) {}

    /// How long the program must be silent before [`quiet`](Self::quiet) is called, where it waits for that.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// The program was silent for that long.
    fn quiet(&mut self, _told: &mut Told) {}

    /// An answer or an input: the event as it is in the log, one line.
    fn receive(&mut self, received: &Received, told: &mut Told) {
        told.say(received.event().as_line());
    }

    /// Nobody wants the rest of the answer. Whether the program is told so, and may end by itself.
    fn cancel(&mut self, _told: &mut Told) -> bool {
        false
    }
}

impl Format {
    /// The name by which it is chosen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Text => "text",
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::OpenCode => "opencode",
            Self::Acp => "acp",
        }
    }

    /// Reads what a program prints about `task`.
    pub(super) fn reading(self, task: Task, max_event: usize, told: &mut Told) -> Reading {
        Reading::Lines(match self {
            Self::Text => return Reading::Text(Text::default()),
            Self::Events => Box::new(events::Events::new(max_event)),
            Self::Claude => Box::new(claude::Claude::default()),
            Self::Codex => Box::new(codex::Codex::default()),
            Self::Gemini => Box::new(gemini::Gemini::default()),
            Self::OpenCode => Box::new(opencode::OpenCode::default()),
            Self::Acp => Box::new(acp::Acp::new(task, told)),
        })
    }

    /// Whether its standard input stays open for what comes up.
    pub(super) fn has_a_dialogue(self) -> bool {
        self == Self::Acp
    }

    /// Whether the tool has sessions of its own, which go on from turn to turn.
    pub(super) fn has_sessions(self) -> bool {
        !matches!(self, Self::Events | Self::Text)
    }

    /// Whether the end of an answer is said by the tool itself.
    pub(super) fn says_its_end(self) -> bool {
        !matches!(self, Self::Events | Self::Text)
    }

    /// Adds what makes the tool go on with its own session.
    pub(super) fn resume(self, args: &mut Vec<OsString>, given: &[OsString], session: &str) {
        match self {
            Self::Claude | Self::Gemini => {
                prompt::insert(args, given, ["--resume", session], false);
            }
            Self::OpenCode => prompt::insert(args, given, ["--session", session], false),
            // Here it is a command of its own, with the message behind it.
            Self::Codex => prompt::insert(args, given, ["resume", session], true),
            Self::Events | Self::Text | Self::Acp => {}
        }
    }
}

/// The first line of a known tool's output.
fn tool_of(line: &Value) -> Option<(&'static str, Format)> {
    let kind = line.get("type").and_then(Value::as_str).unwrap_or_default();
    let has = |name: &str| line.get(name).is_some_and(Value::is_string);
    if line.get("jsonrpc").and_then(Value::as_str) == Some("2.0") {
        return Some(("the Agent Client Protocol", Format::Acp));
    }
    match kind {
        "system" if has("subtype") && has("session_id") => {
            Some(("Claude Code's stream-json", Format::Claude))
        }
        "result" if has("subtype") && line.get("is_error").is_some() => {
            Some(("Claude Code's json", Format::Claude))
        }
        "thread.started" if has("thread_id") => Some(("Codex's JSON lines", Format::Codex)),
        "init" if has("session_id") && has("timestamp") => {
            Some(("Gemini CLI's stream-json", Format::Gemini))
        }
        "step_start" if has("sessionID") => Some(("opencode's JSON lines", Format::OpenCode)),
        _ => None,
    }
}

/// Fails a run whose output is that of another tool than was said.
fn refuse_other(line: &Value, own: Format, told: &mut Told) -> bool {
    let Some((name, format)) = tool_of(line) else { return false };
    if format == own {
        return false;
    }
    let option = format.name();
    told.refuse(
        code::INVALID_OUTPUT,
        &format!("the program's output is not what --command-format {} reads: this looks like {name}: --command-format {option}", own.name()),
    );
    true
}

/// A tool's line as an object. What is none is a diagnostic, and the first one of another tool fails the run.
fn object(line: &[u8], own: Format, is_first: &mut bool, told: &mut Told) -> Option<Value> {
    let Some(value) = read(line.trim_ascii()).filter(Value::is_object) else {
        told.stray(line);
        return None;
    };
    if std::mem::take(is_first) && refuse_other(&value, own, told) {
        return None;
    }
    Some(value)
}

/// The text of a member; empty where it is none.
fn text_of<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
