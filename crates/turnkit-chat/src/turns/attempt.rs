//! What one attempt does with its turn: saves its answer, or writes down how it ended.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use turnkit::{
    AnswerPart, BoxError, Final, FinalText, Hook, Persisted, RawText, TurnContext, TurnError,
    TurnHooks, TurnOutcome, code,
};
use turnkit_wire::{Event, text};

use super::Turns;
use super::deletion::{DELETED, SESSION_DELETED};
use crate::observer::{Attempt, AttemptObserver, Role};
use crate::store::{EndedBy, Find, Found, Lease, StoreError, StoreErrorKind, TurnRow};
use crate::{Answer, Ending, Failure, Turn, TurnState};

/// For how long the ending of a turn is tried to be written: a hook has 30 s, and one call of a store up to 10 s.
const END_AGAIN: Duration = Duration::from_secs(15);

/// One attempt, as its producer and its hooks share it.
pub(crate) struct Conduct {
    pub(crate) turns: Arc<Turns>,
    pub(crate) turn: Turn,
    /// The lease under which it drives the turn. A reader has none.
    lease: Option<Lease>,
    /// What it is to the execution.
    role: Role,
    /// The log was read to its end: what the attempt comes to is a fact of the execution (PROTOCOL 4.2).
    pub(crate) log_has_ended: AtomicBool,
    /// That end says that the execution was cancelled.
    pub(crate) log_was_cancelled: AtomicBool,
    has_ended_turn: AtomicBool,
    begun: Instant,
    observers: Vec<Arc<dyn AttemptObserver>>,
}

impl Conduct {
    pub(crate) fn new(
        turns: Arc<Turns>,
        turn: Turn,
        lease: Option<Lease>,
        attempt: Attempt,
    ) -> Arc<Conduct> {
        let (role, observers) = (attempt.role, turns.observers.attempt(&turn, attempt));
        Arc::new(Conduct {
            turns,
            turn,
            lease,
            role,
            log_has_ended: AtomicBool::new(false),
            log_was_cancelled: AtomicBool::new(false),
            has_ended_turn: AtomicBool::new(false),
            begun: Instant::now(),
            observers,
        })
    }

    /// Whether the turn is known to have ended, with or without an answer.
    pub(crate) fn has_ended_turn(&self) -> bool {
        self.has_ended_turn.load(Relaxed)
    }

    /// Whether it drove the turn under a lease that is another one's in this row.
    pub(crate) fn has_lost_lease(&self, row: Option<&TurnRow>) -> bool {
        let lease = self.lease.as_ref();
        lease.is_some_and(|lease| row.is_none_or(|row| row.epoch != lease.epoch))
    }

    async fn is_open(&self) -> bool {
        let row = self.turns.store.find(Find::Execution(self.turn.execution_id.clone())).await;
        matches!(row, Ok(Found::Turn(row)) if row.state == TurnState::Open)
    }

    pub(crate) fn ended(&self, outcome: &TurnOutcome) {
        self.observers.iter().for_each(|observer| observer.ended(outcome));
    }

    /// Runs a hook, and tells the observers of it; also of one that is dropped before its end.
    async fn observed<T>(
        &self,
        hook: Hook,
        work: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        let mut call = Call { conduct: self, hook, since: Instant::now(), ok: false };
        let result = work.await;
        call.ok = result.is_ok();
        result
    }

    /// A failure that another attempt may mend leaves the turn open.
    async fn end(&self, failure: &TurnError, partial: &RawText) -> Result<(), BoxError> {
        if failure.is_retryable() {
            return Ok(());
        }
        let by = match &self.lease {
            _ if self.log_has_ended.load(Relaxed) => EndedBy::Log(self.turn.execution_id.clone()),
            Some(lease) => EndedBy::Lease(lease.clone()),
            None => return Ok(()),
        };
        let message = text::message(&failure.to_string()).into_owned();
        let ending = Ending {
            stopped: failure.code() == Some(code::CANCELLED)
                || self.log_was_cancelled.load(Relaxed),
            failure: Failure { code: failure.code().map(str::to_owned), message },
            partial: partial.answer().clone(),
        };
        // The client is told next. A database that is away for a moment must not make that a turn which has ended for its client alone.
        let (until, mut wait) = (Instant::now() + END_AGAIN, Duration::from_millis(100));
        let ended = loop {
            let ended = self.turns.settled(|store| store.end(by.clone(), ending.clone())).await;
            match &ended {
                Err(error)
                    if Instant::now() < until
                        && matches!(
                            error.kind(),
                            StoreErrorKind::Busy | StoreErrorKind::Unavailable
                        ) => {}
                _ => break ended,
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        };
        let ended = match ended {
            // Nothing is written of it any more, and nobody waits for it.
            Err(error) if error.kind() == StoreErrorKind::Gone => {
                self.has_ended_turn.store(true, Relaxed);
                return Ok(());
            }
            ended => ended?,
        };
        // The lease is another one's by now, who ends the turn.
        while !ended && Instant::now() < until && self.is_open().await {
            sleep(wait).await;
        }
        self.has_ended_turn.store(true, Relaxed);
        if ended {
            self.turns.hooks.on_turn_ended(&self.turn, &ending).await;
        }
        Ok(())
    }
}

struct Call<'a> {
    conduct: &'a Conduct,
    hook: Hook,
    since: Instant,
    ok: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let (began, took) = (self.since - self.conduct.begun, self.since.elapsed());
        let tell =
            |observer: &Arc<dyn AttemptObserver>| observer.hook(self.hook, began, took, self.ok);
        self.conduct.observers.iter().for_each(tell);
    }
}

/// The engine's hooks of an attempt.
pub(crate) struct AttemptHooks(pub(crate) Arc<Conduct>);

impl TurnHooks for AttemptHooks {
    async fn find_completed(&self, _: &TurnContext) -> Result<Option<Answer>, BoxError> {
        let conduct = &self.0;
        let saved = async {
            // Nobody has run the turn before, so there is no answer. To ask could fail, and then the one dispatch was for nothing:
            // whoever comes next may only attach to what was never started.
            if conduct.role == Role::Run {
                return Ok(None);
            }
            let saved = conduct.turns.store.saved(conduct.turn.execution_id.clone()).await;
            saved.map_err(|error| of_store(error, HookError::Lookup))
        };
        conduct.observed(Hook::FindCompleted, saved).await
    }

    fn on_event(&self, _: &TurnContext, event: &Event) -> Result<(), BoxError> {
        let conduct = &self.0;
        conduct.observers.iter().for_each(|observer| observer.line());
        if conduct.lease.is_some() {
            conduct.turns.hooks.on_event(&conduct.turn, event);
        }
        Ok(())
    }

    async fn transform_final_text(
        &self,
        _: &TurnContext,
        text: RawText,
    ) -> Result<String, BoxError> {
        let conduct = &self.0;
        let transformed = conduct.turns.hooks.transform_final_text(&conduct.turn, text);
        conduct.observed(Hook::TransformFinalText, transformed).await
    }

    // Once for each part: observers, who are told of an attempt's steps, are not told of these.
    async fn transform_part(
        &self,
        _: &TurnContext,
        part: AnswerPart,
    ) -> Result<Option<AnswerPart>, BoxError> {
        self.0.turns.hooks.transform_part(&self.0.turn, part).await
    }

    /// Any attempt saves, whoever drives the turn: the execution's id is the key.
    async fn persist_assistant_message(
        &self,
        _: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        let conduct = &self.0;
        let (id, answer) = (&conduct.turn.execution_id, text.answer());
        let save = async {
            let saved = conduct.turns.settled(|store| store.save(id.clone(), answer.clone())).await;
            saved.map_err(|error| of_store(error, HookError::Save))
        };
        let persisted = conduct.observed(Hook::PersistAssistantMessage, save).await?;
        conduct.has_ended_turn.store(true, Relaxed);
        conduct.observers.iter().for_each(|observer| observer.persisted(persisted));
        Ok(persisted)
    }

    async fn on_turn_complete(&self, _: &TurnContext, text: &FinalText) -> Result<(), BoxError> {
        let conduct = &self.0;
        let complete = async {
            conduct.turns.hooks.on_turn_complete(&conduct.turn, text.answer()).await;
            Ok(())
        };
        conduct.observed(Hook::OnTurnComplete, complete).await
    }

    async fn on_turn_failed(
        &self,
        _: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> Result<(), BoxError> {
        self.0.observed(Hook::OnTurnFailed, self.0.end(failure, partial)).await
    }

    async fn trace_flush(&self, _: &TurnContext) -> Result<(), BoxError> {
        self.0.observed(Hook::TraceFlush, async { Ok(()) }).await
    }
}

/// No other attempt mends that the session was deleted.
fn of_store(error: StoreError, otherwise: impl FnOnce(StoreError) -> HookError) -> BoxError {
    match error.kind() {
        StoreErrorKind::Gone => Final::new(SESSION_DELETED, DELETED).into(),
        _ => otherwise(error).into(),
    }
}

/// A client reads the first line of these; what lies behind them goes to the log.
#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("the answer could not be saved")]
    Save(#[source] StoreError),
    #[error("the database could not be asked for the answer")]
    Lookup(#[source] StoreError),
}
