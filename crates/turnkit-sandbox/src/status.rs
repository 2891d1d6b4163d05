use std::{borrow::Cow, fmt};

use serde::Deserialize;
use serde_json::Value;

/// What the substrate says about an execution (PROTOCOL 3.1).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct ExecutionStatus {
    /// The id that the substrate knows it by.
    pub execution_id: String,
    /// How far it is.
    pub state: ExecutionState,
    /// The id of the last event in its log.
    #[serde(default)]
    pub last: Option<String>,
    /// When it began, in the substrate's own spelling.
    #[serde(default)]
    pub started_at: Option<Value>,
    /// When it ended, in the substrate's own spelling.
    #[serde(default)]
    pub ended_at: Option<Value>,
    /// Whether messages can be put into it now (PROTOCOL 3.6).
    #[serde(default)]
    pub accepts_input: bool,
    /// The data of each `interaction` that waits for an answer, the oldest first (PROTOCOL 3.6).
    #[serde(default)]
    pub pending: Vec<Value>,
}

/// How far an execution is. Other substrates may know more states; their names survive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct ExecutionState(Cow<'static, str>);

impl ExecutionState {
    /// The agent is at work.
    pub const RUNNING: Self = Self(Cow::Borrowed("running"));
    /// It ended, and the answer is whole.
    pub const COMPLETED: Self = Self(Cow::Borrowed("completed"));
    /// It ended with an error.
    pub const FAILED: Self = Self(Cow::Borrowed("failed"));
    /// It was cancelled.
    pub const CANCELLED: Self = Self(Cow::Borrowed("cancelled"));

    /// The state's name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the log will grow no more. A state that this version does not know counts as under way.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        [Self::COMPLETED, Self::FAILED, Self::CANCELLED].contains(self)
    }
}

/// The state's name on the wire.
impl fmt::Display for ExecutionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_keeps_its_name_and_is_not_an_end() {
        let status: ExecutionStatus =
            serde_json::from_str(r#"{"executionId":"e","state":"paused"}"#).unwrap();
        assert_eq!(status.state.as_str(), "paused");
        assert_eq!(format!("{:<8}|", status.state), "paused  |");
        assert!(!status.state.is_terminal());
        assert_ne!(status.state, ExecutionState::RUNNING);
    }

    #[test]
    fn a_status_is_read_whatever_else_it_says() {
        let json = r#"{"executionId":"e","state":"completed","last":"7-9","startedAt":1,"endedAt":"later","more":{}}"#;
        let status: ExecutionStatus = serde_json::from_str(json).unwrap();
        assert!(status.state.is_terminal());
        assert_eq!(status.last.as_deref(), Some("7-9"));
        assert_eq!((status.started_at, status.ended_at), (Some(1.into()), Some("later".into())));
        assert!(!status.accepts_input && status.pending.is_empty());
    }
}
