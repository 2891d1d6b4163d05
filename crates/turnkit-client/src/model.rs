//! What the product's routes take and give (PROTOCOL 4.2). Members that are not known are passed over.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A turn to be started.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewTurn {
    turn_id: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    queue: bool,
}

impl NewTurn {
    /// A turn with the caller's id for it: 1 to 160 of `A-Za-z0-9:_-`, and unique in its session. The same id with the same
    /// message is the same turn, however often it is sent.
    pub fn new(turn_id: impl Into<String>, message: impl Into<String>) -> NewTurn {
        NewTurn { turn_id: turn_id.into(), message: message.into(), agent: None, queue: false }
    }

    /// Lets it wait where another turn of the session is open, instead of being refused.
    #[must_use]
    pub fn queued(mut self) -> NewTurn {
        self.queue = true;
        self
    }

    /// Lets this agent answer instead of the server's default one.
    #[must_use]
    pub fn agent(mut self, name: impl Into<String>) -> NewTurn {
        self.agent = Some(name.into());
        self
    }

    /// The turn's id.
    #[must_use]
    pub fn turn_id(&self) -> &str {
        &self.turn_id
    }
}

/// Without the message, which is a user's.
impl fmt::Debug for NewTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NewTurn { turn_id, agent, queue, message: _ } = self;
        f.debug_struct("NewTurn")
            .field("turn_id", turn_id)
            .field("agent", agent)
            .field("queue", queue)
            .finish_non_exhaustive()
    }
}

/// What is answered to a question of a turn's agent (PROTOCOL 3.6).
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct NewAnswer {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl NewAnswer {
    /// Yes; or, with [`data`](Self::data), the answer.
    #[must_use]
    pub fn accepted() -> NewAnswer {
        NewAnswer { outcome: "accepted", data: None }
    }

    /// No.
    #[must_use]
    pub fn declined() -> NewAnswer {
        NewAnswer { outcome: "declined", data: None }
    }

    /// Nobody wants to answer it.
    #[must_use]
    pub fn cancelled() -> NewAnswer {
        NewAnswer { outcome: "cancelled", data: None }
    }

    /// What is answered: `{"option":id}` where the question has options, an object that fits where it has a schema, the output of
    /// a tool.
    #[must_use]
    pub fn data(mut self, data: Value) -> NewAnswer {
        self.data = Some(data);
        self
    }
}

/// Without the data, which is a user's.
impl fmt::Debug for NewAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAnswer").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// What became of an answer that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Answered {
    /// `answered`: it is in the log.
    pub state: String,
    /// What the agent is told.
    pub outcome: String,
}

/// A session, as the list of them tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id.
    pub session_id: String,
    /// What it is about, where that is known.
    pub title: Option<String>,
    /// Whether its user has put it away.
    #[serde(default)]
    pub archived: bool,
    /// When it was made (RFC 3339).
    pub created_at: String,
}

/// A message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Message {
    /// `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub text: String,
    /// `complete`, `stopped` or `failed`.
    pub status: String,
    /// The place of its turn in the session, from 0.
    pub turn_index: u64,
    /// Its turn.
    pub turn_id: String,
    /// The execution of its turn.
    pub execution_id: String,
    /// When it was saved (RFC 3339).
    pub created_at: String,
    /// The id under which it was put into the running turn, where it is an input: a message of the user's between two halves of an
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Why it is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<MessageError>,
    /// The parts of an answer, as they stand in its events (PROTOCOL 1.1, 2.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Value>,
    /// Why the model stopped, where the agent told it: `stop`, `length`, `content-filter`, `tool-calls` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The tokens that it took, as `tokenUsage` in a `result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// How long it took, as `timing` in a `result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Value>,
}

/// Why a message is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MessageError {
    /// The failure's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The failure's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A turn that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OpenTurn {
    /// Its id.
    pub turn_id: String,
    /// Its execution.
    pub execution_id: String,
    /// Its place in the session, from 0.
    pub turn_index: u64,
    /// Whether messages can be put into it: [`Client::input`](crate::Client::input).
    #[serde(default)]
    pub accepts_input: bool,
    /// The data of each `interaction` that waits for an answer ([`Client::answer`](crate::Client::answer)), the oldest first
    /// (PROTOCOL 1.1).
    #[serde(default)]
    pub pending: Vec<Value>,
}

/// A session at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SessionState {
    /// Its id.
    pub session_id: String,
    /// The messages that were asked for, the oldest first.
    pub messages: Vec<Message>,
    /// Its open turns: at most one today.
    pub turns: Vec<OpenTurn>,
    /// The place in the user's feed at that moment: whoever goes on behind it ([`Client::feed`](crate::Client::feed)) misses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<String>,
}

/// What became of a turn that somebody stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Cancelled {
    /// The turn.
    pub turn_id: String,
    /// Its execution.
    pub execution_id: String,
    /// How it ended, or `open` where it had not within 10 s.
    pub state: String,
}

/// The agents that a turn can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Agents {
    /// All of them.
    pub agents: Vec<AgentInfo>,
    /// The one that answers where none is named.
    pub default: Option<String>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentInfo {
    /// Its name.
    pub name: String,
    /// What it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it takes while it runs.
    #[serde(default)]
    pub takes: AgentTakes,
}

/// What an agent takes while it runs (PROTOCOL 3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentTakes {
    /// Answers to its questions.
    #[serde(default)]
    pub answers: bool,
    /// Messages into its running turn.
    #[serde(default)]
    pub input: bool,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Me {
    /// The tenant.
    pub tenant_id: String,
    /// The user.
    pub user_id: String,
    /// Whether users have tokens here, and sign in.
    pub sign_in: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Created {
    pub(crate) session_id: String,
}

/// What becomes of a turn that has to wait.
#[derive(Deserialize)]
pub(crate) struct Queued {
    pub(crate) state: String,
    pub(crate) position: u64,
}

#[derive(Deserialize)]
pub(crate) struct Sessions {
    pub(crate) sessions: Vec<SessionInfo>,
}

#[derive(Deserialize)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<Message>,
}

#[derive(Deserialize)]
pub(crate) struct OpenTurns {
    pub(crate) turns: Vec<OpenTurn>,
}
