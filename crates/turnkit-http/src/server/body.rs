//! Bodies of requests: one JSON object, bounded in size and time.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use thiserror::Error;
use tokio::time;

use super::{ApiError, single_header};

/// How large the body of a request may be, and how long it may take.
///
/// [`InBody`] and [`Nothing`] keep to the one in the request's extensions, where a layer
/// [`axum::Extension`]`(limits)` puts it, and to the default one otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Its bytes: 1 MiB.
    pub bytes: usize,
    /// The time in which the whole of it must come: 30 s.
    pub time: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, time: Duration::from_secs(30) }
    }
}

impl BodyLimits {
    /// The whole body of `request`. One that is not empty must say that it is `application/json`, so that no web page can send
    /// it to another site without being asked first. One that is compressed is not taken apart: a small body could become a
    /// large one.
    ///
    /// Cancel: what was read is lost.
    ///
    /// # Errors
    /// 415 `unsupported_media_type`; 413 `payload_too_large`, at once where the body says its length; 408 `request_timeout`;
    /// 400 `invalid_request` where the body breaks off.
    pub async fn read(self, request: Request) -> Result<Bytes, ApiError> {
        let says_json = says_json(request.headers())?;
        let body = request.into_body();
        if body.size_hint().lower() > self.bytes as u64 {
            return Err(ApiError::payload_too_large(self.bytes));
        }
        let collected = time::timeout(self.time, Limited::new(body, self.bytes).collect()).await;
        let body = match collected {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(ApiError::payload_too_large(self.bytes));
            }
            Ok(Err(_)) => {
                return Err(ApiError::invalid_request("the request body broke off").field("body"));
            }
            Err(_) => return Err(ApiError::request_timeout(self.time)),
        };
        if says_json || body.is_empty() { Ok(body) } else { Err(not_json()) }
    }

    async fn read_by_extension(request: Request) -> Result<Bytes, ApiError> {
        let limits = request.extensions().get::<Self>().copied().unwrap_or_default();
        limits.read(request).await
    }
}

/// Whether a request says that its body is JSON; it may say nothing, but nothing else.
pub(super) fn says_json(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::unsupported_media_type(
            "the request body must be sent as it is, without a Content-Encoding",
        ));
    }
    let content_type = single_header(headers, "Content-Type").map_err(|_| not_json())?;
    let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(true),
        Some(_) => Err(not_json()),
        None => Ok(false),
    }
}

pub(super) fn not_json() -> ApiError {
    ApiError::unsupported_media_type("the request body must be application/json")
}

/// Extracts a body that is one JSON object, within the [`BodyLimits`] of the request.
///
/// Refused as [`BodyLimits::read`] and [`object`] refuse it.
#[derive(Clone, Copy, Debug)]
pub struct InBody<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for InBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Ok(Self(object(&BodyLimits::read_by_extension(request).await?)?))
    }
}

/// Extracts a body that says nothing: none, or one JSON object whose members nobody asked for.
///
/// Refused as [`InBody`].
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl<S: Sync> FromRequest<S> for Nothing {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = BodyLimits::read_by_extension(request).await?;
        if !body.is_empty() {
            object::<IgnoredAny>(&body)?;
        }
        Ok(Self)
    }
}

/// Reads one JSON object into `T`. An array is refused, although serde would take a struct's members from it, in their order.
///
/// # Errors
/// Where it stops to be what `T` needs, in our words: serde's tell of types, and repeat what was sent.
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, NotAnObject> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotAnObject { line: 1, column: 1, fault: Fault::Shape });
    }
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        NotAnObject { line, column, fault: Fault::of(&error) }
    })
}

/// A text that is not the JSON object that was expected. Says where, never what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the request body {}: line {line}, column {column}", .fault.words())]
#[non_exhaustive]
pub struct NotAnObject {
    /// The line, counted from 1.
    pub line: usize,
    /// The byte in that line, counted from 1; 0 before its first.
    pub column: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What keeps a text from being the JSON object that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is no JSON, no object, not whole, or has a member twice or of another type.
    Shape,
    /// A string has half of a surrogate pair, as text has that was cut by its UTF-16 length (RFC 8259, 8.2).
    HalfPair,
    /// A string has an escape that is none.
    Escape,
}

impl Fault {
    /// serde tells these by its words alone.
    fn of(error: &serde_json::Error) -> Self {
        let said = error.to_string();
        let says = |words: &[&str]| words.iter().any(|words| said.starts_with(words));
        if says(&["lone leading surrogate", "unexpected end of hex escape"]) {
            Self::HalfPair
        } else if says(&["invalid escape"]) {
            Self::Escape
        } else {
            Self::Shape
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Shape => "must be one JSON object, with each member once",
            Self::HalfPair => "has half of a surrogate pair without the other half",
            Self::Escape => "has an escape that JSON does not know",
        }
    }
}

/// 400 `invalid_request` with the field `body`.
impl From<NotAnObject> for ApiError {
    fn from(error: NotAnObject) -> Self {
        Self::invalid_request(error.to_string()).field("body")
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::{Extension, Router, body::Body, routing::post};
    use futures_util::stream;
    use serde::Deserialize;
    use tower::ServiceExt as _;

    use super::*;

    const SMALL: BodyLimits = BodyLimits { bytes: 16, time: Duration::from_secs(5) };

    #[derive(Debug, Deserialize)]
    struct Asked {
        name: String,
    }

    fn request(body: Body, headers: &[(&str, &str)]) -> Request {
        let request = Request::post("/");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(body).unwrap()
    }

    async fn read(limits: BodyLimits, body: Body) -> Result<Bytes, u16> {
        let request = request(body, &[("content-type", "application/json")]);
        limits.read(request).await.map_err(|refused| refused.status().as_u16())
    }

    #[tokio::test]
    async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
        assert_eq!(read(SMALL, "x".repeat(16).into()).await, Ok("x".repeat(16).into()));
        assert_eq!(read(SMALL, "x".repeat(17).into()).await, Err(413));
        let undeclared = |count| {
            let chunk = |_| Ok::<_, io::Error>(Bytes::from_static(b"1234"));
            Body::from_stream(stream::iter((0..count).map(chunk)))
        };
        assert_eq!(read(SMALL, undeclared(4)).await.unwrap().len(), 16);
        assert_eq!(read(SMALL, undeclared(5)).await, Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        assert_eq!(read(SMALL, silent).await, Err(408));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_none() {
        let parts: [io::Result<Bytes>; 2] =
            [Ok(Bytes::from_static(b"{")), Err(io::ErrorKind::ConnectionReset.into())];
        assert_eq!(read(SMALL, Body::from_stream(stream::iter(parts))).await, Err(400));
    }

    #[tokio::test]
    async fn a_body_says_that_it_is_json_and_is_not_encoded() {
        let status = async |headers: &[(&str, &str)], body: &'static str| {
            let read = SMALL.read(request(body.into(), headers)).await;
            read.map_or_else(|refused| refused.status().as_u16(), |_| 200)
        };
        let json = ("content-type", "application/json");
        for (headers, body, expected) in [
            (&[json][..], "{}", 200),
            (&[("content-type", "Application/JSON; charset=utf-8")], "{}", 200),
            (&[json, ("content-encoding", "Identity")], "{}", 200),
            (&[], "", 200),
            (&[], "{}", 415),
            (&[("content-type", "text/plain")], "{}", 415),
            (&[("content-type", "application/x-www-form-urlencoded")], "", 415),
            (&[("content-type", "application/jsonp")], "{}", 415),
            (&[json, json], "{}", 415),
            (&[json, ("content-encoding", "gzip")], "{}", 415),
            (&[json, ("content-encoding", "identity, gzip")], "{}", 415),
            (&[json, ("content-encoding", "identity"), ("content-encoding", "br")], "{}", 415),
            (&[json, ("content-encoding", "")], "{}", 415),
        ] {
            assert_eq!(status(headers, body).await, expected, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn extractors_keep_to_the_limits_of_a_layer() {
        let name = post(|InBody(Asked { name }): InBody<Asked>| async { name });
        let routes: Router = Router::new().route("/", name).route_layer(Extension(SMALL));
        for (body, expected) in [
            (r#"{"name":"ann"}"#, 200),
            (r#"{"name":"anna and more"}"#, 413),
            ("{}", 400),
            (r#"["ann"]"#, 400),
            (r#"{"name":"a"} {}"#, 400),
            ("", 400),
        ] {
            let request = request(body.into(), &[("content-type", "application/json")]);
            let answer = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), expected, "{body}");
        }
    }

    #[test]
    fn an_object_is_told_from_what_is_none_by_its_place() {
        for (json, line, column) in [
            ("", 1, 1),
            ("[\"ann\"]", 1, 1),
            ("null", 1, 1),
            ("{\"name\":\"a\",\n \"name\":\"b\"}", 2, 7),
            ("{\"name\":\"a\"} {}", 1, 14),
            ("{\"name\":\"s3cret\"", 1, 16),
        ] {
            let error = object::<Asked>(json.as_bytes()).unwrap_err();
            assert_eq!(error, NotAnObject { line, column, fault: Fault::Shape }, "{json}");
            assert!(!error.to_string().contains("s3cret"));
        }
        assert_eq!(object::<Asked>(b" \n{\"name\":\"a\",\"more\":1}").unwrap().name, "a");
    }

    #[test]
    fn a_bad_escape_is_named() {
        for (text, fault) in [
            (r"cut \ud83d", Fault::HalfPair),
            (r"\ud83d and on", Fault::HalfPair),
            (r"\ud83d\n", Fault::HalfPair),
            (r"\ud83d\u0041", Fault::HalfPair),
            (r"\ude00", Fault::HalfPair),
            (r"\x41", Fault::Escape),
            (r"\u00g0", Fault::Escape),
        ] {
            let body = format!(r#"{{"name":"{text}"}}"#);
            let error = object::<Asked>(body.as_bytes()).unwrap_err();
            assert_eq!(error.fault, fault, "{text}: {error}");
            assert_eq!(error.line, 1);
        }
        assert_eq!(object::<Asked>(br#"{"name":"\ud83d\ude00"}"#).unwrap().name, "\u{1F600}");
    }
}
