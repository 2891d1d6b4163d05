//! What is said into a turn reaches its agent once and is kept once; turns that wait run one after another, in their order; and nothing
//! of a deleted session comes back (PROTOCOL 3.6, 4.2).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use turnkit_id::ExecutionId;
use turnkit_wire::{Event, interaction::Input};

use super::{
    Violation,
    outline::{self, session_of},
};
use crate::{
    history::{ClientAct, Fact, Kept, Record, Stored},
    log::RUN_TIMEOUT,
    plan::{Change, Plan, Said},
};

const HEARD_ONCE: &str = "an input reaches an agent once, and from the log";
const KEPT_ONCE: &str = "what was said is kept once";
const IN_TURN: &str = "a session runs one turn at a time";
const IN_ORDER: &str = "turns that wait run in their order";
const CHANGED: &str = "a change of a turn that waits is told truly";
const GONE: &str = "nothing of a deleted session comes back";
const STANDS: &str = "a run's time stands still while it waits for an answer";

/// Follows every message into a running turn.
#[must_use]
pub fn is_said_once(plan: &Plan, records: &[Record]) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut logged: BTreeMap<(&ExecutionId, String), u32> = BTreeMap::new();
    let mut taken: BTreeSet<(&ExecutionId, &str)> = BTreeSet::new();
    let mut accepted: BTreeSet<&str> = BTreeSet::new();
    let mut has_lost = false;
    for Record { at, fact } in records {
        let again = match fact {
            Fact::LogLost => {
                has_lost = true;
                logged.clear();
                false
            }
            Fact::Appended { execution, event, .. } => input(event).is_some_and(|id| {
                let times = logged.entry((execution, id)).or_default();
                *times += 1;
                *times > 1
            }),
            Fact::Received { execution, input } => {
                let is_logged = logged.contains_key(&(execution, input.clone()));
                !taken.insert((execution, input)) || !(is_logged || has_lost)
            }
            Fact::Client { act: ClientAct::Said { input, status: 202 }, .. } => {
                accepted.insert(input);
                let is_logged = logged.keys().any(|(_, id)| id == input);
                !(is_logged || has_lost)
            }
            _ => false,
        };
        if again {
            broken.push(Violation::new(HEARD_ONCE, format!("at {at:?}: {fact:?}")));
        }
    }
    let kept: Vec<_> = kept(records).collect();
    let deleted = deleted_turns(plan, records);
    let is_missing = has_no_end(records);
    for turn in plan.turns().filter(|turn| !deleted.contains(&*turn.id) && !is_missing) {
        for Said { id, .. } in &turn.inputs {
            let is_turn = |name: &str| {
                name.strip_prefix(&**id)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(":i"))
            };
            let as_parts: usize = kept
                .iter()
                .map(|(_, kept)| kept.inputs.iter().filter(|input| *input == id).count())
                .sum();
            let as_turns = kept.iter().filter(|(name, _)| is_turn(name)).count();
            let times = as_parts + as_turns;
            if times > 1 || (times == 0 && accepted.contains(&**id)) {
                let why = format!("{id} is {as_parts} times in a turn, and {as_turns} times one");
                broken.push(Violation::new(KEPT_ONCE, why));
            }
        }
    }
    broken
}

/// Follows the order of each session's turns.
#[must_use]
pub fn run_in_turn(plan: &Plan, records: &[Record]) -> Vec<Violation> {
    let mut broken = Vec::new();
    // Each session's executions by their index, and whether the store has ended them.
    let mut sessions: BTreeMap<&str, BTreeMap<u64, bool>> = BTreeMap::new();
    let mut waiting: Vec<&str> = Vec::new();
    let mut changed: BTreeMap<&str, u16> = BTreeMap::new();
    for Record { at, fact } in records {
        match fact {
            Fact::AgentAsked { execution } => {
                let Some((session, index)) = session_of(execution.as_str()) else { continue };
                let turns = sessions.entry(session).or_default();
                turns.entry(index).or_default();
                if let Some((open, _)) = turns.range(..index).find(|(_, has_ended)| !**has_ended) {
                    let why = format!("{execution} runs at {at:?}, and turn {open} is open");
                    broken.push(Violation::new(IN_TURN, why));
                }
            }
            Fact::Stored { execution, stored } => {
                let Some((session, index)) = session_of(execution.as_str()) else { continue };
                let has_ended = sessions.entry(session).or_default().entry(index).or_default();
                *has_ended |= matches!(stored, Stored::Ended { .. } | Stored::Saved);
            }
            Fact::Waits { turn } if !waiting.contains(&&**turn) && !turn.starts_with("input") => {
                waiting.push(turn);
            }
            Fact::Client { client, act: ClientAct::Changed { status } } => {
                changed.insert(&client.turn, *status);
            }
            _ => {}
        }
    }
    let kept: BTreeMap<&str, &Kept> = kept(records).collect();
    for (place, first) in waiting.iter().enumerate() {
        for second in &waiting[place + 1..] {
            if let (Some(one), Some(other)) = (kept.get(first), kept.get(second))
                && session_of(&one.execution).map(|(session, _)| session)
                    == session_of(&other.execution).map(|(session, _)| session)
                && one.index >= other.index
            {
                let why = format!("{first} waited before {second}, and ran after it");
                broken.push(Violation::new(IN_ORDER, why));
            }
        }
    }
    let (deleted, is_missing) = (deleted_turns(plan, records), has_no_end(records));
    for queued in plan.besides.iter().flat_map(|beside| &beside.queued) {
        let turn = queued.turn.id.as_str();
        let (Some((_, change)), Some(status)) = (&queued.change, changed.get(turn)) else {
            continue;
        };
        if deleted.contains(turn) || is_missing {
            continue;
        }
        let kept = kept.get(turn);
        let is_true = match (change, status) {
            (Change::Remove, 204) => kept.is_none(),
            (Change::Edit(script), 200) => kept.is_some_and(|kept| kept.asked == script.message),
            (_, 409) => kept.is_some(),
            _ => false,
        };
        if !is_true {
            let why = format!("{turn} is told {status}, and is {:?}", kept.map(|kept| &kept.asked));
            broken.push(Violation::new(CHANGED, why));
        }
    }
    broken
}

/// Follows what was deleted.
#[must_use]
pub fn stays_deleted(records: &[Record]) -> Vec<Violation> {
    let mut deleted: BTreeSet<&str> = BTreeSet::new();
    let mut erased: BTreeSet<&ExecutionId> = BTreeSet::new();
    let is_of = |deleted: &BTreeSet<&str>, execution: &str| {
        session_of(execution).is_some_and(|(session, _)| deleted.contains(session))
    };
    let mut broken = Vec::new();
    for Record { at, fact } in records {
        let why = match fact {
            Fact::Deleted { session } => {
                deleted.insert(session);
                continue;
            }
            Fact::Erased { execution } => {
                erased.insert(execution);
                continue;
            }
            Fact::Stored { execution, stored } if is_of(&deleted, execution.as_str()) => {
                format!("the store has written to {execution} at {at:?}: {stored:?}")
            }
            Fact::AgentAsked { execution } if erased.contains(execution) => {
                format!("{execution} runs at {at:?}, and was erased")
            }
            Fact::LeftBehind { execution } => format!("{execution} is still at the substrate"),
            Fact::Kept { turn, answer: Some(kept) } if is_of(&deleted, &kept.execution) => {
                format!("{turn} is still in the database")
            }
            _ => continue,
        };
        broken.push(Violation::new(GONE, why));
    }
    broken
}

/// No run is told that its time is over because of the time in which it waited.
#[must_use]
pub fn waits_in_its_own_time(records: &[Record]) -> Vec<Violation> {
    /// A run, and how long it has run.
    #[derive(Default)]
    struct Clock {
        passed: Duration,
        since: Duration,
        pending: usize,
    }
    let mut clocks: BTreeMap<&ExecutionId, Clock> = BTreeMap::new();
    let mut broken = Vec::new();
    for Record { at, fact } in records {
        let Fact::Appended { execution, event, .. } = fact else { continue };
        if event.kind() == "execution.started" {
            clocks.insert(execution, Clock { since: *at, ..Clock::default() });
        }
        let Some(clock) = clocks.get_mut(execution) else { continue };
        if clock.pending == 0 {
            clock.passed += at.saturating_sub(clock.since);
        }
        clock.since = *at;
        match event.kind() {
            "interaction" => clock.pending += 1,
            "interaction.answered" => clock.pending = clock.pending.saturating_sub(1),
            _ => {}
        }
        if outline::code(event).as_deref() == Some("timeout") && clock.passed < RUN_TIMEOUT {
            let why = format!("{execution} is over after {:?} at {at:?}", clock.passed);
            broken.push(Violation::new(STANDS, why));
        }
    }
    broken
}

fn input(event: &Event) -> Option<String> {
    Some(Input::of(event)?.id()?.to_str().into_owned())
}

fn kept(records: &[Record]) -> impl Iterator<Item = (&str, &Kept)> {
    records.iter().filter_map(|record| match &record.fact {
        Fact::Kept { turn, answer: Some(kept) } => Some((turn.as_str(), kept)),
        _ => None,
    })
}

/// Whether the world was cut off before the database could be looked into.
fn has_no_end(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record.fact, Fact::StillOpen { .. } | Fact::Endless))
}

/// The turns of the conversations that somebody wants to be deleted.
fn deleted_turns<'a>(plan: &'a Plan, records: &[Record]) -> BTreeSet<&'a str> {
    let is_any = records.iter().any(|record| matches!(record.fact, Fact::Deleted { .. }));
    let all =
        plan.besides.iter().zip(&plan.sessions).filter(|(beside, _)| !beside.deleted.is_empty());
    let turns = all.flat_map(|(beside, turns)| {
        turns.iter().chain(beside.queued.iter().map(|queued| &queued.turn))
    });
    turns.filter(|_| is_any).map(|turn| turn.id.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::story::{bare, client, event, id, records};

    fn promises(broken: Vec<Violation>) -> Vec<&'static str> {
        broken.into_iter().map(|broken| broken.promise).collect()
    }

    fn asked(index: u64) -> Fact {
        Fact::AgentAsked { execution: id(&format!("local:s:{index}")) }
    }

    fn stored(index: u64, stored: Stored) -> Fact {
        Fact::Stored { execution: id(&format!("local:s:{index}")), stored }
    }

    fn appended(execution: &str, event: Event) -> Fact {
        let at = crate::check::story::at(1);
        Fact::Appended { execution: id(execution), id: at, event }
    }

    fn plan() -> Plan {
        let mut plan = Plan::draw(0);
        let script = crate::script::Script::draw(&mut fastrand::Rng::with_seed(0), "m");
        let said = Said { id: "input-a".to_owned(), script, senders: Vec::new() };
        plan.sessions[0][0].inputs = vec![said];
        plan.besides.iter_mut().for_each(|beside| beside.deleted.clear());
        plan
    }

    fn row(turn: &str, index: u64, inputs: &[&str]) -> Fact {
        let mut kept = Kept::of(format!("local:s:{index}"), index);
        kept.inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        Fact::Kept { turn: turn.to_owned(), answer: Some(kept) }
    }

    #[test]
    fn an_input_that_is_told_twice_early_or_in_vain_is_found() {
        let logged = || {
            appended(
                "local:s:0",
                event(r#"{"type":"input","data":{"id":"input-a","message":"m"}}"#),
            )
        };
        let received =
            || Fact::Received { execution: id("local:s:0"), input: "input-a".to_owned() };
        let told = || client("t", ClientAct::Said { input: "input-a".to_owned(), status: 202 });
        let broken = |facts: Vec<Fact>| promises(is_said_once(&plan(), &records(facts)));
        let whole = vec![logged(), told(), received(), row("t", 0, &["input-a"])];
        assert_eq!(broken(whole), [""; 0]);
        assert_eq!(broken(vec![received(), logged()]), [HEARD_ONCE]);
        assert_eq!(broken(vec![logged(), received(), received()]), [HEARD_ONCE]);
        assert_eq!(broken(vec![logged(), logged()]), [HEARD_ONCE]);
        assert_eq!(broken(vec![logged(), told()]), [KEPT_ONCE]);
        let twice = vec![row("t", 0, &["input-a"]), row("input-a:i2", 1, &[])];
        assert_eq!(broken(twice), [KEPT_ONCE]);
    }

    #[test]
    fn two_turns_at_once_and_turns_out_of_order_are_found() {
        let broken = |facts: Vec<Fact>| promises(run_in_turn(&plan(), &records(facts)));
        let waits = |turn: &str| Fact::Waits { turn: turn.to_owned() };
        assert_eq!(broken(vec![asked(0), stored(0, Stored::Saved), asked(1)]), [""; 0]);
        assert_eq!(broken(vec![asked(0), asked(1)]), [IN_TURN]);
        let swapped = vec![waits("a"), waits("b"), row("a", 2, &[]), row("b", 1, &[])];
        assert_eq!(broken(swapped), [IN_ORDER]);
    }

    #[test]
    fn what_comes_back_of_a_deleted_session_is_found() {
        let deleted = || Fact::Deleted { session: "s".to_owned() };
        let erased = || Fact::Erased { execution: id("local:s:0") };
        let broken = |facts: Vec<Fact>| promises(stays_deleted(&records(facts)));
        assert_eq!(broken(vec![stored(0, Stored::Saved), deleted(), erased()]), [""; 0]);
        assert_eq!(broken(vec![deleted(), stored(0, Stored::Saved)]), [GONE]);
        assert_eq!(broken(vec![deleted(), erased(), asked(0)]), [GONE]);
        assert_eq!(broken(vec![deleted(), row("t", 0, &[])]), [GONE]);
    }

    #[test]
    fn a_time_out_that_counts_the_wait_is_found() {
        let failed = || {
            let data = r#"{"type":"execution.failed","data":{"code":"timeout","message":"m"}}"#;
            appended("e", event(data))
        };
        let at = |seconds: u64, fact: Fact| Record { at: Duration::from_secs(seconds), fact };
        let started = || at(0, appended("e", bare("execution.started")));
        let asked = || at(5, appended("e", bare("interaction")));
        let waited = [started(), asked(), at(60, failed())];
        assert_eq!(promises(waits_in_its_own_time(&waited)), [STANDS]);
        assert_eq!(waits_in_its_own_time(&[started(), at(60, failed())]), []);
    }
}
