//! What lists have in common.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use turnkit_http::server::ApiError;

/// Entries of a page where the request does not say, and at most.
const MAX_LIMIT: u32 = 200;

/// How many entries a page may have, as the query's member `name` says.
pub(super) fn limit(name: &str, asked: Option<&str>) -> Result<u32, ApiError> {
    let limit = number(name, asked)?.unwrap_or(MAX_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let message = format!("{name} must be a number from 1 to {MAX_LIMIT}");
        return Err(ApiError::invalid_request(message).field(name));
    }
    Ok(limit)
}

/// The number that the query's member `name` holds: digits, and one way to write each number.
pub(super) fn number<N: FromStr>(name: &str, text: Option<&str>) -> Result<Option<N>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_plain && (text == "0" || !text.starts_with('0')) => Ok(Some(number)),
        _ => {
            let message = format!("{name} must be a whole number, without sign or leading zeros");
            Err(ApiError::invalid_request(message).field(name))
        }
    }
}

/// Unix milliseconds as people and `new Date()` read them: `2026-11-23T03:19:09.123Z`.
pub(super) fn rfc3339(unix_millis: i64) -> String {
    let since = Duration::from_millis(u64::try_from(unix_millis).unwrap_or_default());
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}
