use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use serde_json::{Map, Value};
use turnkit_id::{ExecutionId, LogId};

/// The agent that runs where a request names none (PROTOCOL 3.1).
const DEFAULT_AGENT: &str = "default";

/// What to run, and under which id (PROTOCOL 3.1).
///
/// The same request gives the same bytes, in any process: the substrate compares them before it lets a second start of an
/// id attach. So everything in here has to be a function of the turn, never of the attempt.
///
/// ```
/// # use turnkit_id::ExecutionId;
/// # use turnkit_sandbox::RunRequest;
/// let id = ExecutionId::derive("project", "session", 0)?;
/// let request = RunRequest::new(id, "What is new?").session_id("session").agent("default");
/// # Ok::<(), turnkit_id::IdError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct RunRequest {
    execution_id: ExecutionId,
    message: String,
    agent: String,
    session_id: Option<String>,
    metadata: Option<Value>,
    backend: Option<Backend>,
    timeout: Option<Duration>,
    log_id: Option<LogId>,
    members: BTreeMap<String, Value>,
}

/// What the agent runs on; members that are not set are left to the substrate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// The kind of backend, as the substrate names it.
    pub kind: Option<String>,
    /// The model, as the backend names it.
    pub model: Option<String>,
}

/// Who said something before (PROTOCOL 3.4). On the wire in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The user.
    User,
    /// The agent.
    Assistant,
    /// The product itself: what it tells the agent.
    System,
}

impl Role {
    /// The name on the wire: `user`, `assistant` or `system`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

impl RunRequest {
    /// Runs the substrate's `default` agent with `message`, under `execution_id`.
    ///
    /// An empty message starts nothing (it is how an attach is spelt), so it is answered like an attach.
    #[must_use]
    pub fn new(execution_id: ExecutionId, message: impl Into<String>) -> Self {
        Self {
            execution_id,
            message: message.into(),
            agent: DEFAULT_AGENT.into(),
            session_id: None,
            metadata: None,
            backend: None,
            timeout: None,
            log_id: None,
            members: BTreeMap::new(),
        }
    }

    /// Another agent than `default`: the body's `identifier`.
    #[must_use]
    pub fn agent(mut self, identifier: impl Into<String>) -> Self {
        self.agent = identifier.into();
        self
    }

    /// The session that the turn belongs to: the body's `sessionId`.
    #[must_use]
    pub fn session_id(mut self, id: impl Into<String>) -> Self {
        self.session_id = Some(id.into());
        self
    }

    /// Anything the agent should know: the body's `metadata`.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Value>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// What the agent runs on: the body's `backend`.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// How long the run may take before the substrate fails it: the body's `timeout`, in milliseconds. Without it, the
    /// substrate's own limit holds.
    #[must_use]
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// The log that the turn was dispatched under: each send of the run names it (PROTOCOL 4.1), and a substrate whose log is
    /// another one by now runs nothing ([`Error::LogChanged`](crate::Error::LogChanged)). It is no part of the body, and no
    /// attach names it. See [`SandboxClient::log_id`](crate::SandboxClient::log_id) for when to read it.
    #[must_use]
    pub fn log_id(mut self, id: LogId) -> Self {
        self.log_id = Some(id);
        self
    }

    /// What was said before the message, the oldest first: the body's `history` (PROTOCOL 3.4, 4.2). Without the message itself.
    /// An empty one is left out.
    ///
    /// It is part of the request, as the message is: a retry that sends another one is refused as a conflict. So read it once for each
    /// turn, and put a bound on it; a substrate takes a body of 1 MiB.
    ///
    /// ```
    /// # use turnkit_id::ExecutionId;
    /// use turnkit_sandbox::{Role, RunRequest};
    ///
    /// # let id = ExecutionId::derive("project", "session", 1)?;
    /// let before = [(Role::User, "What is 6 * 7?"), (Role::Assistant, "42.")];
    /// let request = RunRequest::new(id, "And the half of that?").history(before);
    /// # Ok::<(), turnkit_id::IdError>(())
    /// ```
    #[must_use]
    pub fn history<T: Into<String>>(
        mut self,
        messages: impl IntoIterator<Item = (Role, T)>,
    ) -> Self {
        let message = |(role, content): (Role, T)| {
            let content = Value::from(content.into());
            Value::from(Map::from_iter([
                ("role".to_owned(), role.as_str().into()),
                ("content".to_owned(), content),
            ]))
        };
        let messages: Vec<Value> = messages.into_iter().map(message).collect();
        self.members.remove("history");
        if messages.is_empty() { self } else { self.member("history", messages) }
    }

    /// How many turns, and bytes of text, were left out of the [`history`](Self::history): the body's `historyOmitted`, of which a
    /// substrate tells the user by a `warning` (PROTOCOL 3.4). Nothing is sent where both are 0.
    #[must_use]
    pub fn history_omitted(mut self, turns: u64, bytes: u64) -> Self {
        self.members.remove("historyOmitted");
        if (turns, bytes) == (0, 0) {
            return self;
        }
        let omitted = [("turns".to_owned(), turns.into()), ("bytes".to_owned(), bytes.into())];
        self.member("historyOmitted", Map::from_iter(omitted))
    }

    /// Any other member of the body; substrates hand those that they do not know to the agent. A name that the adapter
    /// itself writes (`message`, `turnId` …) keeps the adapter's value.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.members.insert(name.into(), value.into());
        self
    }

    /// The id that the run is known by.
    #[must_use]
    pub fn execution_id(&self) -> &ExecutionId {
        &self.execution_id
    }

    pub(crate) fn named_log(&self) -> Option<&LogId> {
        self.log_id.as_ref()
    }

    pub(crate) fn into_message(self) -> String {
        self.message
    }

    /// The body that starts the run, or attaches to it.
    pub(crate) fn run_body(&self) -> Bytes {
        self.body(&self.message)
    }

    /// The body that can only attach.
    pub(crate) fn attach_body(&self) -> Bytes {
        self.body("")
    }

    fn body(&self, message: &str) -> Bytes {
        let mut body: Map<String, Value> = self.members.clone().into_iter().collect();
        let mut set = |name: &str, value: Value| body.insert(name.into(), value);
        set("identifier", self.agent.as_str().into());
        set("message", message.into());
        // The original's substrate knows an execution by `turnId`, and stops it with its reader unless it is detached.
        set("turnId", self.execution_id.as_str().into());
        set("detach", true.into());
        for (name, value) in self.optional_members() {
            set(name, value);
        }
        Value::Object(body).to_string().into()
    }

    fn optional_members(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let session = self.session_id.as_deref().map(Value::from);
        let timeout = self.timeout.map(milliseconds).map(Value::from);
        let backend = self.backend.as_ref().map(Backend::to_json);
        let optional = [
            ("sessionId", session),
            ("metadata", self.metadata.clone()),
            ("backend", backend),
            ("timeout", timeout),
        ];
        optional.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Without the message, the metadata and other members: they are the user's.
impl fmt::Debug for RunRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRequest")
            .field("execution_id", &self.execution_id)
            .field("agent", &self.agent)
            .field("session_id", &self.session_id)
            .field("message_len", &self.message.len())
            .finish_non_exhaustive()
    }
}

impl Backend {
    fn to_json(&self) -> Value {
        let members = [("type", &self.kind), ("model", &self.model)];
        let set = members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.clone()?))));
        Value::Object(set.collect())
    }
}

fn milliseconds(after: Duration) -> u64 {
    u64::try_from(after.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> RunRequest {
        RunRequest::new(ExecutionId::parse("p:s:0").unwrap(), "hello")
    }

    fn parsed(body: &Bytes) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn a_run_names_its_agent_its_id_and_that_it_outlives_its_reader() {
        let expected =
            json!({"identifier": "default", "message": "hello", "turnId": "p:s:0", "detach": true});
        assert_eq!(parsed(&request().run_body()), expected);
    }

    #[test]
    fn an_attach_has_the_same_body_without_the_message() {
        let request = request().session_id("s").timeout(Duration::from_secs(3));
        let mut run = parsed(&request.run_body());
        run["message"] = "".into();
        assert_eq!(parsed(&request.attach_body()), run);
    }

    #[test]
    fn every_member_that_is_set_is_sent() {
        let backend = Backend { kind: Some("container".into()), model: None };
        let request = request().agent("coder").session_id("s").metadata(json!({"a": 1}));
        let request =
            request.backend(backend).timeout(Duration::from_secs(3)).member("tools", json!(["x"]));
        let body = parsed(&request.run_body());
        let expected = json!({
            "identifier": "coder", "message": "hello", "sessionId": "s", "metadata": {"a": 1},
            "backend": {"type": "container"}, "timeout": 3000, "tools": ["x"], "turnId": "p:s:0", "detach": true,
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_history_is_sent_oldest_first_and_an_empty_one_is_left_out() {
        let request = request().history([(Role::User, "one"), (Role::Assistant, "two")]);
        let said =
            json!([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]);
        assert_eq!(parsed(&request.run_body())["history"], said);
        let request = request.history([(Role::System, "only")]);
        let said = json!([{"role": "system", "content": "only"}]);
        assert_eq!(parsed(&request.run_body())["history"], said);
        let body = parsed(&request.history::<String>([]).run_body());
        assert!(body.get("history").is_none(), "{body}");
    }

    #[test]
    fn what_a_history_lacks_is_sent_where_it_lacks_anything() {
        let body = parsed(&request().history_omitted(3, 4_000).run_body());
        assert_eq!(body["historyOmitted"], json!({"turns": 3, "bytes": 4_000}));
        let body = parsed(&request().history_omitted(3, 4).history_omitted(0, 0).run_body());
        assert!(body.get("historyOmitted").is_none(), "{body}");
    }

    #[test]
    fn the_order_in_which_members_were_set_does_not_change_the_bytes() {
        let one = request().member("a", 1).session_id("s").member("b", 2);
        let other = request().member("b", 2).member("a", 1).session_id("s");
        assert_eq!(one.run_body(), other.run_body());
    }

    #[test]
    fn an_extra_member_does_not_replace_one_of_the_adapters() {
        let body = parsed(&request().member("turnId", "other").member("detach", false).run_body());
        assert_eq!(body["turnId"], "p:s:0");
        assert_eq!(body["detach"], true);
    }

    #[test]
    fn debug_shows_nothing_that_the_user_wrote() {
        let request = request().metadata(json!({"note": "private"})).member("key", "private");
        let shown = format!("{request:?}");
        assert!(!shown.contains("hello") && !shown.contains("private"), "{shown}");
    }
}
