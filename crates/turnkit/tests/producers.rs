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
