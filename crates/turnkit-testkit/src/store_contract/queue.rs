//! The rules about turns that wait.

use turnkit_chat::store::{
    Accepted, EndedBy, Find, Found, MAX_QUEUED, MessagePage, NewRow, Queue, QueueChange,
    QueueChanged,
};
use turnkit_chat::{Answer, ChatStore, QueuedTurn, Role, SessionId, Turn, TurnRef, TurnState};
use turnkit_id::ExecutionId;

use super::bench::{Bench, Rule, TASKS, asked, count, ending, owner};
use super::{FAILING, REFUSED, Statements, StoreFixture, Written};

const PLACE: &str =
    "PROTOCOL 4.2, \"A queue\"; `ChatStore::accept`, `ChatStore::save` and `ChatStore::end`";

fn waits(session: &SessionId, turn_id: &str, message: &str) -> NewRow {
    NewRow { queue: true, ..asked(session, turn_id, message) }
}

impl<F: StoreFixture> Bench<F> {
    /// A turn that is to wait, and has this place then.
    async fn queue(&self, session: &SessionId, turn_id: &str, message: &str, position: u64) {
        let (store, new) = (self.store(), waits(session, turn_id, message));
        let accepted = self.rule.ask("accept", || store.accept(new.clone())).await;
        let is_so = |accepted: &Accepted| {
            matches!(accepted, Accepted::Queued(queued) if queued.turn_id == turn_id
                && queued.message == message && queued.position == position)
        };
        let wanted = format!("`Queued`, at place {position}");
        let look_for = "places are counted from 1, over those that wait in this session";
        self.rule.holds("of a turn that may wait", &accepted, &wanted, is_so, look_for);
    }

    async fn queue_of(&self, session: &SessionId) -> Queue {
        self.state_of(session, MessagePage::newest(0)).await.queue
    }

    /// Wants these to wait, and this one to be open: as it was accepted, and nobody's.
    async fn goes_on(
        &self,
        at: &str,
        session: &SessionId,
        open: Option<(&str, u64)>,
        waiting: &[&str],
    ) {
        let (rule, state) = (self.rule, self.state_of(session, MessagePage::newest(0)).await);
        let names: Vec<&str> = state.queue.turns.iter().map(|turn| &*turn.turn_id).collect();
        let look_for = "the order of the queue: that in which the turns were accepted";
        rule.same(format_args!("in the queue {at}"), &names, &waiting.to_vec(), look_for);
        let places: Vec<u64> = state.queue.turns.iter().map(|turn| turn.position).collect();
        rule.same(at, &places, &(1..=waiting.len() as u64).collect(), "places without a gap");
        let row = state.open.as_ref();
        let came = row.map(|row| (&*row.turn.turn_id, row.turn.index));
        let look_for = "the write that takes a turn out of `open`: it opens the first that waits, and that one alone";
        rule.same(format_args!("of the open turn {at}"), &came, &open, look_for);
        if let Some(row) = row.filter(|row| row.turn.index > 0) {
            let came = (row.epoch, row.dispatched, row.is_held, row.turn.parent);
            let wanted = (0, false, false, row.turn.index.checked_sub(1));
            let look_for =
                "a turn that begins with more than was asked for, or goes on from another one";
            rule.same(format_args!("of the turn that was opened {at}"), &came, &wanted, look_for);
            let listed = self.unattended(self.store(), 1_000).await;
            let is_listed = |listed: &Vec<ExecutionId>| listed.contains(&row.turn.execution_id);
            let look_for = "a turn that was opened: nobody drives it until the sweep finds it";
            rule.holds(at, &listed, "the opened turn among the unattended", is_listed, look_for);
        }
    }

    async fn save_open(&self, session: &SessionId) -> Turn {
        let Some(open) = self.state_of(session, MessagePage::newest(0)).await.open else {
            self.rule.broken("of a session whose queue runs", "an open turn", "none", PLACE)
        };
        let (store, id) = (self.store(), open.turn.execution_id.clone());
        self.rule.ask("save", || store.save(id.clone(), Answer::new("whole"))).await;
        open.turn
    }
}

/// The write that takes a turn out of `open` opens the first one that waits, once, however many writes come at once; turns run in the order
/// in which they were accepted, and as many wait as may.
///
/// Broken by a store that opens the next turn in a step of its own, or whenever an ending comes.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn the_first_that_waits_is_opened_once<F: StoreFixture>(fixture: F) {
    let rule = Rule { name: "the_first_that_waits_is_opened_once", place: PLACE };
    let bench = Bench::new(rule, fixture).await;
    let session = bench.session(0).await;
    let store = bench.store();
    let first = waits(&session, "t0", "hello");
    let accepted = rule.ask("accept", || store.accept(first.clone())).await;
    let look_for = "a turn that waits for nothing";
    let is_new = |accepted: &Accepted| matches!(accepted, Accepted::New(_));
    rule.holds("of a turn that may wait and need not", &accepted, "`New`", is_new, look_for);
    for place in 1..=3 {
        bench.queue(&session, &format!("t{place}"), "hello", place).await;
    }
    bench.goes_on("at first", &session, Some(("t0", 0)), &["t1", "t2", "t3"]).await;
    let running = Accepted::Running { turn_id: "t0".to_owned() };
    let mut beside = asked(&session, "beside", "hello");
    let accepted = rule.ask("accept", || store.accept(beside.clone())).await;
    let look_for = "a turn that may not wait: it is refused while another one is open";
    rule.same("of a turn that may not wait", &accepted, &running, look_for);
    (beside.queue, beside.replaces) = (true, Some("t0".to_owned()));
    let accepted = rule.ask("accept", || store.accept(beside.clone())).await;
    let look_for = "a turn that is to be replaced while it is open";
    rule.same("of one that replaces the open turn", &accepted, &running, look_for);

    for (round, wanted) in [["t2", "t3"].as_slice(), &["t3"], &[]].into_iter().enumerate() {
        let Some(open) = bench.state_of(&session, MessagePage::newest(0)).await.open else {
            rule.broken("of a session whose queue runs", "an open turn", "none", look_for)
        };
        let id = &open.turn.execution_id;
        bench
            .race(|task, store| {
                let id = id.clone();
                async move {
                    // In turn: saves alone, endings alone, both.
                    if round == 0 || (round == 2 && task / 2 % 2 == 0) {
                        let answer = Answer::new("whole");
                        rule.ask("save", || store.save(id.clone(), answer.clone())).await;
                    } else {
                        let by = EndedBy::Log(id);
                        rule.ask("end", || store.end(by.clone(), ending("told", "part"))).await;
                    }
                }
            })
            .await;
        let at = format!("after {TASKS} writes at once that end turn {round}");
        let (turn_id, index) = (format!("t{}", round + 1), round as u64 + 1);
        bench.goes_on(&at, &session, Some((&turn_id, index)), wanted).await;
        let next = execution_id(&session, index);
        bench.wrote(&at, &next, Written { accepted: 1, ..Written::default() }).await;
        // What has ended ends no other turn.
        rule.ask("save", || store.save(id.clone(), Answer::new("late"))).await;
        bench
            .goes_on("after an answer that comes late", &session, Some((&turn_id, index)), wanted)
            .await;
    }
    bench.save_open(&session).await;
    bench.goes_on("after the last one", &session, None, &[]).await;

    let session = bench.session(1).await;
    bench.accept(&session, "t0").await;
    let answers = bench
        .race(|task, store| {
            let new = waits(&session, &format!("w{task}"), "hello");
            async move { rule.ask("accept", || store.accept(new.clone())).await }
        })
        .await;
    let mut places: Vec<u64> = answers
        .iter()
        .filter_map(|answer| match answer {
            Accepted::Queued(queued) => Some(queued.position),
            _ => None,
        })
        .collect();
    places.sort_unstable();
    let at = format!("of {TASKS} turns that are queued at once");
    rule.same(
        &at,
        &places,
        &(1..=TASKS as u64).collect(),
        "a place that is given twice, or to none",
    );
    let new = waits(&session, "one-more", "hello");
    let accepted = rule.ask("accept", || store.accept(new.clone())).await;
    let at = format!("of one more than {MAX_QUEUED} that wait");
    rule.same(at, &accepted, &Accepted::QueueFull, "a queue without a bound");
    let known = waits(&session, "w3", "hello");
    let accepted = rule.ask("accept", || store.accept(known.clone())).await;
    let look_for = "a turn that waits already: it is known, also where the queue is full";
    let is_known = |accepted: &Accepted| matches!(accepted, Accepted::Queued(_));
    rule.holds("of one of them again", &accepted, "`Queued`", is_known, look_for);

    if F::Statements::ARE_RUN {
        let session = bench.session(2).await;
        bench.accept(&session, "t0").await;
        for (place, message) in [(1, REFUSED), (2, FAILING), (3, "hello")] {
            bench.queue(&session, &format!("t{place}"), message, place).await;
        }
        bench.save_open(&session).await;
        bench.goes_on("after two that the product refused", &session, Some(("t3", 3)), &[]).await;
        for index in 1..=2 {
            let id = execution_id(&session, index);
            let row = bench.row(&id).await;
            let came = (row.state, row.failure.is_some());
            let look_for = "a turn that is refused when it is opened: it has failed, and says why";
            rule.same("of a refused turn", &came, &(TurnState::Failed, true), look_for);
            bench.wrote("of a refused turn", &id, Written::default()).await;
        }
    }
}

/// A stop pauses the queue in the same write, also where the turn that it names has ended and none after it has. While the queue is paused
/// nothing is opened; any new turn goes behind what waits, and resumes it.
///
/// Broken by a store that pauses open turns' queues only, or that lets a new turn overtake those that wait.
pub async fn a_stop_pauses_the_queue<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A stop pauses the queue\"; `ChatStore::ask_to_stop`";
    let rule = Rule { name: "a_stop_pauses_the_queue", place };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    let session = bench.session(0).await;
    let t0 = bench.accept(&session, "t0").await;
    bench.queue(&session, "t1", "hello", 1).await;
    bench.queue(&session, "t2", "hello", 2).await;
    let is_paused = async |at: &str, wanted: bool| {
        let came = bench.queue_of(&session).await.is_paused;
        let look_for = "the queue's own mark: a stop makes it, and the next turn that is accepted takes it away";
        rule.same(format_args!("of the queue {at}"), &came, &wanted, look_for);
    };
    is_paused("before a stop", false).await;
    let id = t0.execution_id.clone();
    rule.ask("ask_to_stop", || other.ask_to_stop(id.clone())).await;
    is_paused("after a stop", true).await;
    let by = EndedBy::Log(id.clone());
    rule.ask("end", || store.end(by.clone(), ending("cancelled", "part"))).await;
    bench.goes_on("while it is paused", &session, None, &["t1", "t2"]).await;
    // Without being asked to wait: it must not overtake.
    let new = asked(&session, "t3", "hello");
    let accepted = rule.ask("accept", || store.accept(new.clone())).await;
    let is_behind =
        |accepted: &Accepted| matches!(accepted, Accepted::Queued(queued) if queued.position == 2);
    let look_for = "a paused queue: any new turn goes behind what waits, and resumes it";
    rule.holds("of a turn that resumes it", &accepted, "`Queued`, at place 2", is_behind, look_for);
    is_paused("once it is resumed", false).await;
    bench.goes_on("once it is resumed", &session, Some(("t1", 1)), &["t2", "t3"]).await;

    let t1 = bench.save_open(&session).await;
    rule.ask("ask_to_stop", || store.ask_to_stop(t1.execution_id.clone())).await;
    is_paused("after a stop of the turn that had just ended", true).await;
    bench.save_open(&session).await;
    bench.goes_on("while it is paused again", &session, None, &["t3"]).await;
    let new = waits(&session, "t4", "hello");
    rule.ask("accept", || store.accept(new.clone())).await;
    bench.goes_on("once it is resumed again", &session, Some(("t3", 3)), &["t4"]).await;
    rule.ask("ask_to_stop", || store.ask_to_stop(id.clone())).await;
    is_paused("after a stop of a turn that has ended long ago", false).await;
    rule.ask("ask_to_stop", || store.ask_to_stop(execution_id(&session, 3))).await;
    let at = TurnRef::new(session.clone(), "t4");
    let remove = || store.change_queued(owner(), at.clone(), QueueChange::Remove);
    rule.ask("change_queued", remove).await;
    is_paused("that is empty", false).await;
    bench.save_open(&session).await;
    bench.accept(&session, "t5").await;
}

fn execution_id(session: &SessionId, index: u64) -> ExecutionId {
    ExecutionId::derive("tenant", session.as_str(), index).expect("a valid execution id")
}

/// A turn is edited and removed for as long as it waits, whole or not at all beside a write that opens it; a name that was removed is told
/// as such. What a turn is known by stays what its first request said.
///
/// Broken by a store that changes what has begun, forgets what was removed, or compares a request with what an edit made of its turn.
pub async fn a_queued_turn_is_changed_while_it_waits<F: StoreFixture>(fixture: F) {
    let place =
        "PROTOCOL 4.2, \"A queued turn can be edited and removed\"; `ChatStore::change_queued`";
    let rule = Rule { name: "a_queued_turn_is_changed_while_it_waits", place };
    let bench = Bench::new(rule, fixture).await;
    let store = bench.store();
    let session = bench.session(0).await;
    bench.accept(&session, "t0").await;
    for place in 1..=3 {
        bench.queue(&session, &format!("t{place}"), "first", place).await;
    }
    let change = async |turn_id: &str, change: QueueChange| {
        let at = TurnRef::new(session.clone(), turn_id);
        let ask = || store.change_queued(owner(), at.clone(), change.clone());
        rule.ask("change_queued", ask).await
    };
    let edit = |message: &str| QueueChange::Edit { message: Some(message.to_owned()), agent: None };
    let accept = async |turn_id: &str, message: &str| {
        let new = waits(&session, turn_id, message);
        rule.ask("accept", || store.accept(new.clone())).await
    };
    for message in ["second", "third"] {
        let changed = change("t2", edit(message)).await;
        let is_so = |changed: &QueueChanged| matches!(changed, QueueChanged::Edited(QueuedTurn { position: 2, message: now, .. }) if now == message);
        let look_for = "an edit that keeps the turn's place";
        rule.holds("of an edit", &changed, "`Edited`, at place 2", is_so, look_for);
    }
    let look_for =
        "what a turn is known by: what its first request said, whatever an edit made of it";
    let is_known = |accepted: &Accepted| matches!(accepted, Accepted::Queued(queued) if queued.message == "third");
    let again = accept("t2", "first").await;
    rule.holds("of the first request again", &again, "`Queued`, as it is now", is_known, look_for);
    for message in ["second", "third"] {
        rule.same(
            "of a request with an edit's words",
            &accept("t2", message).await,
            &Accepted::Conflict,
            look_for,
        );
    }
    for _ in 0..2 {
        let came = change("t1", QueueChange::Remove).await;
        rule.same(
            "of a removal",
            &came,
            &QueueChanged::Removed,
            "a removal that may be asked again",
        );
    }
    let look_for = "the name of a turn that was removed: it is remembered";
    rule.same(
        "of a removed turn that is sent again",
        &accept("t1", "first").await,
        &Accepted::Removed,
        look_for,
    );
    rule.same(
        "of an edit of a removed turn",
        &change("t1", edit("x")).await,
        &QueueChanged::Removed,
        look_for,
    );
    let named = Find::Named(owner(), TurnRef::new(session.clone(), "t1"));
    let found = rule.ask("find", || store.find(named.clone())).await;
    rule.same("of a removed turn that is looked for", &found, &Found::Removed, look_for);
    rule.same(
        "of no turn",
        &change("t9", QueueChange::Remove).await,
        &QueueChanged::NoTurn,
        look_for,
    );
    bench.goes_on("after a removal", &session, Some(("t0", 0)), &["t2", "t3"]).await;

    bench.save_open(&session).await;
    bench.goes_on("once the edited turn runs", &session, Some(("t2", 1)), &["t3"]).await;
    for came in [change("t2", edit("late")).await, change("t2", QueueChange::Remove).await] {
        rule.same(
            "of a turn that has begun",
            &came,
            &QueueChanged::Started,
            "a change of what is not queued any more",
        );
    }
    let said = bench.messages(&session).await;
    let said: Vec<&str> = said
        .iter()
        .filter(|message| message.role == Role::User)
        .map(|message| &*message.text)
        .collect();
    let look_for = "the message of a turn that was edited: the last words count";
    rule.same("of what was said", &said, &vec!["hello", "third"], look_for);
    let look_for = "what a turn is known by: what its first request said, also once it runs";
    let again = accept("t2", "first").await;
    let is_known =
        |accepted: &Accepted| matches!(accepted, Accepted::Known(row) if row.turn.index == 1);
    rule.holds("of the first request once it runs", &again, "`Known`", is_known, look_for);
    rule.same(
        "of an edit's words once it runs",
        &accept("t2", "third").await,
        &Accepted::Conflict,
        look_for,
    );

    for round in 1..=8 {
        let session = bench.session(round).await;
        let t0 = bench.accept(&session, "t0").await;
        bench.queue(&session, "t1", "hello", 1).await;
        bench.queue(&session, "t2", "hello", 2).await;
        let answers = bench
            .race(|task, store| {
                let (id, at) = (t0.execution_id.clone(), TurnRef::new(session.clone(), "t1"));
                async move {
                    if task / 2 % 2 == 0 {
                        let answer = Answer::new("whole");
                        rule.ask("save", || store.save(id.clone(), answer.clone())).await;
                        return None;
                    }
                    let remove = || store.change_queued(owner(), at.clone(), QueueChange::Remove);
                    Some(rule.ask("change_queued", remove).await)
                }
            })
            .await;
        let removed = count(&answers, |one| *one == Some(QueueChanged::Removed));
        let started = count(&answers, |one| *one == Some(QueueChanged::Started));
        let at = format!("of {} removals beside as many saves", TASKS / 2);
        let is_one = |(removed, started): &(usize, usize)| {
            (*removed, *started) == (TASKS / 2, 0) || (*removed, *started) == (0, TASKS / 2)
        };
        let look_for =
            "a removal that first looks and then writes: a turn that was removed never runs";
        rule.holds(&at, &(removed, started), "all `Removed` or all `Started`", is_one, look_for);
        let (open, waiting): (_, &[&str]) = if removed > 0 { ("t2", &[]) } else { ("t1", &["t2"]) };
        bench.goes_on(&at, &session, Some((open, 1)), waiting).await;
    }
}
