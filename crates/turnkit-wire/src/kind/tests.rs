use std::{collections::BTreeSet, string::String, vec::Vec};

use super::*;

const KINDS: [&str; 21] = [
    RUN_STARTED,
    RUN_COMPLETED,
    RUN_FAILED,
    MESSAGE_PART_UPDATED,
    RESULT,
    ERROR,
    WARNING,
    INTERACTION,
    INTERACTION_ANSWERED,
    INPUT,
    INPUT_TAKEN,
    EXECUTION_STARTED,
    EXECUTION_COMPLETED,
    EXECUTION_FAILED,
    EXECUTION_CANCELLED,
    DONE,
    HEARTBEAT,
    CONNECTION_ESTABLISHED,
    HISTORY_REPLAY_START,
    HISTORY_REPLAY_END,
    "execution.paused",
];

const PROTOCOL: &str = include_str!("../../../../docs/PROTOCOL.md");

/// The types that a row of PROTOCOL 1.1 names whose second column begins with `who`.
fn row(who: &str) -> BTreeSet<&'static str> {
    let table = PROTOCOL.split_once("| `type` | who acts |").unwrap().1;
    let mut rows = table.lines().filter_map(|line| line.rsplit_once("` | "));
    let (types, _) = rows.find(|(_, acts)| acts.starts_with(who)).unwrap();
    types.split('`').skip(1).step_by(2).collect()
}

fn kinds_of(is_in: impl Fn(Class) -> bool) -> BTreeSet<&'static str> {
    KINDS.into_iter().filter(|kind| is_in(Class::of(kind.as_bytes()))).collect()
}

#[test]
fn the_classes_are_those_of_the_protocol() {
    assert_eq!(kinds_of(Class::is_answer), row("the engine: the answer"));
    assert_eq!(kinds_of(Class::is_failure), row("the engine: the turn fails"));
    let mut envelope = row("the engine: not forwarded");
    envelope.insert(RUN_FAILED);
    assert_eq!(kinds_of(Class::is_envelope), envelope);
    assert_eq!(kinds_of(|class| !class.is_forwarded()), row("the adapter: not forwarded"));
    let mut questions = kinds_of(Class::is_of_inbox);
    questions.insert(INTERACTION);
    assert_eq!(questions, row("the substrate: what a running agent asks"));
    assert_eq!(kinds_of(Class::is_interaction), questions);
}

#[test]
fn what_ends_a_log_an_execution_and_a_body_is_told_apart() {
    let log = BTreeSet::from([EXECUTION_COMPLETED, EXECUTION_FAILED, EXECUTION_CANCELLED]);
    assert_eq!(kinds_of(Class::ends_log), log);
    assert_eq!(kinds_of(Class::ends_execution), log.into_iter().chain([DONE]).collect());
    assert_eq!(kinds_of(Class::ends_body), [RUN_COMPLETED, RUN_FAILED].into());
    assert_eq!(kinds_of(Class::is_terminal_line), [ERROR, RUN_COMPLETED, RUN_FAILED].into());
}

#[test]
fn names_to_come_belong_to_the_layer_of_their_prefix() {
    assert_eq!(Class::of(b"session.run.paused"), Class::RunOther);
    let unknown = Class::of(b"execution.paused");
    assert!(unknown.is_reserved() && unknown.is_forwarded() && !unknown.ends_execution());
    let others = ["warnings", "price", "", "session.run", "execution", "Result", "results"];
    let classes: Vec<_> = others.iter().map(|kind| Class::of(kind.as_bytes())).collect();
    assert_eq!(classes, [Class::Other; 7]);
    let reserved: BTreeSet<_> = kinds_of(Class::is_reserved);
    assert_eq!(reserved, KINDS.into_iter().filter(|k| k.starts_with("execution.")).collect());
}

#[test]
fn a_type_spelt_with_escapes_has_its_class() {
    let json = String::from(r#"{"type":"execution\u002efailed"}"#);
    let event = crate::Event::from_bytes(json.into()).unwrap();
    assert_eq!(event.class(), Class::ExecutionFailed);
}
