use super::*;
use crate::{
    check::story::{bare, client, event, log, records, stream_ended},
    history::ClientAct,
};

fn plan() -> Plan {
    let mut plans = (0..).map(Plan::draw);
    plans.find(|plan| plan.turns().any(|turn| turn.script.answer().is_some())).unwrap()
}

fn script(plan: &Plan) -> (&str, &Script) {
    let turn = plan.turns().find(|turn| turn.script.answer().is_some()).unwrap();
    (&turn.id, &turn.script)
}

fn executed() -> Vec<Fact> {
    log(&["execution.started", "execution.completed"].map(bare))
}

fn row(status: &str, text: &str, code: Option<&str>) -> Kept {
    let kept = Kept {
        messages: 1,
        status: status.to_owned(),
        text: text.to_owned(),
        ..Kept::of("e".to_owned(), 0)
    };
    Kept { code: code.map(str::to_owned), ..kept }
}

fn broken(facts: Vec<Fact>, kept: impl FnOnce(&Script) -> Kept) -> Vec<&'static str> {
    let plan = plan();
    let (turn, script) = script(&plan);
    let kept = Kept { asked: script.message.clone(), ..kept(script) };
    let row = Fact::Kept { turn: turn.to_owned(), answer: Some(kept) };
    let records = records(facts.into_iter().chain([row]));
    let broken = is_whole(&plan, &records);
    broken.into_iter().map(|violation| violation.promise).collect()
}

fn told(json: &str) -> Vec<Fact> {
    let plan = plan();
    let line = client(script(&plan).0, ClientAct::Line(event(json)));
    executed().into_iter().chain([line]).collect()
}

fn stopped() -> Vec<Fact> {
    let plan = plan();
    let stop = client(script(&plan).0, ClientAct::AskedToStop);
    executed().into_iter().chain([stop]).collect()
}

fn whole(script: &Script) -> Kept {
    row("complete", script.answer().unwrap(), None)
}

#[test]
fn a_completed_execution_whose_answer_is_saved_is_fine() {
    assert!(broken(executed(), whole).is_empty());
    assert!(broken(told(r#"{"type":"session.run.completed"}"#), whole).is_empty());
}

#[test]
fn a_completed_that_was_told_and_is_not_saved_is_found() {
    let facts = stopped().into_iter().chain(told(r#"{"type":"session.run.completed"}"#));
    assert_eq!(broken(facts.collect(), |_| row("stopped", "", Some("cancelled"))), [SAVED]);
}

#[test]
fn a_completed_execution_that_nobody_saved_is_found() {
    assert_eq!(broken(executed(), |_| row("failed", "", Some("execution_gap"))), [ANSWERED]);
    assert!(broken(stopped(), |_| row("stopped", "", Some("cancelled"))).is_empty());
}

#[test]
fn another_text_than_the_answer_is_found() {
    assert_eq!(broken(executed(), |_| row("complete", "half", None)), [WHOLE]);
    assert_eq!(broken(stopped(), |_| row("stopped", "spliced", Some("cancelled"))), [WHOLE]);
}

#[test]
fn an_answer_of_an_execution_that_did_not_complete_is_found() {
    let failed = log(&["execution.started", "execution.failed"].map(bare));
    assert_eq!(broken(failed, whole), [WHOLE]);
}

/// A log with a `result` last, and this end, which a reader did not come to.
fn answered(end: &str) -> Vec<Fact> {
    log(&[bare("execution.started"), bare("result"), bare("heartbeat"), event(end)])
}

/// The same, with a stream that ended before.
fn read(end: &str) -> Vec<Fact> {
    answered(end).into_iter().chain([stream_ended()]).collect()
}

const LOST: &str = r#"{"type":"execution.failed","data":{"code":"runner_lost"}}"#;

#[test]
fn an_answer_whose_runner_was_lost_behind_its_result_may_be_saved() {
    assert!(broken(read(LOST), whole).is_empty());
    assert_eq!(broken(answered(LOST), whole), [WHOLE]);
    assert!(broken(read(LOST), |_| row("failed", "", Some("AGENT_FAILED"))) == [HONEST]);
    let plan = plan();
    let failed = r#"{"type":"session.run.failed","data":{"retryable":false}}"#;
    let other = client(script(&plan).0, ClientAct::Line(event(failed)));
    assert!(broken(read(LOST).into_iter().chain([other]).collect(), whole).is_empty());
    for end in [
        r#"{"type":"execution.failed","data":{"code":"AGENT_FAILED"}}"#,
        r#"{"type":"execution.cancelled"}"#,
    ] {
        assert_eq!(broken(read(end), whole), [WHOLE], "{end}");
    }
    let more = log(&[bare("execution.started"), bare("result"), bare("a"), event(LOST)]);
    let more = more.into_iter().chain([stream_ended()]).collect();
    assert_eq!(broken(more, whole), [WHOLE]);
}

#[test]
fn a_client_that_is_told_of_a_failure_that_was_none_is_found() {
    let failed = r#"{"type":"session.run.failed","data":{"retryable":false}}"#;
    assert_eq!(broken(told(failed), whole), [AGREE]);
    let retry = r#"{"type":"session.run.failed","data":{"retryable":true}}"#;
    assert!(broken(told(retry), whole).is_empty());
}

#[test]
fn a_code_that_nothing_bears_out_is_found() {
    let failed = log(&["execution.started", "execution.failed"].map(bare));
    assert_eq!(broken(failed.clone(), |_| row("failed", "", Some("execution_gap"))), [HONEST]);
    assert_eq!(broken(failed, |_| row("failed", "", None)), [HONEST]);
}

#[test]
fn a_turn_without_any_answer_is_found() {
    assert_eq!(broken(executed(), |_| Kept::of("e".to_owned(), 0)), [KEPT]);
}

#[test]
fn who_gives_up_and_what_stays_open_are_found() {
    let open = Fact::StillOpen { turns: vec!["e".to_owned()] };
    assert_eq!(
        is_at_rest(&records([client("t", ClientAct::GaveUp), open, Fact::Endless, Fact::Panicked]))
            .len(),
        4
    );
    assert!(is_at_rest(&records(executed())).is_empty());
}
