//! What happened in a simulated world, in the order in which it happened.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use crate::plan::Link;

/// One thing that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Simulated time since the start of the world.
    pub at: Duration,
    /// What happened.
    pub fact: Fact,
}

/// What the simulation sees of a world: its faults, and what each party did and was told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A fault struck.
    Fault {
        /// Its kind, for counting.
        kind: &'static str,
        /// Where, and how hard.
        detail: String,
    },
    /// A connection was opened.
    Connected(Link),
    /// The substrate's node came up with an empty log: everything before it is forgotten.
    LogLost,
    /// The log bound an id: to a run, or, by a cancel, to none.
    Bound {
        /// The id.
        execution: ExecutionId,
    },
    /// The agent was asked.
    AgentAsked {
        /// For this execution.
        execution: ExecutionId,
    },
    /// The agent was told what came of a question.
    Heard {
        /// In this execution.
        execution: ExecutionId,
        /// The question's id.
        question: String,
        /// What came of it.
        outcome: &'static str,
    },
    /// The agent was given a message into its running turn.
    Received {
        /// In this execution.
        execution: ExecutionId,
        /// The message's id.
        input: String,
    },
    /// The log has erased an execution, and its id is spent.
    Erased {
        /// The execution.
        execution: ExecutionId,
    },
    /// An event is in the log.
    Appended {
        /// In this execution's log.
        execution: ExecutionId,
        /// Under this id.
        id: EventId,
        /// The event.
        event: Event,
    },
    /// The adapter got a 200 for a run: from now on it may only attach.
    Answered {
        /// For this execution.
        execution: ExecutionId,
    },
    /// The adapter came to the clean end of a stream.
    StreamEnded {
        /// Of this execution.
        execution: ExecutionId,
    },
    /// A hook of the product did its work.
    Hooked {
        /// For this execution.
        execution: ExecutionId,
        /// Which one.
        hook: Hooked,
    },
    /// The product's store granted a claim or took an ending, whether or not its answer arrived.
    Stored {
        /// Of this execution.
        execution: ExecutionId,
        /// What.
        stored: Stored,
    },
    /// The product's store let a turn wait, whether or not its answer arrived.
    Waits {
        /// The turn.
        turn: String,
    },
    /// The product's store deleted a session, whether or not its answer arrived.
    Deleted {
        /// The session's id.
        session: String,
    },
    /// An execution of a deleted session that can still be read at the substrate, when everything has come to rest.
    LeftBehind {
        /// The execution.
        execution: String,
    },
    /// A client did something, or was told something.
    Client {
        /// Which client.
        client: ClientId,
        /// What.
        act: ClientAct,
    },
    /// The raw watcher did something, or saw something.
    Watch {
        /// Of this execution.
        execution: ExecutionId,
        /// What.
        act: WatchAct,
    },
    /// What the database says about a turn, when everything has come to rest.
    Kept {
        /// The turn.
        turn: String,
        /// Its row; none where no request for it ever arrived.
        answer: Option<Kept>,
    },
    /// Somebody panicked.
    Panicked,
    /// The world was cut off: its clients never came to an end.
    Endless,
    /// Turns that are still open although nothing has been wrong for long.
    StillOpen {
        /// Their execution ids.
        turns: Vec<String>,
    },
}

/// `<epoch>-<seq>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The runner's fencing token.
    pub epoch: u64,
    /// The place in the log, from 1.
    pub seq: u64,
}

impl EventId {
    /// Reads `<epoch>-<seq>`; none where it is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.split_once('-')?;
        Some(Self { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// One client: a tab of a browser that is at one turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// The turn's id, as the client made it.
    pub turn: String,
    /// Which of the turn's clients.
    pub tab: usize,
}

/// What a client does and is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAct {
    /// It got a body that begins after this many lines of its turn.
    Body {
        /// The execution that the answer's header names.
        execution: Option<ExecutionId>,
        /// Its cursor.
        after: u64,
    },
    /// It read a line.
    Line(Event),
    /// The body ended, in whatever way.
    BodyOver,
    /// It was answered with something else than a body.
    Refused {
        /// The status.
        status: u16,
        /// The error's code.
        code: String,
    },
    /// It saw which questions of its turn are pending.
    Saw {
        /// In this execution.
        execution: ExecutionId,
        /// The questions' ids.
        pending: Vec<String>,
        /// When it asked.
        asked: Duration,
    },
    /// It answered a question, and was told what became of that.
    Answered {
        /// The question's id.
        question: String,
        /// Its answer.
        outcome: &'static str,
        /// The status.
        status: u16,
        /// What had come of the question before.
        taken: Option<String>,
    },
    /// It sent a message into its turn, and was told what became of that.
    Said {
        /// The message's id.
        input: String,
        /// The status.
        status: u16,
    },
    /// It wanted its turn, which waited, edited or removed, and was told what became of that.
    Changed {
        /// The status.
        status: u16,
    },
    /// It deleted the conversation, and was told so.
    Deleted,
    /// It asked to stop the turn.
    AskedToStop,
    /// It left for good.
    Left,
    /// It gave up although the world has been calm for long.
    GaveUp,
}

/// What the raw watcher does and sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchAct {
    /// It got a stream that must go on strictly after this cursor.
    Stream {
        /// None: from the first event.
        after: Option<EventId>,
        /// When it asked.
        asked: Duration,
    },
    /// It read a frame.
    Frame {
        /// The frame's own id.
        id: Option<EventId>,
        /// The event.
        event: Event,
    },
    /// It was refused.
    Refused {
        /// With this cursor.
        after: Option<EventId>,
        /// When it asked.
        asked: Duration,
        /// The status.
        status: u16,
    },
}

/// A hook's call that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooked {
    /// `persist_assistant_message`, which saved.
    Saved,
    /// `persist_assistant_message`, which found it saved.
    AlreadySaved,
    /// `on_turn_complete`.
    Completed,
    /// `on_turn_failed`.
    Failed,
    /// `trace_flush`.
    Flushed,
}

/// What a store did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It granted a claim.
    Claimed {
        /// Which one: claims with the same nonce have the same number.
        claim: u64,
        /// The epoch that the claim names.
        seen: u64,
        /// The epoch that was granted.
        epoch: u64,
        /// Whether the agent is to be started.
        runs: bool,
    },
    /// It ended the turn without an answer.
    Ended {
        /// By the lease of this epoch; none where the log tells.
        epoch: Option<u64>,
    },
    /// It freed a lease.
    Released {
        /// The epoch of who gave it up.
        epoch: u64,
        /// The epoch of the lease that was freed.
        freed: u64,
    },
    /// It saved the answer.
    Saved,
}

/// The assistant's message in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its execution.
    pub execution: String,
    /// What the user said.
    pub asked: String,
    /// Its place in the session.
    pub index: u64,
    /// The ids of the messages that were put into it, between the halves of its answer.
    pub inputs: Vec<String>,
    /// How many messages of the assistant the turn has.
    pub messages: usize,
    /// `complete`, `stopped` or `failed`; empty without a message.
    pub status: String,
    /// The text, of all halves.
    pub text: String,
    /// The code of the failure, where there is one.
    pub code: Option<String>,
}

impl Kept {
    /// A turn without an answer so far.
    #[must_use]
    pub fn of(execution: String, index: u64) -> Self {
        let (asked, status, text) = (String::new(), String::new(), String::new());
        let inputs = Vec::new();
        Self { execution, asked, index, inputs, messages: 0, status, text, code: None }
    }
}

/// A history that is being written. Clones write the same one.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Arc<Mutex<Vec<Record>>>,
}

impl History {
    /// Writes down `fact`, as of now.
    pub fn add(&self, fact: Fact) {
        self.add_at(turmoil::sim_elapsed().unwrap_or_default(), fact);
    }

    /// Writes down `fact`, as of `at` or, where the history is further, of its end.
    pub fn add_at(&self, at: Duration, fact: Fact) {
        let mut records = self.lock();
        let last = records.last().map_or(Duration::ZERO, |last: &Record| last.at);
        records.push(Record { at: at.max(last), fact });
    }

    /// Everything so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().clone()
    }

    /// The sessions that were deleted so far.
    pub(crate) fn deleted(&self) -> Vec<String> {
        let records = self.lock();
        let deleted = records.iter().filter_map(|record| match &record.fact {
            Fact::Deleted { session } => Some(session.clone()),
            _ => None,
        });
        deleted.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often each kind of fault struck.
#[must_use]
pub fn faults(records: &[Record]) -> BTreeMap<&'static str, u64> {
    let mut kinds = BTreeMap::new();
    for record in records {
        if let Fact::Fault { kind, .. } = &record.fact {
            *kinds.entry(*kind).or_default() += 1;
        }
    }
    kinds
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.3} s  ", self.at.as_secs_f64())?;
        match &self.fact {
            Fact::Fault { kind, detail } => write!(f, "FAULT {kind}: {detail}"),
            Fact::Connected(link) => write!(f, "connection {link}"),
            Fact::LogLost => write!(f, "substrate: up with an empty log"),
            Fact::Bound { execution } => write!(f, "log: {execution} bound"),
            Fact::AgentAsked { execution } => write!(f, "agent: asked for {execution}"),
            Fact::Heard { execution, question, outcome } => {
                write!(f, "agent: {execution} hears {question} {outcome}")
            }
            Fact::Received { execution, input } => write!(f, "agent: {execution} has {input}"),
            Fact::Erased { execution } => write!(f, "log: {execution} erased"),
            Fact::Appended { execution, id, event } => {
                write!(f, "log: {execution} {id} {}", short(event))
            }
            Fact::Answered { execution } => write!(f, "adapter: 200 for {execution}"),
            Fact::StreamEnded { execution } => write!(f, "adapter: end of {execution}"),
            Fact::Hooked { execution, hook } => write!(f, "hook: {hook:?} {execution}"),
            Fact::Stored { execution, stored } => write!(f, "store: {stored:?} {execution}"),
            Fact::Waits { turn } => write!(f, "store: {turn} waits"),
            Fact::Deleted { session } => write!(f, "store: {session} deleted"),
            Fact::LeftBehind { execution } => write!(f, "log: {execution} is left"),
            Fact::Client { client, act } => write!(f, "client {client}: {act}"),
            Fact::Watch { execution, act } => write!(f, "watcher: {execution} {act}"),
            Fact::Kept { turn, answer } => write!(f, "database: {turn} {answer:?}"),
            Fact::Panicked => write!(f, "somebody panicked"),
            Fact::Endless => write!(f, "the world was cut off"),
            Fact::StillOpen { turns } => write!(f, "database: still open {turns:?}"),
        }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.turn, self.tab)
    }
}

impl fmt::Display for ClientAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body { execution: Some(execution), after } => {
                write!(f, "body of {execution} after {after}")
            }
            Self::Body { execution: None, after } => write!(f, "body of nothing after {after}"),
            Self::Line(event) => write!(f, "line {}", short(event)),
            Self::BodyOver => write!(f, "body over"),
            Self::Refused { status, code } => write!(f, "refused {status} {code}"),
            Self::Saw { execution, pending, .. } => {
                write!(f, "sees {pending:?} pending in {execution}")
            }
            Self::Answered { question, outcome, status, taken } => {
                write!(f, "answers {question} {outcome}: {status} {taken:?}")
            }
            Self::Said { input, status } => write!(f, "says {input}: {status}"),
            Self::Changed { status } => write!(f, "changes what waits: {status}"),
            Self::Deleted => write!(f, "deletes the conversation"),
            Self::AskedToStop => write!(f, "asks to stop the turn"),
            Self::Left => write!(f, "left for good"),
            Self::GaveUp => write!(f, "gave up"),
        }
    }
}

impl fmt::Display for WatchAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { after, .. } => write!(f, "stream after {}", shown(*after)),
            Self::Frame { id, event } => write!(f, "frame {} {}", shown(*id), short(event)),
            Self::Refused { after, status, .. } => {
                write!(f, "refused {status} after {}", shown(*after))
            }
        }
    }
}

fn shown(id: Option<EventId>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// The beginning of an event's JSON.
fn short(event: &Event) -> String {
    let text = event.as_json();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Characters of an event that a printed history shows.
const SHOWN: usize = 160;
