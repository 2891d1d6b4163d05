//! Stopping a run from outside, with the reason that its log will tell.

use tokio::sync::watch;

/// Why a run is stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    ShuttingDown,
}

/// Stops one run.
pub(crate) struct StopHandle(watch::Sender<Option<Stop>>);

impl StopHandle {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Stops the run; the first reason stays.
    pub(crate) fn stop(&self, why: Stop) {
        self.0.send_if_modified(|stop| {
            let is_first = stop.is_none();
            stop.get_or_insert(why);
            is_first
        });
    }

    /// What the run waits for: why it is stopped, once it is, and never otherwise.
    pub(crate) fn stopped(&self) -> impl Future<Output = Stop> + Send + use<> {
        let mut stops = self.0.subscribe();
        async move {
            let stop = stops.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
            match stop {
                Some(stop) => stop,
                None => std::future::pending().await,
            }
        }
    }
}
