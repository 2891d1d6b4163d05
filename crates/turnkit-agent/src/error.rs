use thiserror::Error;
use turnkit_id::is_name;
use turnkit_wire::text;

/// The failure of a run, as `execution.failed` tells it to every reader. So no secret belongs into it. It prints its message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct AgentError {
    code: String,
    message: String,
    is_temporary: bool,
}

impl AgentError {
    /// A failure with this code (a word like `upstream_error`; anything else than 1 to 64 of `A-Za-z0-9._-` becomes
    /// `agent_error`) and this message, of which 500 characters are kept and control characters are spelt (PROTOCOL 2.4).
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let code = if is_name(code) { code } else { "agent_error" };
        Self {
            code: code.to_owned(),
            message: text::message(&message.into()).into_owned(),
            is_temporary: false,
        }
    }

    /// Says that its cause is likely to pass, so that a *new* turn may help: a model that is overloaded, for one. Nothing is
    /// repeated for it.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.is_temporary = true;
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Its message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether a *new* turn may help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.is_temporary
    }
}

/// Codes that do not depend on the agent.
pub mod code {
    /// The code of a run whose agent sent an event over the limit (PROTOCOL 3.2).
    pub const EVENT_TOO_LARGE: &str = "event_too_large";
    /// The code of an agent that has asked something where nobody can answer ([`Inbox::ask`](crate::Inbox::ask)).
    pub const NOT_ANSWERED: &str = "not_answered";
}
