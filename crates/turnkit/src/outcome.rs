//! How an attempt at a turn ended.

use crate::{FinalText, HookError, TurnError};

/// What one attempt at a turn came to (PROTOCOL 2.1): everything that a host needs to know, without reading the stream.
#[derive(Debug)]
#[non_exhaustive]
pub struct TurnOutcome {
    /// The text that is saved, or why the attempt failed.
    ///
    /// It speaks of the turn. Where a client's cursor was beyond the turn's events, the client was told `invalid_cursor`
    /// while the turn itself ended well: this is `Ok` then, and [`client`](Self::client) says so.
    pub result: Result<FinalText, TurnError>,
    /// Failures of hooks that did not fail the attempt, in order; the first 32.
    pub hook_errors: Vec<HookError>,
    /// What became of the client.
    pub client: ClientOutcome,
    /// All lines of the attempt: `session.run.started`, the producer's events and the terminal lines, those that a resumed
    /// body left out too.
    pub events: u64,
    /// Whether the answer came from `find_completed`.
    pub replayed: bool,
}

/// What became of the client (PROTOCOL 2.4). Events are counted as the cursor of the turn's body counts them, from the
/// turn's beginning; terminal lines do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientOutcome {
    /// The body took, or can still take, every line.
    Attached,
    /// The body was dropped before its last line was taken.
    Left {
        /// The cursor at which it left.
        after_events: u64,
    },
    /// The turn had waited `client_stall` in all for the body to be read, and cut it.
    Stalled {
        /// The cursor at which it was cut.
        after_events: u64,
    },
    /// The cursor that it came with is beyond the turn's events. It was told `invalid_cursor`.
    InvalidCursor {
        /// How many events the turn has.
        events: u64,
    },
}
