//! What went wrong, for whom, and what of it a client may read.

use std::{
    error::Error,
    fmt,
    io::{self, Write as _},
    iter,
    time::Duration,
};

use tracing::{Dispatch, dispatcher, subscriber::NoSubscriber};
use turnkit_wire::text;

use crate::contain::contain;

/// Any error that can cross threads, as producers and hooks return it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// How many causes of an error are told: nothing keeps an error from being its own.
const MAX_CAUSES: usize = 16;

/// A hook's error that no other attempt will mend. Where `find_completed`, `transform_final_text` or `persist_assistant_message` returns
/// it, as it is, the attempt fails with its code and message, not retryable (PROTOCOL 2.2).
///
/// ```
/// use turnkit::{BoxError, Final};
///
/// fn is_gone() -> Result<(), BoxError> {
///     Err(Final::new("session_deleted", "this conversation was deleted").into())
/// }
/// # assert_eq!(is_gone().unwrap_err().to_string(), "this conversation was deleted");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    code: String,
    message: String,
}

impl Final {
    /// An error with a word for programs and a sentence for people.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl fmt::Display for Final {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Final {}

/// The part of an attempt in which it failed (PROTOCOL 2.1). On the wire in lower case, as `phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// `find_completed` was asked for a saved answer.
    Lookup,
    /// The producer was asked for events.
    Produce,
    /// `transform_final_text` ran.
    Transform,
    /// `persist_assistant_message` ran.
    Persist,
}

impl Phase {
    /// The name on the wire: `lookup`, `produce`, `transform` or `persist`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Produce => "produce",
            Self::Transform => "transform",
            Self::Persist => "persist",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an attempt at a turn failed (PROTOCOL 2.4).
///
/// Displays as the message that the client is told, but whole: on the wire it is cut to 500 characters and its control
/// characters are escaped. Where an error of the producer or of a hook is behind it, that is the error's own text, and the
/// error is the [`source`](Error::source).
#[derive(Debug)]
pub struct TurnError {
    pub(crate) phase: Phase,
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    pub(crate) retryable: bool,
    pub(crate) temporary: bool,
    pub(crate) source: Option<BoxError>,
}

impl TurnError {
    /// A failure that the engine found while producing.
    pub(crate) fn produce(code: &str, message: &str) -> Self {
        Self {
            phase: Phase::Produce,
            message: message.to_owned(),
            code: Some(code.to_owned()),
            retryable: false,
            temporary: false,
            source: None,
        }
    }

    pub(crate) fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Where the attempt was when it failed.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// A word for programs, where there is one: the producer's own, or one of the engine's [codes](crate::code).
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether the same turn may be tried again under the same execution id. If not, a new turn may be.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Whether a new turn may help, because the cause is likely to pass: for the user to read. Nothing is repeated for it.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl fmt::Display for TurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for TurnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// The codes of failures that the engine itself finds (PROTOCOL 2.3, 2.4). A producer's own codes stand beside them.
pub mod code {
    /// The client left under [`ClientLeft::Abandon`](crate::ClientLeft::Abandon); nobody was told, no hook ran.
    pub const ABANDONED: &str = "abandoned";
    /// [`TurnHandle::cancel`](crate::TurnHandle::cancel), or the client left under
    /// [`ClientLeft::Cancel`](crate::ClientLeft::Cancel), or the producer sent an `execution.cancelled` without a code.
    pub const CANCELLED: &str = "cancelled";
    /// The producer ended without a text and without a single `message.part.updated`.
    pub const EMPTY_ANSWER: &str = "empty_answer";
    /// A hook that the answer depends on returned an error.
    pub const HOOK_FAILED: &str = "hook_failed";
    /// A hook that the answer depends on ran longer than [`ChatTurn::hook_timeout`](crate::ChatTurn::hook_timeout).
    pub const HOOK_TIMEOUT: &str = "hook_timeout";
    /// The cursor of [`ChatTurn::resume_after`](crate::ChatTurn::resume_after) is beyond the turn's events. The turn itself
    /// ended well.
    pub const INVALID_CURSOR: &str = "invalid_cursor";
    /// The producer or a hook panicked.
    pub const PANIC: &str = "panic";
    /// The answer's text is longer than [`ChatTurn::max_text`](crate::ChatTurn::max_text).
    pub const TEXT_TOO_LARGE: &str = "text_too_large";
    /// What a producer of [`producer`](crate::producer) reads from broke off before it had said that its answer is whole.
    pub const UPSTREAM_CUT: &str = "upstream_cut";
}

/// A method of [`TurnHooks`](crate::TurnHooks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hook {
    /// [`find_completed`](crate::TurnHooks::find_completed)
    FindCompleted,
    /// [`on_event`](crate::TurnHooks::on_event)
    OnEvent,
    /// [`transform_final_text`](crate::TurnHooks::transform_final_text)
    TransformFinalText,
    /// [`transform_part`](crate::TurnHooks::transform_part)
    TransformPart,
    /// [`persist_assistant_message`](crate::TurnHooks::persist_assistant_message)
    PersistAssistantMessage,
    /// [`on_turn_complete`](crate::TurnHooks::on_turn_complete)
    OnTurnComplete,
    /// [`on_turn_failed`](crate::TurnHooks::on_turn_failed)
    OnTurnFailed,
    /// [`trace_flush`](crate::TurnHooks::trace_flush)
    TraceFlush,
}

impl Hook {
    /// The method's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FindCompleted => "find_completed",
            Self::OnEvent => "on_event",
            Self::TransformFinalText => "transform_final_text",
            Self::TransformPart => "transform_part",
            Self::PersistAssistantMessage => "persist_assistant_message",
            Self::OnTurnComplete => "on_turn_complete",
            Self::OnTurnFailed => "on_turn_failed",
            Self::TraceFlush => "trace_flush",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A hook's failure that did not fail the attempt (PROTOCOL 2.2).
///
/// Displays as what failed; the error that the hook returned is its [`source`](Error::source). A panic and a time-out have none.
#[derive(Debug)]
pub struct HookError {
    hook: Hook,
    fault: HookFault,
}

impl HookError {
    pub(crate) fn new(hook: Hook, fault: HookFault) -> Self {
        Self { hook, fault }
    }

    /// The hook that failed.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            HookFault::Failed(_) => write!(f, "run {}", self.hook),
            HookFault::Panicked | HookFault::TimedOut(_) => {
                write!(f, "run {}: {}", self.hook, self.fault)
            }
        }
    }
}

impl Error for HookError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.fault {
            HookFault::Failed(source) => Some(source.as_ref()),
            HookFault::Panicked | HookFault::TimedOut(_) => None,
        }
    }
}

/// How a hook failed.
#[derive(Debug)]
pub(crate) enum HookFault {
    Failed(BoxError),
    Panicked,
    TimedOut(Duration),
}

/// With what caused it: so an operator reads it.
impl fmt::Display for HookFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => {
                write!(f, "{error}")?;
                let causes = iter::successors(error.source(), |&cause| cause.source());
                causes.take(MAX_CAUSES).try_for_each(|cause| write!(f, ": {cause}"))
            }
            Self::Panicked => f.write_str("it panicked"),
            Self::TimedOut(limit) => write!(f, "it took longer than {limit:?}"),
        }
    }
}

impl HookFault {
    /// Says it aloud, so that no failure of a hook vanishes (PROTOCOL 2.2).
    pub(crate) fn report(&self, hook: Hook) {
        let fault = describe(self);
        tell(|| tracing::error!(%hook, fault, "a hook failed"));
        say(format_args!("{hook} failed: {}", text::printable(&fault)));
    }

    /// The failure of the attempt, where `hook` is one that the answer depends on.
    pub(crate) fn into_turn_error(self, hook: Hook, phase: Phase) -> TurnError {
        let known = match &self {
            Self::Failed(source) => source.downcast_ref::<Final>().cloned(),
            Self::Panicked | Self::TimedOut(_) => None,
        };
        if let Some(Final { code, message }) = known {
            let (code, source) = (Some(code), None);
            return TurnError { phase, message, code, retryable: false, temporary: false, source };
        }
        let (message, code, source) = match self {
            Self::Failed(source) => (describe(&source), code::HOOK_FAILED, Some(source)),
            Self::Panicked => (format!("{hook} panicked"), code::PANIC, None),
            Self::TimedOut(limit) => {
                (format!("{hook} took longer than {limit:?}"), code::HOOK_TIMEOUT, None)
            }
        };
        TurnError {
            phase,
            message,
            code: Some(code.to_owned()),
            retryable: true,
            temporary: false,
            source,
        }
    }
}

/// The text of someone else's error, whose `Display` may panic.
pub(crate) fn describe(error: &dyn fmt::Display) -> String {
    contain(|| error.to_string()).unwrap_or_else(|_| "an error without a text".into())
}

/// A warning that is seen, with a subscriber and without.
pub(crate) fn warn(message: &str) {
    tell(|| tracing::warn!("{message}"));
    say(format_args!("{message}"));
}

/// Logs. A subscriber may panic, and the usual one does where it cannot write: that stops no turn.
pub(crate) fn tell(log: impl FnOnce()) {
    contain(log).ok();
}

/// Says it on standard error, where nobody listens to `tracing`. A standard error that is closed is no reason to fail.
fn say(message: fmt::Arguments<'_>) {
    if dispatcher::get_default(Dispatch::is::<NoSubscriber>) {
        writeln!(io::stderr(), "turnkit: {message}").ok();
    }
}
