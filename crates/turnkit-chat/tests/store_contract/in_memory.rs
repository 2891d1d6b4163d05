//! The store in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use turnkit_chat::StoreError;
use turnkit_chat::store::memory::MemoryStore;
use turnkit_testkit::chat_store_contract;
use turnkit_testkit::store_contract::{NoSchema, NoStatements, StoreFixture};

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
            + Duration::from_millis(1_700_000_000_000 + self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

struct InMemory {
    root: MemoryStore,
    clock: Clock,
}

impl InMemory {
    fn new() -> InMemory {
        let clock = Clock::default();
        let now = clock.clone();
        InMemory { root: MemoryStore::with_clock(move || now.now()), clock }
    }
}

impl StoreFixture for InMemory {
    type Store = MemoryStore;
    type Statements = NoStatements;
    type Schema = NoSchema;
    const KEEPS_SIGN_INS: bool = true;

    async fn open(&self) -> Result<MemoryStore, StoreError> {
        Ok(self.root.beside())
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

chat_store_contract!(InMemory::new());
