//! Planted bugs: mistakes that would break a promise, each one around the real code, never in it. What does not find them
//! finds nothing.

mod log;
mod transport;

use std::fmt;

pub(crate) use self::{
    log::FaultyLog,
    transport::{Memory, transport},
};

/// A mistake that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// A replay begins with the cursor's own event.
    InclusiveReplay,
    /// Readers see an event before it is stored.
    DeliverBeforeAppend,
    /// Frames that are filtered do not move the adapter's cursor.
    CursorSkipsFiltered,
    /// A stream that ends without a terminal event is taken for whole.
    EndWithoutTerminal,
    /// A reconnect sends the run again instead of its cursor.
    ResumeStarts,
    /// A node that comes back counts on from what it had stored, in the same epoch.
    IdReused,
    /// An attempt at a turn that was dispatched before dispatches it again.
    DispatchOnRetry,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::InclusiveReplay,
        Self::DeliverBeforeAppend,
        Self::CursorSkipsFiltered,
        Self::EndWithoutTerminal,
        Self::ResumeStarts,
        Self::IdReused,
        Self::DispatchOnRetry,
    ];

    /// Those of the log.
    pub(crate) const LOG: [Self; 3] =
        [Self::InclusiveReplay, Self::DeliverBeforeAppend, Self::IdReused];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InclusiveReplay => "inclusive-replay",
            Self::DeliverBeforeAppend => "deliver-before-append",
            Self::CursorSkipsFiltered => "cursor-skips-filtered",
            Self::EndWithoutTerminal => "end-without-terminal",
            Self::ResumeStarts => "resume-starts",
            Self::IdReused => "id-reused",
            Self::DispatchOnRetry => "dispatch-on-retry",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
