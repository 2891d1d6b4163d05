use std::time::Duration;

use serde_json::{Value, json};

use turnkit_http::server::{BodyLimits, listener::ConnectionLimits};

use crate::error::BuildError;

/// Every bound of the substrate (PROTOCOL 3.2). All of them stand in the answer of `GET /capabilities`.
///
/// A log is made with its limits, and a [`Substrate`](crate::Substrate) over that log keeps to the same ones.
///
/// ```
/// use turnkit_substrate::Limits;
///
/// let limits = Limits { events_per_execution: 1_000, ..Limits::default() };
/// assert_eq!(limits.event, 1024 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request body, in bytes: 1 MiB. Beyond it: 413 `payload_too_large`.
    pub request_body: usize,
    /// The longest event of an agent, in bytes of its JSON: 1 MiB. Beyond it the run fails with `event_too_large`.
    pub event: usize,
    /// Events of one execution besides its terminal one: 100,000. Beyond it the run fails with `log_full`.
    pub events_per_execution: u64,
    /// Bytes of the encoded frames of one execution besides its terminal one: 64 MiB. Beyond it the run fails with `log_full`.
    pub bytes_per_execution: u64,
    /// Bytes that all logs and bindings of one scope may take: 512 MiB. Ended executions make room, the oldest first;
    /// when there is none left, starts get 503 `unavailable` and running executions `log_full`.
    pub bytes_per_scope: u64,
    /// Bytes that the logs and bindings of all scopes may take: 1 GiB.
    pub bytes_in_all: u64,
    /// Executions of one scope that run at the same time: 4,096. Beyond it: 429 `too_many_executions`.
    pub running_per_scope: usize,
    /// Executions of all scopes that run at the same time: 8,192.
    pub running_in_all: usize,
    /// Executions that wait for an answer and do not count as running: 20,000 (PROTOCOL 3.6). Those beyond count as running.
    pub waiting_in_all: usize,
    /// How long an ended execution can be replayed: 1 h.
    pub retention: Duration,
    /// How long an id stays bound after its events are gone: 24 h. A start in that time gets 410 `execution_expired`.
    pub binding: Duration,
    /// How long a run may take that names no `timeout`: 10 min. Then it fails with `timeout`.
    pub run_timeout: Duration,
    /// The longest `timeout` that a request may name: 1 h.
    pub max_run_timeout: Duration,
    /// How long a question may wait for its answer, at most and where it says nothing: 24 h. Then it is `expired`. Meanwhile the
    /// time of the run's `timeout` does not pass.
    pub interaction: Duration,
    /// How long a run may take in all, its questions included: 7 days. Then it fails with `timeout`.
    pub run_in_all: Duration,
    /// How long a stream may be silent before a comment is sent: 15 s.
    pub heartbeat: Duration,
    /// The bounds of connections, kept by [`Substrate::serve`](crate::Substrate::serve).
    pub connection: ConnectionLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body: MIB,
            event: MIB,
            events_per_execution: 100_000,
            bytes_per_execution: 64 * MIB as u64,
            bytes_per_scope: 512 * MIB as u64,
            bytes_in_all: 1024 * MIB as u64,
            running_per_scope: 4_096,
            running_in_all: 8_192,
            waiting_in_all: 20_000,
            retention: Duration::from_secs(60 * 60),
            binding: Duration::from_secs(24 * 60 * 60),
            run_timeout: Duration::from_secs(10 * 60),
            max_run_timeout: Duration::from_secs(60 * 60),
            interaction: Duration::from_secs(24 * 60 * 60),
            run_in_all: Duration::from_secs(7 * 24 * 60 * 60),
            heartbeat: Duration::from_secs(15),
            connection: ConnectionLimits::default(),
        }
    }
}

impl Limits {
    /// Refuses limits that could not be kept.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let rules = [
            ("event", "1 byte to 1 GiB", (1..=1024 * MIB).contains(&self.event)),
            ("request_body", "at least 1 byte", self.request_body > 0),
            ("events_per_execution", "at least 1", self.events_per_execution > 0),
            ("heartbeat", "longer than zero", !self.heartbeat.is_zero()),
            ("run_timeout", "longer than zero", !self.run_timeout.is_zero()),
            ("interaction", "longer than zero", !self.interaction.is_zero()),
            ("run_in_all", "longer than zero", !self.run_in_all.is_zero()),
        ];
        match rules.into_iter().find(|(.., is_kept)| !is_kept) {
            Some((limit, must, _)) => Err(BuildError::Limit { limit, must }),
            None => Ok(()),
        }
    }

    pub(crate) fn body(&self) -> BodyLimits {
        BodyLimits { bytes: self.request_body, time: self.connection.body_read }
    }

    /// The limits as `GET /capabilities` shows them: sizes in bytes, times in milliseconds.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "requestBodyBytes": self.request_body,
            "eventBytes": self.event,
            "eventsPerExecution": self.events_per_execution,
            "bytesPerExecution": self.bytes_per_execution,
            "bytesPerScope": self.bytes_per_scope,
            "bytesInAll": self.bytes_in_all,
            "runningPerScope": self.running_per_scope,
            "runningInAll": self.running_in_all,
            "waitingInAll": self.waiting_in_all,
            "retentionMs": millis(self.retention),
            "bindingMs": millis(self.binding),
            "runTimeoutMs": millis(self.run_timeout),
            "maxRunTimeoutMs": millis(self.max_run_timeout),
            "interactionMs": millis(self.interaction),
            "runInAllMs": millis(self.run_in_all),
            "heartbeatMs": millis(self.heartbeat),
            "connections": self.connection.connections,
            "headerBytes": self.connection.header_bytes,
            "headerReadMs": millis(self.connection.header_read),
            "bodyReadMs": millis(self.connection.body_read),
            "tcpUserTimeoutMs": millis(self.connection.tcp_user_timeout),
            "shutdownMs": millis(self.connection.shutdown),
        })
    }
}

/// Whole milliseconds of `duration`; a longer time than a `u64` holds counts as the longest.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const MIB: usize = 1024 * 1024;
