use std::time::Duration;

/// How often and how long the adapter tries again: one policy before the first answer, one after it (PROTOCOL 4.1).
///
/// The nth wait of a row (counted from 0) is `first × factorⁿ`, at most `max`, then spread by `jitter`. A row of failures
/// ends with success, after `attempts` new tries, or where the next wait would end later than `within` after the row
/// began. A `Retry-After` of the peer that is longer than the wait replaces it, inside the same bounds.
///
/// ```
/// # use std::time::Duration;
/// # use turnkit_sandbox::Retry;
/// let patient = Retry { attempts: 100, ..Retry::AFTER_ANSWER };
/// assert_eq!(patient.wait(0, 0.5), Duration::from_secs(1));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The first wait of a row.
    pub first: Duration,
    /// What each wait is multiplied by to give the next; under 1 or not a number, waits are `max`-bounded all the same.
    pub factor: f64,
    /// The longest wait before jitter.
    pub max: Duration,
    /// The spread, as a share of the wait: 0.2 gives waits from 80 to 120 %. So a thousand clients that one restart cut
    /// off do not come back in the same millisecond.
    pub jitter: f64,
    /// How many tries in a row may follow the first failure. [`u32::MAX`]: `within` alone decides.
    pub attempts: u32,
    /// How long a row of failures may last, its last wait included.
    pub within: Duration,
}

impl Retry {
    /// Until a connection was answered with an event stream: 0.25 s doubling to 60 s, ±20 %, 15 minutes in all.
    pub const BEFORE_ANSWER: Self = Self {
        first: Duration::from_millis(250),
        factor: 2.0,
        max: Duration::from_secs(60),
        jitter: 0.2,
        attempts: u32::MAX,
        within: Duration::from_secs(15 * 60),
    };

    /// Once one was: 1 s × 1.5 up to 30 s, ±20 %, 10 attempts in a row and 15 minutes a row.
    pub const AFTER_ANSWER: Self = Self {
        first: Duration::from_secs(1),
        factor: 1.5,
        max: Duration::from_secs(30),
        jitter: 0.2,
        attempts: 10,
        within: Duration::from_secs(15 * 60),
    };

    /// The wait before try `retry` of a row (counted from 0); `spread` from 0 to 1 is its place inside the jitter, 0.5 is
    /// its middle.
    #[must_use]
    pub fn wait(&self, retry: u32, spread: f64) -> Duration {
        let exponent = i32::try_from(retry).unwrap_or(i32::MAX);
        let even = self.first.as_secs_f64() * self.factor.powi(exponent);
        let bounded = even.min(self.max.as_secs_f64());
        let spread = (2.0 * spread.clamp(0.0, 1.0) - 1.0) * self.jitter.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(bounded * (1.0 + spread)).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(policy: &Retry, spread: f64, retries: u32) -> Vec<f64> {
        let wait = |retry| policy.wait(retry, spread).as_secs_f64();
        (0..retries).map(wait).collect()
    }

    #[test]
    fn waits_before_an_answer_double_from_a_quarter_second_to_a_minute() {
        let expected = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        assert_eq!(waits(&Retry::BEFORE_ANSWER, 0.5, 10), expected);
    }

    #[test]
    fn waits_after_an_answer_grow_by_half_from_a_second_to_thirty() {
        let found = waits(&Retry::AFTER_ANSWER, 0.5, 10);
        assert_eq!(found[..4], [1.0, 1.5, 2.25, 3.375]);
        assert_eq!(found[8..], [1.5_f64.powi(8), 30.0]);
    }

    #[test]
    fn jitter_spreads_a_wait_by_a_fifth_each_way() {
        let second = |spread| Retry::AFTER_ANSWER.wait(0, spread);
        assert_eq!(second(0.0), Duration::from_millis(800));
        assert_eq!(second(1.0), Duration::from_millis(1200));
        assert_eq!(second(7.0), second(1.0));
    }

    #[test]
    fn no_policy_and_no_retry_count_gives_an_endless_wait() {
        for factor in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            let odd = Retry { factor, ..Retry::AFTER_ANSWER };
            for retry in [0, 1, 1000, u32::MAX] {
                assert!(odd.wait(retry, 1.0) <= Duration::from_secs(36), "{factor} {retry}");
            }
        }
    }
}
