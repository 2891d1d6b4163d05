//! A store in memory: for tests, trials and products that keep nothing.

mod branches;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use futures_util::future::ready;
use turnkit::Persisted;
use turnkit_id::{ExecutionId, LogId};

use self::branches::Branches;
use super::acceptance::{self, Facts, Own, Place, Verdict};
use super::asked::{Asked, Fingerprint};
use super::{
    Accepted, Bell, Change, ChatStore, Claim, Claimed, Decision, Deletion, Digest, EndedBy,
    FEED_KEPT, FEED_PAGE_BYTES, FeedEntry, FeedId, FeedPage, FeedRead, Find, Found, History,
    HistoryBuilder, HistoryLimits, Intended, Intent, Joined, LEASE, Lease, MAX_NAMES, MAX_SIBLINGS,
    MAX_SIGN_INS, MessagePage, NAME_RESTS, NewRow, Omitted, Outcome, PAGE_BYTES, Queue,
    QueueChange, QueueChanged, Renewed, SessionList, SessionPage, SessionState, SessionUpdate,
    Siblings, SignIns, StoreError, StoreErrorKind, Stored, TOMBSTONE, Told, TurnRow, Wish,
    answer_bytes, input_turn, inputs_of, said_bytes, said_in, unnamed_log,
};
use crate::{
    Answer, Ending, Failure, Message, Principal, QueuedTurn, SessionId, SessionInfo, Turn, TurnRef,
    TurnState,
};

/// Sessions and turns in this process's memory, which end with it.
///
/// A value is one worker's handle; [`beside`](Self::beside) gives another one on the same data. A handle that is dropped is a
/// worker that has died.
pub struct MemoryStore {
    worker: Worker,
    is_closed: AtomicBool,
    clock: Clock,
    /// How often this handle has heard the bell.
    heard: AtomicU64,
    kept: Arc<Shared>,
}

type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;
type Worker = u64;

#[derive(Default)]
struct Shared {
    data: Mutex<Data>,
    workers: AtomicU64,
    /// There may be a turn that nobody drives.
    freed: Bell,
}

#[derive(Default)]
struct Data {
    log: Option<LogId>,
    /// Those that have joined, and when each renewed last.
    workers: HashMap<Worker, SystemTime>,
    sessions: HashMap<SessionId, Session>,
    /// Sessions by their owner's names for them.
    names: HashMap<(Principal, String), SessionId>,
    turns: HashMap<ExecutionId, Row>,
    feeds: HashMap<Principal, Feed>,
    /// How often something was written.
    version: u64,
    /// What was deleted.
    tombstones: HashMap<SessionId, Tombstone>,
    /// Executions of deleted sessions, and whether each is erased.
    gone: HashMap<ExecutionId, (SessionId, bool)>,
    opened: u64,
    accepted: u64,
    intended: u64,
    sign_ins: Vec<SignIn>,
}

struct Feed {
    id: String,
    newest: u64,
    /// Entries up to this one are not kept.
    dropped: u64,
    entries: VecDeque<Entry>,
}

struct Entry {
    number: u64,
    change: Change,
    session_id: SessionId,
    turn_id: Option<String>,
    interaction: Option<String>,
    at: SystemTime,
}

impl Feed {
    fn new() -> Feed {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Feed { id, newest: 0, dropped: 0, entries: VecDeque::new() }
    }

    fn end(&self) -> FeedId {
        FeedId { feed: self.id.clone(), number: self.newest }
    }
}

struct Tombstone {
    owner: Principal,
    name: String,
    deleted_at: SystemTime,
}

struct Session {
    owner: Principal,
    name: String,
    title: Option<String>,
    archived: bool,
    number: u64,
    created_at: SystemTime,
    /// When something was last accepted, saved or ended in it.
    active_at: SystemTime,
    /// By index.
    turns: Vec<ExecutionId>,
    branches: Branches,
    open: Option<ExecutionId>,
    by_name: HashMap<String, ExecutionId>,
    /// By the names that turns were given beside their own.
    by_given_name: HashMap<String, ExecutionId>,
    /// Those that wait, in their order. While the queue is paused there is at least one.
    queue: Vec<Waiting>,
    is_paused: bool,
    /// Names of those that were removed from the queue.
    removed: HashSet<String>,
}

struct Waiting {
    turn_id: String,
    asked: Asked<Words>,
    created_at: SystemTime,
}

/// What a turn's first request said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words {
    message: String,
    agent: String,
}

impl Fingerprint for Words {
    fn of(message: &str, agent: &str) -> Words {
        Words { message: message.to_owned(), agent: agent.to_owned() }
    }
}

struct Row {
    turn: Turn,
    /// What the turn's first request said, where it was edited while it was queued.
    first_asked: Option<Words>,
    number: u64,
    accepted_at: SystemTime,
    state: TurnState,
    dispatched: bool,
    stop_asked: bool,
    epoch: u64,
    claimed: Option<Claimant>,
    failure: Option<Failure>,
    answer: Option<(Answer, SystemTime)>,
    /// Bytes of what was said in it, where that goes with the run of a later turn.
    said: Option<u64>,
    /// What was said so before it in its branch.
    said_before: Omitted,
    /// While it is open, in the order in which they were asked.
    questions: Vec<Question>,
    intents: Vec<Noted>,
    /// The names that it was given beside its own, the oldest first.
    given_names: VecDeque<String>,
}

struct Question {
    id: String,
    /// The data of its `interaction`. Nothing where only what came of it is known.
    data: String,
    outcome: Option<Outcome>,
}

impl Question {
    fn is_pending(&self) -> bool {
        self.outcome.is_none()
    }
}

struct Noted {
    intent: Intent,
    decision: Option<Decision>,
}

/// Who made the claim that began the row's epoch.
struct Claimant {
    worker: Worker,
    nonce: u128,
    ran: bool,
    at: SystemTime,
    released: bool,
}

struct SignIn {
    secret: Digest,
    token: Digest,
    ends_at: SystemTime,
}

impl Row {
    /// What was said up to the end of this turn, which a history without it leaves out.
    fn said_until(&self) -> Omitted {
        let Omitted { turns, bytes } = self.said_before;
        Omitted {
            turns: turns + u64::from(self.said.is_some()),
            bytes: bytes + self.said.unwrap_or(0),
        }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::with_clock(SystemTime::now)
    }

    /// An empty store whose time, that of leases above all, is what `clock` says.
    pub fn with_clock(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> MemoryStore {
        let (is_closed, heard, kept) = (AtomicBool::new(false), AtomicU64::new(0), Arc::default());
        MemoryStore { worker: 0, is_closed, clock: Arc::new(clock), heard, kept }
    }

    /// Another worker's handle on the same data.
    #[must_use]
    pub fn beside(&self) -> MemoryStore {
        let worker = self.kept.workers.fetch_add(1, Relaxed) + 1;
        let (clock, kept) = (Arc::clone(&self.clock), Arc::clone(&self.kept));
        let heard = AtomicU64::new(kept.freed.times());
        MemoryStore { worker, is_closed: AtomicBool::new(false), clock, heard, kept }
    }

    fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// One call on the data at the moment of the store's clock. Nothing else reaches the data, so that every call of a closed handle fails.
    fn stored<'a, T: Send + 'a>(
        &self,
        call: impl FnOnce(SystemTime, &mut Data) -> Result<T, StoreError>,
    ) -> Stored<'a, T> {
        let answer = if self.is_closed.load(Relaxed) {
            Err(StoreError::because(StoreErrorKind::Unavailable, "the handle is closed"))
        } else {
            let now = self.now();
            call(now, &mut self.data())
        };
        Box::pin(ready(answer))
    }

    /// A turn of the session is not open any more.
    fn go_on(
        &self,
        data: &mut Data,
        session_id: &SessionId,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        if let Some(session) = data.sessions.get_mut(session_id) {
            session.open = None;
        }
        if data.open_next(session_id, now)? {
            self.kept.freed.ring();
        }
        Ok(())
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.kept.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.data().workers.remove(&self.worker);
        self.kept.freed.ring();
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Data {
    fn is_alive(&self, worker: Worker, now: SystemTime) -> bool {
        self.workers.get(&worker).is_some_and(|renewed| !is_over(*renewed, now))
    }

    fn is_held(&self, row: &Row, now: SystemTime) -> bool {
        let holder = row.claimed.as_ref().filter(|claimed| !claimed.released);
        row.state == TurnState::Open
            && holder.is_some_and(|claimed| self.is_alive(claimed.worker, now))
    }

    fn row(&self, row: &Row, now: SystemTime) -> TurnRow {
        TurnRow {
            turn: row.turn.clone(),
            state: row.state,
            dispatched: row.dispatched,
            stop_asked: row.stop_asked,
            epoch: row.epoch,
            is_held: self.is_held(row, now),
            is_waiting: row.questions.iter().any(Question::is_pending),
            failure: row.failure.clone(),
        }
    }

    fn session(&self, owner: &Principal, id: &SessionId) -> Option<&Session> {
        self.sessions.get(id).filter(|session| session.owner == *owner)
    }

    fn open(&mut self, owner: Principal, name: String, id: &SessionId, created_at: SystemTime) {
        self.opened += 1;
        self.names.insert((owner.clone(), name.clone()), id.clone());
        let session = Session {
            owner,
            name,
            title: None,
            archived: false,
            number: self.opened,
            created_at,
            active_at: created_at,
            turns: Vec::new(),
            branches: Branches::default(),
            open: None,
            by_name: HashMap::new(),
            by_given_name: HashMap::new(),
            queue: Vec::new(),
            is_paused: false,
            removed: HashSet::new(),
        };
        self.sessions.insert(id.clone(), session);
        self.tell(id, None, Change::SessionUpdated, created_at);
    }

    /// A turn of the session that has an index, by its client's name for it.
    fn named(&self, session: &Session, turn_id: &str) -> Option<&Row> {
        session.by_name.get(turn_id).and_then(|id| self.turns.get(id))
    }

    /// What the session has under the name of the turn that another one is to stand in for, or to follow.
    fn place_of(&self, session: &Session, asked: &Asked<Words>) -> Place {
        let Some(name) = asked.place() else { return Place::None };
        match self.named(session, name) {
            Some(row) => {
                let Turn { index, parent, .. } = row.turn;
                Place::Begun { index, parent, is_open: row.state == TurnState::Open }
            }
            None if session.waiting(name).is_some() => Place::Waiting,
            None if session.removed.contains(name) => Place::Removed,
            None => Place::None,
        }
    }

    /// Gives a turn its index, its parent and its execution.
    fn open_turn(
        &mut self,
        session_id: &SessionId,
        waiting: Waiting,
        parent: Option<u64>,
        now: SystemTime,
    ) -> Result<ExecutionId, StoreError> {
        let broken = |error| StoreError::because(StoreErrorKind::Broken, error);
        let Some(session) = self.sessions.get(session_id) else {
            return Err(StoreError::because(StoreErrorKind::Broken, "a turn of no session"));
        };
        let (owner, index) = (session.owner.clone(), session.turns.len() as u64);
        let before = parent.and_then(|parent| self.at(session, parent));
        let said_before = before.map(Row::said_until).unwrap_or_default();
        let execution_id =
            ExecutionId::derive(&owner.tenant_id, session_id.as_str(), index).map_err(broken)?;
        let Waiting { turn_id, asked, created_at } = waiting;
        let Asked { message, agent, client_id, known_as, .. } = asked;
        let at = TurnRef::new(session_id.clone(), turn_id.clone());
        let turn = Turn::new(owner, at, index, execution_id.clone(), agent, message);
        self.accepted += 1;
        let row = Row {
            turn: Turn { parent, client_id, ..turn },
            first_asked: known_as,
            number: self.accepted,
            accepted_at: created_at,
            state: TurnState::Open,
            dispatched: false,
            stop_asked: false,
            epoch: 0,
            claimed: None,
            failure: None,
            answer: None,
            said: None,
            said_before,
            questions: Vec::new(),
            intents: Vec::new(),
            given_names: VecDeque::new(),
        };
        self.turns.insert(execution_id.clone(), row);
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.turns.push(execution_id.clone());
            session.branches.push(parent);
            session.open = Some(execution_id.clone());
            session.by_name.insert(turn_id.clone(), execution_id.clone());
        }
        self.touch(session_id, now);
        self.tell(session_id, Some(&turn_id), Change::Accepted, now);
        Ok(execution_id)
    }

    /// Opens the first turn that waits, unless the queue is paused. Says whether there was one.
    fn open_next(&mut self, session_id: &SessionId, now: SystemTime) -> Result<bool, StoreError> {
        let Some(session) = self.sessions.get_mut(session_id) else { return Ok(false) };
        if session.is_paused || session.queue.is_empty() {
            return Ok(false);
        }
        let waiting = session.queue.remove(0);
        let Some(session) = self.sessions.get(session_id) else { return Ok(false) };
        let place = self.place_of(session, &waiting.asked);
        let parent = acceptance::parent(&waiting.asked, place, session.branches.newest());
        self.open_turn(session_id, waiting, parent, now).map(|_| true)
    }

    /// Tells of a change in a session; `turn_id` names the turn that has changed.
    fn tell(
        &mut self,
        session_id: &SessionId,
        turn_id: Option<&str>,
        change: Change,
        at: SystemTime,
    ) {
        let (session_id, turn_id) = (session_id.clone(), turn_id.map(str::to_owned));
        let entry = Entry { number: 0, change, session_id, turn_id, interaction: None, at };
        self.tell_entry(entry);
    }

    /// Tells the owner of the entry's session, under the next number of the owner's feed.
    fn tell_entry(&mut self, entry: Entry) {
        let owner = self.sessions.get(&entry.session_id).map(|session| session.owner.clone());
        if let Some(owner) = owner {
            self.tell_owner(owner, entry);
        }
    }

    fn tell_owner(&mut self, owner: Principal, mut entry: Entry) {
        self.version += 1;
        let feed = self.feeds.entry(owner).or_insert_with(Feed::new);
        feed.newest += 1;
        entry.number = feed.newest;
        feed.entries.push_back(entry);
        let dropped = feed.newest.saturating_sub(FEED_KEPT);
        if dropped > feed.dropped {
            feed.dropped = dropped;
            while feed.entries.front().is_some_and(|entry| entry.number <= dropped) {
                feed.entries.pop_front();
            }
        }
    }

    /// The entry as it is told now.
    fn told(&self, entry: &Entry) -> FeedEntry {
        let session = self.sessions.get(&entry.session_id);
        let of_turn = session.zip(entry.turn_id.as_deref());
        let row = of_turn.and_then(|(session, turn_id)| self.named(session, turn_id));
        let queued = of_turn.and_then(|(session, turn_id)| {
            session.waiting(turn_id).map(|waiting| session.queued(waiting))
        });
        let message = row.map(|row| row.turn.message.clone());
        let message = message.or_else(|| Some(queued.as_ref()?.message.clone()));
        let asked = row.into_iter().flat_map(|row| &row.questions).find(|question| {
            entry.interaction.as_ref() == Some(&question.id) && question.is_pending()
        });
        FeedEntry {
            number: entry.number,
            change: entry.change,
            session_id: entry.session_id.clone(),
            turn_id: entry.turn_id.clone(),
            at: entry.at,
            begun: row.map(|row| (row.turn.index, row.turn.execution_id.clone())),
            position: queued.map(|queued| queued.position),
            message: message.filter(|_| entry.change.has_message()),
            interaction: entry.interaction.clone(),
            question: asked
                .filter(|_| entry.change == Change::Asked)
                .map(|question| question.data.clone()),
        }
    }

    /// Writes what came of a question, once.
    fn answered(&mut self, execution_id: &ExecutionId, id: &str, outcome: Outcome, at: SystemTime) {
        let row = self.turns.get_mut(execution_id);
        let Some(row) = row.filter(|row| row.state == TurnState::Open) else { return };
        match row.questions.iter_mut().find(|question| question.id == id) {
            Some(known) if !known.is_pending() => return,
            Some(pending) => pending.outcome = Some(outcome),
            None => row.questions.push(Question {
                id: id.to_owned(),
                data: String::new(),
                outcome: Some(outcome),
            }),
        }
        self.tell_of_question(execution_id, id, Change::Answered(outcome), at);
    }

    fn tell_of_question(
        &mut self,
        execution_id: &ExecutionId,
        id: &str,
        change: Change,
        at: SystemTime,
    ) {
        if let Some(row) = self.turns.get(execution_id) {
            let (session_id, turn_id) =
                (row.turn.session_id.clone(), Some(row.turn.turn_id.clone()));
            let interaction = Some(id.to_owned());
            self.tell_entry(Entry { number: 0, change, session_id, turn_id, interaction, at });
        }
    }

    /// A turn has ended: so have its questions, and inputs that its agent has not had become turns that wait.
    fn close_inbox(&mut self, execution_id: &ExecutionId, answer: &Answer, now: SystemTime) {
        let Some(row) = self.turns.get_mut(execution_id) else { return };
        row.questions.clear();
        let had = inputs_of(answer);
        let mut left = Vec::new();
        for noted in &mut row.intents {
            noted.decision.get_or_insert(Decision::GONE);
            if let Wish::Input { id, message } = &mut noted.intent.wish {
                let message = std::mem::take(message);
                if !had.contains(id) {
                    left.push((id.clone(), message));
                }
            }
        }
        let (session_id, agent) = (row.turn.session_id.clone(), row.turn.agent.clone());
        let is_stopped = row.stop_asked || row.state == TurnState::Stopped;
        for (id, message) in left {
            let known = |name: &str| -> Result<_, std::convert::Infallible> {
                let Some(session) = self.sessions.get(&session_id) else {
                    return Ok(Some(message.clone()));
                };
                let begun = self.named(session, name).map(|row| row.turn.message.clone());
                let waits = session.waiting(name).map(|waiting| waiting.asked.message.clone());
                let removed = session.removed.contains(name).then(String::new);
                Ok(begun.or(waits).or(removed))
            };
            let Ok(Some(turn_id)) = input_turn(&id, &message, known) else { continue };
            if let Some(session) = self.sessions.get_mut(&session_id) {
                let asked = Asked::words(message, agent.clone());
                session.queue.push(Waiting { turn_id: turn_id.clone(), asked, created_at: now });
            }
            self.tell(&session_id, Some(&turn_id), Change::Queued, now);
        }
        let session = self.sessions.get_mut(&session_id);
        if let Some(session) =
            session.filter(|session| is_stopped && !session.is_paused && !session.queue.is_empty())
        {
            session.is_paused = true;
            self.tell(&session_id, None, Change::SessionUpdated, now);
        }
    }

    fn touch(&mut self, session_id: &SessionId, now: SystemTime) {
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.active_at = now;
        }
    }

    /// Whether the execution is one of a deleted session.
    fn is_gone(&self, id: &ExecutionId) -> bool {
        self.gone.contains_key(id)
    }

    fn forget_old_tombstones(&mut self, now: SystemTime) {
        let Data { tombstones, gone, .. } = self;
        tombstones.retain(|id, tombstone| {
            let is_old = now.duration_since(tombstone.deleted_at).is_ok_and(|age| age > TOMBSTONE);
            !is_old || gone.values().any(|(session, is_erased)| session == id && !is_erased)
        });
        gone.retain(|_, (session, _)| tombstones.contains_key(session));
    }

    /// The turn of a session at an index.
    fn at(&self, session: &Session, index: u64) -> Option<&Row> {
        self.turns.get(session.turns.get(usize::try_from(index).ok()?)?)
    }

    /// The turns of a branch, newest first, from the one at `tip` on.
    fn branch<'a>(
        &'a self,
        session: &'a Session,
        tip: Option<u64>,
    ) -> impl Iterator<Item = &'a Row> {
        session.branches.up(tip).filter_map(|index| self.at(session, index))
    }

    fn open_of(&self, session: &Session) -> Option<&Row> {
        self.turns.get(session.open.as_ref()?)
    }

    /// A turn that had ended without an answer has one after all: those that have come behind it have more said before them.
    fn said_late(&mut self, execution_id: &ExecutionId, bytes: u64) {
        let turn = self.turns.get(execution_id).map(|row| &row.turn);
        let Some((session, index)) =
            turn.and_then(|turn| Some((self.sessions.get(&turn.session_id)?, turn.index)))
        else {
            return;
        };
        let mut behind = session.branches.children(Some(index)).to_vec();
        while let Some(index) = behind.pop() {
            behind.extend(session.branches.children(Some(index)));
            let id = usize::try_from(index).ok().and_then(|index| session.turns.get(index));
            if let Some(row) = id.and_then(|id| self.turns.get_mut(id)) {
                row.said_before.turns += 1;
                row.said_before.bytes += bytes;
            }
        }
    }
}

impl Session {
    fn info(&self, id: &SessionId) -> SessionInfo {
        let Session { name, title, archived, created_at, .. } = self;
        SessionInfo {
            id: id.clone(),
            name: name.clone(),
            title: title.clone(),
            archived: *archived,
            created_at: *created_at,
        }
    }

    /// The turn that waits under this name.
    fn waiting(&self, turn_id: &str) -> Option<&Waiting> {
        self.queue.iter().find(|waiting| waiting.turn_id == turn_id)
    }

    /// A turn that waits, with its place.
    fn queued(&self, waiting: &Waiting) -> QueuedTurn {
        let before = self.queue.iter().take_while(|before| before.turn_id != waiting.turn_id);
        let position = before.count() as u64 + 1;
        let Waiting { turn_id, asked, created_at } = waiting;
        let Asked { message, agent, client_id, .. } = asked;
        let (message, agent) = (message.clone(), agent.clone());
        QueuedTurn::new(turn_id.clone(), position, message, agent, client_id.clone(), *created_at)
    }
}

impl AsRef<Asked<Words>> for Waiting {
    fn as_ref(&self) -> &Asked<Words> {
        &self.asked
    }
}

fn is_over(renewed: SystemTime, now: SystemTime) -> bool {
    now.duration_since(renewed).is_ok_and(|since| since > LEASE)
}

fn broken(what: impl Into<turnkit::BoxError>) -> StoreError {
    StoreError::because(StoreErrorKind::Broken, what)
}

fn gone() -> StoreError {
    StoreError::new(StoreErrorKind::Gone)
}

const NOT_JOINED: &str = "the handle has not joined, or is closed";

impl ChatStore for MemoryStore {
    fn join(&self, log: LogId) -> Stored<'_, Joined> {
        self.stored(|now, data| {
            let lives_beside =
                |worker: &Worker| *worker != self.worker && data.is_alive(*worker, now);
            match &data.log {
                Some(known) if *known != log && data.workers.keys().any(lives_beside) => {
                    Ok(Joined::OtherLog(known.clone()))
                }
                _ => {
                    data.log = Some(log);
                    data.workers.insert(self.worker, now);
                    Ok(Joined::Member)
                }
            }
        })
    }

    fn renew(&self, held: Vec<Lease>) -> Stored<'_, Renewed> {
        self.stored(|now, data| {
            let Some(log) = data.log.clone().filter(|_| data.workers.contains_key(&self.worker))
            else {
                return Err(broken(NOT_JOINED));
            };
            data.workers.insert(self.worker, now);
            let mut ours: HashMap<ExecutionId, u64> = HashMap::new();
            for (id, row) in &mut data.turns {
                let claimed = row.claimed.as_mut().filter(|by| by.worker == self.worker);
                let Some(claimed) = claimed.filter(|by| !by.released) else { continue };
                if row.state != TurnState::Open {
                    continue;
                }
                if !held.iter().any(|lease| lease.execution_id == *id) && is_over(claimed.at, now) {
                    claimed.released = true;
                    self.kept.freed.ring();
                } else {
                    ours.insert(id.clone(), row.epoch);
                }
            }
            let is_lost = |lease: &Lease| ours.get(&lease.execution_id) != Some(&lease.epoch);
            let lost = held.into_iter().filter(is_lost).map(|lease| lease.execution_id).collect();
            Ok(Renewed { lost, log })
        })
    }

    fn move_log(&self, from: LogId, to: LogId) -> Stored<'_, LogId> {
        self.stored(|_, data| {
            if data.log.as_ref() == Some(&from) {
                data.log = Some(to);
            }
            Ok(data.log.clone().unwrap_or_else(unnamed_log))
        })
    }

    fn open_session(&self, owner: Principal, id: SessionId) -> Stored<'_, ()> {
        self.stored(|created_at, data| {
            if data.tombstones.contains_key(&id) {
                return Err(broken("a session's id was given out twice"));
            }
            if let Some(known) = data.sessions.get(&id) {
                // Asked again, as its answer was lost.
                let is_same = known.owner == owner && known.turns.is_empty();
                return if is_same {
                    Ok(())
                } else {
                    Err(broken("a session's id was given out twice"))
                };
            }
            let name = id.as_str().to_owned();
            data.open(owner, name, &id, created_at);
            Ok(())
        })
    }

    fn named(
        &self,
        owner: Principal,
        name: String,
        open: Option<SessionId>,
    ) -> Stored<'_, Option<SessionId>> {
        self.stored(|now, data| {
            if let Some(id) = data.names.get(&(owner.clone(), name.clone())) {
                return Ok(Some(id.clone()));
            }
            let rests = |tombstone: &Tombstone| {
                (&tombstone.owner, &tombstone.name) == (&owner, &name)
                    && now.duration_since(tombstone.deleted_at).is_ok_and(|age| age < NAME_RESTS)
            };
            if data.tombstones.values().any(rests) {
                return Ok(None);
            }
            if let Some(id) = &open {
                if data.sessions.contains_key(id) {
                    return Err(broken("a session's id was given out twice"));
                }
                data.open(owner, name, id, now);
            }
            Ok(open)
        })
    }

    fn sessions(&self, owner: Principal, page: SessionPage) -> Stored<'_, SessionList> {
        self.stored(|_, data| {
            let feed = data.feeds.entry(owner.clone()).or_insert_with(Feed::new).end();
            let before = match &page.before {
                None => u64::MAX,
                Some(id) => data.session(&owner, id).map_or(0, |session| session.number),
            };
            let mut ours: Vec<_> = data
                .sessions
                .iter()
                .filter(|(_, session)| session.owner == owner && session.number < before)
                .filter(|(_, session)| page.archived.is_none_or(|asked| asked == session.archived))
                .collect();
            ours.sort_by_key(|(_, session)| std::cmp::Reverse(session.number));
            let listed = ours.into_iter().take(page.limit as usize);
            let sessions = listed.map(|(id, session)| session.info(id)).collect();
            Ok(SessionList { sessions, feed })
        })
    }

    fn update_session(
        &self,
        owner: Principal,
        id: SessionId,
        update: SessionUpdate,
    ) -> Stored<'_, Option<SessionInfo>> {
        self.stored(|now, data| {
            let session = data.sessions.get_mut(&id).filter(|session| session.owner == owner);
            let Some(session) = session else {
                return Ok(None);
            };
            let before = session.info(&id);
            session.title = update.title.or(session.title.take());
            session.archived = update.archived.unwrap_or(session.archived);
            let info = session.info(&id);
            if info != before {
                data.tell(&id, None, Change::SessionUpdated, now);
            }
            Ok(Some(info))
        })
    }

    fn session(
        &self,
        owner: Principal,
        id: SessionId,
        page: MessagePage,
    ) -> Stored<'_, Option<SessionState>> {
        self.stored(|now, data| {
            let Some(session) = data.session(&owner, &id) else {
                return Ok(None);
            };
            let tip = match page.branch {
                None => session.branches.newest(),
                Some(branch) => session.branches.newest_descendant(branch),
            };
            let before = page.before.unwrap_or(u64::MAX);
            let start = tip.and_then(|tip| session.branches.newest_before(tip, before));
            let (mut newest_first, mut bytes) = (Vec::new(), 0);
            for row in data.branch(session, start).take(page.turns as usize) {
                if bytes > PAGE_BYTES {
                    break;
                }
                bytes += row.turn.message.len();
                let named = session.branches.children(row.turn.parent);
                let siblings = named.len() as u64;
                let named = &named[named.len().saturating_sub(MAX_SIBLINGS)..];
                let named = named.iter().filter_map(|index| data.at(session, *index));
                let sibling_ids: Vec<String> = if siblings > 1 {
                    named.map(|sibling| sibling.turn.turn_id.clone()).collect()
                } else {
                    Vec::new()
                };
                if let Some((answer, at)) = &row.answer {
                    bytes += answer_bytes(answer);
                    let mut answer = Message::answered(&row.turn, answer.clone(), *at);
                    answer.state = row.state;
                    answer.failure.clone_from(&row.failure);
                    answer.siblings = siblings;
                    answer.sibling_ids.clone_from(&sibling_ids);
                    newest_first.push(answer);
                }
                let asked = Message::asked(&row.turn, row.accepted_at);
                newest_first.push(Message { siblings, sibling_ids, ..asked });
            }
            newest_first.reverse();
            let open = data.open_of(session).map(|row| data.row(row, now));
            let turns = session.queue.iter().map(|waiting| session.queued(waiting));
            let queue = Queue { turns: turns.collect(), is_paused: session.is_paused };
            let Some(feed) = data.feeds.get(&owner).map(Feed::end) else {
                return Err(broken("a session whose owner has no feed"));
            };
            let asked = data.open_of(session).into_iter().flat_map(|row| &row.questions);
            let asked = asked.filter(|question| question.is_pending());
            let pending = asked.map(|question| question.data.clone()).collect();
            let info = session.info(&id);
            Ok(Some(SessionState { info, messages: newest_first, open, pending, queue, feed }))
        })
    }

    fn accept(&self, new: NewRow) -> Stored<'_, Accepted> {
        self.stored(|now, data| {
            let NewRow {
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
            } = new;
            let Some(session) = data.session(&owner, &session_id) else {
                return Ok(Accepted::NoSession);
            };
            let asked = Asked { message, agent, after, replaces, client_id, known_as: None };
            let own = match data.named(session, &turn_id) {
                Some(row) => {
                    Own::Begun { row: data.row(row, now), known_as: row.first_asked.clone() }
                }
                None => match session.waiting(&turn_id) {
                    Some(waiting) => Own::Waiting(waiting),
                    None if session.removed.contains(&turn_id) => Own::Removed,
                    None => Own::None,
                },
            };
            let facts = Facts {
                own,
                place: data.place_of(session, &asked),
                open: data.open_of(session).map(|row| row.turn.turn_id.clone()),
                newest: session.branches.newest(),
                waiting: session.queue.len(),
                is_paused: session.is_paused,
            };
            let verdict = acceptance::decide(&asked, queue, facts);
            let new = Waiting { turn_id: turn_id.clone(), asked, created_at: now };
            let opens_next = match verdict {
                Verdict::Told(accepted) => return Ok(accepted),
                Verdict::Queued(waiting) => return Ok(Accepted::Queued(session.queued(waiting))),
                Verdict::Open { parent } => {
                    if let Some(session) = data.sessions.get_mut(&session_id) {
                        session.title = session.title.take().or(title);
                    }
                    let id = data.open_turn(&session_id, new, parent, now)?;
                    let row = data.turns.get(&id);
                    let row = row.ok_or_else(|| broken("a turn that was just accepted is gone"))?;
                    return Ok(Accepted::New(data.row(row, now)));
                }
                Verdict::Wait { opens_next } => opens_next,
            };
            let mut was_paused = false;
            if let Some(session) = data.sessions.get_mut(&session_id) {
                session.queue.push(new);
                session.active_at = now;
                was_paused = std::mem::replace(&mut session.is_paused, false);
            }
            data.tell(&session_id, Some(&turn_id), Change::Queued, now);
            if was_paused {
                data.tell(&session_id, None, Change::SessionUpdated, now);
            }
            if opens_next {
                data.open_next(&session_id, now)?;
                self.kept.freed.ring();
            }
            let session = data.session(&owner, &session_id);
            let queued = session.and_then(|session| {
                session.waiting(&turn_id).map(|waiting| session.queued(waiting))
            });
            queued
                .map(Accepted::Queued)
                .ok_or_else(|| broken("a turn that was just queued is gone"))
        })
    }

    fn change_queued(
        &self,
        owner: Principal,
        at: TurnRef,
        change: QueueChange,
    ) -> Stored<'_, QueueChanged> {
        self.stored(|now, data| {
            let session = data.sessions.get_mut(&at.session_id);
            let Some(session) = session.filter(|session| session.owner == owner) else {
                return Ok(QueueChanged::NoSession);
            };
            let place = session.queue.iter().position(|waiting| waiting.turn_id == at.turn_id);
            let Some(place) = place else {
                return Ok(if session.by_name.contains_key(&at.turn_id) {
                    QueueChanged::Started
                } else if session.removed.contains(&at.turn_id) {
                    QueueChanged::Removed
                } else {
                    QueueChanged::NoTurn
                });
            };
            match change {
                QueueChange::Edit { message, agent } => {
                    let changes = session.queue[place].asked.edit(message, agent);
                    let edited = session.queued(&session.queue[place]);
                    if changes {
                        data.tell(&at.session_id, Some(&at.turn_id), Change::Edited, now);
                    }
                    Ok(QueueChanged::Edited(edited))
                }
                QueueChange::Remove => {
                    session.queue.remove(place);
                    session.removed.insert(at.turn_id.clone());
                    session.is_paused &= !session.queue.is_empty();
                    data.tell(&at.session_id, Some(&at.turn_id), Change::Removed, now);
                    Ok(QueueChanged::Removed)
                }
            }
        })
    }

    fn find(&self, what: Find) -> Stored<'_, Found> {
        self.stored(|now, data| {
            let id = match &what {
                Find::Execution(id) if data.is_gone(id) => return Ok(Found::Gone),
                Find::Execution(id) => Some(id),
                Find::OfUser(owner, turn_id) => {
                    let ours = || data.sessions.values().filter(|session| session.owner == *owner);
                    let number = |id: &&ExecutionId| data.turns.get(*id).map(|row| row.number);
                    let named = ours().filter_map(|session| session.by_name.get(turn_id));
                    let given = || ours().filter_map(|session| session.by_given_name.get(turn_id));
                    named.max_by_key(number).or_else(|| given().max_by_key(number))
                }
                Find::Named(owner, at) => match data.session(owner, &at.session_id) {
                    None => return Ok(Found::NoSession),
                    Some(session) if session.removed.contains(&at.turn_id) => {
                        return Ok(Found::Removed);
                    }
                    Some(session) => match session.waiting(&at.turn_id) {
                        Some(waiting) => return Ok(Found::Queued(session.queued(waiting))),
                        None => session
                            .by_name
                            .get(&at.turn_id)
                            .or_else(|| session.by_given_name.get(&at.turn_id)),
                    },
                },
            };
            let row = id.and_then(|id| data.turns.get(id));
            Ok(row.map_or(Found::NoTurn, |row| Found::Turn(data.row(row, now))))
        })
    }

    fn name_turn(&self, owner: Principal, at: TurnRef, name: String) -> Stored<'_, ()> {
        self.stored(|_, data| {
            let Some(session) = data.sessions.get_mut(&at.session_id) else { return Ok(()) };
            let id = session.by_name.get(&at.turn_id).filter(|_| session.owner == owner).cloned();
            let Some((id, row)) = id.and_then(|id| data.turns.get_mut(&id).map(|row| (id, row)))
            else {
                return Ok(());
            };
            if session.by_given_name.contains_key(&name) {
                return Ok(());
            }
            session.by_given_name.insert(name.clone(), id);
            row.given_names.push_back(name);
            if row.given_names.len() > MAX_NAMES
                && let Some(oldest) = row.given_names.pop_front()
            {
                session.by_given_name.remove(&oldest);
            }
            Ok(())
        })
    }

    fn siblings(&self, owner: Principal, at: TurnRef) -> Stored<'_, Option<Siblings>> {
        self.stored(|now, data| {
            let Some(session) = data.session(&owner, &at.session_id) else {
                return Ok(None);
            };
            let row = session.by_name.get(&at.turn_id).and_then(|id| data.turns.get(id));
            Ok(row.and_then(|row| {
                let siblings = session.branches.children(row.turn.parent);
                let newest = data.row(data.at(session, *siblings.last()?)?, now);
                Some(Siblings { count: siblings.len() as u64, newest })
            }))
        })
    }

    fn claim(&self, claim: Claim) -> Stored<'_, Claimed> {
        self.stored(|now, data| {
            if !data.workers.contains_key(&self.worker) {
                return Err(broken(NOT_JOINED));
            }
            if data.is_gone(&claim.execution_id) {
                return Err(gone());
            }
            let is_held =
                data.turns.get(&claim.execution_id).is_some_and(|row| data.is_held(row, now));
            let Some(row) = data.turns.get_mut(&claim.execution_id) else {
                return Ok(Claimed::Refused);
            };
            if row.state != TurnState::Open {
                return Ok(Claimed::Refused);
            }
            let granted = |ran, epoch| {
                let lease = Lease { execution_id: claim.execution_id.clone(), epoch };
                if ran { Claimed::Run(lease) } else { Claimed::Attach(lease) }
            };
            // The same claim again: its answer was lost.
            let own = row.claimed.as_ref();
            if let Some(own) =
                own.filter(|own| own.worker == self.worker && own.nonce == claim.nonce)
            {
                return Ok(granted(own.ran, row.epoch));
            }
            let would_run = !row.dispatched;
            if is_held || row.epoch != claim.seen_epoch || (would_run && !claim.may_run) {
                return Ok(Claimed::Refused);
            }
            row.dispatched = true;
            row.epoch += 1;
            let (worker, nonce) = (self.worker, claim.nonce);
            row.claimed =
                Some(Claimant { worker, nonce, ran: would_run, at: now, released: false });
            Ok(granted(would_run, row.epoch))
        })
    }

    fn release(&self, lease: Lease) -> Stored<'_, ()> {
        self.stored(|_, data| {
            if let Some(row) = data.turns.get_mut(&lease.execution_id)
                && row.epoch == lease.epoch
                && let Some(claimed) = &mut row.claimed
            {
                claimed.released = true;
                self.kept.freed.ring();
            }
            Ok(())
        })
    }

    fn save(&self, execution_id: ExecutionId, answer: Answer) -> Stored<'_, Persisted> {
        self.stored(|now, data| {
            if data.is_gone(&execution_id) {
                return Err(gone());
            }
            let Some(row) = data.turns.get_mut(&execution_id) else {
                return Err(broken("an answer of no turn"));
            };
            if row.state == TurnState::Complete {
                return Ok(Persisted::AlreadySaved);
            }
            let was_open = row.state == TurnState::Open;
            row.state = TurnState::Complete;
            row.failure = None;
            row.answer = Some((answer.clone(), now));
            row.said = said_bytes(&row.turn.message, &answer);
            let session_id = row.turn.session_id.clone();
            let turn_id = row.turn.turn_id.clone();
            if let Some(bytes) = row.said.filter(|_| !was_open) {
                data.said_late(&execution_id, bytes);
            }
            data.touch(&session_id, now);
            data.tell(&session_id, Some(&turn_id), Change::Ended(TurnState::Complete), now);
            if was_open {
                data.close_inbox(&execution_id, &answer, now);
                self.go_on(data, &session_id, now)?;
            }
            Ok(Persisted::Saved)
        })
    }

    fn end(&self, by: EndedBy, ending: Ending) -> Stored<'_, bool> {
        self.stored(|now, data| {
            if data.is_gone(by.execution_id()) {
                return Err(gone());
            }
            let Some(row) = data.turns.get_mut(by.execution_id()) else {
                return Err(broken("an ending of no turn"));
            };
            let is_fenced = matches!(&by, EndedBy::Lease(lease) if lease.epoch != row.epoch);
            if row.state != TurnState::Open || is_fenced {
                return Ok(false);
            }
            row.state = ending.state();
            row.failure = Some(ending.failure);
            row.answer = Some((ending.partial.clone(), now));
            let session_id = row.turn.session_id.clone();
            let (turn_id, state) = (row.turn.turn_id.clone(), row.state);
            data.touch(&session_id, now);
            data.tell(&session_id, Some(&turn_id), Change::Ended(state), now);
            data.close_inbox(by.execution_id(), &ending.partial, now);
            self.go_on(data, &session_id, now)?;
            Ok(true)
        })
    }

    fn note(&self, execution_id: ExecutionId, told: Vec<Told>) -> Stored<'_, ()> {
        self.stored(|now, data| {
            if data.is_gone(&execution_id) {
                return Err(gone());
            }
            for told in told {
                match told {
                    Told::Answered { id, outcome } => {
                        data.answered(&execution_id, &id, outcome, now);
                    }
                    Told::Asked { id, question } => {
                        let row = data.turns.get_mut(&execution_id);
                        let row = row.filter(|row| row.state == TurnState::Open);
                        if let Some(row) = row
                            && row.questions.iter().all(|known| known.id != id)
                        {
                            row.questions.push(Question {
                                id: id.clone(),
                                data: question,
                                outcome: None,
                            });
                            data.tell_of_question(&execution_id, &id, Change::Asked, now);
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn intend(&self, owner: Principal, at: TurnRef, wish: Wish) -> Stored<'_, Intended> {
        self.stored(|now, data| {
            let Some(session) = data.session(&owner, &at.session_id) else {
                return Ok(Intended::NoSession);
            };
            let id = session.by_name.get(&at.turn_id).cloned();
            let Some((id, row)) = id.and_then(|id| Some((id.clone(), data.turns.get(&id)?))) else {
                return Ok(if session.removed.contains(&at.turn_id) {
                    Intended::Removed
                } else if session.waiting(&at.turn_id).is_some() {
                    Intended::Queued
                } else {
                    Intended::NoTurn
                });
            };
            if row.state != TurnState::Open {
                let kept = row.answer.as_ref().map(|(answer, _)| answer);
                return Ok(Intended::of_ended(data.row(row, now), &wish, kept));
            }
            let number = data.intended + 1;
            let Some(row) = data.turns.get_mut(&id) else { return Ok(Intended::NoTurn) };
            if let Some(known) = row.intents.iter().find(|noted| noted.intent.wish == wish) {
                return Ok(Intended::Noted(known.intent.clone()));
            }
            let is_answer = matches!(wish, Wish::Answer { .. });
            let is_alike =
                |noted: &Noted| matches!(noted.intent.wish, Wish::Answer { .. }) == is_answer;
            if row.intents.iter().filter(|noted| is_alike(noted)).count() >= wish.limit() {
                let gives_way =
                    |noted: &Noted| is_answer && is_alike(noted) && noted.decision.is_some();
                match row.intents.iter().position(gives_way) {
                    Some(oldest) => drop(row.intents.remove(oldest)),
                    None => return Ok(Intended::Full),
                }
            }
            let intent = Intent { number, execution_id: id, by: owner.user_id, wish };
            row.intents.push(Noted { intent: intent.clone(), decision: None });
            data.intended = number;
            Ok(Intended::Noted(intent))
        })
    }

    fn decide(&self, intent: u64, decision: Decision) -> Stored<'_, ()> {
        self.stored(|now, data| {
            let is_it = |noted: &Noted| noted.intent.number == intent && noted.decision.is_none();
            let row = data.turns.values_mut().find(|row| row.intents.iter().any(is_it));
            let Some(row) = row else { return Ok(()) };
            let Some(place) = row.intents.iter().position(is_it) else { return Ok(()) };
            let Noted { intent, decision: decided } = &mut row.intents[place];
            *decided = Some(decision);
            let Intent { execution_id, wish, .. } = intent.clone();
            if !decision.is_kept(&wish) {
                row.intents.remove(place);
            }
            if let (Wish::Answer { interaction, .. }, Some(outcome)) = (&wish, decision.outcome) {
                data.answered(&execution_id, interaction, outcome, now);
            }
            Ok(())
        })
    }

    fn undecided(&self, after: u64, limit: usize) -> Stored<'_, Vec<Intent>> {
        self.stored(|_, data| {
            let open = data.turns.values().filter(|row| row.state == TurnState::Open);
            let left = open.flat_map(|row| &row.intents).filter(|noted| noted.decision.is_none());
            let left = left.filter(|noted| noted.intent.number > after);
            let left: BTreeMap<u64, &Intent> =
                left.map(|noted| (noted.intent.number, &noted.intent)).collect();
            Ok(left.into_values().take(limit).cloned().collect())
        })
    }

    fn ask_to_stop(&self, execution_id: ExecutionId) -> Stored<'_, ()> {
        self.stored(|now, data| {
            let Some(row) = data.turns.get_mut(&execution_id) else {
                return Ok(());
            };
            row.stop_asked |= row.state == TurnState::Open;
            let (session_id, index) = (row.turn.session_id.clone(), row.turn.index);
            let mut is_new = false;
            if let Some(session) = data.sessions.get_mut(&session_id) {
                // Of those that came after it only the newest can be open.
                let after = (session.turns.len() as u64).saturating_sub(index + 1);
                let is_past = after > u64::from(session.open.is_some());
                is_new = !is_past && !session.queue.is_empty() && !session.is_paused;
                session.is_paused |= is_new;
            }
            if is_new {
                data.tell(&session_id, None, Change::SessionUpdated, now);
            }
            Ok(())
        })
    }

    fn saved(&self, execution_id: ExecutionId) -> Stored<'_, Option<Answer>> {
        self.stored(|_, data| {
            if data.is_gone(&execution_id) {
                return Err(gone());
            }
            let row = data.turns.get(&execution_id).filter(|row| row.state == TurnState::Complete);
            Ok(row.and_then(|row| row.answer.as_ref()).map(|(answer, _)| answer.clone()))
        })
    }

    fn unattended(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.stored(|now, data| {
            let open = data.turns.values().filter(|row| row.state == TurnState::Open);
            let free: BTreeMap<u64, ExecutionId> = open
                .filter(|row| !data.is_held(row, now))
                .map(|row| (row.number, row.turn.execution_id.clone()))
                .collect();
            Ok(free.into_values().take(limit).collect())
        })
    }

    fn history(&self, turn: Turn, limits: HistoryLimits) -> Stored<'_, History> {
        self.stored(|_, data| {
            let Some(session) = data.sessions.get(&turn.session_id) else {
                return Ok(History::default());
            };
            let mut history = HistoryBuilder::new(limits);
            for row in data.branch(session, turn.parent) {
                if history.is_full() {
                    history.omit(row.said_until());
                    break;
                }
                if let Some((answer, _)) = row.answer.as_ref().filter(|_| row.said.is_some()) {
                    history.take(said_in(&row.turn.message, answer));
                }
            }
            let before = turn.parent.and_then(|parent| data.at(session, parent));
            let before = before
                .filter(|row| row.state == TurnState::Complete && row.turn.agent == turn.agent);
            let others = session.branches.children(turn.parent).iter();
            let mut others = others.filter(|index| **index != turn.index);
            let goes_on = |index: &u64| {
                data.at(session, *index).is_some_and(|other| other.turn.agent == turn.agent)
            };
            let answer =
                before.filter(|_| !others.any(goes_on)).and_then(|row| row.answer.as_ref());
            let agent_session =
                answer.and_then(|(answer, _)| answer.summary.agent_session_id.clone());
            Ok(history.build(agent_session))
        })
    }

    fn woken(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.kept.freed.rung(&self.heard))
    }

    fn feed(&self, owner: Principal, read: FeedRead) -> Stored<'_, FeedPage> {
        self.stored(|_, data| {
            data.feeds.entry(owner.clone()).or_insert_with(Feed::new);
            let Some(feed) = data.feeds.get(&owner) else {
                return Err(broken("a feed that was just made is gone"));
            };
            let FeedRead { after, session, limit } = read;
            let Some(after) = after else {
                return Ok(FeedPage::Entries(Vec::new(), feed.end()));
            };
            if after.feed != feed.id || !(feed.dropped..=feed.newest).contains(&after.number) {
                return Ok(FeedPage::Expired);
            }
            let is_it = |entry: &&Entry| {
                entry.number > after.number
                    && session.as_ref().is_none_or(|session| entry.session_id == *session)
            };
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for entry in feed.entries.iter().filter(is_it) {
                if entries.len() == limit || bytes > FEED_PAGE_BYTES {
                    let number =
                        entries.last().map_or(after.number, |last: &FeedEntry| last.number);
                    return Ok(FeedPage::Entries(entries, FeedId { number, ..after }));
                }
                let entry = data.told(entry);
                let texts = [&entry.message, &entry.question].into_iter().flatten();
                bytes += texts.map(String::len).sum::<usize>();
                entries.push(entry);
            }
            Ok(FeedPage::Entries(entries, feed.end()))
        })
    }

    fn version(&self) -> Stored<'_, u64> {
        self.stored(|_, data| Ok(data.version))
    }

    fn delete_session(&self, deletion: Deletion) -> Stored<'_, bool> {
        self.stored(|now, data| {
            let Deletion { owner, session_id, if_idle_since } = deletion;
            let Some(session) = data.session(&owner, &session_id) else {
                let tombstone = data.tombstones.get(&session_id);
                return Ok(tombstone.is_some_and(|tombstone| tombstone.owner == owner));
            };
            if if_idle_since.is_some_and(|since| session.active_at > since) {
                return Ok(false);
            }
            let Some(session) = data.sessions.remove(&session_id) else {
                return Ok(false);
            };
            data.names.remove(&(owner.clone(), session.name.clone()));
            for id in session.turns {
                // What was neither dispatched nor stopped is at no substrate, and nobody can claim it any more: a stop binds an id that
                // never ran.
                let row = data.turns.remove(&id);
                let is_erased = !row.is_some_and(|row| row.dispatched || row.stop_asked);
                data.gone.insert(id, (session_id.clone(), is_erased));
            }
            if let Some(feed) = data.feeds.get_mut(&owner) {
                feed.entries.retain(|entry| entry.session_id != session_id);
            }
            let deleted = Entry {
                number: 0,
                change: Change::SessionDeleted,
                session_id: session_id.clone(),
                turn_id: None,
                interaction: None,
                at: now,
            };
            data.tell_owner(owner.clone(), deleted);
            let tombstone = Tombstone { owner, name: session.name, deleted_at: now };
            data.tombstones.insert(session_id, tombstone);
            data.forget_old_tombstones(now);
            Ok(true)
        })
    }

    fn idle_sessions(
        &self,
        since: SystemTime,
        limit: usize,
    ) -> Stored<'_, Vec<(Principal, SessionId)>> {
        self.stored(|_, data| {
            let idle = data.sessions.iter().filter(|(_, session)| session.active_at <= since);
            let mut idle: Vec<_> = idle.collect();
            idle.sort_by_key(|(_, session)| (session.active_at, session.number));
            let idle = idle.into_iter().take(limit);
            Ok(idle.map(|(id, session)| (session.owner.clone(), id.clone())).collect())
        })
    }

    fn to_erase(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.stored(|_, data| {
            let left = data.gone.iter().filter(|(_, (_, is_erased))| !is_erased);
            let mut left: Vec<_> = left.map(|(id, _)| id.clone()).collect();
            left.sort();
            left.truncate(limit);
            Ok(left)
        })
    }

    fn erased(&self, executions: Vec<ExecutionId>) -> Stored<'_, ()> {
        self.stored(|now, data| {
            for id in executions {
                if let Some((_, is_erased)) = data.gone.get_mut(&id) {
                    *is_erased = true;
                }
            }
            data.forget_old_tombstones(now);
            Ok(())
        })
    }

    fn check(&self) -> Stored<'_, ()> {
        self.stored(|_, _| Ok(()))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.is_closed.store(true, Relaxed);
        self.data().workers.remove(&self.worker);
        self.kept.freed.ring();
        Box::pin(ready(()))
    }

    fn sign_ins(&self) -> Option<&dyn SignIns> {
        Some(self)
    }
}

impl SignIns for MemoryStore {
    fn sign_in(&self, secret: Digest, token: Digest, lasts: Duration) -> Stored<'_, ()> {
        self.stored(|now, data| {
            data.sign_ins.retain(|sign_in| sign_in.ends_at > now);
            let sign_in = SignIn { secret, token, ends_at: now + lasts };
            // The same one again: the answer to the first was lost.
            match data.sign_ins.iter_mut().find(|known| known.secret == secret) {
                Some(known) => *known = sign_in,
                None => data.sign_ins.push(sign_in),
            }
            let mut of_token = data.sign_ins.iter().filter(|sign_in| sign_in.token == token);
            if let Some(oldest) = of_token.next().map(|sign_in| sign_in.secret)
                && of_token.count() == MAX_SIGN_INS
            {
                data.sign_ins.retain(|sign_in| sign_in.secret != oldest);
            }
            Ok(())
        })
    }

    fn signed_in(&self, secret: Digest) -> Stored<'_, Option<Digest>> {
        self.stored(|now, data| {
            let ours = |sign_in: &&SignIn| sign_in.secret == secret && sign_in.ends_at > now;
            Ok(data.sign_ins.iter().find(ours).map(|sign_in| sign_in.token))
        })
    }

    fn sign_out(&self, secret: Digest) -> Stored<'_, ()> {
        self.stored(|_, data| {
            data.sign_ins.retain(|sign_in| sign_in.secret != secret);
            Ok(())
        })
    }
}
