//! One execution, one log; replayed strictly after a cursor; nothing delivered that is not in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use super::{Violation, outline::is_terminal};
use crate::history::{EventId, Fact, Record, WatchAct};

const ONE_LOG: &str = "one execution, one log";
const STRICT: &str = "replayed strictly after the cursor";
const APPENDED: &str = "append, then deliver";
const NO_REUSE: &str = "no id for two events";
const NOT_LOST: &str = "a cursor that was given out is kept";

/// Every log begins with `execution.started`, counts without gaps, and ends with exactly one terminal event.
#[must_use]
pub fn is_one_log(records: &[Record]) -> Vec<Violation> {
    let mut logs: BTreeMap<&ExecutionId, Vec<(EventId, &Event)>> = BTreeMap::new();
    let mut broken = Vec::new();
    for record in records {
        match &record.fact {
            Fact::LogLost => logs.clear(),
            Fact::Erased { execution } => drop(logs.remove(execution)),
            Fact::Appended { execution, id, event } => {
                let log = logs.entry(execution).or_default();
                broken.extend(
                    misplaced(log, *id, event).map(|why| violation(ONE_LOG, execution, *id, why)),
                );
                log.push((*id, event));
            }
            _ => {}
        }
    }
    let unended =
        logs.iter().filter(|(_, log)| !log.last().is_some_and(|(_, event)| is_terminal(event)));
    broken.extend(
        unended.map(|(execution, _)| Violation::new(ONE_LOG, format!("{execution} never ended"))),
    );
    broken
}

/// Why this event cannot be the next one of the log.
fn misplaced(log: &[(EventId, &Event)], id: EventId, event: &Event) -> Option<&'static str> {
    let Some((last, before)) = log.last() else {
        let is_first = id.seq == 1 && event.kind() == "execution.started";
        return (!is_first).then_some("is not how a log begins");
    };
    if is_terminal(before) {
        return Some("stands after the end");
    }
    if id.seq != last.seq + 1 {
        return Some("does not follow in number");
    }
    (id.epoch < last.epoch).then_some("is of an earlier epoch")
}

/// The raw watcher, who drops no repeats, sees every stream go on strictly after its cursor, and nothing but the log.
#[must_use]
pub fn is_replayed_strictly(records: &[Record]) -> Vec<Violation> {
    let mut view = View::default();
    for record in records {
        view.take(record);
    }
    view.broken
}

/// What the watcher can know, and what it finds.
#[derive(Default)]
struct View {
    ids: BTreeMap<(ExecutionId, EventId), Event>,
    log: BTreeMap<(ExecutionId, u64), (EventId, Event)>,
    /// When each log that is there was bound.
    bound: BTreeMap<ExecutionId, Duration>,
    /// Those that were erased.
    erased: BTreeSet<ExecutionId>,
    /// When the log was lost last.
    lost: Duration,
    expected: BTreeMap<ExecutionId, u64>,
    ended: BTreeMap<ExecutionId, bool>,
    broken: Vec<Violation>,
}

impl View {
    fn take(&mut self, Record { at, fact }: &Record) {
        match fact {
            Fact::LogLost => {
                let broken = std::mem::take(&mut self.broken);
                *self = Self { broken, lost: *at, ..Self::default() };
            }
            Fact::Erased { execution } => {
                self.bound.remove(execution);
                self.erased.insert(execution.clone());
            }
            Fact::Bound { execution } => {
                self.bound.insert(execution.clone(), *at);
            }
            Fact::Appended { execution, id, event } => {
                self.name(execution, *id, event);
                self.log.entry((execution.clone(), id.seq)).or_insert((*id, event.clone()));
            }
            Fact::Watch { execution, act } => self.watch(execution, act),
            _ => {}
        }
    }

    fn watch(&mut self, execution: &ExecutionId, act: &WatchAct) {
        match act {
            // What a log that was lost had sent may still arrive; it is nothing to go by.
            WatchAct::Stream { asked, .. } if *asked < self.lost => {
                self.expected.remove(execution);
            }
            WatchAct::Stream { after, .. } => {
                self.expected.insert(execution.clone(), after.map_or(1, |id| id.seq + 1));
                self.ended.insert(execution.clone(), false);
            }
            WatchAct::Frame { id: Some(id), event } => self.frame(execution, *id, event),
            WatchAct::Frame { id: None, .. } => {
                let detail = format!("{execution} sent a frame without an id");
                self.broken.push(Violation::new(STRICT, detail));
            }
            WatchAct::Refused { after, asked, status } => {
                self.refused(execution, *after, *asked, *status);
            }
        }
    }

    fn frame(&mut self, execution: &ExecutionId, id: EventId, event: &Event) {
        let Some(expected) = self.expected.get_mut(execution) else {
            return;
        };
        let is_next = std::mem::replace(expected, id.seq + 1) == id.seq;
        if !is_next {
            self.broken.push(violation(STRICT, execution, id, "is not the next event"));
        }
        if !self.is_stored(execution, id, event) {
            self.broken.push(violation(APPENDED, execution, id, "is not in the log"));
        }
        if self.ended.insert(execution.clone(), is_terminal(event)) == Some(true) {
            self.broken.push(violation(STRICT, execution, id, "came after the end"));
        }
        self.name(execution, id, event);
    }

    fn is_stored(&self, execution: &ExecutionId, id: EventId, event: &Event) -> bool {
        let stored = self.log.get(&(execution.clone(), id.seq));
        stored.is_some_and(|(stored, other)| *stored == id && other == event)
    }

    fn name(&mut self, execution: &ExecutionId, id: EventId, event: &Event) {
        let before = self.ids.entry((execution.clone(), id)).or_insert_with(|| event.clone());
        if before != event {
            self.broken.push(violation(NO_REUSE, execution, id, "stood for another event before"));
        }
    }

    /// A log that is there refuses nobody who comes with what it gave out.
    fn refused(
        &mut self,
        execution: &ExecutionId,
        after: Option<EventId>,
        asked: Duration,
        status: u16,
    ) {
        let is_held = match after {
            _ if self.erased.contains(execution) => false,
            Some(id) => self.ids.contains_key(&(execution.clone(), id)),
            None => self.bound.get(execution).is_some_and(|bound| *bound <= asked),
        };
        if is_held {
            let detail = format!("{execution} refused {after:?} with {status}");
            self.broken.push(Violation::new(NOT_LOST, detail));
        }
    }
}

fn violation(promise: &'static str, execution: &ExecutionId, id: EventId, why: &str) -> Violation {
    Violation::new(promise, format!("{execution}: event {id} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::story::{at, bare, event, id, log, records};

    fn events() -> Vec<Event> {
        vec![bare("execution.started"), bare("a"), bare("execution.completed")]
    }

    /// After everything that these histories hold.
    const LATER: Duration = Duration::from_secs(100);

    fn stream(after: Option<EventId>) -> WatchAct {
        WatchAct::Stream { after, asked: LATER }
    }

    fn watched(acts: impl IntoIterator<Item = WatchAct>) -> Vec<Fact> {
        acts.into_iter().map(|act| Fact::Watch { execution: id("e"), act }).collect()
    }

    fn frame(seq: u64, kind: &str) -> WatchAct {
        WatchAct::Frame { id: Some(at(seq)), event: bare(kind) }
    }

    fn promises(broken: &[Violation]) -> Vec<&'static str> {
        broken.iter().map(|violation| violation.promise).collect()
    }

    fn seen(acts: impl IntoIterator<Item = WatchAct>) -> Vec<&'static str> {
        let facts = log(&events()).into_iter().chain(watched(acts));
        promises(&is_replayed_strictly(&records(facts)))
    }

    #[test]
    fn a_whole_log_is_one_log() {
        assert!(is_one_log(&records(log(&events()))).is_empty());
    }

    #[test]
    fn a_log_that_begins_late_ends_twice_or_never_is_found() {
        let broken = |events: &[Event]| is_one_log(&records(log(events))).len();
        assert_eq!(broken(&[bare("a"), bare("execution.completed")]), 1);
        assert_eq!(broken(&[bare("execution.started"), bare("a")]), 1);
        let twice = [bare("execution.started"), bare("execution.failed"), bare("execution.failed")];
        assert_eq!(broken(&twice), 1);
    }

    #[test]
    fn a_gap_and_an_earlier_epoch_are_found() {
        let appended = |id| Fact::Appended {
            execution: self::id("e"),
            id,
            event: bare("execution.completed"),
        };
        for id in [at(3), EventId { epoch: 0, seq: 2 }] {
            let facts = log(&events()[..1]).into_iter().chain([appended(id)]);
            assert_eq!(is_one_log(&records(facts)).len(), 1, "{id}");
        }
    }

    #[test]
    fn a_stream_that_goes_on_strictly_after_its_cursor_is_fine() {
        let from_start = [stream(None), frame(1, "execution.started"), frame(2, "a")];
        assert!(seen(from_start).is_empty());
        assert!(seen([stream(Some(at(1))), frame(2, "a")]).is_empty());
    }

    #[test]
    fn a_replay_that_repeats_or_skips_is_found() {
        let after = |seq| stream(Some(at(seq)));
        assert_eq!(seen([after(2), frame(2, "a")]), [STRICT]);
        assert_eq!(seen([stream(None), frame(2, "a")]), [STRICT]);
        assert_eq!(seen([after(1), frame(2, "a"), frame(2, "a")]), [STRICT]);
        let twice = [after(2), frame(3, "execution.completed"), frame(3, "execution.completed")];
        assert_eq!(seen(twice), [STRICT, STRICT]);
    }

    #[test]
    fn an_event_that_is_not_in_the_log_is_found() {
        let unknown = frame(4, "b");
        assert_eq!(seen([stream(Some(at(3))), unknown]), [APPENDED]);
    }

    #[test]
    fn an_id_that_stands_for_two_events_is_found() {
        let other = WatchAct::Frame { id: Some(at(2)), event: event(r#"{"type":"b"}"#) };
        let broken = seen([stream(Some(at(1))), other]);
        assert_eq!(broken, [APPENDED, NO_REUSE]);
    }

    #[test]
    fn a_cursor_that_is_refused_is_found_unless_the_log_was_lost() {
        let refused = || WatchAct::Refused { after: Some(at(2)), asked: LATER, status: 409 };
        assert_eq!(seen([refused()]), [NOT_LOST]);
        let lost = log(&events()).into_iter().chain([Fact::LogLost]).chain(watched([refused()]));
        assert!(is_replayed_strictly(&records(lost)).is_empty());
    }
}
