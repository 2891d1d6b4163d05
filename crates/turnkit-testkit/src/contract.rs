//! What every producer must do, as tests that its author runs.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures::StreamExt;
use turnkit::{BoxError, Event, Produced, TurnProducer};

use crate::{Recorder, events, turn};

/// So that a producer that never wakes fails its test rather than hanging it.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// Checks a [`TurnProducer`] against its contract (PROTOCOL 2.3): one test a rule, in a module `producer_contract`.
///
/// Give it an expression that makes a [`ProducerFixture`](crate::ProducerFixture). The calling crate needs `tokio` with its
/// features `macros` and `rt` among its development dependencies. A step that takes longer than 20 s fails its rule.
/// For a second producer call it in a module of its own.
///
/// ```
/// use turnkit::{BoxError, Event, TurnProducer, producer};
/// use turnkit_testkit::{ProducerFixture, Upstream, UpstreamEnd};
///
/// struct Streams;
///
/// impl ProducerFixture for Streams {
///     type Producer = turnkit::BoxProducer;
///
///     async fn produce(&mut self, upstream: Upstream) -> Self::Producer {
///         let events = futures::stream::iter(upstream.events.into_iter().map(Ok));
///         let end: futures::stream::BoxStream<'_, Result<Event, BoxError>> = match upstream.end {
///             UpstreamEnd::Done => Box::pin(futures::stream::empty()),
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

/// See [`producer_contract!`](crate::producer_contract).
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn events_come_verbatim_and_in_order<F: ProducerFixture>(mut fixture: F) {
    let sent = tricky_events();
    let upstream = Upstream { events: sent.clone(), end: UpstreamEnd::Done };
    let mut producer = fixture.produce(upstream).await;
    let (events, end) = collect(&mut producer).await;
    assert_eq!(lines(&events), lines(&sent), "events are forwarded byte for byte");
    assert!(end.is_ok(), "an upstream that is done is no error: {end:?}");
}

/// See [`producer_contract!`](crate::producer_contract).
pub async fn an_upstream_without_events_is_done<F: ProducerFixture>(mut fixture: F) {
    let upstream = Upstream { events: Vec::new(), end: UpstreamEnd::Done };
    let mut producer = fixture.produce(upstream).await;
    let (events, end) = collect(&mut producer).await;
    assert_eq!(events, []);
    assert!(end.is_ok(), "{end:?}");
}

/// See [`producer_contract!`](crate::producer_contract).
pub async fn an_error_comes_once_after_the_events_before_it<F: ProducerFixture>(mut fixture: F) {
    let sent = tricky_events();
    let upstream = Upstream { events: sent.clone(), end: UpstreamEnd::Failed };
    let mut producer = fixture.produce(upstream).await;
    let (events, end) = collect(&mut producer).await;
    assert_eq!(lines(&events), lines(&sent), "no event is lost to the error that follows");
    let message = end.expect_err("a failed upstream is an error").to_string();
    assert!(!message.trim().is_empty(), "the error says what failed");
}

/// See [`producer_contract!`](crate::producer_contract).
pub async fn a_pending_next_wakes_its_task<F: ProducerFixture>(mut fixture: F) {
    let sent: Vec<Event> = (0..300).map(|n| events::delta("p", &n.to_string())).collect();
    let upstream = Upstream { events: sent.clone(), end: UpstreamEnd::Done };
    let producer = fixture.produce(upstream).await;
    let task = tokio::spawn(async move {
        let mut producer = producer;
        collect(&mut producer).await.0
    });
    let events = in_time(task).await.expect("the producer does not panic");
    assert_eq!(lines(&events), lines(&sent));
}

/// See [`producer_contract!`](crate::producer_contract).
pub async fn dropping_it_at_any_await_leaves_nothing_behind<F: ProducerFixture>(mut fixture: F) {
    let events = tricky_events();
    for taken in 0..=events.len() {
        for polls in 0..3 {
            let upstream = Upstream { events: events.clone(), end: UpstreamEnd::Open };
            let mut producer = fixture.produce(upstream).await;
            for _ in 0..taken {
                next_event(&mut producer).await;
            }
            poll_times(producer.next(), polls).await;
            drop(producer);
            in_time(fixture.released()).await;
        }
    }
}

/// See [`producer_contract!`](crate::producer_contract).
pub async fn cancel_ends_while_the_upstream_is_open<F: ProducerFixture>(mut fixture: F) {
    let upstream = Upstream { events: tricky_events(), end: UpstreamEnd::Open };
    let mut producer = fixture.produce(upstream).await;
    next_event(&mut producer).await;
    poll_times(producer.next(), 1).await;
    in_time(producer.cancel()).await;
    drop(producer);
    in_time(fixture.released()).await;
}

/// See [`producer_contract!`](crate::producer_contract).
pub async fn a_turn_forwards_what_it_produces<F: ProducerFixture>(mut fixture: F) {
    let events = tricky_events();
    let upstream = Upstream { events: events.clone(), end: UpstreamEnd::Done };
    let producer = fixture.produce(upstream).await;
    let hooks = Arc::new(Recorder::new());
    let stream = turn().start_inline(producer, hooks.clone());
    let body: Vec<_> = in_time(stream.collect::<Vec<_>>()).await;
    let body = body.concat();
    let lines: Vec<&[u8]> = body.split_inclusive(|&byte| byte == b'\n').collect();
    let forwarded: Vec<&[u8]> = events.iter().map(Event::as_line).collect();
    assert_eq!(lines.get(1..=events.len()), Some(forwarded.as_slice()));
    assert_eq!(hooks.events().len(), events.len() + 2);
}

async fn next_event<P: TurnProducer>(producer: &mut P) {
    let answer: Result<_, BoxError> = in_time(producer.next()).await.map_err(Into::into);
    assert!(matches!(answer, Ok(Produced::Event(_))), "the upstream has events left: {answer:?}");
}

/// All events, then the end: the error, or `Done`.
async fn collect<P: TurnProducer>(producer: &mut P) -> (Vec<Event>, Result<(), BoxError>) {
    let mut events = Vec::new();
    loop {
        match in_time(producer.next()).await {
            Ok(Produced::Event(event)) => events.push(event),
            Ok(Produced::Done { .. }) => return (events, Ok(())),
            Err(error) => return (events, Err(error.into())),
        }
    }
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

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("nothing happened for {PATIENCE:?}"))
}

fn lines(events: &[Event]) -> Vec<impl fmt::Debug + PartialEq + use<'_>> {
    events.iter().map(Event::as_json).collect()
}
