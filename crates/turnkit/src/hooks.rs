//! What a product does with a turn.

use std::{future::Future, sync::Arc};

use turnkit_wire::Event;

use crate::{Answer, AnswerPart, BoxError, FinalText, RawText, TurnContext, TurnError};

/// What a product does with a turn, in the order in which the engine calls it (PROTOCOL 2.1, 2.2).
///
/// One attempt calls `find_completed`, then either `transform_final_text`, `transform_part` for each part that is no text,
/// `persist_assistant_message` and `on_turn_complete`, or `transform_part` and `on_turn_failed`, and `trace_flush` last of all; and `on_event` for each line as it comes, `session.run.started` first. Only `persist_assistant_message` has no default. Methods are called one after another, never two at once for
/// one attempt.
///
/// # Failures
/// An error, a panic, and a run of more than [`hook_timeout`](crate::ChatTurn::hook_timeout) are all the same here.
/// In `find_completed`, `transform_final_text`, `transform_part` and `persist_assistant_message` they fail the attempt, retryable unless the error
/// is [`Final`](crate::Final): a client that is told `session.run.completed` can rely on it. In the other methods they are collected in
/// [`TurnOutcome::hook_errors`](crate::TurnOutcome::hook_errors). Every failure is reported, with its causes, with `tracing`
/// at ERROR, or on standard error where no subscriber is set. A hook that runs too long is dropped; what it has written by
/// then stays written.
///
/// The `Display` of an error that fails the attempt is what the client reads, its sources are not. So wrap what a user must
/// not see.
///
/// # Attempts
/// A turn may need several attempts, at once (two tabs) or one after the other (a retry). They share the execution id: make
/// it the key of everything that is written.
///
/// ```
/// use std::{collections::HashMap, sync::Mutex};
/// use turnkit::{BoxError, FinalText, Persisted, TurnContext, TurnHooks};
///
/// #[derive(Default)]
/// struct Memory(Mutex<HashMap<String, String>>);
///
/// impl TurnHooks for Memory {
///     async fn persist_assistant_message(&self, cx: &TurnContext, text: &FinalText) -> Result<Persisted, BoxError> {
///         let mut messages = self.0.lock().map_err(|_| "the store is broken")?;
///         if messages.contains_key(cx.execution_id().as_str()) {
///             return Ok(Persisted::AlreadySaved); // what was saved stays
///         }
///         messages.insert(cx.execution_id().to_string(), text.as_str().to_owned());
///         Ok(Persisted::Saved)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what to do with a turn",
    note = "implement `TurnHooks`: only `persist_assistant_message` is required",
    note = "it is implemented for `Arc<H>`, and for neither `&H` nor `Box<H>`: share hooks in an `Arc`"
)]
#[expect(unused_variables, reason = "the names are for those who implement it")]
pub trait TurnHooks: Send + Sync {
    /// Saves the answer, keyed by [`execution_id`](TurnContext::execution_id), and says whether it was saved already.
    ///
    /// What must happen exactly once (billing, say) belongs in the same transaction. An earlier attempt that was reported as
    /// failed or timed out may have committed: that is [`Persisted::AlreadySaved`], not an error.
    ///
    /// # Errors
    /// Fail the attempt with phase `persist`.
    fn persist_assistant_message(
        &self,
        cx: &TurnContext,
        text: &FinalText,
    ) -> impl Future<Output = Result<Persisted, BoxError>> + Send;

    /// The answer that an earlier attempt saved, if any. With one, the client gets its replay: the producer is not asked, and
    /// no other hook but `on_event` and `trace_flush` runs. An attempt that [prefers the log](crate::ChatTurn::prefer_log) asks for it
    /// only where the producer has lost its events. None by default.
    ///
    /// # Errors
    /// Fail the attempt with phase `lookup`, before the producer is asked.
    fn find_completed(
        &self,
        cx: &TurnContext,
    ) -> impl Future<Output = Result<Option<Answer>, BoxError>> + Send {
        async { Ok(None) }
    }

    /// Sees each line of the attempt once, in order: also while no client is there, and also those that a resumed body leaves
    /// out. It runs between events, so hand the event to a channel (a clone is a reference count) rather than work here.
    ///
    /// # Errors
    /// Are collected; the turn goes on.
    fn on_event(&self, cx: &TurnContext, event: &Event) -> Result<(), BoxError> {
        Ok(())
    }

    /// Makes the text that is saved out of the one that was produced. The same text by default.
    ///
    /// # Errors
    /// Fail the attempt with phase `transform`.
    fn transform_final_text(
        &self,
        cx: &TurnContext,
        text: RawText,
    ) -> impl Future<Output = Result<String, BoxError>> + Send {
        async { Ok(text.into_string()) }
    }

    /// Makes the part that is kept out of one that was produced and is no text: reasoning, a tool call, a file, a source, data, a warning.
    /// `None` keeps nothing of it. The same part by default. Parts of a partial answer come by here too, before
    /// [`on_turn_failed`](Self::on_turn_failed). All calls of an attempt together are bounded by
    /// [`hook_timeout`](crate::ChatTurn::hook_timeout).
    ///
    /// # Errors
    /// Fail the attempt with phase `transform`; so does a part of text. Where the attempt has failed already they are collected, and no
    /// part but text is kept.
    fn transform_part(
        &self,
        cx: &TurnContext,
        part: AnswerPart,
    ) -> impl Future<Output = Result<Option<AnswerPart>, BoxError>> + Send {
        async { Ok(Some(part)) }
    }

    /// The answer was saved by this very attempt: runs after [`Persisted::Saved`] only, before the client is told. So it runs
    /// at most once over all attempts, and not at all where the process ends between the two.
    ///
    /// # Errors
    /// Are collected; the turn completes.
    fn on_turn_complete(
        &self,
        cx: &TurnContext,
        text: &FinalText,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        async { Ok(()) }
    }

    /// The attempt failed, with what there was of the text. Must not overwrite a saved message: a persist that failed may
    /// have committed, and another attempt may have succeeded.
    ///
    /// # Errors
    /// Are collected; the client is told of the turn's failure, not of this one.
    fn on_turn_failed(
        &self,
        cx: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        async { Ok(()) }
    }

    /// Runs last in every attempt that runs to its end, after the body has ended.
    ///
    /// # Errors
    /// Are collected.
    fn trace_flush(&self, cx: &TurnContext) -> impl Future<Output = Result<(), BoxError>> + Send {
        async { Ok(()) }
    }
}

/// What became of an answer that was to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Persisted {
    /// This attempt saved it.
    Saved,
    /// It was there already, under the same execution id.
    AlreadySaved,
}

impl<H: TurnHooks> TurnHooks for Arc<H> {
    fn persist_assistant_message(
        &self,
        cx: &TurnContext,
        text: &FinalText,
    ) -> impl Future<Output = Result<Persisted, BoxError>> + Send {
        H::persist_assistant_message(self, cx, text)
    }

    fn find_completed(
        &self,
        cx: &TurnContext,
    ) -> impl Future<Output = Result<Option<Answer>, BoxError>> + Send {
        H::find_completed(self, cx)
    }

    fn on_event(&self, cx: &TurnContext, event: &Event) -> Result<(), BoxError> {
        H::on_event(self, cx, event)
    }

    fn transform_final_text(
        &self,
        cx: &TurnContext,
        text: RawText,
    ) -> impl Future<Output = Result<String, BoxError>> + Send {
        H::transform_final_text(self, cx, text)
    }

    fn transform_part(
        &self,
        cx: &TurnContext,
        part: AnswerPart,
    ) -> impl Future<Output = Result<Option<AnswerPart>, BoxError>> + Send {
        H::transform_part(self, cx, part)
    }

    fn on_turn_complete(
        &self,
        cx: &TurnContext,
        text: &FinalText,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        H::on_turn_complete(self, cx, text)
    }

    fn on_turn_failed(
        &self,
        cx: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        H::on_turn_failed(self, cx, failure, partial)
    }

    fn trace_flush(&self, cx: &TurnContext) -> impl Future<Output = Result<(), BoxError>> + Send {
        H::trace_flush(self, cx)
    }
}
