//! Durations by size.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Counter;

/// Upper bounds of the buckets, from a write to memory to a hook that is about to be given up. One more has no bound.
const BOUNDS: [Duration; 9] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// How many durations were how long.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let bucket = BOUNDS.iter().take_while(|bound| duration > **bound).count();
        self.buckets[bucket].one();
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// The upper bound of each bucket in seconds, and how many durations are in it alone.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (String, u64)> {
        let bounds = BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
        let bounds = bounds.chain(["+Inf".to_owned()]);
        bounds.zip(self.buckets.iter().map(Counter::get))
    }

    /// All of them together.
    pub(super) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanos.load(Relaxed)).as_secs_f64()
    }
}
