//! Histories to be checked, written by hand.

use std::time::Duration;

use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use crate::history::{ClientAct, ClientId, EventId, Fact, Record};

/// One fact a second.
pub(super) fn records(facts: impl IntoIterator<Item = Fact>) -> Vec<Record> {
    let facts = facts.into_iter().enumerate();
    facts.map(|(at, fact)| Record { at: Duration::from_secs(at as u64), fact }).collect()
}

pub(super) fn id(text: &str) -> ExecutionId {
    ExecutionId::parse(text).unwrap()
}

pub(super) fn event(json: &str) -> Event {
    Event::from_json(json.as_bytes()).unwrap()
}

pub(super) fn bare(kind: &str) -> Event {
    Event::bare(kind).unwrap()
}

pub(super) fn at(seq: u64) -> EventId {
    EventId { epoch: 1, seq }
}

/// A reader came to the clean end of the execution's stream.
pub(super) fn stream_ended() -> Fact {
    Fact::StreamEnded { execution: id("e") }
}

/// A log of the execution `e` with these events.
pub(super) fn log(events: &[Event]) -> Vec<Fact> {
    let bound = Fact::Bound { execution: id("e") };
    let appended = events.iter().zip(1..).map(|(event, seq)| Fact::Appended {
        execution: id("e"),
        id: at(seq),
        event: event.clone(),
    });
    std::iter::once(bound).chain(appended).collect()
}

/// What the first client of `turn` does.
pub(super) fn client(turn: &str, act: ClientAct) -> Fact {
    Fact::Client { client: ClientId { turn: turn.to_owned(), tab: 0 }, act }
}
