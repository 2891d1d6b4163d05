//! What an agent does when it is asked: drawn from the seed, and known to the checks.

use std::{fmt, mem, time::Duration};

use fastrand::Rng;
use turnkit_wire::Event;

/// One run of the agent: its events with their pace, and the answer that they amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The user's message, which chooses the script.
    pub message: String,
    /// The events.
    pub steps: Vec<Step>,
    /// The text of all its parts.
    pub text: String,
    /// How the run ends.
    pub outcome: Outcome,
}

/// An event, and how long the agent thinks before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Before the event.
    pub pause: Duration,
    /// The event.
    pub event: Event,
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It completes, and this is the answer.
    Answer(String),
    /// It completes after an `error` event with this code, so that the turn fails.
    Error(String),
    /// The agent fails with this code.
    Failure(String),
}

impl Script {
    /// Draws what the agent does for `message`.
    #[must_use]
    pub fn draw(rng: &mut Rng, message: &str) -> Self {
        let mut writer = Writer::new(rng, message);
        let outcome = writer.write();
        let mut steps = Vec::with_capacity(writer.lines.len());
        for line in writer.lines {
            // Every line below is one JSON object with a type.
            if let Ok(event) = Event::from_json(line.as_bytes()) {
                steps.push(Step { pause: writer.pace.mul_f64(rng.f64()), event });
            }
        }
        Self { message: message.to_owned(), steps, text: writer.text, outcome }
    }

    /// The answer, where the turn has one.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    /// The code that the turn fails with by itself.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answer(_) => None,
            Outcome::Error(code) | Outcome::Failure(code) => Some(code),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within: Duration = self.steps.iter().map(|step| step.pause).sum();
        let outcome = match &self.outcome {
            Outcome::Answer(answer) => format!("answers {} bytes", answer.len()),
            Outcome::Error(code) => format!("reports the error {code}"),
            Outcome::Failure(code) => format!("fails with {code}"),
        };
        write!(f, "{:?}: {} events in {within:?}, {outcome}", self.message, self.steps.len())
    }
}

struct Writer {
    rng: Rng,
    lines: Vec<String>,
    text: String,
    pace: Duration,
    parts: usize,
    /// A tool part came after the last text.
    follows_tool: bool,
}

impl Writer {
    fn new(rng: &mut Rng, message: &str) -> Self {
        let rng = Rng::with_seed(rng.u64(..) ^ message.len() as u64);
        let pace = Duration::from_millis([20, 200, 600][rng.clone().usize(..3)]);
        Self { rng, lines: Vec::new(), text: String::new(), pace, parts: 0, follows_tool: false }
    }

    fn write(&mut self) -> Outcome {
        for _ in 0..=self.rng.usize(..4) {
            self.aside();
            self.text_part();
        }
        self.aside();
        match self.rng.u8(..10) {
            0 => self.error(),
            1 => Outcome::Failure("AGENT_FAILED".to_owned()),
            2..=5 => self.result(),
            _ => Outcome::Answer(self.text.clone()),
        }
    }

    /// Events that are no text: some of them are filtered on the way, all others go through byte for byte.
    fn aside(&mut self) {
        for _ in 0..self.rng.usize(..3) {
            let number = self.lines.len();
            let line = match self.rng.u8(..6) {
                0 | 1 => format!(r#"{{"type":"heartbeat","data":{{"n":{number}}}}}"#),
                2 => part(&format!("r{number}"), "reasoning", "thinking", Some("thinking")),
                3 => {
                    self.follows_tool = true;
                    format!(
                        r#"{{"type":"message.part.updated","data":{{"part":{{"id":"t{number}","type":"tool","tool":"bash","state":{{"status":"running"}}}}}}}}"#
                    )
                }
                4 => format!(r#"{{"data":[1E5,-0,"\ud800","\/",{number}] , "type":"odd\u0021"}}"#),
                _ => {
                    format!(r#"{{"type":"blob","data":"{}"}}"#, "x".repeat(self.rng.usize(..9_000)))
                }
            };
            self.lines.push(line);
        }
    }

    fn text_part(&mut self) {
        let id = format!("p{}", self.parts);
        self.parts += 1;
        let mut so_far = String::new();
        for _ in 0..=self.rng.usize(..6) {
            let delta = format!("{} ", WORDS[self.rng.usize(..WORDS.len())]);
            so_far.push_str(&delta);
            // A snapshot, or a delta with the snapshot beside it.
            let delta = self.rng.bool().then_some(delta.as_str());
            self.lines.push(part(&id, "text", &so_far, delta));
        }
        // The joined text (PROTOCOL 2.3).
        if mem::take(&mut self.follows_tool) && !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.text.push_str(&so_far);
    }

    fn result(&mut self) -> Outcome {
        let answer = format!("{}(the end)", self.text);
        let spelt = answer.replace('\n', "\\n");
        self.lines.push(format!(r#"{{"type":"result","data":{{"finalText":"{spelt}"}}}}"#));
        Outcome::Answer(answer)
    }

    fn error(&mut self) -> Outcome {
        let code = "AGENT_EXECUTION_FAILED".to_owned();
        self.lines
            .push(format!(r#"{{"type":"error","data":{{"code":"{code}","message":"no luck"}}}}"#));
        self.aside();
        Outcome::Error(code)
    }
}

fn part(id: &str, kind: &str, text: &str, delta: Option<&str>) -> String {
    let delta = delta.map(|delta| format!(r#","delta":"{delta}""#)).unwrap_or_default();
    format!(
        r#"{{"type":"message.part.updated","data":{{"part":{{"id":"{id}","messageID":"m","type":"{kind}","text":"{text}"}}{delta}}}}}"#
    )
}

const WORDS: [&str; 6] = ["once", "upon", "a", "naïve", "log", "日本"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_holds_every_event_that_was_written_for_it() {
        for seed in 0..200 {
            let mut writer = Writer::new(&mut Rng::with_seed(seed), "hello");
            writer.write();
            let script = Script::draw(&mut Rng::with_seed(seed), "hello");
            assert_eq!(script.steps.len(), writer.lines.len());
        }
    }

    #[test]
    fn scripts_end_in_every_way() {
        let scripts: Vec<_> =
            (0..200).map(|seed| Script::draw(&mut Rng::with_seed(seed), "m")).collect();
        assert!(scripts.iter().any(|script| matches!(script.outcome, Outcome::Answer(_))));
        assert!(scripts.iter().any(|script| matches!(script.outcome, Outcome::Error(_))));
        assert!(scripts.iter().any(|script| matches!(script.outcome, Outcome::Failure(_))));
    }
}
