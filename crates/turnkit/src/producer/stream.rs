use std::{collections::VecDeque, fmt, future::poll_fn, pin::Pin};

use futures_core::Stream;
use turnkit_wire::Event;

use super::{Failure, Produced, TurnProducer, tell_failure};
use crate::BoxError;

/// A producer out of a stream of what a producer answers: events, and [`Produced::Done`] once the answer is whole.
///
/// A stream that ends without `Done` was cut, and the turn fails with [`UPSTREAM_CUT`](crate::code::UPSTREAM_CUT): half an answer
/// is never saved as a whole one. Where the upstream says in its own way that it is through, [`translate`] is shorter.
///
/// An error of the stream fails the turn; a [`Failure`] among them keeps its code and what else it tells. After `Done` the stream
/// is not asked again. Cancelling the turn drops it; where that is not enough, implement [`TurnProducer`].
///
/// ```
/// use turnkit::{BoxError, Produced, producer, wire::write::Part};
///
/// let answers = [Part::new("prt_1").text_delta("Hello!").into(), Produced::Done { final_text: None }];
/// let producer = producer::from_stream(futures::stream::iter(answers.map(Ok::<_, BoxError>)));
/// # drop(producer);
/// ```
pub fn from_stream<S, E>(stream: S) -> StreamProducer<S>
where
    S: Stream<Item = Result<Produced, E>> + Send,
    E: Into<BoxError>,
{
    StreamProducer(Box::pin(stream))
}

/// See [`from_stream`].
pub struct StreamProducer<S>(Pin<Box<S>>);

impl<S, E> TurnProducer for StreamProducer<S>
where
    S: Stream<Item = Result<Produced, E>> + Send,
    E: Into<BoxError>,
{
    type Error = Failure;

    async fn next(&mut self) -> Result<Produced, Failure> {
        match poll_fn(|cx| self.0.as_mut().poll_next(cx)).await {
            Some(answer) => answer.map_err(Failure::from_error),
            None => Err(broke_off()),
        }
    }

    tell_failure!();
}

impl<S> fmt::Debug for StreamProducer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamProducer").finish_non_exhaustive()
    }
}

/// A producer of events that are all there: the answer is whole after the last one.
///
/// ```
/// use turnkit::{producer, wire::write::Part};
///
/// let producer = producer::from_events([Part::new("prt_1").text_delta("Hello!")]);
/// # drop(producer);
/// ```
pub fn from_events<I>(events: I) -> EventsProducer<I::IntoIter>
where
    I: IntoIterator<Item = Event>,
    I::IntoIter: Send,
{
    EventsProducer(events.into_iter())
}

/// See [`from_events`].
pub struct EventsProducer<I>(I);

impl<I: Iterator<Item = Event> + Send> TurnProducer for EventsProducer<I> {
    type Error = std::convert::Infallible;

    async fn next(&mut self) -> Result<Produced, Self::Error> {
        Ok(self.0.next().map_or(Produced::Done { final_text: None }, Produced::Event))
    }
}

impl<I> fmt::Debug for EventsProducer<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsProducer").finish_non_exhaustive()
    }
}

/// A producer that translates what its upstream streams, chunk by chunk, and knows an end from a cut.
///
/// `translate` is called for each chunk. It [sends](Translation::send) the events that the chunk is worth, any number of them, and
/// says [`whole`](Translation::whole) at the chunk by which the upstream tells that its answer is complete (a finish reason, `done`).
/// An upstream that ends before that was cut: the turn fails with [`UPSTREAM_CUT`](crate::code::UPSTREAM_CUT), and its partial
/// text is not saved as an answer. So a translation that never says `whole` never completes a turn.
///
/// An error of the upstream, or of `translate`, fails the turn after the events that were sent before it; a [`Failure`] keeps its
/// code and what else it tells. Cancelling the turn drops the upstream.
///
/// ```
/// use turnkit::{BoxError, producer, wire::write::Part};
///
/// struct Chunk {
///     text: &'static str,
///     is_last: bool,
/// }
///
/// let chunks = [Chunk { text: "Hello, ", is_last: false }, Chunk { text: "world.", is_last: true }];
/// let upstream = futures::stream::iter(chunks.map(Ok::<_, BoxError>));
/// let producer = producer::translate(upstream, |chunk, out| {
///     out.send(Part::new("prt_1").text_delta(chunk.text));
///     if chunk.is_last {
///         out.whole();
///     }
///     Ok(())
/// });
/// # drop(producer);
/// ```
pub fn translate<S, C, E, F>(upstream: S, translate: F) -> Translate<S, F>
where
    S: Stream<Item = Result<C, E>> + Send,
    E: Into<BoxError>,
    F: FnMut(C, &mut Translation) -> Result<(), BoxError> + Send,
{
    let out = Translation { events: VecDeque::new(), is_whole: false, is_finished: false };
    Translate { upstream: Box::pin(upstream), by: translate, out, failure: None }
}

/// See [`translate`].
pub struct Translate<S, F> {
    upstream: Pin<Box<S>>,
    by: F,
    out: Translation,
    /// What is told once the events before it are taken.
    failure: Option<Failure>,
}

/// Where the function that [`translate`] is given puts what it makes of a chunk.
#[derive(Debug)]
pub struct Translation {
    events: VecDeque<Event>,
    is_whole: bool,
    is_finished: bool,
}

impl Translation {
    /// Gives `event` to the turn, after those that were sent before.
    pub fn send(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// The upstream's answer is complete: from now on its end is the end, and no cut. It is read until then, because more may
    /// follow (the tokens that were used, say), and an error is still an error.
    pub fn whole(&mut self) {
        self.is_whole = true;
    }

    /// The upstream's answer is complete, and nothing more is read from it: for an upstream that stays open.
    pub fn finish(&mut self) {
        self.is_finished = true;
    }
}

impl<S, C, E, F> TurnProducer for Translate<S, F>
where
    S: Stream<Item = Result<C, E>> + Send,
    E: Into<BoxError>,
    F: FnMut(C, &mut Translation) -> Result<(), BoxError> + Send,
{
    type Error = Failure;

    async fn next(&mut self) -> Result<Produced, Failure> {
        loop {
            if let Some(event) = self.out.events.pop_front() {
                return Ok(Produced::Event(event));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.out.is_finished {
                return Ok(Produced::Done { final_text: None });
            }
            let chunk = poll_fn(|cx| self.upstream.as_mut().poll_next(cx)).await;
            let Some(chunk) = chunk else {
                if !self.out.is_whole {
                    return Err(broke_off());
                }
                return Ok(Produced::Done { final_text: None });
            };
            let translated = chunk.map_err(Into::into);
            let translated = translated.and_then(|chunk| (self.by)(chunk, &mut self.out));
            self.failure = translated.err().map(Failure::from_error);
        }
    }

    tell_failure!();
}

impl<S, F> fmt::Debug for Translate<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translate").field("out", &self.out).finish_non_exhaustive()
    }
}

fn broke_off() -> Failure {
    Failure::cut("the answer broke off before it was whole")
}
