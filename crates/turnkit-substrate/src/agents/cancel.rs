use tokio::sync::watch;

/// Tells an agent that nobody wants the rest of its answer.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Receiver<Option<Stop>>);

impl Cancel {
    /// One that is never cancelled, for calling an [`Agent`](crate::Agent) by hand.
    #[must_use]
    pub fn never() -> Self {
        Self(watch::channel(None).1)
    }

    /// Whether the run was stopped: cancelled, out of time, or the substrate is shutting down.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Resolves when the run is stopped, and never otherwise. May be dropped and asked again.
    pub async fn cancelled(&mut self) {
        self.stopped().await;
    }

    /// Why the run is stopped, once it is.
    pub(crate) async fn stopped(&mut self) -> Stop {
        let stop = self.0.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
        match stop {
            Some(stop) => stop,
            None => std::future::pending().await,
        }
    }
}

/// Why a run is stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    TimedOut,
    ShuttingDown,
}

/// The other end of a [`Cancel`].
#[derive(Clone, Debug)]
pub(crate) struct CancelHandle(watch::Sender<Option<Stop>>);

impl CancelHandle {
    pub(crate) fn new() -> (Self, Cancel) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Cancel(receiver))
    }

    /// Stops the run; the first reason stays.
    pub(crate) fn stop(&self, why: Stop) {
        self.0.send_if_modified(|stop| {
            let is_first = stop.is_none();
            stop.get_or_insert(why);
            is_first
        });
    }
}
