//! What the turns came to.

use std::{fmt, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::{
    client::Taken,
    servers::{Kind, Usage},
};

/// The figures of one run, for each kind of server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) turns: u32,
    pub(crate) events_per_second_and_turn: u32,
    pub(crate) servers: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    server: Kind,
    events: u64,
    /// Bytes of the lines that clients got.
    bytes: u64,
    seconds: f64,
    /// From the agent to the client.
    delay_micros: Delay,
    /// Beyond what the processes took when they were ready.
    usage: Usage,
    pub(crate) errors: Vec<String>,
}

#[derive(Serialize)]
struct Delay {
    median: u32,
    p99: u32,
    max: u32,
}

impl Row {
    pub(crate) fn new(
        server: Kind,
        turns: Vec<Result<Taken>>,
        time: Duration,
        usage: Usage,
    ) -> Self {
        let (mut events, mut bytes, mut delays, mut errors) = (0, 0, Vec::new(), Vec::new());
        for turn in turns {
            match turn {
                Ok(taken) => {
                    events += taken.events;
                    bytes += taken.bytes;
                    delays.extend(taken.delays);
                }
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        let delay_micros = Delay::of(delays);
        Self { server, events, bytes, seconds: time.as_secs_f64(), delay_micros, usage, errors }
    }

    fn cpu_seconds(&self) -> f64 {
        self.usage.user_seconds + self.usage.system_seconds
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
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.servers.iter().find(|row| row.server == Kind::Axum).map(Row::cpu_seconds);
        writeln!(
            f,
            "{} turns at once, {} events a second of each\n\n\
             | server | failed | events | CPU user + system | an event | beside axum | memory a turn | of it its lines \
             | from agent to client: median, 99 %, longest |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|",
            self.turns, self.events_per_second_and_turn
        )?;
        let turns = f64::from(self.turns);
        for row in &self.servers {
            let Usage { user_seconds, system_seconds, peak_memory_kib, .. } = row.usage;
            let cpu = row.cpu_seconds();
            let beside = bare.map_or("-".to_owned(), |bare| format!("{:.2} ×", cpu / bare));
            let millis = |micros: u32| f64::from(micros) / 1000.0;
            let Delay { median, p99, max } = row.delay_micros;
            writeln!(
                f,
                "| {} | {} | {} | {user_seconds:.1} + {system_seconds:.1} s | {:.1} µs | {beside} | {:.0} KiB | {:.0} KiB \
                 | {:.2}, {:.2}, {:.1} ms |",
                row.server.name(),
                row.errors.len(),
                row.events,
                cpu * 1e6 / row.events as f64,
                peak_memory_kib as f64 / turns,
                row.bytes as f64 / 1024.0 / turns,
                millis(median),
                millis(p99),
                millis(max),
            )?;
        }
        for row in &self.servers {
            for error in row.errors.iter().take(5) {
                writeln!(f, "{} failed to {error}", row.server.name())?;
            }
        }
        Ok(())
    }
}
