//! `POST /api/chat`, as the transports of the AI SDK send it.

use alloc::{borrow::Cow, string::String, vec::Vec};

use turnkit_wire::value::Value;

use super::{
    MAX_ANSWERS, MAX_ID, MAX_MESSAGES, MAX_PARTS, RequestError, data, id, join, object, session,
    within,
};

/// What `useChat` of the AI SDK 5, 6 or 7 posts.
#[derive(Clone, Debug)]
pub struct ChatRequest<'a> {
    /// The chat's id: the name of a session ([`is_session_name`](super::is_session_name)).
    pub id: Cow<'a, str>,
    /// What the user did.
    pub trigger: Trigger,
    /// The message that is to be answered anew or was edited, where the client names one.
    pub message_id: Option<Cow<'a, str>>,
    /// The agent that is asked for, where the application sends one (`agent`).
    pub agent: Option<Cow<'a, str>>,
    /// How many messages the client has.
    pub messages: usize,
    last: Message<'a>,
    user: Option<Message<'a>>,
}

/// What the user did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Sent a message, or an answer: `submit-message`, also where nothing is said.
    Submit,
    /// Wants another answer: `regenerate-message`.
    Regenerate,
}

/// A message of the client's.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Its id, as the client has it. See [`turn_id`](super::turn_id).
    pub id: Cow<'a, str>,
    /// Who wrote it.
    pub role: Role,
    /// Its text parts, joined by line feeds. Of an assistant's message: nothing.
    pub text: String,
    /// The approvals that were answered, in the order of the parts.
    pub approvals: Vec<Approval<'a>>,
    /// The outputs of the tools that the client ran, in the order of the parts.
    pub tool_outputs: Vec<ToolOutput<'a>>,
    /// The newest question that the message holds, answered or not.
    pub newest_question: Option<Held<'a>>,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The user.
    User,
    /// The assistant.
    Assistant,
}

/// A question, as a message holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held<'a> {
    /// By the id of the interaction.
    Interaction(Cow<'a, str>),
    /// By the id of the call that a client runs.
    Call(Cow<'a, str>),
}

/// An approval that was answered.
#[derive(Clone, Debug)]
pub struct Approval<'a> {
    /// The interaction.
    pub id: Cow<'a, str>,
    /// Whether it was approved.
    pub approved: bool,
    /// Why, where the user says it.
    pub reason: Option<Cow<'a, str>>,
}

/// The output of a tool that the client ran, or the answer to a question that is shown as one.
#[derive(Clone, Debug)]
pub struct ToolOutput<'a> {
    /// The call, or the interaction.
    pub of: Held<'a>,
    /// The output as JSON, or what went wrong.
    pub output: Result<&'a str, Cow<'a, str>>,
}

impl<'a> ChatRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// It is too large, no JSON, or not what the transports send; its last message has a file.
    pub fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        let (mut name, mut trigger, mut message_id, mut agent, mut messages) =
            (None, None, None, None, None);
        object(body)?.members(|key, value| match &*key.to_str() {
            "id" => name = Some(value),
            "trigger" => trigger = Some(value),
            "messageId" => message_id = Some(value),
            "agent" => agent = Some(value),
            "messages" => messages = Some(value),
            _ => {}
        });
        let name = session(name, "id")?;
        let expected = "submit-message or regenerate-message";
        let trigger = match trigger.filter(|trigger| !trigger.is_null()) {
            None => Trigger::Submit,
            Some(trigger) => match trigger.string().map(|trigger| trigger.to_str()).as_deref() {
                Some("submit-message") => Trigger::Submit,
                Some("regenerate-message") => Trigger::Regenerate,
                _ => return Err(RequestError::Invalid { field: "trigger", expected }),
            },
        };
        let optional =
            |value: Option<Value<'a>>, field| match value.filter(|value| !value.is_null()) {
                Some(value) => id(Some(value), field).map(Some),
                None => Ok(None),
            };
        let (message_id, agent) = (optional(message_id, "messageId")?, optional(agent, "agent")?);
        let (mut count, mut last, mut user) = (0, None, None);
        messages.unwrap_or_default().items(|message| {
            count += 1;
            last = Some(message);
            if message.get("role").and_then(Value::string).is_some_and(|role| role.is("user")) {
                user = Some(message);
            }
        });
        if count > MAX_MESSAGES {
            return Err(RequestError::TooMany { field: "messages", limit: MAX_MESSAGES });
        }
        let last = last.ok_or(RequestError::Invalid {
            field: "messages",
            expected: "an array of at least one message",
        })?;
        let last = Message::read(last)?;
        let user = match user.filter(|_| last.role == Role::Assistant) {
            Some(user) => Some(Message::read(user)?),
            None => None,
        };
        Ok(Self { id: name, trigger, message_id, agent, messages: count, last, user })
    }

    /// The last message.
    #[must_use]
    pub fn last(&self) -> &Message<'a> {
        &self.last
    }

    /// The last message that the user wrote.
    #[must_use]
    pub fn last_user(&self) -> Option<&Message<'a>> {
        if self.last.role == Role::User { Some(&self.last) } else { self.user.as_ref() }
    }
}

impl<'a> Message<'a> {
    fn read(message: Value<'a>) -> Result<Self, RequestError> {
        let (mut own_id, mut role, mut parts) = (None, None, None);
        message.members(|key, value| match &*key.to_str() {
            "id" => own_id = Some(value),
            "role" => role = value.string(),
            "parts" => parts = Some(value),
            _ => {}
        });
        let role = match role.map(|role| role.to_str()).as_deref() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            _ => {
                return Err(RequestError::Invalid {
                    field: "messages",
                    expected: "messages of a user or an assistant",
                });
            }
        };
        let mut message = Self {
            id: id(own_id, "messages")?,
            role,
            text: String::new(),
            approvals: Vec::new(),
            tool_outputs: Vec::new(),
            newest_question: None,
        };
        let (mut count, mut texts, mut result) = (0, 0_usize, Ok(()));
        parts.unwrap_or_default().items(|part| {
            count += 1;
            if result.is_ok() && count <= MAX_PARTS {
                result = message.part(part, &mut texts);
            }
        });
        if count > MAX_PARTS {
            return Err(RequestError::TooMany { field: "messages", limit: MAX_PARTS });
        }
        result.map(|()| message)
    }

    fn part(&mut self, part: Value<'a>, texts: &mut usize) -> Result<(), RequestError> {
        let Some(kind) = part.get("type").and_then(Value::string) else { return Ok(()) };
        let kind = kind.to_str();
        match (self.role, &*kind) {
            (Role::User, "text") => {
                let text = part.get("text").and_then(Value::string);
                let text = text.ok_or(RequestError::Invalid {
                    field: "messages",
                    expected: "messages with text",
                })?;
                *texts += 1;
                join(&mut self.text, &text.to_str(), *texts == 1)
            }
            (Role::User, "file") => Err(RequestError::Files),
            (Role::Assistant, kind) if kind == "dynamic-tool" || kind.starts_with("tool-") => {
                self.tool(part)
            }
            _ => Ok(()),
        }
    }

    fn tool(&mut self, part: Value<'a>) -> Result<(), RequestError> {
        let (mut call, mut state, mut approval, mut output, mut error, mut executed) =
            (None, None, None, None, None, false);
        part.members(|key, value| match &*key.to_str() {
            "toolCallId" => call = Some(value),
            "state" => state = value.string(),
            "approval" => approval = Some(value),
            "output" => output = Some(value),
            "errorText" => error = value.string(),
            "providerExecuted" => executed = value.boolean() == Some(true),
            _ => {}
        });
        if let Some(approval) = approval.filter(|approval| approval.is_object()) {
            let interaction = id(approval.get("id"), "messages")?;
            self.newest_question = Some(Held::Interaction(interaction.clone()));
            if let Some(approved) = approval.get("approved").and_then(Value::boolean) {
                let reason =
                    approval.get("reason").and_then(Value::string).map(|reason| reason.to_str());
                let reason = reason.map(|reason| within(reason, "messages", MAX_ID)).transpose()?;
                if self.approvals.len() == MAX_ANSWERS {
                    return Err(RequestError::TooMany { field: "messages", limit: MAX_ANSWERS });
                }
                self.approvals.push(Approval { id: interaction, approved, reason });
            }
        }
        if executed {
            return Ok(());
        }
        let call = id(call, "messages")?;
        let of = match call.strip_prefix("interaction:") {
            Some(interaction) => Held::Interaction(Cow::Owned(interaction.into())),
            None => Held::Call(call),
        };
        self.newest_question = Some(of.clone());
        let output = match state.map(|state| state.to_str()).as_deref() {
            Some("output-available") => {
                Ok(output.map_or(Ok("null"), |output| data(output, "messages"))?)
            }
            Some("output-error") => Err(error.map(|error| error.to_str()).unwrap_or_default()),
            _ => return Ok(()),
        };
        let output = match output {
            Ok(output) => Ok(output),
            Err(error) => Err(within(error, "messages", super::MAX_DATA)?),
        };
        if self.tool_outputs.len() == MAX_ANSWERS {
            return Err(RequestError::TooMany { field: "messages", limit: MAX_ANSWERS });
        }
        self.tool_outputs.push(ToolOutput { of, output });
        Ok(())
    }
}
