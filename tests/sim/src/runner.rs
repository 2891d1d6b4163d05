//! Many worlds, on several threads, and what they amount to.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde::Serialize;

use crate::{
    bugs::Bug,
    history::{ClientAct, Fact, faults},
    sim::{Report, simulate},
};

/// What many worlds amount to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// How many worlds were run.
    pub seeds: u64,
    /// How many turns clients started.
    pub turns: u64,
    /// How many runs of the agent there were.
    pub runs: u64,
    /// How many events were appended to logs.
    pub events: u64,
    /// How many lines clients were given.
    pub lines: u64,
    /// How many connections were opened.
    pub connections: u64,
    /// Seconds of simulated time.
    pub simulated_s: f64,
    /// How turns ended in the database: `complete`, `stopped`, or `failed` with its code.
    pub endings: BTreeMap<String, u64>,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// The seeds whose worlds broke a promise, with the promises.
    pub violations: BTreeMap<u64, Vec<String>>,
}

impl Summary {
    /// Counts one world in.
    pub fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                self.violations.insert(seed, vec![format!("the world failed: {error}")]);
                return;
            }
        };
        for record in &report.records {
            self.count(&record.fact);
        }
        for (kind, times) in faults(&report.records) {
            *self.faults.entry(kind).or_default() += times;
        }
        self.turns += report.plan.turns().count() as u64;
        self.simulated_s += report.records.last().map_or(0.0, |last| last.at.as_secs_f64());
        if !report.violations.is_empty() {
            let violations = report.violations.iter().map(ToString::to_string);
            self.violations.insert(seed, violations.collect());
        }
    }

    fn count(&mut self, fact: &Fact) {
        match fact {
            Fact::AgentAsked { .. } => self.runs += 1,
            Fact::Appended { .. } => self.events += 1,
            Fact::Connected(_) => self.connections += 1,
            Fact::Client { act: ClientAct::Line(_), .. } => self.lines += 1,
            Fact::Kept { answer: Some(kept), .. } => {
                let code = kept.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
                *self.endings.entry(format!("{}{code}", kept.status)).or_default() += 1;
            }
            _ => {}
        }
    }
}

/// What became of a world, or why it could not be run.
pub type Outcome = Result<Report, String>;

/// Runs the worlds of `seeds` on `jobs` threads and hands each outcome to `on_world`, in whatever order they end, until that
/// says to stop.
pub fn all(
    seeds: Range<u64>,
    jobs: usize,
    bug: Option<Bug>,
    mut on_world: impl FnMut(u64, Outcome) -> bool,
) {
    let next = AtomicU64::new(seeds.start);
    let (tell, told) = mpsc::sync_channel(jobs.max(1) * 4);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (tell, next, end) = (tell.clone(), &next, seeds.end);
            scope.spawn(move || {
                let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end);
                while let Some(seed) = mine() {
                    let outcome = simulate(seed, bug).map_err(|error| error.to_string());
                    if tell.send((seed, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for (seed, outcome) in told {
            if !on_world(seed, outcome) {
                return;
            }
        }
    });
}

/// The first of `seeds` whose world breaks `promise` when `bug` is planted in it.
#[must_use]
pub fn find(bug: Bug, promise: &str, seeds: Range<u64>) -> Option<u64> {
    let mut found = None;
    all(seeds, 1, Some(bug), |seed, outcome| {
        let breaks =
            |report: Report| report.violations.iter().any(|broken| broken.promise == promise);
        let shows = outcome.is_ok_and(breaks);
        found = shows.then_some(seed);
        !shows
    });
    found
}

/// Seconds, for a rate.
#[must_use]
pub fn per_second(count: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate that is shown with one digit")]
    let count = count as f64;
    count / took.as_secs_f64().max(f64::EPSILON)
}
