//! Where a turn's events come from.

mod boxed;
mod channel;
mod failure;
mod stream;

use std::future::Future;

use turnkit_wire::Event;

pub use self::{
    boxed::{BoxProducer, BoxProducerError},
    channel::{Channel, Failed, Sender, Stopped, channel, failed},
    failure::Failure,
    stream::{
        EventsProducer, StreamProducer, Translate, Translation, from_events, from_stream, translate,
    },
};
use crate::BoxError;

/// Where the events of one turn come from: an agent behind HTTP, a model's stream, a script (PROTOCOL 2.3).
///
/// # Contract
/// - [`next`](Self::next) gives the next event, then [`Done`](Produced::Done) after the last one, or an error instead. It is
///   not called again after `Done` or an error.
/// - The engine never drops a pending `next` to call it again, so it need not be cancel-safe. It drops one only to stop the
///   turn: then [`cancel`](Self::cancel) follows, or the producer itself is dropped.
/// - Events go to the client byte-exact, in order. Do not send `session.run.*`: those are the engine's, and are not
///   forwarded. An `error`, `execution.failed` or `execution.cancelled` makes the turn fail.
/// - A producer that is dropped leaves the work behind it alive, where that can live on: a driver is also dropped when its
///   process shuts down, and a retry attaches to the same work.
/// - It is dropped once it has ended or was cancelled, before the next hook runs, so no hook keeps its connection open.
/// - A panic fails the turn with code `panic`; its text is not shown.
///
/// An `async fn next` in the impl is all that is needed:
///
/// ```
/// use turnkit::{Event, Produced, TurnProducer};
///
/// struct Hello(u32);
///
/// impl TurnProducer for Hello {
///     type Error = turnkit::BoxError;
///
///     async fn next(&mut self) -> Result<Produced, Self::Error> {
///         self.0 += 1;
///         Ok(match self.0 {
///             1 => Event::new("result", &serde_json::json!({ "finalText": "Hello!" }))?.into(),
///             _ => Produced::Done { final_text: None },
///         })
///     }
/// }
/// ```
///
/// [`translate`] makes one of a model's stream, [`channel`] of a task, [`from_events`] of events that are all there. `turnkit-testkit`
/// has `producer_contract!` and, for those that translate, `translating_contract!`, which check these rules.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not produce a turn's events",
    note = "implement `TurnProducer`, or make one of a `Stream` (`turnkit::producer::translate`, `from_stream`) or a task (`channel`)"
)]
pub trait TurnProducer: Send {
    /// Why no more events come. Its `Display` is what the client reads; its sources are not sent.
    type Error: Into<BoxError> + Send;

    /// The next event, or [`Produced::Done`] after the last.
    ///
    /// # Errors
    /// The turn fails with phase `produce`; what came so far is the partial text.
    fn next(&mut self) -> impl Future<Output = Result<Produced, Self::Error>> + Send;

    /// The turn is being stopped: stop the work behind it. The engine waits at most 5 s. Does nothing by default.
    fn cancel(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The user's prompt, where the producer knows it. Asked once, before the first [`next`](Self::next). None by default.
    ///
    /// Some agents echo it: a text part that repeats it counts in no assembled text once a part of another `messageID` has
    /// followed (PROTOCOL 4.1).
    fn prompt(&self) -> Option<&str> {
        None
    }

    /// A word for programs that names `error`: the `code` of `error` and `session.run.failed`. None by default.
    #[expect(unused_variables, reason = "the name is for those who implement it")]
    fn error_code(error: &Self::Error) -> Option<&str> {
        None
    }

    /// Whether the same turn may be tried again after `error`: told to the client as `retryable`. False by default.
    #[expect(unused_variables, reason = "the name is for those who implement it")]
    fn is_retryable(error: &Self::Error) -> bool {
        false
    }

    /// Whether a *new* turn may help after `error`, because its cause is likely to pass: told to the client as `temporary`, for
    /// its user to read. Nothing is repeated for it. False by default.
    #[expect(unused_variables, reason = "the name is for those who implement it")]
    fn is_temporary(error: &Self::Error) -> bool {
        false
    }

    /// Whether `error` says that the events are lost, so that an answer that an earlier attempt has saved may stand for them: asked
    /// where the attempt [prefers the log](crate::ChatTurn::prefer_log). False by default.
    #[expect(unused_variables, reason = "the name is for those who implement it")]
    fn is_lost(error: &Self::Error) -> bool {
        false
    }
}

/// What a producer answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Produced {
    /// One event, forwarded as it is.
    Event(Event),
    /// There are no more events.
    Done {
        /// The whole answer, where the producer knows it. If it is not blank, it wins over every text that the engine found
        /// in the events.
        final_text: Option<String>,
    },
}

impl From<Event> for Produced {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// What a [`TurnProducer`] whose error is a [`Failure`] says of it.
macro_rules! tell_failure {
    () => {
        fn error_code(error: &Failure) -> Option<&str> {
            error.code()
        }

        fn is_retryable(error: &Failure) -> bool {
            error.is_retryable()
        }

        fn is_temporary(error: &Failure) -> bool {
            error.is_temporary()
        }
    };
}
use tell_failure;
