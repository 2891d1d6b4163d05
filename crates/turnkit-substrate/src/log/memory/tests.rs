//! The memory log under shuttle: thousands of schedules of the same few threads.

use std::sync::atomic::AtomicU64;

use shuttle::{future::block_on, thread};
use turnkit_wire::interaction::{self, Interaction, Kind, Outcome};

use super::*;
use crate::log::State;

const SCHEDULES: usize = 5_000;

struct Still(AtomicU64);

impl Clock for Still {
    fn unix_ms(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn log(limits: Limits) -> (MemoryLog, Arc<Still>) {
    let clock = Arc::new(Still(AtomicU64::new(1_000)));
    let log = MemoryLog::with_clock(limits, Arc::clone(&clock) as _);
    (log, clock)
}

fn key(id: &str) -> ExecutionKey {
    ExecutionKey { scope: Scope::local(), id: turnkit_id::ExecutionId::parse(id).unwrap() }
}

fn start(log: &MemoryLog, id: &str) -> Start {
    let opening = Opening { fingerprint: None, first: event(0), takes_input: true, log_id: None };
    block_on(log.start(&key(id), opening)).unwrap()
}

fn started(log: &MemoryLog, id: &str) -> (Box<dyn LogWriter>, Arc<dyn LogReader>) {
    match start(log, id) {
        Start::Started { writer, reader } => (writer, reader),
        _ => panic!("{id} is free"),
    }
}

fn event(number: usize) -> Event {
    Event::new("number", &number).unwrap()
}

/// Everything from `after` to the end of the log.
fn follow(reader: &dyn LogReader, mut after: u64) -> Vec<u8> {
    let mut frames = Vec::new();
    while let Some(page) = block_on(reader.next(after)).unwrap() {
        assert!(page.last > after);
        frames.extend_from_slice(&page.frames);
        after = page.last;
    }
    frames
}

fn assert_whole(frames: &[u8], events: u64) {
    let text = std::str::from_utf8(frames).unwrap();
    let seqs = text.lines().filter_map(|line| line.strip_prefix("id: "));
    let seqs: Vec<u64> = seqs.map(|id| id.split_once('-').unwrap().1.parse().unwrap()).collect();
    assert_eq!(seqs, (1..=events).collect::<Vec<_>>());
}

/// Starts of one id, each in a thread of its own: one gets to write, and all read the same.
fn race_starts(threads: usize) {
    let (log, _) = log(Limits::default());
    let threads = (0..threads).map(|_| {
        let log = log.clone();
        thread::spawn(move || match start(&log, "a") {
            Start::Started { mut writer, reader } => {
                block_on(writer.append(&event(1))).unwrap();
                block_on(writer.end(Ending::Completed, &event(2))).unwrap();
                (true, follow(&*reader, 0))
            }
            Start::Exists(reader) => (false, follow(&*reader, 0)),
            Start::Spent => panic!("nothing is spent"),
            Start::LogChanged => panic!("no start names a log"),
        })
    });
    let threads: Vec<_> = threads.collect();
    let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ends.iter().filter(|(won, _)| *won).count(), 1);
    assert!(ends.iter().all(|(_, frames)| *frames == ends[0].1));
    assert_whole(&ends[0].1, 3);
}

#[test]
fn of_racing_starts_one_wins_and_all_read_the_same() {
    shuttle::check_random(|| race_starts(3), SCHEDULES);
}

#[test]
fn of_five_hundred_racing_starts_one_wins_and_all_read_the_same() {
    shuttle::check_random(|| race_starts(500), 20);
}

#[test]
fn readers_that_follow_an_append_miss_nothing() {
    let race = || {
        let (log, _) = log(Limits::default());
        let (mut writer, reader) = started(&log, "a");
        let readers = (0..2).map(|after| {
            let reader = Arc::clone(&reader);
            thread::spawn(move || (after, follow(&*reader, after)))
        });
        let readers: Vec<_> = readers.collect();
        for number in 1..4 {
            block_on(writer.append(&event(number))).unwrap();
        }
        block_on(writer.end(Ending::Completed, &event(4))).unwrap();
        let whole = follow(&*reader, 0);
        assert_whole(&whole, 5);
        for reader in readers {
            let (after, frames) = reader.join().unwrap();
            assert!(whole.ends_with(&frames));
            assert_eq!(frames.len() == whole.len(), after == 0);
        }
    };
    shuttle::check_random(race, SCHEDULES);
}

#[test]
fn a_take_over_leaves_one_end() {
    let race = || {
        let (log, _) = log(Limits::default());
        let (mut writer, reader) = started(&log, "a");
        let runner = thread::spawn(move || {
            let appended = block_on(writer.append(&event(1))).is_ok();
            (appended, block_on(writer.end(Ending::Completed, &event(2))).is_ok())
        });
        let taken = block_on(log.take_over(&key("a"))).unwrap();
        let cancelled =
            taken.is_some_and(|writer| block_on(writer.end(Ending::Cancelled, &event(9))).is_ok());
        let (appended, completed) = runner.join().unwrap();
        assert!(cancelled != completed, "one of them ends it");
        let ending = if cancelled { Ending::Cancelled } else { Ending::Completed };
        let status = block_on(reader.status()).unwrap();
        assert_eq!(status.state, State::Ended(ending));
        assert_whole(&follow(&*reader, 0), 2 + u64::from(appended));
    };
    shuttle::check_random(race, SCHEDULES);
}

#[test]
fn racing_appends_stay_within_the_budget_to_the_byte() {
    const BUDGET: u64 = 3_000;
    let race = || {
        let (log, clock) = log(Limits { bytes_in_all: BUDGET, ..Limits::default() });
        let (old, _) = started(&log, "old");
        block_on(old.end(Ending::Completed, &event(0))).unwrap();
        let writers = ["a", "b"].map(|id| started(&log, id).0);
        let runs = writers.map(|mut writer| {
            let log = log.clone();
            thread::spawn(move || {
                let big = Event::new("text", &"x".repeat(300)).unwrap();
                while block_on(writer.append(&big)).is_ok() {
                    assert!(log.shared.server.used() <= BUDGET);
                }
                block_on(writer.end(Ending::Failed, &event(1))).unwrap();
            })
        });
        for run in runs {
            run.join().unwrap();
        }
        assert!(matches!(block_on(log.find(&key("old"))).unwrap(), Found::Spent));

        let passes = [log.shared.limits.retention, log.shared.limits.binding];
        for time in passes.map(crate::limits::millis) {
            clock.0.fetch_add(time, std::sync::atomic::Ordering::Relaxed);
            block_on(log.sweep()).unwrap();
        }
        assert_eq!(block_on(log.usage(None)).unwrap(), Usage::default());
        assert_eq!(log.shared.server.used(), 0);
    };
    shuttle::check_random(race, SCHEDULES);
}

#[test]
fn a_writer_that_is_dropped_ends_its_run_for_whoever_waits() {
    let race = || {
        let (log, _) = log(Limits::default());
        let (writer, reader) = started(&log, "a");
        let waiting = {
            let reader = Arc::clone(&reader);
            thread::spawn(move || follow(&*reader, 1))
        };
        drop(writer);
        let frames = waiting.join().unwrap();
        assert!(frames.starts_with(b"id: 1001-2\nevent: execution.failed\n"));
    };
    shuttle::check_random(race, SCHEDULES);
}

#[test]
fn of_racing_posts_one_is_told_and_the_writer_that_waits_is_woken() {
    let race = || {
        let (log, _) = log(Limits::default());
        let (mut writer, reader) = started(&log, "a");
        let question = Interaction::new(Kind::Approval, "q").event();
        block_on(writer.append_with(&question, Change::Asks("q"))).unwrap();
        let posts = [Outcome::Accepted, Outcome::Declined].map(|outcome| {
            let log = log.clone();
            thread::spawn(move || {
                let event = interaction::answered("q", outcome, None, None);
                let slot = Slot::of(&event).unwrap();
                (block_on(log.post(&key("a"), &slot, &event)).unwrap(), event)
            })
        });
        let (slot, told) = block_on(writer.posted()).unwrap().swap_remove(0);
        block_on(writer.append_with(&told, Change::Tells(&slot))).unwrap();
        block_on(writer.end(Ending::Completed, &event(9))).unwrap();
        let mut set = Vec::new();
        for post in posts {
            match post.join().unwrap() {
                (Post::Set, event) => set.push(event),
                (post, _) => assert!(matches!(post, Post::Occupied | Post::Ended), "{post:?}"),
            }
        }
        assert_eq!(set, [told]);
        assert_whole(&follow(&*reader, 0), 4);
    };
    shuttle::check_random(race, SCHEDULES);
}
