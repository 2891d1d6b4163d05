use thiserror::Error;

use crate::ExecutionId;

/// Why there is no [`ExecutionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// The project is empty or white space.
    #[error("the project of an execution id is blank")]
    BlankProject,
    /// The session is empty or white space.
    #[error("the session of an execution id is blank")]
    BlankSession,
    /// The turn index cannot be held exactly by every peer: it is over 2^53 − 1.
    #[error("the turn index {turn_index} is over the limit of {}", ExecutionId::MAX_TURN_INDEX)]
    TurnIndexTooLarge {
        /// The index as it was given.
        turn_index: u64,
    },
    /// The text to parse is empty.
    #[error("an execution id is empty")]
    Empty,
    /// The text to parse is longer than [`ExecutionId::MAX_LEN`].
    #[error(
        "an execution id of {length} bytes is over the limit of {} bytes",
        ExecutionId::MAX_LEN
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The text to parse holds a byte that is not visible ASCII (`0x21` to `0x7e`).
    #[error(
        "an execution id holds byte 0x{byte:02x} at offset {offset}, which is not visible ASCII"
    )]
    InvalidByte {
        /// The first such byte.
        byte: u8,
        /// Where it stands.
        offset: usize,
    },
}
