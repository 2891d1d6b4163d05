use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use turnkit_id::ExecutionId;

/// What an agent is asked: the body of `POST /agents/run/stream` and the id of its execution (PROTOCOL 3.1).
#[derive(Clone)]
pub struct RunRequest {
    execution_id: ExecutionId,
    body: Bytes,
    fields: Fields,
}

impl RunRequest {
    /// A request with only a message, for calling an [`Agent`](crate::Agent) by hand.
    #[must_use]
    pub fn new(execution_id: ExecutionId, message: &str) -> Self {
        let body = serde_json::json!({ "message": message }).to_string();
        let fields = Fields { message: Some(message.to_owned()), ..Fields::default() };
        Self { execution_id, body: body.into(), fields }
    }

    /// Reads a request's body; an empty one is the same as `{}`.
    ///
    /// # Errors
    /// A body that is not one JSON object, or a member of another type than it must be.
    pub fn parse(execution_id: ExecutionId, body: Bytes) -> Result<Self, InvalidRequest> {
        let fields = match &body[..] {
            [] => Fields::default(),
            json => Fields::parse(json)?,
        };
        Ok(Self { execution_id, body, fields })
    }

    /// The execution that this run is.
    #[must_use]
    pub fn execution_id(&self) -> &ExecutionId {
        &self.execution_id
    }

    /// Which agent is asked: `default` where the body names none.
    #[must_use]
    pub fn identifier(&self) -> &str {
        self.fields.identifier.as_deref().unwrap_or("default")
    }

    /// The user's message.
    #[must_use]
    pub fn message(&self) -> &str {
        self.fields.message.as_deref().unwrap_or_default()
    }

    /// The session, where the body names one.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.fields.session_id.as_deref()
    }

    /// The `metadata` member, as it was sent.
    #[must_use]
    pub fn metadata(&self) -> Option<&RawValue> {
        self.fields.metadata.as_deref()
    }

    /// The `backend` member.
    #[must_use]
    pub fn backend(&self) -> Option<&Backend> {
        self.fields.backend.as_ref()
    }

    /// The `timeout` member, in milliseconds.
    #[must_use]
    pub fn timeout_ms(&self) -> Option<u64> {
        self.fields.timeout
    }

    /// The `historyOmitted` member: what was left out of the conversation that goes with the request as `history`.
    #[must_use]
    pub fn history_omitted(&self) -> Option<HistoryOmitted> {
        self.fields.history_omitted
    }

    /// `metadata.agentSessionId`: the session of the agent's own that the request goes on with. `None` for what is no string.
    #[must_use]
    pub fn agent_session_id(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            agent_session_id: Option<String>,
        }
        let metadata: Metadata = serde_json::from_str(self.metadata()?.get()).ok()?;
        metadata.agent_session_id
    }

    /// The whole body as it was sent, one JSON object, with the members that the substrate does not know.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Any member of the body, as it was sent: also one that the substrate does not know. Of a member that stands there
    /// twice, the last one.
    ///
    /// # Errors
    /// A body that has something in a member which no one has read yet that is no JSON: bytes that are not UTF-8, for one.
    pub fn member(&self, name: &str) -> Result<Option<&RawValue>, InvalidRequest> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let mut members: BTreeMap<String, &RawValue> =
            serde_json::from_slice(&self.body).map_err(|error| InvalidRequest::json(&error))?;
        Ok(members.remove(name))
    }
}

impl fmt::Debug for RunRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRequest")
            .field("execution_id", &self.execution_id)
            .field("identifier", &self.identifier())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Which backend of an agent is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Backend {
    /// The kind of backend.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The model.
    pub model: Option<String>,
}

/// What was left out of a conversation (PROTOCOL 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryOmitted {
    /// Whole turns.
    pub turns: u64,
    /// Bytes of text: that of those turns, and what was cut of others.
    pub bytes: u64,
}

/// Displays as what the agent was not told.
impl fmt::Display for HistoryOmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turns, bytes } = self;
        match turns {
            0 => write!(f, "{bytes} bytes of a long message"),
            1 => write!(f, "the oldest message and its answer ({bytes} bytes)"),
            _ => write!(f, "the oldest {turns} messages and their answers ({bytes} bytes)"),
        }
    }
}

/// Why a body is no run request. Says where, and never what stands there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The body is not one JSON object.
    #[error("the body is not one JSON object: line {line}, column {column}")]
    Json {
        /// The line where it stops to be one, from 1.
        line: usize,
        /// The byte in that line, from 1.
        column: usize,
    },
    /// A member has another type than it must have.
    #[error("{name} must be {must}")]
    Member {
        /// The member.
        name: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

impl InvalidRequest {
    fn json(error: &serde_json::Error) -> Self {
        Self::Json { line: error.line(), column: error.column() }
    }
}

#[derive(Clone, Default)]
struct Fields {
    identifier: Option<String>,
    message: Option<String>,
    session_id: Option<String>,
    metadata: Option<Box<RawValue>>,
    backend: Option<Backend>,
    timeout: Option<u64>,
    history_omitted: Option<HistoryOmitted>,
}

impl Fields {
    /// Reads member by member, so that an error can name the one that is wrong.
    fn parse(json: &[u8]) -> Result<Self, InvalidRequest> {
        let raw: RawFields<'_> = object(json)?;
        Ok(Self {
            identifier: member(raw.identifier, "identifier", "a string")?,
            message: member(raw.message, "message", "a string")?,
            session_id: member(raw.session_id, "sessionId", "a string")?,
            metadata: raw.metadata.map(ToOwned::to_owned),
            backend: backend(raw.backend)?,
            timeout: member(raw.timeout, "timeout", "a whole number of milliseconds")?,
            history_omitted: history_omitted(raw.history_omitted)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFields<'a> {
    #[serde(borrow)]
    identifier: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    backend: Option<&'a RawValue>,
    #[serde(borrow)]
    timeout: Option<&'a RawValue>,
    #[serde(borrow)]
    history_omitted: Option<&'a RawValue>,
}

fn member<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    name: &'static str,
    must: &'static str,
) -> Result<Option<T>, InvalidRequest> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| InvalidRequest::Member { name, must })
}

fn backend(raw: Option<&RawValue>) -> Result<Option<Backend>, InvalidRequest> {
    let must = "an object of strings `type` and `model`";
    let read = raw.map(|raw| object(raw.get().as_bytes())).transpose();
    read.map_err(|_| InvalidRequest::Member { name: "backend", must })
}

fn history_omitted(raw: Option<&RawValue>) -> Result<Option<HistoryOmitted>, InvalidRequest> {
    let must = "an object of whole numbers `turns` and `bytes`";
    let read = raw.map(|raw| object(raw.get().as_bytes())).transpose();
    read.map_err(|_| InvalidRequest::Member { name: "historyOmitted", must })
}

/// Reads one JSON object into `T`. An array is refused: serde would take the members' values in their order.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, InvalidRequest> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(InvalidRequest::Json { line: 1, column: 1 });
    }
    serde_json::from_slice(json).map_err(|error| InvalidRequest::json(&error))
}
