//! What happened to the last turns of this process, for the developer's view: times and outcomes, and nothing that anybody
//! wrote.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use turnkit::{ClientOutcome, Hook, TurnOutcome};
use turnkit_chat::{Attempt, AttemptObserver, Cause, Observer, Turn};
use turnkit_id::ExecutionId;

use crate::outcome::Kind;

/// Turns of which something is known. The oldest gives way to one more.
const MAX_TURNS: usize = 256;
/// Attempts of a turn: the first one, and the newest.
const MAX_ATTEMPTS: usize = 64;

/// The last turns' attempts. A clone is the same ones.
#[derive(Clone, Default)]
pub(crate) struct Traces(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    turns: HashMap<ExecutionId, VecDeque<Arc<Traced>>>,
    oldest_first: VecDeque<ExecutionId>,
}

impl Traces {
    /// The attempts at a turn, the oldest first; `None` where nothing is known of it.
    pub(crate) fn of(&self, execution: &ExecutionId) -> Option<Vec<AttemptTrace>> {
        let kept = self.lock();
        let attempts = kept.turns.get(execution)?;
        Some(attempts.iter().map(|attempt| attempt.trace()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Traces {
    fn attempt(&self, turn: &Turn, attempt: Attempt) -> Option<Arc<dyn AttemptObserver>> {
        let traced = Arc::new(Traced::new(attempt));
        self.lock().keep(&turn.execution_id, Arc::clone(&traced));
        Some(traced)
    }
}

impl Kept {
    fn keep(&mut self, execution: &ExecutionId, attempt: Arc<Traced>) {
        if !self.turns.contains_key(execution) {
            self.make_room();
            self.oldest_first.push_back(execution.clone());
        }
        let attempts = self.turns.entry(execution.clone()).or_default();
        if attempts.len() == MAX_ATTEMPTS {
            attempts.remove(1);
        }
        attempts.push_back(attempt);
    }

    fn make_room(&mut self) {
        if self.oldest_first.len() == MAX_TURNS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.turns.remove(&oldest);
        }
    }
}

/// An attempt as it happens.
struct Traced {
    attempt: Attempt,
    /// Unix milliseconds.
    started_at: i64,
    lines: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    hooks: Vec<HookTrace>,
    end: Option<End>,
}

struct End {
    at: i64,
    client: ClientOutcome,
    events: u64,
    kind: Kind,
    code: Option<String>,
}

impl Traced {
    fn new(attempt: Attempt) -> Traced {
        Traced {
            attempt,
            started_at: unix_millis(),
            lines: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    fn trace(&self) -> AttemptTrace {
        let told = self.lock();
        let end = told.end.as_ref();
        AttemptTrace {
            kind: kind(self.attempt.cause),
            started_at: self.started_at,
            ended_at: end.map(|end| end.at),
            resumed_after: self.attempt.after,
            client: client(end.map(|end| end.client)),
            events: end.map_or_else(|| self.lines.load(Relaxed), |end| end.events),
            outcome: end.map(|end| end.kind.as_str()),
            code: end.and_then(|end| end.code.clone()),
            hooks: told.hooks.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AttemptObserver for Traced {
    fn line(&self) {
        self.lines.fetch_add(1, Relaxed);
    }

    fn hook(&self, hook: Hook, began: Duration, took: Duration, ok: bool) {
        let duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3;
        let at_ms = u64::try_from(began.as_millis()).unwrap_or(u64::MAX);
        self.lock().hooks.push(HookTrace { hook: hook.as_str(), at_ms, duration_ms, ok });
    }

    fn ended(&self, outcome: &TurnOutcome) {
        let code = outcome.result.as_ref().err().and_then(|error| error.code());
        let (kind, code) = (Kind::of(outcome), code.map(str::to_owned));
        let (client, events) = (outcome.client, outcome.events);
        self.lock().end = Some(End { at: unix_millis(), client, events, kind, code });
    }
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn kind(cause: Cause) -> &'static str {
    match cause {
        Cause::Accepted => "accepted",
        Cause::Resumed => "resumed",
        Cause::Swept => "swept",
    }
}

/// What is told of an attempt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttemptTrace {
    kind: &'static str,
    started_at: i64,
    ended_at: Option<i64>,
    resumed_after: u64,
    client: &'static str,
    events: u64,
    outcome: Option<&'static str>,
    code: Option<String>,
    hooks: Vec<HookTrace>,
}

/// What is told of a hook.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HookTrace {
    hook: &'static str,
    /// Since the attempt's beginning.
    at_ms: u64,
    duration_ms: f64,
    ok: bool,
}

/// What became of the client; as long as the attempt runs, it is not known to have left.
fn client(outcome: Option<ClientOutcome>) -> &'static str {
    match outcome {
        Some(ClientOutcome::Left { .. }) => "left",
        Some(ClientOutcome::Stalled { .. }) => "stalled",
        Some(ClientOutcome::InvalidCursor { .. }) => "invalid_cursor",
        _ => "attached",
    }
}

#[cfg(test)]
mod tests {
    use turnkit_chat::AttemptRole;

    use super::*;

    fn id(at: usize) -> ExecutionId {
        ExecutionId::derive("p", "s", at as u64).unwrap()
    }

    fn traced(after: u64) -> Arc<Traced> {
        Arc::new(Traced::new(Attempt::new(Cause::Resumed, AttemptRole::Read, after)))
    }

    #[test]
    fn the_last_turns_are_kept_and_of_each_the_first_attempt_and_the_newest() {
        let traces = Traces::default();
        for turn in 0..=MAX_TURNS {
            traces.lock().keep(&id(turn), traced(0));
        }
        assert!(traces.of(&id(0)).is_none() && traces.of(&id(1)).is_some());
        for after in 1..=100 {
            traces.lock().keep(&id(1), traced(after));
        }
        let kept: Vec<u64> =
            traces.of(&id(1)).unwrap().iter().map(|attempt| attempt.resumed_after).collect();
        assert_eq!(kept, [vec![0], (38..=100).collect()].concat());
        assert!(traces.of(&id(2)).is_some(), "a turn that comes again takes no other's place");
    }

    #[test]
    fn an_attempt_that_runs_has_no_end_yet() {
        let traced = traced(3);
        traced.line();
        let (began, took) = (Duration::from_millis(7), Duration::from_micros(1_500));
        traced.hook(Hook::TraceFlush, began, took, false);
        let told = serde_json::to_value(traced.trace()).unwrap();
        let hooks = serde_json::json!([
            { "hook": "trace_flush", "atMs": 7, "durationMs": 1.5, "ok": false }
        ]);
        assert_eq!((&told["hooks"], &told["events"]), (&hooks, &serde_json::json!(1)));
        assert!(told["endedAt"].is_null() && told["outcome"].is_null());
    }
}
