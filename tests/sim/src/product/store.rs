//! The product's database, and a store that is slow, busy, or loses the answer of a write that it made.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use futures_core::future::BoxFuture;
use turnkit::Persisted;
use turnkit_chat::{
    Answer, ChatStore, Ending, Principal, Said, SessionId, SessionInfo, StoreError, StoreErrorKind,
    Turn, TurnRef,
    sqlite::SqliteStore,
    store::{
        Accepted, Claim, Claimed, EndedBy, Find, Found, HistoryLimits, Joined, Lease, MessagePage,
        NewRow, Renewed, SessionPage, SessionState, Siblings, Stored, memory::MemoryStore,
    },
};
use turnkit_id::{ExecutionId, LogId};

use crate::world::{StoreFault, World, unix_ms};

/// What outlives the workers.
#[derive(Clone)]
pub(crate) enum Database {
    /// In this process's memory.
    Memory(std::sync::Arc<MemoryStore>),
    /// In a file, used in place.
    Sqlite(PathBuf),
}

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms())
}

impl Database {
    /// An empty one in memory.
    pub(crate) fn in_memory() -> Self {
        Self::Memory(std::sync::Arc::new(MemoryStore::with_clock(clock)))
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
    store: Box<dyn ChatStore>,
}

impl Unreliable {
    pub(crate) fn new(world: &World, store: Box<dyn ChatStore>) -> Self {
        Self { world: world.clone(), store }
    }

    fn read<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a dyn ChatStore) -> Stored<'a, T> + Send + 'a,
    ) -> Stored<'a, T> {
        Box::pin(async move {
            self.world.pause().await;
            if self.world.store_fault().is_some() {
                return Err(StoreError::new(StoreErrorKind::Busy));
            }
            let answer = call(&*self.store).await;
            self.world.pause().await;
            answer
        })
    }

    fn write<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a dyn ChatStore) -> Stored<'a, T> + Send + 'a,
    ) -> Stored<'a, T> {
        Box::pin(async move {
            self.world.pause().await;
            let fault = self.world.store_fault();
            if fault == Some(StoreFault::Busy) {
                return Err(StoreError::new(StoreErrorKind::Busy));
            }
            let answer = call(&*self.store).await;
            self.world.pause().await;
            if fault == Some(StoreFault::LostAnswer) && answer.is_ok() {
                return Err(StoreError::new(StoreErrorKind::OutcomeUnknown));
            }
            answer
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

    fn sessions(&self, owner: Principal, page: SessionPage) -> Stored<'_, Vec<SessionInfo>> {
        self.read(move |store| store.sessions(owner, page))
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
        self.write(move |store| store.accept(new))
    }

    fn find(&self, what: Find) -> Stored<'_, Found> {
        self.read(move |store| store.find(what))
    }

    fn siblings(&self, owner: Principal, at: TurnRef) -> Stored<'_, Option<Siblings>> {
        self.read(move |store| store.siblings(owner, at))
    }

    fn claim(&self, claim: Claim) -> Stored<'_, Claimed> {
        self.write(move |store| store.claim(claim))
    }

    fn release(&self, lease: Lease) -> Stored<'_, ()> {
        self.write(move |store| store.release(lease))
    }

    fn save(&self, execution_id: ExecutionId, answer: Answer) -> Stored<'_, Persisted> {
        self.write(move |store| store.save(execution_id, answer))
    }

    fn end(&self, by: EndedBy, ending: Ending) -> Stored<'_, bool> {
        self.write(move |store| store.end(by, ending))
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

    fn history(&self, turn: Turn, limits: HistoryLimits) -> Stored<'_, Vec<Said>> {
        self.read(move |store| store.history(turn, limits))
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
