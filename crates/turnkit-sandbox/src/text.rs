//! What a peer says about an error, read tolerantly and made fit to print.

use serde_json::Value;
use turnkit_wire::text;
pub(crate) use turnkit_wire::text::MAX_MESSAGE;

pub(crate) const MAX_CODE: usize = 100;

/// A code and a message, wherever a body or an event's data holds them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

impl Complaint {
    /// Reads `{"error":{"code","message"}}`, `{"error":"message"}` and `{"code","message"}`; anything else says nothing.
    pub(crate) fn read(json: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(json).unwrap_or_default();
        let inner = body.get("error").unwrap_or(&body);
        let message = inner.as_str().or_else(|| inner.get("message")?.as_str());
        let message = message.or_else(|| body.get("message")?.as_str());
        let code = inner.get("code").or_else(|| body.get("code"));
        Self {
            code: code.and_then(spelt).and_then(|code| printable(&code, MAX_CODE)),
            message: message.and_then(|message| printable(message, MAX_MESSAGE)),
        }
    }
}

fn spelt(code: &Value) -> Option<String> {
    match code {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    }
}

/// At most `max` characters that can be printed (PROTOCOL 2.4); nothing of a blank text.
pub(crate) fn printable(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text::excerpt(text, max).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Option<String>, Option<String>) {
        let Complaint { code, message } = Complaint::read(json.as_bytes());
        (code, message)
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
    fn what_a_peer_says_is_trimmed_cut_and_printable_and_a_blank_says_nothing() {
        let long = format!(" a\u{1b}[2Jb{}\n", "ä".repeat(600));
        let told = read(&serde_json::json!({ "message": long }).to_string()).1.unwrap();
        assert!(told.starts_with("a\\u{1b}[2Jbä") && told.ends_with("ä…"), "{told}");
        assert_eq!(told.chars().count(), 500);
        assert_eq!(printable(" \n", 10), None);
    }
}
