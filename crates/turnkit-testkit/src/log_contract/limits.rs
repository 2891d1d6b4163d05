//! The clauses about bounds, budgets and retention (PROTOCOL 3.2).

use std::{sync::Arc, time::Duration};

use turnkit_substrate::{
    Clock, ExecutionLog, Limits,
    log::{AppendError, Bound, Ending, Found, LogError, Start, State, Usage},
};

use super::bench::{Bench, NOON, budgets, fill, key, number, opening, read, sized};

/// Past a bound of the execution nothing is stored but the terminal event.
pub async fn a_full_log_takes_its_end<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    let events = Limits { events_per_execution: 3, ..Limits::default() };
    let bytes = Limits { bytes_per_execution: 400, ..Limits::default() };
    for (limits, bound, stored) in [
        (events, Bound::EventsPerExecution(3), Some(3)),
        (bytes, Bound::BytesPerExecution(400), None),
    ] {
        let bench = Bench::with_limits(&make, limits);
        let (mut writer, reader) = bench.start("a").await;
        let full = fill(&mut *writer).await;
        assert!(matches!(full, AppendError::Full(of) if of == bound), "{full}");
        let before = reader.status().await.unwrap().last.seq;
        assert!(stored.is_none_or(|stored| stored == before));
        assert!(read(&*reader, 0, before).await.len() <= 400);
        let last = writer.end(Ending::Failed, &number(0)).await.unwrap();
        assert_eq!(last.seq, before + 1);
    }
}

/// Of a batch that a bound or a budget refuses, as much is stored as would be if each was appended by itself, and charged so.
pub async fn a_batch_that_is_refused_is_stored_up_to_there<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let events = Limits { events_per_execution: 9, ..Limits::default() };
    let bytes = Limits { bytes_per_execution: 900, ..Limits::default() };
    let [scope, server] = budgets(4_000);
    for limits in [events, bytes, scope, server] {
        let batch: Vec<_> = (0..60).map(|at| sized(20 + at)).collect();
        let bench = Bench::with_limits(&make, limits.clone());
        let (mut one_by_one, reader) = bench.start("a").await;
        let mut refused = None;
        for event in &batch {
            if let Err(error) = one_by_one.append(event).await {
                refused = Some(error.to_string());
                break;
            }
        }
        let (last, used) = (reader.status().await.unwrap().last.seq, bench.usage().await);
        let expected = read(&*reader, 0, last).await;

        let bench = Bench::with_limits(&make, limits);
        let (mut writer, reader) = bench.start("a").await;
        // So that the edge lies within a batch that is not the first one.
        writer.append_all(&batch[..2]).await.unwrap();
        let (before, waits) = (reader.status().await.unwrap().last.seq, Arc::clone(&reader));
        let waits = tokio::spawn(async move { waits.next(before).await });
        tokio::task::yield_now().await;
        let full = writer.append_all(&batch[2..]).await.unwrap_err();
        assert_eq!(Some(full.to_string()), refused);
        assert!(matches!(full, AppendError::Full(_)), "{full}");
        assert_eq!(reader.status().await.unwrap().last.seq, last);
        // Who waits has what was stored before the refusal.
        assert!(last > before && waits.await.unwrap().unwrap().unwrap().last > before);
        assert_eq!(bench.usage().await, used);
        assert_eq!(read(&*reader, 0, last).await, expected);
        assert_eq!(writer.end(Ending::Failed, &number(0)).await.unwrap().seq, last + 1);
    }
}

/// Where a budget is full, ended executions go, the oldest first, and only as many as needed.
pub async fn ended_executions_make_room_the_oldest_first<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    for limits in budgets(10_000) {
        let bench = Bench::with_limits(&make, limits);
        for id in ["a", "b", "c"] {
            let (mut writer, _) = bench.start(id).await;
            writer.append(&sized(1_500)).await.unwrap();
            writer.end(Ending::Completed, &number(0)).await.unwrap();
            bench.clock.advance(Duration::from_secs(1));
        }
        let (mut writer, reader) = bench.start("running").await;
        writer.append(&sized(3_000)).await.unwrap();
        assert!(matches!(bench.find("a").await, Found::Spent));
        assert!(matches!(bench.find("c").await, Found::Retained(_)));
        let full = fill(&mut *writer).await;
        assert!(matches!(full, AppendError::Full(_)));
        assert!(matches!(bench.find("c").await, Found::Spent));
        assert_eq!(reader.status().await.unwrap().state, State::Running);
        assert!(bench.usage().await.bytes <= 10_000);
    }
}

/// Where nothing is left to go, a start is refused, and what runs is untouched.
pub async fn without_any_room_nothing_starts<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    for limits in budgets(5_000) {
        let bench = Bench::with_limits(&make, limits);
        let (mut writer, reader) = bench.start("a").await;
        fill(&mut *writer).await;
        let used = bench.usage().await;
        let refused = bench.log.start(&key("b"), opening("b")).await;
        assert!(matches!(refused, Err(LogError::Full(_))));
        assert!(matches!(bench.find("b").await, Found::Unknown));
        assert_eq!(bench.usage().await, used, "what is refused takes nothing");
        assert_eq!(reader.status().await.unwrap().state, State::Running);
    }
}

/// Retained, then spent, then unknown: exactly at the limits' times.
pub async fn an_expired_id_is_spent_then_free<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    const TICK: Duration = Duration::from_millis(1);
    let bench = Bench::new(make);
    let (writer, reader) = bench.start("a").await;
    bench.clock.advance(Duration::from_secs(1_000_000));
    assert!(matches!(bench.find("a").await, Found::Retained(_)), "what runs does not expire");
    writer.end(Ending::Completed, &number(0)).await.unwrap();

    bench.clock.advance(Limits::default().retention.saturating_sub(TICK));
    assert!(matches!(bench.find("a").await, Found::Retained(_)));
    bench.clock.advance(TICK);
    assert!(matches!(bench.find("a").await, Found::Spent));
    assert!(matches!(bench.start_again("a").await, Start::Spent));
    assert!(matches!(reader.next(0).await, Err(LogError::Expired)));
    assert!(matches!(reader.next(2).await, Ok(None)), "a reader at its end has missed nothing");
    assert!(matches!(reader.status().await, Err(LogError::Expired)));

    bench.clock.advance(Limits::default().binding.saturating_sub(TICK));
    assert!(matches!(bench.start_again("a").await, Start::Spent));
    bench.clock.advance(TICK);
    assert!(matches!(bench.find("a").await, Found::Unknown));
    let (writer, _) = bench.start("a").await;
    assert!(writer.epoch() > NOON);
    let next = reader.next(0).await;
    assert!(matches!(next, Err(LogError::Expired)), "it is the reader of another log");
    assert!(matches!(reader.status().await, Err(LogError::Expired)));
}

/// Erasing drops the events of what has ended, and leaves its id spent for the time of a binding; an id that is bound to nothing is spent
/// as well, and what runs is left as it is.
pub async fn what_is_erased_is_gone_and_its_id_spent<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (ended, reader) = bench.start("ended").await;
    let (running, _) = bench.start("running").await;
    let erase = async |id: &str| bench.log.erase(&key(id)).await.unwrap();
    assert!(!erase("running").await, "what runs has to be ended first");
    assert!(matches!(bench.find("running").await, Found::Retained(_)));
    ended.end(Ending::Completed, &number(0)).await.unwrap();
    for _ in 0..2 {
        assert!(erase("ended").await);
        assert!(erase("unknown").await);
        bench.clock.advance(Duration::from_secs(1));
    }
    assert!(matches!(reader.next(0).await, Err(LogError::Expired)));
    for id in ["ended", "unknown"] {
        assert!(matches!(bench.find(id).await, Found::Spent));
        assert!(matches!(bench.start_again(id).await, Start::Spent), "{id} never runs again");
    }
    let usage = bench.usage().await;
    assert_eq!((usage.executions, usage.bindings), (1, 2));
    running.end(Ending::Completed, &number(0)).await.unwrap();
    assert!(erase("running").await);
    bench.clock.advance(Limits::default().binding);
    for id in ["ended", "unknown", "running"] {
        assert!(matches!(bench.find(id).await, Found::Unknown), "{id}");
    }
    bench.log.sweep().await.unwrap();
    assert_eq!(bench.usage().await, Usage::default());
}

/// An event costs its bytes and at most 64 more; what is refused costs nothing; what is gone is given back to the last byte.
pub async fn every_byte_is_accounted<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    let bench = Bench::with_limits(make, Limits { events_per_execution: 100, ..Limits::default() });
    assert_eq!(bench.usage().await, Usage::default());
    let (mut writer, _reader) = bench.start("a").await;
    let start = bench.usage().await;
    let event = sized(300);
    for _ in 1..100 {
        writer.append(&event).await.unwrap();
    }
    let full = bench.usage().await;
    assert!(writer.append(&event).await.is_err());
    assert_eq!(bench.usage().await, full);
    let each = (full.bytes - start.bytes) / 99;
    let event_bytes = event.as_json().len() as u64;
    assert!((event_bytes..=event_bytes + 64).contains(&each), "{each}");

    writer.end(Ending::Completed, &event).await.unwrap();
    bench.clock.advance(Limits::default().retention);
    bench.log.sweep().await.unwrap();
    let spent = bench.usage().await;
    assert_eq!((spent.executions, spent.bindings), (0, 1));
    assert!(spent.bytes > 0 && spent.bytes < start.bytes);
    bench.clock.advance(Limits::default().binding);
    bench.log.sweep().await.unwrap();
    assert_eq!(bench.usage().await, Usage::default());
}
