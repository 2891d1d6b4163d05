use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{
    Shared,
    answer::{Epochs, Origin, StoreError},
    name::Name,
    node::Watch,
    store::Read,
};
use crate::{
    Cursor,
    log::{Fingerprint, LogError, LogFuture, LogReader, Page, Position, Slot, SlotState, Status},
};

/// How long a reader waits to be woken before it looks by itself: a wake-up may have been lost.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A reader of one execution's log.
pub(super) struct RedisReader {
    shared: Arc<Shared>,
    name: Name,
    origin: Origin,
    watch: Arc<Watch>,
}

impl RedisReader {
    pub(super) fn new(shared: Arc<Shared>, name: Name, origin: Origin) -> Self {
        let watch = shared.node.watch(&name);
        Self { shared, name, origin, watch }
    }

    async fn look(&self) -> Result<(Status, Epochs), StoreError> {
        let (status, epochs) = self.shared.store.status(&self.name).await?;
        // Its id may be bound to another log by now.
        if status.started_at != self.origin.bound_at {
            return Err(StoreError::Gone);
        }
        Ok((status, epochs))
    }
}

impl LogReader for RedisReader {
    fn fingerprint(&self) -> Option<Fingerprint> {
        self.origin.fingerprint
    }

    fn status(&self) -> LogFuture<'_, Result<Status, LogError>> {
        Box::pin(async {
            let (status, _) = self.look().await?;
            Ok(status)
        })
    }

    fn locate(&self, cursor: Cursor) -> LogFuture<'_, Result<Position, LogError>> {
        Box::pin(async move {
            let (status, epochs) = self.look().await?;
            Ok(epochs.locate(cursor, &status))
        })
    }

    fn slot<'a>(&'a self, slot: &'a Slot) -> LogFuture<'a, Result<Option<SlotState>, LogError>> {
        Box::pin(async move {
            Ok(self.shared.store.slot(&self.name, self.origin.bound_at, slot).await?)
        })
    }

    fn pending(&self) -> LogFuture<'_, Result<Vec<u64>, LogError>> {
        Box::pin(async move {
            let open = self.shared.store.open(&self.name, Some(self.origin.bound_at)).await?;
            let pending = |(seq, slot)| matches!(slot, Slot::Interaction(_)).then_some(seq);
            Ok(open.into_iter().filter_map(pending).collect())
        })
    }

    fn next(&self, after: u64) -> LogFuture<'_, Result<Option<Page>, LogError>> {
        Box::pin(async move {
            loop {
                // Made before looking, so that an append in between wakes it.
                let changed = self.watch.changed();
                if let Some(page) = self.watch.latest(self.origin.bound_at, after) {
                    return Ok(Some(page));
                }
                match self.shared.store.read(&self.name, self.origin.bound_at, after).await? {
                    Read::Page(page) => return Ok(Some(page)),
                    Read::End => return Ok(None),
                    Read::NothingYet => {}
                }
                // Whether it was woken or has waited long enough: it looks again.
                let _ = time::timeout(LOOK_EVERY, changed).await;
            }
        })
    }
}
