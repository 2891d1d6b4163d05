//! What all turns came to.

use std::{fmt, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::{Args, client::Taken, server::Usage};

/// The figures of one run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    turns: u32,
    events_per_second_and_turn: u32,
    events: u64,
    seconds: f64,
    /// From the agent to the client.
    delay_micros: Delay,
    server_peak_memory_kib: u64,
    server_cpu_seconds: f64,
    pub(crate) errors: Vec<String>,
}

#[derive(Serialize)]
struct Delay {
    median: u32,
    p99: u32,
    max: u32,
}

impl Report {
    pub(crate) fn new(
        args: &Args,
        turns: Vec<Result<Taken>>,
        time: Duration,
        usage: &Usage,
    ) -> Self {
        let (mut events, mut delays, mut errors) = (0, Vec::new(), Vec::new());
        for turn in turns {
            match turn {
                Ok(taken) => {
                    events += taken.events;
                    delays.extend(taken.delays);
                }
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        Self {
            turns: args.turns,
            events_per_second_and_turn: args.rate,
            events,
            seconds: time.as_secs_f64(),
            delay_micros: Delay::of(delays),
            server_peak_memory_kib: usage.peak_memory_kib,
            server_cpu_seconds: usage.cpu_seconds,
            errors,
        }
    }
}

impl Delay {
    fn of(mut delays: Vec<u32>) -> Self {
        delays.sort_unstable();
        let last = delays.len().saturating_sub(1);
        let at = |percent: usize| delays.get(last * percent / 100).copied().unwrap_or_default();
        Self { median: at(50), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: u32| format!("{:.2} ms", f64::from(micros) / 1000.0);
        let Delay { median, p99, max } = self.delay_micros;
        let mib = self.server_peak_memory_kib / 1024;
        let rows = [
            ("turns at once", self.turns.to_string(), ""),
            ("events a second of each", self.events_per_second_and_turn.to_string(), ""),
            ("turns that failed", self.errors.len().to_string(), "0"),
            ("events", self.events.to_string(), ""),
            ("time in all", format!("{:.1} s", self.seconds), ""),
            ("from the agent to the client, median", millis(median), "≤ 2 ms"),
            ("99th percentile", millis(p99), ""),
            ("longest", millis(max), ""),
            ("memory of the server, at most", format!("{mib} MiB"), "≤ 300 MiB"),
            ("CPU time of the server", format!("{:.1} s", self.server_cpu_seconds), ""),
        ];
        writeln!(f, "| what | measured | goal |\n|---|--:|---|")?;
        for (what, measured, goal) in rows {
            writeln!(f, "| {what} | {measured} | {goal} |")?;
        }
        self.errors.iter().take(5).try_for_each(|error| writeln!(f, "failed to {error}"))
    }
}
