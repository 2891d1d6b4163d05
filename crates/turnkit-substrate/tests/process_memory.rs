//! What a process takes for its log in memory. A test binary of its own, for its memory.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use turnkit_id::ExecutionId;
use turnkit_substrate::log::{Ending, ExecutionKey, Opening, Start};
use turnkit_substrate::{ExecutionLog as _, Limits, MemoryLog, Scope};
use turnkit_wire::Event;

const MIB: u64 = 1024 * 1024;
const BUDGET: u64 = 64 * MIB;

/// Runs of 1 KiB events, of lengths that differ, on several threads: eight times as much as the log may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_at_its_bound_takes_a_quarter_more_than_that_at_most() {
    let limits = Limits { bytes_per_scope: BUDGET, bytes_in_all: BUDGET, ..Limits::default() };
    let log = MemoryLog::new(limits);
    let before = resident();
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(write(log.clone(), writer))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let used = log.usage(None).await.unwrap().bytes;
    assert!(used > BUDGET / 2, "it is not full: {used}");
    let grown = resident() - before;
    assert!(grown <= BUDGET * 5 / 4, "{} MiB", grown / MIB);
}

async fn write(log: MemoryLog, writer: u64) {
    let first = Event::bare("first").unwrap();
    let event = Event::new("message.part.updated", &"x".repeat(1_000)).unwrap();
    let mut written = 0;
    for run in 0.. {
        let id = ExecutionId::parse(&format!("run-{writer}-{run}")).unwrap();
        let key = ExecutionKey { scope: Scope::local(), id };
        let opening =
            Opening { fingerprint: None, first: first.clone(), log_id: None, takes_input: false };
        let Ok(Start::Started { writer: mut log, .. }) = log.start(&key, opening).await else {
            panic!("there is room for it");
        };
        let events = 100 + (run * 7_919 + writer * 104_729) % 8_000;
        for _ in 0..events {
            log.append(&event).await.unwrap();
        }
        log.end(Ending::Completed, &first).await.unwrap();
        written += events * 1024;
        if written > BUDGET * 2 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
