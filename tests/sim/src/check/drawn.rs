//! What a client has drawn is, without gap or duplicate, the events of the one execution, or was replaced by the saved
//! answer, or ends in one honest error.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use super::{Violation, errors, outline::Outline};
use crate::{
    history::{ClientAct, ClientId, Fact, Record},
    plan::Plan,
};

const DRAWN: &str = "drawn are the events of the one execution";
const ENDING: &str = "a body has at most one ending, and nothing after it";
const HONEST: &str = "an error is honest";
const ONE_EXECUTION: &str = "a turn has one execution";
const FOUND: &str = "a turn that was accepted is found";

/// Follows every client.
#[must_use]
pub fn is_the_execution(plan: &Plan, records: &[Record]) -> Vec<Violation> {
    let mut outline = Outline::default();
    let mut clients: BTreeMap<&ClientId, Drawing> = BTreeMap::new();
    let mut executions: BTreeMap<&str, &ExecutionId> = BTreeMap::new();
    let mut broken = Vec::new();
    for record in records {
        outline.take(record);
        let Fact::Client { client, act } = &record.fact else {
            continue;
        };
        if let ClientAct::Body { execution: Some(execution), .. } = act
            && *executions.entry(&client.turn).or_insert(execution) != execution
        {
            broken.push(Violation::new(ONE_EXECUTION, format!("{client} is told {execution}")));
        }
        let view = View { plan, outline: &outline, client, at: record.at };
        let drawing = clients.entry(client).or_default();
        broken.extend(drawing.take(act, &view).map(|(promise, why)| {
            Violation::new(promise, format!("{client} at {:?}: {why}", record.at))
        }));
    }
    broken
}

/// What a client's lines are compared with.
struct View<'a> {
    plan: &'a Plan,
    outline: &'a Outline,
    client: &'a ClientId,
    at: Duration,
}

impl View<'_> {
    fn is_answer(&self, text: &str) -> bool {
        self.plan.scripts(&self.client.turn).any(|script| script.answer() == Some(text))
    }
}

type Broken = Option<(&'static str, String)>;

/// What one client has in front of it.
#[derive(Default)]
struct Drawing {
    execution: Option<ExecutionId>,
    lines: Vec<Event>,
    first: Option<Event>,
    body: Body,
}

/// Where the body at hand stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    Events,
    /// The answer comes from the database: its parts.
    Replaying,
    /// The same, and its text has come.
    Replayed,
    Error,
    Ended,
}

impl Drawing {
    fn take(&mut self, act: &ClientAct, view: &View<'_>) -> Broken {
        match act {
            ClientAct::Body { execution, after } => self.begin(execution.clone(), *after),
            ClientAct::Line(event) => self.line(event, view),
            ClientAct::BodyOver => {
                self.body = Body::None;
                None
            }
            ClientAct::Refused { code, .. } => self.refused(code, view),
            ClientAct::Saw { .. }
            | ClientAct::Answered { .. }
            | ClientAct::Said { .. }
            | ClientAct::Changed { .. }
            | ClientAct::Deleted
            | ClientAct::AskedToStop
            | ClientAct::Left
            | ClientAct::GaveUp => None,
        }
    }

    fn begin(&mut self, execution: Option<ExecutionId>, after: u64) -> Broken {
        self.execution = execution;
        self.body = Body::Events;
        self.lines.truncate(usize::try_from(after).unwrap_or(usize::MAX));
        let is_whole = self.lines.len() as u64 == after;
        (!is_whole).then(|| (DRAWN, format!("the client itself lost count: {after}")))
    }

    fn refused(&self, code: &str, view: &View<'_>) -> Broken {
        let is_gone = match code {
            "session_not_found" => !view.outline.deleted.is_empty(),
            "turn_removed" => view.plan.is_removed(&view.client.turn),
            _ => false,
        };
        if is_gone {
            return None;
        }
        let is_lost = self.execution.is_some() && code.ends_with("_not_found");
        // An error whose body was cut says nothing.
        let may_be =
            matches!(code, "turn_running" | "unavailable" | "too_many_turns" | "turn_not_found")
                || code.starts_with("http_");
        (is_lost || !may_be).then(|| (FOUND, format!("refused with {code}")))
    }

    fn line(&mut self, event: &Event, view: &View<'_>) -> Broken {
        match (self.body, event.kind()) {
            (Body::None | Body::Ended, kind) => Some((ENDING, format!("{kind} after the end"))),
            (Body::Error, "session.run.failed") => self.failed(event, view),
            (Body::Error, kind) => Some((ENDING, format!("{kind} after error"))),
            (_, "error") => self.end(Body::Error),
            (_, "session.run.failed") => Some((ENDING, "failed without its error".to_owned())),
            (_, "session.run.completed") => self.completed(event, view),
            (Body::Events, "session.run.started") if is_replayed(event) => {
                self.lines.clear();
                self.end(Body::Replaying)
            }
            (
                Body::Replaying,
                "message.part.updated" | "interaction" | "interaction.answered" | "input",
            ) => None,
            (Body::Replaying, _) if is_saved_answer(event, view) => self.end(Body::Replayed),
            (Body::Replaying, kind) => Some((DRAWN, format!("{kind} in a saved answer"))),
            (Body::Replayed, kind) => Some((DRAWN, format!("{kind} after the saved answer"))),
            (Body::Events, _) => self.draw(event, view),
        }
    }

    fn end(&mut self, body: Body) -> Broken {
        self.body = body;
        None
    }

    fn draw(&mut self, event: &Event, view: &View<'_>) -> Broken {
        let place = self.lines.len();
        self.lines.push(event.clone());
        if place == 0 {
            let first = self.first.get_or_insert_with(|| event.clone());
            let is_first = event.kind() == "session.run.started" && event == first;
            return (!is_first).then(|| (DRAWN, format!("the first line is {}", event.as_json())));
        }
        if self.is_next(view, place) {
            return None;
        }
        Some((DRAWN, format!("line {place} is not the next event: {}", event.as_json())))
    }

    /// Whether all lines so far are the first ones of one life of the execution's log.
    fn is_next(&self, view: &View<'_>, place: usize) -> bool {
        let lives = self.execution.as_ref().map(|execution| view.outline.lives(execution));
        lives
            .unwrap_or_default()
            .iter()
            .any(|life| life.forwarded().take(place).eq(&self.lines[1..]))
    }

    fn completed(&mut self, event: &Event, view: &View<'_>) -> Broken {
        let is_whole = match self.body {
            Body::Replayed => is_replayed(event),
            Body::Replaying => false,
            _ => !is_replayed(event) && self.is_all(view),
        };
        self.body = Body::Ended;
        (!is_whole).then(|| (DRAWN, format!("completed after {} lines", self.lines.len())))
    }

    /// Whether nothing of the execution is missing.
    fn is_all(&self, view: &View<'_>) -> bool {
        let lives = self.execution.as_ref().map(|execution| view.outline.lives(execution));
        let drawn = self.lines.get(1..).unwrap_or_default();
        lives
            .unwrap_or_default()
            .iter()
            .any(|life| life.may_be_whole() && life.forwarded().eq(drawn))
    }

    fn failed(&mut self, event: &Event, view: &View<'_>) -> Broken {
        #[derive(Deserialize)]
        struct Failed {
            retryable: bool,
            code: Option<String>,
        }
        self.body = Body::Ended;
        self.lines.clear();
        let Ok(Failed { retryable, code }) = event.data() else {
            return Some((ENDING, "a failed that cannot be read".to_owned()));
        };
        if retryable {
            return None;
        }
        let execution = self.execution.as_ref()?;
        let (turn, code) = (&view.client.turn, code.as_deref());
        let untrue = errors::untrue(view.plan, view.outline, turn, execution, code, view.at);
        untrue.map(|why| (HONEST, why))
    }
}

/// Whether what begins or ends with this event is a replay.
fn is_replayed(event: &Event) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default)]
        replayed: bool,
    }
    event.data::<Envelope>().is_ok_and(|envelope| envelope.replayed)
}

/// Whether the event is the one that brings the answer from the database.
fn is_saved_answer(event: &Event, view: &View<'_>) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Result {
        final_text: String,
    }
    let text = event.data::<Result>().ok().map(|result| result.final_text);
    event.kind() == "result" && text.is_some_and(|text| view.is_answer(&text))
}

#[cfg(test)]
mod tests;
