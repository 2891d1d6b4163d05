//! One answer is taken, once; everybody hears the same, and hears it from the log (PROTOCOL 3.6, and 4.2, "Questions and inputs").

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use turnkit_id::ExecutionId;
use turnkit_wire::{Event, interaction::Answered};

use super::Violation;
use crate::history::{ClientAct, Fact, Record};

const ONCE: &str = "a question is answered once";
const LOG_FIRST: &str = "what an agent hears is in the log before";
const TOLD: &str = "what is told of an answer is what the log says";
const KEPT: &str = "an answer that was told is never lost while the run lives";
const INTENT: &str = "a question is pending until the log says otherwise";

/// One execution, in one life of its log.
#[derive(Default)]
struct Life {
    /// What came of each question, in the order of the log.
    answered: BTreeMap<String, Vec<String>>,
    heard: BTreeMap<String, Vec<String>>,
    /// Who was told that their answer was taken.
    taken: BTreeMap<String, String>,
    has_ended: bool,
    has_completed: bool,
}

/// Follows every question.
#[must_use]
pub fn are_answered_once(records: &[Record]) -> Vec<Violation> {
    let mut lives: BTreeMap<ExecutionId, Life> = BTreeMap::new();
    let mut executions: BTreeMap<String, ExecutionId> = BTreeMap::new();
    // When a client saw a question pending that the log had not answered.
    let mut seen: BTreeMap<(ExecutionId, String), Duration> = BTreeMap::new();
    let (mut broken, mut has_lost) = (Vec::new(), false);
    for Record { at, fact } in records {
        match fact {
            // What was told of executions that are forgotten is nobody's to bear out.
            Fact::LogLost => {
                (lives, has_lost) = (BTreeMap::new(), true);
                seen.clear();
            }
            Fact::Appended { execution, event, .. } => {
                let life = lives.entry(execution.clone()).or_default();
                if let Some((question, outcome)) = answered(event) {
                    let all = life.answered.entry(question.clone()).or_default();
                    all.push(outcome);
                    if all.len() > 1 {
                        let why = format!("{execution} {question} is {all:?} in the log");
                        broken.push(Violation::new(ONCE, why));
                    }
                }
                life.has_ended |= event.class().ends_log();
                life.has_completed |= event.kind() == "execution.completed";
            }
            Fact::Heard { execution, question, outcome } => {
                let life = lives.entry(execution.clone()).or_default();
                let is_in_log = life
                    .answered
                    .get(question)
                    .is_some_and(|all| all.iter().any(|answered| answered == outcome));
                // A run that goes on for a moment when its log is gone has nobody who could bear it out.
                if !is_in_log && !has_lost {
                    let why = format!("{execution} hears {question} {outcome} at {at:?}");
                    broken.push(Violation::new(LOG_FIRST, why));
                }
                let all = life.heard.entry(question.clone()).or_default();
                all.push((*outcome).to_owned());
                if all.len() > 1 {
                    let why = format!("{execution} hears {question} {all:?}");
                    broken.push(Violation::new(ONCE, why));
                }
            }
            Fact::Client { client, act: ClientAct::Body { execution: Some(execution), .. } } => {
                executions.insert(client.turn.clone(), execution.clone());
            }
            Fact::Client { client, act: ClientAct::Saw { execution, pending, asked } } => {
                executions.insert(client.turn.clone(), execution.clone());
                let life = lives.entry(execution.clone()).or_default();
                let is_open = |question: &String| !life.answered.contains_key(question);
                let now: BTreeSet<&String> = pending.iter().collect();
                for ((_, question), since) in seen.iter().filter(|((of, _), _)| of == execution) {
                    let is_gone = !now.contains(question) && since <= asked;
                    if is_gone && is_open(question) && !life.has_ended && !has_lost {
                        let why =
                            format!("{execution} {question} is not pending for {client} at {at:?}");
                        broken.push(Violation::new(INTENT, why));
                    }
                }
                for question in pending.iter().filter(|question| is_open(question)) {
                    seen.entry((execution.clone(), question.clone())).or_insert(*at);
                }
            }
            Fact::Client {
                client,
                act: ClientAct::Answered { question, outcome, status, taken },
            } => {
                let Some(execution) = executions.get(&client.turn) else { continue };
                let life = lives.entry(execution.clone()).or_default();
                let told = match (*status, taken) {
                    (200, _) => Some((*outcome).to_owned()),
                    (409, Some(taken)) => Some(taken.clone()),
                    _ => None,
                };
                let Some(told) = told.filter(|_| !has_lost) else { continue };
                if life.answered.get(question).and_then(|all| all.first()) != Some(&told) {
                    let why = format!("{client} is told that {execution} {question} is {told}");
                    broken.push(Violation::new(TOLD, why));
                }
                if *status == 200 {
                    life.taken.insert(question.clone(), told);
                }
            }
            _ => {}
        }
    }
    for (execution, life) in lives.iter().filter(|(_, life)| life.has_completed) {
        for (question, outcome) in &life.taken {
            if life.heard.get(question).and_then(|all| all.first()) != Some(outcome) {
                let why = format!("{execution} never hears {question} {outcome}");
                broken.push(Violation::new(KEPT, why));
            }
        }
    }
    broken
}

fn answered(event: &Event) -> Option<(String, String)> {
    let answered = Answered::of(event)?;
    let outcome = answered.outcome()?.as_str().to_owned();
    Some((answered.id()?.to_str().into_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::story::{id, records},
        history::{ClientId, EventId},
    };

    fn appended(outcome: &str) -> Fact {
        let data = serde_json::json!({ "id": "q", "outcome": outcome });
        let event = Event::new("interaction.answered", &data).unwrap();
        Fact::Appended { execution: id("e"), id: EventId { epoch: 1, seq: 2 }, event }
    }

    fn heard(outcome: &'static str) -> Fact {
        Fact::Heard { execution: id("e"), question: "q".to_owned(), outcome }
    }

    fn client(act: ClientAct) -> Fact {
        Fact::Client { client: ClientId { turn: "t".to_owned(), tab: 0 }, act }
    }

    fn saw(pending: &[&str]) -> Fact {
        let pending = pending.iter().map(|&id| id.to_owned()).collect();
        client(ClientAct::Saw { execution: id("e"), pending, asked: Duration::from_secs(3_600) })
    }

    fn told(status: u16, taken: Option<&str>) -> Fact {
        let (question, taken) = ("q".to_owned(), taken.map(str::to_owned));
        client(ClientAct::Answered { question, outcome: "accepted", status, taken })
    }

    fn broken(facts: impl IntoIterator<Item = Fact>) -> Vec<&'static str> {
        are_answered_once(&records(facts)).into_iter().map(|broken| broken.promise).collect()
    }

    #[test]
    fn an_answer_that_goes_its_way_breaks_nothing() {
        let way = [saw(&["q"]), appended("accepted"), heard("accepted"), saw(&[]), told(200, None)];
        assert_eq!(broken(way), [""; 0]);
    }

    #[test]
    fn what_is_heard_early_twice_or_never_told_is_found() {
        assert_eq!(broken([heard("accepted"), appended("accepted")]), [LOG_FIRST]);
        let twice =
            [appended("accepted"), heard("accepted"), appended("declined"), heard("declined")];
        assert_eq!(broken(twice), [ONCE, ONCE]);
        assert_eq!(broken([saw(&["q"]), saw(&[])]), [INTENT]);
        assert_eq!(broken([saw(&["q"]), appended("declined"), told(200, None)]), [TOLD]);
        assert_eq!(
            broken([saw(&["q"]), appended("declined"), told(409, Some("declined"))]),
            [""; 0]
        );
    }
}
