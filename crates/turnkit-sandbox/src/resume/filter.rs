//! Which events end an execution, and which are not handed on: fixed by the protocol version (PROTOCOL 4.1).

use turnkit_wire::kind;

use super::End;

/// The version of the protocol whose list of events that are not forwarded holds here (PROTOCOL 4.1). Lines of a turn are
/// counted after it was applied, so a worker with another list would serve another turn.
pub const PROTOCOL_VERSION: u32 = 1;

/// The end that an event of type `kind` is, if it is one.
pub(super) fn terminal(kind: &str) -> Option<End> {
    match kind {
        kind::EXECUTION_COMPLETED | kind::DONE => Some(End::Completed),
        kind::EXECUTION_FAILED => Some(End::Failed),
        kind::EXECUTION_CANCELLED => Some(End::Cancelled),
        _ => None,
    }
}

/// Whether an event of type `kind`, not a terminal one, is about the stream and not about the answer.
pub(super) fn is_about_the_stream(kind: &str) -> bool {
    matches!(
        kind,
        kind::CONNECTION_ESTABLISHED
            | kind::HEARTBEAT
            | kind::HISTORY_REPLAY_START
            | kind::HISTORY_REPLAY_END
            | kind::EXECUTION_STARTED
    )
}
