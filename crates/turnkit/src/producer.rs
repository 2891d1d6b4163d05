//! Where a turn's events come from.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
};

use futures_core::Stream;
use turnkit_wire::Event;

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
/// `turnkit-testkit` has `producer_contract!`, which checks these rules.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not produce a turn's events",
    note = "implement `TurnProducer`, or wrap a `Stream` of `Result<Event, E>` with `turnkit::producer::from_stream`"
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

/// A producer out of any stream of events; the stream's end is [`Produced::Done`] without a text.
///
/// An error of the stream fails the turn without a code and not retryable, and cancelling the turn drops the stream. Where that
/// is not enough, implement [`TurnProducer`].
///
/// ```
/// use std::convert::Infallible;
/// use turnkit::{Event, producer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = Event::new("result", &serde_json::json!({ "finalText": "Hello!" }))?;
/// let producer = producer::from_stream(futures::stream::iter([Ok::<_, Infallible>(event)]));
/// # Ok(()) }
/// ```
pub fn from_stream<S, E>(stream: S) -> StreamProducer<S>
where
    S: Stream<Item = Result<Event, E>> + Send,
    E: Into<BoxError> + Send,
{
    StreamProducer(Box::pin(stream))
}

/// See [`from_stream`].
pub struct StreamProducer<S>(Pin<Box<S>>);

impl<S, E> TurnProducer for StreamProducer<S>
where
    S: Stream<Item = Result<Event, E>> + Send,
    E: Into<BoxError> + Send,
{
    type Error = E;

    async fn next(&mut self) -> Result<Produced, E> {
        match poll_fn(|cx| self.0.as_mut().poll_next(cx)).await {
            Some(event) => event.map(Produced::Event),
            None => Ok(Produced::Done { final_text: None }),
        }
    }
}

impl<S> fmt::Debug for StreamProducer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamProducer").finish_non_exhaustive()
    }
}

/// A producer of any type, for hosts that choose one at run time. Costs one allocation an event.
pub struct BoxProducer(Box<dyn ErasedProducer>);

impl BoxProducer {
    /// Erases the type of `producer`. Its errors keep their code and whether they are retryable.
    pub fn new(producer: impl TurnProducer + 'static) -> Self {
        Self(Box::new(producer))
    }
}

impl TurnProducer for BoxProducer {
    type Error = BoxProducerError;

    fn next(&mut self) -> impl Future<Output = Result<Produced, BoxProducerError>> + Send {
        self.0.next()
    }

    fn cancel(&mut self) -> impl Future<Output = ()> + Send {
        self.0.cancel()
    }

    fn prompt(&self) -> Option<&str> {
        self.0.prompt()
    }

    fn error_code(error: &BoxProducerError) -> Option<&str> {
        error.code.as_deref()
    }

    fn is_retryable(error: &BoxProducerError) -> bool {
        error.retryable
    }
}

impl fmt::Debug for BoxProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxProducer").finish_non_exhaustive()
    }
}

/// The error of a [`BoxProducer`]. Converts into the error of the producer inside.
#[derive(Debug)]
pub struct BoxProducerError {
    source: BoxError,
    code: Option<String>,
    retryable: bool,
}

impl BoxProducerError {
    fn new<P: TurnProducer>(error: P::Error) -> Self {
        Self {
            code: P::error_code(&error).map(str::to_owned),
            retryable: P::is_retryable(&error),
            source: error.into(),
        }
    }
}

impl From<BoxProducerError> for BoxError {
    fn from(error: BoxProducerError) -> Self {
        error.source
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

trait ErasedProducer: Send {
    fn next(&mut self) -> BoxFuture<'_, Result<Produced, BoxProducerError>>;
    fn cancel(&mut self) -> BoxFuture<'_, ()>;
    fn prompt(&self) -> Option<&str>;
}

impl<P: TurnProducer> ErasedProducer for P {
    fn next(&mut self) -> BoxFuture<'_, Result<Produced, BoxProducerError>> {
        Box::pin(async { TurnProducer::next(self).await.map_err(BoxProducerError::new::<P>) })
    }

    fn cancel(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(TurnProducer::cancel(self))
    }

    fn prompt(&self) -> Option<&str> {
        TurnProducer::prompt(self)
    }
}
