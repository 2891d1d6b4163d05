//! A thousand worlds keep every promise; each planted bug is found within a thousand.

use std::time::Duration;

use turnkit_sim::{Bug, Fact, HostFault, Plan, Scheduled, run, runner, simulate};

/// As many as each commit can afford; long runs go by `cargo xtask sim`.
const SEEDS: u64 = 1_000;

#[test]
fn a_thousand_worlds_keep_every_promise() {
    let mut broken = Vec::new();
    runner::all(0..SEEDS, 2, None, |seed, outcome| {
        match outcome {
            Ok(report) => broken
                .extend(report.violations.iter().map(|broken| format!("seed {seed}: {broken}"))),
            Err(error) => broken.push(format!("seed {seed}: {error}")),
        }
        true
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Worlds of a long run that once broke a promise, or seemed to: an input that an agent had had came again from another tab when the log
/// was lost, was refused as too late, and was sent as a turn (2831, 4305); a turn was stopped before it was dispatched, and its session deleted
/// (14632), or deleted and erased, and then bound anew by who drove it on at a substrate that had lost its log (30070); an input came before the run had begun and was refused, so that one tab
/// sent it as a turn and another one put it into the run (286, 605, 632, 845); nobody had waited for a run whose turn was over (63131,
/// 97415), the simulation buried a writer that a cancel had fenced off (92165), a node died behind its agent's `result`, where
/// a stream's end is an end (48149, 97677); a turn was claimed to be run, and then lost because the database was busy for one look
/// whether it had an answer already (10, 353), or for the question what had become of the claim (62).
#[test]
fn worlds_that_once_broke_a_promise_keep_them_all() {
    for seed in [
        10, 62, 286, 353, 605, 632, 845, 2_831, 4_305, 14_632, 30_070, 48_149, 63_131, 92_165,
        97_415, 97_677,
    ] {
        assert_eq!(simulate(seed, None).unwrap().violations, [], "seed {seed}");
    }
}

/// A reader had drawn the whole answer when the log was lost; the attempt that still waited for its run's answer used to send the
/// run again, and the agent ran twice for a turn that was complete.
#[test]
fn a_run_that_a_reader_has_drawn_is_not_sent_to_a_substrate_that_forgot_it() {
    let records = simulate(63_131, None).unwrap().records;
    let mut asked = Vec::new();
    for record in records {
        if let Fact::AgentAsked { execution } = record.fact {
            assert!(!asked.contains(&execution), "{execution} ran again at {:?}", record.at);
            asked.push(execution);
        }
    }
    assert_eq!(asked.len(), 2);
}

#[test]
fn a_replay_that_includes_its_cursor_is_found() {
    assert_found(Bug::InclusiveReplay, "replayed strictly after the cursor");
}

#[test]
fn a_delivery_before_the_append_is_found() {
    assert_found(Bug::DeliverBeforeAppend, "append, then deliver");
}

#[test]
fn a_cursor_that_skips_filtered_frames_is_found() {
    assert_found(Bug::CursorSkipsFiltered, "a completed execution ends up saved");
}

#[test]
fn an_end_without_a_terminal_that_counts_as_the_end_is_found() {
    assert_found(Bug::EndWithoutTerminal, "what is saved is the answer of one execution");
}

#[test]
fn a_resume_that_starts_is_found() {
    assert_found(Bug::ResumeStarts, "the agent ran at most once");
}

#[test]
fn an_id_that_is_used_again_after_a_restart_is_found() {
    assert_found(Bug::IdReused, "no id for two events");
}

#[test]
fn a_dispatch_on_retry_is_found() {
    assert_found(Bug::DispatchOnRetry, "the agent ran at most once");
}

#[test]
fn a_claim_that_two_get_is_found() {
    assert_found(Bug::ClaimedTwice, "an epoch that was seen has one winner");
}

#[test]
fn a_save_without_its_condition_is_found() {
    assert_found(Bug::SavedTwice, "hooks run once, in their order");
}

#[test]
fn a_lost_commit_that_is_taken_for_none_is_found() {
    assert_found(Bug::CommitForgotten, "an error is honest");
}

/// Worlds in which two workers take a turn from each other for as long as the database is in trouble: only there does a worker that lives
/// renew too late, and what it had begun to give up is given up when another one holds it.
fn troubled(seed: u64) -> Plan {
    let calm_at = Duration::from_secs(40);
    let (late_writes, busy_reads, busy_writes) = (500, 200, 600);
    let plan = Plan { workers: 2, faults: Vec::new(), calm_at, ..Plan::draw(seed) };
    Plan { late_writes, busy_reads, busy_writes, ..plan }
}

#[test]
fn an_epoch_that_is_not_checked_is_found() {
    assert_found_in(troubled, Bug::EpochUnchecked, "an epoch that is over ends and frees nothing");
}

#[test]
fn a_database_in_trouble_breaks_no_promise() {
    for seed in 0..30 {
        assert_eq!(run(troubled(seed), None).unwrap().violations, [], "seed {seed}");
    }
}

#[test]
fn an_answer_that_the_agent_hears_before_it_is_stored_is_found() {
    assert_found(Bug::AnswerBeforeAppend, "what an agent hears is in the log before");
}

#[test]
fn a_later_answer_that_is_taken_as_well_is_found() {
    assert_found(Bug::LastAnswerWins, "a question is answered once");
}

#[test]
fn an_intent_that_is_taken_for_the_answer_is_found() {
    assert_found(Bug::IntentIsTheAnswer, "a question is pending until the log says otherwise");
}

/// Worlds in which the runs of a node that lives are taken from it again and again, so that people answer while nobody has told it so.
fn fenced(seed: u64) -> Plan {
    let fault = HostFault::Fence { unnoticed: Duration::from_secs(8) };
    let faults = (1..12).map(|at| Scheduled { at: Duration::from_secs(at * 3), fault }).collect();
    Plan { faults, calm_at: Duration::from_secs(40), ..Plan::draw(seed) }
}

#[test]
fn an_answer_of_a_runner_that_was_fenced_off_is_found() {
    assert_found_in(fenced, Bug::AnswerAfterFence, "what an agent hears is in the log before");
}

#[test]
fn runs_that_are_taken_from_a_node_that_lives_break_no_promise() {
    for seed in 0..20 {
        assert_eq!(run(fenced(seed), None).unwrap().violations, [], "seed {seed}");
    }
}

#[test]
fn a_clock_that_runs_on_while_a_run_waits_is_found() {
    assert_found(Bug::ClockRunsOn, "a run's time stands still while it waits for an answer");
}

#[test]
fn an_input_that_is_told_twice_is_found() {
    assert_found(Bug::InputTwice, "an input reaches an agent once, and from the log");
}

#[test]
fn a_turn_that_is_opened_beside_another_is_found() {
    assert_found(Bug::OpenedBesideAnother, "a session runs one turn at a time");
}

#[test]
fn an_answer_that_is_saved_into_a_deleted_session_is_found() {
    assert_found(Bug::SavedIntoDeleted, "nothing of a deleted session comes back");
}

/// By the promise that it breaks, not by any.
/// As [`assert_found`], in worlds of one kind.
fn assert_found_in(worlds: fn(u64) -> Plan, bug: Bug, promise: &str) {
    let found = (0..SEEDS).find(|seed| {
        let outcome = run(worlds(*seed), Some(bug));
        outcome.is_ok_and(|report| report.violations.iter().any(|broken| broken.promise == promise))
    });
    assert!(found.is_some(), "{bug} was not found in {SEEDS} worlds");
}

fn assert_found(bug: Bug, promise: &str) {
    let found = runner::find(bug, promise, 0..SEEDS);
    assert!(found.is_some(), "{bug} was not found in {SEEDS} worlds");
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    for seed in 0..30 {
        let world = || simulate(seed, None).unwrap().records;
        let (one, other) = (world(), world());
        let differs = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
