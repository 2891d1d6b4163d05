use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use turnkit_http::client::{ErrorBody, InvalidBaseUrl, InvalidToken, is_transient};
use turnkit_wire::{
    DecodeError, Event, text,
    view::{Failure, Text},
};

use crate::follow::Answer;

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base URL is not one.
    #[error("use the server's URL, one like http://127.0.0.1:8787")]
    Url(#[from] InvalidBaseUrl),
    /// The token is not one.
    #[error("use the token")]
    Token(#[from] InvalidToken),
    /// There is no transport, because the feature `reqwest` is off.
    #[error("reach any server: a transport is needed where the feature reqwest is off")]
    NoTransport,
    /// The HTTP client of the feature `reqwest` cannot be set up.
    #[error("set up the HTTP client")]
    Http(#[source] BoxError),
}

/// Why a call, a connection or a turn failed, by who is to blame.
///
/// No message holds a token. What the server said is cut, and its control characters are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network: no connection, or none that brought an answer.
    #[error("reach the server")]
    Unreachable(#[source] BoxError),
    /// The network: not a byte came for so long.
    #[error("hear from the server: it was silent for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// The network: an answer broke off.
    #[error("read the answer to its end")]
    Broken(#[source] BoxError),
    /// The network, or the server's end: a turn's body ended before the turn did.
    #[error("read the turn to its end: the answer ended before it")]
    Cut,
    /// The server refused the request.
    #[error("get what was asked for: {0}")]
    Refused(Refusal),
    /// The turn failed; retryably, where this is told between two connections.
    #[error("get the whole answer: {0}")]
    Failed(TurnFailure),
    /// The turn has not begun: it is queued behind others.
    #[error("read the turn: it waits as number {position}")]
    Queued {
        /// Its place among those that wait, counted from 1.
        position: u64,
    },
    /// Something between here and the server answered, or the server is none of these.
    #[error("read the answer: it is not what was asked for")]
    NotAnAnswer,
    /// The server sent a line that is no event.
    #[error("read a line of the answer")]
    Line(#[source] DecodeError),
    /// The server's answer is not the JSON that was asked for.
    #[error("read the answer")]
    Json(#[source] BoxError),
    /// The server's answer is too large.
    #[error("read the answer: it is over {0} bytes")]
    TooLarge(usize),
    /// The caller: no request can be made of this.
    #[error("make the request")]
    Request(#[source] BoxError),
}

impl Error {
    /// A stable name: the server's own code for a refusal (`http_STATUS` where it gave none) and a failed turn; else
    /// `network`, `idle`, `cut`, `bad_response`, `invalid_line` or `invalid_request`.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Error::Unreachable(_) | Error::Broken(_) => "network",
            Error::Silent(_) => "idle",
            Error::Cut => "cut",
            Error::Refused(refusal) => refusal.code(),
            Error::Failed(failure) => failure.code.as_deref().unwrap_or("failed"),
            Error::Queued { .. } => "turn_queued",
            Error::NotAnAnswer | Error::Json(_) | Error::TooLarge(_) => "bad_response",
            Error::Line(_) => "invalid_line",
            Error::Request(_) => "invalid_request",
        }
    }

    /// What [`Follow`](crate::follow::Follow) is told of a request for a turn's body that has failed by this: the answer, or none
    /// where [none has come](crate::follow::Follow::lost).
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        match self {
            Error::Refused(refusal) => Some(Answer::Refused {
                status: refusal.status(),
                retry_after: refusal.retry_after(),
            }),
            Error::Queued { .. } => Some(Answer::Queued),
            Error::NotAnAnswer => Some(Answer::Other),
            _ => None,
        }
    }

    /// Whether the same may succeed later (PROTOCOL 4.4).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable(_)
            | Error::Silent(_)
            | Error::Broken(_)
            | Error::Cut
            | Error::Queued { .. }
            | Error::NotAnAnswer => true,
            Error::Refused(refusal) => refusal.is_transient(),
            Error::Failed(failure) => failure.retryable,
            Error::Line(_) | Error::Json(_) | Error::TooLarge(_) | Error::Request(_) => false,
        }
    }
}

/// A status other than success, and what its body said (PROTOCOL 3.1, 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    code: String,
    message: String,
    turn_id: Option<Box<str>>,
    outcome: Option<Box<str>>,
    field: Option<Box<str>>,
    retry_after: Option<Duration>,
}

/// A `turnId` has at most so many characters (PROTOCOL 4.2).
const MAX_TURN_ID: usize = 160;

impl Refusal {
    pub(crate) fn new(status: u16, body: &[u8], retry_after: Option<Duration>) -> Refusal {
        let body = ErrorBody::read(body);
        let nothing = || format!("status {status} without an error that could be read");
        Refusal {
            status,
            code: body.code().unwrap_or_else(|| format!("http_{status}")),
            message: body.message().unwrap_or_else(nothing),
            turn_id: body.member("turnId", MAX_TURN_ID).map(Into::into),
            outcome: body.member("outcome", text::MAX_CODE).map(Into::into),
            field: body.member("field", text::MAX_CODE).map(Into::into),
            retry_after,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The server's code, cut to 100 characters; `http_STATUS` where it gave none.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The server's message, cut to 500 characters.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// With `turn_running`: the turn that is open in the session.
    #[must_use]
    pub fn turn_id(&self) -> Option<&str> {
        self.turn_id.as_deref()
    }

    /// With `interaction_answered`: what came of the question.
    #[must_use]
    pub fn outcome(&self) -> Option<&str> {
        self.outcome.as_deref()
    }

    /// The place in the request that is wrong, cut to 100 characters.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// How long the server asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same request may be answered later: 408, 425, 429, 502, 503, 504.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        is_transient(self.status)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// What a turn's `session.run.failed` says (PROTOCOL 1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnFailure {
    /// The code, cut to 100 characters.
    pub code: Option<String>,
    /// The message, cut to 500 characters.
    pub message: String,
    /// The engine's phase in which it failed.
    pub phase: Option<String>,
    /// Whether the same turn may be tried again.
    pub retryable: bool,
}

impl TurnFailure {
    pub(crate) fn of(event: &Event) -> TurnFailure {
        let failure = Failure::of(event).unwrap_or_default();
        let said =
            |said: Option<Text<'_>>, max| text::said(&said?.to_str(), max).map(Cow::into_owned);
        TurnFailure {
            code: said(failure.code(), text::MAX_CODE),
            message: said(failure.message(), text::MAX_MESSAGE)
                .unwrap_or_else(|| "the turn failed".to_owned()),
            phase: said(failure.phase(), text::MAX_CODE),
            retryable: failure.retryable() == Some(true),
        }
    }
}

impl fmt::Display for TurnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.code.as_ref().map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}
