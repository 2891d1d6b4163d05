//! The pipe under every kind of schedule: nothing is lost, doubled or deadlocked.
//!
//! Compiles the pipe's own source against shuttle's locks. 10,000 schedules a test by default;
//! `TURNKIT_SCHEDULES=100000` for a long run.

mod sync {
    pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard};
}

#[path = "../src/pipe.rs"]
#[expect(dead_code, reason = "the driver uses more of it than these tests")]
mod pipe;

use std::{future::poll_fn, task::Poll};

use bytes::{Bytes, BytesMut};
use shuttle::{future, thread};

use self::pipe::{End, Reader, Writer, pipe};

fn check(test: fn()) {
    let schedules = std::env::var("TURNKIT_SCHEDULES").ok();
    let schedules = schedules.and_then(|count| count.parse().ok()).unwrap_or(10_000);
    shuttle::check_random(test, schedules);
}

/// Lines of different lengths: some fit together, one is longer than the pipe, one is passed on uncopied.
fn lines() -> Vec<Bytes> {
    [3, 9, 40, 1, 20, 5000, 7, 16]
        .iter()
        .zip(b'a'..)
        .map(|(&length, letter)| {
            let mut line = BytesMut::zeroed(length);
            line.fill(letter);
            line[length - 1] = b'\n';
            line.freeze()
        })
        .collect()
}

/// Writes all lines as the driver does: waits for room before each, looks then whether it is cancelled, yields now and then. Says
/// whether somebody stopped it.
async fn write(writer: &Writer, lines: &[Bytes]) -> bool {
    for (n, line) in lines.iter().enumerate() {
        loop {
            match writer.try_push(line, 1) {
                Some(signals) if signals.cancelled => return true,
                Some(_) => break,
                None => {}
            }
            let parked = poll_fn(|cx| {
                let parked = writer.park(cx, Some(line.len()));
                let go_on = parked.room || parked.signals.cancelled;
                if go_on { Poll::Ready(parked) } else { Poll::Pending }
            });
            if parked.await.signals.cancelled {
                writer.push(line, 1);
                return true;
            }
        }
        if n % 3 == 2 {
            poll_fn(|cx| {
                writer.park(cx, None);
                Poll::Ready(())
            })
            .await;
        }
    }
    writer.finish();
    false
}

async fn read(reader: &Reader, at_most: usize) -> Vec<u8> {
    let mut received = Vec::new();
    for _ in 0..at_most {
        match poll_fn(|cx| reader.poll_take(cx)).await {
            Some(chunk) => received.extend_from_slice(&chunk),
            None => break,
        }
    }
    received
}

#[test]
fn every_byte_arrives_once_and_in_order() {
    check(|| {
        let (writer, reader) = pipe(64);
        let writing = thread::spawn(move || {
            future::block_on(async {
                let stopped = write(&writer, &lines()).await;
                (stopped, writer.reader())
            })
        });
        let received = future::block_on(read(&reader, usize::MAX));
        assert_eq!(received, lines().concat());
        assert!(reader.is_ended());
        let (stopped, (end, _)) = writing.join().unwrap();
        assert_eq!((stopped, end), (false, End::Open));
    });
}

#[test]
fn a_reader_that_leaves_never_blocks_the_writer_and_is_counted_exactly() {
    check(|| {
        let (writer, reader) = pipe(64);
        let reading = thread::spawn(move || {
            let received = future::block_on(read(&reader, 2));
            drop(reader);
            received.split(|byte| *byte == b'\n').count() as u64 - 1
        });
        future::block_on(write(&writer, &lines()));
        let taken = reading.join().unwrap();
        assert_eq!(writer.reader(), (End::Left, taken));
    });
}

#[test]
fn a_cancel_always_reaches_a_writer_that_waits() {
    check(|| {
        let (writer, reader) = pipe(16);
        let canceller = reader.canceller();
        let writing =
            thread::spawn(move || future::block_on(async { write(&writer, &lines()).await }));
        thread::spawn(move || canceller.cancel());
        assert!(writing.join().unwrap());
        let received = future::block_on(read(&reader, usize::MAX));
        assert!(lines().concat().starts_with(&received) && received.ends_with(b"\n"));
    });
}

#[test]
fn a_cut_ends_a_reader_that_waits() {
    check(|| {
        let (writer, reader) = pipe(64);
        let reading = thread::spawn(move || future::block_on(read(&reader, usize::MAX)));
        writer.push(&lines()[0], 1);
        writer.cut();
        let received = reading.join().unwrap();
        assert!(received.is_empty() || received == lines()[0]);
        let taken = u64::from(!received.is_empty());
        assert_eq!(writer.reader(), (End::Cut, taken));
    });
}

#[test]
fn a_dropped_writer_ends_the_body_after_what_is_ready() {
    check(|| {
        let (writer, reader) = pipe(64);
        let reading = thread::spawn(move || future::block_on(read(&reader, usize::MAX)));
        writer.push(&lines()[0], 1);
        drop(writer);
        assert_eq!(reading.join().unwrap(), lines()[0]);
    });
}

#[test]
fn a_body_is_ended_once_all_is_taken_and_dropping_it_then_is_not_leaving() {
    check(|| {
        let (writer, reader) = pipe(64);
        writer.push(&lines()[0], 1);
        writer.finish();
        assert!(!reader.is_ended());
        assert_eq!(future::block_on(read(&reader, 1)), lines()[0]);
        assert!(reader.is_ended());
        drop(reader);
        assert_eq!(writer.reader(), (End::Open, 1));
    });
}

#[test]
fn a_pipe_holds_exactly_its_capacity_or_one_line() {
    check(|| {
        let line = |length| Bytes::from(vec![b'x'; length]);
        let (writer, reader) = pipe(64);
        assert!(writer.try_push(&line(63), 1).is_some());
        assert!(writer.try_push(&line(2), 1).is_none());
        assert!(writer.try_push(&line(1), 1).is_some());
        assert_eq!(future::block_on(read(&reader, 1)).len(), 64);
        assert!(writer.try_push(&line(100), 1).is_some());
        assert!(writer.try_push(&line(1), 1).is_none());
        assert_eq!(writer.reader(), (End::Open, 2));
    });
}
