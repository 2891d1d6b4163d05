//! Each rule of the contract finds the stores that break it, and says which rule it is and what to look for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use futures_core::future::BoxFuture;
use tokio::task::yield_now;
use turnkit::Persisted;
use turnkit_chat::store::memory::MemoryStore;
use turnkit_chat::store::{
    Accepted, Claim, Claimed, Decision, Deletion, Digest, EndedBy, FeedPage, FeedRead, Find, Found,
    History, HistoryLimits, Intended, Intent, Joined, LEASE, Lease, MessagePage, NewRow, Omitted,
    QueueChange, QueueChanged, Renewed, SessionList, SessionPage, SessionState, SessionUpdate,
    Siblings, SignIns, Stored, Told, TurnRow, Veto, Wish,
};
use turnkit_chat::{
    Answer, AnswerPart, ChatStore, Ending, Failure, Message, PartKind, Principal, QueuedTurn, Role,
    Said, SessionId, SessionInfo, StoreError, StoreErrorKind, Turn, TurnRef, TurnState,
};
use turnkit_id::{ExecutionId, LogId};
use turnkit_testkit::chat_store_contract;
use turnkit_testkit::store_contract::{
    self, FAILING, REFUSED, Schema, Statements, StoreFixture, Written,
};

use super::in_memory::Clock;

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    /// Nothing: the store around the other one keeps the contract.
    Nothing,
    AcceptsAfterLooking,
    ForgetsWhatWasAsked,
    SkipsAnIndex,
    CountsOverAllSessions,
    OpensASecondTurn,
    ClaimsAfterLooking,
    ForgetsTheNonce,
    RunsAgain,
    RunsForWhoMayNot,
    ComparesNoEpoch,
    TakesHeldLeases,
    EndsForAnyEpoch,
    ReleasesAnyEpoch,
    SavesForTheHolderOnly,
    TellsNoLoss,
    LeasesRunFast,
    LeasesNeverEnd,
    LeasesEndAfterTheClaim,
    RenewsWhatIsNotNamed,
    ReleasesWhatWasJustClaimed,
    TakesAnyLog,
    MovesTheLogForAnybody,
    ClaimsWithoutJoining,
    ListsTwice,
    ListsTheNewestFirst,
    ListsHeldTurns,
    LimitsBeforeItLooks,
    SavesAfterLooking,
    KeepsTheLastAnswer,
    SavesForNoTurn,
    SavesOpenTurnsOnly,
    KeepsThePartBesideTheAnswer,
    EndsAgain,
    EndsAfterLooking,
    MixesEndings,
    LosesTheStop,
    KeepsTheStopWithTheLease,
    StopsWhatHasEnded,
    OpensTwoThatWait,
    QueuesWithoutBound,
    TellsPlacesFromNought,
    StopsOpenTurnsOnly,
    OvertakesThoseThatWait,
    EditsWhatHasBegun,
    ForgetsWhatWasRemoved,
    ForgetsQuestions,
    AsksAgain,
    TakesTheIntentForTheAnswer,
    NotesAWishTwice,
    PassesOnWhatIsDecided,
    LosesInputs,
    RepeatsInputs,
    SavesOntoATombstone,
    ForgetsWhatWasDeleted,
    ForgetsToErase,
    FreesNamesAtOnce,
    DeletesWhatIsUsed,
    TellsAnEntryTwice,
    LosesAnEntry,
    TakesAnyPlace,
    WritesForKnownTurns,
    WritesForSavedAnswers,
    WritesForLateEndings,
    WritesBeforeItAsks,
    KeepsWhatWasRefused,
    SwallowsFailures,
    SavesInTwoSteps,
    KeepsALock,
    WaitsForEver,
    LeavesLeasesToRunOut,
    GoesOnOnceClosed,
    OpensWhatIsNewer,
    WritesBeforeItReadsTheVersion,
    MigratesTwice,
    FailsWhereAnotherMigrates,
    ForgetsTheTenant,
    GivesASessionTwice,
    SortsById,
    CutsTitlesAtBytes,
    NamesItAgain,
    MixesArchives,
    TellsWhatIsSo,
    TearsTurns,
    TrimsText,
    SendsTheTurnItself,
    IgnoresTheBytes,
    SendsWhatFailed,
    CountsNothing,
    LooksNamesUp,
    GivesNamesToAll,
    GivesNamesAnew,
    KeepsEveryName,
    KeepsTheTextAlone,
    CountsTheWholeSession,
    CountsNoLateAnswer,
    TakesPagesOfTheNewestBranch,
    EditsTwice,
    ListsFromTheFirst,
    GoesOnWithAnySession,
    NamesTheNewestFirst,
    KeepsSignInsForEver,
    CountsASignInTwice,
    PassesNoSignInsOn,
}

/// One database with the mistake of all its handles. It has everything that a store can have.
struct Fixture {
    mistake: Mistake,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    clock: Clock,
    data: Mutex<Data>,
    is_locked: AtomicBool,
    refused: AtomicU64,
}

#[derive(Default)]
struct Data {
    root: Option<Arc<MemoryStore>>,
    version: u32,
    changes: u8,
    written: HashMap<ExecutionId, Written>,
    /// In the order of their accepts.
    turns: Vec<ExecutionId>,
    nonces: HashSet<u128>,
    claimed_at: HashMap<ExecutionId, SystemTime>,
    answers: HashMap<ExecutionId, String>,
    parts: HashMap<ExecutionId, String>,
    failures: HashMap<ExecutionId, Failure>,
    stops: HashSet<ExecutionId>,
    /// Questions that were asked when they were known already.
    asked_again: Vec<String>,
    inputs: HashSet<String>,
    /// The turn that each name was given last.
    given: HashMap<String, TurnRef>,
    /// What was left out of a history when its turn was accepted.
    omitted: HashMap<ExecutionId, Omitted>,
}

impl Shared {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }
}

impl Fixture {
    fn new(mistake: Mistake) -> Fixture {
        Fixture { mistake, shared: Arc::default() }
    }
}

impl StoreFixture for Fixture {
    type Store = Wrong;
    type Statements = Fixture;
    type Schema = Fixture;
    const KEEPS_SIGN_INS: bool = true;

    async fn open(&self) -> Result<Wrong, StoreError> {
        let new_root = || {
            let shared = Arc::clone(&self.shared);
            Arc::new(MemoryStore::with_clock(move || shared.clock.now()))
        };
        if self.mistake == Mistake::WritesBeforeItReadsTheVersion {
            self.shared.data().changes += 1;
        }
        if self.shared.data().version > 1 && self.mistake != Mistake::OpensWhatIsNewer {
            return Err(StoreError::new(StoreErrorKind::Newer));
        }
        let is_new = self.shared.data().root.is_none();
        if matches!(self.mistake, Mistake::MigratesTwice | Mistake::FailsWhereAnotherMigrates) {
            yield_now().await;
        }
        let mut data = self.shared.data();
        if is_new && data.root.is_some() && self.mistake == Mistake::FailsWhereAnotherMigrates {
            let exists = "the table exists already";
            return Err(StoreError::because(StoreErrorKind::Broken, exists));
        }
        if is_new && self.mistake == Mistake::MigratesTwice {
            data.root = None;
        }
        let root = Arc::clone(data.root.get_or_insert_with(new_root));
        let handle = Mutex::new(Arc::new(root.beside()));
        let (mistake, shared) = (self.mistake, Arc::clone(&self.shared));
        Ok(Wrong { mistake, shared, handle, leases: Mutex::default() })
    }

    async fn advance(&self, by: Duration) {
        self.shared.clock.advance(match self.mistake {
            Mistake::LeasesRunFast => by * 2,
            Mistake::LeasesNeverEnd => by / 100,
            _ => by,
        });
    }
}

impl Statements<Fixture> for Fixture {
    async fn written(fixture: &Fixture, execution_id: &ExecutionId) -> Written {
        fixture.shared.data().written.get(execution_id).copied().unwrap_or_default()
    }
}

impl Schema<Fixture> for Fixture {
    async fn make_older(_: &Fixture) {}

    async fn make_newer(fixture: &Fixture) {
        fixture.shared.data().version = 2;
    }

    async fn dump(fixture: &Fixture) -> Vec<u8> {
        vec![fixture.shared.data().changes]
    }
}

/// A handle that makes the mistake around one that does not.
struct Wrong {
    mistake: Mistake,
    shared: Arc<Shared>,
    handle: Mutex<Arc<MemoryStore>>,
    /// What this worker has claimed.
    leases: Mutex<Vec<Lease>>,
}

impl Wrong {
    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.shared.data()
    }

    fn handle(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.handle.lock().unwrap())
    }

    async fn row(&self, id: &ExecutionId) -> Option<TurnRow> {
        match self.handle().find(Find::Execution(id.clone())).await {
            Ok(Found::Turn(row)) => Some(row),
            _ => None,
        }
    }

    /// Waits for the others to look as well, if this is the mistake.
    async fn has_only_looked(&self, mistake: Mistake) {
        if self.makes(mistake) {
            yield_now().await;
        }
    }

    fn writes(&self, id: &ExecutionId, write: impl FnOnce(&mut Written)) {
        write(self.data().written.entry(id.clone()).or_default());
    }

    fn owner(&self, owner: Principal) -> Principal {
        if self.makes(Mistake::ForgetsTheTenant) {
            Principal { tenant_id: "tenant".to_owned(), ..owner }
        } else {
            owner
        }
    }

    /// Runs the product's statements for the turn that came out of the queue behind `row`, and refuses it where they do.
    async fn opened_after(&self, row: &TurnRow) -> Result<(), StoreError> {
        let Turn { owner, session_id, .. } = &row.turn;
        let (handle, newest) = (self.handle(), MessagePage::newest(0));
        let session = || handle.session(owner.clone(), session_id.clone(), newest);
        let mut opened = 0;
        while let Some(open) = session().await?.and_then(|state| state.open) {
            let id = open.turn.execution_id;
            let is_new = !self.data().turns.contains(&id);
            if !is_new {
                break;
            }
            self.data().turns.push(id.clone());
            let failure =
                |code: &str| Failure { code: Some(code.to_owned()), message: "no".to_owned() };
            opened += 1;
            if [REFUSED, FAILING].contains(&&*open.turn.message) {
                let refused = Ending::failed(failure("refused"), "");
                self.handle().end(EndedBy::Log(id), refused).await?;
            } else if self.makes(Mistake::OpensTwoThatWait) && opened == 1 {
                self.handle().end(EndedBy::Log(id), Ending::failed(failure("two"), "")).await?;
            } else {
                self.writes(&id, |written| written.accepted += 1);
            }
        }
        Ok(())
    }

    /// The row as this store tells it.
    fn told(&self, mut row: TurnRow) -> TurnRow {
        let data = self.data();
        let id = &row.turn.execution_id;
        match self.mistake {
            Mistake::LeasesEndAfterTheClaim => {
                let claimed = data.claimed_at.get(id).copied();
                row.is_held &= claimed.is_some_and(|at| self.shared.clock.now() < at + LEASE);
            }
            Mistake::MixesEndings if row.failure.is_some() => {
                row.failure = data.failures.get(id).cloned();
            }
            Mistake::KeepsTheStopWithTheLease | Mistake::StopsWhatHasEnded => {
                row.stop_asked = data.stops.contains(id);
            }
            _ => {}
        }
        row
    }
}

impl ChatStore for Wrong {
    fn join(&self, log: LogId) -> Stored<'_, Joined> {
        Box::pin(async move {
            match self.handle().join(log.clone()).await? {
                Joined::OtherLog(other) if self.makes(Mistake::TakesAnyLog) => {
                    self.handle().move_log(other, log.clone()).await?;
                    self.handle().join(log).await
                }
                joined => Ok(joined),
            }
        })
    }

    fn renew(&self, mut held: Vec<Lease>) -> Stored<'_, Renewed> {
        Box::pin(async move {
            let leases = self.leases.lock().unwrap().clone();
            for lease in leases {
                if held.contains(&lease) {
                    continue;
                }
                if self.makes(Mistake::ReleasesWhatWasJustClaimed) {
                    self.handle().release(lease).await?;
                } else if self.makes(Mistake::RenewsWhatIsNotNamed) {
                    held.push(lease);
                }
            }
            let mut renewed = self.handle().renew(held).await?;
            if self.makes(Mistake::TellsNoLoss) {
                renewed.lost.clear();
            }
            Ok(renewed)
        })
    }

    fn move_log(&self, from: LogId, to: LogId) -> Stored<'_, LogId> {
        Box::pin(async move {
            let named = self.handle().move_log(from, to.clone()).await?;
            if self.makes(Mistake::MovesTheLogForAnybody) {
                return self.handle().move_log(named, to).await;
            }
            Ok(named)
        })
    }

    fn open_session(&self, owner: Principal, id: SessionId) -> Stored<'_, ()> {
        Box::pin(async move {
            match self.handle().open_session(owner, id).await {
                Err(error)
                    if self.makes(Mistake::GivesASessionTwice)
                        && error.kind() == StoreErrorKind::Broken =>
                {
                    Ok(())
                }
                opened => opened,
            }
        })
    }

    fn named(
        &self,
        owner: Principal,
        name: String,
        open: Option<SessionId>,
    ) -> Stored<'_, Option<SessionId>> {
        Box::pin(async move {
            if self.makes(Mistake::LooksNamesUp) {
                let looked = self.handle().named(owner.clone(), name.clone(), None).await?;
                yield_now().await;
                let (None, Some(id)) = (looked.clone(), open.clone()) else { return Ok(looked) };
                let named = self.handle().named(owner.clone(), name, open).await?;
                if named.as_ref() != Some(&id) {
                    self.handle().open_session(owner, id.clone()).await?;
                }
                return Ok(Some(id));
            }
            let is_for_all = self.makes(Mistake::GivesNamesToAll);
            let owner = if is_for_all { Principal::new("tenant", "user") } else { owner };
            let named = self.handle().named(owner, name, open.clone()).await?;
            Ok(if self.makes(Mistake::FreesNamesAtOnce) { named.or(open) } else { named })
        })
    }

    fn name_turn(&self, owner: Principal, at: TurnRef, name: String) -> Stored<'_, ()> {
        Box::pin(async move {
            let is_for_all = self.makes(Mistake::GivesNamesToAll);
            let owner = if is_for_all { Principal::new("tenant", "user") } else { owner };
            let named =
                Find::Named(owner.clone(), TurnRef::new(at.session_id.clone(), name.clone()));
            self.handle().name_turn(owner, at.clone(), name.clone()).await?;
            if matches!(self.handle().find(named).await?, Found::Turn(_)) {
                self.data().given.insert(name, at);
            }
            Ok(())
        })
    }

    fn siblings(&self, owner: Principal, at: TurnRef) -> Stored<'_, Option<Siblings>> {
        Box::pin(async move { self.handle().siblings(owner, at).await })
    }

    fn update_session(
        &self,
        owner: Principal,
        id: SessionId,
        update: SessionUpdate,
    ) -> Stored<'_, Option<SessionInfo>> {
        Box::pin(async move {
            let (handle, owner) = (self.handle(), self.owner(owner));
            let info = handle.update_session(owner.clone(), id.clone(), update).await?;
            if let Some(info) = info.as_ref().filter(|_| self.makes(Mistake::TellsWhatIsSo)) {
                for archived in [!info.archived, info.archived] {
                    let update = SessionUpdate { title: None, archived: Some(archived) };
                    handle.update_session(owner.clone(), id.clone(), update).await?;
                }
            }
            Ok(info)
        })
    }

    fn sessions(&self, owner: Principal, mut page: SessionPage) -> Stored<'_, SessionList> {
        Box::pin(async move {
            if self.makes(Mistake::MixesArchives) {
                page.archived = None;
            }
            let mut list = self.handle().sessions(self.owner(owner), page).await?;
            let listed = &mut list.sessions;
            if self.makes(Mistake::SortsById) {
                listed.sort_by(|one, other| other.id.cmp(&one.id));
            }
            if self.makes(Mistake::CutsTitlesAtBytes) {
                for title in listed.iter_mut().filter_map(|info| info.title.as_mut()) {
                    title.truncate(80);
                }
            }
            Ok(list)
        })
    }

    fn session(
        &self,
        owner: Principal,
        id: SessionId,
        page: MessagePage,
    ) -> Stored<'_, Option<SessionState>> {
        Box::pin(async move {
            let newest = self.makes(Mistake::TakesPagesOfTheNewestBranch) && page.before.is_some();
            let page = MessagePage { branch: page.branch.filter(|_| !newest), ..page };
            let mut state = self.handle().session(self.owner(owner), id, page).await?;
            let Some(SessionState { messages, open, pending, .. }) = &mut state else {
                return Ok(None);
            };
            if self.makes(Mistake::AsksAgain) {
                pending.extend(self.data().asked_again.clone());
            }
            *open = open.take().map(|row| self.told(row));
            if self.makes(Mistake::TearsTurns) && messages.len() > 2 {
                messages.remove(0);
            }
            for message in messages.iter_mut() {
                if self.makes(Mistake::NamesTheNewestFirst) {
                    message.sibling_ids.reverse();
                }
                if self.makes(Mistake::TrimsText) {
                    message.text = message.text.trim().to_owned();
                }
                let data = self.data();
                let text = data.answers.get(&message.execution_id);
                if self.makes(Mistake::SavesInTwoSteps)
                    && message.state == TurnState::Complete
                    && message.role == Role::Assistant
                {
                    message.text = text.cloned().unwrap_or_default();
                }
            }
            if self.makes(Mistake::KeepsThePartBesideTheAnswer) {
                let mut parts: Vec<Message> = messages
                    .iter()
                    .filter(|message| {
                        message.role == Role::Assistant && message.state == TurnState::Complete
                    })
                    .filter(|message| self.data().parts.contains_key(&message.execution_id))
                    .cloned()
                    .collect();
                messages.append(&mut parts);
            }
            Ok(state)
        })
    }

    fn accept(&self, new: NewRow) -> Stored<'_, Accepted> {
        Box::pin(async move {
            if self.makes(Mistake::KeepsALock) || self.makes(Mistake::WaitsForEver) {
                if self.shared.is_locked.swap(true, SeqCst) {
                    if self.makes(Mistake::WaitsForEver) {
                        std::future::pending::<()>().await;
                    }
                    return Err(StoreError::new(StoreErrorKind::Busy));
                }
                yield_now().await;
                self.shared.is_locked.store(false, SeqCst);
            }
            let new = NewRow { owner: self.owner(new.owner.clone()), ..new };
            if self.makes(Mistake::NamesItAgain) {
                let update = SessionUpdate { title: new.title.clone(), archived: None };
                let (owner, id) = (new.owner.clone(), new.session_id.clone());
                self.handle().update_session(owner, id, update).await?;
            }
            // A turn that waits is refused when it comes out of the queue.
            let (handle, newest) = (self.handle(), MessagePage::newest(0));
            let state = handle.session(new.owner.clone(), new.session_id.clone(), newest).await?;
            let has_to_wait = new.queue && state.as_ref().is_some_and(|state| state.open.is_some());
            let is_paused = state.is_some_and(|state| state.queue.is_paused);
            let stops = match new.message.as_str() {
                _ if has_to_wait => None,
                REFUSED => Some(Ok(Accepted::Refused(Veto {
                    status: 402,
                    code: "refused".to_owned(),
                    message: "as the contract asks for".to_owned(),
                }))),
                FAILING => Some(Err(StoreError::new(StoreErrorKind::Broken))),
                _ => None,
            };
            if let Some(stopped) = stops {
                if self.makes(Mistake::WritesBeforeItAsks) {
                    let id = ExecutionId::derive("tenant", new.session_id.as_str(), 0).unwrap();
                    self.writes(&id, |written| written.accepted += 1);
                }
                if self.makes(Mistake::KeepsWhatWasRefused) {
                    self.handle().accept(new).await?;
                }
                return stopped;
            }
            let at = TurnRef::new(new.session_id.clone(), new.turn_id.clone());
            let named = Find::Named(new.owner.clone(), at);
            let looked = self.handle().find(named.clone()).await?;
            self.has_only_looked(Mistake::AcceptsAfterLooking).await;
            let (owner, session_id) = (new.owner.clone(), new.session_id.clone());
            let turn_id = new.turn_id.clone();
            let message = new.message.clone();
            let mut accepted =
                if self.makes(Mistake::OvertakesThoseThatWait) && is_paused && !new.queue {
                    Accepted::Running { turn_id: turn_id.clone() }
                } else {
                    self.handle().accept(new).await?
                };
            if let Accepted::New(row) = &accepted
                && self.makes(Mistake::CountsNoLateAnswer)
            {
                let limits = HistoryLimits { turns: 0, ..HistoryLimits::default() };
                let history = self.handle().history(row.turn.clone(), limits).await?;
                self.data().omitted.insert(row.turn.execution_id.clone(), history.omitted);
            }
            match &mut accepted {
                Accepted::Queued(queued) if self.makes(Mistake::TellsPlacesFromNought) => {
                    queued.position -= 1;
                }
                Accepted::New(row) => {
                    self.data().turns.push(row.turn.execution_id.clone());
                    self.writes(&row.turn.execution_id, |written| written.accepted += 1);
                    if self.makes(Mistake::SkipsAnIndex) {
                        row.turn.index += self.shared.refused.load(SeqCst);
                    }
                    if self.makes(Mistake::CountsOverAllSessions) {
                        row.turn.index = self.data().turns.len() as u64 - 1;
                    }
                }
                Accepted::Known(row) if self.makes(Mistake::EditsTwice) => {
                    row.turn.index += 1;
                }
                Accepted::Known(row) if self.makes(Mistake::WritesForKnownTurns) => {
                    self.writes(&row.turn.execution_id, |written| written.accepted += 1);
                }
                Accepted::Running { .. } => {
                    self.shared.refused.fetch_add(1, SeqCst);
                }
                _ => {}
            }
            Ok(match accepted {
                Accepted::Known(row)
                    if self.makes(Mistake::AcceptsAfterLooking) && looked == Found::NoTurn =>
                {
                    Accepted::New(row)
                }
                Accepted::Conflict if self.makes(Mistake::ForgetsWhatWasAsked) => {
                    match self.handle().find(named).await? {
                        Found::Turn(row) => Accepted::Known(row),
                        Found::Queued(queued) => Accepted::Queued(queued),
                        _ => accepted,
                    }
                }
                Accepted::QueueFull if self.makes(Mistake::QueuesWithoutBound) => {
                    let (agent, now) = ("agent".to_owned(), self.shared.clock.now());
                    Accepted::Queued(QueuedTurn::new(turn_id, 17, message, agent, None, now))
                }
                Accepted::Removed if self.makes(Mistake::ForgetsWhatWasRemoved) => {
                    Accepted::NoParent
                }
                Accepted::Running { turn_id: open } if self.makes(Mistake::OpensASecondTurn) => {
                    let at = TurnRef::new(session_id, open.clone());
                    let open_turn = Find::Named(owner, at);
                    match self.handle().find(open_turn).await? {
                        Found::Turn(mut row) => {
                            (row.turn.turn_id, row.turn.index) = (turn_id, row.turn.index + 1);
                            Accepted::New(row)
                        }
                        _ => Accepted::Running { turn_id: open },
                    }
                }
                accepted => accepted,
            })
        })
    }

    fn change_queued(
        &self,
        owner: Principal,
        at: TurnRef,
        change: QueueChange,
    ) -> Stored<'_, QueueChanged> {
        Box::pin(async move {
            let owner = self.owner(owner);
            Ok(match self.handle().change_queued(owner, at, change).await? {
                QueueChanged::Started if self.makes(Mistake::EditsWhatHasBegun) => {
                    QueueChanged::Removed
                }
                changed => changed,
            })
        })
    }

    fn find(&self, what: Find) -> Stored<'_, Found> {
        Box::pin(async move {
            let what = match what {
                Find::Named(owner, at) => Find::Named(self.owner(owner), at),
                Find::OfUser(owner, turn_id) => Find::OfUser(self.owner(owner), turn_id),
                what @ Find::Execution(_) => what,
            };
            let named = match &what {
                Find::Named(_, at) => Some(&at.turn_id),
                Find::OfUser(_, turn_id) => Some(turn_id),
                Find::Execution(_) => None,
            };
            let given = named.and_then(|name| self.data().given.get(name).cloned());
            let found = self.handle().find(what.clone()).await?;
            let is_wrong = match &found {
                Found::Turn(_) => self.makes(Mistake::GivesNamesAnew),
                _ => self.makes(Mistake::KeepsEveryName),
            };
            let found = match (what, given.filter(|_| is_wrong)) {
                (Find::Named(owner, _) | Find::OfUser(owner, _), Some(at)) => {
                    self.handle().find(Find::Named(owner, at)).await?
                }
                _ => found,
            };
            Ok(match found {
                Found::Turn(row) => Found::Turn(self.told(row)),
                Found::Gone if self.makes(Mistake::ForgetsWhatWasDeleted) => Found::NoTurn,
                found => found,
            })
        })
    }

    fn claim(&self, mut claim: Claim) -> Stored<'_, Claimed> {
        Box::pin(async move {
            let id = claim.execution_id.clone();
            let looked = self.row(&id).await;
            self.has_only_looked(Mistake::ClaimsAfterLooking).await;
            let is_again = !self.data().nonces.insert(claim.nonce);
            if self.makes(Mistake::ForgetsTheNonce) && is_again {
                return Ok(Claimed::Refused);
            }
            if let Some(row) = &looked {
                if self.makes(Mistake::ComparesNoEpoch) {
                    claim.seen_epoch = row.epoch;
                }
                if self.makes(Mistake::TakesHeldLeases) && !is_again {
                    let lease = Lease { execution_id: id.clone(), epoch: row.epoch };
                    self.handle().release(lease).await?;
                }
            }
            claim.may_run |= self.makes(Mistake::RunsForWhoMayNot);
            let mut claimed = self.handle().claim(claim.clone()).await;
            if self.makes(Mistake::ClaimsWithoutJoining) && claimed.is_err() {
                self.handle().join(LogId::parse("log").unwrap()).await?;
                claimed = self.handle().claim(claim.clone()).await;
            }
            let claimed = match claimed? {
                Claimed::Attach(lease) if self.makes(Mistake::RunsAgain) => Claimed::Run(lease),
                Claimed::Refused
                    if self.makes(Mistake::ClaimsAfterLooking)
                        && claim.may_run
                        && looked.is_some_and(|row| !row.dispatched) =>
                {
                    Claimed::Run(Lease { execution_id: id.clone(), epoch: 1 })
                }
                claimed => claimed,
            };
            if let Claimed::Run(lease) | Claimed::Attach(lease) = &claimed {
                self.leases.lock().unwrap().push(lease.clone());
                let mut data = self.data();
                data.claimed_at.insert(id.clone(), self.shared.clock.now());
                if self.makes(Mistake::KeepsTheStopWithTheLease) {
                    data.stops.remove(&id);
                }
            }
            Ok(claimed)
        })
    }

    fn release(&self, mut lease: Lease) -> Stored<'_, ()> {
        Box::pin(async move {
            if self.makes(Mistake::ReleasesAnyEpoch)
                && let Some(row) = self.row(&lease.execution_id).await
            {
                lease.epoch = row.epoch;
            }
            self.handle().release(lease).await
        })
    }

    fn save(&self, id: ExecutionId, mut answer: Answer) -> Stored<'_, Persisted> {
        Box::pin(async move {
            let mut parts = answer.parts.to_vec();
            if self.makes(Mistake::RepeatsInputs) {
                parts.retain(|part| part.kind() != PartKind::Input);
            }
            if self.makes(Mistake::LosesInputs) {
                let inputs = self.data().inputs.clone().into_iter();
                let inputs = inputs.map(|id| format!(r#"{{"type":"input","id":"{id}"}}"#));
                parts.extend(inputs.map(|json| AnswerPart::from_json(&json).unwrap()));
            }
            answer.parts = parts.into();
            let looked = self.row(&id).await;
            self.has_only_looked(Mistake::SavesAfterLooking).await;
            if answer.text == FAILING {
                return if self.makes(Mistake::SwallowsFailures) {
                    Ok(Persisted::Saved)
                } else {
                    Err(StoreError::new(StoreErrorKind::Broken))
                };
            }
            let Some(looked) = looked else {
                return if self.makes(Mistake::SavesForNoTurn)
                    || self.makes(Mistake::SavesOntoATombstone)
                {
                    Ok(Persisted::Saved)
                } else {
                    self.handle().save(id, answer).await
                };
            };
            let lease = Lease { execution_id: id.clone(), epoch: looked.epoch };
            let is_held = self.leases.lock().unwrap().contains(&lease);
            if (self.makes(Mistake::SavesOpenTurnsOnly) && looked.state != TurnState::Open)
                || (self.makes(Mistake::SavesForTheHolderOnly) && !is_held)
            {
                return Ok(Persisted::AlreadySaved);
            }
            let text = answer.text.clone();
            let mut persisted = if self.makes(Mistake::SavesInTwoSteps) {
                let persisted = self.handle().save(id.clone(), Answer::new("")).await?;
                yield_now().await;
                if persisted == Persisted::Saved {
                    self.data().answers.insert(id.clone(), text);
                }
                persisted
            } else {
                self.data().answers.insert(id.clone(), text);
                self.handle().save(id.clone(), answer).await?
            };
            if persisted == Persisted::Saved || self.makes(Mistake::WritesForSavedAnswers) {
                self.writes(&id, |written| written.saved += 1);
            }
            self.opened_after(&looked).await?;
            if self.makes(Mistake::SavesAfterLooking) && looked.state != TurnState::Complete {
                persisted = Persisted::Saved;
            }
            Ok(persisted)
        })
    }

    fn end(&self, by: EndedBy, ending: Ending) -> Stored<'_, bool> {
        Box::pin(async move {
            let id = by.execution_id().clone();
            let looked = self.row(&id).await.map(|row| row.state);
            self.has_only_looked(Mistake::EndsAfterLooking).await;
            if ending.partial.text == FAILING {
                return Err(StoreError::new(StoreErrorKind::Broken));
            }
            {
                let mut data = self.data();
                data.failures.insert(id.clone(), ending.failure.clone());
                data.parts.insert(id.clone(), ending.partial.text.clone());
            }
            let by = match by {
                EndedBy::Lease(_) if self.makes(Mistake::EndsForAnyEpoch) => {
                    EndedBy::Log(id.clone())
                }
                by => by,
            };
            let ended = self.handle().end(by, ending).await?;
            if ended || self.makes(Mistake::WritesForLateEndings) {
                self.writes(&id, |written| written.ended += 1);
            }
            if let Some(row) = self.row(&id).await {
                self.opened_after(&row).await?;
            }
            let has_only_looked =
                self.makes(Mistake::EndsAfterLooking) && looked == Some(TurnState::Open);
            Ok(ended || has_only_looked || self.makes(Mistake::EndsAgain))
        })
    }

    fn note(&self, id: ExecutionId, told: Vec<Told>) -> Stored<'_, ()> {
        Box::pin(async move {
            if self.makes(Mistake::ForgetsQuestions) {
                return Ok(());
            }
            if self.makes(Mistake::AsksAgain)
                && let (Some(Told::Asked { question, .. }), Some(row)) =
                    (told.first(), self.row(&id).await)
                && row.is_waiting
            {
                self.data().asked_again.push(question.clone());
            }
            self.handle().note(id, told).await
        })
    }

    fn intend(&self, owner: Principal, at: TurnRef, wish: Wish) -> Stored<'_, Intended> {
        Box::pin(async move {
            let mut intended = self.handle().intend(self.owner(owner), at, wish.clone()).await?;
            if let Intended::Noted(intent) = &mut intended {
                match wish {
                    Wish::Input { id, .. } => drop(self.data().inputs.insert(id)),
                    Wish::Answer { interaction: id, outcome, .. }
                        if self.makes(Mistake::TakesTheIntentForTheAnswer) =>
                    {
                        let told = vec![Told::Answered { id, outcome }];
                        self.handle().note(intent.execution_id.clone(), told).await?;
                    }
                    Wish::Answer { .. } => {}
                }
                if self.makes(Mistake::NotesAWishTwice) {
                    intent.number += self.shared.refused.fetch_add(1, SeqCst);
                }
            }
            Ok(intended)
        })
    }

    fn decide(&self, intent: u64, decision: Decision) -> Stored<'_, ()> {
        Box::pin(async move {
            if self.makes(Mistake::PassesOnWhatIsDecided) {
                return Ok(());
            }
            self.handle().decide(intent, decision).await
        })
    }

    fn undecided(&self, after: u64, limit: usize) -> Stored<'_, Vec<Intent>> {
        let after = if self.makes(Mistake::ListsFromTheFirst) { 0 } else { after };
        Box::pin(async move { self.handle().undecided(after, limit).await })
    }

    fn ask_to_stop(&self, id: ExecutionId) -> Stored<'_, ()> {
        Box::pin(async move {
            if self.makes(Mistake::LosesTheStop) {
                return Ok(());
            }
            self.data().stops.insert(id.clone());
            if self.makes(Mistake::StopsOpenTurnsOnly)
                && self.row(&id).await.is_some_and(|row| row.state != TurnState::Open)
            {
                return Ok(());
            }
            self.handle().ask_to_stop(id).await
        })
    }

    fn saved(&self, id: ExecutionId) -> Stored<'_, Option<Answer>> {
        Box::pin(async move {
            let saved = self.handle().saved(id.clone()).await?;
            if self.makes(Mistake::KeepsTheTextAlone) {
                return Ok(saved.map(|answer| Answer::new(answer.text)));
            }
            if self.makes(Mistake::KeepsTheLastAnswer) || self.makes(Mistake::SavesInTwoSteps) {
                let text = self.data().answers.get(&id).cloned().unwrap_or_default();
                return Ok(saved.map(|_| Answer::new(text)));
            }
            Ok(saved)
        })
    }

    fn unattended(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        Box::pin(async move {
            if self.makes(Mistake::LimitsBeforeItLooks) || self.makes(Mistake::ListsHeldTurns) {
                let (all, mut listed) = (self.data().turns.clone(), Vec::new());
                for id in all {
                    if let Some(row) =
                        self.row(&id).await.filter(|row| row.state == TurnState::Open)
                    {
                        listed.push(row);
                    }
                }
                listed.truncate(limit);
                if self.makes(Mistake::LimitsBeforeItLooks) {
                    listed.retain(|row| !row.is_held);
                }
                return Ok(listed.into_iter().map(|row| row.turn.execution_id).collect());
            }
            let mut listed = self.handle().unattended(limit).await?;
            if self.makes(Mistake::ListsTheNewestFirst) {
                listed.reverse();
            }
            if self.makes(Mistake::ListsTwice) {
                listed.extend(listed.clone());
            }
            Ok(listed)
        })
    }

    fn history(&self, mut turn: Turn, mut limits: HistoryLimits) -> Stored<'_, History> {
        Box::pin(async move {
            if self.makes(Mistake::SendsTheTurnItself) {
                turn.parent = Some(turn.index);
            }
            if self.makes(Mistake::IgnoresTheBytes) {
                limits.bytes = usize::MAX;
            }
            let (handle, of) = (self.handle(), turn.clone());
            let mut history = handle.history(turn, limits).await?;
            if self.makes(Mistake::CountsNothing) {
                history.omitted = Omitted::default();
            }
            if self.makes(Mistake::CountsTheWholeSession) && history.omitted.turns > 0 {
                history.omitted.turns = of.index - history.said.len() as u64 / 2;
            }
            if self.makes(Mistake::CountsNoLateAnswer) && limits.turns == 0 {
                history.omitted = self.data().omitted[&of.execution_id];
            }
            let page = MessagePage::newest(99);
            let state = handle.session(of.owner.clone(), of.session_id.clone(), page).await?;
            let messages = state.map(|state| state.messages).unwrap_or_default();
            let before = messages.iter().filter(|message| message.turn_index < of.index);
            for message in before.filter(|message| message.role == Role::Assistant) {
                if self.makes(Mistake::SendsWhatFailed) && message.state == TurnState::Failed {
                    let (role, content) = (Role::Assistant, message.text.clone());
                    history.said.push(Said { role, content });
                }
                if self.makes(Mistake::GoesOnWithAnySession) {
                    history.agent_session.clone_from(&message.summary.agent_session_id);
                }
            }
            Ok(history)
        })
    }

    fn feed(&self, owner: Principal, read: FeedRead) -> Stored<'_, FeedPage> {
        Box::pin(async move {
            let after = read.after.clone();
            let mut page = self.handle().feed(owner.clone(), read).await?;
            if let FeedPage::Entries(entries, at) = &mut page {
                if self.makes(Mistake::TellsAnEntryTwice) && entries.len() == 1 {
                    at.number -= drawn_back(&self.shared);
                }
                if self.makes(Mistake::LosesAnEntry) && (2..9).contains(&entries.len()) {
                    entries.remove(0);
                }
            } else if self.makes(Mistake::TakesAnyPlace) {
                return Ok(FeedPage::Entries(Vec::new(), after.unwrap()));
            }
            Ok(page)
        })
    }

    fn version(&self) -> Stored<'_, u64> {
        Box::pin(async move { self.handle().version().await })
    }

    fn delete_session(&self, deletion: Deletion) -> Stored<'_, bool> {
        Box::pin(async move {
            let is_used = self.makes(Mistake::DeletesWhatIsUsed);
            let if_idle_since = deletion.if_idle_since.filter(|_| !is_used);
            self.handle().delete_session(Deletion { if_idle_since, ..deletion }).await
        })
    }

    fn idle_sessions(
        &self,
        since: SystemTime,
        limit: usize,
    ) -> Stored<'_, Vec<(Principal, SessionId)>> {
        Box::pin(async move { self.handle().idle_sessions(since, limit).await })
    }

    fn to_erase(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        Box::pin(async move {
            let mut left = self.handle().to_erase(limit).await?;
            if self.makes(Mistake::ForgetsToErase) {
                left.truncate(1);
            }
            Ok(left)
        })
    }

    fn erased(&self, executions: Vec<ExecutionId>) -> Stored<'_, ()> {
        Box::pin(async move { self.handle().erased(executions).await })
    }

    fn check(&self) -> Stored<'_, ()> {
        Box::pin(async move { self.handle().check().await })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.makes(Mistake::LeavesLeasesToRunOut) {
                return;
            }
            let handle = self.handle();
            handle.close().await;
            if self.makes(Mistake::GoesOnOnceClosed) {
                *self.handle.lock().unwrap() = Arc::new(handle.beside());
            }
        })
    }

    fn sign_ins(&self) -> Option<&dyn SignIns> {
        (!self.makes(Mistake::PassesNoSignInsOn)).then_some(self)
    }
}

impl SignIns for Wrong {
    fn sign_in(&self, secret: Digest, token: Digest, lasts: Duration) -> Stored<'_, ()> {
        Box::pin(async move {
            let handle = self.handle();
            let is_again = SignIns::signed_in(&*handle, secret).await?.is_some();
            if self.makes(Mistake::CountsASignInTwice) && is_again {
                let mut other = secret;
                other[31] = 255;
                handle.sign_in(other, token, lasts).await?;
            }
            let is_for_ever = self.makes(Mistake::KeepsSignInsForEver);
            handle.sign_in(secret, token, if is_for_ever { lasts * 1_000 } else { lasts }).await
        })
    }

    fn signed_in(&self, secret: Digest) -> Stored<'_, Option<Digest>> {
        Box::pin(async move { self.handle().signed_in(secret).await })
    }

    fn sign_out(&self, secret: Digest) -> Stored<'_, ()> {
        Box::pin(async move { self.handle().sign_out(secret).await })
    }
}

/// Once in a while one entry back.
fn drawn_back(shared: &Shared) -> u64 {
    u64::from(shared.refused.fetch_add(1, SeqCst) % 3 == 2)
}

// Without a mistake it keeps the contract, so what is found is the mistake.
chat_store_contract!(Fixture::new(Mistake::Nothing));

macro_rules! finds {
    ($($rule:ident: $($mistake:ident $says:literal),+;)+) => {
        mod a_store_is_found_that_breaks {
            use super::*;

            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    for (mistake, says) in [$((Mistake::$mistake, $says)),+] {
                        let rule = tokio::spawn(store_contract::$rule(Fixture::new(mistake)));
                        let Err(failure) = rule.await else { panic!("{mistake:?} is not found") };
                        let message = *failure.into_panic().downcast::<String>().unwrap();
                        let begin = concat!("the store breaks `", stringify!($rule), "` ");
                        assert!(message.starts_with(begin), "{mistake:?}: {message}");
                        assert!(message.contains(says), "{mistake:?}: {message}");
                        assert!(message.contains("\n  see: "), "{mistake:?}: {message}");
                        assert!(message.chars().count() < 1_500, "{mistake:?}: {message}");
                    }
                }
            )+
        }
    };
}

finds! {
    one_of_many_accepts_is_new:
        AcceptsAfterLooking "came: 16 `New` and 0 `Known`\n  look for: a turn that is first looked for and then inserted",
        ForgetsWhatWasAsked "wanted: Conflict\n",
        WritesForKnownTurns "in the product's tables";
    indexes_have_no_gap_and_no_repeat:
        SkipsAnIndex "in the turn that was accepted as number 1\n",
        CountsOverAllSessions "in the turn that was accepted as number 0\n",
        OpensASecondTurn "wanted: one `New`\n";
    a_turn_is_found_by_each_of_its_names:
        GivesNamesAnew "of a name that is given twice\n",
        GivesNamesToAll "of a name that no turn of the owner has\n",
        KeepsEveryName "of one more than are kept\n";
    a_turn_is_run_once_ever:
        ClaimsAfterLooking "look for: a claim that first looks and then writes",
        ForgetsTheNonce "of the claim that won, asked again\n",
        RunsAgain "look for: `dispatched`: it is never taken back",
        RunsForWhoMayNot "of claims that may not run";
    a_seen_epoch_has_one_winner:
        ComparesNoEpoch "of claims by epoch 0, where the row's is 1\n",
        TakesHeldLeases "of claims of a held lease\n";
    a_fenced_epoch_is_refused_everything_but_saving:
        EndsForAnyEpoch "of an ending by a lease whose epoch is over\n",
        ReleasesAnyEpoch "after a release by an epoch that is over\n",
        SavesForTheHolderOnly "of an answer by who has lost the lease\n",
        TellsNoLoss "of a renewal of an epoch that is over\n",
        ComparesNoEpoch "of a claim by an epoch that is over\n";
    a_lease_lasts_by_the_stores_clock:
        LeasesRunFast "10 s after the claim or the last of 0 renewals\n",
        LeasesNeverEnd "16 s after the last renewal\n",
        LeasesEndAfterTheClaim "10 s after the claim or the last of 1 renewals\n",
        TakesHeldLeases "wanted: Refused\n";
    a_renewal_keeps_what_it_names:
        RenewsWhatIsNotNamed "look for: a lease that its worker does not name",
        ReleasesWhatWasJustClaimed "of a lease that is not named 10 s after its claim\n",
        TellsNoLoss "of a renewal of what another worker holds\n";
    a_worker_of_another_log_is_refused:
        TakesAnyLog "of a worker of another log than those that live\n",
        MovesTheLogForAnybody "of 16 moves of the log from the same one at once\n",
        ClaimsWithoutJoining "of a handle that has not joined\n";
    every_free_open_turn_is_listed_once:
        ListsTwice "of at most 1 turns that nobody attends to, at place",
        ListsTheNewestFirst "of at most 7 turns that nobody attends to, at place",
        ListsHeldTurns "of at most 1 turns that nobody attends to, at place",
        LimitsBeforeItLooks "of at most 1 turns that nobody attends to, at place";
    one_of_many_saves_is_the_answer:
        SavesAfterLooking "wanted: one `Saved`, and `AlreadySaved` 15 times\n  came: 16 times `Saved`\n",
        KeepsTheLastAnswer "look for: state, failure and text: a save writes all of them",
        SavesForNoTurn "of an answer of no turn\n",
        WritesForSavedAnswers "in the product's tables of 16 saves at once\n",
        EndsAgain "of an ending that comes after the answer\n";
    a_whole_answer_replaces_a_part_of_it:
        SavesOpenTurnsOnly "of 16 saves over a part of the answer\n",
        SavesAfterLooking "wanted: 1\n  came: 16\n",
        KeepsThePartBesideTheAnswer "wanted: one answer to one message\n";
    a_save_wins_against_a_concurrent_end:
        SavesOpenTurnsOnly "wanted: one `Saved`, and at most one ending\n",
        EndsAgain "wanted: one `Saved`, and at most one ending\n",
        SavesAfterLooking "wanted: one `Saved`, and at most one ending\n";
    a_turn_has_one_ending:
        EndsAfterLooking "came: 16 that did\n",
        EndsAgain "came: 16 that did\n",
        MixesEndings "look for: two endings that are mixed",
        WritesForLateEndings "in the product's tables of 16 endings at once\n";
    a_stop_is_noted_while_the_turn_is_open:
        LosesTheStop "of a turn that is to stop\n",
        KeepsTheStopWithTheLease "once another worker drives it\n",
        StopsWhatHasEnded "of a turn that has ended\n";
    the_first_that_waits_is_opened_once:
        OpensTwoThatWait "after 16 writes at once that end turn 0\n",
        TellsPlacesFromNought "look for: places are counted from 1",
        QueuesWithoutBound "of one more than 16 that wait\n";
    a_stop_pauses_the_queue:
        LosesTheStop "of the queue after a stop\n",
        StopsOpenTurnsOnly "of the queue after a stop of the turn that had just ended\n",
        OvertakesThoseThatWait "of a turn that resumes it\n";
    a_queued_turn_is_changed_while_it_waits:
        ForgetsWhatWasAsked "of a request with an edit's words\n",
        ForgetsWhatWasRemoved "of a removed turn that is sent again\n",
        EditsWhatHasBegun "of a turn that has begun\n";
    a_question_is_pending_until_it_is_answered:
        ForgetsQuestions "of two questions\n",
        AsksAgain "look for: a row for each question",
        TakesTheIntentForTheAnswer "once a user wants to answer one of them\n";
    what_a_user_wants_is_listed_until_it_is_decided:
        NotesAWishTwice "of the same wish 16 times at once\n",
        PassesOnWhatIsDecided "once they are decided",
        ListsFromTheFirst "of 2 behind the second, at place 1\n";
    an_input_reaches_an_agent_once:
        LosesInputs "look for: inputs that are no parts of the answer",
        RepeatsInputs "look for: inputs that are no parts of the answer";
    statements_run_once_for_each_execution:
        WritesForKnownTurns "in the product's tables",
        WritesForSavedAnswers "in the product's tables",
        WritesForLateEndings "in the product's tables",
        SavesAfterLooking "look for: conditions that are not part of the writes";
    what_statements_refuse_leaves_nothing:
        WritesBeforeItAsks "in the product's tables",
        KeepsWhatWasRefused "wanted: NoTurn\n",
        SwallowsFailures "of an answer whose statements fail\n";
    a_dropped_future_leaves_all_or_nothing:
        SavesInTwoSteps "of a `save` that was dropped after 1 polls\n",
        KeepsALock "in `accept`\n  wanted: an answer, as nobody else uses the store\n",
        WaitsForEver "in `accept`\n  wanted: an answer within 10 s\n";
    a_closed_handle_holds_nothing_and_does_nothing:
        LeavesLeasesToRunOut "once its worker has closed\n",
        GoesOnOnceClosed "in `check` of a closed handle\n";
    a_newer_schema_is_left_alone:
        OpensWhatIsNewer "came: a handle\n",
        WritesBeforeItReadsTheVersion "wanted: all as it was\n";
    many_open_the_database_at_once:
        MigratesTwice "of 16 handles that were opened at once\n",
        FailsWhereAnotherMigrates "came: the error Broken";
    what_is_anothers_does_not_exist:
        ForgetsTheTenant "for Principal { tenant_id: \"other\", user_id: \"user\" }\n",
        GivesASessionTwice "look for: a session's id that is given out twice";
    sessions_are_listed_the_newest_first:
        SortsById "look for: an order that is not that of opening",
        CutsTitlesAtBytes "of a session with two turns\n",
        NamesItAgain "no later one";
    a_session_is_named_and_archived:
        NamesItAgain "of a named session with a turn\n",
        MixesArchives "of a list with `archived` Some(false)\n",
        TellsWhatIsSo "in the feed\n";
    a_name_is_one_session_of_its_owner:
        LooksNamesUp "of a name that 16 open at once\n",
        GivesNamesToAll "of a name that 16 open at once\n";
    an_answer_is_kept_with_its_parts:
        KeepsTheTextAlone "of an answer that is saved\n";
    siblings_are_branches:
        EditsTwice "of `a` again\n",
        ForgetsWhatWasAsked "of a known turn in another place\n",
        NamesTheNewestFirst "look for: those that share the turn's parent",
        GoesOnWithAnySession "look for: the agent's own session";
    a_branch_has_its_own_pages_and_count:
        CountsTheWholeSession "look for: a count over the session",
        CountsNoLateAnswer "before `a3` within 0 turns\n",
        TakesPagesOfTheNewestBranch "look for: a page of another branch";
    a_session_is_shown_as_whole_turns:
        TearsTurns "look for: a page that cuts a turn in two",
        TrimsText "or text that was changed";
    history_keeps_to_its_limits:
        SendsTheTurnItself "of what was said before turn 5",
        IgnoresTheBytes "look for: a turn that is later, failed, cut in two",
        SendsWhatFailed "look for: a turn that is later, failed, cut in two",
        CountsNothing "look for: what the limits leave out";
    what_is_deleted_is_gone:
        SavesOntoATombstone "of a late answer\n",
        ForgetsWhatWasDeleted "of a deleted turn that is looked for\n",
        ForgetsToErase "of what is to be erased\n";
    a_deleted_name_rests_and_what_is_idle_can_go:
        FreesNamesAtOnce "of a name that rests\n",
        DeletesWhatIsUsed "if it is idle\n";
    a_feed_tells_everything_once_and_in_order:
        TellsAnEntryTwice "of entries that were followed while others wrote, at place",
        LosesAnEntry "of entries that were followed while others wrote, at place",
        TakesAnyPlace "of a place that the feed never gave out\n";
    a_sign_in_ends_in_time:
        KeepsSignInsForEver "an hour later, of one that lasts an hour\n",
        CountsASignInTwice "of the newest 100 of a token\n",
        PassesNoSignInsOn "in `sign_ins`\n";
}

#[tokio::test(start_paused = true)]
async fn a_broken_rule_in_words_for_the_stores_author() {
    let fixture = Fixture::new(Mistake::SavesAfterLooking);
    let rule = tokio::spawn(store_contract::one_of_many_saves_is_the_answer(fixture));
    let message = *rule.await.unwrap_err().into_panic().downcast::<String>().unwrap();
    assert_eq!(
        message,
        "the store breaks `one_of_many_saves_is_the_answer` of 16 saves at once\n  \
         wanted: one `Saved`, and `AlreadySaved` 15 times\n  \
         came: 16 times `Saved`\n  \
         look for: a save that first looks and then writes: the condition belongs into the write itself\n  \
         see: PROTOCOL 4.2, \"Who may write which ending\"; `ChatStore::save`"
    );
}
