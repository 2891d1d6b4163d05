//! An agent without a key and without a network, whose answer is the same for the same message.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use futures_core::Stream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use sha2::{Digest, Sha256};
use turnkit_agent::{Agent, AgentError, Inbox, Received, Run, RunRequest, Takes};
use turnkit_wire::{
    Event,
    interaction::{Interaction, Kind},
    write::{Json, Part, TokenUsage, ToolCall, ToolStatus, TurnResult},
};

use crate::millis;

/// Streams a multi-part answer: reasoning, a tool call, then text in several pieces, then `result` (PROTOCOL 3.4).
///
/// A message with the word "long" gets 200 pieces of text, any other one a short answer. Which events, and every byte of
/// them, depend on the message, the session and what it is told while it runs; only their pace is a matter of time.
///
/// **It asks** (PROTOCOL 3.6) by these words of the message, one question of each kind, in this order: "approve" asks whether the tool
/// may run, "choose" offers options, "form" asks for data by a schema, and "location" calls a tool that a client runs. Where nobody can
/// answer it goes on without. A message into its turn is repeated in its answer.
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
        let inbox = run.inbox().clone();
        let script = Script::of(Answer::to(run.request()));
        let events = stream::unfold((script, inbox), move |(mut script, inbox)| async move {
            let event = script.next(pace, &inbox).await?;
            Some((event, (script, inbox)))
        });
        events.take_until(run.cancel().cancelled())
    }

    fn takes(&self) -> Takes {
        Takes { answers: true, input: true }
    }

    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.description)
    }
}

/// An answer on its way.
struct Script {
    answer: Answer,
    /// The steps that are still to come.
    steps: VecDeque<Step>,
    /// What is told before anything else.
    ready: VecDeque<Event>,
    /// How many events were told.
    told: u32,
    text: String,
}

/// What the demo does next.
enum Step {
    Think(usize),
    Call,
    /// Asks whether the call may be carried out, where the message wants that, and carries it out.
    Run,
    Ask(Question),
    Say(String),
    End,
}

/// What a message can make the demo ask beside an approval.
#[derive(Clone, Copy)]
enum Question {
    Choose,
    Form,
    Location,
}

impl Script {
    fn of(mut answer: Answer) -> Self {
        let mut steps: VecDeque<_> = (0..THOUGHTS).map(Step::Think).collect();
        steps.extend([Step::Call, Step::Run]);
        let asked = [
            ("choose", Question::Choose),
            ("form", Question::Form),
            ("location", Question::Location),
        ];
        let asked = asked.into_iter().filter(|(word, _)| answer.has_word(word));
        steps.extend(asked.map(|(_, question)| Step::Ask(question)));
        steps.extend(std::mem::take(&mut answer.pieces).into_iter().map(Step::Say));
        steps.push_back(Step::End);
        Self { answer, steps, ready: VecDeque::new(), told: 0, text: String::new() }
    }

    /// The next event, at its time.
    async fn next(&mut self, pace: Duration, inbox: &Inbox) -> Option<Result<Event, AgentError>> {
        if self.ready.is_empty() && !pace.is_zero() && !self.steps.is_empty() {
            tokio::time::sleep(pace).await;
        }
        // What comes after the last look into the inbox is told as untaken, and can become a turn of its own.
        while matches!(self.steps.front(), Some(Step::Say(_) | Step::End))
            && let Some(Some(received)) = inbox.next().now_or_never()
        {
            if let Received::Input(input) = received {
                let heard = excerpt(&input.message()).replace('\n', " ");
                self.say(&format!("\n\n> {heard}\n\n"));
            }
        }
        while self.ready.is_empty() {
            let step = self.steps.pop_front()?;
            if let Err(error) = self.take(step, pace, inbox).await {
                self.steps.clear();
                return Some(Err(error));
            }
        }
        self.told = self.told.saturating_add(1);
        self.ready.pop_front().map(Ok)
    }

    async fn take(&mut self, step: Step, pace: Duration, inbox: &Inbox) -> Result<(), AgentError> {
        match step {
            Step::Think(at) => self.ready.push_back(self.answer.reasoning(at)),
            Step::Call => {
                let status = if self.answer.has_word("approve") {
                    ToolStatus::Pending
                } else {
                    ToolStatus::Running
                };
                self.ready.push_back(self.answer.tool_call(status)?);
            }
            Step::Run => {
                if self.answer.has_word("approve") && !self.answer.is_approved(inbox).await? {
                    self.ready.push_back(self.answer.tool_call(ToolStatus::Error)?);
                    self.say("You did not approve, so I did not count. ");
                } else {
                    self.ready.push_back(self.answer.tool_call(ToolStatus::Completed)?);
                }
            }
            Step::Ask(question) => {
                let said = self.answer.ask(question, inbox, &mut self.ready).await?;
                self.say(&said);
            }
            Step::Say(piece) => self.say(&piece),
            Step::End => {
                let events = self.told.saturating_add(1);
                self.ready.push_back(self.answer.result(&self.text, events, pace));
            }
        }
        Ok(())
    }

    fn say(&mut self, piece: &str) {
        self.ready.push_back(self.answer.part("prt_text").text_delta(piece));
        self.text.push_str(piece);
    }
}

/// How many events the reasoning has.
const THOUGHTS: usize = 3;

/// What the demo answers to one message.
struct Answer {
    session: String,
    message: String,
    question: String,
    trace: String,
    words: usize,
    pieces: Vec<String>,
}

impl Answer {
    fn to(request: &RunRequest) -> Self {
        let message = request.message();
        let digest = Sha256::digest(message);
        let answer = Self {
            session: request.session_id().unwrap_or("demo").to_owned(),
            message: message.to_owned(),
            question: excerpt(message),
            trace: digest
                .iter()
                .take(8)
                .fold(String::from("demo-"), |trace, byte| format!("{trace}{byte:02x}")),
            words: words(message).count(),
            pieces: Vec::new(),
        };
        let pieces = if answer.has_word("long") { long() } else { short(message) };
        Self { pieces, ..answer }
    }

    fn has_word(&self, wanted: &str) -> bool {
        words(&self.message).any(|word| word.eq_ignore_ascii_case(wanted))
    }

    fn reasoning(&self, step: usize) -> Event {
        let (words, question) = (self.words, &self.question);
        let plural = if words == 1 { "" } else { "s" };
        let thought = format!("The user wrote {words} word{plural}: \u{201c}{question}\u{201d}. ");
        let steps: [&str; THOUGHTS] = [&thought, "I count them with a tool, ", "then I answer."];
        self.part("prt_reasoning").reasoning_delta(steps[step])
    }

    fn tool_call(&self, status: ToolStatus) -> Result<Event, AgentError> {
        let (input, output) = (json(COMMAND)?, Json::of(&format!("{}\n", self.words)));
        let output = output.map_err(|error| failed(&error))?;
        let call = ToolCall::new("bash", status).call_id("call_1").input(&input);
        let call = match status {
            ToolStatus::Completed => call.output(&output).title("Count the words"),
            ToolStatus::Error => call.error("nobody approved it").title("Count the words"),
            _ => call,
        };
        Ok(self.part("prt_tool").tool(&call))
    }

    /// Whether the tool may run. Where nobody can be asked, it may not.
    async fn is_approved(&self, inbox: &Inbox) -> Result<bool, AgentError> {
        let input = json(COMMAND)?;
        let question = Interaction::new(Kind::Approval, "approve")
            .title("Count the words?")
            .message("The demo agent would like to run a command that does no harm.")
            .call_id("call_1")
            .tool("bash")
            .input(&input);
        Ok(inbox.ask(&question).await.is_ok_and(|answer| answer.is_accepted()))
    }

    /// Asks, and says what came of it.
    async fn ask(
        &self,
        question: Question,
        inbox: &Inbox,
        ready: &mut VecDeque<Event>,
    ) -> Result<String, AgentError> {
        let (schema, input) = (json(SCHEMA)?, json(r#"{"exact":false}"#)?);
        let asked = match question {
            Question::Choose => Interaction::new(Kind::Question, "choose")
                .title("Which colour?")
                .options(&[("red", "Red"), ("green", "Green"), ("blue", "Blue")]),
            Question::Form => Interaction::new(Kind::Question, "form")
                .title("Where shall the parcel go?")
                .message("The demo agent sends nothing, and keeps what you write in this chat.")
                .schema(&schema),
            Question::Location => Interaction::new(Kind::Tool, "location")
                .title("Where are you?")
                .call_id("call_2")
                .tool("location")
                .input(&input),
        };
        let answer = inbox.ask(&asked).await.ok();
        let accepted = answer.as_ref().filter(|answer| answer.is_accepted());
        let data = accepted.and_then(|answer| answer.data()).unwrap_or("null");
        if matches!(question, Question::Location) {
            let (output, told) = (json(data)?, accepted.is_some());
            let status = if told { ToolStatus::Completed } else { ToolStatus::Error };
            let call = ToolCall::new("location", status).call_id("call_2").input(&input);
            let call = if told { call.output(&output) } else { call.error("nobody told it") };
            ready.push_back(self.part("prt_location").tool(&call));
        }
        Ok(match (&answer, accepted) {
            (_, Some(_)) => format!("You answered `{}`. ", excerpt(data)),
            (Some(answer), None) => format!("Your answer was: {}. ", answer.outcome().as_str()),
            (None, None) => "Nobody was there to ask. ".to_owned(),
        })
    }

    fn result(&self, text: &str, events: u32, pace: Duration) -> Event {
        TurnResult::new()
            .final_text(text)
            .session_id(&self.session)
            .trace_id(&self.trace)
            .token_usage(TokenUsage::new(self.words as u64, words(text).count() as u64))
            .total_ms(millis(pace.saturating_mul(events)))
            .event()
    }

    fn part<'a>(&'a self, id: &'a str) -> Part<'a> {
        Part::new(id).session(&self.session).message("msg_1")
    }
}

fn json(text: &str) -> Result<Json<'_>, AgentError> {
    Json::verify(text).map_err(|error| failed(&error))
}

fn failed(error: &impl std::fmt::Display) -> AgentError {
    AgentError::new("demo_failed", error.to_string())
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

const COMMAND: &str = r#"{"command":"wc -w"}"#;

/// What the demo asks for with a form.
const SCHEMA: &str = r#"{"type":"object","properties":{"name":{"type":"string","title":"Name","minLength":1,"maxLength":80},"floor":{"type":"integer","title":"Floor","minimum":0,"maximum":40},"size":{"enum":["small","large"],"title":"Size"},"gift":{"type":"boolean","title":"Wrap it as a gift"}},"required":["name","floor"]}"#;

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
