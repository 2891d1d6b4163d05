//! The product's database, and a store that is slow, busy, or loses the answer of a write that it made or will make.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_core::future::BoxFuture;
use tokio::time::sleep;
use turnkit::Persisted;
use turnkit_chat::{
    Answer, ChatStore, Ending, Principal, SessionId, SessionInfo, StoreError, StoreErrorKind, Turn,
    TurnRef,
    sqlite::SqliteStore,
    store::{
        Accepted, Claim, Claimed, Decision, Deletion, EndedBy, FeedPage, FeedRead, Find, Found,
        History, HistoryLimits, Intended, Intent, Joined, Lease, MessagePage, NewRow, QueueChange,
        QueueChanged, Renewed, SessionList, SessionPage, SessionState, SessionUpdate, Siblings,
        Stored, Told, Wish, memory::MemoryStore,
    },
};
use turnkit_id::{ExecutionId, LogId};

use crate::{
    bugs,
    history::{Fact, Stored as Done},
    world::{StoreFault, World, unix_ms},
};

/// What outlives the workers.
#[derive(Clone)]
pub(crate) enum Database {
    /// In this process's memory.
    Memory(Arc<MemoryStore>),
    /// In a file, used in place.
    Sqlite(PathBuf),
}

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms())
}

impl Database {
    /// An empty one in memory.
    pub(crate) fn in_memory() -> Self {
        Self::Memory(Arc::new(MemoryStore::with_clock(clock)))
    }

    /// A worker's handle.
    pub(crate) fn open(&self) -> Result<Box<dyn ChatStore>, StoreError> {
        Ok(match self {
            Self::Memory(root) => Box::new(root.beside()),
            Self::Sqlite(path) => Box::new(SqliteStore::in_place(path, clock)?),
        })
    }
}

/// The store of one worker, with what goes wrong in this world.
pub(crate) struct Unreliable {
    world: World,
    store: Arc<dyn ChatStore>,
}

impl Unreliable {
    pub(crate) fn new(world: &World, store: Box<dyn ChatStore>) -> Self {
        Self { world: world.clone(), store: store.into() }
    }

    fn read<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a dyn ChatStore) -> Stored<'a, T> + Send + 'a,
    ) -> Stored<'a, T> {
        Box::pin(async move {
            self.world.pause().await;
            if self.world.store_is_busy() {
                return Err(StoreError::new(StoreErrorKind::Busy));
            }
            let answer = call(&*self.store).await;
            self.world.pause().await;
            answer
        })
    }

    fn write<T: Send + 'static>(
        &self,
        call: impl for<'s> FnOnce(&'s dyn ChatStore) -> Stored<'s, T> + Send + 'static,
    ) -> Stored<'_, T> {
        Box::pin(async move {
            self.world.pause().await;
            let lost = || Err(StoreError::new(bugs::store::lost_commit(&self.world)));
            match self.world.store_fault() {
                Some(StoreFault::Busy) => Err(StoreError::new(StoreErrorKind::Busy)),
                // As a transaction whose client is gone. It dies with the process, if not before.
                Some(StoreFault::Late(after)) => {
                    let store = Arc::clone(&self.store);
                    tokio::spawn(async move {
                        sleep(after).await;
                        drop(call(&*store).await);
                    });
                    lost()
                }
                Some(StoreFault::LostAnswer) => {
                    let answer = call(&*self.store).await;
                    self.world.pause().await;
                    if answer.is_ok() { lost() } else { answer }
                }
                fault @ (Some(StoreFault::Slow(_)) | None) => {
                    if let Some(StoreFault::Slow(after)) = fault {
                        sleep(after).await;
                    }
                    let answer = call(&*self.store).await;
                    self.world.pause().await;
                    answer
                }
            }
        })
    }
}

impl ChatStore for Unreliable {
    fn join(&self, log: LogId) -> Stored<'_, Joined> {
        self.write(move |store| store.join(log))
    }

    fn renew(&self, held: Vec<Lease>) -> Stored<'_, Renewed> {
        self.write(move |store| store.renew(held))
    }

    fn move_log(&self, from: LogId, to: LogId) -> Stored<'_, LogId> {
        self.write(move |store| store.move_log(from, to))
    }

    fn open_session(&self, owner: Principal, id: SessionId) -> Stored<'_, ()> {
        self.write(move |store| store.open_session(owner, id))
    }

    fn named(
        &self,
        owner: Principal,
        name: String,
        open: Option<SessionId>,
    ) -> Stored<'_, Option<SessionId>> {
        self.write(move |store| store.named(owner, name, open))
    }

    fn sessions(&self, owner: Principal, page: SessionPage) -> Stored<'_, SessionList> {
        self.read(move |store| store.sessions(owner, page))
    }

    fn update_session(
        &self,
        owner: Principal,
        id: SessionId,
        update: SessionUpdate,
    ) -> Stored<'_, Option<SessionInfo>> {
        self.write(move |store| store.update_session(owner, id, update))
    }

    fn session(
        &self,
        owner: Principal,
        id: SessionId,
        page: MessagePage,
    ) -> Stored<'_, Option<SessionState>> {
        self.read(move |store| store.session(owner, id, page))
    }

    fn accept(&self, new: NewRow) -> Stored<'_, Accepted> {
        let world = self.world.clone();
        self.write(move |store| {
            Box::pin(async move {
                let accepted = store.accept(new).await?;
                if let Accepted::Queued(queued) = &accepted {
                    world.add(Fact::Waits { turn: queued.turn_id.clone() });
                }
                Ok(accepted)
            })
        })
    }

    fn change_queued(
        &self,
        owner: Principal,
        at: TurnRef,
        change: QueueChange,
    ) -> Stored<'_, QueueChanged> {
        self.write(move |store| store.change_queued(owner, at, change))
    }

    fn find(&self, what: Find) -> Stored<'_, Found> {
        self.read(move |store| store.find(what))
    }

    fn name_turn(&self, owner: Principal, at: TurnRef, name: String) -> Stored<'_, ()> {
        self.write(move |store| store.name_turn(owner, at, name))
    }

    fn siblings(&self, owner: Principal, at: TurnRef) -> Stored<'_, Option<Siblings>> {
        self.read(move |store| store.siblings(owner, at))
    }

    fn claim(&self, claim: Claim) -> Stored<'_, Claimed> {
        let world = self.world.clone();
        self.write(move |store| {
            Box::pin(async move {
                let (execution, seen) = (claim.execution_id.clone(), claim.seen_epoch);
                let number = world.claim_number(claim.nonce);
                let claimed = bugs::store::claim(world.clone(), store, claim).await?;
                if let Claimed::Run(Lease { epoch, .. }) | Claimed::Attach(Lease { epoch, .. }) =
                    claimed
                {
                    let runs = matches!(claimed, Claimed::Run(_));
                    let stored = Done::Claimed { claim: number, seen, epoch, runs };
                    world.add(Fact::Stored { execution, stored });
                }
                Ok(claimed)
            })
        })
    }

    fn release(&self, lease: Lease) -> Stored<'_, ()> {
        let world = self.world.clone();
        self.write(move |store| {
            Box::pin(async move {
                let (execution, epoch) = (lease.execution_id.clone(), lease.epoch);
                let before = bugs::store::row(store, &execution).await;
                bugs::store::release(&world, store, lease).await?;
                let after = bugs::store::row(store, &execution).await;
                if let (Some(before), Some(after)) = (before, after)
                    && before.is_held
                    && !after.is_held
                {
                    let stored = Done::Released { epoch, freed: before.epoch };
                    world.add(Fact::Stored { execution, stored });
                }
                Ok(())
            })
        })
    }

    fn save(&self, execution_id: ExecutionId, answer: Answer) -> Stored<'_, Persisted> {
        let world = self.world.clone();
        self.write(move |store| {
            Box::pin(async move {
                let execution = execution_id.clone();
                let saving = bugs::store::save(world.clone(), store, execution_id, answer);
                let persisted = saving.await?;
                if persisted == Persisted::Saved {
                    world.add(Fact::Stored { execution, stored: Done::Saved });
                }
                Ok(persisted)
            })
        })
    }

    fn end(&self, by: EndedBy, ending: Ending) -> Stored<'_, bool> {
        let world = self.world.clone();
        self.write(move |store| {
            Box::pin(async move {
                let execution = by.execution_id().clone();
                let epoch = match &by {
                    EndedBy::Log(_) => None,
                    EndedBy::Lease(lease) => Some(lease.epoch),
                };
                let ended = bugs::store::end(&world, store, by, ending).await?;
                if ended {
                    world.add(Fact::Stored { execution, stored: Done::Ended { epoch } });
                }
                Ok(ended)
            })
        })
    }

    fn note(&self, execution_id: ExecutionId, told: Vec<Told>) -> Stored<'_, ()> {
        self.write(move |store| store.note(execution_id, told))
    }

    fn intend(&self, owner: Principal, at: TurnRef, wish: Wish) -> Stored<'_, Intended> {
        let world = self.world.clone();
        self.write(move |store| bugs::store::intend(world, store, owner, at, wish))
    }

    fn decide(&self, intent: u64, decision: Decision) -> Stored<'_, ()> {
        self.write(move |store| store.decide(intent, decision))
    }

    fn undecided(&self, after: u64, limit: usize) -> Stored<'_, Vec<Intent>> {
        self.read(move |store| store.undecided(after, limit))
    }

    fn ask_to_stop(&self, execution_id: ExecutionId) -> Stored<'_, ()> {
        self.write(move |store| store.ask_to_stop(execution_id))
    }

    fn saved(&self, execution_id: ExecutionId) -> Stored<'_, Option<Answer>> {
        self.read(move |store| store.saved(execution_id))
    }

    fn unattended(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.read(move |store| store.unattended(limit))
    }

    fn history(&self, turn: Turn, limits: HistoryLimits) -> Stored<'_, History> {
        self.read(move |store| store.history(turn, limits))
    }

    fn delete_session(&self, deletion: Deletion) -> Stored<'_, bool> {
        let world = self.world.clone();
        self.write(move |store| {
            Box::pin(async move {
                let session = deletion.session_id.as_str().to_owned();
                let is_deleted = store.delete_session(deletion).await?;
                if is_deleted {
                    world.add(Fact::Deleted { session });
                }
                Ok(is_deleted)
            })
        })
    }

    fn feed(&self, owner: Principal, read: FeedRead) -> Stored<'_, FeedPage> {
        self.read(move |store| store.feed(owner, read))
    }

    fn version(&self) -> Stored<'_, u64> {
        self.store.version()
    }

    fn idle_sessions(
        &self,
        since: SystemTime,
        limit: usize,
    ) -> Stored<'_, Vec<(Principal, SessionId)>> {
        self.read(move |store| store.idle_sessions(since, limit))
    }

    fn to_erase(&self, limit: usize) -> Stored<'_, Vec<ExecutionId>> {
        self.read(move |store| store.to_erase(limit))
    }

    fn erased(&self, executions: Vec<ExecutionId>) -> Stored<'_, ()> {
        self.write(move |store| store.erased(executions))
    }

    fn scrub(&self) -> Stored<'_, bool> {
        self.write(move |store| store.scrub())
    }

    fn woken(&self) -> BoxFuture<'_, ()> {
        self.store.woken()
    }

    fn check(&self) -> Stored<'_, ()> {
        self.store.check()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
