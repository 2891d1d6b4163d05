//! What every [`ChatStore`] must do, as tests that its author runs (PROTOCOL 4.2).
//!
//! [`chat_store_contract!`](crate::chat_store_contract) makes one test of each rule. What a rule says of many is tried by 16 tasks at
//! once, over two handles on the same data. A rule that is broken panics with what was wanted, what came instead, what to look for, and
//! where the rule is written down:
//!
//! ```text
//! the store breaks `one_of_many_saves_is_the_answer` of 16 saves at once
//!   wanted: one `Saved`, and `AlreadySaved` 15 times
//!   came: 16 times `Saved`
//!   look for: a save that first looks and then writes: the condition belongs into the write itself
//!   see: PROTOCOL 4.2, "Who may write which ending"; `ChatStore::save`
//! ```

mod bench;
mod branches;
mod deletion;
mod endings;
mod feed;
mod interactions;
mod leases;
mod opening;
mod queue;
mod reading;
mod statements;
mod turns;

use std::future::Future;
use std::time::Duration;

use turnkit_chat::{ChatStore, StoreError};
use turnkit_id::ExecutionId;

pub use self::branches::a_branch_has_its_own_pages_and_count;
pub use self::deletion::{a_deleted_name_rests_and_what_is_idle_can_go, what_is_deleted_is_gone};
pub use self::endings::{
    a_save_wins_against_a_concurrent_end, a_stop_is_noted_while_the_turn_is_open,
    a_turn_has_one_ending, a_whole_answer_replaces_a_part_of_it, one_of_many_saves_is_the_answer,
};
pub use self::feed::a_feed_tells_everything_once_and_in_order;
pub use self::interactions::{
    a_question_is_pending_until_it_is_answered, an_input_reaches_an_agent_once,
    what_a_user_wants_is_listed_until_it_is_decided,
};
pub use self::leases::{
    a_fenced_epoch_is_refused_everything_but_saving, a_lease_lasts_by_the_stores_clock,
    a_renewal_keeps_what_it_names, a_seen_epoch_has_one_winner, a_turn_is_run_once_ever,
    a_worker_of_another_log_is_refused, every_free_open_turn_is_listed_once,
};
pub use self::opening::{
    a_closed_handle_holds_nothing_and_does_nothing, a_dropped_future_leaves_all_or_nothing,
    a_newer_schema_is_left_alone, many_open_the_database_at_once,
};
pub use self::queue::{
    a_queued_turn_is_changed_while_it_waits, a_stop_pauses_the_queue,
    the_first_that_waits_is_opened_once,
};
pub use self::reading::{
    a_name_is_one_session_of_its_owner, a_session_is_named_and_archived,
    a_session_is_shown_as_whole_turns, a_sign_in_ends_in_time, an_answer_is_kept_with_its_parts,
    history_keeps_to_its_limits, sessions_are_listed_the_newest_first, siblings_are_branches,
    what_is_anothers_does_not_exist,
};
pub use self::statements::{
    statements_run_once_for_each_execution, what_statements_refuse_leaves_nothing,
};
pub use self::turns::{
    a_turn_is_found_by_each_of_its_names, indexes_have_no_gap_and_no_repeat,
    one_of_many_accepts_is_new,
};

/// How a store under test is started, and what it has. A value of it stands for one database that nobody else uses; the first
/// [`open`](Self::open) finds it empty.
///
/// What some stores cannot have is declared here, in types: [`NoStatements`] and [`NoSchema`].
pub trait StoreFixture: Send + Sync + Sized + 'static {
    /// The store under test.
    type Store: ChatStore;
    /// The product's statements within the store's transactions, planted in each handle; or [`NoStatements`].
    type Statements: Statements<Self>;
    /// The schema of the store's tables; or [`NoSchema`].
    type Schema: Schema<Self>;
    /// Whether [`ChatStore::sign_ins`] gives something.
    const KEEPS_SIGN_INS: bool;

    /// A new handle, a worker of its own, on the data that all handles of this fixture share.
    ///
    /// # Errors
    /// Those of the store. [`Busy`](turnkit_chat::StoreErrorKind::Busy) is asked again.
    fn open(&self) -> impl Future<Output = Result<Self::Store, StoreError>> + Send;

    /// Moves the store's clock on: that of all handles, from now on. Where the clock is not the store's own, as that of a database
    /// server, moving every time that is kept of workers, leases and sign-ins back by as much is the same.
    fn advance(&self, by: Duration) -> impl Future<Output = ()> + Send;
}

/// A message at which the planted statements refuse the turn, after they have written.
pub const REFUSED: &str = "refuse this";

/// A message, an answer's text and a partial text at which the planted statements fail, after they have written.
pub const FAILING: &str = "fail at this";

/// What the product's statements, planted in the handles of a fixture `F`, have written.
///
/// Each of the three, `accepted`, `saved` and `ended`, writes a row that names the execution. `accepted` then refuses the turn whose
/// message is [`REFUSED`], with any [`Veto`](turnkit_chat::store::Veto); each then fails where its message, answer or partial text is
/// [`FAILING`].
pub trait Statements<F> {
    /// Whether the store runs any. Only [`NoStatements`] says no.
    const ARE_RUN: bool = true;

    /// The rows that are there for this execution.
    fn written(fixture: &F, execution_id: &ExecutionId) -> impl Future<Output = Written> + Send;
}

/// Rows that the planted [`Statements`] have written for one execution, and that were committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// By `accepted`.
    pub accepted: u64,
    /// By `saved`.
    pub saved: u64,
    /// By `ended`.
    pub ended: u64,
}

/// Declares that the store runs no statements of the product in its transactions. Rules about them then try only what remains of them.
#[derive(Clone, Copy, Debug)]
pub struct NoStatements;

impl<F: Sync> Statements<F> for NoStatements {
    const ARE_RUN: bool = false;

    async fn written(_: &F, _: &ExecutionId) -> Written {
        Written::default()
    }
}

/// How the schema of the database of a fixture `F` is made to be an older or a newer one. Called before any handle is opened, or
/// when all are closed.
pub trait Schema<F> {
    /// Whether the store's data outlives its handles, and so can be of another version. Only [`NoSchema`] says no.
    const IS_KEPT: bool = true;

    /// Makes the database one of the oldest schema that the store still opens. Where there never was another one, it does nothing.
    fn make_older(fixture: &F) -> impl Future<Output = ()> + Send;

    /// Makes the database one that a newer version of the store has written.
    fn make_newer(fixture: &F) -> impl Future<Output = ()> + Send;

    /// What the database holds, so that a change of anything in it shows: its file's bytes, or a dump of it.
    fn dump(fixture: &F) -> impl Future<Output = Vec<u8>> + Send;
}

/// Declares that the store's data ends with its handles, so that no version ever meets another's.
#[derive(Clone, Copy, Debug)]
pub struct NoSchema;

impl<F: Sync> Schema<F> for NoSchema {
    const IS_KEPT: bool = false;

    async fn make_older(_: &F) {}

    async fn make_newer(_: &F) {}

    async fn dump(_: &F) -> Vec<u8> {
        Vec::new()
    }
}

/// Checks a [`ChatStore`] against its contract (PROTOCOL 4.2): one test a rule, in a module `chat_store_contract`.
///
/// | rule | broken by a store that |
/// |---|---|
/// | [`one_of_many_accepts_is_new`] | looks first and inserts then; keeps a turn twice; forgets whose message it was |
/// | [`indexes_have_no_gap_and_no_repeat`] | takes an index for a turn that it does not accept; counts over all sessions |
/// | [`a_turn_is_found_by_each_of_its_names`] | moves a name from one turn to another, or keeps names without end |
/// | [`a_turn_is_run_once_ever`] | marks a turn as dispatched after the claim, or not; forgets a claim's nonce |
/// | [`a_seen_epoch_has_one_winner`] | grants a claim by any epoch, or that of a held lease |
/// | [`a_fenced_epoch_is_refused_everything_but_saving`] | does not compare an ending's epoch, or refuses a late answer |
/// | [`a_lease_lasts_by_the_stores_clock`] | ends a lease early, late or never |
/// | [`a_renewal_keeps_what_it_names`] | keeps what is not named, or does not tell what is lost |
/// | [`a_worker_of_another_log_is_refused`] | takes any log; moves the log without a condition; claims for a worker that has not joined |
/// | [`every_free_open_turn_is_listed_once`] | lists held or ended turns, or the newest first, or ignores the limit |
/// | [`one_of_many_saves_is_the_answer`] | saves without a condition |
/// | [`a_whole_answer_replaces_a_part_of_it`] | refuses to save what has ended, or keeps both texts |
/// | [`a_save_wins_against_a_concurrent_end`] | lets an ending overwrite an answer |
/// | [`a_turn_has_one_ending`] | ends a turn twice, or mixes two endings |
/// | [`a_stop_is_noted_while_the_turn_is_open`] | loses the note of a stop, or makes one of an ended turn |
/// | [`the_first_that_waits_is_opened_once`] | opens the next turn in a step of its own, out of order, or two |
/// | [`a_stop_pauses_the_queue`] | goes on after a stop, or lets a new turn overtake those that wait |
/// | [`a_queued_turn_is_changed_while_it_waits`] | changes what has begun, or forgets what was removed |
/// | [`a_question_is_pending_until_it_is_answered`] | asks again with each reading, or takes an intent for the answer |
/// | [`what_a_user_wants_is_listed_until_it_is_decided`] | notes a wish twice, or passes on what is decided |
/// | [`an_input_reaches_an_agent_once`] | forgets inputs, or repeats those that the agent has had |
/// | [`statements_run_once_for_each_execution`] | runs the product's statements for what it did not write |
/// | [`what_statements_refuse_leaves_nothing`] | runs them outside of its own transaction |
/// | [`a_dropped_future_leaves_all_or_nothing`] | writes in two steps, or keeps a lock when it is dropped |
/// | [`a_closed_handle_holds_nothing_and_does_nothing`] | leaves leases to run out, or goes on |
/// | [`a_newer_schema_is_left_alone`] | opens what it does not understand |
/// | [`many_open_the_database_at_once`] | migrates twice, or fails where another one migrates |
/// | [`what_is_anothers_does_not_exist`] | forgets the owner in a condition |
/// | [`sessions_are_listed_the_newest_first`] | sorts by a clock, or cuts a page in the wrong place |
/// | [`a_session_is_shown_as_whole_turns`] | tears turns apart, or changes text |
/// | [`a_name_is_one_session_of_its_owner`] | opens a name twice, or another user's |
/// | [`siblings_are_branches`] | takes all turns of a session for one conversation, or an edit that is asked twice for two |
/// | [`a_branch_has_its_own_pages_and_count`] | counts over the session, or keeps a count that a late answer does not change |
/// | [`an_answer_is_kept_with_its_parts`] | keeps the text alone, or parts that it has written anew |
/// | [`history_keeps_to_its_limits`] | sends half a turn, a later one, or too much |
/// | [`what_is_deleted_is_gone`] | brings something back, or forgets what is to be erased |
/// | [`a_deleted_name_rests_and_what_is_idle_can_go`] | frees names at once, or deletes what is in use |
/// | [`a_feed_tells_everything_once_and_in_order`] | takes numbers from a sequence, or tells of what it did not do |
/// | [`a_sign_in_ends_in_time`] | keeps sign-ins for ever |
///
/// [`ChatStore`]: turnkit_chat::ChatStore
/// [`one_of_many_accepts_is_new`]: crate::store_contract::one_of_many_accepts_is_new
/// [`indexes_have_no_gap_and_no_repeat`]: crate::store_contract::indexes_have_no_gap_and_no_repeat
/// [`a_turn_is_found_by_each_of_its_names`]: crate::store_contract::a_turn_is_found_by_each_of_its_names
/// [`a_turn_is_run_once_ever`]: crate::store_contract::a_turn_is_run_once_ever
/// [`a_seen_epoch_has_one_winner`]: crate::store_contract::a_seen_epoch_has_one_winner
/// [`a_fenced_epoch_is_refused_everything_but_saving`]: crate::store_contract::a_fenced_epoch_is_refused_everything_but_saving
/// [`a_lease_lasts_by_the_stores_clock`]: crate::store_contract::a_lease_lasts_by_the_stores_clock
/// [`a_renewal_keeps_what_it_names`]: crate::store_contract::a_renewal_keeps_what_it_names
/// [`a_worker_of_another_log_is_refused`]: crate::store_contract::a_worker_of_another_log_is_refused
/// [`every_free_open_turn_is_listed_once`]: crate::store_contract::every_free_open_turn_is_listed_once
/// [`one_of_many_saves_is_the_answer`]: crate::store_contract::one_of_many_saves_is_the_answer
/// [`a_whole_answer_replaces_a_part_of_it`]: crate::store_contract::a_whole_answer_replaces_a_part_of_it
/// [`a_save_wins_against_a_concurrent_end`]: crate::store_contract::a_save_wins_against_a_concurrent_end
/// [`a_turn_has_one_ending`]: crate::store_contract::a_turn_has_one_ending
/// [`a_stop_is_noted_while_the_turn_is_open`]: crate::store_contract::a_stop_is_noted_while_the_turn_is_open
/// [`the_first_that_waits_is_opened_once`]: crate::store_contract::the_first_that_waits_is_opened_once
/// [`a_stop_pauses_the_queue`]: crate::store_contract::a_stop_pauses_the_queue
/// [`a_queued_turn_is_changed_while_it_waits`]: crate::store_contract::a_queued_turn_is_changed_while_it_waits
/// [`a_question_is_pending_until_it_is_answered`]: crate::store_contract::a_question_is_pending_until_it_is_answered
/// [`what_a_user_wants_is_listed_until_it_is_decided`]: crate::store_contract::what_a_user_wants_is_listed_until_it_is_decided
/// [`an_input_reaches_an_agent_once`]: crate::store_contract::an_input_reaches_an_agent_once
/// [`statements_run_once_for_each_execution`]: crate::store_contract::statements_run_once_for_each_execution
/// [`what_statements_refuse_leaves_nothing`]: crate::store_contract::what_statements_refuse_leaves_nothing
/// [`a_dropped_future_leaves_all_or_nothing`]: crate::store_contract::a_dropped_future_leaves_all_or_nothing
/// [`a_closed_handle_holds_nothing_and_does_nothing`]: crate::store_contract::a_closed_handle_holds_nothing_and_does_nothing
/// [`a_newer_schema_is_left_alone`]: crate::store_contract::a_newer_schema_is_left_alone
/// [`many_open_the_database_at_once`]: crate::store_contract::many_open_the_database_at_once
/// [`what_is_anothers_does_not_exist`]: crate::store_contract::what_is_anothers_does_not_exist
/// [`sessions_are_listed_the_newest_first`]: crate::store_contract::sessions_are_listed_the_newest_first
/// [`a_session_is_shown_as_whole_turns`]: crate::store_contract::a_session_is_shown_as_whole_turns
/// [`a_name_is_one_session_of_its_owner`]: crate::store_contract::a_name_is_one_session_of_its_owner
/// [`siblings_are_branches`]: crate::store_contract::siblings_are_branches
/// [`a_branch_has_its_own_pages_and_count`]: crate::store_contract::a_branch_has_its_own_pages_and_count
/// [`an_answer_is_kept_with_its_parts`]: crate::store_contract::an_answer_is_kept_with_its_parts
/// [`history_keeps_to_its_limits`]: crate::store_contract::history_keeps_to_its_limits
/// [`what_is_deleted_is_gone`]: crate::store_contract::what_is_deleted_is_gone
/// [`a_deleted_name_rests_and_what_is_idle_can_go`]: crate::store_contract::a_deleted_name_rests_and_what_is_idle_can_go
/// [`a_feed_tells_everything_once_and_in_order`]: crate::store_contract::a_feed_tells_everything_once_and_in_order
/// [`a_sign_in_ends_in_time`]: crate::store_contract::a_sign_in_ends_in_time
///
/// Give it an expression that makes a [`StoreFixture`](crate::store_contract::StoreFixture); it may `.await`. The calling crate needs
/// `tokio` with its features `macros` and `rt-multi-thread` among its development dependencies. A call that is not answered within
/// 10 s fails its rule, as [`ChatStore`] says. For a second store call it in a module of its own.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::sync::Arc;
/// use std::time::{Duration, SystemTime};
///
/// use turnkit_chat::{StoreError, store::memory::MemoryStore};
/// use turnkit_testkit::store_contract::{NoSchema, NoStatements, StoreFixture};
///
/// struct InMemory {
///     root: MemoryStore,
///     ahead_ms: Arc<AtomicU64>,
/// }
///
/// impl InMemory {
///     fn new() -> InMemory {
///         let ahead_ms = Arc::new(AtomicU64::new(0));
///         let clock = Arc::clone(&ahead_ms);
///         let now = move || SystemTime::now() + Duration::from_millis(clock.load(Ordering::SeqCst));
///         InMemory { root: MemoryStore::with_clock(now), ahead_ms }
///     }
/// }
///
/// impl StoreFixture for InMemory {
///     type Store = MemoryStore;
///     type Statements = NoStatements;
///     type Schema = NoSchema;
///     const KEEPS_SIGN_INS: bool = true;
///
///     async fn open(&self) -> Result<MemoryStore, StoreError> {
///         Ok(self.root.beside())
///     }
///
///     async fn advance(&self, by: Duration) {
///         self.ahead_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
///     }
/// }
///
/// turnkit_testkit::chat_store_contract!(InMemory::new());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! chat_store_contract {
    ($fixture:expr) => {
        mod chat_store_contract {
            use super::*;

            $crate::chat_store_contract! { @rules $fixture;
                one_of_many_accepts_is_new,
                indexes_have_no_gap_and_no_repeat,
                a_turn_is_found_by_each_of_its_names,
                a_turn_is_run_once_ever,
                a_seen_epoch_has_one_winner,
                a_fenced_epoch_is_refused_everything_but_saving,
                a_lease_lasts_by_the_stores_clock,
                a_renewal_keeps_what_it_names,
                a_worker_of_another_log_is_refused,
                every_free_open_turn_is_listed_once,
                one_of_many_saves_is_the_answer,
                a_whole_answer_replaces_a_part_of_it,
                a_save_wins_against_a_concurrent_end,
                a_turn_has_one_ending,
                a_stop_is_noted_while_the_turn_is_open,
                the_first_that_waits_is_opened_once,
                a_stop_pauses_the_queue,
                a_queued_turn_is_changed_while_it_waits,
                a_question_is_pending_until_it_is_answered,
                what_a_user_wants_is_listed_until_it_is_decided,
                an_input_reaches_an_agent_once,
                statements_run_once_for_each_execution,
                what_statements_refuse_leaves_nothing,
                a_dropped_future_leaves_all_or_nothing,
                a_closed_handle_holds_nothing_and_does_nothing,
                a_newer_schema_is_left_alone,
                many_open_the_database_at_once,
                what_is_anothers_does_not_exist,
                sessions_are_listed_the_newest_first,
                a_session_is_named_and_archived,
                a_name_is_one_session_of_its_owner,
                siblings_are_branches,
                a_branch_has_its_own_pages_and_count,
                an_answer_is_kept_with_its_parts,
                a_session_is_shown_as_whole_turns,
                history_keeps_to_its_limits,
                what_is_deleted_is_gone,
                a_deleted_name_rests_and_what_is_idle_can_go,
                a_feed_tells_everything_once_and_in_order,
                a_sign_in_ends_in_time,
            }
        }
    };
    (@rules $fixture:expr; $($rule:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $rule() {
                $crate::store_contract::$rule($fixture).await;
            }
        )*
    };
}
