//! What a peer says about an error, read tolerantly and made fit to print.

use serde_json::Value;

pub(crate) const MAX_CODE: usize = 100;
pub(crate) const MAX_MESSAGE: usize = 500;

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

/// At most `max` characters, control characters escaped; nothing of a blank text.
pub(crate) fn printable(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    let mut printable = String::new();
    for c in text.chars().take(max) {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    (!text.is_empty()).then_some(printable)
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
    fn what_a_peer_says_is_cut_and_can_not_move_the_cursor_of_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n", 100).unwrap(), "a\\u{1b}[2Jb");
        assert_eq!(printable(&"ä".repeat(600), MAX_MESSAGE).unwrap().chars().count(), 500);
        assert_eq!(printable(" \n", 10), None);
    }
}
