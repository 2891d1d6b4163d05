//! The conversation before the message.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use turnkit_wire::text;

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

/// A conversation as it is sent, and whether all of it is.
pub(super) struct Kept {
    pub(super) messages: Vec<Message>,
    /// How many messages were left out, or cut.
    pub(super) omitted: usize,
}

impl Limits {
    /// The newest messages that keep to the limits, the first of them no answer: it would have lost its question. Blank ones
    /// are left out, for some APIs refuse them; one that would take more than half of the room is cut to that, so that the
    /// others are not lost for it.
    pub(super) fn apply(self, history: Vec<Message>) -> Kept {
        let mut history: Vec<_> =
            history.into_iter().filter(|message| !message.content.trim().is_empty()).collect();
        let most = (self.bytes / 2).max(MIN_CUT);
        let mut omitted = 0;
        for message in history.iter_mut().filter(|message| message.content.len() > most) {
            let end = text::head(&message.content, most).len();
            message.content.truncate(end);
            message.content.push_str(CUT);
            omitted += 1;
        }
        let mut bytes = 0;
        let newest = history.iter().rev().take(self.messages);
        let fitting = newest.take_while(|message| {
            bytes += message.content.len();
            bytes <= self.bytes
        });
        let left_out = history.len() - fitting.count();
        let kept = history.split_off(left_out);
        let count = kept.len();
        let messages: Vec<_> =
            kept.into_iter().skip_while(|message| message.role == "assistant").collect();
        omitted += left_out + count - messages.len();
        Kept { messages, omitted }
    }
}

/// What stands where a message was cut.
const CUT: &str = "\n[…]";

/// No message is cut to fewer bytes: nothing could be made of it.
const MIN_CUT: usize = 32;

/// Bytes of the contents.
pub(super) fn size(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.content.len()).sum()
}

/// The newer half of a conversation, or as much less as has room in `bytes`.
pub(super) fn newer_half(messages: Vec<Message>, bytes: usize) -> Kept {
    let bytes = bytes.min(size(&messages) / 2);
    Limits { messages: usize::MAX, bytes }.apply(messages)
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
        let kept = limits.apply(conversation(3)).messages.into_iter();
        kept.map(|message| message.content).collect()
    }

    #[test]
    fn the_newest_messages_are_kept_from_a_question_on() {
        assert_eq!(kept(100, 1_000).len(), 6);
        assert_eq!(kept(2, 1_000), ["question 2", "answer 2"]);
        assert_eq!(kept(3, 1_000), ["question 2", "answer 2"]);
        assert_eq!(kept(100, 20), ["question 2", "answer 2"]);
        assert_eq!(kept(0, 1_000), [""; 0]);
        let newer = |turns: usize, bytes: usize| newer_half(conversation(turns), bytes);
        assert_eq!((newer(3, 1_000).messages.len(), newer(3, 1_000).omitted), (2, 4));
        assert_eq!((newer(8, 40).messages.len(), newer(8, 40).omitted), (4, 12));
        assert_eq!(newer(1, 1_000).messages, []);
    }

    #[test]
    fn half_of_a_conversation_is_half_of_its_text() {
        let mut history = conversation(2);
        history.extend([Message::new("user", &"x".repeat(10_000)), Message::new("assistant", "y")]);
        history.extend(conversation(1));
        let half = newer_half(history, usize::MAX);
        let lengths: Vec<_> = half.messages.iter().map(|message| message.content.len()).collect();
        assert_eq!(lengths, [10, 8, 10, 8, 2_513 + CUT.len(), 1, 10, 8]);
        assert_eq!(half.omitted, 1);
    }

    #[test]
    fn one_message_that_is_too_long_is_cut_and_the_others_stay() {
        let mut history = conversation(3);
        history.insert(4, Message::new("user", &"é".repeat(1_000)));
        history.insert(5, Message::new("assistant", " \n"));
        let kept = Limits { messages: 100, bytes: 201 }.apply(history);
        assert_eq!((kept.messages.len(), kept.omitted), (7, 1));
        assert_eq!(kept.messages[4].content, format!("{}{CUT}", "é".repeat(50)));
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
