//! What a product does with its turns.

use std::future::Future;

use futures_core::future::BoxFuture;
use turnkit::{AnswerPart, BoxError, RawText};
use turnkit_wire::Event;

use crate::{Answer, Ending, Principal, Turn, first_words};

/// What a product does with its turns, beside what it writes in its store's transactions (PROTOCOL 2.2, 4.2). One object
/// for all turns; each method is told which one.
///
/// What must happen exactly once (a bill, a quota) does not belong here: it belongs into the store's own transactions
/// ([`sqlite::InTransaction`](crate::sqlite::InTransaction)).
///
/// A panic, and a run of over 30 s, are failures like an error. `()` implements it and does nothing.
#[expect(unused_variables, reason = "the names are for those who implement it")]
pub trait Hooks: Send + Sync + 'static {
    /// What a session is called, made of its first message: its [first words](first_words) by default. It runs before a turn is accepted,
    /// and what it gives counts where the session is not called anything; spaces are joined, control characters go, and of over 200
    /// characters the rest. A title that takes time (a model's) is better set later, by
    /// [`Chat::update_session`](crate::Chat::update_session).
    fn title(&self, owner: &Principal, message: &str) -> String {
        first_words(message)
    }

    /// Makes the text that is saved out of the one that was produced; the same text by default. Runs in every attempt that may
    /// save, so it may run more than once for a turn, and must give the same text each time.
    ///
    /// # Errors
    /// Fail the attempt, retryable: the turn stays open, and another attempt asks again.
    fn transform_final_text(
        &self,
        turn: &Turn,
        text: RawText,
    ) -> impl Future<Output = Result<String, BoxError>> + Send {
        async { Ok(text.into_string()) }
    }

    /// Makes the part that is kept out of one that was produced and is no text: reasoning, a tool call, a file, a source, data, a warning.
    /// `None` keeps nothing of it; the same part by default. What there is of an answer that failed or was stopped comes by here too. It
    /// may run more than once for a part, and must give the same each time.
    ///
    /// # Errors
    /// Fail the attempt, retryable, as in [`transform_final_text`](Self::transform_final_text). Where it has failed already, nothing but
    /// text is kept.
    fn transform_part(
        &self,
        turn: &Turn,
        part: AnswerPart,
    ) -> impl Future<Output = Result<Option<AnswerPart>, BoxError>> + Send {
        async { Ok(Some(part)) }
    }

    /// Sees each line of the attempt that drives the turn, in order. A turn that is taken over by another worker is read again
    /// from its first line. It runs between events: hand the event on (a clone is a reference count) rather than work here.
    fn on_event(&self, turn: &Turn, event: &Event) {}

    /// The answer was saved, by this very attempt and before its client is told: at most once for a turn, and not at all where
    /// the process ends between the two.
    fn on_turn_complete(&self, turn: &Turn, answer: &Answer) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The turn has ended without a whole answer, and this process has just written that down. A whole answer may still come
    /// later.
    fn on_turn_ended(&self, turn: &Turn, ending: &Ending) -> impl Future<Output = ()> + Send {
        async {}
    }
}

impl Hooks for () {}

/// [`Hooks`] of any type. A [`Chat`](crate::Chat) has no type parameter.
pub(crate) trait ErasedHooks: Send + Sync {
    fn title(&self, owner: &Principal, message: &str) -> String;
    fn transform_final_text<'a>(
        &'a self,
        turn: &'a Turn,
        text: RawText,
    ) -> BoxFuture<'a, Result<String, BoxError>>;
    fn transform_part<'a>(
        &'a self,
        turn: &'a Turn,
        part: AnswerPart,
    ) -> BoxFuture<'a, Result<Option<AnswerPart>, BoxError>>;
    fn on_event(&self, turn: &Turn, event: &Event);
    fn on_turn_complete<'a>(&'a self, turn: &'a Turn, answer: &'a Answer) -> BoxFuture<'a, ()>;
    fn on_turn_ended<'a>(&'a self, turn: &'a Turn, ending: &'a Ending) -> BoxFuture<'a, ()>;
}

impl<H: Hooks> ErasedHooks for H {
    fn title(&self, owner: &Principal, message: &str) -> String {
        Hooks::title(self, owner, message)
    }

    fn transform_final_text<'a>(
        &'a self,
        turn: &'a Turn,
        text: RawText,
    ) -> BoxFuture<'a, Result<String, BoxError>> {
        Box::pin(Hooks::transform_final_text(self, turn, text))
    }

    fn transform_part<'a>(
        &'a self,
        turn: &'a Turn,
        part: AnswerPart,
    ) -> BoxFuture<'a, Result<Option<AnswerPart>, BoxError>> {
        Box::pin(Hooks::transform_part(self, turn, part))
    }

    fn on_event(&self, turn: &Turn, event: &Event) {
        Hooks::on_event(self, turn, event);
    }

    fn on_turn_complete<'a>(&'a self, turn: &'a Turn, answer: &'a Answer) -> BoxFuture<'a, ()> {
        Box::pin(Hooks::on_turn_complete(self, turn, answer))
    }

    fn on_turn_ended<'a>(&'a self, turn: &'a Turn, ending: &'a Ending) -> BoxFuture<'a, ()> {
        Box::pin(Hooks::on_turn_ended(self, turn, ending))
    }
}
