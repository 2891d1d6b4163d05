//! An agent without a key and without a network, whose answer is the same for the same message.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use futures_core::Stream;
use futures_util::stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use turnkit_wire::Event;

use super::{Agent, AgentError, Cancel, RunRequest};

/// Streams a multi-part answer: reasoning, a tool call, then text in several pieces, then `result` (PROTOCOL 3.4).
///
/// A message with the word "long" gets 200 pieces of text, any other one a short answer. Which events, and every byte of
/// them, depend on the message and the session alone; only their pace is a matter of time.
///
/// ```
/// use std::time::Duration;
/// use turnkit_substrate::agents::demo::Demo;
///
/// let quick = Demo::new().pace(Duration::from_millis(2));
/// # let _ = quick;
/// ```
#[derive(Clone, Debug)]
pub struct Demo {
    pace: Duration,
}

impl Demo {
    /// A demo agent that sends 20 events a second.
    #[must_use]
    pub fn new() -> Self {
        let pace = Duration::from_millis(50);
        Self { pace }
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
    fn run(
        &self,
        request: RunRequest,
        _cancel: Cancel,
    ) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let pace = self.pace;
        stream::unfold(
            Answer::to(&request).events(pace),
            move |mut left| async move {
                let (kind, data) = left.pop_front()?;
                if !pace.is_zero() {
                    tokio::time::sleep(pace).await;
                }
                let event = Event::new(kind, &data)
                    .map_err(|error| AgentError::new("demo_failed", error.to_string()));
                Some((event, left))
            },
        )
    }

    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed(
            "a scripted answer: reasoning, a tool call, text; needs no key and no network",
        )
    }
}

/// What the demo answers to one message.
struct Answer {
    session: String,
    question: String,
    trace: String,
    words: usize,
    pieces: Vec<String>,
}

type Script = VecDeque<(&'static str, Value)>;

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
                .fold(String::from("demo-"), |trace, byte| {
                    format!("{trace}{byte:02x}")
                }),
            words: words(message).count(),
            pieces: if is_long { long() } else { short(message) },
        }
    }

    fn events(&self, pace: Duration) -> Script {
        let mut script = Script::new();
        self.reasoning(&mut script);
        self.tool_call(&mut script);
        self.text(&mut script);
        self.result(&mut script, pace);
        script
    }

    fn reasoning(&self, script: &mut Script) {
        let thought = format!(
            "The user wrote {} words: \u{201c}{}\u{201d}. ",
            self.words, self.question
        );
        for delta in [
            thought.as_str(),
            "I count them with a tool, ",
            "then I answer.",
        ] {
            script.push_back(self.delta("prt_reasoning", "reasoning", delta));
        }
    }

    fn tool_call(&self, script: &mut Script) {
        let input = json!({ "command": "wc -w" });
        let running = json!({ "status": "running", "input": input });
        let completed = json!({
            "status": "completed",
            "input": input,
            "output": format!("{}\n", self.words),
            "title": "Count the words",
        });
        for state in [running, completed] {
            let part = self.part(
                "prt_tool",
                json!({ "type": "tool", "tool": "bash", "callID": "call_1", "state": state }),
            );
            script.push_back((PART, json!({ "part": part })));
        }
    }

    fn text(&self, script: &mut Script) {
        for piece in &self.pieces {
            script.push_back(self.delta("prt_text", "text", piece));
        }
    }

    fn result(&self, script: &mut Script, pace: Duration) {
        let text = self.pieces.concat();
        let total = pace.saturating_mul(u32::try_from(script.len() + 1).unwrap_or(u32::MAX));
        let data = json!({
            "finalText": text,
            "metadata": { "sessionId": self.session, "traceId": self.trace },
            "tokenUsage": { "inputTokens": self.words, "outputTokens": words(&text).count() },
            "timing": { "totalMs": crate::limits::millis(total) },
        });
        script.push_back(("result", data));
    }

    fn delta(&self, id: &str, kind: &str, delta: &str) -> (&'static str, Value) {
        let part = self.part(id, json!({ "type": kind }));
        (PART, json!({ "part": part, "delta": delta }))
    }

    fn part(&self, id: &str, mut part: Value) -> Value {
        part["id"] = id.into();
        part["sessionID"] = self.session.as_str().into();
        part["messageID"] = "msg_1".into();
        part
    }
}

const PART: &str = "message.part.updated";

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
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
