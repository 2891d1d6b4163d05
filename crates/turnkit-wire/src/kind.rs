//! The types of the events that the layers act on (PROTOCOL 1.1). All others pass through untouched.

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
/// The first event of every execution.
pub const EXECUTION_STARTED: &str = "execution.started";
/// The execution ended well.
pub const EXECUTION_COMPLETED: &str = "execution.completed";
/// The execution failed.
pub const EXECUTION_FAILED: &str = "execution.failed";
/// The execution was cancelled.
pub const EXECUTION_CANCELLED: &str = "execution.cancelled";
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
