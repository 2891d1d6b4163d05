use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{Shared, name::Name, node::Watch, store::Read};
use crate::{
    Cursor,
    log::{Fingerprint, LogError, LogFuture, LogReader, Page, Position, Status},
};

/// How long a reader waits to be woken before it looks by itself: a wake-up may have been lost.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A reader of one execution's log.
pub(super) struct RedisReader {
    shared: Arc<Shared>,
    name: Name,
    fingerprint: Option<Fingerprint>,
    watch: Arc<Watch>,
}

impl RedisReader {
    pub(super) fn new(shared: Arc<Shared>, name: Name, fingerprint: Option<Fingerprint>) -> Self {
        let watch = shared.node.watch(&name);
        Self { shared, name, fingerprint, watch }
    }
}

impl LogReader for RedisReader {
    fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    fn status(&self) -> LogFuture<'_, Result<Status, LogError>> {
        Box::pin(async {
            let (status, _) = self.shared.store.status(&self.name).await?;
            Ok(status)
        })
    }

    fn locate(&self, cursor: Cursor) -> LogFuture<'_, Result<Position, LogError>> {
        Box::pin(async move {
            let (status, epochs) = self.shared.store.status(&self.name).await?;
            Ok(epochs.locate(cursor, &status))
        })
    }

    fn next(&self, after: u64) -> LogFuture<'_, Result<Option<Page>, LogError>> {
        Box::pin(async move {
            loop {
                // Made before looking, so that an append in between wakes it.
                let changed = self.watch.changed();
                match self.shared.store.read(&self.name, after).await? {
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
