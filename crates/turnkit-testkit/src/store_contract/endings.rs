//! The rules about how a turn ends: with an answer, without one, or on a user's wish.

use turnkit::Persisted;
use turnkit_chat::store::{EndedBy, Lease};
use turnkit_chat::{Answer, ChatStore, Message, Role, SessionId, StoreErrorKind, TurnState};
use turnkit_id::ExecutionId;

use super::bench::{Bench, Rule, TASKS, count, ending, told};
use super::{StoreFixture, Written};

const PLACE: &str = "PROTOCOL 4.2, \"Who may write which ending\"; `ChatStore::save`";

impl<F: StoreFixture> Bench<F> {
    /// The one answer of a session's one turn.
    async fn answer(&self, at: &str, session: &SessionId) -> Message {
        let mut said = self.messages(session).await;
        let is_one = |said: &Vec<Message>| {
            count(said, |message| message.role == Role::Assistant) == 1 && said.len() == 2
        };
        let look_for = "the answer's row: one for each execution, which a later one replaces";
        self.rule.holds(at, &said, "one answer to one message", is_one, look_for);
        said.remove(1)
    }

    /// Wants the turn to be complete with this answer, whoever asks.
    async fn is_complete(&self, at: &str, session: &SessionId, id: &ExecutionId, text: &str) {
        let rule = self.rule;
        let row = self.row(id).await;
        let look_for = "state, failure and text: a save writes all of them, or none";
        rule.same(at, &(row.state, row.failure), &(TurnState::Complete, None), look_for);
        for store in &self.stores {
            let saved = rule.ask("saved", || store.saved(id.clone())).await;
            rule.same(at, &saved, &Some(Answer::new(text)), look_for);
        }
        let answer = self.answer(at, session).await;
        let came = (answer.text.as_str(), answer.state, answer.failure);
        rule.same(at, &came, &(text, TurnState::Complete, None), look_for);
    }
}

/// Of any number of saves of one execution exactly one is `Saved`, and its text is the answer; all others are `AlreadySaved` and change
/// nothing. An answer of no turn is an error.
///
/// Broken by a store that looks whether there is an answer and writes it then, in two steps.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn one_of_many_saves_is_the_answer<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "one_of_many_saves_is_the_answer", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    for round in 0..8 {
        let turn = bench.turn(round).await;
        let id = &turn.execution_id;
        bench.hold(bench.store(), &turn, 0).await;
        let saved = rule.ask("saved", || bench.store().saved(id.clone())).await;
        rule.same("before a save", &saved, &None, "an answer that nobody has saved");
        let answers = bench
            .race(|task, store| {
                let (id, answer) = (id.clone(), Answer::new(format!("by {task}")));
                async move { rule.ask("save", || store.save(id.clone(), answer.clone())).await }
            })
            .await;
        let at = format!("of {TASKS} saves at once");
        let won: Vec<usize> =
            (0..TASKS).filter(|task| answers[*task] == Persisted::Saved).collect();
        let [winner] = won[..] else {
            let wanted = format!("one `Saved`, and `AlreadySaved` {} times", TASKS - 1);
            let look_for = "a save that first looks and then writes: the condition belongs into the write itself";
            rule.broken(at, wanted, format!("{} times `Saved`", won.len()), look_for)
        };
        bench.is_complete(&at, &turn.session_id, id, &format!("by {winner}")).await;
        bench.wrote(&at, id, Written { accepted: 1, saved: 1, ended: 0 }).await;
        let by = EndedBy::Log(id.clone());
        let ended = rule.ask("end", || bench.store().end(by.clone(), ending("late", "part"))).await;
        let at = "of an ending that comes after the answer";
        rule.same(at, &ended, &false, "the turn's state in an ending's condition");
        bench.is_complete(at, &turn.session_id, id, &format!("by {winner}")).await;
    }
    let unknown = ExecutionId::derive("tenant", "unknown", 0).expect("a valid execution id");
    let store = bench.store();
    match rule.try_ask("save", || store.save(unknown.clone(), Answer::new("whole"))).await {
        Err(error) if error.kind() == StoreErrorKind::Broken => {}
        came => {
            let came = came.map_or_else(|error| told(&error), |persisted| format!("{persisted:?}"));
            let look_for =
                "an update of no row that is told as a success: the answer would be lost";
            rule.broken("of an answer of no turn", "an error of the kind `Broken`", came, look_for)
        }
    }
}

/// A whole answer that comes after the turn was stopped or has failed replaces the part that was kept, once: the turn is complete, without
/// a failure.
///
/// Broken by a store that saves open turns only, or adds a second answer.
pub async fn a_whole_answer_replaces_a_part_of_it<F: StoreFixture>(fixture: F) {
    let place =
        "PROTOCOL 4.2, \"Stopped and failed turns keep their partial text\"; `ChatStore::save`";
    let rule = Rule { name: "a_whole_answer_replaces_a_part_of_it", place };
    let bench = Bench::new(rule, fixture).await;
    for (round, stopped) in [false, true, false, true].into_iter().enumerate() {
        let turn = bench.turn(round).await;
        let id = &turn.execution_id;
        let mut part = ending("told", "the first ha");
        part.stopped = stopped;
        let by = EndedBy::Log(id.clone());
        let ended = rule.ask("end", || bench.store().end(by.clone(), part.clone())).await;
        rule.same("of an open turn's ending", &ended, &true, "an open turn: it ends");
        let at = "of a turn that has ended with a part of its answer";
        let answer = bench.answer(at, &turn.session_id).await;
        let came = (answer.text.as_str(), answer.state, answer.failure.clone());
        let wanted = ("the first ha", part.state(), Some(part.failure.clone()));
        rule.same(at, &came, &wanted, "what an ending keeps: the part, and why it is one");
        let saved = rule.ask("saved", || bench.store().saved(id.clone())).await;
        rule.same(at, &saved, &None, "a part that is told as the whole answer");

        let answers = bench
            .race(|_, store| {
                let id = id.clone();
                async move {
                    let answer = Answer::new("the first half, and the second");
                    rule.ask("save", || store.save(id.clone(), answer.clone())).await
                }
            })
            .await;
        let at = format!("of {TASKS} saves over a part of the answer");
        let saved = count(&answers, |answer| *answer == Persisted::Saved);
        let look_for = "a save that does nothing where the turn has ended, or whose condition is not part of the write";
        rule.same(&at, &saved, &1, look_for);
        bench.is_complete(&at, &turn.session_id, id, "the first half, and the second").await;
        bench.wrote(&at, id, Written { accepted: 1, saved: 1, ended: 1 }).await;
    }
}

/// Where saves and endings of one turn come at once, one save is `Saved` and at most one ending is told that it ended the turn; whichever
/// came first, the turn is complete.
///
/// Broken by a store whose ending overwrites an answer, or whose save gives way to an ending.
pub async fn a_save_wins_against_a_concurrent_end<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "a_save_wins_against_a_concurrent_end", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    for round in 0..12 {
        let turn = bench.turn(round).await;
        let id = &turn.execution_id;
        let lease = bench.hold(bench.store(), &turn, 0).await;
        let answers = bench
            .race(|task, store| {
                let lease = lease.clone();
                async move {
                    let id = lease.execution_id.clone();
                    // On each handle half of them save, and in every other round the savers start first.
                    if (task / 2 + round) % 2 == 0 {
                        let answer = Answer::new("whole");
                        let saved = rule.ask("save", || store.save(id.clone(), answer.clone()));
                        (Some(saved.await), false)
                    } else {
                        let by =
                            if task < TASKS / 2 { EndedBy::Log(id) } else { EndedBy::Lease(lease) };
                        let ended = rule.ask("end", || store.end(by.clone(), ending("own", "wh")));
                        (None, ended.await)
                    }
                }
            })
            .await;
        let at = format!("of {} saves and as many endings at once", TASKS / 2);
        let saved = count(&answers, |(saved, _)| *saved == Some(Persisted::Saved));
        let ended = count(&answers, |(_, ended)| *ended);
        let look_for =
            "a save that gives way to an ending, or one of the two without its condition";
        rule.holds(
            &at,
            &(saved, ended),
            "one `Saved`, and at most one ending",
            |(saved, ended)| *saved == 1 && *ended <= 1,
            look_for,
        );
        bench.is_complete(&at, &turn.session_id, id, "whole").await;
        let ended = u64::try_from(ended).unwrap_or(u64::MAX);
        bench.wrote(&at, id, Written { accepted: 1, saved: 1, ended }).await;
    }
}

/// Of any number of endings of one turn exactly one is told that it ended the turn, and what is kept is that one's: state, failure and
/// part of the answer.
///
/// Broken by a store that ends an ended turn again.
pub async fn a_turn_has_one_ending<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"Who may write which ending\"; `ChatStore::end`";
    let rule = Rule { name: "a_turn_has_one_ending", place };
    let bench = Bench::new(rule, fixture).await;
    for round in 0..8 {
        let turn = bench.turn(round).await;
        let id = &turn.execution_id;
        let lease = bench.hold(bench.store(), &turn, 0).await;
        let of = |task: usize| {
            let mut ending = ending(&format!("code-{task}"), &format!("part {task}"));
            ending.stopped = task % 4 < 2;
            ending
        };
        let answers = bench
            .race(|task, store| {
                let by = if task % 3 == 0 {
                    EndedBy::Log(id.clone())
                } else {
                    EndedBy::Lease(Lease::clone(&lease))
                };
                let ending = of(task);
                async move { rule.ask("end", || store.end(by.clone(), ending.clone())).await }
            })
            .await;
        let at = format!("of {TASKS} endings at once");
        let won: Vec<usize> = (0..TASKS).filter(|task| answers[*task]).collect();
        let [winner] = won[..] else {
            let look_for = "an ending that first looks and then writes: the condition belongs into the write itself";
            rule.broken(at, "one that ended the turn", format!("{} that did", won.len()), look_for)
        };
        let kept = of(winner);
        let row = bench.row(id).await;
        let look_for = "two endings that are mixed: each writes state, failure and text together";
        rule.same(
            &at,
            &(row.state, row.failure),
            &(kept.state(), Some(kept.failure.clone())),
            look_for,
        );
        let answer = bench.answer(&at, &turn.session_id).await;
        let came = (answer.text, answer.state, answer.failure);
        rule.same(
            &at,
            &came,
            &(kept.partial.text.clone(), kept.state(), Some(kept.failure)),
            look_for,
        );
        bench.wrote(&at, id, Written { accepted: 1, saved: 0, ended: 1 }).await;
        // The session is free for its next turn.
        bench.accept(&turn.session_id, "next").await;
    }
}

/// A stop that a user asks for is noted in the row of an open turn, whoever drives it, and stays there; an ended turn is not changed.
///
/// Broken by a store that keeps the note with the lease, which the next worker does not see.
pub async fn a_stop_is_noted_while_the_turn_is_open<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A stop that a user asks for is noted in the row\"; `ChatStore::ask_to_stop`";
    let rule = Rule { name: "a_stop_is_noted_while_the_turn_is_open", place };
    let bench = Bench::new(rule, fixture).await;
    let [first, second] = &bench.stores;
    let turn = bench.turn(0).await;
    let id = &turn.execution_id;
    rule.same("before", &bench.row(id).await.stop_asked, &false, "a note that nobody made");
    let lease = bench.hold(first, &turn, 0).await;
    rule.ask("ask_to_stop", || second.ask_to_stop(id.clone())).await;
    let row = bench.row(id).await;
    let look_for = "a note that takes nobody's lease and ends nothing";
    let came = (row.stop_asked, row.state, row.epoch, row.is_held);
    rule.same("of a turn that is to stop", &came, &(true, TurnState::Open, 1, true), look_for);
    bench.release(first, &lease).await;
    bench.hold(second, &turn, 1).await;
    let look_for = "a note that is lost with the lease: who drives the turn next must know of it";
    rule.same("once another worker drives it", &bench.row(id).await.stop_asked, &true, look_for);

    let ended = bench.turn(1).await;
    rule.ask("save", || first.save(ended.execution_id.clone(), Answer::new("whole"))).await;
    rule.ask("ask_to_stop", || first.ask_to_stop(ended.execution_id.clone())).await;
    let row = bench.row(&ended.execution_id).await;
    let look_for = "the turn's state in the note's condition";
    rule.same(
        "of a turn that has ended",
        &(row.stop_asked, row.state),
        &(false, TurnState::Complete),
        look_for,
    );
}
