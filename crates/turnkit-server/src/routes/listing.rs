//! What lists have in common.

use std::time::{Duration, SystemTime};

use super::error::ApiError;

/// Entries of a page where the request does not say, and at most.
const MAX_LIMIT: u32 = 200;

/// How many entries a page may have, as the query's member `name` says.
pub(super) fn limit(name: &str, asked: Option<u32>) -> Result<u32, ApiError> {
    match asked.unwrap_or(MAX_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(ApiError::invalid(format!("{name} must be a number from 1 to {MAX_LIMIT}"))),
    }
}

/// Unix milliseconds as people and `new Date()` read them: `2026-11-23T03:19:09.123Z`.
pub(super) fn rfc3339(unix_millis: i64) -> String {
    let since = Duration::from_millis(u64::try_from(unix_millis).unwrap_or_default());
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}
