use tokio::sync::watch;

/// Tells an agent that nobody wants the rest of its answer. Its other end is a [`CancelHandle`].
#[derive(Clone, Debug)]
pub struct Cancel(watch::Receiver<bool>);

impl Cancel {
    /// One that is never cancelled, for calling an [`Agent`](crate::Agent) by hand.
    #[must_use]
    pub fn never() -> Self {
        CancelHandle::new().1
    }

    /// Whether the run was stopped, for whatever reason: cancelled, out of time, or its host is shutting down.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the run is stopped, and never otherwise. May be dropped and asked again.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut cancels = self.0.clone();
        async move {
            if cancels.wait_for(|is_cancelled| *is_cancelled).await.is_err() {
                // The handle is gone, so nobody can cancel any more.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Cancels a run. A handle that is dropped leaves the run alone.
#[derive(Clone, Debug)]
pub struct CancelHandle(watch::Sender<bool>);

impl CancelHandle {
    /// A handle, and what the agent gets.
    #[must_use]
    pub fn new() -> (Self, Cancel) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Cancel(receiver))
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Tells every clone of the [`Cancel`]. Calling it again changes nothing.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}
