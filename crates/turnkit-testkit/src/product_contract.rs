//! What every product must do that serves chats by PROTOCOL 4.2, as tests that its author runs against its real processes.
//!
//! [`product_contract!`](crate::product_contract!) makes one test of each rule. A rule starts the product as a child process in a
//! directory of its own, between two proxies that cut connections, and gives it a substrate whose agent counts how often it is
//! asked. It speaks the product's public routes and nothing else. What is broken is told by the promise:
//!
//! ```text
//! the product breaks `an_answer_is_saved_although_its_reader_left` (PROTOCOL 4.2, 4.3)
//!   promised: a turn goes on when its client leaves, and its answer is saved
//!   came: the end of the session's open turn has not come within 120 s
//!   look for: an attempt that is dropped or cancelled with its request
//!   the end of what it has written: …
//! ```
//!
//! # What a product needs for it
//! A command that starts it in a directory, with the URL of a substrate and the token to be shown there, and listens on a port of
//! 127.0.0.1; and two users, who are known by headers. It is built along with the test, so that what is tested is what there is:
//! in the crate that has the binary, `env!("CARGO_BIN_EXE_…")` names it.
//!
//! It has to take the `Host` of the proxy before it, which is another port of 127.0.0.1; to save the text that the agent says as it
//! was said; and to ask its agent for nothing but turns.

mod agent;
mod bench;
mod process;

use std::{collections::BTreeSet, fmt, path::Path, process::Command, sync::Arc, time::Duration};

use futures::future::join_all;
use turnkit::Event;
use turnkit_client::{Client, Error, NewTurn};

use self::{
    agent::{FAILURE, Script},
    bench::{Bench, Reader, Rule},
};
use crate::proxy::{Fault, Point};

/// How a product is started, and who uses it.
///
/// ```
/// use std::process::Command;
/// use turnkit_testkit::product_contract::{Product, User};
///
/// let users = [User::new("authorization", "Bearer ann"), User::new("authorization", "Bearer bob")];
/// let product = Product::new(users, |at| {
///     let mut command = Command::new("target/debug/shop");
///     command.arg(at.directory.join("shop.db")).arg(at.substrate_url).arg(format!("127.0.0.1:{}", at.port));
///     command.env("SUBSTRATE_TOKEN", at.substrate_token);
///     command
/// });
/// # drop(product);
/// ```
#[derive(Clone)]
pub struct Product {
    command: Arc<dyn Fn(&Launch<'_>) -> Command + Send + Sync>,
    users: [User; 2],
    patience: Duration,
}

impl Product {
    /// A product that `command` starts, and two of its users.
    ///
    /// The command runs until it is told to end by SIGTERM, or is killed by SIGKILL, with everything that it starts. Started
    /// again in the same directory, it finds what it had. What it writes to its standard output and error is shown where a rule
    /// is broken.
    pub fn new(
        users: [User; 2],
        command: impl Fn(&Launch<'_>) -> Command + Send + Sync + 'static,
    ) -> Self {
        Self { command: Arc::new(command), users, patience: PATIENCE }
    }

    /// How long a step of a rule may take before the rule counts as broken: 120 s where it is not set. Longer than it takes until
    /// the turns of a dead process are taken up (PROTOCOL 4.2).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Without the users' headers.
impl fmt::Debug for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Product").finish_non_exhaustive()
    }
}

/// What one process of the product is given.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Launch<'a> {
    /// Its data goes here. It is there, and empty before the first start.
    pub directory: &'a Path,
    /// Where its agents are: the base URL of a substrate (PROTOCOL 3.1).
    pub substrate_url: &'a str,
    /// What it shows there, as `Authorization: Bearer`.
    pub substrate_token: &'a str,
    /// It listens on this port of 127.0.0.1.
    pub port: u16,
}

/// A user, by the headers of each request.
#[derive(Clone)]
pub struct User {
    headers: Vec<(String, String)>,
}

impl User {
    /// Who shows this header.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { headers: vec![(name.into(), value.into())] }
    }

    /// And this one.
    #[must_use]
    pub fn and(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Without what they show.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.headers.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// Checks a whole product against what PROTOCOL 4.2 and 4.3 promise its users: one test a rule, in a module `product_contract`.
///
/// | rule | broken by a product that |
/// |---|---|
/// | [`a_turn_is_seen_and_saved_whole`] | tells the end before it has saved, or writes events anew |
/// | [`a_start_that_is_sent_again_is_the_same_turn`] | makes a new turn of each request |
/// | [`another_message_under_a_turn_id_is_refused`] | looks at the id only |
/// | [`of_many_starts_at_once_one_runs`] | looks first and inserts then |
/// | [`a_body_that_is_cut_goes_on_without_gap_or_repeat`] | does not know where its reader was |
/// | [`a_second_reader_sees_the_same_turn`] | runs or saves once for each reader |
/// | [`a_cut_of_the_substrate_is_no_end`] | takes a lost connection for the end of the answer |
/// | [`a_stop_ends_the_run_and_keeps_what_was_said`] | stops the reader only |
/// | [`what_waits_runs_in_order_each_once`] | keeps its queue in memory, or starts what waits without an order |
/// | [`what_is_deleted_is_gone`] | hides what it should delete, or lets the agent go on |
/// | [`a_failed_agent_is_told_as_failed`] | saves what there is as if it were whole |
/// | [`an_answer_is_saved_although_its_reader_left`] | ends the turn with the request |
/// | [`another_users_session_is_not_there`] | checks who asks in some of its routes |
/// | [`a_product_that_is_told_to_end_saves_first`] | dies at SIGTERM |
/// | [`a_killed_product_loses_no_answer`] | looks after no turn that a dead process has left |
/// | [`a_substrate_without_memory_runs_nothing_again`] | sends the run again where it should ask for the log |
/// | [`two_processes_run_a_turn_once`] | keeps its locks in memory |
/// | [`another_process_takes_over`] | waits for the process that has begun a turn |
///
/// [`a_turn_is_seen_and_saved_whole`]: crate::product_contract::a_turn_is_seen_and_saved_whole
/// [`a_start_that_is_sent_again_is_the_same_turn`]: crate::product_contract::a_start_that_is_sent_again_is_the_same_turn
/// [`another_message_under_a_turn_id_is_refused`]: crate::product_contract::another_message_under_a_turn_id_is_refused
/// [`of_many_starts_at_once_one_runs`]: crate::product_contract::of_many_starts_at_once_one_runs
/// [`a_body_that_is_cut_goes_on_without_gap_or_repeat`]: crate::product_contract::a_body_that_is_cut_goes_on_without_gap_or_repeat
/// [`a_second_reader_sees_the_same_turn`]: crate::product_contract::a_second_reader_sees_the_same_turn
/// [`a_cut_of_the_substrate_is_no_end`]: crate::product_contract::a_cut_of_the_substrate_is_no_end
/// [`a_stop_ends_the_run_and_keeps_what_was_said`]: crate::product_contract::a_stop_ends_the_run_and_keeps_what_was_said
/// [`what_waits_runs_in_order_each_once`]: crate::product_contract::what_waits_runs_in_order_each_once
/// [`what_is_deleted_is_gone`]: crate::product_contract::what_is_deleted_is_gone
/// [`a_failed_agent_is_told_as_failed`]: crate::product_contract::a_failed_agent_is_told_as_failed
/// [`an_answer_is_saved_although_its_reader_left`]: crate::product_contract::an_answer_is_saved_although_its_reader_left
/// [`another_users_session_is_not_there`]: crate::product_contract::another_users_session_is_not_there
/// [`a_product_that_is_told_to_end_saves_first`]: crate::product_contract::a_product_that_is_told_to_end_saves_first
/// [`a_killed_product_loses_no_answer`]: crate::product_contract::a_killed_product_loses_no_answer
/// [`a_substrate_without_memory_runs_nothing_again`]: crate::product_contract::a_substrate_without_memory_runs_nothing_again
/// [`two_processes_run_a_turn_once`]: crate::product_contract::two_processes_run_a_turn_once
/// [`another_process_takes_over`]: crate::product_contract::another_process_takes_over
///
/// Give it an expression that makes a [`Product`](crate::product_contract::Product). The calling crate needs `tokio` with its
/// features `macros` and `rt` among its development dependencies. A step that takes longer than
/// [`patience`](crate::product_contract::Product::patience) fails its rule, and a rule ends with its first failure. For a second product call it in a module of its own.
///
/// A product whose data can have one process at a time says `one_process`; the last two rules are left out then:
///
/// ```
/// use std::process::Command;
/// use turnkit_testkit::product_contract::{Product, User};
///
/// fn shop() -> Product {
///     let users = [User::new("cookie", "session=ann"), User::new("cookie", "session=bob")];
///     Product::new(users, |at| {
///         let mut command = Command::new("target/debug/shop"); // or env!("CARGO_BIN_EXE_shop")
///         command.env("DATA", at.directory).env("PORT", at.port.to_string());
///         command.env("AGENTS", at.substrate_url).env("AGENTS_TOKEN", at.substrate_token);
///         command
///     })
/// }
///
/// turnkit_testkit::product_contract!(shop(), one_process);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! product_contract {
    ($product:expr) => {
        mod product_contract {
            use super::*;

            $crate::product_contract! { @one $product }
            $crate::product_contract! { @rules $product;
                two_processes_run_a_turn_once,
                another_process_takes_over,
            }
        }
    };
    ($product:expr, one_process) => {
        mod product_contract {
            use super::*;

            $crate::product_contract! { @one $product }
        }
    };
    (@one $product:expr) => {
        $crate::product_contract! { @rules $product;
            a_turn_is_seen_and_saved_whole,
            a_start_that_is_sent_again_is_the_same_turn,
            another_message_under_a_turn_id_is_refused,
            of_many_starts_at_once_one_runs,
            a_body_that_is_cut_goes_on_without_gap_or_repeat,
            a_second_reader_sees_the_same_turn,
            a_cut_of_the_substrate_is_no_end,
            a_stop_ends_the_run_and_keeps_what_was_said,
            what_waits_runs_in_order_each_once,
            what_is_deleted_is_gone,
            a_failed_agent_is_told_as_failed,
            an_answer_is_saved_although_its_reader_left,
            another_users_session_is_not_there,
            a_product_that_is_told_to_end_saves_first,
            a_killed_product_loses_no_answer,
            a_substrate_without_memory_runs_nothing_again,
        }
    };
    (@rules $product:expr; $($rule:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::product_contract::$rule($product).await;
            }
        )*
    };
}

/// The turns that are in the middle when the product is killed.
const TURNS: usize = 20;

/// The turn and the message that rules with one turn have.
const ID: &str = "contract-1";
const MESSAGE: &str = "What do you count?";

fn new_turn() -> NewTurn {
    NewTurn::new(ID, MESSAGE)
}

/// Who reads a turn has the agent's events, each once, in order and byte for byte; who is told that it completed can rely on its
/// answer: it is saved, once, and the session is free for the next turn.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn a_turn_is_seen_and_saved_whole(product: Product) {
    let rule = Rule {
        name: "a_turn_is_seen_and_saved_whole",
        sections: "1.1, 2.1, 4.2",
        promise: "a client gets the agent's events as they were sent; once it is told `session.run.completed`, the answer is saved",
        look_for: "a save that comes after the last line or beside it; events that are read into a value and written anew",
    };
    let bench = Bench::start(rule, product, Script::PLAIN).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    for turn in 0..2 {
        let (id, message) = (format!("contract-{turn}"), format!("{MESSAGE} {turn}"));
        let mut reader = Reader::send(&ann, &session, &NewTurn::new(&id, &message));
        bench.read_out(&mut reader).await;
        // At once: nothing may be still on its way.
        let state = bench.call("GET /api/sessions/{s}", ann.session(&session, None)).await;
        bench.is_whole(&reader);
        bench.is_saved(&state, &id);
        if !state.turns.is_empty() {
            bench.broken("the session's turn is open, and was told as completed");
        }
        let runs = bench.agent.runs_of(&message);
        if reader.execution_id.as_ref() != runs.first() {
            let named = reader.execution_id;
            bench.broken(&format!("X-Execution-ID names {named:?}, and the agent ran in {runs:?}"));
        }
        bench.ran_once(&message);
    }
}

/// A start that is sent again is the same turn: where its answer was lost, where it arrives twice, while the turn runs, and when
/// it is over.
pub async fn a_start_that_is_sent_again_is_the_same_turn(product: Product) {
    let rule = Rule {
        name: "a_start_that_is_sent_again_is_the_same_turn",
        sections: "4.2, 4.4",
        promise: "`POST …/turns` under a `turnId` that there is takes that turn up from its first event, and asks no agent",
        look_for: "a turn, or an execution id, that is made anew for each request",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    bench.break_front([Fault::Cut(Point::Bytes(0)), Fault::AnswerTwice]);
    let mut first = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut first, 4).await;
    bench.in_the_middle(1).await;
    let mut again = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut again, 4).await;
    bench.ran_once(MESSAGE);
    bench.agent.let_on(1);
    for reader in [&mut first, &mut again] {
        bench.read_out(reader).await;
        bench.is_whole(reader);
    }
    let mut late = Reader::send(&ann, &session, &new_turn());
    bench.read_out(&mut late).await;
    bench.is_replayed(&late);
    bench.ran_once(MESSAGE);
    bench.is_saved(&bench.at_rest(&ann, &session).await, ID);
}

/// A `turnId` belongs to its message, and a session has one open turn.
pub async fn another_message_under_a_turn_id_is_refused(product: Product) {
    let rule = Rule {
        name: "another_message_under_a_turn_id_is_refused",
        sections: "4.2",
        promise: "another message under a `turnId` is 409 `turn_conflict`, another turn beside an open one 409 `turn_running`",
        look_for: "a start that is compared with what there is by its `turnId` only, or not at all",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let (other, beside) = ("another message", "a message of another turn");
    let conflicts = async || {
        let refused = ann.start(&session, &NewTurn::new(ID, other)).await.err();
        is_refused(&bench, "another message under its turnId", refused, 409, "turn_conflict");
    };
    let mut reader = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut reader, 4).await;
    conflicts().await;
    let refused = ann.start(&session, &NewTurn::new("contract-2", beside)).await.err();
    if let Some(Error::Refused(refusal)) = &refused
        && refusal.turn_id().is_some_and(|open| open != ID)
    {
        let named = refusal.turn_id();
        bench.broken(&format!("the open turn is {ID}, and the refusal names {named:?}"));
    }
    is_refused(&bench, "another turn beside an open one", refused, 409, "turn_running");
    bench.agent.let_on(1);
    bench.read_out(&mut reader).await;
    bench.is_whole(&reader);
    conflicts().await;
    bench.ran_once(MESSAGE);
    for message in [other, beside] {
        if !bench.agent.runs_of(message).is_empty() {
            bench.broken("the agent was asked for what was refused");
        }
    }
    let state = bench.at_rest(&ann, &session).await;
    bench.is_saved(&state, ID);
    if state.messages.len() != 2 {
        bench.broken("a message that was refused is in the session");
    }
}

fn is_refused(bench: &Bench, what: &str, error: Option<Error>, status: u16, code: &str) {
    match error {
        Some(Error::Refused(refusal)) if (refusal.status(), refusal.code()) == (status, code) => {}
        Some(error) => bench.broken(&format!("{what} is not {status} {code}: failed to {error}")),
        None => bench.broken(&format!("{what} is accepted")),
    }
}

/// Of any number of starts of one new turn at once, one runs and all see it. Of several new turns of a session at once, one is
/// accepted.
pub async fn of_many_starts_at_once_one_runs(product: Product) {
    let rule = Rule {
        name: "of_many_starts_at_once_one_runs",
        sections: "4.2, 4.3",
        promise: "a turn is one row, inserted with its message in one transaction: of any number of starts at once the agent runs once",
        look_for: "a look whether the turn is there, and an insert after it, which another request can come between",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let mut readers: Vec<_> =
        (0..TURNS).map(|_| Reader::send(&ann, &session, &new_turn())).collect();
    join_all(readers.iter_mut().map(|reader| bench.read_to(reader, 2))).await;
    bench.ran_once(MESSAGE);

    let session = bench.session(&ann).await;
    let message = "one of several";
    let ids: Vec<String> = (0..8).map(|turn| format!("contract-{turn}")).collect();
    let turns: Vec<_> = ids.iter().map(|id| NewTurn::new(id, message)).collect();
    let started = join_all(turns.iter().map(|turn| ann.start(&session, turn))).await;
    let mut accepted = Vec::new();
    for (id, started) in ids.iter().zip(started) {
        match started {
            Ok(_) => accepted.push(id),
            error => is_refused(&bench, "another new turn", error.err(), 409, "turn_running"),
        }
    }
    let [accepted] = accepted[..] else {
        bench.broken(&format!("of 8 new turns of one session {} are accepted", accepted.len()));
    };
    bench.agent.let_on(1);
    join_all(readers.iter_mut().map(|reader| bench.read_out(reader))).await;
    for reader in &readers {
        bench.is_whole(reader);
    }
    bench.ran_once(MESSAGE);
    bench.is_saved(&bench.at_rest(&ann, &session).await, accepted);
    bench.ran_once(message);
}

/// A client whose body is cut anywhere asks for the rest by the number of events that it has, and gets it.
pub async fn a_body_that_is_cut_goes_on_without_gap_or_repeat(product: Product) {
    let rule = Rule {
        name: "a_body_that_is_cut_goes_on_without_gap_or_repeat",
        sections: "1.2, 2.5, 4.2",
        promise: "`GET …?after=N` gives a turn's body after its first N events, and starts nothing",
        look_for: "a cursor that is not counted as the client counts it: `session.run.started` is the first event",
    };
    let script = Script { words: 40, holds: &[41], fails: false };
    let bench = Bench::start(rule, product, script).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let mut first = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut first, 42).await;
    // Through the head, and at places all over a body of some 6 KiB.
    let cuts = (0..72).map(|cut| match cut % 3 {
        0 => Fault::Reset(Point::Bytes(cut * 97)),
        _ => Fault::Cut(Point::Bytes(cut * 97)),
    });
    bench.break_front(cuts.chain([Fault::Split(1), Fault::Split(7)]));
    let mut readers: Vec<_> = (0..12).map(|_| Reader::follow(&ann, &session, ID)).collect();
    join_all(readers.iter_mut().map(|reader| bench.read_to(reader, 42))).await;
    bench.agent.let_on(1);
    for reader in readers.iter_mut().chain([&mut first]) {
        bench.read_out(reader).await;
        bench.is_whole(reader);
    }
    bench.ran_once(MESSAGE);
    bench.is_saved(&bench.at_rest(&ann, &session).await, ID);
}

/// Whoever comes in the middle sees the turn from its first event, or from where the other one is; the answer is saved once.
pub async fn a_second_reader_sees_the_same_turn(product: Product) {
    let rule = Rule {
        name: "a_second_reader_sees_the_same_turn",
        sections: "4.2, 4.3",
        promise: "any number of clients read one turn, from any event on; it runs once and is saved once",
        look_for: "a save without a key, or work that is done for each reader",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let mut first = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut first, 5).await;
    let open = bench.call("GET …/turns?state=open", ann.open_turns(&session)).await;
    if !open.iter().any(|open| open.turn_id == ID) {
        bench.broken("a second client is not told that the turn is open");
    }
    let mut second = Reader::follow(&ann, &session, ID);
    bench.read_to(&mut second, 5).await;
    let mut later = bench.call("GET …?after=3", ann.resume(&session, ID, 3)).await;
    let next = bench.call("the event after the third", later.next()).await;
    if next.as_ref().map(Event::as_json) != first.lines.get(3).map(Event::as_json) {
        bench.broken(&format!("the event after the third is {next:?} to a reader who has three"));
    }
    bench.agent.let_on(1);
    for reader in [&mut first, &mut second] {
        bench.read_out(reader).await;
        bench.is_whole(reader);
    }
    bench.ran_once(MESSAGE);
    bench.is_saved(&bench.at_rest(&ann, &session).await, ID);
}

/// A connection to the substrate that breaks, anywhere, is taken up again: nothing is missing, nothing is there twice, and half an
/// answer is not taken for a whole one.
pub async fn a_cut_of_the_substrate_is_no_end(product: Product) {
    let rule = Rule {
        name: "a_cut_of_the_substrate_is_no_end",
        sections: "2.3, 4.1",
        promise: "only a terminal event ends an execution: a connection that ends without one is taken up by its cursor",
        look_for: "an end of the stream that is taken for the end of the answer; a run that is sent again after its stream began",
    };
    let bench = Bench::start(rule, product, Script { words: 30, ..Script::PLAIN }).await;
    let ann = bench.ann();
    let sessions = bench.sessions(&ann, 6).await;
    // Before the head of an answer, in it, and all over a stream of some 5 KiB.
    let places = [0, 60, 400, 700, 1_100, 1_600, 2_200, 2_900, 3_700, 4_600];
    bench.break_way(places.map(Point::Bytes).map(Fault::Cut));
    let messages: Vec<_> = (0..sessions.len()).map(|at| format!("message {at}.")).collect();
    let turns = sessions.iter().zip(&messages);
    let turns = turns
        .map(|(session, message)| Reader::send(&ann, session, &NewTurn::new(ID, message.as_str())));
    let mut readers: Vec<_> = turns.collect();
    join_all(readers.iter_mut().map(|reader| bench.read_out(reader))).await;
    for (reader, (session, message)) in readers.iter().zip(sessions.iter().zip(&messages)) {
        bench.is_whole(reader);
        bench.is_saved(&bench.at_rest(&ann, session).await, ID);
        bench.ran_once(message);
    }
}

/// A user who stops a turn stops the agent; what was said by then is kept, and the session is free.
pub async fn a_stop_ends_the_run_and_keeps_what_was_said(product: Product) {
    let rule = Rule {
        name: "a_stop_ends_the_run_and_keeps_what_was_said",
        sections: "4.2",
        promise: "a cancel stops the execution; the turn ends as `cancelled` and is kept as `stopped`, with its partial text",
        look_for: "a stop that ends the reader only, or one that throws away what was said",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let mut reader = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut reader, 5).await;
    let stopped = bench.call("POST …/cancel", reader.turn.cancel()).await;
    bench.within("the end of the agent that was stopped", bench.agent.over(1)).await;
    bench.read_out(&mut reader).await;
    bench.has_failed(&reader, "cancelled");
    let state = bench.at_rest(&ann, &session).await;
    // The first line is the engine's, the second the agent's event without text.
    bench.is_kept(&state, ID, "stopped", 3);
    let again = bench.call("POST …/cancel again", ann.cancel(&session, ID)).await;
    if (&again.turn_id, &again.execution_id) != (&stopped.turn_id, &stopped.execution_id) {
        bench.broken("a second cancel is answered for another turn");
    }
    bench.ran_once(MESSAGE);
    bench.agent.let_on(1);
    let mut next = Reader::send(&ann, &session, &NewTurn::new("contract-2", "and then?"));
    bench.read_out(&mut next).await;
    bench.is_whole(&next);
}

/// Messages that are sent while a turn runs wait, and run one after the other in the order in which they came, each once: also where a start is sent
/// again, no client is left, and the product is killed meanwhile.
pub async fn what_waits_runs_in_order_each_once(product: Product) {
    let rule = Rule {
        name: "what_waits_runs_in_order_each_once",
        sections: "4.2",
        promise: "a turn that is sent with `\"queue\":true` beside an open one waits as a row; the transaction that ends a turn opens the first that waits",
        look_for: "a queue in a process's memory, or one that is gone through by a task which ends with its process",
    };
    let mut bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let mut reader = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut reader, 4).await;
    bench.in_the_middle(1).await;
    let waiting = ["and then?", "then again?", "at last?"];
    let turn = |at: usize| NewTurn::new(format!("waits-{at}"), waiting[at]).queued();
    for (at, place) in [(0, 1), (1, 2), (0, 1), (2, 3)] {
        bench.queue(&ann, &session, &turn(at), place).await;
    }
    drop(reader);
    bench.kill_product();
    bench.agent.let_on(1);
    bench.start_product().await;
    let mut last = Reader::follow(&ann, &session, "waits-2");
    bench.read_out(&mut last).await;
    bench.is_whole(&last);
    let state = bench.at_rest(&ann, &session).await;
    let asked = bench.agent.asked();
    if asked.iter().map(String::as_str).ne([MESSAGE].into_iter().chain(waiting)) {
        bench.broken(&format!("the agent was asked {asked:?}"));
    }
    let mut before = 0;
    for id in [ID, "waits-0", "waits-1", "waits-2"] {
        bench.is_saved(&state, id);
        let index = bench.answer(&state, id).turn_index;
        if id != ID && index != before + 1 {
            bench.broken(&format!("the turn {id} has the index {index}, behind {before}"));
        }
        before = index;
    }
}

/// A session that is deleted is gone, whatever happens in it: its turn ends for who reads it, its agent is stopped, and nothing of it is told or
/// run again, by this process or the next. Other sessions stay.
pub async fn what_is_deleted_is_gone(product: Product) {
    let rule = Rule {
        name: "what_is_deleted_is_gone",
        sections: "4.2",
        promise: "from the deletion on a session is 404; every attempt of it ends with `session_deleted`, and its turns never run again",
        look_for: "a session that is hidden and not deleted; a turn that runs on, or begins again when its start is sent again",
    };
    let mut bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let [deleted, other] = [bench.session(&ann).await, bench.session(&ann).await];
    let beside = "what stays";
    let mut stays = Reader::send(&ann, &other, &NewTurn::new(ID, beside));
    let mut reader = Reader::send(&ann, &deleted, &new_turn());
    for reader in [&mut reader, &mut stays] {
        bench.read_to(reader, 5).await;
    }
    bench.in_the_middle(2).await;
    bench.queue(&ann, &deleted, &NewTurn::new("waits", "and then?").queued(), 1).await;
    for _ in 0..2 {
        bench.call("DELETE /api/sessions/{s}", ann.delete_session(&deleted)).await;
    }
    bench.is_gone(&ann, &deleted, &new_turn()).await;
    bench.within("the end of the agent whose session is deleted", bench.agent.over(1)).await;
    bench.read_out(&mut reader).await;
    bench.has_failed(&reader, "session_deleted");
    bench.agent.let_on(1);
    bench.read_out(&mut stays).await;
    bench.is_whole(&stays);
    bench.kill_product();
    bench.start_product().await;
    bench.is_gone(&ann, &deleted, &new_turn()).await;
    bench.is_saved(&bench.at_rest(&ann, &other).await, ID);
    bench.ran_once(MESSAGE);
    bench.ran_once(beside);
    if bench.agent.asked().len() != 2 {
        bench.broken("the agent was asked what waited in the deleted session");
    }
}

/// An agent that fails is told as failed and kept as failed, with its code and what it had said. It is not asked again.
pub async fn a_failed_agent_is_told_as_failed(product: Product) {
    let rule = Rule {
        name: "a_failed_agent_is_told_as_failed",
        sections: "2.1, 4.2",
        promise: "a turn whose run failed ends with `session.run.failed` and is kept as `failed`, with its code and its partial text",
        look_for: "a failure that is taken for an end, or for a reason to ask the agent again",
    };
    let script = Script { words: 4, holds: &[], fails: true };
    let bench = Bench::start(rule, product, script).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let mut reader = Reader::send(&ann, &session, &new_turn());
    bench.read_out(&mut reader).await;
    bench.has_failed(&reader, FAILURE);
    let state = bench.at_rest(&ann, &session).await;
    bench.is_kept(&state, ID, "failed", 4);
    let error = bench.answer(&state, ID).error.as_ref();
    let code = error.and_then(|error| error.code.as_deref());
    if code != Some(FAILURE) {
        bench.broken(&format!("the answer is kept with the code {code:?}, and not {FAILURE}"));
    }
    let mut again = Reader::send(&ann, &session, &new_turn());
    bench.read_out(&mut again).await;
    if again.has_completed() {
        bench.broken("the turn that failed completes when its start is sent again");
    }
    bench.ran_once(MESSAGE);
}

/// A client that leaves in the middle changes nothing: the turn goes on without it.
pub async fn an_answer_is_saved_although_its_reader_left(product: Product) {
    let rule = Rule {
        name: "an_answer_is_saved_although_its_reader_left",
        sections: "2.4, 4.2, 4.3",
        promise: "a turn goes on when its client leaves, and its answer is saved",
        look_for: "an attempt that is dropped or cancelled with its request",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let session = bench.session(&ann).await;
    let mut reader = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut reader, 4).await;
    drop(reader);
    // Before its first event, too.
    let unread = bench.session(&ann).await;
    drop(bench.call("POST …/turns", ann.start(&unread, &NewTurn::new(ID, "unread"))).await);
    tokio::select! {
        () = bench.in_the_middle(2) => {}
        // Where it should not be yet.
        _ = bench.at_rest(&ann, &unread) => {}
    }
    bench.agent.let_on(1);
    for session in [&session, &unread] {
        bench.is_saved(&bench.at_rest(&ann, session).await, ID);
    }
    bench.ran_once(MESSAGE);
    bench.ran_once("unread");
}

/// A session is its user's: to others, and to who is nobody, it is not there.
pub async fn another_users_session_is_not_there(product: Product) {
    let rule = Rule {
        name: "another_users_session_is_not_there",
        sections: "4.2",
        promise: "another user's session is a 404 in every route, and without a user nothing is answered",
        look_for: "a route that takes the session's id for a permission",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let (ann, bob, nobody) = (bench.ann(), bench.bob(), bench.nobody());
    let session = bench.session(&ann).await;
    let mut reader = Reader::send(&ann, &session, &new_turn());
    bench.read_to(&mut reader, 4).await;
    let theirs = "a message of somebody else";
    let attempts = async |client: &Client| {
        let s = session.as_str();
        [
            ("GET /api/sessions/{s}", client.session(s, None).await.err()),
            ("GET …/messages", client.messages(s, None).await.err()),
            ("GET …/turns?state=open", client.open_turns(s).await.err()),
            ("GET …/turns/{turnId}", client.resume(s, ID, 0).await.err()),
            ("POST …/turns of the same turn", client.start(s, &new_turn()).await.err()),
            ("POST …/turns", client.start(s, &NewTurn::new("theirs", theirs)).await.err()),
            ("POST …/cancel", client.cancel(s, ID).await.err()),
        ]
    };
    for (route, error) in attempts(&bob).await {
        match error {
            Some(Error::Refused(refusal)) if matches!(refusal.status(), 403 | 404) => {}
            Some(error) => bench.broken(&format!("{route} of another user: failed to {error}")),
            None => bench.broken(&format!("{route} is answered to another user")),
        }
    }
    let mut unknown = Vec::from(attempts(&nobody).await);
    unknown.push(("GET /api/sessions", nobody.sessions(None).await.err()));
    unknown.push(("POST /api/sessions", nobody.create_session().await.err()));
    for (route, error) in unknown {
        if error.is_none() {
            bench.broken(&format!("{route} is answered to who shows nothing"));
        }
    }
    let listed = bench.call("GET /api/sessions", bob.sessions(None)).await;
    if listed.iter().any(|listed| listed.session_id == session) {
        bench.broken("the session is in another user's list");
    }
    bench.agent.let_on(1);
    bench.read_out(&mut reader).await;
    bench.is_whole(&reader);
    let state = bench.at_rest(&ann, &session).await;
    bench.is_saved(&state, ID);
    if state.messages.len() != 2 || !bench.agent.runs_of(theirs).is_empty() {
        bench.broken("another user's message is in the session");
    }
    bench.ran_once(MESSAGE);
}

/// At SIGTERM a product takes nothing new, and what runs may finish: it is saved before the process ends.
pub async fn a_product_that_is_told_to_end_saves_first(product: Product) {
    let rule = Rule {
        name: "a_product_that_is_told_to_end_saves_first",
        sections: "4.2",
        promise: "a product that is told to end starts nothing more, and lets its running turns be saved",
        look_for: "a process that ends at SIGTERM, or with its last connection, and not with its last turn; one that still starts turns after SIGTERM",
    };
    let mut bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let sessions = bench.sessions(&ann, 2).await;
    let mut reader = Reader::send(&ann, &sessions[0], &new_turn());
    bench.read_to(&mut reader, 4).await;
    drop(bench.call("POST …/turns", ann.start(&sessions[1], &NewTurn::new(ID, "unread"))).await);
    bench.in_the_middle(2).await;
    bench.terminate_product();
    // Each in a session of its own, for beside an open turn it would be refused in any case.
    let refuses = async {
        while let Ok(session) = ann.create_session().await
            && let Ok(body) = ann.start(&session, &NewTurn::new(ID, "late")).await
        {
            drop(body);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    bench.within("a refusal of a new turn after SIGTERM", refuses).await;
    bench.agent.let_on(1);
    bench.product_ended().await;
    // What was not saved by then can be read nowhere any more.
    bench.lose_memory();
    bench.start_product().await;
    for session in &sessions {
        bench.is_saved(&bench.at_rest(&ann, session).await, ID);
    }
    bench.ran_once(MESSAGE);
    bench.ran_once("unread");
}

/// A product that is killed in the middle of 20 turns and started again saves each answer, whoever reads; who still follows a turn
/// sees the rest of it; and no agent is asked twice.
pub async fn a_killed_product_loses_no_answer(product: Product) {
    let rule = Rule {
        name: "a_killed_product_loses_no_answer",
        sections: "4.2, 4.3",
        promise: "a turn whose process was killed is taken up by the next one: its answer is saved, and its agent not asked again",
        look_for: "open turns that nobody looks for at the start; a run that is sent again where the execution should be attached to",
    };
    let script = Script { words: 12, holds: &[4, 8], fails: false };
    let mut bench = Bench::start(rule, product, script).await;
    let ann = bench.ann();
    let sessions = bench.sessions(&ann, TURNS).await;
    let messages: Vec<_> = (0..TURNS).map(|at| format!("message {at}.")).collect();
    let turns = sessions.iter().zip(&messages);
    let turns =
        turns.map(|(session, message)| Reader::send(&ann, session, &NewTurn::new(ID, message)));
    let mut readers: Vec<_> = turns.collect();
    join_all(readers.iter_mut().map(|reader| bench.read_to(reader, 4))).await;
    readers.truncate(TURNS / 2);
    bench.in_the_middle(TURNS).await;
    bench.kill_product();
    // The agents go on while there is no product.
    bench.agent.let_on(1);
    bench.start_product().await;
    bench.agent.let_on(2);
    join_all(readers.iter_mut().map(|reader| bench.read_out(reader))).await;
    for reader in &readers {
        bench.is_whole(reader);
    }
    let mut executions = BTreeSet::new();
    for (session, message) in sessions.iter().zip(&messages) {
        let state = bench.at_rest(&ann, session).await;
        bench.is_saved(&state, ID);
        executions.insert(bench.answer(&state, ID).execution_id.clone());
        bench.ran_once(message);
    }
    if executions.len() != TURNS {
        bench.broken(&format!("{TURNS} turns have {} executions", executions.len()));
    }
}

/// A substrate that has lost its memory is asked for nothing a second time: a turn that ran there is told as lost, one whose
/// start was not answered too. The next turn runs.
pub async fn a_substrate_without_memory_runs_nothing_again(product: Product) {
    const LATE: Duration = Duration::from_secs(3);
    let rule = Rule {
        name: "a_substrate_without_memory_runs_nothing_again",
        sections: "3.5, 4.1, 4.2",
        promise: "a dispatch names the log of its first request: where the log is another one, the turn is `execution_lost`, and no agent runs again",
        look_for: "a run that is sent without `X-Log-Id`, or anew where the execution is not found",
    };
    let mut bench = Bench::start(rule, product, Script::HELD).await;
    let ann = bench.ann();
    let sessions = bench.sessions(&ann, 2).await;
    let mut read = Reader::send(&ann, &sessions[0], &new_turn());
    bench.read_to(&mut read, 5).await;
    // So the run of the second turn begins, and its answer is still on its way when the substrate dies.
    bench.break_way([Fault::Delay(LATE); 64]);
    let mut unanswered = Reader::send(&ann, &sessions[1], &NewTurn::new(ID, "unanswered"));
    let started = async {
        tokio::select! {
            () = bench.in_the_middle(2) => {}
            () = bench.read_out(&mut unanswered) => bench.broken("the second turn ends by itself"),
        }
    };
    started.await;
    bench.mend_way();
    bench.lose_memory();
    // Both runs are gone: whatever comes to an end now is another one.
    bench.agent.let_on(1);
    for (reader, session, message, kept) in
        [(&mut read, &sessions[0], MESSAGE, 3), (&mut unanswered, &sessions[1], "unanswered", 0)]
    {
        bench.read_out(reader).await;
        bench.ran_once(message);
        bench.has_failed(reader, "execution_lost");
        let state = bench.at_rest(&ann, session).await;
        bench.is_kept(&state, ID, "failed", kept);
    }
    let mut next = Reader::send(&ann, &sessions[0], &NewTurn::new("contract-2", "and then?"));
    bench.read_out(&mut next).await;
    bench.is_whole(&next);
    bench.ran_once("and then?");
}

/// Two processes over one directory are one product: of starts of one turn at both of them at once, one runs, and both tell it.
pub async fn two_processes_run_a_turn_once(product: Product) {
    let rule = Rule {
        name: "two_processes_run_a_turn_once",
        sections: "4.2",
        promise: "what keeps a turn from running twice is in the store, where every process of the product sees it",
        look_for: "a lock, or a list of what runs, in one process's memory",
    };
    let bench = Bench::start(rule, product, Script::HELD).await;
    let other = bench.another_process().await;
    let processes = [bench.ann(), bench.client_of(other.address)];
    let session = bench.session(&processes[0]).await;
    let starts = (0..TURNS).map(|at| Reader::send(&processes[at % 2], &session, &new_turn()));
    let mut readers: Vec<_> = starts.collect();
    join_all(readers.iter_mut().map(|reader| bench.read_to(reader, 4))).await;
    bench.agent.let_on(1);
    join_all(readers.iter_mut().map(|reader| bench.read_out(reader))).await;
    for reader in &readers {
        bench.is_whole(reader);
    }
    bench.ran_once(MESSAGE);
    for client in &processes {
        bench.is_saved(&bench.at_rest(client, &session).await, ID);
    }
}

/// A turn whose process is killed is taken up by another one that lives, while clients read on there.
pub async fn another_process_takes_over(product: Product) {
    let rule = Rule {
        name: "another_process_takes_over",
        sections: "4.2",
        promise: "a lease is free once its holder is dead: another process of the product drives the turn to its end",
        look_for: "a turn that only the process which has accepted it can end",
    };
    let mut bench = Bench::start(rule, product, Script::HELD).await;
    let other = bench.another_process().await;
    let (ann, there) = (bench.ann(), bench.client_of(other.address));
    let sessions = bench.sessions(&ann, 2).await;
    let mut first = Reader::send(&ann, &sessions[0], &new_turn());
    bench.read_to(&mut first, 4).await;
    drop(bench.call("POST …/turns", ann.start(&sessions[1], &NewTurn::new(ID, "unread"))).await);
    let mut second = Reader::follow(&there, &sessions[0], ID);
    bench.read_to(&mut second, 4).await;
    bench.in_the_middle(2).await;
    bench.kill_product();
    bench.agent.let_on(1);
    bench.read_out(&mut second).await;
    bench.is_whole(&second);
    for session in &sessions {
        bench.is_saved(&bench.at_rest(&there, session).await, ID);
    }
    let mut late = Reader::send(&there, &sessions[0], &new_turn());
    bench.read_out(&mut late).await;
    bench.is_replayed(&late);
    bench.ran_once(MESSAGE);
    bench.ran_once("unread");
}
