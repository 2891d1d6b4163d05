//! Why a call is not carried out.

use std::time::Duration;

use http::StatusCode;

use crate::store::{Outcome, StoreError, StoreErrorKind, Veto};

/// Why a call is not carried out: nothing was changed by it (PROTOCOL 4.2).
///
/// [`status`](Self::status), [`code`](Self::code) and the `Display`, a sentence for the people who use the product, are what the
/// routes answer. What lies behind a failure is its source, for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What was asked for is not what it must be.
    #[error("{0}")]
    Invalid(String),
    /// The user has no such session.
    #[error("there is no such session")]
    NoSession,
    /// The session has no such turn.
    #[error("there is no such turn in this session")]
    NoTurn,
    /// The session has no turn that the new one could go on from or stand in for, as was asked.
    #[error("there is no such turn in this session to go on from or to replace")]
    NoParent,
    /// The substrate has no agent of this name.
    #[error("there is no agent of this name, see /api/agents")]
    NoAgent,
    /// The id names another turn.
    #[error(
        "this turnId was used for another message, agent or place; make a new one for each message"
    )]
    Conflict,
    /// A session has one open turn.
    #[error("another turn of this session is still open; wait for its end, or cancel it")]
    Running {
        /// The open one.
        turn_id: String,
    },
    /// As many turns of the session wait as may.
    #[error(
        "{limit} messages of this session wait already; wait until one of them has its turn, or remove one"
    )]
    QueueFull {
        /// How many.
        limit: usize,
    },
    /// The turn is still queued, and what was asked is about one that runs or has run.
    #[error("this turn is still queued: it has not begun")]
    Queued,
    /// The turn is not queued any more, and can be neither edited nor removed.
    #[error("this turn has begun and is not queued any more")]
    Started,
    /// The turn was removed from the queue.
    #[error(
        "this turn was removed from the queue; make a new turnId to send its message all the same"
    )]
    Removed,
    /// The place in the feed is not one of it, or is not kept any more.
    #[error(
        "this place in the feed is not known any more; read the list of sessions anew and go on from its feed"
    )]
    FeedExpired,
    /// This process drives as many turns as it may.
    #[error("this server drives {limit} turns already")]
    TooMany {
        /// How many.
        limit: usize,
    },
    /// The product's own statements refuse it.
    #[error("{}", .0.message)]
    Vetoed(Veto),
    /// The store is busy.
    #[error("the database is busy at the moment")]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// No [`Attendant`](crate::Attendant) is polled, so nobody would look after a turn.
    #[error("nobody attends to turns in this process: the attendant is not running")]
    Unattended,
    /// The process has not joined the store yet, and says why.
    #[error("no turn can be started at the moment: {0}")]
    NotReady(String),
    /// The process is about to end.
    #[error("this server is shutting down")]
    ShuttingDown,
    /// The agent has asked no question of this id.
    #[error("there is no such question")]
    NoInteraction,
    /// The question was answered otherwise before.
    #[error("this question was answered already, in another way")]
    OtherAnswer {
        /// What came of it, where that is known.
        outcome: Option<Outcome>,
    },
    /// Nobody waits for the answer any more: the question has expired, was withdrawn, or its turn has ended.
    #[error("nobody waits for an answer to this question any more")]
    InteractionGone,
    /// The substrate cannot use what was to be passed on: it does not fit the question's schema or options, or is too large.
    #[error("{message}")]
    InvalidAnswer {
        /// The HTTP status: 422 where it does not fit.
        status: u16,
        /// What is wrong.
        field: Option<String>,
        /// How.
        message: String,
    },
    /// The agent of this turn takes no messages while it runs.
    #[error("this agent takes no messages while it answers; send it as a turn of its own")]
    NoInput,
    /// The input's id names another message.
    #[error("this id was used for another message into this turn; make a new one for each")]
    InputConflict,
    /// The turn has ended before it could take the message.
    #[error("this turn has ended; send the message as a turn of its own")]
    InputTooLate,
    /// As many answers or messages into this turn are under way as may be.
    #[error("too much is on its way into this turn already; try again in a moment")]
    TooManyWishes {
        /// How many, where this process says so.
        limit: Option<usize>,
    },
    /// The substrate did not answer.
    #[error("the substrate cannot be asked at the moment")]
    Substrate(#[source] turnkit::BoxError),
    /// The store failed.
    #[error("the database is not available at the moment")]
    Store(#[source] StoreError),
    /// A task of this crate panicked. What it was at is in the log.
    #[error("the request could not be carried out")]
    Broke,
}

impl Refusal {
    /// The HTTP status of the answer (PROTOCOL 3.1, 4.2).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Invalid(_) | Refusal::NoAgent => StatusCode::BAD_REQUEST,
            Refusal::NoSession | Refusal::NoTurn | Refusal::NoParent | Refusal::NoInteraction => {
                StatusCode::NOT_FOUND
            }
            Refusal::Conflict
            | Refusal::Running { .. }
            | Refusal::Queued
            | Refusal::Started
            | Refusal::OtherAnswer { .. }
            | Refusal::NoInput
            | Refusal::InputConflict => StatusCode::CONFLICT,
            Refusal::QueueFull { .. } | Refusal::TooManyWishes { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Refusal::Removed
            | Refusal::FeedExpired
            | Refusal::InteractionGone
            | Refusal::InputTooLate => StatusCode::GONE,
            Refusal::InvalidAnswer { status, .. } => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY)
            }
            Refusal::Vetoed(veto) => {
                StatusCode::from_u16(veto.status).unwrap_or(StatusCode::FORBIDDEN)
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A word for programs (PROTOCOL 3.1, 4.2).
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Refusal::InvalidAnswer { status: 422, .. } => "invalid_answer",
            Refusal::InvalidAnswer { status: 413, .. } => "payload_too_large",
            Refusal::Invalid(_) | Refusal::NoAgent | Refusal::InvalidAnswer { .. } => {
                "invalid_request"
            }
            Refusal::NoSession => "session_not_found",
            Refusal::NoTurn | Refusal::NoParent => "turn_not_found",
            Refusal::Conflict => "turn_conflict",
            Refusal::Running { .. } => "turn_running",
            Refusal::QueueFull { .. } => "queue_full",
            Refusal::Queued => "turn_queued",
            Refusal::Started => "turn_started",
            Refusal::Removed => "turn_removed",
            Refusal::FeedExpired => "feed_expired",
            Refusal::TooMany { .. } => "too_many_turns",
            Refusal::Vetoed(veto) => &veto.code,
            Refusal::NoInteraction => "interaction_not_found",
            Refusal::OtherAnswer { .. } => "interaction_answered",
            Refusal::InteractionGone => "interaction_gone",
            Refusal::NoInput => "input_not_accepted",
            Refusal::InputConflict => "input_conflict",
            Refusal::InputTooLate => "execution_ended",
            Refusal::TooManyWishes { .. } => "too_many_inputs",
            Refusal::Unattended => "unattended",
            Refusal::ShuttingDown => "shutting_down",
            _ => "unavailable",
        }
    }

    /// When to ask again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Busy { retry_after } => Some(*retry_after),
            Refusal::QueueFull { .. } => Some(Duration::from_secs(5)),
            Refusal::TooManyWishes { .. } => Some(Duration::from_secs(1)),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        match error.kind() {
            StoreErrorKind::Busy => Refusal::Busy { retry_after: Duration::from_secs(1) },
            StoreErrorKind::Gone => Refusal::NoSession,
            _ => Refusal::Store(error),
        }
    }
}
