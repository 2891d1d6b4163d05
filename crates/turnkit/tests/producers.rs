//! The producers that the crate makes keep the contract of all producers (PROTOCOL 2.3).

use std::sync::{Arc, Weak};

use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use turnkit::{BoxError, BoxProducer, Event, producer};
use turnkit_testkit::{ProducerFixture, Upstream, UpstreamEnd, producer_contract};

/// Streams behind `from_stream` and `BoxProducer`, whose upstream yields to its task before each event.
#[derive(Default)]
struct Streams(Weak<()>);

impl ProducerFixture for Streams {
    type Producer = BoxProducer;

    async fn produce(&mut self, upstream: Upstream) -> BoxProducer {
        let held = Arc::new(());
        self.0 = Arc::downgrade(&held);
        let end: BoxStream<'static, Result<Event, BoxError>> = match upstream.end {
            UpstreamEnd::Done => stream::empty().boxed(),
            UpstreamEnd::Failed => stream::iter([Err("the upstream failed".into())]).boxed(),
            UpstreamEnd::Open => stream::pending().boxed(),
        };
        let events = stream::iter(upstream.events).then(move |event| {
            let held = held.clone();
            tokio::task::yield_now().map(move |()| {
                drop(held);
                Ok(event)
            })
        });
        BoxProducer::new(producer::from_stream(events.chain(end)))
    }

    async fn released(&mut self) {
        assert_eq!(self.0.strong_count(), 0, "the stream is still held");
    }
}

producer_contract!(Streams::default());

/// Each rule of the contract finds the producers that break it.
mod a_wrong_producer_is_found_as {
    use std::{
        collections::VecDeque,
        future::{pending, poll_fn},
        mem,
        task::Poll,
    };

    use turnkit::{Produced, TurnProducer};
    use turnkit_testkit::{contract, events};

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Wrong {
        RewritesEvents,
        SwapsEvents,
        LosesTheLastEvent,
        FailsWithoutEvents,
        SwallowsTheFailure,
        FailsWithoutAWord,
        NeverWakes,
        Leaks,
        EndsEarly,
        HangsInCancel,
    }

    /// Gives what the upstream says, but for one thing.
    struct Producer {
        wrong: Wrong,
        events: VecDeque<Event>,
        end: UpstreamEnd,
        held: Arc<()>,
    }

    impl TurnProducer for Producer {
        type Error = BoxError;

        async fn next(&mut self) -> Result<Produced, BoxError> {
            if self.wrong == Wrong::NeverWakes {
                let mut polls = [Poll::Pending, Poll::Ready(())].into_iter();
                poll_fn(|_| polls.next().unwrap_or(Poll::Pending)).await;
            }
            match self.events.pop_front() {
                Some(event) => Ok(event.into()),
                None => self.end().await,
            }
        }

        async fn cancel(&mut self) {
            if self.wrong == Wrong::HangsInCancel {
                pending::<()>().await;
            }
        }
    }

    impl Producer {
        fn new(wrong: Wrong, upstream: Upstream) -> Self {
            let held = Arc::new(());
            let mut events = VecDeque::from(upstream.events);
            match wrong {
                Wrong::RewritesEvents => events.iter_mut().for_each(rewrite),
                Wrong::SwapsEvents => events.swap(1, 2),
                Wrong::LosesTheLastEvent => drop(events.pop_back()),
                Wrong::EndsEarly => events.truncate(1),
                Wrong::Leaks => mem::forget(held.clone()),
                _ => {}
            }
            Self { wrong, events, end: upstream.end, held }
        }

        async fn end(&mut self) -> Result<Produced, BoxError> {
            match (self.wrong, self.end) {
                (Wrong::FailsWithoutEvents, _) => Err("nothing came".into()),
                (Wrong::FailsWithoutAWord, UpstreamEnd::Failed) => Err(" ".into()),
                (Wrong::EndsEarly | Wrong::SwallowsTheFailure, _) | (_, UpstreamEnd::Done) => {
                    Ok(Produced::Done { final_text: None })
                }
                (_, UpstreamEnd::Failed) => Err("the upstream failed".into()),
                (_, UpstreamEnd::Open) => pending().await,
            }
        }
    }

    /// As one does that reads an event into a value and writes it anew.
    fn rewrite(event: &mut Event) {
        if let Ok(data) = event.data::<serde_json::Value>() {
            *event = events::event(event.kind(), &data);
        }
    }

    struct Fixture(Wrong, Weak<()>);

    impl ProducerFixture for Fixture {
        type Producer = Producer;

        async fn produce(&mut self, upstream: Upstream) -> Producer {
            let producer = Producer::new(self.0, upstream);
            self.1 = Arc::downgrade(&producer.held);
            producer
        }

        async fn released(&mut self) {
            while self.1.strong_count() > 0 {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }

    macro_rules! finds {
        ($($rule:ident: $($wrong:ident),+;)+) => {
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    for wrong in [$(Wrong::$wrong),+] {
                        let checked = tokio::spawn(contract::$rule(Fixture(wrong, Weak::new())));
                        let found = checked.await.is_err_and(|error| error.is_panic());
                        assert!(found, "a producer that {wrong:?} keeps the rule");
                    }
                }
            )+
        };
    }

    finds! {
        events_come_verbatim_and_in_order: RewritesEvents, SwapsEvents, LosesTheLastEvent, EndsEarly;
        an_upstream_without_events_is_done: FailsWithoutEvents;
        an_error_comes_once_after_the_events_before_it:
            LosesTheLastEvent, SwapsEvents, SwallowsTheFailure, FailsWithoutAWord;
        a_pending_next_wakes_its_task: NeverWakes;
        dropping_it_at_any_await_leaves_nothing_behind: Leaks, EndsEarly;
        cancel_ends_while_the_upstream_is_open: HangsInCancel, Leaks;
        a_turn_forwards_what_it_produces: RewritesEvents, SwapsEvents, LosesTheLastEvent;
    }
}
