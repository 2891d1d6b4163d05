use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::limits::millis;

/// Where a log and a substrate take the time from, so that tests can hold it still.
///
/// It gives epochs, `timestamp` members, retention and the life of bindings (PROTOCOL 3.1, 3.2). Time-outs and heartbeats
/// are tokio's.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. Must not go backwards.
    fn unix_ms(&self) -> u64;
}

/// The system's time at the start of the process, carried on by its monotonic clock, so that it never goes backwards.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started_ms: u64,
    started: Instant,
}

impl SystemClock {
    /// A clock that reads the system's time now, once. A system time before 1970 counts as 1970.
    #[must_use]
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { started_ms: millis(since_epoch.unwrap_or_default()), started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        self.started_ms.saturating_add(millis(self.started.elapsed()))
    }
}
