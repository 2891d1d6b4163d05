//! When a refused request is sent again.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use turnkit_http::client::retry_after;

/// How often, and within which time in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub(super) times: u32,
    pub(super) within: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 2, within: Duration::from_secs(30) }
    }
}

impl Retry {
    /// How long to wait before the next try; none where there is none. `retry` counts from 0, and `spent` from the first try.
    pub(super) fn wait(
        self,
        retry: u32,
        spent: Duration,
        asked: Option<Duration>,
        jitter: f64,
    ) -> Option<Duration> {
        let wait = asked.unwrap_or_else(|| backoff(retry, jitter));
        let is_allowed = retry < self.times && spent.saturating_add(wait) <= self.within;
        is_allowed.then_some(wait)
    }
}

/// 0.5 s doubling to 8 s; `jitter` from 0 to 1 moves it by a quarter either way.
fn backoff(retry: u32, jitter: f64) -> Duration {
    let full = Duration::from_millis(500) * 2_u32.pow(retry.min(4));
    full.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// What a server asks for in `retry-after-ms`, as some do, or in `Retry-After`.
pub(super) fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let millis =
        headers.get("retry-after-ms").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    millis.map(Duration::from_millis).or_else(|| retry_after(headers, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn waits_keep_to_both_bounds() {
        let retry = Retry { times: 2, within: S(30) };
        assert_eq!(retry.wait(0, S(0), Some(S(30)), 0.5), Some(S(30)));
        assert_eq!(retry.wait(0, S(1), Some(S(30)), 0.5), None);
        assert_eq!(retry.wait(0, S(0), Some(Duration::MAX), 0.5), None);
        assert_eq!(retry.wait(1, S(0), None, 0.5), Some(S(1)));
        assert_eq!(retry.wait(2, S(0), None, 0.5), None);
        assert_eq!(retry.wait(0, S(0), None, 0.0), Some(Duration::from_millis(375)));
        assert_eq!(retry.wait(0, S(0), None, 1.0), Some(Duration::from_millis(625)));
    }

    #[test]
    fn a_server_may_ask_in_three_ways() {
        let now = SystemTime::UNIX_EPOCH + S(784_111_777 - 5);
        let wait = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            asked(&headers, now)
        };
        assert_eq!(wait("retry-after", "7"), Some(S(7)));
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(S(5)));
        assert_eq!(wait("retry-after-ms", "20"), Some(Duration::from_millis(20)));
        assert_eq!(wait("retry-after", "soon"), None);
    }
}
