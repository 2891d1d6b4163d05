//! The rules about questions of running agents, and about what users want to be passed on into turns.

use turnkit_chat::store::{
    Change, Decision, EndedBy, FeedId, FeedPage, FeedRead, HistoryLimits, Intended, Intent,
    MessagePage, NewRow, Outcome, Told, Wish,
};
use turnkit_chat::{
    Answer, AnswerPart, ChatStore, Principal, Role, Said, SessionId, Summary, Turn, TurnRef,
};
use turnkit_id::ExecutionId;

use super::StoreFixture;
use super::bench::{Bench, Rule, TASKS, asked, ending, owner};

const PLACE: &str = "PROTOCOL 4.2, \"Questions and inputs\"; `ChatStore::note`, `ChatStore::intend` and `ChatStore::decide`";

fn question(id: &str) -> Told {
    let question = format!(r#"{{"id":"{id}","kind":"approval"}}"#);
    Told::Asked { id: id.to_owned(), question }
}

fn told(id: &str, outcome: Outcome) -> Told {
    Told::Answered { id: id.to_owned(), outcome }
}

fn answer(id: &str, outcome: Outcome) -> Wish {
    Wish::Answer { interaction: id.to_owned(), outcome, data: Some(r#"{"a":1}"#.to_owned()) }
}

fn input(id: &str) -> Wish {
    Wish::Input { id: id.to_owned(), message: format!("message {id}") }
}

impl<F: StoreFixture> Bench<F> {
    async fn note(&self, id: &ExecutionId, told: &[Told]) {
        let store = self.store();
        self.rule.ask("note", || store.note(id.clone(), told.to_vec())).await;
    }

    async fn intend(&self, turn: &Turn, wish: Wish) -> Intent {
        let (store, at) = (self.store(), TurnRef::new(turn.session_id.clone(), &*turn.turn_id));
        match self.rule.ask("intend", || store.intend(owner(), at.clone(), wish.clone())).await {
            Intended::Noted(intent) => intent,
            other => {
                let look_for = "an intent that is refused although its turn is open";
                self.rule.broken("in `intend`", "`Noted`", format!("{other:?}"), look_for)
            }
        }
    }

    async fn decide(&self, intent: &Intent, status: u16, outcome: Option<Outcome>) {
        let (store, decision) = (self.store(), Decision { status, outcome });
        self.rule.ask("decide", || store.decide(intent.number, decision)).await;
    }

    /// Wants these questions of the session's open turn to be pending, by their ids.
    async fn is_pending(&self, at: &str, turn: &Turn, wanted: &[&str]) {
        let state = self.state_of(&turn.session_id, MessagePage::newest(0)).await;
        let questions: Vec<String> =
            wanted.iter().map(|id| format!(r#"{{"id":"{id}","kind":"approval"}}"#)).collect();
        let look_for = "a row for each question, by its execution and its id: what is known already changes nothing";
        self.rule.same(at, &state.pending, &questions, look_for);
        let row = self.row(&turn.execution_id).await;
        let look_for = "whether a question of the turn is pending, in its row";
        self.rule.same(at, &row.is_waiting, &!wanted.is_empty(), look_for);
    }

    async fn undecided(&self) -> Vec<Wish> {
        let left = self.rule.ask("undecided", || self.stores[1].undecided(0, 1_000)).await;
        left.into_iter().map(|intent| intent.wish).collect()
    }

    async fn feed_end(&self) -> FeedId {
        let read = FeedRead { after: None, session: None, limit: 0 };
        match self.rule.ask("feed", || self.store().feed(owner(), read.clone())).await {
            FeedPage::Entries(_, end) => end,
            FeedPage::Expired => self.rule.broken("in `feed`", "its end", "`Expired`", PLACE),
        }
    }

    /// What the feed tells after this place: the change, the question's id, and whether the question itself is told.
    async fn told_since(&self, after: FeedId) -> Vec<(Change, Option<String>, bool)> {
        let read = FeedRead { after: Some(after), session: None, limit: 1_000 };
        match self.rule.ask("feed", || self.stores[1].feed(owner(), read.clone())).await {
            FeedPage::Entries(entries, _) => entries
                .into_iter()
                .map(|entry| (entry.change, entry.interaction, entry.question.is_some()))
                .collect(),
            FeedPage::Expired => self.rule.broken("in `feed`", "entries", "`Expired`", PLACE),
        }
    }
}

/// A question that the log tells of is pending until what came of it is told, once, however often the log is read; it ends with its turn. The
/// feed tells each change once. What a user wants answers nothing; what the substrate has said to it does.
///
/// Broken by a store that writes a question anew with each reading, or takes an intent for the answer.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn a_question_is_pending_until_it_is_answered<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "a_question_is_pending_until_it_is_answered", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let turn = bench.turn(0).await;
    let id = &turn.execution_id;
    bench.hold(bench.store(), &turn, 0).await;
    let begin = bench.feed_end().await;
    bench
        .race(|_, store| {
            let id = id.clone();
            async move {
                let told = vec![question("q1"), question("q2")];
                rule.ask("note", || store.note(id.clone(), told.clone())).await;
            }
        })
        .await;
    bench.is_pending("of two questions", &turn, &["q1", "q2"]).await;
    let wish = bench.intend(&turn, answer("q1", Outcome::Accepted)).await;
    bench.is_pending("once a user wants to answer one of them", &turn, &["q1", "q2"]).await;
    bench.decide(&wish, 409, Some(Outcome::Declined)).await;
    bench.is_pending("once the substrate has said what came of it", &turn, &["q2"]).await;
    bench
        .race(|task, store| {
            let id = id.clone();
            async move {
                // Readings of the same log, of which some are behind.
                let log = [
                    question("q1"),
                    question("q2"),
                    told("q1", Outcome::Declined),
                    told("q2", Outcome::Expired),
                    question("q3"),
                ];
                let read = log[..=(task % 5)].to_vec();
                rule.ask("note", || store.note(id.clone(), read.clone())).await;
            }
        })
        .await;
    bench.is_pending(&format!("after {TASKS} readings of the log"), &turn, &["q3"]).await;
    let mut came = bench.told_since(begin.clone()).await;
    // Two readings at once may tell of the last two in either order.
    came.sort_by_key(|(change, id, _)| (id.clone(), *change != Change::Asked));
    let changed = |change, id: &str, is_told| (change, Some(id.to_owned()), is_told);
    let wanted = vec![
        changed(Change::Asked, "q1", false),
        changed(Change::Answered(Outcome::Declined), "q1", false),
        changed(Change::Asked, "q2", false),
        changed(Change::Answered(Outcome::Expired), "q2", false),
        changed(Change::Asked, "q3", true),
    ];
    let look_for =
        "an entry for each change and none else; the question is told while it is pending";
    rule.same_list("of the feed", &came, &wanted, look_for);

    let by = EndedBy::Log(id.clone());
    rule.ask("end", || bench.store().end(by.clone(), ending("told", "part"))).await;
    bench.note(id, &[question("q4"), told("q3", Outcome::Accepted)]).await;
    bench.is_pending("of a turn that has ended", &turn, &[]).await;
    let foreign = Principal::new("tenant", "other");
    let at = TurnRef::new(turn.session_id.clone(), &*turn.turn_id);
    let theirs =
        || bench.store().intend(foreign.clone(), at.clone(), answer("q1", Outcome::Accepted));
    let came = rule.ask("intend", theirs).await;
    rule.same("for another user", &came, &Intended::NoSession, "the principal in the condition");
}

/// What a user wants to be passed on is noted once, and listed until something is written beside it or its turn has ended, the oldest first.
///
/// Broken by a store that notes a wish again whose answer was lost, or lists what is decided.
pub async fn what_a_user_wants_is_listed_until_it_is_decided<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "what_a_user_wants_is_listed_until_it_is_decided", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let (turn, other) = (bench.turn(0).await, bench.turn(1).await);
    let numbers = bench
        .race(|_, store| {
            let at = TurnRef::new(turn.session_id.clone(), &*turn.turn_id);
            async move {
                let wish = answer("q1", Outcome::Accepted);
                let came = rule.ask("intend", || store.intend(owner(), at.clone(), wish.clone()));
                match came.await {
                    Intended::Noted(intent) => Some(intent.number),
                    _ => None,
                }
            }
        })
        .await;
    let at = format!("of the same wish {TASKS} times at once");
    let look_for = "a wish that is sent again: it is the same intent";
    rule.holds(&at, &numbers, "one number", |all| all.iter().all(|one| *one == all[0]), look_for);
    let first = bench.intend(&turn, answer("q1", Outcome::Accepted)).await;
    let came = (first.execution_id.clone(), first.by.as_str());
    let wanted = (turn.execution_id.clone(), "user");
    rule.same("of an intent", &came, &wanted, "which execution it is for, and who wanted it");
    let wishes = [answer("q1", Outcome::Declined), input("i1"), answer("q2", Outcome::Cancelled)];
    let mut noted = vec![first];
    for wish in &wishes {
        noted.push(bench.intend(&turn, wish.clone()).await);
    }
    let theirs = bench.intend(&other, input("i1")).await;
    let all: Vec<Wish> = noted.iter().map(|intent| intent.wish.clone()).collect();
    let listed = [all.clone(), vec![input("i1")]].concat();
    let look_for = "all that is undecided, in the order in which it was noted";
    rule.same_list("of what is undecided", &bench.undecided().await, &listed, look_for);
    let limited = rule.ask("undecided", || bench.store().undecided(0, 2)).await;
    let limited: Vec<Wish> = limited.into_iter().map(|intent| intent.wish).collect();
    rule.same_list("of at most 2 of them", &limited, &all[..2], "the limit");
    let after = noted[1].number;
    let behind = rule.ask("undecided", || bench.store().undecided(after, 2)).await;
    let behind: Vec<Wish> = behind.into_iter().map(|intent| intent.wish).collect();
    let look_for = "those behind a number: what cannot be passed on is in nobody's way";
    rule.same_list("of 2 behind the second", &behind, &all[2..4], look_for);

    bench.decide(&noted[0], 200, Some(Outcome::Accepted)).await;
    bench.decide(&noted[1], 409, Some(Outcome::Accepted)).await;
    bench.decide(&noted[2], 202, None).await;
    bench.decide(&theirs, 409, None).await;
    let look_for = "what was written beside: it is decided once";
    rule.same_list("once they are decided", &bench.undecided().await, &all[3..], look_for);
    let again = bench.intend(&turn, answer("q1", Outcome::Accepted)).await;
    rule.same("of a decided wish again", &again.number, &noted[0].number, look_for);
    rule.same_list("after it was asked again", &bench.undecided().await, &all[3..], look_for);

    let mut waits = asked(&turn.session_id, "later", "later");
    waits.queue = true;
    rule.ask("accept", || bench.store().accept(waits.clone())).await;
    let id = turn.execution_id.clone();
    rule.ask("save", || bench.store().save(id.clone(), Answer::new("whole"))).await;
    rule.same_list("once the turn has ended", &bench.undecided().await, &[], "turns that are open");
    let asks = async |turn_id: &str| {
        let at = TurnRef::new(turn.session_id.clone(), turn_id);
        let store = bench.store();
        rule.ask("intend", || store.intend(owner(), at.clone(), input("i9"))).await
    };
    let look_for = "a turn that is not open: nothing is noted of it";
    let is_ended =
        |came: &Intended| matches!(came, Intended::Ended(row) if row.turn.execution_id == id);
    rule.holds("of a turn that has ended", &asks("turn").await, "`Ended`", is_ended, look_for);
    rule.same("of no turn", &asks("none").await, &Intended::NoTurn, look_for);
}

/// An input that its agent has not had when its turn ends becomes a turn of its own, once, of which its id is the name, behind those that
/// wait; after a stop it waits. One that it has had is a message between the halves of the answer, for every later turn, and is known when
/// it comes again.
///
/// Broken by a store that forgets inputs, or repeats what an agent has had.
pub async fn an_input_reaches_an_agent_once<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "an_input_reaches_an_agent_once", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let part = |json: &str| AnswerPart::from_json(json).expect("a part");
    let parts = [
        part(r#"{"id":"p","type":"text","text":"one"}"#),
        part(r#"{"type":"input","id":"i2","message":"message i2"}"#),
        part(r#"{"id":"p#2","type":"text","text":"two"}"#),
    ];
    let again = async |session: &SessionId, turn_id: &str, message: &str| {
        let at = TurnRef::new(session.clone(), turn_id);
        let wish = Wish::Input { id: "i2".to_owned(), message: message.to_owned() };
        rule.ask("intend", || bench.store().intend(owner(), at.clone(), wish.clone())).await
    };
    let whole = Answer::of_parts("one\n\ntwo", parts, Summary::default());
    let standing = async |session: &SessionId| {
        let state = bench.state_of(session, MessagePage::newest(0)).await;
        let open = state.open.map(|row| (row.turn.turn_id, row.turn.message, row.turn.agent));
        let waits: Vec<String> = state.queue.turns.into_iter().map(|turn| turn.turn_id).collect();
        (open, waits, state.queue.is_paused)
    };
    for round in 0..4 {
        let session = bench.session(round).await;
        let turn = bench.accept(&session, "t0").await;
        bench.hold(bench.store(), &turn, 0).await;
        let waits = NewRow { queue: true, ..asked(&session, "i3", "another message") };
        rule.ask("accept", || bench.store().accept(waits.clone())).await;
        for (id, status) in [("i1", 202), ("i2", 202), ("i3", 202), ("i4", 429)] {
            let intent = bench.intend(&turn, input(id)).await;
            // Whether the substrate has taken the first one is not known.
            if id != "i1" {
                bench.decide(&intent, status, None).await;
            }
        }
        let id = &turn.execution_id;
        let stops = round % 2 == 1;
        if stops {
            rule.ask("ask_to_stop", || bench.store().ask_to_stop(id.clone())).await;
        }
        bench
            .race(|task, store| {
                let (id, whole) = (id.clone(), whole.clone());
                async move {
                    if stops && task % 2 == 0 {
                        let mut ending = ending("told", "");
                        ending.partial = whole.clone();
                        let by = EndedBy::Log(id.clone());
                        rule.ask("end", || store.end(by.clone(), ending.clone())).await;
                    }
                    rule.ask("save", || store.save(id.clone(), whole.clone())).await;
                }
            })
            .await;
        let open = ("i3".to_owned(), "another message".to_owned(), "agent".to_owned());
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let wanted = if stops {
            (None, named(&["i3", "i1", "i3:i2"]), true)
        } else {
            (Some(open), named(&["i1", "i3:i2"]), false)
        };
        let at = format!("after {TASKS} writes at once that end a turn, stopped: {stops}");
        let look_for = "inputs that are no parts of the answer: they are queued in the transaction that ends the turn";
        rule.same(&at, &standing(&session).await, &wanted, look_for);
        let look_for = "the inputs that are parts of the answer: the log that had them may be gone";
        let had = again(&session, "t0", "message i2").await;
        rule.same("of an input that was had and comes again", &had, &Intended::Had, look_for);
        let is_ended = |came: &Intended| matches!(came, Intended::Ended(_));
        let other = again(&session, "t0", "another message").await;
        rule.holds("of another message by its id", &other, "`Ended`", is_ended, look_for);
        if stops {
            continue;
        }
        let state = bench.state_of(&session, MessagePage::newest(0)).await;
        let Some(next) = state.open else { continue };
        let ask = || bench.stores[1].history(next.turn.clone(), HistoryLimits::default());
        let said = rule.ask("history", ask).await;
        let wanted = [
            (Role::User, "hello"),
            (Role::Assistant, "one"),
            (Role::User, "message i2"),
            (Role::Assistant, "two"),
        ];
        let wanted = wanted.map(|(role, content)| Said { role, content: content.to_owned() });
        let look_for =
            "an input that the agent has had: it is a message between the halves of the answer";
        rule.same_list("of the history", &said.said, &wanted, look_for);
        let next_id = next.turn.execution_id.clone();
        rule.ask("save", || bench.store().save(next_id.clone(), Answer::new("whole"))).await;
        let open = ("i1".to_owned(), "message i1".to_owned(), "agent".to_owned());
        let wanted = (Some(open), named(&["i3:i2"]), false);
        rule.same("of the turn that an input became", &standing(&session).await, &wanted, look_for);
    }
}
