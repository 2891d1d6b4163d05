//! The conversation before the message.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{AgentError, code};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Message {
    pub(super) role: String,
    pub(super) content: String,
}

impl Message {
    pub(super) fn new(role: &str, content: &str) -> Self {
        let (role, content) = (role.to_owned(), content.to_owned());
        Self { role, content }
    }
}

/// How much of a conversation is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) messages: usize,
    /// Of their contents, in all.
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { messages: 100, bytes: 256 * 1024 }
    }
}

impl Limits {
    /// The newest messages that keep to the limits, the first of them no answer: it would have lost its question.
    pub(super) fn apply(self, mut history: Vec<Message>) -> Vec<Message> {
        let mut bytes = 0;
        let newest = history.iter().rev().take(self.messages);
        let fitting = newest.take_while(|message| {
            bytes += message.content.len();
            bytes <= self.bytes
        });
        let left_out = history.len() - fitting.count();
        if left_out > 0 {
            tracing::debug!(left_out, "the oldest messages of a conversation are not sent");
        }
        let kept = history.split_off(left_out);
        kept.into_iter().skip_while(|message| message.role == "assistant").collect()
    }
}

/// The member `history` of a request.
pub(super) fn read(member: Option<&RawValue>) -> Result<Vec<Message>, AgentError> {
    let json = member.map_or("null", RawValue::get);
    let history: Option<Vec<Message>> = serde_json::from_str(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        invalid(format!(
            "history must be an array of {{\"role\",\"content\"}}, both strings: line {line}, column {column} of it"
        ))
    })?;
    let history = history.unwrap_or_default();
    let is_unknown = |message: &Message| !ROLES.contains(&message.role.as_str());
    match history.iter().position(is_unknown) {
        Some(at) => Err(invalid(format!("history[{at}].role must be user, assistant or system"))),
        None => Ok(history),
    }
}

const ROLES: [&str; 3] = ["user", "assistant", "system"];

fn invalid(message: String) -> AgentError {
    AgentError::new(code::INVALID_HISTORY, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(turns: usize) -> Vec<Message> {
        let turn = |at: usize| {
            let question = Message::new("user", &format!("question {at}"));
            [question, Message::new("assistant", &format!("answer {at}"))]
        };
        (0..turns).flat_map(turn).collect()
    }

    fn kept(messages: usize, bytes: usize) -> Vec<String> {
        let limits = Limits { messages, bytes };
        let kept = limits.apply(conversation(3)).into_iter();
        kept.map(|message| message.content).collect()
    }

    #[test]
    fn the_newest_messages_are_kept_from_a_question_on() {
        assert_eq!(kept(100, 1_000).len(), 6);
        assert_eq!(kept(2, 1_000), ["question 2", "answer 2"]);
        assert_eq!(kept(3, 1_000), ["question 2", "answer 2"]);
        assert_eq!(kept(100, 18), ["question 2", "answer 2"]);
        assert_eq!(kept(100, 17), [""; 0]);
        assert_eq!(kept(0, 1_000), [""; 0]);
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_place() {
        let refused = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            read(Some(&raw)).unwrap_err().message().to_owned()
        };
        assert!(refused(r#"{"role":"user"}"#).contains("line 1, column 0"));
        assert!(refused("[\n{\"role\":\"user\",\"content\":7}]").contains("line 2, column 26"));
        let tool = r#"[{"role":"user","content":""},{"role":"tool","content":""}]"#;
        assert!(refused(tool).starts_with("history[1].role"));
        assert_eq!(read(None), Ok(Vec::new()));
    }
}
