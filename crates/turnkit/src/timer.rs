//! Time, as the host gives it. The engine reads no clock of its own.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

/// A source of time for time-outs and keep-alives (PROTOCOL 2.4).
///
/// Inside a tokio runtime, with the feature `tokio`, the engine takes `TokioTimer` by itself. Anywhere else give one to
/// [`ChatTurn::timer`](crate::ChatTurn::timer); without any, time-outs and keep-alives are off.
///
/// Most runtimes have a sleep to put into the box. Where there is none, a thread can sleep:
///
/// ```
/// use std::{sync::mpsc, thread, time::{Duration, Instant}};
///
/// use futures::{channel::oneshot, executor::block_on};
/// use turnkit::{Sleep, Timer};
///
/// struct Threads(Instant);
///
/// impl Timer for Threads {
///     fn now(&self) -> Duration {
///         self.0.elapsed()
///     }
///
///     fn sleep(&self, after: Duration) -> Sleep {
///         let (alive, dropped) = mpsc::channel::<()>();
///         let (wake, woken) = oneshot::channel::<()>();
///         thread::spawn(move || {
///             let _wakes_when_dropped = wake;
///             dropped.recv_timeout(after) // ends early where the engine drops the sleep
///         });
///         Box::pin(async move {
///             let _alive = alive;
///             let _ = woken.await;
///         })
///     }
/// }
///
/// let timer = Threads(Instant::now());
/// block_on(timer.sleep(Duration::from_millis(10)));
/// assert!(timer.now() >= Duration::from_millis(10));
/// ```
pub trait Timer: Send + Sync + 'static {
    /// The time since some fixed moment of the timer's own choice. Never runs backwards.
    fn now(&self) -> Duration;

    /// A future that is ready once `after` has passed. The engine may drop it earlier.
    fn sleep(&self, after: Duration) -> Sleep;
}

/// A future that is ready at a moment.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The timer of the tokio runtime that polls the driver.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug)]
pub struct TokioTimer {
    origin: tokio::time::Instant,
}

#[cfg(feature = "tokio")]
impl TokioTimer {
    /// A timer that counts from now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// The timer of the current runtime, or none outside of one and in one whose time is not enabled.
    fn current() -> Option<Self> {
        tokio::runtime::Handle::try_current().ok()?;
        // Only by trying can one know whether a runtime has its time enabled: tokio panics where it has not.
        let probe = || drop(tokio::time::sleep(Duration::ZERO));
        crate::contain::contain(probe).ok()?;
        Some(Self::new())
    }
}

#[cfg(feature = "tokio")]
impl Default for TokioTimer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "tokio")]
impl Timer for TokioTimer {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep(&self, after: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(after))
    }
}

/// The timer that an attempt runs with, if it has any.
#[derive(Clone, Default)]
pub(crate) struct Clock(Option<Arc<dyn Timer>>);

impl Clock {
    pub(crate) fn new(timer: impl Timer) -> Self {
        Self(Some(Arc::new(timer)))
    }

    /// This clock, or the runtime's where none was given. Called from within the driver, that is, from within its runtime.
    pub(crate) fn or_current(self) -> Self {
        #[cfg(feature = "tokio")]
        if self.0.is_none() {
            return TokioTimer::current().map_or(Self(None), Self::new);
        }
        self
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |timer| timer.now())
    }

    /// A sleep, or none where there is no time or `after` is for ever.
    pub(crate) fn sleep(&self, after: Duration) -> Option<Sleep> {
        let timer = self.0.as_ref().filter(|_| after != Duration::MAX)?;
        Some(timer.sleep(after))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_off() { "no timer" } else { "a timer" })
    }
}
