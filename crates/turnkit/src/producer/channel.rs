use std::{error::Error, fmt, future::poll_fn, pin::Pin};

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use turnkit_wire::Event;

use super::{Failure, Produced, TurnProducer, tell_failure};

/// How many events wait for the turn before a [`Sender`] waits too: these, and the one that each sender may always have.
const BUFFER: usize = 15;

/// A producer whose events a task pushes, of any runtime: the [`Sender`] waits where the turn is 16 events behind.
///
/// The turn ends as the sender says: [`finish`](Sender::finish) is a whole answer, [`fail`](Sender::fail) a failure. A sender that
/// is dropped without a word, because its task returned early, panicked or was aborted, is a cut: the turn fails with
/// [`UPSTREAM_CUT`](crate::code::UPSTREAM_CUT), after the events that were sent. An event costs one allocation.
///
/// The task outlives the turn where it wants to. [`Sender::stopped`] tells it that nobody listens any more: the turn was
/// cancelled, or its driver was dropped.
///
/// ```
/// use turnkit::{producer, wire::write::Part};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), turnkit::BoxError> {
/// let (mut sender, producer) = producer::channel();
/// tokio::spawn(async move {
///     sender.send(Part::new("prt_1").text_delta("Hello!")).await?;
///     sender.finish();
///     Ok::<_, producer::Stopped>(())
/// });
/// # let (_body, driver) = turnkit_testkit::turn().start(producer, turnkit_testkit::Recorder::new());
/// # assert_eq!(driver.await.result?.as_str(), "Hello!");
/// # Ok(()) }
/// ```
pub fn channel() -> (Sender, Channel) {
    let (events, taken) = mpsc::channel(BUFFER);
    let (end, ended) = oneshot::channel();
    (Sender { events, end }, Channel { events: taken, end: ended })
}

/// The end of a [`channel`] that a task has.
#[must_use = "a sender that is dropped fails its turn"]
pub struct Sender {
    events: mpsc::Sender<Event>,
    end: oneshot::Sender<Result<(), Failure>>,
}

impl Sender {
    /// Gives `event` to the turn, once there is room for it. Dropped before it ends, it has sent nothing.
    ///
    /// # Errors
    /// [`Stopped`]: the turn takes no more.
    pub async fn send(&mut self, event: Event) -> Result<(), Stopped> {
        poll_fn(|cx| self.events.poll_ready(cx)).await.map_err(|_| Stopped)?;
        self.events.start_send(event).map_err(|_| Stopped)
    }

    /// The answer is whole. The turn goes on to save it once it has taken every event.
    pub fn finish(self) {
        // Nobody may be there to hear it any more.
        self.end.send(Ok(())).ok();
    }

    /// The turn fails, once it has taken every event. Any error is a [`Failure`], by [`Failure::from_error`].
    pub fn fail(self, failure: Failure) {
        self.end.send(Err(failure)).ok();
    }

    /// Ends once the turn takes no more events: to stop the work behind it, where it is to be stopped.
    pub async fn stopped(&mut self) {
        poll_fn(|cx| self.end.poll_canceled(cx)).await;
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = self.end.is_canceled();
        f.debug_struct("Sender").field("stopped", &stopped).finish_non_exhaustive()
    }
}

/// The turn takes no more events: it was cancelled, or its driver was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("give an event to the turn: it takes no more")
    }
}

impl Error for Stopped {}

/// The end of a [`channel`] that a turn has.
pub struct Channel {
    events: mpsc::Receiver<Event>,
    end: oneshot::Receiver<Result<(), Failure>>,
}

impl TurnProducer for Channel {
    type Error = Failure;

    async fn next(&mut self) -> Result<Produced, Failure> {
        if let Some(event) = poll_fn(|cx| Pin::new(&mut self.events).poll_next(cx)).await {
            return Ok(Produced::Event(event));
        }
        match (&mut self.end).await {
            Ok(end) => end.map(|()| Produced::Done { final_text: None }),
            Err(oneshot::Canceled) => {
                Err(Failure::cut("the task behind the answer ended before it was whole"))
            }
        }
    }

    async fn cancel(&mut self) {
        self.events.close();
        self.end.close();
    }

    tell_failure!();
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

/// A producer that fails at once: for a turn whose agent could not even be asked.
///
/// The client gets `session.run.started`, `error` and `session.run.failed`, and the product is told as of any other failure.
///
/// ```
/// # use turnkit_testkit::{Recorder, turn};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let producer = turnkit::producer::failed("no_model", "no model is configured");
/// let (_body, driver) = turn().start(producer, Recorder::new());
/// assert_eq!(driver.await.result.unwrap_err().code(), Some("no_model"));
/// # }
/// ```
pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Failed {
    Failed(Some(Failure::new(code, message)))
}

/// See [`failed`]. Made of a [`Failure`] it tells all that one does.
#[derive(Debug)]
pub struct Failed(Option<Failure>);

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self(Some(failure))
    }
}

impl TurnProducer for Failed {
    type Error = Failure;

    async fn next(&mut self) -> Result<Produced, Failure> {
        // It is not asked again (PROTOCOL 2.3).
        Err(self.0.take().unwrap_or_else(|| Failure::cut("the producer has failed already")))
    }

    tell_failure!();
}
