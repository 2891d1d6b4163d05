//! What the server counts, in Prometheus' text format.
//!
//! Labels have a handful of values, all of them named here: nothing that a user sends becomes one.

mod histogram;
mod page;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use turnkit::{ClientOutcome, Hook, TurnOutcome};
use turnkit_chat::{Attempt, AttemptObserver, AttemptRole, Cause, Observer, Turn};
use turnkit_substrate::log::Usage;

use self::histogram::Histogram;
use self::page::Page;
use crate::outcome::Kind;

/// What was counted since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) turns_accepted: Counter,
    pub(crate) attempts_run: Counter,
    pub(crate) attempts_attach: Counter,
    pub(crate) attempts_read: Counter,
    pub(crate) outcomes_completed: Counter,
    pub(crate) outcomes_replayed: Counter,
    pub(crate) outcomes_abandoned: Counter,
    pub(crate) outcomes_cancelled: Counter,
    pub(crate) outcomes_retryable: Counter,
    pub(crate) outcomes_failed: Counter,
    pub(crate) clients_resumed: Counter,
    pub(crate) clients_left: Counter,
    pub(crate) clients_stalled: Counter,
    pub(crate) lines: Counter,
    pub(crate) hook_errors: Counter,
    pub(crate) hooks: HookTimes,
}

/// What is so at the moment.
#[derive(Debug, Default)]
pub(crate) struct Now {
    /// Turns that this process drives.
    pub(crate) running: usize,
    /// How many of them wait for an answer to a question.
    pub(crate) waiting: usize,
    /// How often turns had to ask the substrate again.
    pub(crate) reconnects: u64,
    /// What the log of the embedded substrate takes, where there is one.
    pub(crate) log: Option<Usage>,
    /// Lines that this process has not logged.
    pub(crate) dropped_lines: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }
}

/// How long hooks took, those that take time.
#[derive(Debug, Default)]
pub(crate) struct HookTimes([Histogram; TIMED.len()]);

const TIMED: [Hook; 5] = [
    Hook::FindCompleted,
    Hook::PersistAssistantMessage,
    Hook::OnTurnComplete,
    Hook::OnTurnFailed,
    Hook::TraceFlush,
];

impl HookTimes {
    pub(crate) fn observe(&self, hook: Hook, duration: Duration) {
        if let Some((_, histogram)) = self.all().find(|(timed, _)| *timed == hook) {
            histogram.observe(duration);
        }
    }

    fn all(&self) -> impl Iterator<Item = (Hook, &Histogram)> {
        TIMED.into_iter().zip(&self.0)
    }
}

/// Counts what becomes of turns.
pub(crate) struct Counting(pub(crate) Arc<Metrics>);

impl Observer for Counting {
    fn accepted(&self, _: &Turn) {
        self.0.turns_accepted.one();
    }

    fn attempt(&self, _: &Turn, attempt: Attempt) -> Option<Arc<dyn AttemptObserver>> {
        match attempt.role {
            AttemptRole::Run => self.0.attempts_run.one(),
            AttemptRole::Attach => self.0.attempts_attach.one(),
            AttemptRole::Read => self.0.attempts_read.one(),
        }
        if attempt.cause == Cause::Resumed {
            self.0.clients_resumed.one();
        }
        Some(Arc::new(CountingAttempt(Arc::clone(&self.0))))
    }
}

struct CountingAttempt(Arc<Metrics>);

impl AttemptObserver for CountingAttempt {
    fn hook(&self, hook: Hook, _: Duration, took: Duration, _: bool) {
        self.0.hooks.observe(hook, took);
    }

    fn ended(&self, outcome: &TurnOutcome) {
        let metrics = &self.0;
        match Kind::of(outcome) {
            Kind::Completed => metrics.outcomes_completed.one(),
            Kind::Replayed => metrics.outcomes_replayed.one(),
            Kind::Abandoned => metrics.outcomes_abandoned.one(),
            Kind::Cancelled => metrics.outcomes_cancelled.one(),
            Kind::Failed { retryable: true } => metrics.outcomes_retryable.one(),
            Kind::Failed { retryable: false } => metrics.outcomes_failed.one(),
        }
        metrics.lines.add(outcome.events);
        metrics.hook_errors.add(outcome.hook_errors.len() as u64);
        match outcome.client {
            ClientOutcome::Left { .. } => metrics.clients_left.one(),
            ClientOutcome::Stalled { .. } => metrics.clients_stalled.one(),
            _ => {}
        }
    }
}

impl Metrics {
    /// The page for `GET /metrics`.
    pub(crate) fn render(&self, now: &Now) -> String {
        let mut page = Page::default();
        self.turns(&mut page, now);
        self.clients(&mut page);
        self.hooks(&mut page);
        substrate(&mut page, now);
        let help = "Lines of the log that were dropped, because standard error was not read.";
        page.counter("turnkit_stderr_lines_dropped_total", help).sample(&[], now.dropped_lines);
        page.into_text()
    }

    fn turns(&self, page: &mut Page, now: &Now) {
        let name = "turnkit_turns_accepted_total";
        page.counter(name, "New turns.").sample(&[], self.turns_accepted.get());
        let name = "turnkit_turns_running";
        page.gauge(name, "Turns that this process drives.").sample(&[], now.running as u64);
        let name = "turnkit_turns_waiting";
        let help = "Turns that this process drives and whose agent waits for an answer.";
        page.gauge(name, help).sample(&[], now.waiting as u64);
        let help = "Drives of a turn: starting it, taking it up, or reading along.";
        let attempts = page.counter("turnkit_attempts_total", help);
        attempts.sample(&[("kind", "run")], self.attempts_run.get());
        attempts.sample(&[("kind", "attach")], self.attempts_attach.get());
        attempts.sample(&[("kind", "read")], self.attempts_read.get());
        let help = "How attempts ended. Replayed: the answer was saved before. Retryable: another attempt may mend it.";
        let outcomes = page.counter("turnkit_attempt_outcomes_total", help);
        outcomes.sample(&[("outcome", "completed")], self.outcomes_completed.get());
        outcomes.sample(&[("outcome", "replayed")], self.outcomes_replayed.get());
        outcomes.sample(&[("outcome", "abandoned")], self.outcomes_abandoned.get());
        outcomes.sample(&[("outcome", "cancelled")], self.outcomes_cancelled.get());
        outcomes.sample(&[("outcome", "retryable")], self.outcomes_retryable.get());
        outcomes.sample(&[("outcome", "failed")], self.outcomes_failed.get());
        let help = "Lines of all attempts, also those that no client took.";
        page.counter("turnkit_lines_total", help).sample(&[], self.lines.get());
    }

    fn clients(&self, page: &mut Page) {
        let help = "Clients that came back to a turn with a cursor.";
        page.counter("turnkit_clients_resumed_total", help).sample(&[], self.clients_resumed.get());
        let help = "Clients that did not stay to the end of their body.";
        let gone = page.counter("turnkit_clients_gone_total", help);
        gone.sample(&[("how", "left")], self.clients_left.get());
        gone.sample(&[("how", "stalled")], self.clients_stalled.get());
    }

    fn hooks(&self, page: &mut Page) {
        let help = "Hooks that failed without failing the turn.";
        page.counter("turnkit_hook_errors_total", help).sample(&[], self.hook_errors.get());
        let durations = page.histogram("turnkit_hook_duration_seconds", "How long hooks took.");
        for (hook, histogram) in self.hooks.all() {
            durations.samples(("hook", hook.as_str()), histogram);
        }
    }
}

fn substrate(page: &mut Page, now: &Now) {
    let help =
        "How often turns asked the substrate again, after a connection or an answer was lost.";
    page.counter("turnkit_substrate_reconnects_total", help).sample(&[], now.reconnects);
    if let Some(log) = &now.log {
        let help = "What the embedded substrate's log takes, the bindings of spent ids among it.";
        page.gauge("turnkit_log_bytes", help).sample(&[], log.bytes);
        let help = "Executions that can be read again from the embedded substrate's log.";
        page.gauge("turnkit_log_executions", help).sample(&[], log.executions);
    }
}

#[cfg(test)]
mod tests;
