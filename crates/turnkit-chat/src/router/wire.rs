//! What the routes answer, as it stands in PROTOCOL 4.2.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::value::RawValue;
use turnkit::wire::write::FinishReason;
use turnkit_sandbox::{AgentList, AgentTakes};

use crate::store::{self, FeedEntry, Outcome, Queue, SessionState};
use crate::{Chat, Message, QueuedTurn, Role, SessionInfo, Stopped};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Me<'a> {
    pub(super) tenant_id: &'a str,
    pub(super) user_id: &'a str,
    pub(super) sign_in: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "AgentList"))]
pub(super) struct Agents {
    agents: Vec<Agent>,
    default: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Agent {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    takes: Option<Takes>,
}

/// What an agent takes while it runs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Takes {
    answers: bool,
    input: bool,
}

impl From<AgentList> for Agents {
    fn from(list: AgentList) -> Agents {
        let agents = list.agents.into_iter();
        let agents = agents.map(|agent| {
            let AgentTakes { answers, input, .. } = agent.takes;
            let takes = (answers || input).then_some(Takes { answers, input });
            Agent { name: agent.identifier, description: agent.description, takes }
        });
        Agents { agents: agents.collect(), default: list.default }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "OpenedSession"))]
#[serde(rename_all = "camelCase")]
pub(super) struct Opened<'a> {
    pub(super) session_id: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SessionList {
    sessions: Vec<Session>,
    feed: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    #[serde(rename = "sessionId")]
    id: String,
    title: Option<String>,
    archived: bool,
    created_at: String,
}

impl From<SessionInfo> for Session {
    fn from(info: SessionInfo) -> Session {
        let SessionInfo { id, title, archived, created_at, .. } = info;
        Session { id: id.as_str().to_owned(), title, archived, created_at: rfc3339(created_at) }
    }
}

impl From<store::SessionList> for SessionList {
    fn from(list: store::SessionList) -> SessionList {
        let sessions = list.sessions.into_iter().map(Session::from);
        SessionList { sessions: sessions.collect(), feed: list.feed.to_string() }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "MessageList"))]
pub(super) struct Messages {
    feed: String,
    #[serde(rename = "messages")]
    items: Vec<Item>,
    turns: Vec<Turn>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Message"))]
#[serde(rename_all = "camelCase")]
struct Item {
    #[cfg_attr(test, schemars(extend("enum" = ["user", "assistant"])))]
    role: &'static str,
    text: String,
    #[cfg_attr(test, schemars(extend("enum" = ["complete", "stopped", "failed"])))]
    status: &'static str,
    turn_index: u64,
    turn_id: String,
    execution_id: String,
    created_at: String,
    /// How many turns share the parent of this one.
    siblings: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sibling_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The id of an input.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<Vec<super::openapi::Object>>"))]
    parts: Option<Vec<Box<RawValue>>>,
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

/// What the agent told of its answer.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Summary {
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timing: Option<Timing>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Usage {
    #[serde(rename = "inputTokens")]
    input: u64,
    #[serde(rename = "outputTokens")]
    output: u64,
    #[serde(rename = "reasoningTokens", skip_serializing_if = "Option::is_none")]
    reasoning: Option<u64>,
    #[serde(rename = "cachedInputTokens", skip_serializing_if = "Option::is_none")]
    cached_input: Option<u64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Timing {
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<u64>,
}

impl From<crate::Summary> for Summary {
    fn from(summary: crate::Summary) -> Summary {
        let (total_ms, first_token_ms) = (summary.total_ms, summary.first_token_ms);
        let is_timed = total_ms.is_some() || first_token_ms.is_some();
        Summary {
            finish_reason: summary.finish_reason.map(FinishReason::as_str),
            model: summary.model,
            usage: summary.usage.map(|usage| Usage {
                input: usage.input,
                output: usage.output,
                reasoning: usage.reasoning,
                cached_input: usage.cached_input,
            }),
            timing: is_timed.then_some(Timing { total_ms, first_token_ms }),
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "TurnError"))]
struct Error {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    message: String,
}

impl Messages {
    pub(super) fn new(open: OpenTurns, state: SessionState) -> Messages {
        let messages = state.messages.into_iter().flat_map(Message::halves);
        let messages = messages.map(|message| Item {
            role: message.role.as_str(),
            text: message.text,
            status: message.state.as_str(),
            turn_index: message.turn_index,
            turn_id: message.turn_id,
            execution_id: message.execution_id.to_string(),
            created_at: rfc3339(message.created_at),
            siblings: message.siblings,
            sibling_ids: message.sibling_ids,
            client_id: message.client_id.filter(|_| message.input.is_none()),
            input: message.input,
            parts: (message.role == Role::Assistant).then(|| {
                let parts = message.parts.iter().map(|part| part.as_json().to_owned());
                parts.filter_map(|part| RawValue::from_string(part).ok()).collect()
            }),
            summary: message.summary.into(),
            error: message.failure.map(|why| Error { code: why.code, message: why.message }),
        });
        let feed = state.feed.to_string();
        Messages { feed, items: messages.collect(), turns: open.turns }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "OpenTurns"))]
pub(super) struct OpenTurns {
    turns: Vec<Turn>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "OpenTurn"))]
#[serde(rename_all = "camelCase")]
struct Turn {
    #[serde(rename = "turnId")]
    id: String,
    execution_id: String,
    #[serde(rename = "turnIndex")]
    index: u64,
    /// Whether its agent takes messages.
    accepts_input: bool,
    /// The data of each `interaction` that waits for an answer.
    #[cfg_attr(test, schemars(with = "Vec<super::openapi::Object>"))]
    pending: Vec<Box<RawValue>>,
}

impl OpenTurns {
    /// The open turn of a session, with what is asked in it.
    pub(super) async fn of(chat: &Chat, state: &SessionState) -> OpenTurns {
        let Some(row) = &state.open else {
            return OpenTurns { turns: Vec::new() };
        };
        let pending = state.pending.iter().cloned();
        let turn = Turn {
            id: row.turn.turn_id.clone(),
            execution_id: row.turn.execution_id.to_string(),
            index: row.turn.index,
            accepts_input: chat.accepts_input(row).await,
            pending: pending.filter_map(|data| RawValue::from_string(data).ok()).collect(),
        };
        OpenTurns { turns: vec![turn] }
    }
}

/// An answer that is in the log.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct AnswerTaken {
    #[cfg_attr(test, schemars(extend("enum" = ["answered"])))]
    state: &'static str,
    #[cfg_attr(test, schemars(extend("enum" = ["accepted", "declined", "cancelled"])))]
    outcome: &'static str,
}

impl AnswerTaken {
    pub(super) fn new(outcome: Outcome) -> AnswerTaken {
        AnswerTaken { state: "answered", outcome: outcome.as_str() }
    }
}

/// An input that is in the log.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "InputAccepted"))]
pub(super) struct InputAccepted<'a> {
    id: &'a str,
    #[cfg_attr(test, schemars(extend("enum" = ["accepted"])))]
    state: &'static str,
}

impl<'a> InputAccepted<'a> {
    pub(super) fn new(id: &'a str) -> InputAccepted<'a> {
        InputAccepted { id, state: "accepted" }
    }
}

/// The turns that wait.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Queue"))]
pub(super) struct Waiting {
    turns: Vec<WaitingTurn>,
    paused: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "QueuedTurn"))]
#[serde(rename_all = "camelCase")]
pub(super) struct WaitingTurn {
    turn_id: String,
    position: u64,
    message: String,
    agent: String,
    created_at: String,
}

impl From<Queue> for Waiting {
    fn from(queue: Queue) -> Waiting {
        let turns = queue.turns.into_iter().map(WaitingTurn::from);
        Waiting { turns: turns.collect(), paused: queue.is_paused }
    }
}

impl From<QueuedTurn> for WaitingTurn {
    fn from(queued: QueuedTurn) -> WaitingTurn {
        let QueuedTurn { turn_id, position, message, agent, created_at, .. } = queued;
        WaitingTurn { turn_id, position, message, agent, created_at: rfc3339(created_at) }
    }
}

/// The data of a feed's entry.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "FeedEntry"))]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interaction_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<super::openapi::Object>"))]
    interaction: Option<&'a RawValue>,
}

impl<'a> From<&'a FeedEntry> for Entry<'a> {
    fn from(entry: &'a FeedEntry) -> Entry<'a> {
        Entry {
            session_id: entry.session_id.as_str(),
            turn_id: entry.turn_id.as_deref(),
            state: entry.change.state(),
            at: rfc3339(entry.at),
            turn_index: entry.begun.as_ref().map(|(index, _)| *index),
            execution_id: entry.begun.as_ref().map(|(_, id)| id.as_str()),
            position: entry.position,
            message: entry.message.as_deref(),
            interaction_id: entry.interaction.as_deref(),
            interaction: entry.question.as_deref().and_then(|json| serde_json::from_str(json).ok()),
        }
    }
}

/// What becomes of a turn that has to wait.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Queued"))]
#[serde(rename_all = "camelCase")]
pub(super) struct Queued<'a> {
    turn_id: &'a str,
    #[cfg_attr(test, schemars(extend("enum" = ["queued"])))]
    state: &'static str,
    position: u64,
}

impl<'a> From<&'a QueuedTurn> for Queued<'a> {
    fn from(queued: &'a QueuedTurn) -> Queued<'a> {
        Queued { turn_id: &queued.turn_id, state: "queued", position: queued.position }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "SessionState"))]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionWhole {
    session_id: String,
    title: Option<String>,
    archived: bool,
    created_at: String,
    messages: Vec<Item>,
    turns: Vec<Turn>,
    queue: Waiting,
    feed: String,
}

impl SessionWhole {
    pub(super) fn new(open: OpenTurns, mut state: SessionState) -> SessionWhole {
        let queue = std::mem::take(&mut state.queue).into();
        let Session { id, title, archived, created_at } = state.info.clone().into();
        let Messages { feed, items: messages, turns } = Messages::new(open, state);
        SessionWhole { session_id: id, title, archived, created_at, messages, turns, queue, feed }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "StoppedTurn"))]
#[serde(rename_all = "camelCase")]
pub(super) struct StoppedTurn<'a> {
    turn_id: &'a str,
    execution_id: &'a str,
    state: &'static str,
}

impl<'a> StoppedTurn<'a> {
    pub(super) fn new(turn_id: &'a str, stopped: &'a Stopped) -> StoppedTurn<'a> {
        let execution_id = stopped.execution_id.as_str();
        StoppedTurn { turn_id, execution_id, state: stopped.state.as_str() }
    }
}

/// As people and `new Date()` read it: `2026-11-23T03:19:09.123Z`.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
