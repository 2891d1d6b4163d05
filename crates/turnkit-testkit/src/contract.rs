//! What every producer must do, as tests that its author runs.
//!
//! [`producer_contract!`](crate::producer_contract) makes one test of each rule. A rule that is broken panics with what was
//! wanted, what came instead, and what to look for:
//!
//! ```text
//! the producer breaks `events_come_verbatim_and_in_order` at event 2 of 9, byte 24
//!   wanted: {"type":"t","data":{"b":1,"a":2,"b":3}}
//!   came: {"type":"t","data":{"b":3,"a":2}}
//!   look for: an event that is read into a value and written anew: its bytes must go through as they came
//! ```

mod hint;
mod rule;
pub mod translating;

use std::{
    future::{Future, poll_fn},
    panic::resume_unwind,
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures::StreamExt;
use turnkit::{BoxError, Event, InlineTurn, Produced, TurnProducer, ndjson, wire::kind::Class};

use self::rule::Rule;
use crate::{Recorder, events, turn};

/// How a producer under test is put in front of an upstream that does what the contract asks for.
pub trait ProducerFixture: Send {
    /// The producer under test.
    type Producer: TurnProducer + 'static;

    /// A new producer whose upstream plays `upstream`.
    fn produce(&mut self, upstream: Upstream) -> impl Future<Output = Self::Producer> + Send;

    /// Resolves once nothing is left of the producer that was made last and dropped: no task, no connection.
    /// At once by default, so that what is left behind is not looked for.
    fn released(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What the upstream of a producer under test sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// These events first.
    pub events: Vec<Event>,
    /// Then this.
    pub end: UpstreamEnd,
}

/// How an upstream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamEnd {
    /// As one does that has said everything.
    Done,
    /// With a failure that the producer must return as an error.
    Failed,
    /// Not at all: it stays silent and open.
    Open,
}

/// Checks a [`TurnProducer`] that passes its upstream's events on against its contract (PROTOCOL 2.3): one test a rule, in a module
/// `producer_contract`. For one that makes events of something else there is
/// [`translating_contract!`](crate::translating_contract).
///
/// | rule | broken by a producer that |
/// |---|---|
/// | [`events_come_verbatim_and_in_order`] | reads events into values and writes them anew |
/// | [`an_upstream_without_events_is_done`] | takes an end for a failure |
/// | [`an_error_comes_once_after_the_events_before_it`] | throws its buffer away at a failure, or is `Done` instead |
/// | [`a_pending_next_wakes_its_task`] | returns `Pending` and keeps no waker |
/// | [`dropping_it_at_any_await_leaves_nothing_behind`] | leaves a task or a connection behind |
/// | [`cancel_ends_while_the_upstream_is_open`] | waits in `cancel` until the upstream ends |
/// | [`a_turn_forwards_what_it_produces`] | breaks another rule, seen from the client |
///
/// [`events_come_verbatim_and_in_order`]: crate::contract::events_come_verbatim_and_in_order
/// [`an_upstream_without_events_is_done`]: crate::contract::an_upstream_without_events_is_done
/// [`an_error_comes_once_after_the_events_before_it`]: crate::contract::an_error_comes_once_after_the_events_before_it
/// [`a_pending_next_wakes_its_task`]: crate::contract::a_pending_next_wakes_its_task
/// [`dropping_it_at_any_await_leaves_nothing_behind`]: crate::contract::dropping_it_at_any_await_leaves_nothing_behind
/// [`cancel_ends_while_the_upstream_is_open`]: crate::contract::cancel_ends_while_the_upstream_is_open
/// [`a_turn_forwards_what_it_produces`]: crate::contract::a_turn_forwards_what_it_produces
///
/// Give it an expression that makes a [`ProducerFixture`](crate::ProducerFixture). The calling crate needs `tokio` with its
/// features `macros` and `rt` among its development dependencies. A step that takes longer than 20 s fails its rule, and a rule
/// ends with its first failure. For a second producer call it in a module of its own.
///
/// ```
/// use turnkit::{BoxError, Produced, producer};
/// use turnkit_testkit::{ProducerFixture, Upstream, UpstreamEnd};
///
/// struct Streams;
///
/// impl ProducerFixture for Streams {
///     type Producer = turnkit::BoxProducer;
///
///     async fn produce(&mut self, upstream: Upstream) -> Self::Producer {
///         let events = futures::stream::iter(upstream.events.into_iter().map(|event| Ok(event.into())));
///         let done = Ok(Produced::Done { final_text: None });
///         let end: futures::stream::BoxStream<'_, Result<Produced, BoxError>> = match upstream.end {
///             UpstreamEnd::Done => Box::pin(futures::stream::iter([done])),
///             UpstreamEnd::Failed => Box::pin(futures::stream::iter([Err("gone".into())])),
///             UpstreamEnd::Open => Box::pin(futures::stream::pending()),
///         };
///         turnkit::BoxProducer::new(producer::from_stream(futures::StreamExt::chain(events, end)))
///     }
/// }
///
/// turnkit_testkit::producer_contract!(Streams);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! producer_contract {
    ($fixture:expr) => {
        mod producer_contract {
            use super::*;

            $crate::producer_contract! { @rules $fixture;
                events_come_verbatim_and_in_order,
                an_upstream_without_events_is_done,
                an_error_comes_once_after_the_events_before_it,
                a_pending_next_wakes_its_task,
                dropping_it_at_any_await_leaves_nothing_behind,
                cancel_ends_while_the_upstream_is_open,
                a_turn_forwards_what_it_produces,
            }
        }
    };
    (@rules $fixture:expr; $($rule:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::contract::$rule($fixture).await;
            }
        )*
    };
}

/// Gives all events of its upstream as they were sent: each one, once, in order, byte for byte.
///
/// Broken by a producer that reads events into values and writes them anew (spaces, the order and number of keys, large
/// numbers and escapes change), that drops what it does not know, or that gathers events in a map.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn events_come_verbatim_and_in_order<F: ProducerFixture>(mut fixture: F) {
    let rule = Rule("events_come_verbatim_and_in_order");
    let sent = tricky_events();
    let mut producer = rule.produce(&mut fixture, &sent, UpstreamEnd::Done).await;
    rule.take_events(&mut producer, &sent, sent.len()).await;
    rule.take_end(&mut producer, sent.len(), UpstreamEnd::Done).await;
}

/// Is `Done` where its upstream ends without any event.
///
/// Broken by a producer that takes an end for a failure, or that makes events of its own.
pub async fn an_upstream_without_events_is_done<F: ProducerFixture>(mut fixture: F) {
    let rule = Rule("an_upstream_without_events_is_done");
    let mut producer = rule.produce(&mut fixture, &[], UpstreamEnd::Done).await;
    rule.take_end(&mut producer, 0, UpstreamEnd::Done).await;
}

/// Gives all events that came before a failure of its upstream, then an error that says what failed.
///
/// Broken by a producer that throws away what it has buffered once it sees the failure, that is `Done` instead, or whose error
/// displays as nothing.
pub async fn an_error_comes_once_after_the_events_before_it<F: ProducerFixture>(mut fixture: F) {
    let rule = Rule("an_error_comes_once_after_the_events_before_it");
    let sent = tricky_events();
    let mut producer = rule.produce(&mut fixture, &sent, UpstreamEnd::Failed).await;
    rule.take_events(&mut producer, &sent, sent.len()).await;
    rule.take_end(&mut producer, sent.len(), UpstreamEnd::Failed).await;
}

/// Wakes the task that waits in `next` once there is something to give; here in a task of its own, over 300 events.
///
/// Broken by a producer whose `poll` returns `Pending` without keeping the waker, or keeps that of an earlier poll.
pub async fn a_pending_next_wakes_its_task<F: ProducerFixture>(mut fixture: F) {
    let rule = Rule("a_pending_next_wakes_its_task");
    let sent: Vec<Event> = (0..300).map(|n| events::delta("p", &n.to_string())).collect();
    let mut producer = rule.produce(&mut fixture, &sent, UpstreamEnd::Done).await;
    let task = tokio::spawn(async move {
        rule.take_events(&mut producer, &sent, sent.len()).await;
        rule.take_end(&mut producer, sent.len(), UpstreamEnd::Done).await;
    });
    if let Err(error) = task.await {
        resume_unwind(error.into_panic());
    }
}

/// Leaves nothing behind when it is dropped, after any number of events and in the middle of a `next`: the fixture's
/// [`released`](ProducerFixture::released) ends.
///
/// Broken by a producer whose task or connection lives on until the upstream ends by itself.
pub async fn dropping_it_at_any_await_leaves_nothing_behind<F: ProducerFixture>(mut fixture: F) {
    let rule = Rule("dropping_it_at_any_await_leaves_nothing_behind");
    let sent = tricky_events();
    for taken in 0..=sent.len() {
        for polls in 0..3 {
            let mut producer = rule.produce(&mut fixture, &sent, UpstreamEnd::Open).await;
            rule.take_events(&mut producer, &sent, taken).await;
            poll_times(producer.next(), polls).await;
            drop(producer);
            let at = format!("once dropped after {taken} events and {polls} polls of `next`");
            rule.take_release(&mut fixture, &at).await;
        }
    }
}

/// Ends its `cancel` while the upstream is silent and open, and leaves nothing behind when it is dropped then.
///
/// Broken by a producer whose `cancel` waits for the upstream to end: the engine waits for it 5 s at most.
pub async fn cancel_ends_while_the_upstream_is_open<F: ProducerFixture>(mut fixture: F) {
    let rule = Rule("cancel_ends_while_the_upstream_is_open");
    let sent = tricky_events();
    let mut producer = rule.produce(&mut fixture, &sent, UpstreamEnd::Open).await;
    rule.take_events(&mut producer, &sent, 1).await;
    poll_times(producer.next(), 1).await;
    let at = "in `cancel`, after 1 event and 1 poll of `next`";
    rule.in_time(at, "its end", hint::LONG_CANCEL, producer.cancel()).await;
    drop(producer);
    rule.take_release(&mut fixture, "once cancelled and dropped").await;
}

/// Drives a whole turn: the client gets all events as they were sent, and the turn completes.
///
/// Broken by a producer that breaks another rule, and by one that works only where its events are asked for without a pause.
pub async fn a_turn_forwards_what_it_produces<F: ProducerFixture>(mut fixture: F) {
    let rule = Rule("a_turn_forwards_what_it_produces");
    let sent = tricky_events();
    let producer = rule.produce(&mut fixture, &sent, UpstreamEnd::Done).await;
    let turn = turn().keep_alive(Duration::MAX).start_inline(producer, Recorder::new());
    let mut forwarded = Forwarded { turn, lines: ndjson::Decoder::new() };
    rule.take_events(&mut forwarded, &sent, sent.len()).await;
    rule.take_end(&mut forwarded, sent.len(), UpstreamEnd::Done).await;
}

/// What the body of a turn has of its producer, as that producer would give it.
struct Forwarded {
    turn: InlineTurn,
    lines: ndjson::Decoder,
}

impl TurnProducer for Forwarded {
    type Error = BoxError;

    async fn next(&mut self) -> Result<Produced, BoxError> {
        loop {
            let Some(event) = self.lines.next_event().transpose()? else {
                let chunk = self.turn.next().await;
                self.lines.push(chunk.ok_or("the turn's body was cut")?);
                continue;
            };
            match event.class() {
                Class::RunStarted => {}
                Class::RunCompleted => return Ok(Produced::Done { final_text: None }),
                Class::Error => return Err(event.as_json().into()),
                _ => return Ok(event.into()),
            }
        }
    }
}

/// Events whose bytes a careless producer changes.
fn tricky_events() -> Vec<Event> {
    let verbatim = [
        r#"{"type":"message.part.updated","data":{"part":{"id":"p","messageID":"m","type":"text"},"delta":"a"}}"#,
        r#"{"type":"t","data":{"b":1,"a":2,"b":3}}"#,
        r#"{"type":"t","data":[1E5,-0,1.0,1234567890123456789012345678901234567890,1e400]}"#,
        r#"{"type":"t","data":"\/ \u0041 \u0000 \ud800 \" \\ é 😀"}"#,
        r#"{"type":"t","data":null}"#,
        r#"{"type":"t"}"#,
        r#"{ "type" : "t" , "unknown" : { } , "data" : [ ] }"#,
        r#"{"data":"before","type":"message"}"#,
    ];
    let large = events::delta("p", &"x".repeat(100_000));
    verbatim.map(events::verbatim).into_iter().chain([large]).collect()
}

/// Polls `future` at most `times`, letting others run in between, then drops it.
async fn poll_times<T>(future: impl Future<Output = T>, times: usize) {
    let mut future = pin!(future);
    for _ in 0..times {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await.is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
