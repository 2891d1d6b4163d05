//! What several promises want to know about a history.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use crate::history::{ClientAct, Fact, Record};

/// One execution as its log had it, in one life of the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Execution {
    pub(super) events: Vec<Event>,
    /// Whether a reader came to the clean end of its stream.
    stream_ended: bool,
}

/// Each execution, and each turn's.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// The lives of each execution's log, the last one last: more than one only where the log was lost.
    pub(super) executions: BTreeMap<ExecutionId, Vec<Execution>>,
    /// When the log was lost.
    pub(super) losses: Vec<Duration>,
    /// When the substrate's node was killed, or taken for dead.
    pub(super) kills: Vec<Duration>,
    /// When a worker of the product was killed.
    pub(super) worker_kills: Vec<Duration>,
    /// When each execution was bound first.
    pub(super) bound: BTreeMap<ExecutionId, Duration>,
    /// When the agent was asked for each execution, each time.
    pub(super) asked: BTreeMap<ExecutionId, Vec<Duration>>,
    /// When each turn was first asked to be stopped.
    pub(super) stops: BTreeMap<String, Duration>,
    /// When each session was deleted.
    pub(super) deleted: BTreeMap<String, Duration>,
}

impl Outline {
    pub(super) fn of(records: &[Record]) -> Self {
        let mut outline = Self::default();
        for record in records {
            outline.take(record);
        }
        outline
    }

    pub(super) fn take(&mut self, Record { at, fact }: &Record) {
        match fact {
            Fact::LogLost => self.losses.push(*at),
            Fact::Fault {
                kind: "substrate node killed" | "substrate's runs fenced off", ..
            } => self.kills.push(*at),
            Fact::Fault { kind: "product worker killed", .. } => self.worker_kills.push(*at),
            Fact::Deleted { session } => {
                self.deleted.entry(session.clone()).or_insert(*at);
            }
            Fact::Bound { execution } => {
                self.bound.entry(execution.clone()).or_insert(*at);
                self.executions.entry(execution.clone()).or_default().push(Execution::default());
            }
            Fact::AgentAsked { execution } => {
                self.asked.entry(execution.clone()).or_default().push(*at);
            }
            Fact::Appended { execution, event, .. } => {
                let lives = self.executions.entry(execution.clone()).or_default();
                lives.last_mut().into_iter().for_each(|life| life.events.push(event.clone()));
            }
            Fact::StreamEnded { execution } => {
                let lives = self.executions.entry(execution.clone()).or_default();
                lives.last_mut().into_iter().for_each(|life| life.stream_ended = true);
            }
            Fact::Client { client, act: ClientAct::AskedToStop } => {
                self.stops.entry(client.turn.clone()).or_insert(*at);
            }
            _ => {}
        }
    }

    /// Whether the log was lost at or after the moment in which the execution was bound first.
    pub(super) fn was_lost(&self, execution: &ExecutionId) -> bool {
        let bound = self.bound.get(execution).copied().unwrap_or_default();
        self.losses.iter().any(|at| *at >= bound)
    }

    /// When the session of the execution was deleted, where it was.
    pub(super) fn deleted(&self, execution: &ExecutionId) -> Option<Duration> {
        let (session, _) = session_of(execution.as_str())?;
        self.deleted.get(session).copied()
    }

    pub(super) fn lives(&self, execution: &ExecutionId) -> &[Execution] {
        self.executions.get(execution).map_or(&[], Vec::as_slice)
    }
}

impl Execution {
    /// The terminal event, once it is there.
    pub(super) fn terminal(&self) -> Option<&Event> {
        self.events.iter().find(|event| is_terminal(event))
    }

    pub(super) fn has_completed(&self) -> bool {
        self.terminal().is_some_and(|event| event.kind() == "execution.completed")
    }

    /// Whether a reader may have the whole answer: the execution completed, or a `result` is the last that goes on, a stream
    /// ended cleanly, which makes that an end (PROTOCOL 4.1), and at most the loss of its runner stands behind it.
    pub(super) fn may_be_whole(&self) -> bool {
        let has_result = self.forwarded().last().is_some_and(|event| event.kind() == "result");
        let has_end = has_result && self.stream_ended && self.terminal().is_none_or(is_loss);
        self.has_completed() || has_end
    }

    /// What goes on to the client, in order.
    pub(super) fn forwarded(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| !is_filtered(event) && event.kind() != "error")
    }
}

/// Whether an event says that the runner is gone.
fn is_loss(terminal: &Event) -> bool {
    code(terminal).as_deref() == Some("runner_lost")
}

/// Whether an event ends a log.
pub(crate) fn is_terminal(event: &Event) -> bool {
    event.class().ends_log()
}

/// The list of PROTOCOL 4.1, and what the engine does not forward.
fn is_filtered(event: &Event) -> bool {
    !event.class().is_forwarded() || event.class().is_envelope()
}

/// The code that an event names.
pub(super) fn code(event: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Coded {
        code: Option<String>,
    }
    event.data::<Coded>().ok()?.code
}

/// The session of an execution, and its turn's index (PROTOCOL 1.4).
pub(super) fn session_of(execution: &str) -> Option<(&str, u64)> {
    let (rest, index) = execution.rsplit_once(':')?;
    Some((rest.split_once(':')?.1, index.parse().ok()?))
}
