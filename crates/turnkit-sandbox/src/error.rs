use std::{borrow::Cow, fmt, time::Duration};

use thiserror::Error;
use turnkit::BoxError;
use turnkit_http::client::{InvalidBaseUrl, InvalidToken};
use turnkit_id::InvalidLogId;
use turnkit_wire::{
    DecodeError, Event, text,
    view::{Failure, Text},
};

use crate::{refusal::Refusal, resume::Gap};

/// Why an execution could not be read to its end, by who is to blame (PROTOCOL 4.1).
///
/// Messages are fit for a log and for the user of the product: none holds a token, and what the substrate said is cut and
/// escaped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The network: no connection, or one that broke off more often than the policy allows.
    #[error("reach the substrate: {cause} ({failures} failures in a row)")]
    Transport {
        /// The last failure.
        #[source]
        cause: TransportError,
        /// How many there were in a row.
        failures: u32,
    },
    /// The substrate said no.
    #[error("get an answer from the substrate: {0}")]
    Refused(Refusal),
    /// The substrate did not keep to the protocol.
    #[error("read the substrate's answer: {0}")]
    Protocol(#[source] ProtocolError),
    /// Events of the log are missing.
    #[error("read the log without a gap: {0}")]
    Gap(Gap),
    /// The substrate has no such execution, or no longer the events that follow the cursor.
    #[error("find the execution: {0}")]
    Lost(Refusal),
    /// The execution was started with another request.
    #[error("attach to the execution: {0}")]
    Conflict(Refusal),
    /// The substrate has lost the log that the run was to start in, so it may have run there: it was not started again.
    #[error("start the execution in the log that its turn was dispatched under: {0}")]
    LogChanged(Refusal),
    /// The agent's run failed.
    #[error("{0}")]
    Failed(Ending),
    /// The agent's run was cancelled.
    #[error("{0}")]
    Cancelled(Ending),
}

// Each event that is read passes through several results with room for one.
const _: () = assert!(size_of::<Error>() <= 48);

impl Error {
    /// A stable name for the error: the substrate's own code where it gave one for a refusal, a failure or a cancel;
    /// `execution_lost`, `execution_conflict`, `log_changed`, `execution_gap`, `substrate_unreachable`, `substrate_refused`,
    /// `substrate_protocol`, `execution_failed` or `cancelled` otherwise.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Transport { .. } => "substrate_unreachable",
            Self::Refused(refusal) => refusal.code().unwrap_or("substrate_refused"),
            Self::Protocol(_) => "substrate_protocol",
            Self::Gap(_) => "execution_gap",
            Self::Lost(_) => "execution_lost",
            Self::Conflict(_) => "execution_conflict",
            Self::LogChanged(_) => "log_changed",
            Self::Failed(ending) => ending.code().unwrap_or("execution_failed"),
            Self::Cancelled(ending) => ending.code().unwrap_or("cancelled"),
        }
    }

    /// Whether the same execution may be read to its end by another attempt: true for failures of the network and for
    /// refusals that pass (408, 425, 429, 502, 503, 504).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Refused(refusal) => refusal.is_transient(),
            _ => false,
        }
    }

    /// Whether another turn may help: where the run itself failed and its terminal event said so (`temporary`).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Failed(ending) if ending.0.temporary)
    }
}

/// How the network failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection, or none that took the request.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// The request was sent, and the connection ended before the head of an answer.
    #[error("no answer")]
    Answer(#[source] BoxError),
    /// No head of an answer came in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// The stream broke off.
    #[error("the stream broke off")]
    Broken(#[source] BoxError),
    /// The stream ended before the execution did.
    #[error("the stream ended before the execution did")]
    Closed,
    /// Not a byte came for the idle time-out, not even a keep-alive.
    #[error("the stream was silent for {} s", .0.as_secs_f64())]
    Idle(Duration),
    /// The stream was lost after an event without an id, so it can not be taken up without a gap or a repeat.
    #[error("the stream was lost after an event without an id")]
    Unresumable,
}

/// How the substrate left the protocol.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// It sent the request elsewhere. No redirect is followed: headers would leak to another host.
    #[error("status {0} redirects, which is not followed")]
    Redirect(u16),
    /// A status that no answer of this call has.
    #[error("unexpected status {0}")]
    Status(u16),
    /// Not `text/event-stream`.
    #[error("content type {0} instead of text/event-stream")]
    ContentType(String),
    /// A body that is compressed, although only the identity was accepted.
    #[error("content encoding {0}, which was not asked for")]
    Encoding(String),
    /// The answer is about another execution.
    #[error("answer of another execution, {0}")]
    OtherExecution(String),
    /// A frame that is no event.
    #[error("{0}")]
    Event(#[source] DecodeError),
    /// The log ended without a terminal event.
    #[error("the log ends without a terminal event")]
    Unterminated,
    /// A status object that can not be read.
    #[error("no status object: {0}")]
    Json(#[source] serde_json::Error),
    /// The id of the log is none.
    #[error("no id of a log: {0}")]
    LogId(#[source] InvalidLogId),
    /// A body over the limit of bytes.
    #[error("body over {0} bytes")]
    TooLarge(usize),
    /// `.` or `..` as an execution id: a URL can not name it.
    #[error("the execution id is no path segment of a URL")]
    Unaddressable,
}

/// What the terminal event of a run that did not complete said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending(Box<Ended>);

/// Boxed, as a refusal is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ended {
    code: Option<String>,
    message: Option<String>,
    temporary: bool,
    otherwise: &'static str,
}

impl Ending {
    pub(crate) fn of(event: &Event, otherwise: &'static str) -> Self {
        let said = Failure::of(event).unwrap_or_default();
        let printable =
            |said: Option<Text<'_>>, max| text::said(&said?.to_str(), max).map(Cow::into_owned);
        Self(Box::new(Ended {
            code: printable(said.code(), text::MAX_CODE),
            message: printable(said.message(), text::MAX_MESSAGE),
            temporary: said.temporary().unwrap_or(false),
            otherwise,
        }))
    }

    /// The run's own code, cut to 100 characters.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The run's own message, cut to 500 characters.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message().unwrap_or(self.0.otherwise))
    }
}

/// Why a client could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base URL can not be used.
    #[error("use the base URL")]
    BaseUrl(#[from] InvalidBaseUrl),
    /// The bearer token can not be used.
    #[error("use the bearer token")]
    Token(#[from] InvalidToken),
    /// The HTTP client, its TLS roots above all, can not be set up.
    #[error("set up the HTTP client")]
    Http(#[source] BoxError),
    /// The crate is built without the feature `reqwest`, and no transport was given.
    #[error(
        "reach a substrate without a transport: give one, or build turnkit-sandbox with the feature `reqwest`"
    )]
    NoTransport,
}
