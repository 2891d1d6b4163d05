//! The producers that the crate makes keep the contract of all producers (PROTOCOL 2.3).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Weak};

use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use turnkit::{BoxError, BoxProducer, Event, Produced, producer};
use turnkit_testkit::{ProducerFixture, Upstream, UpstreamEnd, producer_contract};

/// Streams behind `from_stream` and `BoxProducer`, whose upstream yields to its task before each event.
#[derive(Default)]
struct Streams(Weak<()>);

impl ProducerFixture for Streams {
    type Producer = BoxProducer;

    async fn produce(&mut self, upstream: Upstream) -> BoxProducer {
        let held = Arc::new(());
        self.0 = Arc::downgrade(&held);
        let end: BoxStream<'static, Result<Produced, BoxError>> = match upstream.end {
            UpstreamEnd::Done => stream::iter([Ok(Produced::Done { final_text: None })]).boxed(),
            UpstreamEnd::Failed => stream::iter([Err("the upstream failed".into())]).boxed(),
            UpstreamEnd::Open => stream::pending().boxed(),
        };
        let events = stream::iter(upstream.events).then(move |event| {
            let held = held.clone();
            tokio::task::yield_now().map(move |()| {
                drop(held);
                Ok(event.into())
            })
        });
        BoxProducer::new(producer::from_stream(events.chain(end)))
    }

    async fn released(&mut self) {
        assert_eq!(self.0.strong_count(), 0, "the stream is still held");
    }
}

producer_contract!(Streams::default());

/// Each rule of the contract finds the producers that break it, and says what to look for.
mod a_wrong_producer_is_found_as {
    use std::{
        collections::VecDeque,
        future::{pending, poll_fn},
        mem,
        task::Poll,
        time::Duration,
    };

    use tokio::time::{Instant, sleep};
    use turnkit::TurnProducer;
    use turnkit_testkit::{contract, events};

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Wrong {
        RewritesEvents,
        SwapsEvents,
        LosesTheLastEvent,
        RepeatsAnEventForEver,
        OpensAnEnvelope,
        FailsWithoutEvents,
        SwallowsTheFailure,
        FailsWithoutAWord,
        NeverWakes,
        Leaks,
        EndsEarly,
        NeverEnds,
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
                Some(event) if self.wrong == Wrong::RepeatsAnEventForEver => {
                    self.events.push_front(event.clone());
                    Ok(event.into())
                }
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
                Wrong::OpensAnEnvelope => {
                    events.push_front(events::verbatim(r#"{"type":"session.run.started"}"#));
                }
                Wrong::EndsEarly => events.truncate(1),
                Wrong::Leaks => mem::forget(held.clone()),
                _ => {}
            }
            Self { wrong, events, end: upstream.end, held }
        }

        async fn end(&mut self) -> Result<Produced, BoxError> {
            match (self.wrong, self.end) {
                (Wrong::NeverEnds, _) => pending().await,
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
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// The message of a rule that fails.
    async fn message_of(rule: impl Future<Output = ()> + Send + 'static) -> String {
        let failure = tokio::spawn(rule).await.unwrap_err();
        *failure.into_panic().downcast().unwrap()
    }

    macro_rules! finds {
        ($($rule:ident: $($wrong:ident $says:literal),+;)+) => {
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    for (wrong, says) in [$((Wrong::$wrong, $says)),+] {
                        let message = message_of(contract::$rule(Fixture(wrong, Weak::new()))).await;
                        let begin = concat!("the producer breaks `", stringify!($rule), "` ");
                        assert!(message.starts_with(begin), "{wrong:?}: {message}");
                        assert!(message.contains(says), "{wrong:?}: {message}");
                        assert!(message.chars().count() < 700, "{wrong:?}: {message}");
                    }
                }
            )+
        };
    }

    finds! {
        events_come_verbatim_and_in_order:
            RewritesEvents "at event 2 of 9, byte 24\n",
            SwapsEvents "look for: an event that was lost or overtaken",
            RepeatsAnEventForEver "look for: an event that is given twice",
            LosesTheLastEvent "at event 9 of 9\n  wanted: {\"type\":\"message.part.updated\"",
            EndsEarly "at event 2 of 9\n",
            OpensAnEnvelope "look for: an event that the upstream did not send",
            NeverEnds "wanted: `Done`\n  came: nothing for 20 s\n";
        an_upstream_without_events_is_done:
            FailsWithoutEvents "came: the error \"nothing came\"\n",
            OpensAnEnvelope "came: {\"type\":\"session.run.started\"}\n",
            NeverEnds "look for: an end of the upstream that is not noticed";
        an_error_comes_once_after_the_events_before_it:
            LosesTheLastEvent "came: the error \"the upstream failed\"\n",
            SwapsEvents "at event 2 of 9, byte",
            SwallowsTheFailure "came: `Done`\n  look for: a failure that is taken for the upstream's end",
            FailsWithoutAWord "look for: an error without a `Display`";
        a_pending_next_wakes_its_task:
            NeverWakes "at event 1 of 300\n",
            RepeatsAnEventForEver "at event 2 of 300, byte";
        dropping_it_at_any_await_leaves_nothing_behind:
            Leaks "once dropped after 0 events and 0 polls of `next`\n",
            SwapsEvents "look for: an event that was lost or overtaken",
            EndsEarly "at event 2 of 9\n";
        cancel_ends_while_the_upstream_is_open:
            HangsInCancel "look for: a `cancel` that waits",
            Leaks "once cancelled and dropped\n";
        a_turn_forwards_what_it_produces:
            RewritesEvents "at event 2 of 9, byte 24\n",
            SwapsEvents "at event 2 of 9, byte",
            RepeatsAnEventForEver "at event 2 of 9, byte",
            LosesTheLastEvent "came: `Done`\n",
            NeverEnds "at the end, after 9 events\n";
    }

    /// A turn hides it: who reads the body asks the driver again for each line.
    #[tokio::test(start_paused = true)]
    async fn never_waking_by_the_first_wake_that_is_missing() {
        let fixture = || Fixture(Wrong::NeverWakes, Weak::new());
        let begin = Instant::now();
        let messages = [
            message_of(contract::events_come_verbatim_and_in_order(fixture())).await,
            message_of(contract::an_upstream_without_events_is_done(fixture())).await,
            message_of(contract::a_pending_next_wakes_its_task(fixture())).await,
            message_of(contract::dropping_it_at_any_await_leaves_nothing_behind(fixture())).await,
            message_of(contract::cancel_ends_while_the_upstream_is_open(fixture())).await,
        ];
        assert_eq!(begin.elapsed().as_secs(), 5 * 20);
        for message in messages {
            assert!(message.contains("came: nothing for 20 s\n"), "{message}");
            assert!(message.contains("`Pending` and kept no waker"), "{message}");
        }
    }

    #[tokio::test]
    async fn swapping_in_words_for_its_author() {
        let swaps = Fixture(Wrong::SwapsEvents, Weak::new());
        assert_eq!(
            message_of(contract::events_come_verbatim_and_in_order(swaps)).await,
            "the producer breaks `events_come_verbatim_and_in_order` at event 2 of 9, byte 19\n  \
             wanted: {\"type\":\"t\",\"data\":{\"b\":1,\"a\":2,\"b\":3}}\n  \
             came: {\"type\":\"t\",\"data\":[1E5,-0,1.0,1234567890123456789012345678901234567890,1e400]}\n  \
             look for: an event that was lost or overtaken: what came was sent later"
        );
    }
}
