//! The rules about the product's own statements, inside the store's transactions.

use turnkit::Persisted;
use turnkit_chat::store::{Accepted, Claim, Claimed, EndedBy, Find, Found};
use turnkit_chat::{Answer, ChatStore, TurnRef, TurnState};
use turnkit_id::ExecutionId;

use super::bench::{Bench, Rule, TASKS, asked, count, ending, owner};
use super::{FAILING, REFUSED, Statements, StoreFixture, Written};

const PLACE: &str = "PROTOCOL 4.2, \"What the product itself writes about a turn\"; the docs of the store's own trait of statements";

/// What the product writes with an accept, a save and an ending is there once for each execution, and where nothing was written not at all:
/// under accepts, claims, saves and endings of many turns by many tasks at once. `saved` may come after `ended`.
///
/// Broken by a store that runs them for a turn that is known, an answer that is saved already, or an ending that comes late. A store with
/// [`NoStatements`](super::NoStatements) is tried for the rest: that what each task was told adds up.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn statements_run_once_for_each_execution<F: StoreFixture>(fixture: F) {
    const TURNS: usize = 12;
    let rule = Rule { name: "statements_run_once_for_each_execution", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let mut sessions = Vec::new();
    for number in 0..TURNS {
        sessions.push(bench.session(number).await);
    }
    let told = bench
        .race(|task, store| {
            let turns: Vec<_> =
                sessions.iter().map(|session| asked(session, "turn", "hello")).collect();
            async move {
                let mut told = Vec::new();
                for place in 0..TURNS {
                    // Half of the tasks come from the other side.
                    let number = if task % 4 < 2 { place } else { TURNS - 1 - place };
                    let new = &turns[number];
                    let accepted = rule.ask("accept", || store.accept(new.clone())).await;
                    let (Accepted::New(row) | Accepted::Known(row)) = &accepted else {
                        rule.broken(
                            "of a turn that all ask for",
                            "`New` or `Known`",
                            format!("{accepted:?}"),
                            "the turn's own name",
                        )
                    };
                    let (id, is_new) =
                        (row.turn.execution_id.clone(), matches!(accepted, Accepted::New(_)));
                    let claim = Claim {
                        execution_id: id.clone(),
                        nonce: (task * TURNS + number) as u128,
                        seen_epoch: 0,
                        may_run: true,
                    };
                    let claimed = rule.ask("claim", || store.claim(claim.clone())).await;
                    let by = match &claimed {
                        Claimed::Run(lease) | Claimed::Attach(lease) => {
                            EndedBy::Lease(lease.clone())
                        }
                        Claimed::Refused => EndedBy::Log(id.clone()),
                    };
                    let (mut saved, mut ended) = (false, false);
                    // Of three turns one is saved by all, one ended by all, and of one nobody knows.
                    if number % 3 != 0 && (number % 3 == 1 || task % 2 == 0) {
                        let answer = Answer::new("whole");
                        let persisted =
                            rule.ask("save", || store.save(id.clone(), answer.clone())).await;
                        saved = persisted == Persisted::Saved;
                    } else {
                        ended =
                            rule.ask("end", || store.end(by.clone(), ending("told", "part"))).await;
                    }
                    told.push((number, id, is_new, saved, ended));
                }
                told
            }
        })
        .await
        .concat();
    for number in 0..TURNS {
        let of: Vec<_> = told.iter().filter(|(turn, ..)| *turn == number).collect();
        let id = &of[0].1;
        let at = format!("of {TASKS} tasks that accept, claim, save and end {TURNS} turns");
        let new = count(&of, |(_, _, is_new, ..)| *is_new);
        let saved = count(&of, |(_, _, _, saved, _)| *saved);
        let ended = count(&of, |(.., ended)| *ended);
        let wanted = match number % 3 {
            0 => "`New` once, never `Saved`, ended once",
            1 => "`New` once, `Saved` once, never ended",
            _ => "`New` once, `Saved` once, ended at most once",
        };
        let adds_up = |(new, saved, ended): &(usize, usize, usize)| {
            *new == 1
                && *saved == usize::from(number % 3 != 0)
                && (*ended == 1 || (*ended == 0 && number % 3 != 0))
                && (*ended == 0 || number % 3 != 1)
        };
        let look_for = "conditions that are not part of the writes whose they are";
        rule.holds(&at, &(new, saved, ended), wanted, adds_up, look_for);
        let row = bench.row(id).await;
        let state = if number % 3 == 0 { TurnState::Failed } else { TurnState::Complete };
        rule.same(&at, &row.state, &state, look_for);
        let ended = u64::try_from(ended).unwrap_or(u64::MAX);
        let wanted = Written { accepted: 1, saved: u64::from(number % 3 != 0), ended };
        bench.wrote(&at, id, wanted).await;
    }
}

/// Where the product's statements refuse a turn, or fail, nothing of the transaction stays, neither theirs nor the store's; and the same
/// call may be made again. A refused turn takes no index.
///
/// Broken by a store that runs them before its transaction, or after it. There is nothing to try of a store with
/// [`NoStatements`](super::NoStatements), and its test says so.
#[expect(clippy::print_stdout, reason = "a rule that cannot be tried says so in its test's output")]
pub async fn what_statements_refuse_leaves_nothing<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "what_statements_refuse_leaves_nothing", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    if !F::Statements::ARE_RUN {
        println!("the store declares `NoStatements`: nothing refuses a turn");
        return;
    }
    let store = bench.store();
    let session = bench.session(0).await;
    // What is refused would have had the session's first index.
    let id = ExecutionId::derive("tenant", session.as_str(), 0).expect("a valid execution id");
    for (number, message) in [REFUSED, FAILING].into_iter().enumerate() {
        let new = asked(&session, &format!("refused-{number}"), message);
        let at = format!("of a turn at whose message {message:?} `accepted` stops");
        let answer = rule.try_ask("accept", || store.accept(new.clone())).await;
        let look_for = "a refusal of the product, or an error of its statements, that is not told";
        match (&answer, message) {
            (Ok(Accepted::Refused(_)), REFUSED) | (Err(_), FAILING) => {}
            _ => {
                let wanted = if message == REFUSED { "`Refused`" } else { "an error" };
                rule.broken(&at, wanted, format!("{answer:?}"), look_for)
            }
        }
        let look_for =
            "what was written before the product refused: it is one transaction, and is undone";
        let found = Find::Named(owner(), TurnRef::new(session.clone(), new.turn_id.clone()));
        let found = rule.ask("find", || store.find(found.clone())).await;
        rule.same(&at, &found, &Found::NoTurn, look_for);
        rule.same(&at, &bench.messages(&session).await, &vec![], look_for);
        bench.wrote(&at, &id, Written::default()).await;
    }
    let turn = bench.accept(&session, "accepted").await;
    rule.same(
        "after what was refused",
        &turn.index,
        &0,
        "an index that a refused turn has used up",
    );

    let by = EndedBy::Log(id.clone());
    let ended = rule.try_ask("end", || store.end(by.clone(), ending("told", FAILING))).await;
    let at = "of an ending whose statements fail";
    let look_for = "an error of the product's statements that is swallowed: its transaction is undone, and the call fails";
    rule.holds(at, &ended, "an error", Result::is_err, look_for);
    rule.same(at, &bench.row(&id).await.state, &TurnState::Open, look_for);
    bench.wrote(at, &id, Written { accepted: 1, ..Written::default() }).await;
    let ended = rule.ask("end", || store.end(by.clone(), ending("told", "part"))).await;
    rule.same("of the same ending again", &ended, &true, look_for);

    let saved = rule.try_ask("save", || store.save(id.clone(), Answer::new(FAILING))).await;
    let at = "of an answer whose statements fail";
    rule.holds(at, &saved, "an error", Result::is_err, look_for);
    let answer = rule.ask("saved", || store.saved(id.clone())).await;
    rule.same(at, &answer, &None, look_for);
    rule.same(at, &bench.row(&id).await.state, &TurnState::Failed, look_for);
    bench.wrote(at, &id, Written { accepted: 1, saved: 0, ended: 1 }).await;
    let saved = rule.ask("save", || store.save(id.clone(), Answer::new("whole"))).await;
    rule.same("of the same answer again", &saved, &Persisted::Saved, look_for);
    bench.wrote("once it is saved", &id, Written { accepted: 1, saved: 1, ended: 1 }).await;
}
