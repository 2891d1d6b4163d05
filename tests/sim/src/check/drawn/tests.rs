use super::*;
use crate::check::story::{bare, client, event, id, log, records, stream_ended};

fn plan() -> Plan {
    let mut plan = (0..100)
        .map(Plan::draw)
        .find(|plan| plan.turns().any(|turn| turn.script.answer().is_some()));
    plan.take().unwrap()
}

/// A turn that has an answer, and the answer.
fn turn(plan: &Plan) -> (String, String) {
    let turn = plan.turns().find(|turn| turn.script.answer().is_some()).unwrap();
    (turn.id.clone(), turn.script.answer().unwrap().to_owned())
}

fn stored() -> Vec<Fact> {
    log(&["execution.started", "a", "heartbeat", "b", "execution.completed"].map(bare))
}

fn broken(acts: &[ClientAct]) -> Vec<&'static str> {
    broken_after(stored(), acts)
}

fn broken_after(facts: Vec<Fact>, acts: &[ClientAct]) -> Vec<&'static str> {
    let plan = plan();
    let (turn, _) = turn(&plan);
    let acts = acts.iter().map(|act| client(&turn, act.clone()));
    let broken = is_the_execution(&plan, &records(facts.into_iter().chain(acts)));
    broken.into_iter().map(|violation| violation.promise).collect()
}

fn body(after: u64) -> ClientAct {
    ClientAct::Body { execution: Some(id("e")), after }
}

fn line(kind: &str) -> ClientAct {
    ClientAct::Line(bare(kind))
}

fn started() -> ClientAct {
    line("session.run.started")
}

fn completed() -> ClientAct {
    ClientAct::Line(event(r#"{"type":"session.run.completed","data":{"sessionId":"s"}}"#))
}

fn replayed() -> ClientAct {
    ClientAct::Line(event(
        r#"{"type":"session.run.completed","data":{"sessionId":"s","replayed":true}}"#,
    ))
}

fn replay_started() -> ClientAct {
    ClientAct::Line(event(
        r#"{"type":"session.run.started","data":{"sessionId":"s","replayed":true}}"#,
    ))
}

fn failed(retryable: bool, code: &str) -> ClientAct {
    let json = format!(
        r#"{{"type":"session.run.failed","data":{{"retryable":{retryable},"code":"{code}"}}}}"#
    );
    ClientAct::Line(event(&json))
}

fn answer(text: &str) -> ClientAct {
    ClientAct::Line(event(&format!(r#"{{"type":"result","data":{{"finalText":"{text}"}}}}"#)))
}

#[test]
fn a_whole_turn_in_one_piece_or_in_two_is_fine() {
    assert!(broken(&[body(0), started(), line("a"), line("b"), completed()]).is_empty());
    let over = ClientAct::BodyOver;
    assert!(
        broken(&[body(0), started(), line("a"), over, body(2), line("b"), completed()]).is_empty()
    );
}

#[test]
fn a_gap_a_repeat_and_another_order_are_found() {
    assert_eq!(broken(&[body(0), started(), line("b")]), [DRAWN]);
    assert_eq!(broken(&[body(0), started(), line("a"), line("a")]), [DRAWN]);
    assert_eq!(broken(&[body(0), line("a")]), [DRAWN]);
    let over = ClientAct::BodyOver;
    assert_eq!(broken(&[body(0), started(), line("a"), over, body(2), line("a")]), [DRAWN]);
}

#[test]
fn a_completed_that_comes_too_early_is_found() {
    assert_eq!(broken(&[body(0), started(), line("a"), completed()]), [DRAWN]);
    let unended = log(&["execution.started", "a"].map(bare));
    assert_eq!(broken_after(unended, &[body(0), started(), line("a"), completed()]), [DRAWN]);
}

#[test]
fn a_completed_behind_a_result_that_was_the_last_is_fine() {
    let answered = || log(&["execution.started", "a", "result", "heartbeat"].map(bare));
    let read = || answered().into_iter().chain([stream_ended()]).collect();
    let whole = [body(0), started(), line("a"), line("result"), completed()];
    assert!(broken_after(read(), &whole).is_empty());
    assert_eq!(broken_after(answered(), &whole), [DRAWN]);
    assert_eq!(broken_after(read(), &[body(0), started(), line("a"), completed()]), [DRAWN]);
}

#[test]
fn the_saved_answer_replaces_what_was_drawn_and_no_other_text_does() {
    let (_, text) = turn(&plan());
    let part = || line("message.part.updated");
    let whole = [replay_started(), part(), answer(&text), replayed()];
    assert!(broken(&[&[body(0)], &whole[..]].concat()).is_empty());
    let late = [body(0), started(), line("a"), ClientAct::BodyOver, body(2)];
    assert!(broken(&[&late, &whole[..]].concat()).is_empty());
    let cut = [replay_started(), part(), ClientAct::BodyOver, body(0)];
    assert!(broken(&[&late, &cut[..], &whole].concat()).is_empty());
    let another = [body(0), replay_started(), part(), answer("another"), replayed()];
    assert_eq!(broken(&another), [DRAWN, DRAWN]);
    assert_eq!(broken(&[body(0), started(), answer(&text), replayed()]), [DRAWN, DRAWN]);
}

#[test]
fn what_follows_an_ending_is_found() {
    let whole = [body(0), started(), line("a"), line("b"), completed(), line("c")];
    assert_eq!(broken(&whole), [ENDING]);
    assert_eq!(broken(&[body(0), started(), failed(true, "x")]), [ENDING]);
    assert_eq!(broken(&[body(0), started(), line("error"), line("a")]), [ENDING]);
}

#[test]
fn a_failed_attempt_voids_the_cursor() {
    let again = [body(0), started(), line("error"), failed(true, "x"), ClientAct::BodyOver];
    let whole = [body(0), started(), line("a"), line("b"), completed()];
    assert!(broken(&[&again[..], &whole[..]].concat()).is_empty());
}

#[test]
fn an_error_that_nothing_bears_out_is_found() {
    let ran = || {
        let asked = Fact::AgentAsked { execution: id("e") };
        stored().into_iter().chain([asked]).collect()
    };
    let told =
        |code: &str| broken_after(ran(), &[body(0), started(), line("error"), failed(false, code)]);
    assert_eq!(told("execution_gap"), [HONEST]);
    assert_eq!(told("cancelled"), [HONEST]);
    assert_eq!(told("runner_lost"), [HONEST]);
}

#[test]
fn an_error_that_the_world_bears_out_is_fine() {
    let stopped =
        [body(0), started(), ClientAct::AskedToStop, line("error"), failed(false, "cancelled")];
    assert!(broken(&stopped).is_empty());
    let mut facts = stored();
    facts.push(Fact::LogLost);
    let lost = [body(0), started(), line("error"), failed(false, "execution_lost")];
    assert!(broken_after(facts, &lost).is_empty());
    let asked = vec![Fact::AgentAsked { execution: id("e") }];
    assert_eq!(broken_after(asked, &lost), [HONEST]);
}

#[test]
fn another_execution_of_the_same_turn_is_found() {
    let other = ClientAct::Body { execution: Some(id("f")), after: 0 };
    assert_eq!(broken(&[body(0), started(), ClientAct::BodyOver, other]), [ONE_EXECUTION]);
}

#[test]
fn a_turn_that_is_not_found_any_more_is_found() {
    let gone = ClientAct::Refused { status: 404, code: "turn_not_found".to_owned() };
    assert!(broken(std::slice::from_ref(&gone)).is_empty());
    assert_eq!(broken(&[body(0), started(), ClientAct::BodyOver, gone]), [FOUND]);
}
