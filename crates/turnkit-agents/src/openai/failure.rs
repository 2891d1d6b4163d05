//! What went wrong with an endpoint, told without its key.

use http::StatusCode;
use serde_json::Value;
use turnkit_http::client::{BearerToken, is_transient};

use super::AgentError;
use crate::lenient::{number, read, words};

/// The codes of the failures that this agent tells.
pub mod code {
    /// The request's `history` is not what one must be.
    pub const INVALID_HISTORY: &str = "invalid_history";
    /// The request's `backend.model` is not offered.
    pub const MODEL_NOT_OFFERED: &str = "model_not_offered";
    /// No connection could be made, or it closed before an answer.
    pub const UPSTREAM_UNREACHABLE: &str = "upstream_unreachable";
    /// The server answered 401 or 403: the key is wrong, or may not do this.
    pub const UPSTREAM_UNAUTHORIZED: &str = "upstream_unauthorized";
    /// The server answered 429, and its wait was longer than allowed or did not help.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// The server answered another 4xx, or a redirect.
    pub const UPSTREAM_REJECTED: &str = "upstream_rejected";
    /// The server answered 5xx, or sent an error in the middle of its answer.
    pub const UPSTREAM_ERROR: &str = "upstream_error";
    /// The server sent nothing for too long.
    pub const UPSTREAM_TIMEOUT: &str = "upstream_timeout";
    /// The answer stopped before its end.
    pub const UPSTREAM_INTERRUPTED: &str = "upstream_interrupted";
    /// The answer is not what the API says.
    pub const UPSTREAM_PROTOCOL: &str = "upstream_protocol";
    /// The model refused, and said so in a `refusal`.
    pub const REFUSED: &str = "refused";
    /// The server's filter withheld all of the answer.
    pub const CONTENT_FILTER: &str = "content_filter";
}

/// Another status than 200.
pub(super) fn of_status(status: StatusCode, body: &[u8], key: Option<&BearerToken>) -> AgentError {
    let code = match status.as_u16() {
        401 | 403 => code::UPSTREAM_UNAUTHORIZED,
        429 => code::RATE_LIMITED,
        500.. => code::UPSTREAM_ERROR,
        _ => code::UPSTREAM_REJECTED,
    };
    let told = told(body).map(|told| keyless(told, key));
    let told = told.filter(|told| !told.is_empty());
    let told = told.map_or_else(String::new, |told| format!(": {told}"));
    let error = AgentError::new(code, format!("the upstream answered {status}{told}"));
    if is_transient(status.as_u16()) { error.temporary() } else { error }
}

/// An error object in the middle of an answer, or instead of one.
pub(super) fn of_object(error: &Value, key: Option<&BearerToken>) -> AgentError {
    let told = words(error).unwrap_or_else(|| error.to_string());
    let told = keyless(told, key);
    let failure =
        AgentError::new(code::UPSTREAM_ERROR, format!("the upstream sent an error: {told}"));
    if is_passing(error) { failure.temporary() } else { failure }
}

/// Whether an error says of itself that it passes: by its status, or by its type.
fn is_passing(error: &Value) -> bool {
    let inner = error.get("error").unwrap_or(error);
    let says = |name: &str| inner.get(name).or_else(|| error.get(name));
    let status =
        ["code", "status", "status_code"].into_iter().find_map(|name| says(name).and_then(number));
    let is_status = status.and_then(|status| u16::try_from(status).ok()).is_some_and(is_transient)
        || status == Some(529);
    let kinds = ["type", "code", "status"]
        .into_iter()
        .filter_map(|name| says(name).and_then(Value::as_str));
    let is_kind = |kind: &str| {
        let kind = kind.to_ascii_lowercase();
        ["overload", "rate_limit", "unavailable", "exhausted", "timeout"]
            .iter()
            .any(|word| kind.contains(word))
    };
    is_status || kinds.into_iter().any(is_kind)
}

pub(super) fn protocol(what: impl std::fmt::Display) -> AgentError {
    AgentError::new(code::UPSTREAM_PROTOCOL, format!("the upstream's answer {what}"))
}

/// The message of an error body: JSON in one of the shapes that servers use, or plain text.
fn told(body: &[u8]) -> Option<String> {
    match read(body) {
        Some(json) => words(&json),
        None if body.trim_ascii_start().starts_with(b"<") => {
            // A page of a gateway: its title says it, and the rest is for browsers.
            let page = String::from_utf8_lossy(body);
            let title = page.split_once("<title>")?.1.split_once("</title>")?.0;
            Some(title.to_owned())
        }
        None => Some(String::from_utf8_lossy(body).into_owned()),
    }
}

/// Without the key. The whole text is searched, so that none is left in halves where the message is cut.
fn keyless(text: String, key: Option<&BearerToken>) -> String {
    let text = match key {
        Some(key) => key.cut_from(text),
        None => text,
    };
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> String {
        let key = BearerToken::from("sk-s3cret");
        let status = StatusCode::from_u16(status).unwrap();
        let error = of_status(status, body.as_bytes(), Some(&key));
        format!("{}: {}", error.code(), error.message())
    }

    #[test]
    fn every_shape_of_an_error_body_gives_its_message() {
        let expected = "upstream_rejected: the upstream answered 404 Not Found: no such model";
        let shapes = [
            r#"{"error":{"message":"no such model","type":"x","code":null}}"#,
            r#"{"error":"no such model"}"#,
            r#"{"object":"error","message":"no such model","code":404}"#,
            r#"{"detail":"no such model"}"#,
            "no such model\r\n",
        ];
        for shape in shapes {
            assert_eq!(of(404, shape), expected, "{shape}");
        }
        assert_eq!(of(404, "<html><title>no such model</title></html>"), expected);
        for shape in ["", "<html>no such model</html>", "{}", "[1]"] {
            let bare = "upstream_rejected: the upstream answered 404 Not Found";
            assert_eq!(of(404, shape), bare, "{shape}");
        }
    }

    #[test]
    fn a_status_that_passes_is_temporary() {
        let is_temporary = |status| of_status(status, b"", None).is_temporary();
        assert!(is_temporary(StatusCode::TOO_MANY_REQUESTS));
        assert!(is_temporary(StatusCode::SERVICE_UNAVAILABLE));
        assert!(!is_temporary(StatusCode::UNAUTHORIZED));
        assert!(!is_temporary(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn the_key_is_cut_out_and_the_message_bounded() {
        let told = of(401, r#"{"error":{"message":"wrong key: sk-s3cret."}}"#);
        assert!(told.ends_with("wrong key: [key]."), "{told}");
        let long = "x".repeat(10_000);
        assert!(of(500, &long).len() < 600);
        // A key at the cut must not be left in halves.
        let at_the_cut = format!("{}sk-s3cret", "x ".repeat(225));
        assert!(!of(500, &at_the_cut).contains("sk-"));
    }
}
