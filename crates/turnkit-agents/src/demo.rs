//! An agent without a key and without a network, whose answer is the same for the same message.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use sha2::{Digest, Sha256};
use turnkit_agent::{Agent, AgentError, Run, RunRequest};
use turnkit_wire::{
    Event,
    write::{Json, Part, TokenUsage, ToolCall, ToolStatus, TurnResult},
};

use crate::millis;

/// Streams a multi-part answer: reasoning, a tool call, then text in several pieces, then `result` (PROTOCOL 3.4).
///
/// A message with the word "long" gets 200 pieces of text, any other one a short answer. Which events, and every byte of
/// them, depend on the message and the session alone; only their pace is a matter of time.
///
/// ```
/// use std::time::Duration;
/// use turnkit_agents::demo::Demo;
///
/// let quick = Demo::new().pace(Duration::from_millis(2));
/// # let _ = quick;
/// ```
#[derive(Clone, Debug)]
pub struct Demo {
    pace: Duration,
    description: Cow<'static, str>,
}

impl Demo {
    /// A demo agent that sends 20 events a second.
    #[must_use]
    pub fn new() -> Self {
        let description =
            "a scripted answer: reasoning, a tool call, text; needs no key and no network";
        Self { pace: Duration::from_millis(50), description: Cow::Borrowed(description) }
    }

    /// What `GET /agents` says about it.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = Cow::Owned(description.into());
        self
    }

    /// Waits this long before each event; zero sends them as fast as they are stored.
    #[must_use]
    pub fn pace(mut self, between_events: Duration) -> Self {
        self.pace = between_events;
        self
    }
}

impl Default for Demo {
    fn default() -> Self {
        Self::new()
    }
}

impl Agent for Demo {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let pace = self.pace;
        let script = Answer::to(run.request()).script(pace);
        let events = stream::unfold(script, move |mut left| async move {
            let event = left.next()?;
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
            Some((event, left))
        });
        events.take_until(run.cancel().cancelled())
    }

    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.description)
    }
}

/// Where the tool call begins in the events of an answer, after the reasoning.
const TOOL_CALL: usize = 3;
/// Where the text begins, after the two events of the tool call.
const TEXT: usize = TOOL_CALL + 2;

/// What the demo answers to one message.
struct Answer {
    session: String,
    question: String,
    trace: String,
    words: usize,
    pieces: Vec<String>,
}

impl Answer {
    fn to(request: &RunRequest) -> Self {
        let message = request.message();
        let is_long = words(message).any(|word| word.eq_ignore_ascii_case("long"));
        let digest = Sha256::digest(message);
        Self {
            session: request.session_id().unwrap_or("demo").to_owned(),
            question: excerpt(message),
            trace: digest
                .iter()
                .take(8)
                .fold(String::from("demo-"), |trace, byte| format!("{trace}{byte:02x}")),
            words: words(message).count(),
            pieces: if is_long { long() } else { short(message) },
        }
    }

    /// The events, each one made when it is asked for: many answers at once hold little more than their texts.
    fn script(self, pace: Duration) -> impl Iterator<Item = Result<Event, AgentError>> {
        let result = TEXT + self.pieces.len();
        (0..=result).map(move |at| self.event(at, pace))
    }

    fn event(&self, at: usize, pace: Duration) -> Result<Event, AgentError> {
        match at {
            0..TOOL_CALL => Ok(self.reasoning(at)),
            TOOL_CALL..TEXT => self.tool_call(at > TOOL_CALL),
            _ => Ok(match self.pieces.get(at - TEXT) {
                Some(piece) => self.part("prt_text").text_delta(piece),
                None => self.result(at + 1, pace),
            }),
        }
    }

    fn reasoning(&self, step: usize) -> Event {
        let (words, question) = (self.words, &self.question);
        let plural = if words == 1 { "" } else { "s" };
        let thought = format!("The user wrote {words} word{plural}: \u{201c}{question}\u{201d}. ");
        let steps: [&str; TOOL_CALL] = [&thought, "I count them with a tool, ", "then I answer."];
        self.part("prt_reasoning").reasoning_delta(steps[step])
    }

    fn tool_call(&self, is_completed: bool) -> Result<Event, AgentError> {
        let input = json(&BTreeMap::from([("command", "wc -w")]))?;
        let output = json(&format!("{}\n", self.words))?;
        let call = if is_completed {
            let completed = ToolCall::new("bash", ToolStatus::Completed);
            completed.output(&output).title("Count the words")
        } else {
            ToolCall::new("bash", ToolStatus::Running)
        };
        Ok(self.part("prt_tool").tool(&call.call_id("call_1").input(&input)))
    }

    fn result(&self, events: usize, pace: Duration) -> Event {
        let text = self.pieces.concat();
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        TurnResult::new()
            .final_text(&text)
            .session_id(&self.session)
            .trace_id(&self.trace)
            .token_usage(TokenUsage::new(self.words as u64, words(&text).count() as u64))
            .total_ms(millis(pace.saturating_mul(events)))
            .event()
    }

    fn part<'a>(&'a self, id: &'a str) -> Part<'a> {
        Part::new(id).session(&self.session).message("msg_1")
    }
}

fn json(value: &impl Serialize) -> Result<Json<'static>, AgentError> {
    Json::of(value).map_err(|error| AgentError::new("demo_failed", error.to_string()))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// The first 80 characters of a message.
fn excerpt(message: &str) -> String {
    let mut excerpt: String = message.chars().take(80).collect();
    if excerpt.len() < message.len() {
        excerpt.push('\u{2026}');
    }
    excerpt
}

fn short(message: &str) -> Vec<String> {
    let question = excerpt(message);
    let opening = ["You ", "wrote: ", "\u{201c}", &question, "\u{201d}. "].map(str::to_owned);
    opening.into_iter().chain(pieces(CLOSING)).collect()
}

fn long() -> Vec<String> {
    (0..LONG_PIECES)
        .map(|at| match at % 20 {
            0 => format!("\n\n## Part {}\n\n", at / 20 + 1),
            step => format!("{} ", LONG[(at + step) % LONG.len()]),
        })
        .collect()
}

/// Words with the space behind them.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    text.split_inclusive(' ').map(str::to_owned)
}

const LONG_PIECES: usize = 200;

const CLOSING: &str = "This answer comes from the demo agent. It was written to a log before you saw it, \
    so you can reload this page, lose the network or come back later: you get every word once, and the agent runs once.";

const LONG: [&str; 12] = [
    "Every event is stored first,",
    "and delivered after.",
    "A reader brings its cursor,",
    "and the log goes on from there.",
    "The agent ran once.",
    "Nobody has to ask it again.",
    "A slow reader costs nothing,",
    "a fast one waits for nobody.",
    "Lines may be cut anywhere;",
    "what comes back joins without a seam.",
    "**Nothing** is lost,",
    "and *nothing* comes twice.",
];

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use turnkit_agent::CancelHandle;
    use turnkit_id::ExecutionId;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stopped_demo_ends_at_once() {
        let (handle, cancel) = CancelHandle::new();
        let request = RunRequest::new(ExecutionId::parse("e").unwrap(), "hello");
        let demo = Demo::new().pace(Duration::from_secs(3_600));
        let mut events = pin!(demo.run(Run::new(request, cancel)));
        assert!(events.next().await.is_some());
        let started = tokio::time::Instant::now();
        handle.cancel();
        assert!(events.next().await.is_none());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
