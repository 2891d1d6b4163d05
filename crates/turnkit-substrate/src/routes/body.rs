//! Request bodies: JSON, bounded in size and time.

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time;

use crate::{Limits, error::ApiError};

/// The whole body, which is not encoded. One that is there must say that it is JSON, so that no web page can send it without
/// being asked first.
pub(super) async fn read(request: Request, limits: &Limits) -> Result<Bytes, ApiError> {
    if is_encoded(request.headers()) {
        return Err(ApiError::encoded());
    }
    let is_json = says_json(request.headers());
    let within = limits.connection.body_read;
    let read = time::timeout(within, collect(request.into_body(), limits.request_body)).await;
    let body = read.map_err(|_| ApiError::body_timeout(within))??;
    if !is_json && !body.is_empty() {
        return Err(ApiError::unsupported_media_type());
    }
    Ok(body)
}

/// A body that says that it is longer is not waited for.
async fn collect(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::payload_too_large(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::payload_too_large(limit)),
        Err(_) => Err(ApiError::invalid("body", "the body ended before its length")),
    }
}

/// Compressed, for example. Nothing here takes that apart: a small body could become a large one.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn says_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = types.next().is_some_and(|value| is_json(value.as_bytes()));
    is_json && types.next().is_none()
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"application/json"))
}
