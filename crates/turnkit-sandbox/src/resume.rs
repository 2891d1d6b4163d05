//! When to connect, with which cursor, how long to wait, and when to give up (PROTOCOL 4.1).
//!
//! [`Resume`] is a state machine without clock, network, runtime or randomness: the time (since any fixed moment) and the
//! place inside the jitter (0 to 1) are arguments. Every rule about order and retries of the adapter lives here, with the cursor, the
//! list of events that are not forwarded, the policies and what a refusal means beside it; the driver around it sends what
//! [`Resume::step`] asks for and reports what came of it.
//!
//! ```text
//!            Run, or Attach from 0                         Attach after the cursor
//!                ┌─────────┐  answered: stream  ┌────────┐  closed, failed   ┌─────────┐
//!   new ───────▶ │ Connect │ ─────────────────▶ │  Read  │ ────────────────▶ │ Waiting │ ◀─┐
//!                └─────────┘                    └────────┘                   └─────────┘   │ failed,
//!      tick at the ▲    │ failed,                │  ▲  │ frame: new             │ tick at  │ refused for
//!      time it says│    ▼ refused for now        │  └──┘ (ends the row)         ▼ its time │ now
//!                ┌─────────┐                     │  ▲    answered: stream  ┌─────────┐     │
//!                │ Waiting │                     │  └───────────────────── │ Connect │ ────┘
//!                └─────────┘                     │                         └─────────┘
//!                                                ▼
//!   from anywhere:              End: completed, failed, cancelled, or given up
//! ```
//!
//! Left of `Read` the policy is [`Retry::BEFORE_ANSWER`] and each try sends the same request. Right of it the policy is
//! [`Retry::AFTER_ANSWER`] and each try only attaches: whatever happens there can not run the agent again.
//!
//! # Who reads
//! What follows depends on what the reader is to the execution, its [`Intent`]:
//!
//! - [`Run`](Intent::Run), then attach. Its answer may be late or lost while somebody else reads the execution's first events
//!   already. Whoever knows that there is a run never asks for it again: [`Resume::begun`] turns it into an attach.
//! - [`AttachOrBind`](Intent::AttachOrBind) drives a turn on, after an attempt that may have sent the run. Where the execution is
//!   lost, that run may still be under way: [`Step::Bind`] binds the id before the turn ends as lost, so that it cannot start.
//! - [`Join`](Intent::Join) reads along, and may come before the substrate has accepted the run. As long as the run is due, an
//!   execution that is not there yet is asked for again, and once more when it is due no longer, as it may have been accepted since
//!   it was asked for: [`Step::AskWhetherDue`].
//! - [`Attach`](Intent::Attach) takes what there is.

mod answer;
mod cursor;
mod filter;
mod retry;

use std::{fmt, time::Duration};

use turnkit_http::client::is_transient;
use turnkit_wire::kind::Class;

pub(crate) use self::answer::{error_of, of_attach, of_run};
use self::cursor::{Cursor, Place};
pub use self::{filter::PROTOCOL_VERSION, retry::Retry};

/// The cursor that asks for everything, from the first event (PROTOCOL 3.1).
const FROM_THE_FIRST: &str = "0";

/// The waits of a reader that came before the run was accepted: 25 ms doubling to 1 s, for as long as the run is due.
const EARLY: Retry = Retry {
    first: Duration::from_millis(25),
    factor: 2.0,
    max: Duration::from_secs(1),
    jitter: 0.2,
    attempts: u32::MAX,
    within: Duration::MAX,
};

/// What a reader is to the execution. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It starts the execution, or attaches to it where it is there.
    Run,
    /// It attaches, and nothing else.
    Attach,
    /// It drives the turn: it attaches, and binds the id of an execution that is lost.
    AttachOrBind,
    /// It attaches as soon as the execution is there.
    Join,
}

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Send this request, then report [`Resume::answered`] or [`Resume::failed`].
    Connect(Connect<'a>),
    /// Read the stream: report each event with [`Resume::frame`], its end with [`Resume::closed`] or [`Resume::failed`].
    Read,
    /// Nothing until this time, then [`Resume::tick`].
    WaitUntil(Duration),
    /// Ask whoever drives the turn whether its run is still to come, then report [`Resume::due`].
    AskWhetherDue,
    /// Cancel the execution, which binds its id where it is unknown, then report [`Resume::bound`].
    Bind,
    /// The execution was read to its end, or never will be.
    End(&'a End),
}

/// A request to the substrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect<'a> {
    /// The run itself: the same bytes under the same id, every time.
    Run,
    /// An attach to what follows `cursor`; `0` is the whole log.
    Attach {
        /// The value of `Last-Event-ID`.
        cursor: &'a str,
    },
}

/// How the substrate answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An event stream.
    Stream,
    /// 204: the log holds nothing after the cursor, and never will.
    NothingMore,
    /// There is no such execution, or no longer what follows the cursor.
    Lost,
    /// Another status.
    Refused {
        /// The status.
        status: u16,
        /// What `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// An answer that no retry mends: not an event stream, another execution's, an error that names a reason.
    Unusable,
}

/// What the driver does with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hands it on, byte-exact.
    Forward,
    /// Drops it: filtered, or consumed before.
    Skip,
    /// Stops reading: [`Resume::step`] says why.
    End,
}

/// How reading an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The execution completed.
    Completed,
    /// The last event said that the execution failed.
    Failed,
    /// The last event said that it was cancelled.
    Cancelled,
    /// There is no way on.
    GivenUp(GiveUp),
}

/// Why there is no way on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The retries of the policy are used up.
    Exhausted,
    /// The last answer was final.
    Refused,
    /// The last event can not be read.
    Unreadable,
    /// Events are missing, or the log is not the one that was read before.
    Gap(Gap),
    /// The connection was lost after an event without an id: what would come again can not be told from what is new.
    Unresumable,
    /// The log ended without a terminal event.
    Unterminated,
}

/// Two ids between which events are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last id consumed; none where the log's first events are missing.
    pub after: Option<Box<str>>,
    /// The id that does not follow it.
    pub found: Box<str>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.after {
            Some(after) => write!(f, "event {} follows event {after}", self.found),
            None => write!(f, "the log begins with event {}", self.found),
        }
    }
}

/// The state of reading one execution. See the [module](self).
#[derive(Debug)]
pub struct Resume {
    before: Retry,
    after: Retry,
    intent: Intent,
    state: State,
    answered: bool,
    row: Row,
    server_wait: Option<Duration>,
    cursor: Cursor,
    /// An event without a usable id was handed on since the cursor moved.
    unnumbered: bool,
    result: Seen,
    /// How often a reader that came early has waited.
    early: u32,
}

#[derive(Debug)]
enum State {
    Connect,
    Read,
    Waiting { until: Duration },
    Asking,
    Binding,
    Ended(End),
}

/// Failures since the last success.
#[derive(Debug)]
struct Row {
    failures: u32,
    began: Duration,
}

/// Whether a `result` was handed on, and whether anything was since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    No,
    Earlier,
    Last,
}

impl Resume {
    /// Begins at `now`, with one policy until a connection was answered by a stream and one from then on.
    #[must_use]
    pub fn new(intent: Intent, before: Retry, after: Retry, now: Duration) -> Self {
        Self {
            before,
            after,
            intent,
            state: State::Connect,
            answered: false,
            row: Row { failures: 0, began: now },
            server_wait: None,
            cursor: Cursor::default(),
            unnumbered: false,
            result: Seen::No,
            early: 0,
        }
    }

    /// What to do next. Asking changes nothing.
    #[must_use]
    pub fn step(&self) -> Step<'_> {
        match &self.state {
            State::Connect => Step::Connect(self.request()),
            State::Read => Step::Read,
            State::Waiting { until } => Step::WaitUntil(*until),
            State::Asking => Step::AskWhetherDue,
            State::Binding => Step::Bind,
            State::Ended(end) => Step::End(end),
        }
    }

    /// How many tries in a row have failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.row.failures
    }

    /// Whether a run was not answered yet, so that [`begun`](Self::begun) would change what is done.
    #[must_use]
    pub fn is_unanswered_run(&self) -> bool {
        self.intent == Intent::Run && !self.answered
    }

    /// Somebody has an event of the execution, so it runs: what is under way is given up, and it is attached to from its first
    /// event. Without effect where it was answered before, and where it was no run.
    pub fn begun(&mut self, now: Duration) {
        if self.is_unanswered_run() && !matches!(self.state, State::Ended(_)) {
            self.intent = Intent::AttachOrBind;
            self.row = Row { failures: 0, began: now };
            self.go(State::Connect);
        }
    }

    /// Whether the run is still to come: it was not sent yet, or is being sent.
    pub fn due(&mut self, is_due: bool, now: Duration, spread: f64) {
        if !matches!(self.state, State::Asking) {
            return;
        }
        if !is_due {
            // Accepted since it was asked for, or never.
            self.intent = Intent::Attach;
        }
        let until = now.saturating_add(EARLY.wait(self.early, spread));
        self.early = self.early.saturating_add(1);
        self.row = Row { failures: 0, began: until };
        self.go(State::Waiting { until });
    }

    /// The id was bound, or could not be. `is_there`: the substrate knows the execution after all, and it was not cancelled; then it
    /// is attached to again, once.
    pub fn bound(&mut self, is_there: bool) {
        if !matches!(self.state, State::Binding) {
            return;
        }
        if is_there {
            self.intent = Intent::Attach;
            self.go(State::Connect);
        } else {
            self.give_up(GiveUp::Refused);
        }
    }

    /// It is `now`: a wait that has reached its time is over.
    pub fn tick(&mut self, now: Duration) {
        if matches!(self.state, State::Waiting { until } if until <= now) {
            self.go(State::Connect);
        }
    }

    /// The substrate answered.
    pub fn answered(&mut self, answer: Answer, now: Duration, spread: f64) {
        match answer {
            Answer::Stream => self.open(),
            Answer::NothingMore => self.nothing_more(),
            Answer::Lost => self.lost(),
            Answer::Refused { status, retry_after } if self.is_transient(status) => {
                self.retry(retry_after, now, spread);
            }
            Answer::Refused { .. } | Answer::Unusable => self.give_up(GiveUp::Refused),
        }
    }

    /// An event of this class came, in a frame with the id `id`, or without one of its own.
    pub fn frame(&mut self, id: Option<&str>, class: Class) -> Verdict {
        if matches!(self.state, State::Ended(_)) {
            return Verdict::End;
        }
        let Some(id) = id.filter(|id| Cursor::is_usable(id)) else {
            return self.take(class, false);
        };
        match self.cursor.advance(id) {
            Place::Next => self.take(class, true),
            Place::Consumed => Verdict::Skip,
            Place::Gap => self.gap(id),
        }
    }

    /// The stream named the wait before a reconnect (`retry:`); it replaces the policy's first one.
    pub fn server_wait(&mut self, wait: Duration) {
        self.server_wait = Some(wait);
    }

    /// What came is no event. The log says the same each time it is asked, so nothing is tried again.
    pub fn unreadable(&mut self) {
        self.give_up(GiveUp::Unreadable);
    }

    /// The stream ended cleanly.
    pub fn closed(&mut self, now: Duration, spread: f64) {
        if self.result == Seen::Last {
            self.go(State::Ended(End::Completed));
        } else {
            self.failed(now, spread);
        }
    }

    /// The request got no answer, or the stream broke off or went silent.
    pub fn failed(&mut self, now: Duration, spread: f64) {
        if self.unnumbered {
            self.give_up(GiveUp::Unresumable);
        } else {
            self.retry(None, now, spread);
        }
    }

    fn request(&self) -> Connect<'_> {
        if self.is_unanswered_run() {
            return Connect::Run;
        }
        let cursor = self.cursor.last().unwrap_or(FROM_THE_FIRST);
        Connect::Attach { cursor }
    }

    fn open(&mut self) {
        if !self.answered {
            self.answered = true;
            self.row.failures = 0;
        }
        self.go(State::Read);
    }

    fn lost(&mut self) {
        match self.intent {
            Intent::Join => self.go(State::Asking),
            Intent::AttachOrBind => self.go(State::Binding),
            Intent::Run | Intent::Attach => self.give_up(GiveUp::Refused),
        }
    }

    /// After a `result` an end without a terminal event is an end (as [`closed`](Self::closed)), and this one is certain.
    fn nothing_more(&mut self) {
        match self.result {
            Seen::No => self.give_up(GiveUp::Unterminated),
            Seen::Earlier | Seen::Last => self.go(State::Ended(End::Completed)),
        }
    }

    /// An attach runs nothing, so a server error that may pass is worth another; to a run it may be the run's own failure.
    fn is_transient(&self, status: u16) -> bool {
        let attach = !self.is_unanswered_run();
        is_transient(status) || attach && status >= 500
    }

    /// Takes an event that was not consumed before.
    fn take(&mut self, class: Class, numbered: bool) -> Verdict {
        if self.intent == Intent::Join {
            // It is there. Should it be lost from now on, it does not come again.
            self.intent = Intent::Attach;
        }
        if numbered {
            self.row.failures = 0;
            self.unnumbered = false;
        }
        if let Some(end) = filter::terminal(class) {
            self.go(State::Ended(end));
            return Verdict::End;
        }
        if filter::is_about_the_stream(class) {
            return Verdict::Skip;
        }
        self.unnumbered = !numbered;
        self.result = match (class, self.result) {
            (Class::Result, _) => Seen::Last,
            (_, Seen::No) => Seen::No,
            (_, Seen::Earlier | Seen::Last) => Seen::Earlier,
        };
        Verdict::Forward
    }

    fn gap(&mut self, found: &str) -> Verdict {
        let after = self.cursor.last().map(Box::from);
        let found = found.into();
        self.give_up(GiveUp::Gap(Gap { after, found }));
        Verdict::End
    }

    fn retry(&mut self, at_least: Option<Duration>, now: Duration, spread: f64) {
        if self.answered && self.row.failures == 0 {
            self.row.began = now;
        }
        self.row.failures = self.row.failures.saturating_add(1);
        match self.next_try(at_least, now, spread) {
            Some(until) => self.go(State::Waiting { until }),
            None => self.give_up(GiveUp::Exhausted),
        }
    }

    /// When to try again, if at all.
    fn next_try(&self, at_least: Option<Duration>, now: Duration, spread: f64) -> Option<Duration> {
        let policy = self.policy();
        let wait = policy.wait(self.row.failures - 1, spread);
        let until = now.checked_add(wait.max(at_least.unwrap_or_default()))?;
        let in_time = until.saturating_sub(self.row.began) <= policy.within;
        (self.row.failures <= policy.attempts && in_time).then_some(until)
    }

    fn policy(&self) -> Retry {
        if !self.answered {
            return self.before.clone();
        }
        let first = self.server_wait.unwrap_or(self.after.first);
        Retry { first, ..self.after.clone() }
    }

    fn give_up(&mut self, reason: GiveUp) {
        self.go(State::Ended(End::GivenUp(reason)));
    }

    /// An end is left by nothing.
    fn go(&mut self, next: State) {
        if !matches!(self.state, State::Ended(_)) {
            self.state = next;
        }
    }
}

#[cfg(test)]
mod tests;
