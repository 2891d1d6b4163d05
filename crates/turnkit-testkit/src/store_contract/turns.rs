//! The rules about accepting a turn.

use turnkit_chat::ChatStore;
use turnkit_chat::store::{Accepted, Deletion, Find, Found, MAX_NAMES, NewRow, TurnRow};
use turnkit_chat::{Answer, Message, Principal, Role, Turn, TurnRef, TurnState};
use turnkit_id::ExecutionId;

use super::bench::{Bench, Rule, TASKS, asked, count, owner};
use super::{StoreFixture, Written};

const PLACE: &str = "PROTOCOL 4.2, \"One row per turn\"; `ChatStore::accept`, and what `ChatStore` says of `OutcomeUnknown`";

/// Of any number of accepts of one turn exactly one is `New`, and all others are `Known` with the same turn; of different turns of a
/// session at once one is accepted, and the others are told which one is `Running`. Another message or agent under a known `turnId` is
/// a `Conflict`.
///
/// Broken by a store that looks for the turn first and inserts it then, in two steps.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn one_of_many_accepts_is_new<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "one_of_many_accepts_is_new", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    for round in 0..8 {
        let session = bench.session(round).await;
        let new = asked(&session, "same", "hello");
        let answers = bench
            .race(|_, store| {
                let new = new.clone();
                async move { rule.ask("accept", || store.accept(new.clone())).await }
            })
            .await;
        let at = format!("of {TASKS} accepts of one turn at once");
        let won = count(&answers, |answer| matches!(answer, Accepted::New(_)));
        let known = count(&answers, |answer| matches!(answer, Accepted::Known(_)));
        if (won, known) != (1, TASKS - 1) {
            let wanted = format!("one `New`, and `Known` {} times", TASKS - 1);
            let look_for = "a turn that is first looked for and then inserted: a unique index decides, in one transaction";
            rule.broken(&at, wanted, format!("{won} `New` and {known} `Known`"), look_for);
        }
        let turns: Vec<&TurnRow> = answers.iter().filter_map(row_of).collect();
        for row in &turns {
            let look_for = "an answer that tells another turn than the one that was kept";
            rule.same(&at, &row.turn, &turns[0].turn, look_for);
        }
        let first = turns[0].turn.clone();
        let wanted = TurnRow {
            turn: first.clone(),
            state: TurnState::Open,
            dispatched: false,
            stop_asked: false,
            epoch: 0,
            is_held: false,
            is_waiting: false,
            failure: None,
        };
        rule.same(
            &at,
            &bench.row(&first.execution_id).await,
            &wanted,
            "a row that begins with more than was asked for",
        );
        let said = bench.messages(&session).await;
        let is_once = |said: &Vec<Message>| {
            said.len() == 1 && said[0].role == Role::User && said[0].text == "hello"
        };
        let look_for = "the user's message: it is kept in the transaction of its turn";
        rule.holds(&at, &said, "the user's message, once", is_once, look_for);
        bench.wrote(&at, &first.execution_id, Written { accepted: 1, ..Written::default() }).await;

        let other_agent = NewRow { agent: "another".to_owned(), ..new.clone() };
        for other in [asked(&session, "same", "something else"), other_agent] {
            let store = bench.store();
            let answer = rule.ask("accept", || store.accept(other.clone())).await;
            let look_for = "a comparison of message and agent with those that were kept";
            rule.same(
                "of another message or agent under a known `turnId`",
                &answer,
                &Accepted::Conflict,
                look_for,
            );
        }
    }
}

/// The turns of a session have the indexes 0, 1, 2, … in the order in which they were accepted, whatever was refused in between; each
/// session counts for itself; the execution id is that of (tenant, session, index).
///
/// Broken by a store that takes the next index of a sequence, of which a refused turn uses one up.
pub async fn indexes_have_no_gap_and_no_repeat<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "indexes_have_no_gap_and_no_repeat", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let session = bench.session(0).await;
    for index in 0..6_u64 {
        let answers = bench
            .race(|task, store| {
                let new = asked(&session, &format!("turn-{index}-{task}"), "hello");
                async move { rule.ask("accept", || store.accept(new.clone())).await }
            })
            .await;
        let at = format!("of {TASKS} accepts of different turns of a session at once");
        let new: Vec<&TurnRow> = answers
            .iter()
            .filter_map(|answer| match answer {
                Accepted::New(row) => Some(row),
                _ => None,
            })
            .collect();
        let [row] = new[..] else {
            let look_for = "the open turn of a session: there is one, and a unique index says so";
            rule.broken(&at, "one `New`", format!("{} `New`", new.len()), look_for)
        };
        let running = Accepted::Running { turn_id: row.turn.turn_id.clone() };
        for answer in answers.iter().filter(|answer| !matches!(answer, Accepted::New(_))) {
            rule.same(&at, answer, &running, "the open turn's own name in the refusal of another");
        }
        is_at(rule, &row.turn, index);
        let (store, id) = (bench.store(), &row.turn.execution_id);
        let answer = Answer::new("hi");
        rule.ask("save", || store.save(id.clone(), answer.clone())).await;
    }
    let indexes: Vec<u64> = bench
        .messages(&session)
        .await
        .iter()
        .filter(|message| message.role == Role::User)
        .map(|message| message.turn_index)
        .collect();
    let look_for = "a turn or a message that is kept although its accept was refused";
    rule.same("in a session of six turns", &indexes, &(0..6).collect(), look_for);

    // Sessions at once, each for itself.
    let mut sessions = Vec::new();
    for number in 1..=TASKS {
        sessions.push(bench.session(number).await);
    }
    let answers = bench
        .race(|task, store| {
            let new = asked(&sessions[task], "turn", "hello");
            async move { rule.ask("accept", || store.accept(new.clone())).await }
        })
        .await;
    for answer in answers {
        let Accepted::New(row) = answer else {
            let look_for = "a condition that holds for all sessions, and should for one";
            rule.broken("of accepts in as many sessions", "`New`", format!("{answer:?}"), look_for)
        };
        is_at(rule, &row.turn, 0);
    }
}

fn is_at(rule: Rule, turn: &Turn, index: u64) {
    let at = TurnRef::new(turn.session_id.clone(), turn.turn_id.clone());
    let execution_id = ExecutionId::derive("tenant", turn.session_id.as_str(), index)
        .expect("a valid execution id");
    let mut wanted =
        Turn::new(owner(), at, index, execution_id, "agent".to_owned(), "hello".to_owned());
    wanted.parent = index.checked_sub(1);
    let look_for = "an index that a refused turn has used up, or that counts more than the turns of the session";
    rule.same(
        format_args!("in the turn that was accepted as number {index}"),
        turn,
        &wanted,
        look_for,
    );
}

fn row_of(answer: &Accepted) -> Option<&TurnRow> {
    match answer {
        Accepted::New(row) | Accepted::Known(row) => Some(row),
        _ => None,
    }
}

/// A turn is found by each name that it was given, in its session and among all of its owner's. A name stays with the turn that it was
/// given first, and gives way to a turn that is accepted under it. The oldest names give way to new ones, and all of them go with the session.
///
/// Broken by a store that writes the last one who gives a name over the first, or keeps names without end.
pub async fn a_turn_is_found_by_each_of_its_names<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.5, `POST /api/ag-ui`; `ChatStore::name_turn`";
    let rule = Rule { name: "a_turn_is_found_by_each_of_its_names", place };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    let session = bench.session(0).await;
    let first = bench.accept(&session, "first").await;
    let save = || store.save(first.execution_id.clone(), Answer::new("whole"));
    rule.ask("save", save).await;
    bench.accept(&session, "second").await;
    let at = |turn_id: &str| TurnRef::new(session.clone(), turn_id);
    let give = async |turn_id: &str, name: &str| {
        let ask = || store.name_turn(owner(), at(turn_id), name.to_owned());
        rule.ask("name_turn", ask).await;
    };
    let found = async |name: &str| {
        let both = [Find::Named(owner(), at(name)), Find::OfUser(owner(), name.to_owned())];
        let mut turns = Vec::new();
        for find in both {
            turns.push(match rule.ask("find", || other.find(find.clone())).await {
                Found::Turn(row) => Some(row.turn.turn_id),
                _ => None,
            });
        }
        turns
    };
    let both = |turn_id: &str| vec![Some(turn_id.to_owned()); 2];
    let neither: Vec<Option<String>> = vec![None; 2];

    rule.same("of a name that nobody gave", &found("a").await, &neither, "names that are nobody's");
    bench
        .race(|task, store| {
            let at = at(if task < 2 { "first" } else { "second" });
            async move {
                let ask = || store.name_turn(owner(), at.clone(), format!("n{}", task % 2));
                rule.ask("name_turn", ask).await;
            }
        })
        .await;
    let given = [found("n0").await, found("n1").await];
    let is_one = |given: &[Vec<Option<String>>; 2]| {
        given.iter().all(|turns| *turns == both("first") || *turns == both("second"))
    };
    let look_for = "two steps: a name is looked for, and then given";
    let at_once = format!("of a name that two turns are given at once, by {TASKS} tasks");
    rule.holds(&at_once, &given, "the same turn, both times", is_one, look_for);
    give("first", "a").await;
    give("second", "a").await;
    let look_for = "a name that is one turn's: given again, it stays where it is";
    rule.same("of a name that is given twice", &found("a").await, &both("first"), look_for);
    give("first", "second").await;
    let look_for = "a turn's own name, which counts before any that another one was given";
    rule.same("of a turn's own name", &found("second").await, &both("second"), look_for);
    give("none", "b").await;
    let theirs = Principal::new("tenant", "other");
    let ask = || store.name_turn(theirs.clone(), at("second"), "b".to_owned());
    rule.ask("name_turn", ask).await;
    let look_for = "whose turn it is, and whether it is there";
    rule.same("of a name that no turn of the owner has", &found("b").await, &neither, look_for);

    for number in 0..MAX_NAMES {
        give("second", &format!("b{number}")).await;
    }
    let look_for = "a bound: of one turn the newest names are kept";
    let oldest = found("b0").await;
    rule.same("of the oldest name that is kept", &oldest, &both("second"), look_for);
    give("second", "b").await;
    rule.same("of one more than are kept", &found("b0").await, &neither, look_for);
    rule.same("of the newest name", &found("b").await, &both("second"), look_for);
    rule.same("of another turn's", &found("a").await, &both("first"), look_for);

    let owner = owner();
    let deletion = Deletion { owner, session_id: session.clone(), if_idle_since: None };
    rule.ask("delete_session", || store.delete_session(deletion.clone())).await;
    let look_for = "names that are left: they go with their turns";
    rule.same("of a deleted session", &found("b").await, &neither, look_for);
}
