//! Sessions, turns and messages as a product sees them (PROTOCOL 4.2).

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use turnkit::{Answer, AnswerPart, PartKind, Summary};
use turnkit_id::ExecutionId;

use crate::Principal;

/// The id of a session, made by the product (PROTOCOL 4.2). It is no secret and no permission.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(String);

impl SessionId {
    /// The id that `text` is. Whether there is such a session, and whose it is, the store says.
    pub fn new(text: impl Into<String>) -> SessionId {
        SessionId(text.into())
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a turn: its session, and the `turnId` that its client made (PROTOCOL 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TurnRef {
    /// The session.
    pub session_id: SessionId,
    /// The client's own name for the turn.
    pub turn_id: String,
}

impl TurnRef {
    /// The turn `turn_id` of `session_id`.
    pub fn new(session_id: SessionId, turn_id: impl Into<String>) -> TurnRef {
        TurnRef { session_id, turn_id: turn_id.into() }
    }
}

/// What a client asks for with a turn (PROTOCOL 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTurn {
    /// The client's own name for the turn: 1 to 160 of `A-Za-z0-9:_-`, new for each message.
    pub turn_id: String,
    /// What the user says. Not blank.
    pub message: String,
    /// The agent that is to answer, or the substrate's default one.
    pub agent: Option<String>,
    /// The turn that it goes on from, by its `turnId`, or the newest one.
    pub after: Option<String>,
    /// The turn in whose place it stands, by its `turnId`: an answer had again, or a message edited.
    pub replaces: Option<String>,
    /// What a front end calls the user's message, where that is no `turnId`.
    pub client_id: Option<String>,
    /// Whether it waits where another turn of the session is open. Otherwise it is refused then.
    pub queue: bool,
}

impl NewTurn {
    /// A turn for the default agent.
    pub fn new(turn_id: impl Into<String>, message: impl Into<String>) -> NewTurn {
        let (turn_id, message) = (turn_id.into(), message.into());
        let (agent, after, replaces, client_id, queue) = (None, None, None, None, false);
        NewTurn { turn_id, message, agent, after, replaces, client_id, queue }
    }

    /// Lets the turn wait where another one of the session is open: see [`queue`](Self::queue).
    #[must_use]
    pub fn queued(mut self) -> NewTurn {
        self.queue = true;
        self
    }

    /// Puts the turn in the place of another one, as its sibling.
    #[must_use]
    pub fn replaces(mut self, turn_id: impl Into<String>) -> NewTurn {
        self.replaces = Some(turn_id.into());
        self
    }

    /// Has the turn answered by the agent of this name.
    #[must_use]
    pub fn agent(mut self, name: impl Into<String>) -> NewTurn {
        self.agent = Some(name.into());
        self
    }
}

/// A turn, as it was accepted: what hooks, observers and the product's own statements get. Nothing of it ever changes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Whose it is.
    pub owner: Principal,
    /// Its session.
    pub session_id: SessionId,
    /// The client's own name for it: `turnId`.
    pub turn_id: String,
    /// Its place in the session, counted from 0.
    pub index: u64,
    /// The index of the turn that it goes on from; none where it begins the conversation.
    pub parent: Option<u64>,
    /// What a front end calls the user's message, where that is no `turnId`.
    pub client_id: Option<String>,
    /// The id of its execution, and the key of everything that is written about it (PROTOCOL 1.4).
    pub execution_id: ExecutionId,
    /// The agent that answers. `default` is the substrate's default one.
    pub agent: String,
    /// What the user said.
    pub message: String,
}

impl Turn {
    /// A turn out of its parts, for stores: the first of its conversation, until `parent` says otherwise.
    #[must_use]
    pub fn new(
        owner: Principal,
        at: TurnRef,
        index: u64,
        execution_id: ExecutionId,
        agent: String,
        message: String,
    ) -> Turn {
        let TurnRef { session_id, turn_id } = at;
        let (parent, client_id) = (None, None);
        Turn { owner, session_id, turn_id, index, parent, client_id, execution_id, agent, message }
    }
}

/// A turn that waits until those before it have ended (PROTOCOL 4.2, "A queue"). It has no place in its session yet, and no execution.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedTurn {
    /// The client's own name for it.
    pub turn_id: String,
    /// Its place among those that wait, counted from 1.
    pub position: u64,
    /// What the user says.
    pub message: String,
    /// The agent that is to answer.
    pub agent: String,
    /// What a front end calls the user's message, where that is no `turnId`.
    pub client_id: Option<String>,
    /// When it was accepted, by the store's clock.
    pub created_at: SystemTime,
}

impl QueuedTurn {
    /// A queued turn out of its parts, for stores.
    #[must_use]
    pub fn new(
        turn_id: String,
        position: u64,
        message: String,
        agent: String,
        client_id: Option<String>,
        created_at: SystemTime,
    ) -> QueuedTurn {
        QueuedTurn { turn_id, position, message, agent, client_id, created_at }
    }
}

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnState {
    /// Its answer is still to come.
    Open,
    /// Its whole answer is saved.
    Complete,
    /// A user stopped it.
    Stopped,
    /// It failed.
    Failed,
}

impl TurnState {
    /// `open`, `complete`, `stopped` or `failed`, as it stands on the wire and in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TurnState::Open => "open",
            TurnState::Complete => "complete",
            TurnState::Stopped => "stopped",
            TurnState::Failed => "failed",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<TurnState> {
        [TurnState::Open, TurnState::Complete, TurnState::Stopped, TurnState::Failed]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// How a turn ends without a whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ending {
    /// Whether a user stopped it. Otherwise it failed.
    pub stopped: bool,
    /// Why.
    pub failure: Failure,
    /// What there is of the answer.
    pub partial: Answer,
}

impl Ending {
    /// The turn was stopped by a user.
    pub fn stopped(failure: Failure, partial: impl Into<Answer>) -> Ending {
        Ending { stopped: true, failure, partial: partial.into() }
    }

    /// The turn failed.
    pub fn failed(failure: Failure, partial: impl Into<Answer>) -> Ending {
        Ending { stopped: false, failure, partial: partial.into() }
    }

    /// The state of a turn that ends so.
    #[must_use]
    pub fn state(&self) -> TurnState {
        if self.stopped { TurnState::Stopped } else { TurnState::Failed }
    }
}

/// Why a turn has no whole answer, as users are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A word for programs.
    pub code: Option<String>,
    /// A sentence for people, of at most 500 characters (PROTOCOL 2.4).
    pub message: String,
}

/// One message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub text: String,
    /// The parts of an answer, in order. A user's message has none.
    pub parts: Arc<[AnswerPart]>,
    /// What the agent told of its answer.
    pub summary: Summary,
    /// `Complete`, or what became of an answer that is not whole. A user's message is always complete.
    pub state: TurnState,
    /// The place of its turn in the session.
    pub turn_index: u64,
    /// The client's own name for its turn.
    pub turn_id: String,
    /// What a front end calls the user's message, where that is no `turnId`.
    pub client_id: Option<String>,
    /// How many turns share the parent of its turn: 1, unless an answer was asked for again or a message was edited.
    pub siblings: u64,
    /// These turns, by their clients' names for them, the oldest first; the newest 256 of them. Empty where it is the only one.
    pub sibling_ids: Vec<String>,
    /// The execution of its turn.
    pub execution_id: ExecutionId,
    /// When it was written, by the store's clock.
    pub created_at: SystemTime,
    /// Why it is not whole.
    pub failure: Option<Failure>,
    /// The id under which it was put into the running turn, where it is an input: see [`halves`](Self::halves).
    pub input: Option<String>,
}

impl Message {
    /// An answer as its halves, with the inputs that its agent has had as messages of the user's between them; a message in which
    /// nothing was put is its own one half. What became of the answer is with the last one.
    #[must_use]
    pub fn halves(self) -> Vec<Message> {
        if !self.parts.iter().any(|part| part.kind() == PartKind::Input) {
            return vec![self];
        }
        let (text, parts) = (self.text.as_str(), Arc::clone(&self.parts));
        let halves = Answer::of_parts(text, parts, self.summary.clone()).halves();
        let (last, mut messages) = (halves.len().saturating_sub(1), Vec::new());
        for (place, half) in halves.into_iter().enumerate() {
            let whole = Message { state: TurnState::Complete, failure: None, ..self.clone() };
            messages.extend(half.said().map(|(id, message)| Message {
                role: Role::User,
                text: message.unwrap_or_default(),
                parts: Arc::default(),
                summary: Summary::default(),
                input: Some(id),
                ..whole.clone()
            }));
            let Answer { text, parts, summary, .. } = half.answer;
            let of = if place == last { self.clone() } else { whole };
            messages.push(Message { text, parts, summary, ..of });
        }
        messages
    }

    /// The user's message of `turn`, for stores.
    #[must_use]
    pub fn asked(turn: &Turn, created_at: SystemTime) -> Message {
        let role = Role::User;
        let text = turn.message.clone();
        Message {
            role,
            ..Message::answered(turn, Answer::of_parts(text, [], Summary::default()), created_at)
        }
    }

    /// The answer to `turn`, for stores.
    #[must_use]
    pub fn answered(turn: &Turn, answer: Answer, created_at: SystemTime) -> Message {
        let Answer { text, parts, summary, .. } = answer;
        Message {
            role: Role::Assistant,
            text,
            parts,
            summary,
            state: TurnState::Complete,
            turn_index: turn.index,
            turn_id: turn.turn_id.clone(),
            client_id: turn.client_id.clone(),
            siblings: 1,
            sibling_ids: Vec::new(),
            execution_id: turn.execution_id.clone(),
            created_at,
            failure: None,
            input: None,
        }
    }
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The user.
    User,
    /// The assistant, that is, an agent.
    Assistant,
}

impl Role {
    /// `user` or `assistant`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// What was said in a session before a turn, as its agent gets it (PROTOCOL 4.2, `history`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// A conversation as its owner's list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// The name by which a front end opened it; its id otherwise.
    pub name: String,
    /// What it is called: what its user named it, else what the [title hook](crate::Hooks::title) made of its first message.
    pub title: Option<String>,
    /// Whether its user has put it away.
    pub archived: bool,
    /// When it was opened, by the store's clock.
    pub created_at: SystemTime,
}
