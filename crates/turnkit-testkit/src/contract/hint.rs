//! What the author of a producer that breaks a rule should look for.

pub(super) const STUCK: &str =
    "a wait for something that the upstream never sends, or has sent already";
pub(super) const STUCK_AT_END: &str = "an end of the upstream that is not noticed";
pub(super) const NO_WAKE: &str =
    "a `poll` that returned `Pending` and kept no waker: asked again without a wake, it was ready";
pub(super) const ENDS_EARLY: &str =
    "an end that overtakes events, or an event that is taken for an error";
pub(super) const OVERTAKES: &str = "an event that was lost or overtaken: what came was sent later";
pub(super) const REPEATS: &str = "an event that is given twice: what came was sent before";
pub(super) const REWRITES: &str =
    "an event that is read into a value and written anew: its bytes must go through as they came";
pub(super) const FOREIGN: &str = "an event that the upstream did not send";
pub(super) const GOES_ON: &str = "an event that is given twice, or that the upstream did not send";
pub(super) const SWALLOWED: &str = "a failure that is taken for the upstream's end";
pub(super) const NO_FAILURE: &str = "an end of the upstream that is taken for a failure";
pub(super) const MUTE: &str = "an error without a `Display` that a user could read";
pub(super) const LEAK: &str =
    "a task that is not aborted, or a connection that is kept, when the producer is dropped";
pub(super) const LONG_CANCEL: &str = "a `cancel` that waits until the upstream ends by itself";
pub(super) const HALF_SAVED: &str = "an end of the upstream that is taken for the end of the answer: only a chunk that says so is one";
pub(super) const NEVER_WHOLE: &str = "the chunk by which the upstream says that its answer is complete: it is not understood as that";
pub(super) const DOUBLED: &str = "text that is there twice: a snapshot that is sent as a delta, or a chunk that is translated twice";
pub(super) const LOST_TEXT: &str = "a chunk whose text is dropped, or a buffer that is thrown away";
pub(super) const OTHER_TEXT: &str =
    "text of another part, or a chunk that is cut in the wrong place";
pub(super) const READS_AHEAD: &str =
    "a task or a buffer without a bound: it reads its upstream faster than the turn takes events";
pub(super) const KEEPS_UPSTREAM: &str =
    "a task that waits for its upstream only, and not for the turn's end too";
pub(super) const ENVELOPE: &str =
    "an envelope of its own: `session.run.*` events are the engine's, and are not forwarded";
