//! `RunAgentInput` of AG-UI 1.0.

use alloc::{borrow::Cow, string::String, vec::Vec};

use turnkit_wire::value::Value;

use super::{MAX_ANSWERS, MAX_MESSAGES, MAX_PARTS, RequestError, data, id, join, object, session};

/// What `HttpAgent` and TanStack AI post.
#[derive(Clone, Debug)]
pub struct RunAgentInput<'a> {
    /// The name of a session ([`is_session_name`](super::is_session_name)).
    pub thread_id: Cow<'a, str>,
    /// The run's id, as the client has it. See [`turn_id`](super::turn_id).
    pub run_id: Cow<'a, str>,
    /// The agent that is asked for: `forwardedProps.agent`.
    pub agent: Option<Cow<'a, str>>,
    /// The answers to interrupts: with any, it is about the thread's open turn.
    pub resume: Vec<ResumeEntry<'a>>,
    /// The last message of the user, if there is one: its id and its text parts, joined by line feeds.
    pub user: Option<(Cow<'a, str>, String)>,
    /// Whether the last message is the user's.
    pub ends_with_user: bool,
    /// The tool messages behind the last other one, by the id of their call: outputs of tools that the client ran.
    pub tool_outputs: Vec<(Cow<'a, str>, String)>,
    messages: Value<'a>,
}

/// The answer to an interrupt.
#[derive(Clone, Debug)]
pub struct ResumeEntry<'a> {
    /// The interaction.
    pub interrupt_id: Cow<'a, str>,
    /// What became of it.
    pub status: ResumeStatus,
    /// The answer's data, as JSON.
    pub payload: Option<&'a str>,
}

/// What became of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeStatus {
    /// It was answered.
    Resolved,
    /// Nobody wants to answer it.
    Cancelled,
}

impl<'a> RunAgentInput<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// It is too large, no JSON, or no `RunAgentInput`; its last message of the user has a file.
    pub fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        let (mut thread, mut run, mut messages, mut resume, mut props) =
            (None, None, None, None, None);
        object(body)?.members(|key, value| match &*key.to_str() {
            "threadId" => thread = Some(value),
            "runId" => run = Some(value),
            "messages" => messages = Some(value),
            "resume" => resume = Some(value),
            "forwardedProps" => props = Some(value),
            _ => {}
        });
        let agent = props.and_then(|props| props.get("agent")).filter(|agent| !agent.is_null());
        let agent = agent.map(|agent| id(Some(agent), "forwardedProps.agent")).transpose()?;
        let messages = messages.unwrap_or_default();
        if !messages.is_array() {
            return Err(RequestError::Invalid { field: "messages", expected: "an array" });
        }
        let mut input = Self {
            thread_id: session(thread, "threadId")?,
            run_id: id(run, "runId")?,
            agent,
            resume: entries(resume.unwrap_or_default())?,
            user: None,
            ends_with_user: false,
            tool_outputs: Vec::new(),
            messages,
        };
        let (mut count, mut user, mut tools) = (0, None, Vec::new());
        messages.items(|message| {
            count += 1;
            let role = message.get("role").and_then(Value::string).map(|role| role.to_str());
            match role.as_deref() {
                Some("tool") => {
                    if tools.len() <= MAX_ANSWERS {
                        tools.push(message);
                    }
                }
                role => {
                    tools.clear();
                    input.ends_with_user = role == Some("user");
                    if input.ends_with_user {
                        user = Some(message);
                    }
                }
            }
        });
        if count > MAX_MESSAGES {
            return Err(RequestError::TooMany { field: "messages", limit: MAX_MESSAGES });
        }
        if tools.len() > MAX_ANSWERS {
            return Err(RequestError::TooMany { field: "messages", limit: MAX_ANSWERS });
        }
        input.ends_with_user &= tools.is_empty();
        for message in tools {
            let text = content(message.get("content").unwrap_or_default())?;
            input.tool_outputs.push((id(message.get("toolCallId"), "messages")?, text));
        }
        if let Some(message) = user {
            let text = content(message.get("content").unwrap_or_default())?;
            input.user = Some((id(message.get("id"), "messages")?, text));
        }
        Ok(input)
    }

    /// Calls `visit` with each message that belongs to the turn of this execution.
    pub fn messages_of(&self, execution_id: &str, mut visit: impl FnMut(Value<'a>)) {
        self.messages.items(|message| {
            let own = message.get("id").and_then(Value::string).is_some_and(|id| {
                id.to_str().strip_prefix(execution_id).is_some_and(|rest| rest.starts_with('/'))
            });
            if own {
                visit(message);
            }
        });
    }

    /// Whether the client has parts of the turn of this execution: then it is told a snapshot first
    /// ([`messages_snapshot`](crate::messages_snapshot)).
    #[must_use]
    pub fn has_parts_of(&self, execution_id: &str) -> bool {
        let mut any = false;
        self.messages_of(execution_id, |_| any = true);
        any
    }
}

fn entries<'a>(resume: Value<'a>) -> Result<Vec<ResumeEntry<'a>>, RequestError> {
    let (mut entries, mut count, mut result) = (Vec::new(), 0, Ok(()));
    let read = |entry: Value<'a>| {
        let status = match entry
            .get("status")
            .and_then(Value::string)
            .map(|status| status.to_str())
            .as_deref()
        {
            Some("resolved") => ResumeStatus::Resolved,
            Some("cancelled") => ResumeStatus::Cancelled,
            _ => {
                return Err(RequestError::Invalid {
                    field: "resume",
                    expected: "entries that are resolved or cancelled",
                });
            }
        };
        let payload = entry.get("payload").map(|payload| data(payload, "resume")).transpose()?;
        let interrupt_id = id(entry.get("interruptId"), "resume")?;
        Ok(ResumeEntry { interrupt_id, status, payload })
    };
    resume.items(|entry| {
        count += 1;
        if result.is_ok() && count <= MAX_ANSWERS {
            result = read(entry).map(|entry| entries.push(entry));
        }
    });
    if count > MAX_ANSWERS {
        return Err(RequestError::TooMany { field: "resume", limit: MAX_ANSWERS });
    }
    result.map(|()| entries)
}

/// A string, or parts of text.
fn content(content: Value<'_>) -> Result<String, RequestError> {
    let mut text = String::new();
    if let Some(whole) = content.string() {
        join(&mut text, &whole.to_str(), true)?;
        return Ok(text);
    }
    if !content.is_array() {
        return Err(RequestError::Invalid { field: "messages", expected: "messages with text" });
    }
    let (mut count, mut texts, mut result) = (0, 0_usize, Ok(()));
    content.items(|part| {
        count += 1;
        if result.is_ok() && count <= MAX_PARTS {
            let kind = part.get("type").and_then(Value::string);
            result = match part.get("text").and_then(Value::string) {
                Some(part) if kind.is_some_and(|kind| kind.is("text")) => {
                    texts += 1;
                    join(&mut text, &part.to_str(), texts == 1)
                }
                _ => Err(RequestError::Files),
            };
        }
    });
    if count > MAX_PARTS {
        return Err(RequestError::TooMany { field: "messages", limit: MAX_PARTS });
    }
    result.map(|()| text)
}
