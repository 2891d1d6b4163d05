use std::{slice, sync::Arc};

use bytes::Bytes;
use turnkit_wire::Event;
use uuid::Uuid;

use super::{
    Claim, Heir, Shared,
    answer::StoreError,
    name::Name,
    node::Watch,
    store::{Appended, Batch},
};
use crate::{
    EventId, events,
    log::{
        AppendError, Change, Ending, ExecutionKey, LogError, LogFuture, LogWriter, Page, Slot,
        frame::FrameBuffer,
    },
};

/// The writer of one execution's log, as long as its node renews its lease and nobody takes over.
pub(super) struct RedisWriter {
    shared: Arc<Shared>,
    key: ExecutionKey,
    name: Name,
    watch: Arc<Watch>,
    claim: Claim,
    /// When the log was bound, where this is the writer that it was bound with: it tells the readers of this node itself.
    bound_at: Option<u64>,
    calls: u64,
    frames: FrameBuffer,
    /// What is left to do where it is dropped.
    on_drop: OnDrop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDrop {
    /// The run is lost, and this is told at once.
    Tell,
    /// The lease tells it, or there is nothing to tell.
    Nothing,
}

impl RedisWriter {
    pub(super) fn new(shared: &Arc<Shared>, key: &ExecutionKey, claim: Claim) -> Self {
        let name = Name::of(key);
        shared.node.hold(claim.writer, &name);
        Self {
            shared: Arc::clone(shared),
            key: key.clone(),
            watch: shared.node.watch(&name),
            name,
            claim,
            bound_at: None,
            calls: 0,
            frames: FrameBuffer::default(),
            on_drop: OnDrop::Tell,
        }
    }

    /// The first writer of the log that was bound at this time.
    pub(super) fn first(
        shared: &Arc<Shared>,
        key: &ExecutionKey,
        claim: Claim,
        bound_at: u64,
    ) -> Self {
        let mut writer = Self::new(shared, key, claim);
        writer.bound_at = Some(bound_at);
        writer.watch.begin(bound_at);
        writer
    }

    /// Stores as many of these as there is room for, and then says what refused the next one. One that ends the log or changes its
    /// inbox must be alone.
    async fn store(
        &mut self,
        events: &[Event],
        ending: Option<Ending>,
        change: Change<'_>,
    ) -> Result<EventId, AppendError> {
        self.calls += 1;
        let stored = self.try_to_store(events, ending, change).await;
        if let Some(bound_at) = self.bound_at {
            if stored.is_ok() && ending.is_none() {
                let frames = Bytes::copy_from_slice(self.frames.as_bytes());
                let after = self.claim.last.seq - self.frames.frames().len() as u64;
                self.watch.tell(bound_at, after, Page { frames, last: self.claim.last.seq });
            } else {
                // What is there by now is Redis' to say.
                self.watch.leave(bound_at);
            }
        }
        stored
    }

    async fn try_to_store(
        &mut self,
        events: &[Event],
        ending: Option<Ending>,
        change: Change<'_>,
    ) -> Result<EventId, AppendError> {
        loop {
            let first = EventId { seq: self.claim.last.seq + 1, ..self.claim.last };
            let encoded = self.frames.encode_all(first, events);
            let count = self.frames.frames().len() as u64;
            if count == 0 {
                return encoded.map(|()| self.claim.last).map_err(AppendError::from);
            }
            let (writer, call, frames) = (self.claim.writer, self.calls, &self.frames);
            let batch = Batch { writer, first, call, frames, ending, change };
            match self.shared.store.append(&self.name, &batch).await? {
                Appended::Stored => {
                    self.claim.last.seq += count;
                    encoded?;
                    return Ok(self.claim.last);
                }
                // An append whose future was dropped had been stored.
                Appended::At(seq) if seq > self.claim.last.seq => self.claim.last.seq = seq,
                Appended::At(_) => self.begin_anew().await?,
                Appended::Full(bound, stored) => {
                    self.claim.last.seq += stored;
                    return Err(AppendError::Full(bound));
                }
                Appended::AskedBefore => return Err(AppendError::AskedBefore),
                Appended::Fenced => return Err(AppendError::Fenced),
            }
        }
    }

    async fn untaken(&self) -> Result<Vec<String>, StoreError> {
        let open = self.shared.store.open(&self.name, None).await?;
        let untaken = |slot| if let Slot::Input(id) = slot { Some(id) } else { None };
        Ok(open.into_values().filter_map(untaken).collect())
    }

    /// Redis has lost events that readers may have seen. Nothing may come again under their ids: what is stored after this
    /// error, which is no more than an end, has a new epoch.
    async fn begin_anew(&mut self) -> Result<(), StoreError> {
        let Claim { writer, last } = self.claim;
        let claim = self.shared.claim(&self.name, writer, Heir::Of(last.epoch)).await?;
        if let Some(claim) = claim {
            self.claim = claim;
        }
        Err(StoreError::LostEvents)
    }
}

impl LogWriter for RedisWriter {
    fn epoch(&self) -> u64 {
        self.claim.last.epoch
    }

    fn append_with<'a>(
        &'a mut self,
        event: &'a Event,
        change: Change<'a>,
    ) -> LogFuture<'a, Result<EventId, AppendError>> {
        Box::pin(self.store(slice::from_ref(event), None, change))
    }

    fn append_all<'a>(&'a mut self, events: &'a [Event]) -> LogFuture<'a, Result<(), AppendError>> {
        Box::pin(async move {
            if !events.is_empty() {
                self.store(events, None, Change::None).await?;
            }
            Ok(())
        })
    }

    fn posted(&self) -> LogFuture<'static, Result<Vec<(Slot, Event)>, LogError>> {
        let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
        let watch = Arc::clone(&self.watch);
        Box::pin(async move {
            loop {
                // Made before looking, so that a post in between wakes it.
                let knocked = watch.posted();
                let posted = shared.store.posted(&name).await?;
                if !posted.is_empty() {
                    return Ok(posted);
                }
                knocked.await;
            }
        })
    }

    fn untaken(&self) -> LogFuture<'_, Result<Vec<String>, LogError>> {
        Box::pin(async { Ok(Self::untaken(self).await?) })
    }

    fn fenced(&self) -> LogFuture<'static, ()> {
        let (shared, name, token) =
            (Arc::clone(&self.shared), self.name.clone(), self.claim.writer);
        let watch = Arc::clone(&self.watch);
        Box::pin(async move {
            loop {
                let fenced = watch.fenced();
                if let Ok(false) = shared.store.is_writer(&name, token).await {
                    return;
                }
                fenced.await;
            }
        })
    }

    fn end(
        mut self: Box<Self>,
        ending: Ending,
        terminal: &Event,
    ) -> LogFuture<'_, Result<EventId, AppendError>> {
        Box::pin(async move {
            let ended = self.store(slice::from_ref(terminal), Some(ending), Change::None).await;
            if ended.is_ok() {
                self.on_drop = OnDrop::Nothing;
            }
            ended
        })
    }
}

impl Drop for RedisWriter {
    fn drop(&mut self) {
        self.shared.node.release(self.claim.writer);
        if let Some(bound_at) = self.bound_at {
            self.watch.leave(bound_at);
        }
        if self.on_drop == OnDrop::Nothing {
            return;
        }
        // Where this fails, the lease tells it later.
        if let Some(thread) = self.shared.store.thread() {
            let (shared, key, epoch) =
                (Arc::clone(&self.shared), self.key.clone(), self.claim.last.epoch);
            thread.spawn(async move { lose(&shared, &key, Heir::Of(epoch)).await });
        }
    }
}

/// Ends the log of a run whose runner is gone, unless another writer has it.
pub(super) async fn lose(shared: &Arc<Shared>, key: &ExecutionKey, heir: Heir) {
    if let Err(error) = try_to_lose(shared, key, heir).await {
        tracing::error!(execution_id = %key.id, scope = %key.scope, %error, "a lost run could not be ended");
    }
}

async fn try_to_lose(
    shared: &Arc<Shared>,
    key: &ExecutionKey,
    heir: Heir,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(claim) = shared.claim(&Name::of(key), Uuid::new_v4(), heir).await? else {
        return Ok(());
    };
    let mut writer = RedisWriter::new(shared, key, claim);
    // Its own loss is told by its lease, so that a Redis that is gone is not asked for ever.
    writer.on_drop = OnDrop::Nothing;
    let untaken = writer.untaken().await?;
    let lost = events::runner_lost(&key.id, &untaken, shared.store.now())?;
    match writer.store(slice::from_ref(&lost), Some(Ending::Failed), Change::None).await {
        Ok(id) => {
            tracing::warn!(execution_id = %key.id, scope = %key.scope, last = %id, "run lost");
            Ok(())
        }
        Err(AppendError::Fenced) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
