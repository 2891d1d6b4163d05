use serde_json::Value;
use turnkit_wire::text;

/// What the body of an answer that is an error says, read tolerantly and made fit to print.
///
/// It is what `server::ApiError` writes, `{"success":false,"error":{"code","message", …}}`; and what
/// others write in its place: `{"error":"message"}` and `{"code","message"}`. Anything else says nothing.
///
/// ```
/// use turnkit_http::client::ErrorBody;
///
/// let body = ErrorBody::read(br#"{"success":false,"error":{"code":"busy","message":"not now\n","limit":7}}"#);
/// assert_eq!((body.code().as_deref(), body.message().as_deref()), (Some("busy"), Some("not now")));
/// assert_eq!(body.member("limit", 10).as_deref(), Some("7"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorBody(Value);

impl ErrorBody {
    /// Reads a body, which may be anything.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        Self(serde_json::from_slice(body).unwrap_or_default())
    }

    /// The code: a text or a number, of at most [`MAX_CODE`](text::MAX_CODE) characters.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        self.member("code", text::MAX_CODE)
    }

    /// The message, of at most [`MAX_MESSAGE`](text::MAX_MESSAGE) characters.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let message = self.error().as_str();
        let message = message.or_else(|| self.value("message")?.as_str())?;
        text::said(message, text::MAX_MESSAGE).map(Into::into)
    }

    /// Any member of the error: a text or a number, of at most `max` printable characters, as [`text::said`] cuts it.
    #[must_use]
    pub fn member(&self, name: &str, max: usize) -> Option<String> {
        match self.value(name)? {
            Value::String(value) => text::said(value, max).map(Into::into),
            Value::Number(value) => text::said(&value.to_string(), max).map(Into::into),
            _ => None,
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.error().get(name).or_else(|| self.0.get(name))
    }

    fn error(&self) -> &Value {
        self.0.get("error").unwrap_or(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Option<String>, Option<String>) {
        let body = ErrorBody::read(json.as_bytes());
        (body.code(), body.message())
    }

    #[test]
    fn a_code_and_a_message_are_found_wherever_they_stand() {
        let both = || (Some("c".to_owned()), Some("m".to_owned()));
        assert_eq!(read(r#"{"success":false,"error":{"code":"c","message":"m"}}"#), both());
        assert_eq!(read(r#"{"code":"c","message":"m"}"#), both());
        assert_eq!(read(r#"{"code":"c","error":"m"}"#), both());
        assert_eq!(read(r#"{"error":{"code":7}}"#), (Some("7".into()), None));
    }

    #[test]
    fn a_body_that_says_nothing_is_no_error_of_its_own() {
        for body in [
            "",
            "<html>",
            "[]",
            "null",
            "{}",
            r#"{"error":null}"#,
            r#"{"error":{"code":[],"message":" "}}"#,
        ] {
            assert_eq!(read(body), (None, None), "{body}");
        }
    }

    #[test]
    fn what_a_peer_says_is_cut_and_printable() {
        let long = format!(" a\u{1b}[2Jb{}\n", "ä".repeat(600));
        let told = read(&serde_json::json!({ "message": long }).to_string()).1.unwrap();
        assert!(told.starts_with("a\\u{1b}[2Jbä") && told.ends_with("ä…"), "{told}");
        assert_eq!(told.chars().count(), 500);
    }
}
