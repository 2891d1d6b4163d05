//! How many lines of a program may go to the log.

use std::time::Duration;

/// A token bucket: a burst, then so many a second. Time is an argument.
pub(super) struct Throttle {
    tokens: f64,
    last: Duration,
    left_out: u64,
}

impl Throttle {
    /// Lines that may go out at once.
    pub(super) const BURST: u32 = 100;

    const PER_SECOND: f64 = 10.0;

    pub(super) fn new() -> Self {
        Self { tokens: f64::from(Self::BURST), last: Duration::ZERO, left_out: 0 }
    }

    /// Whether a line may go out now; where not, it is counted.
    pub(super) fn admits(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = f64::min(self.tokens + passed * Self::PER_SECOND, f64::from(Self::BURST));
        let admits = self.tokens >= 1.0;
        if admits {
            self.tokens -= 1.0;
        } else {
            self.left_out += 1;
        }
        admits
    }

    /// How many lines were left out since the last call, if any.
    pub(super) fn left_out(&mut self) -> Option<u64> {
        let left_out = std::mem::take(&mut self.left_out);
        (left_out > 0).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_lines_go_out_at_the_rate_and_the_rest_is_counted() {
        let mut throttle = Throttle::new();
        let mut admitted = |at| {
            let now = Duration::from_secs(at);
            (0..1_000).filter(|_| throttle.admits(now)).count()
        };
        assert_eq!([admitted(0), admitted(1), admitted(3)], [100, 10, 20]);
        assert_eq!(admitted(1_000), 100);
        assert_eq!(throttle.left_out(), Some(4_000 - 230));
        assert_eq!(throttle.left_out(), None);
    }
}
