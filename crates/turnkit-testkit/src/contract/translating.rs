//! What every producer must do that makes its events of something else: a model's stream, a program's output.
//!
//! Its events are not its upstream's, so they cannot be compared with anything. What can be: the answer that is in a recording of
//! the upstream, and that half a recording is never taken for a whole one. [`translating_contract!`](crate::translating_contract)
//! makes one test of each rule; [`check`] runs all of them.

use std::{
    fmt,
    future::{poll_fn, ready},
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, future::join, stream::BoxStream};
use turnkit::{BoxError, Event, Produced, TurnProducer};

use super::{hint, poll_times, rule::Rule};
use crate::{Call, Recorder, turn};

/// The chunks of an upstream, as the contract plays them to a producer.
pub type Chunks<C> = BoxStream<'static, Result<C, BoxError>>;

/// What an upstream was recorded to send, the answer that is in it, and how the producer under test is put over it.
///
/// ```
/// use turnkit::{producer, wire::write::Part};
/// use turnkit_testkit::{Recording, contract::translating};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let recording = || {
///     Recording::new(["Hello, ", "world.", "[DONE]"], "Hello, world.", |chunks| {
///         producer::translate(chunks, |chunk, out| {
///             if chunk == "[DONE]" {
///                 out.whole();
///             } else {
///                 out.send(Part::new("prt_1").text_delta(chunk));
///             }
///             Ok(())
///         })
///     })
/// };
/// translating::check(recording).await;
/// # }
/// ```
pub struct Recording<C, P> {
    chunks: Vec<C>,
    whole_after: usize,
    text: String,
    produce: Box<dyn FnMut(Chunks<C>) -> P + Send>,
}

impl<C, P> Recording<C, P>
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    /// A recording of whole chunks, the last of which says that the answer is complete. `text` is that answer; `produce` puts a
    /// producer over any part of the recording.
    pub fn new(
        chunks: impl IntoIterator<Item = C>,
        text: &str,
        produce: impl FnMut(Chunks<C>) -> P + Send + 'static,
    ) -> Self {
        let chunks: Vec<C> = chunks.into_iter().collect();
        Self { whole_after: chunks.len(), chunks, text: text.into(), produce: Box::new(produce) }
    }

    /// The answer is complete after so many chunks already; more may follow it, as the tokens that were used.
    #[must_use]
    pub fn whole_after(mut self, chunks: usize) -> Self {
        self.whole_after = chunks;
        self
    }

    /// A producer over the first `chunks`, which then end as `end` says; and what can be asked about its upstream.
    fn produce(&mut self, chunks: usize, end: End) -> (P, Weak<AtomicUsize>) {
        assert!(
            (2..=self.chunks.len()).contains(&self.whole_after),
            "a recording needs a chunk before the one that makes it whole, or there is nothing to cut"
        );
        let taken = Arc::new(AtomicUsize::new(0));
        let watch = Arc::downgrade(&taken);
        let chunks = self.chunks[..chunks].to_vec();
        let upstream = Upstream { chunks, end, taken, was_late: false };
        ((self.produce)(upstream.boxed()), watch)
    }
}

impl<P: TurnProducer + 'static> Recording<Bytes, P> {
    /// A recording of bytes, which come one by one: cut at every byte, also inside a character.
    pub fn of_bytes(
        bytes: &[u8],
        text: &str,
        produce: impl FnMut(Chunks<Bytes>) -> P + Send + 'static,
    ) -> Self {
        Self::new(bytes.chunks(1).map(Bytes::copy_from_slice), text, produce)
    }
}

impl<C, P> fmt::Debug for Recording<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("chunks", &self.chunks.len())
            .field("whole_after", &self.whole_after)
            .finish_non_exhaustive()
    }
}

/// Checks a [`TurnProducer`] that makes its events of something else: one test a rule, in a module `translating_contract`.
///
/// | rule | broken by a producer that |
/// |---|---|
/// | [`the_whole_recording_gives_its_answer`] | sends text twice, loses some, or does not see the end |
/// | [`a_cut_at_any_chunk_fails_the_turn`] | takes the upstream's end for the answer's |
/// | [`an_error_at_any_chunk_fails_the_turn`] | swallows it, or what came before it |
/// | [`late_chunks_wake_its_task`] | returns `Pending` and keeps no waker |
/// | [`it_reads_no_faster_than_it_is_asked`] | reads its upstream into a queue without a bound |
/// | [`cancelling_lets_the_upstream_go`] | leaves a task that waits for its upstream |
/// | [`it_leaves_the_envelope_to_the_engine`] | sends `session.run.*` |
///
/// [`the_whole_recording_gives_its_answer`]: crate::contract::translating::the_whole_recording_gives_its_answer
/// [`a_cut_at_any_chunk_fails_the_turn`]: crate::contract::translating::a_cut_at_any_chunk_fails_the_turn
/// [`an_error_at_any_chunk_fails_the_turn`]: crate::contract::translating::an_error_at_any_chunk_fails_the_turn
/// [`late_chunks_wake_its_task`]: crate::contract::translating::late_chunks_wake_its_task
/// [`it_reads_no_faster_than_it_is_asked`]: crate::contract::translating::it_reads_no_faster_than_it_is_asked
/// [`cancelling_lets_the_upstream_go`]: crate::contract::translating::cancelling_lets_the_upstream_go
/// [`it_leaves_the_envelope_to_the_engine`]: crate::contract::translating::it_leaves_the_envelope_to_the_engine
///
/// Give it an expression that makes a [`Recording`](crate::Recording). The calling crate needs `tokio` with its features `macros`
/// and `rt` among its development dependencies. A step that takes longer than 20 s fails its rule. For a second producer call it in
/// a module of its own.
#[macro_export]
macro_rules! translating_contract {
    ($recording:expr) => {
        mod translating_contract {
            use super::*;

            $crate::translating_contract! { @rules $recording;
                the_whole_recording_gives_its_answer,
                a_cut_at_any_chunk_fails_the_turn,
                an_error_at_any_chunk_fails_the_turn,
                late_chunks_wake_its_task,
                it_reads_no_faster_than_it_is_asked,
                cancelling_lets_the_upstream_go,
                it_leaves_the_envelope_to_the_engine,
            }
        }
    };
    (@rules $recording:expr; $($rule:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::contract::translating::$rule($recording).await;
            }
        )*
    };
}

/// Checks every rule, one after another: for one test of all of them. `recording` makes one anew for each.
///
/// # Panics
/// Where a rule is broken, as every function of this module does.
pub async fn check<C, P>(recording: impl Fn() -> Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    the_whole_recording_gives_its_answer(recording()).await;
    a_cut_at_any_chunk_fails_the_turn(recording()).await;
    an_error_at_any_chunk_fails_the_turn(recording()).await;
    late_chunks_wake_its_task(recording()).await;
    it_reads_no_faster_than_it_is_asked(recording()).await;
    cancelling_lets_the_upstream_go(recording()).await;
    it_leaves_the_envelope_to_the_engine(recording()).await;
}

/// A turn over the whole recording saves its answer, once.
///
/// Broken by a producer that sends a snapshot as a delta (the text is there twice), drops a chunk, or does not see the chunk by
/// which the upstream says that it is through.
///
/// # Panics
/// Where the rule is broken.
pub async fn the_whole_recording_gives_its_answer<C, P>(mut recording: Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let rule = Rule("the_whole_recording_gives_its_answer");
    let whole = recording.chunks.len();
    take_answer(rule, &mut recording, whole).await;
}

/// A turn whose upstream ends before it has said that its answer is complete fails, and nothing is saved: at each chunk. Where it ends
/// after that, the answer is whole.
///
/// Broken by a producer that is `Done` at any end of its upstream.
///
/// # Panics
/// Where the rule is broken.
pub async fn a_cut_at_any_chunk_fails_the_turn<C, P>(mut recording: Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let rule = Rule("a_cut_at_any_chunk_fails_the_turn");
    for chunks in 0..=recording.chunks.len() {
        if chunks < recording.whole_after {
            take_failure(rule, &mut recording, chunks, End::Ended).await;
        } else {
            take_answer(rule, &mut recording, chunks).await;
        }
    }
}

/// A turn whose upstream fails before its answer is complete fails, with an error that says something and after all that came before
/// it: at each chunk.
///
/// Broken by a producer that ends its loop at an error, or throws its buffer away.
///
/// # Panics
/// Where the rule is broken.
pub async fn an_error_at_any_chunk_fails_the_turn<C, P>(mut recording: Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let rule = Rule("an_error_at_any_chunk_fails_the_turn");
    for chunks in 0..recording.whole_after {
        let partial = take_failure(rule, &mut recording, chunks, End::Failed).await;
        let cut = take_failure(rule, &mut recording, chunks, End::Ended).await;
        if partial != cut {
            let at = format!("where the upstream fails after {chunks} chunks");
            rule.broken(
                &at,
                &format!("the text {cut:?}"),
                &format!("{partial:?}"),
                hint::LOST_TEXT,
            );
        }
    }
}

/// Wakes the task that waits in `next` when a chunk comes late.
///
/// Broken by a producer whose `poll` returns `Pending` without keeping the waker.
///
/// # Panics
/// Where the rule is broken.
pub async fn late_chunks_wake_its_task<C, P>(mut recording: Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let rule = Rule("late_chunks_wake_its_task");
    let (producer, _) = recording.produce(recording.chunks.len(), End::LateEnded);
    // A task of its own, so that nothing but the producer's own wakes lets it go on.
    let events = tokio::spawn(async move { take_events(rule, producer).await }).await;
    if let Err(error) = events {
        resume_unwind(error.into_panic());
    }
}

/// Reads its upstream no faster than it is asked for events, but for a bounded number of chunks.
///
/// Broken by a producer with a task that reads its upstream into a queue without a bound.
///
/// # Panics
/// Where the rule is broken.
pub async fn it_reads_no_faster_than_it_is_asked<C, P>(mut recording: Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let rule = Rule("it_reads_no_faster_than_it_is_asked");
    let repeated = recording.whole_after - 1;
    let many = 256 * repeated;
    let (mut producer, taken) = recording.produce(repeated, End::Repeats { chunks: many });
    let mut first = None;
    {
        let mut next = pin!(producer.next());
        for _ in 0..100 {
            if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
                first = Some(answer.is_ok());
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let read = taken.upgrade().map_or(0, |taken| taken.load(Ordering::Relaxed));
    // Without an event, the chunks are worth none, and reading on is all that it can do.
    if first == Some(true) && read >= many {
        let at = "once asked for a single event";
        let came = format!("all {read} chunks were read");
        rule.broken(at, "an upstream that waits", &came, hint::READS_AHEAD);
    }
}

/// Ends its `cancel` while the upstream is silent and open, and has let go of the upstream once it is dropped then.
///
/// Broken by a producer whose task waits for its upstream and for nothing else.
///
/// # Panics
/// Where the rule is broken.
pub async fn cancelling_lets_the_upstream_go<C, P>(mut recording: Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let rule = Rule("cancelling_lets_the_upstream_go");
    for chunks in 0..recording.whole_after {
        let (mut producer, upstream) = recording.produce(chunks, End::Open);
        poll_times(producer.next(), 3).await;
        let at = format!("in `cancel`, after {chunks} chunks");
        rule.in_time(&at, "its end", hint::LONG_CANCEL, producer.cancel()).await;
        drop(producer);
        let at = format!("once cancelled after {chunks} chunks and dropped");
        let released = async {
            while upstream.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let wanted = "the upstream to be dropped";
        rule.in_time(&at, wanted, hint::KEEPS_UPSTREAM, released).await;
    }
}

/// Sends no `session.run.*`: the engine makes them, and drops those of a producer.
///
/// # Panics
/// Where the rule is broken.
pub async fn it_leaves_the_envelope_to_the_engine<C, P>(mut recording: Recording<C, P>)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let rule = Rule("it_leaves_the_envelope_to_the_engine");
    let (producer, _) = recording.produce(recording.chunks.len(), End::Ended);
    for (index, event) in take_events(rule, producer).await.iter().enumerate() {
        if event.kind().starts_with("session.run.") {
            let at = format!("at event {}", index + 1);
            rule.broken(&at, "an event of the answer", event.as_json(), hint::ENVELOPE);
        }
    }
}

/// A turn over the first `chunks` saves the recording's answer.
async fn take_answer<C, P>(rule: Rule, recording: &mut Recording<C, P>, chunks: usize)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let at = format!("where the upstream ends after {chunks} chunks");
    let wanted = format!("the answer {:?}", recording.text);
    let (result, _) = drive(rule, recording, chunks, End::Ended, &wanted).await;
    let text = recording.text.as_str();
    let (came, look_for) = match &result {
        Ok(saved) if saved == text => return,
        Ok(saved) if text.starts_with(saved) => (saved, hint::LOST_TEXT),
        Ok(saved) if saved.len() > text.len() => (saved, hint::DOUBLED),
        Ok(saved) => (saved, hint::OTHER_TEXT),
        Err(message) => (message, hint::NEVER_WHOLE),
    };
    rule.broken(&at, &wanted, &format!("{came:?}"), look_for)
}

/// A turn over the first `chunks` and then `end` fails, with a part of the recording's answer. Gives that part.
async fn take_failure<C, P>(
    rule: Rule,
    recording: &mut Recording<C, P>,
    chunks: usize,
    end: End,
) -> String
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let (ends, look_for) = match end {
        End::Failed => ("fails", hint::SWALLOWED),
        _ => ("ends", hint::HALF_SAVED),
    };
    let at = format!("where the upstream {ends} after {chunks} chunks");
    let wanted = "a turn that fails";
    let (result, partial) = drive(rule, recording, chunks, end, wanted).await;
    match result {
        Ok(saved) => rule.broken(&at, wanted, &format!("the answer {saved:?}"), look_for),
        Err(message) if message.trim().is_empty() => {
            rule.broken(&at, "an error that says what failed", &format!("{message:?}"), hint::MUTE)
        }
        Err(_) if !recording.text.starts_with(&partial) => {
            let wanted = format!("a beginning of {:?}", recording.text);
            rule.broken(&at, &wanted, &format!("{partial:?}"), hint::OTHER_TEXT)
        }
        Err(_) => partial,
    }
}

/// A whole turn: the text that was saved, or the failure's message; and the partial text of a failure.
async fn drive<C, P>(
    rule: Rule,
    recording: &mut Recording<C, P>,
    chunks: usize,
    end: End,
    wanted: &str,
) -> (Result<String, String>, String)
where
    C: Clone + Send + 'static,
    P: TurnProducer + 'static,
{
    let (producer, _) = recording.produce(chunks, end);
    let hooks = Arc::new(Recorder::new());
    let (body, driver) = turn().keep_alive(Duration::MAX).start(producer, Arc::clone(&hooks));
    let read = body.for_each(|_| ready(()));
    let at = format!("in a turn over {chunks} chunks");
    let ended = join(read, driver).map(|((), outcome)| outcome);
    let outcome = rule.in_time(&at, wanted, hint::STUCK_AT_END, ended).await;
    let result = outcome.result.map(|text| text.as_str().to_owned());
    let partial = hooks.calls().into_iter().find_map(|call| match call {
        Call::Failed { partial, .. } => Some(partial),
        _ => None,
    });
    (result.map_err(|failure| failure.to_string()), partial.unwrap_or_default())
}

/// All events of a producer whose upstream is whole.
async fn take_events<P: TurnProducer>(rule: Rule, mut producer: P) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let at = format!("after {} events", events.len());
        let wanted = "the next event, or `Done`";
        match rule.in_time(&at, wanted, hint::STUCK, producer.next()).await {
            Ok(Produced::Event(event)) => events.push(event),
            Ok(Produced::Done { .. }) => return events,
            Err(error) => {
                let error: BoxError = error.into();
                rule.broken(&at, wanted, &format!("the error {error}"), hint::NEVER_WHOLE)
            }
        }
    }
}

/// How the chunks of an upstream end.
#[derive(Clone, Copy)]
enum End {
    Ended,
    /// By its end, and each chunk is pending once before it comes.
    LateEnded,
    Failed,
    /// Not at all: it stays silent and open.
    Open,
    /// They begin again, for so many chunks in all, and then it stays silent and open.
    Repeats {
        chunks: usize,
    },
}

impl<C> Unpin for Upstream<C> {}

struct Upstream<C> {
    chunks: Vec<C>,
    end: End,
    taken: Arc<AtomicUsize>,
    was_late: bool,
}

impl<C: Clone> Stream for Upstream<C> {
    type Item = Result<C, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let upstream = self.get_mut();
        if matches!(upstream.end, End::LateEnded) {
            upstream.was_late = !upstream.was_late;
            if upstream.was_late {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let taken = upstream.taken.fetch_add(1, Ordering::Relaxed);
        let index = match upstream.end {
            End::Repeats { chunks } if taken < chunks => taken % upstream.chunks.len(),
            End::Repeats { .. } => return Poll::Pending,
            _ => taken,
        };
        match (upstream.chunks.get(index), upstream.end) {
            (Some(chunk), _) => Poll::Ready(Some(Ok(chunk.clone()))),
            (None, End::Failed) if index == upstream.chunks.len() => {
                Poll::Ready(Some(Err("the upstream failed".into())))
            }
            (None, End::Open) => Poll::Pending,
            (None, _) => Poll::Ready(None),
        }
    }
}
