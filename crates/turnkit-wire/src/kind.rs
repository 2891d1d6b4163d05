//! The types of the events that the layers act on, and who does (PROTOCOL 1.1). All others pass through untouched.
//!
//! ```
//! use turnkit_wire::{Event, kind::Class};
//!
//! let event = Event::bare("execution.cancelled")?;
//! assert_eq!(event.class(), Class::ExecutionCancelled);
//! assert!(event.class().is_failure() && event.class().ends_execution() && !event.class().is_forwarded());
//! assert_eq!(Event::bare("price")?.class(), Class::Other);
//! # Ok::<(), turnkit_wire::EncodeError>(())
//! ```

/// The first line of every attempt.
pub const RUN_STARTED: &str = "session.run.started";
/// The answer was saved.
pub const RUN_COMPLETED: &str = "session.run.completed";
/// The attempt failed.
pub const RUN_FAILED: &str = "session.run.failed";
/// Every event of the envelope begins so; producers' own are not forwarded (PROTOCOL 2.1).
pub const RUN_PREFIX: &str = "session.run.";
/// A part of the answer grew or changed.
pub const MESSAGE_PART_UPDATED: &str = "message.part.updated";
/// The agent's result, with the final text where it has one.
pub const RESULT: &str = "result";
/// Something failed; what, stands in the data.
pub const ERROR: &str = "error";
/// Something went wrong that does not end the turn.
pub const WARNING: &str = "warning";
/// The agent asks something, and waits for an answer.
pub const INTERACTION: &str = "interaction";
/// A question of the agent's was answered, or is not asked any more.
pub const INTERACTION_ANSWERED: &str = "interaction.answered";
/// A message into the running turn.
pub const INPUT: &str = "input";
/// The agent has a message that came into the running turn.
pub const INPUT_TAKEN: &str = "input.taken";
/// The first event of every execution.
pub const EXECUTION_STARTED: &str = "execution.started";
/// The execution ended well.
pub const EXECUTION_COMPLETED: &str = "execution.completed";
/// The execution failed.
pub const EXECUTION_FAILED: &str = "execution.failed";
/// The execution was cancelled.
pub const EXECUTION_CANCELLED: &str = "execution.cancelled";
/// Every event of the substrate's own begins so; an agent may not send one (PROTOCOL 3.4).
pub const EXECUTION_PREFIX: &str = "execution.";
/// The end of a producer's stream.
pub const DONE: &str = "done";
/// A sign of life.
pub const HEARTBEAT: &str = "heartbeat";
/// The substrate accepted the connection.
pub const CONNECTION_ESTABLISHED: &str = "connection.established";
/// Events of the past follow.
pub const HISTORY_REPLAY_START: &str = "history.replay.start";
/// The events of the past are over.
pub const HISTORY_REPLAY_END: &str = "history.replay.end";

/// What an event's type means to the layers: the one table of PROTOCOL 1.1, 3.4 and 4.1.
///
/// A type belongs to several of the groups that the methods name; what no method names passes through untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// [`MESSAGE_PART_UPDATED`].
    Part,
    /// [`RESULT`].
    Result,
    /// [`WARNING`].
    Warning,
    /// [`ERROR`].
    Error,
    /// [`INTERACTION`].
    Interaction,
    /// [`INTERACTION_ANSWERED`].
    InteractionAnswered,
    /// [`INPUT`].
    Input,
    /// [`INPUT_TAKEN`].
    InputTaken,
    /// [`RUN_STARTED`].
    RunStarted,
    /// [`RUN_COMPLETED`].
    RunCompleted,
    /// [`RUN_FAILED`].
    RunFailed,
    /// Any other type that begins with [`RUN_PREFIX`].
    RunOther,
    /// [`EXECUTION_STARTED`].
    ExecutionStarted,
    /// [`EXECUTION_COMPLETED`].
    ExecutionCompleted,
    /// [`EXECUTION_FAILED`].
    ExecutionFailed,
    /// [`EXECUTION_CANCELLED`].
    ExecutionCancelled,
    /// Any other type that begins with [`EXECUTION_PREFIX`].
    ExecutionOther,
    /// [`DONE`].
    Done,
    /// [`CONNECTION_ESTABLISHED`], [`HEARTBEAT`], [`HISTORY_REPLAY_START`], [`HISTORY_REPLAY_END`].
    Connection,
    /// Every other type.
    Other,
}

impl Class {
    /// The class of an event's type, as [`Event::kind_bytes`](crate::Event::kind_bytes) gives it.
    #[must_use]
    #[inline]
    pub fn of(kind: &[u8]) -> Self {
        // Nearly all events are parts, and a slice in a `match` is compared byte by byte.
        if kind == MESSAGE_PART_UPDATED.as_bytes() {
            return Self::Part;
        }
        match kind {
            b"result" => Self::Result,
            b"error" => Self::Error,
            b"warning" => Self::Warning,
            b"interaction" => Self::Interaction,
            b"interaction.answered" => Self::InteractionAnswered,
            b"input" => Self::Input,
            b"input.taken" => Self::InputTaken,
            b"execution.started" => Self::ExecutionStarted,
            b"execution.completed" => Self::ExecutionCompleted,
            b"execution.failed" => Self::ExecutionFailed,
            b"execution.cancelled" => Self::ExecutionCancelled,
            b"session.run.started" => Self::RunStarted,
            b"session.run.completed" => Self::RunCompleted,
            b"session.run.failed" => Self::RunFailed,
            b"done" => Self::Done,
            b"heartbeat"
            | b"connection.established"
            | b"history.replay.start"
            | b"history.replay.end" => Self::Connection,
            other if other.starts_with(RUN_PREFIX.as_bytes()) => Self::RunOther,
            other if other.starts_with(EXECUTION_PREFIX.as_bytes()) => Self::ExecutionOther,
            _ => Self::Other,
        }
    }

    /// The engine assembles the answer from it (PROTOCOL 2.3).
    #[must_use]
    #[inline]
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Part | Self::Result | Self::Warning)
    }

    /// It is a question of a running agent, an input into its run, or what came of one of these: the engine keeps it with the answer
    /// (PROTOCOL 2.3, 3.6).
    #[must_use]
    #[inline]
    pub const fn is_interaction(self) -> bool {
        matches!(
            self,
            Self::Interaction | Self::InteractionAnswered | Self::Input | Self::InputTaken
        )
    }

    /// It makes the turn fail that it comes in (PROTOCOL 2.4).
    #[must_use]
    #[inline]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Error | Self::ExecutionFailed | Self::ExecutionCancelled | Self::RunFailed
        )
    }

    /// It is the engine's envelope: a producer's own is not forwarded (PROTOCOL 2.1).
    #[must_use]
    #[inline]
    pub const fn is_envelope(self) -> bool {
        matches!(self, Self::RunStarted | Self::RunCompleted | Self::RunFailed | Self::RunOther)
    }

    /// It is the substrate's own: an agent that sends it fails (PROTOCOL 3.4).
    #[must_use]
    #[inline]
    pub const fn is_reserved(self) -> bool {
        matches!(
            self,
            Self::ExecutionStarted
                | Self::ExecutionCompleted
                | Self::ExecutionFailed
                | Self::ExecutionCancelled
                | Self::ExecutionOther
        )
    }

    /// It is the substrate's own in the runs of an agent that takes answers or input (PROTOCOL 3.6).
    #[must_use]
    #[inline]
    pub const fn is_of_inbox(self) -> bool {
        matches!(self, Self::InteractionAnswered | Self::Input | Self::InputTaken)
    }

    /// It ends a log: one of these is the last event of every execution (PROTOCOL 3.1).
    #[must_use]
    #[inline]
    pub const fn ends_log(self) -> bool {
        matches!(self, Self::ExecutionCompleted | Self::ExecutionFailed | Self::ExecutionCancelled)
    }

    /// It ends the stream of an execution for the adapter: what ends a log, and `done` (PROTOCOL 4.1).
    #[must_use]
    #[inline]
    pub const fn ends_execution(self) -> bool {
        self.ends_log() || matches!(self, Self::Done)
    }

    /// The adapter hands it on (PROTOCOL 4.1). The list of those that it does not is fixed by the protocol's version.
    #[must_use]
    #[inline]
    pub const fn is_forwarded(self) -> bool {
        !self.ends_execution() && !matches!(self, Self::Connection | Self::ExecutionStarted)
    }

    /// In a turn's body it is a terminal line, which no cursor counts (PROTOCOL 2.1).
    #[must_use]
    #[inline]
    pub const fn is_terminal_line(self) -> bool {
        matches!(self, Self::Error | Self::RunCompleted | Self::RunFailed)
    }

    /// It is the last line of a turn's body (PROTOCOL 2.1).
    #[must_use]
    #[inline]
    pub const fn ends_body(self) -> bool {
        matches!(self, Self::RunCompleted | Self::RunFailed)
    }
}

#[cfg(test)]
mod tests;
