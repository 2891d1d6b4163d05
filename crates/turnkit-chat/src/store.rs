//! What a product keeps, as a contract that any database can keep: sessions, turns, messages, and who drives a turn.
//!
//! The product keeps no stream: a turn's events live in the substrate's log. What a turn means is decided in
//! [`Chat`](crate::Chat); a store has the conditional updates that make it true once, whoever asks and however often.
//! `chat_store_contract!` of `turnkit-testkit` tries any store.

pub(crate) mod acceptance;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod answer_columns;
pub(crate) mod asked;
mod history;
pub mod memory;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use tokio::sync::watch;
use turnkit::{BoxError, Half, Persisted};
use turnkit_id::{ExecutionId, LogId};
pub use turnkit_wire::interaction::Outcome;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use turnkit_wire::text;

pub(crate) use self::history::said_bytes;
pub use self::history::{History, HistoryBuilder, Omitted};
use crate::{
    Answer, AnswerPart, Ending, Failure, Message, PartKind, Principal, QueuedTurn, Role, Said,
    SessionId, SessionInfo, Turn, TurnRef, TurnState, first_words,
};

/// How long a lease holds that its worker does not renew, by the store's clock (PROTOCOL 4.2).
pub const LEASE: Duration = Duration::from_secs(15);

/// What a method of a store comes to.
pub type Stored<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A place where sessions, turns and messages are kept (PROTOCOL 4.2).
///
/// A value of it is one *worker*'s handle: the leases that it [claims](Self::claim) are that worker's. Several handles, in one
/// process or in many, share what is kept.
///
/// # Contract
/// - Each method is one transaction: it happens whole or not at all. Dropping its future leaves it either way.
/// - After [`StoreErrorKind::OutcomeUnknown`] the same call may be made again, and then answers as if the first one had
///   not been made: a turn that it accepted is `Known`, a claim with its nonce gets what it got, an answer that it saved is
///   `AlreadySaved`.
/// - A store never waits for ever: within 10 s it answers, if only with [`StoreErrorKind::Busy`].
/// - A principal is part of each call that a user makes, and what is another's does not exist.
/// - Who has not joined claims and renews nothing: both are [`StoreErrorKind::Broken`].
///
/// For authors of stores, `chat_store_contract!` of `turnkit-testkit` (feature `chat`) makes one test of each rule, by 16 tasks on two
/// handles at once, and names the rule that a store breaks. The guide `docs/guide/write-a-store.md` shows how a store is tried.
///
/// Futures are boxed, as a store is chosen when a process starts.
pub trait ChatStore: Send + Sync + 'static {
    /// Makes this handle a worker that dispatches to the log `log`; again, where it was one already. Nothing is claimed
    /// before.
    fn join(&self, log: LogId) -> Stored<'_, Joined>;

    /// Renews the worker and the leases of the attempts that it drives, all of which are in `held`. A lease of this worker that
    /// is not, and that was claimed over [`LEASE`] ago, is released.
    fn renew(&self, held: Vec<Lease>) -> Stored<'_, Renewed>;

    /// Puts the log `to` in the place of `from`, if that is the one that the store names, and says which one it names now.
    fn move_log(&self, from: LogId, to: LogId) -> Stored<'_, LogId>;

    /// Keeps a new session of `owner` under an id that was never used before. Asked again before the session has a turn, it
    /// changes nothing.
    fn open_session(&self, owner: Principal, id: SessionId) -> Stored<'_, ()>;

    /// The owner's session of this name. One that was deleted within [`NAME_RESTS`] is none, and none is opened in its place. Where there is none, it is opened under the id `open`, where one is given, as
    /// [`open_session`](Self::open_session) does it. A session that was opened without a name has its id for a name.
    fn named(
        &self,
        owner: Principal,
        name: String,
        open: Option<SessionId>,
    ) -> Stored<'_, Option<SessionId>>;

    /// The owner's sessions, the newest first, and where the owner's feed ends, of one moment. A feed that is not there yet is made.
    fn sessions(&self, owner: Principal, page: SessionPage) -> Stored<'_, SessionList>;

    /// Changes what a session is called, or whether it is archived, and says how it is then; `None` where the owner has no such session.
    /// Where all is so already nothing is told.
    fn update_session(
        &self,
        owner: Principal,
        id: SessionId,
        update: SessionUpdate,
    ) -> Stored<'_, Option<SessionInfo>>;

    /// Messages of a branch, the open turn and the queue of a session, of one moment; `None` where the owner has no such session.
    fn session(
        &self,
        owner: Principal,
        id: SessionId,
        page: MessagePage,
    ) -> Stored<'_, Option<SessionState>>;

    /// Keeps a turn and its user's message, gives it the next index of its session and a parent, and derives its execution id; or
    /// says why not. An index is given once, whatever is deleted later.
    ///
    /// A session that is not called anything gets the turn's [title](NewRow::title) with it.
    ///
    /// A turn that [may wait](NewRow::queue) goes behind the open one and those that wait, at most [`MAX_QUEUED`]; so does any turn
    /// of a session whose queue is paused, and that resumes it: where no turn is open, the first one that waits is opened.
    fn accept(&self, new: NewRow) -> Stored<'_, Accepted>;

    /// Edits or removes a turn for as long as it is queued. A name that was removed is remembered.
    fn change_queued(
        &self,
        owner: Principal,
        at: TurnRef,
        change: QueueChange,
    ) -> Stored<'_, QueueChanged>;

    /// A turn as its row says.
    fn find(&self, what: Find) -> Stored<'_, Found>;

    /// Keeps one more name of a turn, under which [`find`](Self::find) finds it too, behind what was accepted under that name. A name is
    /// one turn's in its session: given again, to whichever, it stays where it is. Of one turn the newest [`MAX_NAMES`] are kept. Where
    /// the owner has no such turn that has begun, nothing changes.
    fn name_turn(&self, owner: Principal, at: TurnRef, name: String) -> Stored<'_, ()>;

    /// A turn of a user and those that share its parent; `None` where there is no such turn.
    fn siblings(&self, owner: Principal, at: TurnRef) -> Stored<'_, Option<Siblings>>;

    /// Takes the lease of an open turn, and marks it as dispatched where the agent is to be started.
    fn claim(&self, claim: Claim) -> Stored<'_, Claimed>;

    /// Gives a lease up. One that is no longer held is left as it is.
    fn release(&self, lease: Lease) -> Stored<'_, ()>;

    /// Saves the whole answer of an execution and ends its turn, once for each execution and whoever has the lease. A partial
    /// answer that was kept gives way. Where the turn was open, the first one that waits in its session is opened, unless the queue is
    /// paused.
    ///
    /// With a turn its questions end, and its intents without a decision are decided as gone ([`Decision::GONE`]). Each input that was
    /// noted and is none of the answer's parts is queued, before anything is opened: as a turn of its own, by [`input_turn`], behind
    /// what waits. Where the turn was stopped, the queue is paused then.
    ///
    /// An execution of no turn is an error, [`StoreErrorKind::Broken`]. Of a deleted session this, [`claim`](Self::claim),
    /// [`end`](Self::end) and [`saved`](Self::saved) fail with [`StoreErrorKind::Gone`], and write nothing.
    fn save(&self, execution_id: ExecutionId, answer: Answer) -> Stored<'_, Persisted>;

    /// Ends an open turn without an answer, and keeps what there is of it. Says whether this call did; then the first turn that waits is
    /// opened as [`save`](Self::save) does it.
    fn end(&self, by: EndedBy, ending: Ending) -> Stored<'_, bool>;

    /// Notes what the log of an execution tells of its questions, while its turn is open (PROTOCOL 4.2, "Questions and inputs"). Each
    /// question has one row, by its id: what is known already changes nothing, and tells the feed nothing.
    fn note(&self, execution_id: ExecutionId, told: Vec<Told>) -> Stored<'_, ()>;

    /// Notes what a user wants to be passed on into an open turn, before it is passed on: it gates nothing. The same wish again is
    /// the same intent.
    fn intend(&self, owner: Principal, at: TurnRef, wish: Wish) -> Stored<'_, Intended>;

    /// Writes beside an intent what the substrate has said to it. Where that tells what came of a question, the question is
    /// answered. What was neither taken nor is an answer to a question that was asked is forgotten:
    /// [`Decision::is_kept`].
    fn decide(&self, intent: u64, decision: Decision) -> Stored<'_, ()>;

    /// At most `limit` intents of open turns that nothing was written beside, of those with a number over `after`, the oldest first.
    fn undecided(&self, after: u64, limit: usize) -> Stored<'_, Vec<Intent>>;

    /// Notes that a user has asked to stop the turn, where it is still open. Pauses the session's queue then, and also where the turn has
    /// ended and none that came after it has.
    fn ask_to_stop(&self, execution_id: ExecutionId) -> Stored<'_, ()>;

    /// The whole answer of an execution, where it is saved.
    fn saved(&self, execution_id: ExecutionId) -> Stored<'_, Option<Answer>>;

    /// At most `limit` open turns whose lease is free, the oldest first, each once.
    fn unattended(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>>;

    /// What was said before this turn in its branch: turns whose whole answer is saved, as [`HistoryBuilder`] takes them. Turns that
    /// failed or were stopped do not count, and what the limits leave out is counted.
    fn history(&self, turn: Turn, limits: HistoryLimits) -> Stored<'_, History>;

    /// Ready when there may be an unattended turn: one that another worker has left, or that came out of the queue. What happened since
    /// this handle's last such future was ready counts. Never, by default: the sweep finds it then.
    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Whether the store can be used at this moment.
    fn check(&self) -> Stored<'_, ()>;

    /// Ends the worker, releases what it holds, and lets go of the database. Every later call fails, except another of these.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Deletes a session, and everything that is kept of it but a tombstone: its id and name, and the executions that were dispatched
    /// (PROTOCOL 4.2, "Deletion"). Says whether the owner has, or had, such a session that is gone now.
    fn delete_session(&self, deletion: Deletion) -> Stored<'_, bool>;

    /// At most `limit` sessions in which nothing was accepted, saved or ended since `since`, the longest idle first.
    fn idle_sessions(
        &self,
        since: SystemTime,
        limit: usize,
    ) -> Stored<'_, Vec<(Principal, SessionId)>>;

    /// At most `limit` executions of deleted sessions of which it is not known that the substrate has erased them.
    fn to_erase(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>>;

    /// Notes that the substrate has erased these, and forgets tombstones that are older than [`TOMBSTONE`] and have nothing left to
    /// erase.
    fn erased(&self, executions: Vec<ExecutionId>) -> Stored<'_, ()>;

    /// Sees to it that nothing of what was deleted stays in files of the store's own, and says whether nothing does: where others read
    /// at the moment it may, and is asked again. Nothing by default.
    fn scrub(&self) -> Stored<'_, bool> {
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Entries of the owner's feed after `after`, the oldest first (PROTOCOL 4.2, "A feed"). Without `after` none, and where the feed ends
    /// now. A feed that is not there yet is made.
    fn feed(&self, owner: Principal, read: FeedRead) -> Stored<'_, FeedPage>;

    /// A number that is another one once anything was written, by whomever. Asked several times a second while somebody waits for a
    /// feed, so it is to be cheap.
    fn version(&self) -> Stored<'_, u64>;

    /// Where the store keeps sign-ins: of users who have tokens, in a browser that holds a cookie. None by default.
    fn sign_ins(&self) -> Option<&dyn SignIns> {
        None
    }
}

/// Sign-ins: the secrets of cookies, and the tokens that they stand for. Of both, only the SHA-256 is kept.
pub trait SignIns: Send + Sync {
    /// Keeps a sign-in of `token` for as long as `lasts`. Of one token 100 are kept; the oldest gives way.
    fn sign_in(&self, secret: Digest, token: Digest, lasts: Duration) -> Stored<'_, ()>;

    /// The token that a sign-in stands for, where it still does.
    fn signed_in(&self, secret: Digest) -> Stored<'_, Option<Digest>>;

    /// Ends a sign-in, if there is one.
    fn sign_out(&self, secret: Digest) -> Stored<'_, ()>;
}

/// A SHA-256.
pub type Digest = [u8; 32];

/// The log of a substrate that tells no id of it (PROTOCOL 3.5).
#[must_use]
pub fn unnamed_log() -> LogId {
    LogId::from_u128(0)
}

/// What became of a [`join`](ChatStore::join).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The handle is a worker, and the store names its log.
    Member,
    /// A living worker renews under this other log.
    OtherLog(LogId),
}

/// What became of a [`renew`](ChatStore::renew).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Those of the leases that the worker does not hold: their turns have ended, or another epoch has begun.
    pub lost: Vec<ExecutionId>,
    /// The log that the store names.
    pub log: LogId,
}

/// The right to drive a turn, given by a [`claim`](ChatStore::claim).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The turn's execution.
    pub execution_id: ExecutionId,
    /// The epoch that the claim began, from 1 on.
    pub epoch: u64,
}

/// A turn that is to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRow {
    /// Who asks.
    pub owner: Principal,
    /// Where.
    pub session_id: SessionId,
    /// The client's own name for it.
    pub turn_id: String,
    /// What the user says.
    pub message: String,
    /// The agent that is to answer.
    pub agent: String,
    /// The turn that it goes on from, by its `turnId`. Without one, the newest of the session. Part of what a turn is known by only
    /// where it is given.
    pub after: Option<String>,
    /// The turn in whose place it stands: its parent is that one's. It outweighs `after`.
    pub replaces: Option<String>,
    /// What a front end calls the user's message, where that is no `turnId`.
    pub client_id: Option<String>,
    /// Whether it waits where another turn of the session is open.
    pub queue: bool,
    /// What the session is called with this turn, where it is not called anything. No part of what a turn is known by.
    pub title: Option<String>,
}

impl NewRow {
    /// A turn that goes on from the newest one, and does not wait. Its message's [first words](first_words) are the title.
    pub fn new(
        owner: Principal,
        at: TurnRef,
        message: impl Into<String>,
        agent: impl Into<String>,
    ) -> NewRow {
        let (message, agent) = (message.into(), agent.into());
        let TurnRef { session_id, turn_id } = at;
        let (after, replaces, client_id, queue) = (None, None, None, false);
        let title = Some(first_words(&message));
        NewRow {
            owner,
            session_id,
            turn_id,
            message,
            agent,
            after,
            replaces,
            client_id,
            queue,
            title,
        }
    }
}

/// What became of a [`NewRow`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is kept now, with the user's message.
    New(TurnRow),
    /// The same turn was accepted before.
    Known(TurnRow),
    /// The session has a turn with this id, and another message, agent or parent.
    Conflict,
    /// The session has no turn that it could go on from or stand in for, as was asked.
    NoParent,
    /// It waits behind others, since now or since it was accepted before.
    Queued(QueuedTurn),
    /// Another turn of the session is open, or the one that is to be replaced has not ended.
    Running {
        /// Its id.
        turn_id: String,
    },
    /// As many turns of the session wait as may.
    QueueFull,
    /// The turn was queued, and was removed.
    Removed,
    /// The owner has no such session.
    NoSession,
    /// The product's own statements refuse it, and nothing is kept.
    Refused(Veto),
}

/// Why a product refuses a turn, as its client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veto {
    /// The HTTP status, from 400 to 599: 402 for a user without credit, 429 for one over a quota.
    pub status: u16,
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl Veto {
    /// How a turn fails that is refused when it comes out of the queue.
    pub(crate) fn into_failure(self) -> Failure {
        Failure { code: Some(self.code), message: text::message(&self.message).into_owned() }
    }
}

/// How a turn fails that comes out of the queue when the product's statements fail, which say no more about it.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn not_accepted() -> Failure {
    let message = "the turn could not be accepted when it came out of the queue";
    Failure { code: Some("not_accepted".to_owned()), message: message.to_owned() }
}

/// A place in a user's feed: behind the entry of this number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FeedId {
    /// Which feed: random, lower-case hexadecimal digits.
    pub feed: String,
    /// The entry's number.
    pub number: u64,
}

impl FeedId {
    /// The id that `text` is: `<feed>-<n>`. `None` for what none can be.
    #[must_use]
    pub fn parse(text: &str) -> Option<FeedId> {
        let (feed, number) = text.split_once('-')?;
        let is_feed = (1..=64).contains(&feed.len())
            && feed.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit())
            && (number == "0" || !number.starts_with('0'));
        let number = number.parse().ok().filter(|_| is_plain)?;
        is_feed.then(|| FeedId { feed: feed.to_owned(), number })
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.feed, self.number)
    }
}

/// Which entries of a feed to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRead {
    /// The place behind which they begin; without one, its end.
    pub after: Option<FeedId>,
    /// Only those about this session.
    pub session: Option<SessionId>,
    /// How many, at most. There may be fewer, also where there are more: a page's messages have a bound together.
    pub limit: usize,
}

/// What was read of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedPage {
    /// Entries, and the place to go on from.
    Entries(Vec<FeedEntry>, FeedId),
    /// The place is not, or no more, one of the feed: everything is to be read anew.
    Expired,
}

/// What has changed. Ids and states are of the moment that it tells of, all else of the one in which it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// Its number in the feed.
    pub number: u64,
    /// What it tells.
    pub change: Change,
    /// In which session.
    pub session_id: SessionId,
    /// Of which turn, by its client's name for it. A session's own changes have none.
    pub turn_id: Option<String>,
    /// When, by the store's clock.
    pub at: SystemTime,
    /// The turn's index and execution, where it has begun.
    pub begun: Option<(u64, ExecutionId)>,
    /// The turn's place in the queue, where it waits.
    pub position: Option<u64>,
    /// What the user says, in the entries that a turn begins to be seen or changes by.
    pub message: Option<String>,
    /// The id of the question that it is about.
    pub interaction: Option<String>,
    /// The question, as the data of its `interaction`, where it was asked and still is pending.
    pub question: Option<String>,
}

/// What an entry of a feed tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A turn is open.
    Accepted,
    /// A turn waits.
    Queued,
    /// A turn that waits was edited.
    Edited,
    /// A turn that waited was removed.
    Removed,
    /// A turn has ended in this state.
    Ended(TurnState),
    /// The agent of an open turn asks something.
    Asked,
    /// So came of what it had asked.
    Answered(Outcome),
    /// A session was opened, its title was changed, it was archived or taken back, or its queue was paused or resumed.
    SessionUpdated,
    /// A session was deleted.
    SessionDeleted,
}

impl Change {
    const ALL: [Change; 15] = [
        Change::Accepted,
        Change::Queued,
        Change::Edited,
        Change::Removed,
        Change::Ended(TurnState::Complete),
        Change::Ended(TurnState::Stopped),
        Change::Ended(TurnState::Failed),
        Change::Asked,
        Change::Answered(Outcome::Accepted),
        Change::Answered(Outcome::Declined),
        Change::Answered(Outcome::Cancelled),
        Change::Answered(Outcome::Expired),
        Change::Answered(Outcome::Withdrawn),
        Change::SessionUpdated,
        Change::SessionDeleted,
    ];

    /// Its name, as it stands on the wire and in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Accepted => "turn.accepted",
            Change::Queued => "turn.queued",
            Change::Edited => "turn.changed",
            Change::Removed => "turn.removed",
            Change::Ended(_) => "turn.ended",
            Change::Asked => "interaction.pending",
            Change::Answered(_) => "interaction.answered",
            Change::SessionUpdated => "session.updated",
            Change::SessionDeleted => "session.deleted",
        }
    }

    /// The state of the turn that it tells of, or the outcome of the question.
    #[must_use]
    pub fn state(self) -> Option<&'static str> {
        match self {
            Change::Accepted => Some(TurnState::Open.as_str()),
            Change::Queued | Change::Edited => Some("queued"),
            Change::Ended(state) => Some(state.as_str()),
            Change::Asked => Some("pending"),
            Change::Answered(outcome) => Some(outcome.as_str()),
            Change::Removed | Change::SessionUpdated | Change::SessionDeleted => None,
        }
    }

    /// The change of this name and state.
    #[must_use]
    pub fn parse(name: &str, state: Option<&str>) -> Option<Change> {
        let is_it = |change: &Change| change.as_str() == name && change.state() == state;
        Change::ALL.into_iter().find(is_it)
    }

    /// Whether what the user says goes with it.
    pub(crate) fn has_message(self) -> bool {
        matches!(self, Change::Accepted | Change::Queued | Change::Edited)
    }
}

/// Entries of one feed that are kept.
pub const FEED_KEPT: u64 = 50_000;
/// Bytes of messages after which a page of a feed ends.
pub(crate) const FEED_PAGE_BYTES: usize = 1024 * 1024;

/// A session that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Whose it is.
    pub owner: Principal,
    /// Which.
    pub session_id: SessionId,
    /// Only where nothing was accepted, saved or ended in it since.
    pub if_idle_since: Option<SystemTime>,
}

/// Which turn is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    /// A turn of a user, by its name, or by one that it was [given](ChatStore::name_turn).
    Named(Principal, TurnRef),
    /// The newest turn of a user that has this name, in whichever session; else the newest one that was given it.
    OfUser(Principal, String),
    /// Any turn, by its execution.
    Execution(ExecutionId),
}

/// What the log of an execution tells of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was asked.
    Asked {
        /// Its id.
        id: String,
        /// The data of its `interaction`, as JSON.
        question: String,
    },
    /// It is not pending any more.
    Answered {
        /// Its id.
        id: String,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What a user wants to be passed on into a running turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An answer to a question of the agent's.
    Answer {
        /// The question's id.
        interaction: String,
        /// Accepted, declined or cancelled.
        outcome: Outcome,
        /// What goes with it, as JSON.
        data: Option<String>,
    },
    /// A message into the turn.
    Input {
        /// Its id.
        id: String,
        /// What it says.
        message: String,
    },
}

impl Wish {
    /// The id that it is about: the question's, or the input's.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Wish::Answer { interaction: id, .. } | Wish::Input { id, .. } => id,
        }
    }

    /// How many of its kind are noted of one execution, at most. Of answers the oldest that is decided gives way.
    #[must_use]
    pub fn limit(&self) -> usize {
        match self {
            Wish::Answer { .. } => 256,
            Wish::Input { .. } => 1_024,
        }
    }
}

/// A wish that was noted: who, and when, is kept with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its number, in the order in which they were noted.
    pub number: u64,
    /// The execution of its turn.
    pub execution_id: ExecutionId,
    /// The user, by the name that the tenant has for them.
    pub by: String,
    /// What is to be passed on.
    pub wish: Wish,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intended {
    /// It is noted, now or since before.
    Noted(Intent),
    /// The turn has ended, and its answer shows that its agent has had this input.
    Had,
    /// The turn has ended otherwise, and nothing is noted.
    Ended(TurnRow),
    /// As many are noted of this execution as may be.
    Full,
    /// The turn waits behind others.
    Queued,
    /// The turn was queued, and was removed.
    Removed,
    /// The session has no such turn.
    NoTurn,
    /// The user has no such session.
    NoSession,
}

impl Intended {
    /// What becomes of a wish for a turn that has ended, of whose answer this is kept: whole, or what there was of it. An input that is
    /// sent again is not to be taken for a new one because the log that had it is gone (PROTOCOL 4.2).
    #[must_use]
    pub fn of_ended(row: TurnRow, wish: &Wish, kept: Option<&Answer>) -> Intended {
        let Wish::Input { id, message } = wish else {
            return Intended::Ended(row);
        };
        let halves = kept.map(Answer::halves).unwrap_or_default();
        // One that there was no room for is kept by its id alone.
        let is_it = |(had, said): (String, Option<String>)| {
            had == *id && said.is_none_or(|said| said == *message)
        };
        let is_had = halves.iter().filter_map(Half::said).any(is_it);
        if is_had { Intended::Had } else { Intended::Ended(row) }
    }
}

/// What the substrate has said to an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The status of its answer: 200, 202, 409, 410, 422 and so on (PROTOCOL 3.6).
    pub status: u16,
    /// What has come of the question, where it tells that.
    pub outcome: Option<Outcome>,
}

impl Decision {
    /// The turn has ended before the substrate had said anything.
    pub const GONE: Decision = Decision { status: 410, outcome: None };

    /// Whether the intent is kept with it, as a record of who wanted what: an input that was taken into the log, and an answer to a
    /// question that was asked.
    #[must_use]
    pub fn is_kept(self, wish: &Wish) -> bool {
        match wish {
            Wish::Answer { .. } => matches!(self.status, 200 | 409 | 410 | 422),
            Wish::Input { .. } => self.status == 202,
        }
    }
}

/// Executions with a pending question that a process drives beside its others (PROTOCOL 4.2).
pub const MAX_WAITING: usize = 20_000;

/// The `turnId` of the turn that an input becomes which its agent has not taken, the first of these that is free: the input's id, then
/// with a number. `None` where there is nothing to queue: a turn of this name says the same already. `known` is what a turn of a name
/// says, where the session has one, waiting or not, or had one that was removed.
///
/// # Errors
/// Those of `known`.
pub fn input_turn<E>(
    id: &str,
    message: &str,
    mut known: impl FnMut(&str) -> Result<Option<String>, E>,
) -> Result<Option<String>, E> {
    let mut name = id.to_owned();
    for number in 2_u64.. {
        match known(&name)? {
            None => return Ok(Some(name)),
            Some(said) if number == 2 && said == message => return Ok(None),
            Some(_) => name = format!("{id}:i{number}"),
        }
    }
    Ok(None)
}

/// The ids of the inputs that an answer shows its agent has had.
#[must_use]
pub fn inputs_of(answer: &Answer) -> Vec<String> {
    let inputs = answer.parts.iter().filter(|part| part.kind() == PartKind::Input);
    inputs.filter_map(AnswerPart::id).collect()
}

/// What a turn adds to the history of those after it: what the user has said, and the answer, with inputs between its halves
/// (PROTOCOL 4.2). Nothing where the answer has no text.
#[must_use]
pub fn said_in(message: &str, answer: &Answer) -> Vec<Said> {
    if answer.text.trim().is_empty() {
        return Vec::new();
    }
    let mut said = vec![Said { role: Role::User, content: message.to_owned() }];
    for half in answer.halves() {
        let input = half.said().and_then(|(_, message)| message);
        said.extend(input.map(|content| Said { role: Role::User, content }));
        let content = half.answer.text;
        if !content.trim().is_empty() {
            said.push(Said { role: Role::Assistant, content });
        }
    }
    said
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The turn.
    Turn(TurnRow),
    /// The turn waits behind others.
    Queued(QueuedTurn),
    /// The turn was queued, and was removed.
    Removed,
    /// The turn's session was deleted. Only its execution is still known.
    Gone,
    /// The session is there, and has no such turn.
    NoTurn,
    /// The user has no such session.
    NoSession,
}

/// What is to become of a queued turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueChange {
    /// It says something else, or asks another agent. What it is known by stays what its first request said.
    Edit {
        /// What the user says now.
        message: Option<String>,
        /// The agent that is to answer now.
        agent: Option<String>,
    },
    /// It never runs.
    Remove,
}

/// What became of a [`QueueChange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueChanged {
    /// The turn as it waits now.
    Edited(QueuedTurn),
    /// It is removed, by this call or an earlier one.
    Removed,
    /// It is not queued any more.
    Started,
    /// The session has no such turn.
    NoTurn,
    /// The user has no such session.
    NoSession,
}

/// The turns of a session that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// In the order in which they will run.
    pub turns: Vec<QueuedTurn>,
    /// Whether a stop holds them up, until another turn of the session is accepted.
    pub is_paused: bool,
}

/// The turns that share a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings {
    /// How many they are.
    pub count: u64,
    /// The one that was accepted last.
    pub newest: TurnRow,
}

/// A turn as its row says at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "columns of the row, each independent of the others"
)]
pub struct TurnRow {
    /// What never changes of it.
    pub turn: Turn,
    /// How far it is.
    pub state: TurnState,
    /// Whether an attempt may have asked the substrate to run it.
    pub dispatched: bool,
    /// Whether a user has asked to stop it.
    pub stop_asked: bool,
    /// The epoch of its lease; 0 where nobody has ever held it.
    pub epoch: u64,
    /// Whether a living worker holds the lease.
    pub is_held: bool,
    /// Whether a question of its agent's is pending.
    pub is_waiting: bool,
    /// Why it was stopped or failed.
    pub failure: Option<Failure>,
}

impl TurnRow {
    /// The row of a turn that is just accepted.
    #[cfg(any(feature = "postgres", feature = "sqlite", test))]
    pub(crate) fn accepted(turn: Turn) -> TurnRow {
        TurnRow {
            turn,
            state: TurnState::Open,
            dispatched: false,
            stop_asked: false,
            epoch: 0,
            is_held: false,
            is_waiting: false,
            failure: None,
        }
    }
}

/// A worker's wish to drive an open turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The turn's execution.
    pub execution_id: ExecutionId,
    /// A number that no other claim has. With it the same claim can be asked again.
    pub nonce: u128,
    /// The epoch that the worker has seen.
    pub seen_epoch: u64,
    /// Whether it would start the agent.
    pub may_run: bool,
}

/// What a worker may do with the turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Start the agent: nobody did, and after this nobody else will.
    Run(Lease),
    /// Attach to the execution.
    Attach(Lease),
    /// Not drive it: the turn has ended, another worker holds or has held it since, or it would have to be started.
    Refused,
}

/// Who tells that a turn has ended without an answer (PROTOCOL 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The log of this execution: a fact that anybody may write down.
    Log(ExecutionId),
    /// The attempt that drives it, for as long as its epoch is the row's.
    Lease(Lease),
}

impl EndedBy {
    /// The execution that has ended.
    #[must_use]
    pub fn execution_id(&self) -> &ExecutionId {
        match self {
            EndedBy::Log(execution_id) | EndedBy::Lease(Lease { execution_id, .. }) => execution_id,
        }
    }
}

/// Which sessions to list: the newest `limit`, of those older than the session `before`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// The session before which the page ends. One that the owner does not have gives an empty page.
    pub before: Option<SessionId>,
    /// How many sessions.
    pub limit: u32,
    /// Only those that are archived, or only those that are not; all without it.
    pub archived: Option<bool>,
}

/// What was listed, of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<SessionInfo>,
    /// Where the owner's feed ends at this moment.
    pub feed: FeedId,
}

/// What is to be changed of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionUpdate {
    /// What it is called now.
    pub title: Option<String>,
    /// Whether it is archived now.
    pub archived: Option<bool>,
}

/// Which messages to list: those of the newest `turns` turns, of those before the turn index `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePage {
    /// A turn, by its index, whose branch is read: its ancestors and its newest descendants. Without one, the branch of the newest
    /// turn.
    pub branch: Option<u64>,
    /// The turn index before which the page ends.
    pub before: Option<u64>,
    /// How many turns. A page ends earlier where its text and parts are over 8 MiB.
    pub turns: u32,
}

impl MessagePage {
    /// The newest `turns` turns of the newest branch.
    #[must_use]
    pub const fn newest(turns: u32) -> MessagePage {
        MessagePage { branch: None, before: None, turns }
    }

    /// No turn: for what else is to be known of the session.
    #[must_use]
    pub const fn none() -> MessagePage {
        MessagePage { branch: None, before: Some(0), turns: 0 }
    }
}

/// A session at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The session as lists have it.
    pub info: SessionInfo,
    /// Messages, the oldest first; whole turns.
    pub messages: Vec<Message>,
    /// The open turn, if there is one.
    pub open: Option<TurnRow>,
    /// Its pending questions, each as the data of its `interaction`; the oldest first.
    pub pending: Vec<String>,
    /// Those that wait.
    pub queue: Queue,
    /// Where the owner's feed ends at this moment.
    pub feed: FeedId,
}

/// How much of what was said goes with a run (PROTOCOL 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Turns. Default: 50.
    pub turns: u32,
    /// Bytes of the history's JSON. Default: 256 KiB.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> HistoryLimits {
        HistoryLimits { turns: 50, bytes: 256 * 1024 }
    }
}

/// What a store could not do. Opaque: what lies behind it is its [source](std::error::Error::source), for the log.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<BoxError>,
}

/// What one can do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Nothing was done, as others are at work: ask again in a moment.
    Busy,
    /// Nothing was done: the database cannot be reached or used at the moment, or the handle is closed.
    Unavailable,
    /// It may have been done, or not: ask again.
    OutcomeUnknown,
    /// The database was written by a newer version.
    Newer,
    /// The turn's session was deleted: nothing was done, and nothing ever will be.
    Gone,
    /// Asking again does not help: the database, or what it was asked, is not what it should be.
    Broken,
}

impl StoreError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: StoreErrorKind) -> StoreError {
        StoreError { kind, source: None }
    }

    /// An error of this kind, and what lies behind it.
    pub fn because(kind: StoreErrorKind, source: impl Into<BoxError>) -> StoreError {
        StoreError { kind, source: Some(source.into()) }
    }

    /// What one can do about it.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Busy => "use the database: it is busy",
            StoreErrorKind::Unavailable => "use the database: it is not available",
            StoreErrorKind::OutcomeUnknown => "learn from the database what became of a write",
            StoreErrorKind::Newer => "use the database: a newer version has written it",
            StoreErrorKind::Gone => "write to a session: it was deleted",
            StoreErrorKind::Broken => "use the database",
        })
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// How long a deleted session's name opens no other one, by the store's clock (PROTOCOL 4.2).
pub const NAME_RESTS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a deleted session is remembered: longer than its name rests, and than an execution's id stays spent.
pub const TOMBSTONE: Duration = Duration::from_secs(25 * 60 * 60);

/// Turns that may wait in a session (PROTOCOL 4.2).
pub const MAX_QUEUED: usize = 16;
/// Names that are kept of a turn, beside its own (PROTOCOL 4.5).
pub const MAX_NAMES: usize = 64;

/// Siblings of a turn that are named with its messages: the newest ones.
pub(crate) const MAX_SIBLINGS: usize = 256;
/// Bytes of text and parts that a page of messages holds before it ends early: a page is built in memory.
pub(crate) const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Sign-ins of one token. The oldest gives way to one more.
pub(crate) const MAX_SIGN_INS: usize = 100;

/// What an answer takes of a page.
pub(crate) fn answer_bytes(answer: &Answer) -> usize {
    answer.text.len() + answer.parts.iter().map(AnswerPart::size).sum::<usize>()
}

/// Bytes of the JSON of a message of the history, a comma after it too.
pub(crate) fn json_len(said: &Said) -> usize {
    history::string_len(&said.content)
        + said.role.as_str().len()
        + r#"{"role":"","content":},"#.len()
}

/// Rings in every handle that a process has on the same data. A handle that is busy when it rings hears it later.
#[derive(Debug)]
pub(crate) struct Bell(watch::Sender<u64>);

impl Default for Bell {
    fn default() -> Bell {
        Bell(watch::Sender::new(0))
    }
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.send_modify(|times| *times += 1);
    }

    /// How often it has rung.
    pub(crate) fn times(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until it has rung more often than `heard` says, and notes how often. Cancel: safe.
    pub(crate) async fn rung(&self, heard: &AtomicU64) {
        let mut times = self.0.subscribe();
        // The sender is part of what is waited on, so waiting does not fail.
        if let Ok(times) = times.wait_for(|times| *times != heard.load(SeqCst)).await {
            heard.store(*times, SeqCst);
        }
    }
}

/// Unix milliseconds, as the stores of this crate keep times.
#[cfg(feature = "sqlite")]
pub(crate) fn unix_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
