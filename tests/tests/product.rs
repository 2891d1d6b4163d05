//! The contract of whole products: on the example of `turnkit-chat`, and on a product that is made without that crate, which breaks
//! each rule by a mistake of its own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::process::Command;

use turnkit_testkit::product_contract::{Product, User};

mod example {
    use super::*;

    fn shop() -> Product {
        let users = ["Bearer ann", "Bearer bob"].map(|shown| User::new("authorization", shown));
        Product::new(users, |at| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_example-shop"));
            command.arg(at.directory.join("shop.db")).arg(at.substrate_url);
            command.arg(format!("127.0.0.1:{}", at.port));
            command.env("SUBSTRATE_TOKEN", at.substrate_token);
            command
        })
    }

    turnkit_testkit::product_contract!(shop());
}

mod other {
    use super::*;

    turnkit_testkit::product_contract!(other(None), one_process);
}

fn other(mistake: Option<&'static str>) -> Product {
    let users = ["ann", "bob"].map(|user| User::new("x-user", user));
    Product::new(users, move |at| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_other-product"));
        command.arg(at.directory).arg(at.substrate_url).arg(at.port.to_string()).args(mistake);
        command.env("SUBSTRATE_TOKEN", at.substrate_token);
        command
    })
}

/// The contract finds a mistake, by the rule that is named for it.
mod mistakes {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        time::Duration,
    };

    use tokio::runtime::Builder;
    use turnkit_testkit::product_contract;

    use super::*;

    /// The rule fails in its own words, and tells what came.
    fn is_found<F: Future>(
        rule: fn(Product) -> F,
        name: &str,
        mistake: Option<&'static str>,
        came: &str,
    ) {
        let product = other(mistake).patience(Duration::from_secs(20));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let checked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(rule(product))));
        let told = checked.err().expect("the mistake is found").downcast::<String>().unwrap();
        assert!(told.starts_with(&format!("the product breaks `{name}` (PROTOCOL ")), "{told}");
        let line = told.lines().find(|line| line.starts_with("  came: "));
        assert!(line.is_some_and(|line| line.contains(came)), "{told}");
    }

    macro_rules! found {
        ($($test:ident: $mistake:expr => $rule:ident, $came:literal;)+) => {
            $(
                #[test]
                fn $test() {
                    is_found(product_contract::$rule, stringify!($rule), $mistake, $came);
                }
            )+
        };
    }

    found! {
        a_save_after_the_end_is_told: Some("saves-after-it-has-told")
            => a_turn_is_seen_and_saved_whole, "0 answers of the turn contract-0";
        a_turn_of_each_start: Some("makes-a-turn-of-each-start")
            => a_start_that_is_sent_again_is_the_same_turn, "the agent was asked";
        a_turn_that_is_told_by_its_id_only: Some("looks-at-the-id-only")
            => another_message_under_a_turn_id_is_refused, "another message under its turnId is accepted";
        a_look_and_then_an_insert: Some("looks-first-and-inserts-then")
            => of_many_starts_at_once_one_runs, "the agent was asked";
        a_cursor_that_is_forgotten: Some("forgets-the-cursor")
            => a_body_that_is_cut_goes_on_without_gap_or_repeat, "counted from 0, is ";
        a_save_for_each_reader: Some("saves-for-each-reader")
            => a_second_reader_sees_the_same_turn, "answers of the turn contract-1";
        a_cut_that_is_taken_for_the_end: Some("takes-a-cut-for-the-end")
            => a_cut_of_the_substrate_is_no_end, "events of 32";
        a_stop_of_the_reader_only: Some("stops-the-reader-only")
            => a_stop_ends_the_run_and_keeps_what_was_said, "the end of the agent that was stopped";
        a_queue_that_a_process_takes_along: Some("keeps-its-queue-in-memory")
            => what_waits_runs_in_order_each_once, "turn_not_found";
        a_queue_without_an_order: Some("takes-the-newest-that-waits")
            => what_waits_runs_in_order_each_once, "the agent was asked [";
        a_session_that_is_hidden_only: Some("hides-what-it-should-delete")
            => what_is_deleted_is_gone, "is answered of a deleted session";
        a_failure_that_is_taken_for_the_end: Some("takes-a-failure-for-the-end")
            => a_failed_agent_is_told_as_failed, "did not fail with the code contract_failure";
        a_turn_that_ends_with_its_reader: Some("ends-with-its-reader")
            => an_answer_is_saved_although_its_reader_left, "is saved as failed";
        a_route_without_a_user: Some("checks-no-user-where-it-resumes")
            => another_users_session_is_not_there, "GET …/turns/{turnId} is answered to another user";
        a_death_when_it_is_told_to_end: Some("dies-when-told-to-end")
            => a_product_that_is_told_to_end_saves_first, "is saved as failed";
        open_turns_that_are_forgotten: Some("forgets-open-turns")
            => a_killed_product_loses_no_answer, "the end of the session's open turn has not come";
        open_turns_that_run_again: Some("runs-open-turns-again")
            => a_killed_product_loses_no_answer, "the agent was asked 2 times";
        a_dispatch_without_a_log: Some("names-no-log")
            => a_substrate_without_memory_runs_nothing_again, "the agent was asked 2 times";
        turns_that_one_process_knows_only: None => two_processes_run_a_turn_once, "session_not_found";
        turns_that_nobody_else_takes_over: None => another_process_takes_over, "session_not_found";
    }
}
