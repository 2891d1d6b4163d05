//! The locks, atomics and wake-ups of the memory log: the real ones, or in unit tests those that shuttle can interleave.

#[cfg(not(test))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

#[cfg(not(test))]
pub(crate) use tokio::sync::Notify;

#[cfg(test)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

#[cfg(test)]
pub(crate) use model::Notify;

/// Locks, also after a panic elsewhere: what the locks of this crate guard is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod model {
    use std::{
        future::poll_fn,
        task::{Poll, Waker},
    };

    use super::{Mutex, lock};

    /// What the log uses of tokio's `Notify`, with a switch of threads possible before each step.
    pub(crate) struct Notify(Mutex<(u64, Vec<Waker>)>);

    impl Notify {
        pub(crate) fn new() -> Self {
            Self(Mutex::default())
        }

        /// Resolves at the first call of `notify_waiters` after this one.
        pub(crate) fn notified(&self) -> impl Future<Output = ()> + Send {
            let seen = lock(&self.0).0;
            poll_fn(move |cx| {
                let mut state = lock(&self.0);
                if state.0 != seen {
                    return Poll::Ready(());
                }
                state.1.push(cx.waker().clone());
                Poll::Pending
            })
        }

        pub(crate) fn notify_waiters(&self) {
            let mut state = lock(&self.0);
            state.0 += 1;
            let wakers = std::mem::take(&mut state.1);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}
