//! Which answer leads where: the rules of a client that follows a turn (PROTOCOL 4.4).
//!
//! [`Follow`] is a state machine without clock, network, runtime or randomness: the time (since any fixed moment) and the
//! place inside the jitter (0 to 1) are arguments. Whoever drives it sends what [`Follow::step`] asks for and reports what came
//! of it. [`Turn`](crate::Turn) drives it over a [`Client`](crate::Client); a simulation can drive it over anything.
//!
//! ```text
//!                  answered: a body                      event, not an end
//!   ┌──────┐ ─────────────────────────────▶ ┌──────┐ ◀───────────────┐
//!   │ Send │                                │ Read │ ────────────────┘
//!   └──────┘ ◀─────── ┌───────────┐ ◀────── └──────┘
//!      │     tick,    │ WaitUntil │   lost, or failed retryably
//!      │     wake     └───────────┘            │
//!      │ lost, refused for now ▲               │ completed, failed, unreadable
//!      ├───────────────────────┘               ▼
//!      └── refused, or out of patience ──▶  ┌─────┐
//!                                           │ End │
//!                                           └─────┘
//! ```
//!
//! ```
//! use std::time::Duration;
//! use turnkit_client::follow::{Answer, Follow, Policy, Request, Step};
//!
//! let (mut turn, now) = (Follow::start(Policy::default()), Duration::ZERO);
//! assert_eq!(turn.step(), Step::Send(Request::Start));
//! turn.answered(Answer::Refused { status: 429, retry_after: Some(Duration::from_secs(7)) }, now, 0.5);
//! assert_eq!(turn.step(), Step::WaitUntil(Duration::from_secs(7)));
//! turn.tick(Duration::from_secs(7));
//! assert_eq!(turn.step(), Step::Send(Request::Start));
//! ```

use std::time::Duration;

use turnkit_http::client::is_transient;
use turnkit_wire::{Event, kind, view::Failure};

/// How long a client waits, how often it tries anew, and when it gives up (PROTOCOL 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The first wait of a row of failures: 0.25 s. Each wait is twice the one before it.
    pub first_wait: Duration,
    /// The longest wait, before jitter of ± 20 %, that nobody has asked for: 8 s.
    pub max_wait: Duration,
    /// A row of failures is given up where its next wait would end later than this after the first of them: 15 min.
    /// [`Duration::MAX`] never gives up, which is for where somebody sees that it waits.
    pub patience: Duration,
    /// How often a turn that has failed retryably is tried anew, in all: twice.
    pub max_restarts: u32,
}

/// The longest `Retry-After` that is kept; a longer one counts as this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            first_wait: Duration::from_millis(250),
            max_wait: Duration::from_secs(8),
            patience: Duration::from_secs(15 * 60),
            max_restarts: 2,
        }
    }
}

impl Policy {
    /// The default with another [`patience`](Policy::patience).
    #[must_use]
    pub fn with_patience(patience: Duration) -> Policy {
        Policy { patience, ..Policy::default() }
    }

    /// The wait after failure `failure` of a row (counted from 1); `spread` from 0 to 1 is its place inside the jitter, 0.5
    /// its middle.
    fn wait(&self, failure: u32, spread: f64) -> Duration {
        let doublings = failure.saturating_sub(1).min(31);
        let even = self.first_wait.saturating_mul(1 << doublings).min(self.max_wait);
        let spread = if spread.is_finite() { spread.clamp(0.0, 1.0) } else { 0.5 };
        Duration::try_from_secs_f64(even.as_secs_f64() * (0.8 + 0.4 * spread)).unwrap_or(even)
    }
}

/// Failures since the last success, and the waits between them: what a turn's connections have, and a cancel that is asked
/// again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    failures: u32,
    began: Duration,
}

impl Row {
    /// One failure more, at `now`: how long to wait after it; none where that would take too long.
    pub(crate) fn failed(
        &mut self,
        policy: &Policy,
        at_least: Option<Duration>,
        now: Duration,
        spread: f64,
    ) -> Option<Duration> {
        if self.failures == 0 {
            self.began = now;
        }
        self.failures = self.failures.saturating_add(1);
        let asked = at_least.unwrap_or_default().min(MAX_RETRY_AFTER);
        let wait = policy.wait(self.failures, spread).max(asked);
        let until = now.saturating_add(wait);
        (until.saturating_sub(self.began) <= policy.patience).then_some(wait)
    }

    /// How long to wait after an answer, at `now`, that says: not yet. It is no failure, so that no wait is too long, and the time in which
    /// failures may go on begins with it.
    fn not_yet(&mut self, policy: &Policy, now: Duration, spread: f64) -> Duration {
        *self = Self { failures: self.failures.saturating_add(1), began: now };
        policy.wait(self.failures, spread)
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this request, then report [`Follow::answered`] or [`Follow::lost`].
    Send(Request),
    /// Read the body: report each event with [`Follow::event`], its end with [`Follow::lost`].
    Read,
    /// Nothing until this time, then [`Follow::tick`]; or [`Follow::wake`] before it.
    WaitUntil(Duration),
    /// The turn was followed to its end, or will not be.
    End(End),
}

/// A request for a turn's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `POST …/turns`, the same bytes each time: starts the turn, or takes it up from its first event.
    Start,
    /// `GET …/turns/{turnId}?after=N`: takes it up after so many events, and starts nothing.
    Resume {
        /// The cursor.
        after: u64,
    },
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A turn's body: a 2xx with `application/x-ndjson`.
    Body,
    /// The turn is queued: it waits until those before it have ended.
    Queued,
    /// Another 2xx: something between client and server has answered.
    Other,
    /// Any other status.
    Refused {
        /// The status.
        status: u16,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
}

/// What an event of a body is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An event of the turn. The cursor counts it now, unless it is one of a replay.
    Taken,
    /// A replay begins: what was drawn is void, and the cursor is 0. It is an event of the turn as well.
    Replay,
    /// The first of the two lines of a failure: not counted, and the next one says the same.
    Held,
    /// The attempt has failed and can be made again: what was drawn is void. [`Follow::step`] says when, if at all.
    Restart,
    /// The last line: [`Follow::step`] says which end it is.
    End,
}

/// How following a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer is saved.
    Completed {
        /// Whether it came from the product's store.
        replayed: bool,
    },
    /// The turn has failed, as its last line says.
    Failed,
    /// The last refusal was final.
    Refused,
    /// What came is no event; it would come again.
    Unreadable,
    /// The last failure was one too many.
    GivenUp,
}

/// The state of following one turn. See the [module](self).
#[derive(Clone, Debug)]
pub struct Follow {
    policy: Policy,
    /// Whether there is a start to send.
    starts: bool,
    /// Whether a body has come since the cursor was 0: the server has the turn.
    is_known: bool,
    cursor: u64,
    /// The body is a replay: it has no cursor.
    is_replay: bool,
    row: Row,
    /// The row as it was when this body came: the events of an attempt that fails end no row.
    row_before: Row,
    restarts: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Send,
    Read,
    Waiting { until: Duration },
    Ended(End),
}

impl Follow {
    /// A new turn: its start is sent until a body comes.
    #[must_use]
    pub fn start(policy: Policy) -> Follow {
        Follow::new(policy, true, 0)
    }

    /// A turn that the server has, after `after` of its events. Never starts one.
    #[must_use]
    pub fn resume(policy: Policy, after: u64) -> Follow {
        Follow::new(policy, false, after)
    }

    fn new(policy: Policy, starts: bool, cursor: u64) -> Follow {
        Follow {
            policy,
            starts,
            is_known: false,
            cursor,
            is_replay: false,
            row: Row::default(),
            row_before: Row::default(),
            restarts: 0,
            state: State::Send,
        }
    }

    /// What to do next. Asking changes nothing.
    #[must_use]
    pub fn step(&self) -> Step {
        match self.state {
            State::Send if self.starts && !self.is_known => Step::Send(Request::Start),
            State::Send => Step::Send(Request::Resume { after: self.cursor }),
            State::Read => Step::Read,
            State::Waiting { until } => Step::WaitUntil(until),
            State::Ended(end) => Step::End(end),
        }
    }

    /// How many events were taken (PROTOCOL 1.2).
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Forgets what was taken, as a page that is loaded anew does: the next request asks from the first event. A body that is
    /// being read is to be dropped.
    pub fn reload(&mut self) {
        self.cursor = 0;
        if self.state == State::Read {
            self.state = State::Send;
        }
    }

    /// The reader closes the connection by itself, or has closed it: the next step asks for the rest, without a wait.
    pub fn reconnect(&mut self) {
        if self.state == State::Read {
            self.state = State::Send;
        }
    }

    /// It is `now`: a wait that has reached its time is over.
    pub fn tick(&mut self, now: Duration) {
        if matches!(self.state, State::Waiting { until } if until <= now) {
            self.state = State::Send;
        }
    }

    /// A wait is over before its time, as where the network is back.
    pub fn wake(&mut self) {
        if matches!(self.state, State::Waiting { .. }) {
            self.state = State::Send;
        }
    }

    /// The request was answered.
    pub fn answered(&mut self, answer: Answer, now: Duration, spread: f64) {
        match answer {
            Answer::Body => {
                (self.is_known, self.is_replay) = (true, false);
                self.row_before = self.row.clone();
                self.go(State::Read);
            }
            Answer::Queued => {
                // The server has the turn.
                self.is_known = true;
                let wait = self.row.not_yet(&self.policy, now, spread);
                self.go(State::Waiting { until: now.saturating_add(wait) });
            }
            Answer::Other => self.failed(None, now, spread),
            Answer::Refused { status, retry_after } if is_transient(status) => {
                self.failed(retry_after, now, spread);
            }
            Answer::Refused { .. } => self.go(State::Ended(End::Refused)),
        }
    }

    /// The request got no answer, or the body ended, broke off or went silent.
    pub fn lost(&mut self, now: Duration, spread: f64) {
        self.failed(None, now, spread);
    }

    /// An event came in the body.
    pub fn event(&mut self, event: &Event, now: Duration, spread: f64) -> Verdict {
        match event.kind() {
            _ if matches!(self.state, State::Ended(_)) => Verdict::End,
            kind::ERROR => Verdict::Held,
            kind::RUN_STARTED if is_replayed(event) => {
                (self.cursor, self.is_replay) = (0, true);
                Verdict::Replay
            }
            kind::RUN_COMPLETED => {
                let replayed = is_replayed(event);
                self.go(State::Ended(End::Completed { replayed }));
                Verdict::End
            }
            kind::RUN_FAILED => self.attempt_failed(event, now, spread),
            _ => {
                if !self.is_replay {
                    self.cursor += 1;
                    self.row = Row::default();
                }
                Verdict::Taken
            }
        }
    }

    /// What came is no event.
    pub fn unreadable(&mut self) {
        self.go(State::Ended(End::Unreadable));
    }

    fn attempt_failed(&mut self, event: &Event, now: Duration, spread: f64) -> Verdict {
        let retryable = Failure::of(event).and_then(|failure| failure.retryable()) == Some(true);
        if !retryable || self.restarts >= self.policy.max_restarts {
            self.go(State::Ended(End::Failed));
            return Verdict::End;
        }
        self.restarts += 1;
        // The cursor is void, and only a start can run a turn that was accepted and never dispatched.
        (self.cursor, self.is_known) = (0, false);
        self.row = self.row_before.clone();
        self.failed(None, now, spread);
        Verdict::Restart
    }

    fn failed(&mut self, at_least: Option<Duration>, now: Duration, spread: f64) {
        match self.row.failed(&self.policy, at_least, now, spread) {
            Some(wait) => self.go(State::Waiting { until: now.saturating_add(wait) }),
            None => self.go(State::Ended(End::GivenUp)),
        }
    }

    /// An end is left by nothing.
    fn go(&mut self, next: State) {
        if !matches!(self.state, State::Ended(_)) {
            self.state = next;
        }
    }
}

/// Whether what begins or ends with this event is a replay.
fn is_replayed(event: &Event) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[serde(default)]
        replayed: bool,
    }
    event.data::<Envelope>().is_ok_and(|envelope| envelope.replayed)
}
