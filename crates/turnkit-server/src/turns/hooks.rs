//! What the product does with a turn: saves its answer, or keeps what there is of it.

use std::error::Error;
use std::sync::Arc;

use turnkit::{BoxError, FinalText, Persisted, RawText, TurnContext, TurnError, TurnHooks, code};
use turnkit_wire::{Event, text};

use super::trace::Attempt;
use crate::environment::Hooked;
use crate::store::{Ending, Failure, MessageStatus, Store, StoreError};

/// The hooks of one attempt.
pub(super) struct Hooks {
    store: Store,
    attempt: Arc<Attempt>,
    role: Role,
}

/// What an attempt may do to the turn.
enum Role {
    /// It drives the turn for this worker, and may end it without an answer.
    Driver { worker: String },
    /// It reads along. Its own failures are nobody else's.
    Reader,
}

impl Hooks {
    pub(super) fn driver(store: Store, attempt: Arc<Attempt>, worker: String) -> Hooks {
        Hooks { store, attempt, role: Role::Driver { worker } }
    }

    pub(super) fn reader(store: Store, attempt: Arc<Attempt>) -> Hooks {
        Hooks { store, attempt, role: Role::Reader }
    }

    async fn save(&self, cx: &TurnContext, text: &FinalText) -> Result<Persisted, BoxError> {
        let saved = self.store.save_answer(cx.execution_id().clone(), text.as_str().to_owned());
        let is_first = saved.await.map_err(HookError::Save)?;
        Ok(if is_first { Persisted::Saved } else { Persisted::AlreadySaved })
    }

    async fn look_up(&self, cx: &TurnContext) -> Result<Option<String>, BoxError> {
        let saved = self.store.saved_answer(cx.execution_id().clone());
        Ok(saved.await.map_err(HookError::Lookup)?)
    }

    /// A failure that another attempt may mend leaves the turn open, for the sweep or the client that comes back.
    async fn end(
        &self,
        cx: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> Result<(), BoxError> {
        match &self.role {
            Role::Driver { worker } if !failure.is_retryable() => {
                self.store.end_turn(ending(cx, worker, failure, partial)).await?;
            }
            Role::Driver { .. } | Role::Reader => {}
        }
        Ok(())
    }

    fn did(&self, cx: &TurnContext, hooked: Hooked) {
        if let Some(observer) = &self.store.environment.on_hook {
            observer(cx, hooked);
        }
    }
}

impl TurnHooks for Hooks {
    /// Any attempt saves, whoever drives the turn: the execution's id is the key.
    async fn persist_assistant_message(
        &self,
        cx: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        let persisted =
            self.attempt.timed("persist_assistant_message", self.save(cx, text)).await?;
        self.did(cx, Hooked::Persisted(persisted));
        Ok(persisted)
    }

    async fn find_completed(&self, cx: &TurnContext) -> Result<Option<String>, BoxError> {
        self.attempt.timed("find_completed", self.look_up(cx)).await
    }

    fn on_event(&self, _: &TurnContext, _: &Event) -> Result<(), BoxError> {
        self.attempt.count_event();
        Ok(())
    }

    async fn on_turn_complete(&self, cx: &TurnContext, _: &FinalText) -> Result<(), BoxError> {
        self.attempt
            .timed("on_turn_complete", async {
                self.did(cx, Hooked::Completed);
                Ok(())
            })
            .await
    }

    async fn on_turn_failed(
        &self,
        cx: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> Result<(), BoxError> {
        self.attempt.timed("on_turn_failed", self.end(cx, failure, partial)).await?;
        self.did(cx, Hooked::Failed);
        Ok(())
    }

    async fn trace_flush(&self, cx: &TurnContext) -> Result<(), BoxError> {
        self.attempt
            .timed("trace_flush", async {
                self.did(cx, Hooked::Flushed);
                Ok(())
            })
            .await
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

fn ending(cx: &TurnContext, worker: &str, failure: &TurnError, partial: &RawText) -> Ending {
    Ending {
        execution_id: cx.execution_id().clone(),
        worker: worker.to_owned(),
        status: if was_stopped(failure) { MessageStatus::Stopped } else { MessageStatus::Failed },
        failure: kept(failure),
        partial: partial.as_str().to_owned(),
    }
}

/// Stopped here, or at the substrate on behalf of another process.
fn was_stopped(failure: &TurnError) -> bool {
    let cause = failure.source().and_then(|source| source.downcast_ref());
    failure.code() == Some(code::CANCELLED)
        || matches!(cause, Some(turnkit_sandbox::Error::Cancelled(_)))
}

fn kept(failure: &TurnError) -> Failure {
    let message = text::message(&failure.to_string()).into_owned();
    Failure { code: failure.code().map(str::to_owned), message }
}
