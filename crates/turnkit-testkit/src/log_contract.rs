//! The contract of [`ExecutionLog`], as tests that every store passes (PROTOCOL 3.5).
//!
//! ```
//! use turnkit_substrate::MemoryLog;
//!
//! turnkit_testkit::log_contract!(MemoryLog::with_clock);
//! # fn main() {}
//! ```
//!
//! The macro makes one `#[tokio::test]` per clause, so the crate that calls it needs `tokio` with `macros` and `rt`. Each
//! clause makes its own logs with `Fn(Limits, Arc<dyn Clock>) -> impl ExecutionLog`, and moves their clock by hand.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a clause that does not hold fails its test"
)]

mod bench;
mod inbox;
mod limits;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use turnkit_id::LogId;
use turnkit_substrate::{
    Clock, Cursor, EventId, ExecutionLog, Limits,
    log::{AppendError, Ending, Fingerprint, Found, Opening, Position, Start, State},
};
use turnkit_wire::{Event, sse};

use self::bench::{Bench, NOON, key, key_in, number, opening, read, started};
pub use self::{
    bench::ManualClock,
    inbox::{
        a_question_is_asked_once, a_slot_is_set_once, an_inbox_closes_with_its_execution,
        every_byte_of_an_inbox_is_accounted, inputs_that_are_not_taken_are_few_and_known,
        whoever_waits_for_posts_is_woken,
    },
    limits::{
        a_batch_that_is_refused_is_stored_up_to_there, a_full_log_takes_its_end,
        an_expired_id_is_spent_then_free, ended_executions_make_room_the_oldest_first,
        every_byte_is_accounted, what_is_erased_is_gone_and_its_id_spent,
        without_any_room_nothing_starts,
    },
};

/// Makes one test of each clause of the contract, for the logs that the expression makes.
#[macro_export]
macro_rules! log_contract {
    ($make:expr) => {
        $crate::log_contract!(@tests $make;
            an_id_is_bound_once
            of_many_starts_one_wins
            an_id_belongs_to_its_scope
            an_event_is_read_as_the_frame_of_its_append
            a_reader_goes_on_at_every_cursor
            a_reader_waits_for_the_next_event
            an_end_is_the_end
            a_log_has_one_id
            a_start_that_names_another_log_binds_nothing
            a_cursor_that_the_log_does_not_hold_is_told
            an_epoch_is_the_time_or_one_more
            another_writer_fences_off_the_first
            a_lost_writer_ends_its_run
            a_batch_is_stored_as_one_event_after_the_other
            a_full_log_takes_its_end
            a_batch_that_is_refused_is_stored_up_to_there
            ended_executions_make_room_the_oldest_first
            without_any_room_nothing_starts
            an_expired_id_is_spent_then_free
            what_is_erased_is_gone_and_its_id_spent
            every_byte_is_accounted
            a_question_is_asked_once
            a_slot_is_set_once
            whoever_waits_for_posts_is_woken
            inputs_that_are_not_taken_are_few_and_known
            an_inbox_closes_with_its_execution
            every_byte_of_an_inbox_is_accounted
        );
    };
    (@tests $make:expr; $($clause:ident)+) => {
        $(
            #[tokio::test]
            async fn $clause() {
                $crate::log_contract::$clause($make).await;
            }
        )+
    };
}

/// The first start of a key gets the writer, every later one the same log.
pub async fn an_id_is_bound_once<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    let bench = Bench::new(make);
    assert!(matches!(bench.find("a").await, Found::Unknown));
    let (writer, _) = bench.start("a").await;
    for _ in 0..2 {
        let Start::Exists(reader) = bench.start_again("a").await else {
            panic!("a second start must find the first");
        };
        assert_eq!(reader.fingerprint(), Some(Fingerprint::of(b"a")));
        assert_eq!(reader.status().await.unwrap().last.epoch, writer.epoch());
    }
    assert!(matches!(bench.find("a").await, Found::Retained(_)));
    assert!(matches!(bench.find("b").await, Found::Unknown), "find binds nothing");
}

/// Of any number of starts at the same time exactly one gets the writer.
pub async fn of_many_starts_one_wins<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    let bench = Arc::new(Bench::new(make));
    let starts = (0..100).map(|_| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.start_again("a").await })
    });
    let mut writers = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        match start.await.unwrap() {
            Start::Started { writer, .. } => writers.push(writer),
            Start::Exists(reader) => assert_eq!(reader.status().await.unwrap().last.seq, 1),
            Start::Spent => panic!("a running execution is not spent"),
            Start::LogChanged => panic!("no start names a log"),
        }
    }
    assert_eq!(writers.len(), 1);
}

/// The same id in two scopes is two executions.
pub async fn an_id_belongs_to_its_scope<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (_writer, _) = bench.start("a").await;
    let key = key_in("other", "a");
    assert!(matches!(bench.log.find(&key).await.unwrap(), Found::Unknown));
    let start = bench.log.start(&key, opening("a")).await.unwrap();
    assert!(matches!(start, Start::Started { .. }));
}

/// What readers get is, byte for byte, the frame of each event under its id.
pub async fn an_event_is_read_as_the_frame_of_its_append<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, reader) = bench.start("a").await;
    let spaced = Event::from_json(br#"{ "type" : "spaced", "data" : 1E5 }"#).unwrap();
    let events = [started("a"), number(1), Event::bare("bare").unwrap(), spaced];
    for event in &events[1..] {
        writer.append(event).await.unwrap();
    }
    let mut expected = BytesMut::new();
    for (seq, event) in (1..).zip(&events) {
        let id = EventId { epoch: writer.epoch(), seq };
        sse::write_event(&mut expected, Some(&id.to_string()), event).unwrap();
    }
    assert_eq!(read(&*reader, 0, 4).await, expected);
}

/// A batch is read as the frames of its events, whole or behind any of them, and a writer that was fenced off stores none of it.
pub async fn a_batch_is_stored_as_one_event_after_the_other<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, reader) = bench.start("a").await;
    let events: Vec<_> = (2..=60).map(number).collect();
    let (mut expected, mut starts) = (BytesMut::new(), Vec::new());
    for (seq, event) in (2..).zip(&events) {
        starts.push(expected.len());
        let id = EventId { epoch: NOON, seq }.to_string();
        sse::write_event(&mut expected, Some(&id), event).unwrap();
    }
    writer.append_all(&[]).await.unwrap();
    for batch in [&events[..1], &events[1..3], &events[3..]] {
        writer.append_all(batch).await.unwrap();
    }
    for (after, start) in (1..).zip(starts) {
        assert_eq!(read(&*reader, after, 60).await, expected[start..], "after {after}");
    }
    let mut heir = bench.take_over("a").await;
    assert!(matches!(writer.append_all(&events).await, Err(AppendError::Fenced)));
    assert_eq!(reader.status().await.unwrap().last.seq, 60);
    heir.append_all(&events[..2]).await.unwrap();
    assert_eq!(heir.end(Ending::Completed, &number(0)).await.unwrap().seq, 63);
}

/// From each event on, the rest is there without gap or duplicate, whatever the sizes.
pub async fn a_reader_goes_on_at_every_cursor<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, reader) = bench.start("a").await;
    let mut ends = vec![0, read(&*reader, 0, 1).await.len()];
    for size in (0..300).map(|at| if at % 50 == 7 { 100_000 } else { at * 13 }) {
        let event = Event::new("text", &"x".repeat(size)).unwrap();
        let id = writer.append(&event).await.unwrap();
        let frame = read(&*reader, id.seq - 1, id.seq).await.len();
        ends.push(ends[ends.len() - 1] + frame);
    }
    let last = ends.len() as u64 - 1;
    let whole = read(&*reader, 0, last).await;
    for (after, from) in (0..last).zip(ends) {
        assert_eq!(read(&*reader, after, last).await, whole[from..], "after {after}");
    }
}

/// A reader at the end of a running log gets the next event once it is stored, and nothing before.
pub async fn a_reader_waits_for_the_next_event<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, reader) = bench.start("a").await;
    let waiting = (0..3).map(|_| {
        let reader = Arc::clone(&reader);
        tokio::spawn(async move { reader.next(1).await })
    });
    let waiting: Vec<_> = waiting.collect();
    tokio::task::yield_now().await;
    assert!(waiting.iter().all(|reader| !reader.is_finished()));
    writer.append(&number(1)).await.unwrap();
    for reader in waiting {
        let page = reader.await.unwrap().unwrap().unwrap();
        assert_eq!(page.last, 2);
    }
    let waiting = tokio::spawn(async move { reader.next(2).await });
    tokio::task::yield_now().await;
    writer.append_all(&[number(2), number(3)]).await.unwrap();
    assert!(waiting.await.unwrap().unwrap().unwrap().last > 2);
}

/// After the terminal event there is nothing, and the status says how it ended.
pub async fn an_end_is_the_end<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    for ending in [Ending::Completed, Ending::Failed, Ending::Cancelled] {
        let bench = Bench::new(&make);
        let (writer, reader) = bench.start("a").await;
        assert_eq!(reader.status().await.unwrap().state, State::Running);
        bench.clock.advance(Duration::from_millis(7));
        let last = writer.end(ending, &number(9)).await.unwrap();

        let status = reader.status().await.unwrap();
        assert_eq!(status.state, State::Ended(ending));
        assert_eq!((status.last, status.last.seq), (last, 2));
        assert_eq!((status.started_at, status.ended_at), (NOON, Some(NOON + 7)));
        assert_eq!(reader.locate(Cursor::After(last)).await.unwrap(), Position::AtEnd);
        assert_eq!(reader.next(1).await.unwrap().unwrap().last, 2);
        assert_eq!(reader.next(2).await.unwrap(), None);
        assert!(bench.log.take_over(&key("a")).await.unwrap().is_none());
    }
}

/// A log tells the same id whoever asks, and no other log tells it.
pub async fn a_log_has_one_id<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    let bench = Bench::new(&make);
    let asked = futures::future::join_all((0..20).map(|_| bench.log.id())).await;
    let (writer, _) = bench.start("a").await;
    writer.end(Ending::Completed, &number(0)).await.unwrap();
    bench.clock.advance(Limits::default().retention + Limits::default().binding);
    bench.log.sweep().await.unwrap();
    let id = bench.log.id().await.unwrap();
    for asked in asked {
        assert_eq!(asked.unwrap(), id, "what a log lets go by its limits does not change its id");
    }
    assert_ne!(Bench::new(&make).log.id().await.unwrap(), id);
}

/// A start that names another log binds nothing and takes nothing; what its id is bound to outweighs the name.
pub async fn a_start_that_names_another_log_binds_nothing<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(&make);
    let this = bench.log.id().await.unwrap();
    let other = Bench::new(&make).log.id().await.unwrap();
    let naming = |log_id: &LogId| Opening { log_id: Some(log_id.clone()), ..opening("a") };
    let before = bench.usage().await;
    for _ in 0..2 {
        let start = bench.log.start(&key("a"), naming(&other)).await.unwrap();
        assert!(matches!(start, Start::LogChanged));
        assert!(matches!(bench.find("a").await, Found::Unknown));
        assert_eq!(bench.usage().await, before);
    }
    let start = bench.log.start(&key("a"), naming(&this)).await.unwrap();
    let Start::Started { writer, .. } = start else {
        panic!("the log has the id that the start names");
    };
    let start = bench.log.start(&key("a"), naming(&other)).await.unwrap();
    assert!(matches!(start, Start::Exists(_)));
    writer.end(Ending::Completed, &number(0)).await.unwrap();
    bench.clock.advance(Limits::default().retention);
    let start = bench.log.start(&key("a"), naming(&other)).await.unwrap();
    assert!(matches!(start, Start::Spent));
}

/// A cursor of another epoch, or beyond the last event, is not in the log.
pub async fn a_cursor_that_the_log_does_not_hold_is_told<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, reader) = bench.start("a").await;
    let EventId { epoch, .. } = writer.append(&number(1)).await.unwrap();
    assert_eq!(reader.locate(Cursor::Start).await.unwrap(), Position::After(0));
    for seq in [1, 2] {
        let cursor = Cursor::After(EventId { epoch, seq });
        assert_eq!(reader.locate(cursor).await.unwrap(), Position::After(seq));
    }
    for (epoch, seq) in
        [(epoch, 0), (epoch, 3), (epoch, u64::MAX), (epoch + 1, 1), (epoch - 1, 1), (0, 0)]
    {
        let cursor = Cursor::After(EventId { epoch, seq });
        assert_eq!(reader.locate(cursor).await.unwrap(), Position::NotHeld, "{cursor:?}");
    }
}

/// An epoch is the time in Unix milliseconds, and grows even where the clock stands still.
pub async fn an_epoch_is_the_time_or_one_more<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (first, _) = bench.start("a").await;
    assert_eq!(first.epoch(), NOON);
    let second = bench.take_over("a").await;
    assert_eq!(second.epoch(), NOON + 1);
    bench.clock.advance(Duration::from_secs(1));
    let third = bench.take_over("a").await;
    assert_eq!(third.epoch(), NOON + 1_000);
}

/// After a take-over the first writer stores nothing more; the log goes on without gap, and old cursors still hold.
pub async fn another_writer_fences_off_the_first<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut first, reader) = bench.start("a").await;
    let before = first.append(&number(1)).await.unwrap();
    let mut second = bench.take_over("a").await;
    assert!(matches!(first.append(&number(2)).await, Err(AppendError::Fenced)));
    let after = second.append(&number(3)).await.unwrap();
    assert_eq!((after.seq, after.epoch), (3, second.epoch()));
    let ended = first.end(Ending::Completed, &number(4)).await;
    assert!(matches!(ended, Err(AppendError::Fenced)));

    for id in [before, after] {
        assert_eq!(reader.locate(Cursor::After(id)).await.unwrap(), Position::After(id.seq));
    }
    let mixed = EventId { seq: 2, ..after };
    assert_eq!(reader.locate(Cursor::After(mixed)).await.unwrap(), Position::NotHeld);
    assert_eq!(reader.status().await.unwrap().state, State::Running);
    assert!(bench.log.take_over(&key("unknown")).await.unwrap().is_none());
}

/// A writer that is gone without an end leaves `execution.failed`, `runner_lost`, at the next epoch.
pub async fn a_lost_writer_ends_its_run<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (writer, reader) = bench.start("a").await;
    let epoch = writer.epoch();
    drop(writer);
    let page = reader.next(1).await.unwrap().unwrap();
    let text = String::from_utf8(page.frames.to_vec()).unwrap();
    assert!(text.starts_with(&format!("id: {}-2\n", epoch + 1)), "{text}");
    assert!(text.contains("execution.failed") && text.contains("\"runner_lost\""), "{text}");
    let status = reader.status().await.unwrap();
    assert_eq!(status.state, State::Ended(Ending::Failed));
}
