//! What happened to the last turns of this process, for the developer's view: times and outcomes, and nothing that anybody
//! wrote.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::time::Instant;
use turnkit::{BoxError, ClientOutcome, TurnOutcome};
use turnkit_id::ExecutionId;

use crate::metrics::Metrics;
use crate::outcome::Kind;

/// Turns of which something is known. The oldest gives way to one more.
const MAX_TURNS: usize = 256;
/// Attempts of a turn: the first one, and the newest.
const MAX_ATTEMPTS: usize = 64;

/// The last turns' attempts.
#[derive(Default)]
pub(crate) struct Traces(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    turns: HashMap<ExecutionId, VecDeque<Arc<Attempt>>>,
    oldest_first: VecDeque<ExecutionId>,
}

impl Traces {
    /// Notes the beginning of an attempt.
    pub(crate) fn begin(&self, execution: &ExecutionId, attempt: Attempt) -> Arc<Attempt> {
        let attempt = Arc::new(attempt);
        self.lock().keep(execution, Arc::clone(&attempt));
        attempt
    }

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

impl Kept {
    fn keep(&mut self, execution: &ExecutionId, attempt: Arc<Attempt>) {
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

/// How an attempt came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cause {
    /// A client asked for a new turn.
    Accepted,
    /// A client took the turn up.
    Resumed,
    /// Nobody drove the turn.
    Swept,
}

/// An attempt as it happens.
pub(crate) struct Attempt {
    cause: Cause,
    /// Unix milliseconds.
    started_at: i64,
    begun: Instant,
    resumed_after: u64,
    events: AtomicU64,
    told: Mutex<Told>,
    metrics: Arc<Metrics>,
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

impl Attempt {
    pub(crate) fn new(
        cause: Cause,
        resumed_after: u64,
        now: i64,
        metrics: Arc<Metrics>,
    ) -> Attempt {
        let (events, told) = (AtomicU64::new(0), Mutex::default());
        let begun = Instant::now();
        Attempt { cause, started_at: now, begun, resumed_after, events, told, metrics }
    }

    /// The cursor that it was asked to resume from.
    pub(crate) fn resumed_after(&self) -> u64 {
        self.resumed_after
    }

    /// One more line.
    pub(crate) fn count_event(&self) {
        self.events.fetch_add(1, Relaxed);
    }

    /// Carries out a hook, and notes when and how long; also one that is dropped before its end.
    pub(crate) async fn timed<T>(
        &self,
        hook: &'static str,
        work: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        let mut call = Call { attempt: self, hook, since: Instant::now(), ok: false };
        let result = work.await;
        call.ok = result.is_ok();
        result
    }

    /// Notes the end.
    pub(crate) fn ended(&self, outcome: &TurnOutcome, now: i64) {
        let code = outcome.result.as_ref().err().and_then(|error| error.code());
        let (kind, code) = (Kind::of(outcome), code.map(str::to_owned));
        let (client, events) = (outcome.client, outcome.events);
        self.lock().end = Some(End { at: now, client, events, kind, code });
    }

    fn trace(&self) -> AttemptTrace {
        let told = self.lock();
        let end = told.end.as_ref();
        AttemptTrace {
            kind: self.cause,
            started_at: self.started_at,
            ended_at: end.map(|end| end.at),
            resumed_after: self.resumed_after,
            client: client(end.map(|end| end.client)),
            events: end.map_or_else(|| self.events.load(Relaxed), |end| end.events),
            outcome: end.map(|end| end.kind.as_str()),
            code: end.and_then(|end| end.code.clone()),
            hooks: told.hooks.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hook at work.
struct Call<'a> {
    attempt: &'a Attempt,
    hook: &'static str,
    since: Instant,
    ok: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let at = self.since.duration_since(self.attempt.begun);
        let duration = self.since.elapsed();
        self.attempt.metrics.hooks.observe(self.hook, duration);
        let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let call = HookTrace { hook: self.hook, at_ms, duration_ms, ok: self.ok };
        self.attempt.lock().hooks.push(call);
    }
}

/// What is told of an attempt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttemptTrace {
    kind: Cause,
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
    use std::future::pending;

    use futures_util::FutureExt as _;
    use serde_json::json;

    use super::*;

    fn id(at: usize) -> ExecutionId {
        ExecutionId::derive("p", "s", at as u64).unwrap()
    }

    fn attempt(resumed_after: u64) -> Attempt {
        Attempt::new(Cause::Resumed, resumed_after, 7, Arc::default())
    }

    #[test]
    fn the_last_turns_are_kept_and_of_each_the_first_attempt_and_the_newest() {
        let traces = Traces::default();
        for turn in 0..=MAX_TURNS {
            traces.begin(&id(turn), attempt(0));
        }
        assert!(traces.of(&id(0)).is_none() && traces.of(&id(1)).is_some());
        for after in 1..=100 {
            traces.begin(&id(1), attempt(after));
        }
        let kept: Vec<u64> =
            traces.of(&id(1)).unwrap().iter().map(|attempt| attempt.resumed_after).collect();
        assert_eq!(kept, [vec![0], (38..=100).collect()].concat());
        assert!(traces.of(&id(2)).is_some(), "a turn that comes again takes no other's place");
    }

    #[tokio::test]
    async fn a_hook_that_is_cut_off_has_failed() {
        let attempt = attempt(0);
        assert!(attempt.timed::<()>("persist", pending()).now_or_never().is_none());
        attempt.timed("flush", async { Ok(()) }).await.unwrap();
        let told = serde_json::to_value(attempt.trace()).unwrap();
        let hooks: Vec<_> = told["hooks"].as_array().unwrap().iter().collect();
        assert_eq!((&hooks[0]["hook"], &hooks[0]["ok"]), (&json!("persist"), &json!(false)));
        assert_eq!((&hooks[1]["hook"], &hooks[1]["ok"]), (&json!("flush"), &json!(true)));
        assert!(hooks[1]["atMs"].as_u64() >= hooks[0]["atMs"].as_u64());
        assert!(hooks[0]["durationMs"].is_f64());
        assert_eq!((&told["endedAt"], &told["outcome"]), (&json!(null), &json!(null)));
    }
}
