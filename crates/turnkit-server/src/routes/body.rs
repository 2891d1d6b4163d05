//! Members of request bodies.

use std::time::Duration;

use serde_json::Value;
use turnkit_http::server::{ApiError, BodyLimits};

/// The longest request body, in bytes. A message reaches the substrate in a body of at most 1 MiB (PROTOCOL 3.2).
pub(crate) const MAX_BODY: usize = 512 * 1024;

pub(super) const LIMITS: BodyLimits = BodyLimits { bytes: MAX_BODY, time: Duration::from_secs(30) };

/// A member that must be there, and text.
pub(super) fn text(member: Option<Value>, name: &str) -> Result<String, ApiError> {
    let text = optional_text(member, name)?;
    text.ok_or_else(|| ApiError::invalid_request(format!("{name} is missing")).field(name))
}

/// A member that is text where it is there.
pub(super) fn optional_text(member: Option<Value>, name: &str) -> Result<Option<String>, ApiError> {
    match member {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid_request(format!("{name} must be a string")).field(name)),
    }
}
