//! Planted bugs: mistakes that would break a promise, each one around the real code, never in it. What does not find them
//! finds nothing.

mod agent;
mod log;
pub(crate) mod store;
mod transport;

use std::fmt;

pub(crate) use self::{
    agent::agent,
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
    /// A store that first looks and then claims: two get the same claim.
    ClaimedTwice,
    /// A save without its condition: each one is the first.
    SavedTwice,
    /// A commit whose answer was lost is taken for none.
    CommitForgotten,
    /// Claims, endings and releases by an epoch that is over.
    EpochUnchecked,
    /// The agent hears an answer before it is stored.
    AnswerBeforeAppend,
    /// An answer that comes later is taken as well.
    LastAnswerWins,
    /// What a user wants to answer counts as the answer.
    IntentIsTheAnswer,
    /// A runner that was fenced off tells its agent an answer all the same.
    AnswerAfterFence,
    /// The time of a run passes while it waits for an answer.
    ClockRunsOn,
    /// An agent is told an input twice.
    InputTwice,
    /// A turn that waits is opened beside one that runs.
    OpenedBesideAnother,
    /// An answer is saved into a session that was deleted.
    SavedIntoDeleted,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::InclusiveReplay,
        Self::DeliverBeforeAppend,
        Self::CursorSkipsFiltered,
        Self::EndWithoutTerminal,
        Self::ResumeStarts,
        Self::IdReused,
        Self::DispatchOnRetry,
        Self::ClaimedTwice,
        Self::SavedTwice,
        Self::CommitForgotten,
        Self::EpochUnchecked,
        Self::AnswerBeforeAppend,
        Self::LastAnswerWins,
        Self::IntentIsTheAnswer,
        Self::AnswerAfterFence,
        Self::ClockRunsOn,
        Self::InputTwice,
        Self::OpenedBesideAnother,
        Self::SavedIntoDeleted,
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
            Self::ClaimedTwice => "claimed-twice",
            Self::SavedTwice => "saved-twice",
            Self::CommitForgotten => "commit-forgotten",
            Self::EpochUnchecked => "epoch-unchecked",
            Self::AnswerBeforeAppend => "answer-before-append",
            Self::LastAnswerWins => "last-answer-wins",
            Self::IntentIsTheAnswer => "intent-is-the-answer",
            Self::AnswerAfterFence => "answer-after-fence",
            Self::ClockRunsOn => "clock-runs-on",
            Self::InputTwice => "input-twice",
            Self::OpenedBesideAnother => "opened-beside-another",
            Self::SavedIntoDeleted => "saved-into-deleted",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
