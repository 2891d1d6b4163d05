//! Which events end an execution, and which are not handed on: fixed by the protocol version (PROTOCOL 4.1).

use turnkit_wire::kind::Class;

use super::End;

/// The version of the protocol whose list of events that are not forwarded holds here (PROTOCOL 4.1). Lines of a turn are
/// counted after it was applied, so a worker with another list would serve another turn.
pub const PROTOCOL_VERSION: u32 = 1;

/// The end that such an event is, if it is one.
pub(super) fn terminal(class: Class) -> Option<End> {
    match class {
        Class::ExecutionCompleted | Class::Done => Some(End::Completed),
        Class::ExecutionFailed => Some(End::Failed),
        Class::ExecutionCancelled => Some(End::Cancelled),
        _ => None,
    }
}

/// Whether such an event, not a terminal one, is about the stream and not about the answer.
pub(super) fn is_about_the_stream(class: Class) -> bool {
    !class.is_forwarded() && !class.ends_execution()
}
