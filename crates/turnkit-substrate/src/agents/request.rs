use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use turnkit_id::ExecutionId;

use crate::json::{NotAnObject, object};

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
    pub(crate) fn parse(execution_id: ExecutionId, body: Bytes) -> Result<Self, InvalidBody> {
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

    /// The whole body as it was sent, one JSON object, with the members that the substrate does not know.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Any member of the body, as it was sent: also one that the substrate does not know. Of a member that stands there
    /// twice, the last one.
    ///
    /// # Errors
    /// None for a request that came over HTTP: its body was read before. The error is that of JSON.
    pub fn member(&self, name: &str) -> Result<Option<&RawValue>, serde_json::Error> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(&self.body)?;
        Ok(members.remove(name))
    }
}

impl std::fmt::Debug for RunRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// A body that is no run request. Says where, and never what stands there.
#[derive(Debug, Error)]
pub(crate) enum InvalidBody {
    #[error("the body is not one JSON object: line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("must be {must}")]
    Member { name: &'static str, must: &'static str },
}

#[derive(Clone, Default)]
struct Fields {
    identifier: Option<String>,
    message: Option<String>,
    session_id: Option<String>,
    metadata: Option<Box<RawValue>>,
    backend: Option<Backend>,
    timeout: Option<u64>,
}

impl Fields {
    /// Reads member by member, so that an error can name the one that is wrong.
    fn parse(json: &[u8]) -> Result<Self, InvalidBody> {
        let raw: RawFields<'_> = object(json)
            .map_err(|NotAnObject { line, column }| InvalidBody::Json { line, column })?;
        Ok(Self {
            identifier: member(raw.identifier, "identifier", "a string")?,
            message: member(raw.message, "message", "a string")?,
            session_id: member(raw.session_id, "sessionId", "a string")?,
            metadata: raw.metadata.map(ToOwned::to_owned),
            backend: backend(raw.backend)?,
            timeout: member(raw.timeout, "timeout", "a whole number of milliseconds")?,
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
}

fn member<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    name: &'static str,
    must: &'static str,
) -> Result<Option<T>, InvalidBody> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| InvalidBody::Member { name, must })
}

fn backend(raw: Option<&RawValue>) -> Result<Option<Backend>, InvalidBody> {
    let must = "an object of strings `type` and `model`";
    let read = raw.map(|raw| object(raw.get().as_bytes())).transpose();
    read.map_err(|_| InvalidBody::Member { name: "backend", must })
}
