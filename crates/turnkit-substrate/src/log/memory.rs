//! The embedded default: everything in this process's memory, and gone with it.

mod budget;
mod inbox;
mod journal;
mod segments;
mod table;
#[cfg(test)]
mod tests;

use std::{future::ready, sync::Arc};

use turnkit_id::LogId;
use turnkit_wire::Event;
use uuid::Uuid;

use self::{
    budget::Budget,
    inbox::{ask_cost, post_cost},
    journal::{INDEX, Journal},
    segments::Segments,
    table::{Bond, EXECUTION, Table, charge, id_bytes},
};
use super::{
    AppendError, Bound, Change, Ending, ExecutionKey, ExecutionLog, Fingerprint, Found, LogError,
    LogFuture, LogReader, LogWriter, Opening, Page, Position, Post, Slot, SlotState, Start, Status,
    Usage, frame::FrameBuffer,
};
use crate::{
    Clock, Cursor, EventId, Limits, Scope, SystemClock, events,
    sync::{Mutex, Notify, lock},
};

/// An [`ExecutionLog`] in memory.
///
/// Frames are encoded once, at append, and stored back to back: an event takes the bytes of its frame and four more. It
/// promises nothing beyond its process: a crash loses every log and every binding, and clients that come back get
/// `execution_not_found`, and starts that count on the log that is gone `log_changed` (PROTOCOL 3.5).
///
/// Cloning it gives another handle to the same log.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

impl MemoryLog {
    /// An empty log with these limits, on the system's clock.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, Arc::new(SystemClock::new()))
    }

    /// An empty log with these limits, on this clock.
    #[must_use]
    pub fn with_clock(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let server = Arc::new(Budget::new(limits.bytes_in_all));
        let table = Mutex::new(Table::new(&limits, Arc::clone(&server)));
        let id = LogId::from_u128(Uuid::new_v4().as_u128());
        let segments = Arc::default();
        Self { shared: Arc::new(Shared { id, limits, clock, server, segments, table }) }
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl ExecutionLog for MemoryLog {
    fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    fn id(&self) -> LogFuture<'_, Result<LogId, LogError>> {
        Box::pin(ready(Ok(self.shared.id.clone())))
    }

    fn start<'a>(
        &'a self,
        key: &'a ExecutionKey,
        opening: Opening,
    ) -> LogFuture<'a, Result<Start, LogError>> {
        Box::pin(ready(self.shared.start(key, &opening)))
    }

    fn find<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<Found, LogError>> {
        Box::pin(ready(Ok(self.shared.find(key))))
    }

    fn take_over<'a>(
        &'a self,
        key: &'a ExecutionKey,
    ) -> LogFuture<'a, Result<Option<Box<dyn LogWriter>>, LogError>> {
        Box::pin(ready(Ok(self.shared.take_over(key))))
    }

    fn erase<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<bool, LogError>> {
        Box::pin(ready(Ok(self.shared.erase(key))))
    }

    fn post<'a>(
        &'a self,
        key: &'a ExecutionKey,
        slot: &'a Slot,
        event: &'a Event,
    ) -> LogFuture<'a, Result<Post, LogError>> {
        Box::pin(ready(self.shared.post(key, slot, event)))
    }

    fn sweep(&self) -> LogFuture<'_, Result<(), LogError>> {
        lock(&self.shared.table).sweep(self.shared.clock.unix_ms());
        self.shared.segments.trim();
        Box::pin(ready(Ok(())))
    }

    fn usage<'a>(&'a self, scope: Option<&'a Scope>) -> LogFuture<'a, Result<Usage, LogError>> {
        Box::pin(ready(Ok(lock(&self.shared.table).usage(scope))))
    }
}

struct Shared {
    id: LogId,
    limits: Limits,
    clock: Arc<dyn Clock>,
    server: Arc<Budget>,
    segments: Arc<Segments>,
    table: Mutex<Table>,
}

impl Shared {
    fn start(self: &Arc<Self>, key: &ExecutionKey, opening: &Opening) -> Result<Start, LogError> {
        let now = self.clock.unix_ms();
        let mut table = lock(&self.table);
        table.sweep_scope(&key.scope, now);
        match table.find(&key.scope, &key.id) {
            Some(Bond::Log(execution)) => return Ok(Start::Exists(execution)),
            Some(Bond::Spent) => return Ok(Start::Spent),
            None => {}
        }
        if opening.log_id.as_ref().is_some_and(|named| *named != self.id) {
            return Ok(Start::LogChanged);
        }
        let mut frame = FrameBuffer::default();
        let first = EventId { epoch: now, seq: 1 };
        frame.encode(first, &opening.first).map_err(LogError::Frame)?;
        let bytes = EXECUTION + id_bytes(&key.id) + cost(&frame);
        table.charge(&key.scope, bytes, now).map_err(LogError::Full)?;
        let scope = table.scope(&key.scope);
        let journal = Journal::new(now, now, Arc::clone(&self.segments));
        let execution = Arc::new(Execution::new(key, opening, &scope.budget, journal));
        lock(&execution.journal).push(frame.as_bytes());
        scope.bound.insert(key.id.clone(), Bond::Log(Arc::clone(&execution)));
        let reader = Arc::clone(&execution) as Arc<dyn LogReader>;
        let writer = self.writer(execution, first);
        Ok(Start::Started { writer, reader })
    }

    fn find(&self, key: &ExecutionKey) -> Found {
        let mut table = lock(&self.table);
        table.sweep_scope(&key.scope, self.clock.unix_ms());
        match table.find(&key.scope, &key.id) {
            Some(Bond::Log(execution)) => Found::Retained(execution),
            Some(Bond::Spent) => Found::Spent,
            None => Found::Unknown,
        }
    }

    fn erase(&self, key: &ExecutionKey) -> bool {
        let now = self.clock.unix_ms();
        let mut table = lock(&self.table);
        table.sweep_scope(&key.scope, now);
        if let Some(Bond::Log(execution)) = table.find(&key.scope, &key.id)
            && !lock(&execution.journal).is_ended()
        {
            return false;
        }
        table.erase(&key.scope, &key.id, now);
        true
    }

    fn take_over(self: &Arc<Self>, key: &ExecutionKey) -> Option<Box<dyn LogWriter>> {
        let Some(Bond::Log(execution)) = lock(&self.table).find(&key.scope, &key.id) else {
            return None;
        };
        let mut journal = lock(&execution.journal);
        if journal.is_ended() {
            return None;
        }
        let epoch = self.clock.unix_ms().max(journal.epoch() + 1);
        journal.begin_epoch(epoch);
        let last = EventId { epoch, seq: journal.last() };
        drop(journal);
        Some(self.writer(execution, last))
    }

    fn post(&self, key: &ExecutionKey, slot: &Slot, event: &Event) -> Result<Post, LogError> {
        let Some(Bond::Log(execution)) = lock(&self.table).find(&key.scope, &key.id) else {
            return Ok(Post::Ended);
        };
        // Before the lock of the journal, which must not be held where ended executions make room.
        let bytes = post_cost(slot, event);
        self.charge(&execution, bytes).map_err(LogError::Full)?;
        let post = {
            let mut journal = lock(&execution.journal);
            if journal.is_ended() { Post::Ended } else { journal.inbox.post(slot, event) }
        };
        if post != Post::Set {
            self.give_back(&execution, bytes);
        }
        execution.posted.notify_waiters();
        Ok(post)
    }

    fn writer(self: &Arc<Self>, execution: Arc<Execution>, last: EventId) -> Box<dyn LogWriter> {
        Box::new(MemoryWriter {
            shared: Arc::clone(self),
            execution,
            last,
            frame: FrameBuffer::default(),
            is_over: false,
        })
    }

    /// Takes the bytes of an append from both budgets; the table is locked only where ended executions have to go.
    fn charge(&self, execution: &Execution, bytes: u64) -> Result<(), Bound> {
        charge(&execution.budget, &self.server, bytes).or_else(|_| {
            let now = self.clock.unix_ms();
            lock(&self.table).charge(&execution.key.scope, bytes, now)
        })
    }

    fn give_back(&self, execution: &Execution, bytes: u64) {
        self.server.give_back(bytes);
        execution.budget.give_back(bytes);
    }

    fn force(&self, execution: &Execution, bytes: u64) {
        self.server.force(bytes);
        execution.budget.force(bytes);
    }
}

/// One execution's log.
struct Execution {
    key: ExecutionKey,
    fingerprint: Option<Fingerprint>,
    takes_input: bool,
    budget: Arc<Budget>,
    journal: Mutex<Journal>,
    changed: Notify,
    /// Something was put into the inbox.
    posted: Notify,
}

impl Execution {
    fn new(key: &ExecutionKey, opening: &Opening, budget: &Arc<Budget>, journal: Journal) -> Self {
        Self {
            key: key.clone(),
            fingerprint: opening.fingerprint,
            takes_input: opening.takes_input,
            budget: Arc::clone(budget),
            journal: Mutex::new(journal),
            changed: Notify::new(),
            posted: Notify::new(),
        }
    }

    /// What a reader at `after` can have now; `None` where it has to wait.
    fn read(&self, after: u64) -> Option<Result<Option<Page>, LogError>> {
        let journal = lock(&self.journal);
        if journal.is_ended() && after >= journal.last() {
            return Some(Ok(None));
        }
        if journal.is_dropped() {
            return Some(Err(LogError::Expired));
        }
        journal.read(after).map(|page| Ok(Some(page)))
    }

    fn with_journal<T>(&self, look: impl FnOnce(&Journal) -> T) -> Result<T, LogError> {
        let journal = lock(&self.journal);
        if journal.is_dropped() {
            return Err(LogError::Expired);
        }
        Ok(look(&journal))
    }
}

impl LogReader for Execution {
    fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    fn status(&self) -> LogFuture<'_, Result<Status, LogError>> {
        let takes_input = self.takes_input;
        Box::pin(ready(self.with_journal(|journal| Status { takes_input, ..journal.status() })))
    }

    fn locate(&self, cursor: Cursor) -> LogFuture<'_, Result<Position, LogError>> {
        Box::pin(ready(self.with_journal(|journal| journal.locate(cursor))))
    }

    fn slot<'a>(&'a self, slot: &'a Slot) -> LogFuture<'a, Result<Option<SlotState>, LogError>> {
        Box::pin(ready(self.with_journal(|journal| journal.inbox.slot(slot))))
    }

    fn pending(&self) -> LogFuture<'_, Result<Vec<u64>, LogError>> {
        Box::pin(ready(self.with_journal(|journal| journal.inbox.pending())))
    }

    fn next(&self, after: u64) -> LogFuture<'_, Result<Option<Page>, LogError>> {
        Box::pin(async move {
            loop {
                // Made before looking, so that an append in between wakes it.
                let changed = self.changed.notified();
                if let Some(answer) = self.read(after) {
                    return answer;
                }
                changed.await;
            }
        })
    }
}

struct MemoryWriter {
    shared: Arc<Shared>,
    execution: Arc<Execution>,
    last: EventId,
    frame: FrameBuffer,
    is_over: bool,
}

impl MemoryWriter {
    fn append_now(&mut self, event: &Event, change: Change<'_>) -> Result<EventId, AppendError> {
        let id = self.encode(event)?;
        let slot = if let Change::Asks(id) = change { ask_cost(id) } else { 0 };
        let bytes = cost(&self.frame) + slot;
        self.shared.charge(&self.execution, bytes).map_err(AppendError::Full)?;
        let stored = self.store(id, change);
        let freed = stored.inspect_err(|_| self.shared.give_back(&self.execution, bytes))?;
        if freed > 0 {
            self.shared.give_back(&self.execution, freed);
        }
        self.last = id;
        Ok(id)
    }

    fn end_now(&mut self, ending: Ending, terminal: &Event) -> Result<EventId, AppendError> {
        let id = self.encode(terminal)?;
        let now = self.shared.clock.unix_ms();
        {
            let mut journal = lock(&self.execution.journal);
            self.check_fence(&journal)?;
            journal.push(self.frame.as_bytes());
            let freed = journal.end(ending, now);
            self.shared.force(&self.execution, cost(&self.frame));
            self.shared.give_back(&self.execution, freed);
        }
        let key = &self.execution.key;
        lock(&self.shared.table).ended(&key.scope, &key.id, now);
        self.is_over = true;
        self.last = id;
        self.execution.changed.notify_waiters();
        Ok(id)
    }

    /// Ends the log of a run whose runner is gone, unless another writer has it.
    fn lose(&mut self) {
        let now = self.shared.clock.unix_ms();
        {
            let mut journal = lock(&self.execution.journal);
            if self.check_fence(&journal).is_err() {
                return;
            }
            self.last.epoch = now.max(journal.epoch() + 1);
            journal.begin_epoch(self.last.epoch);
        }
        let id = &self.execution.key.id;
        let untaken = lock(&self.execution.journal).inbox.untaken();
        let ended =
            events::runner_lost(id, &untaken, now).map_err(|error| error.to_string()).and_then(
                |lost| self.end_now(Ending::Failed, &lost).map_err(|error| error.to_string()),
            );
        if let Err(error) = ended {
            tracing::error!(execution_id = %self.execution.key.id, error, "a lost run could not be ended");
        }
    }

    fn encode(&mut self, event: &Event) -> Result<EventId, AppendError> {
        let id = EventId { seq: self.last.seq + 1, ..self.last };
        self.frame.encode(id, event)?;
        Ok(id)
    }

    /// Gives how many bytes of the inbox are free by that.
    fn store(&self, id: EventId, change: Change<'_>) -> Result<u64, AppendError> {
        let limits = &self.shared.limits;
        let mut journal = lock(&self.execution.journal);
        self.check_fence(&journal)?;
        if id.seq > limits.events_per_execution {
            return Err(AppendError::Full(Bound::EventsPerExecution(limits.events_per_execution)));
        }
        if journal.frame_bytes() + self.frame.as_bytes().len() as u64 > limits.bytes_per_execution {
            return Err(AppendError::Full(Bound::BytesPerExecution(limits.bytes_per_execution)));
        }
        if matches!(change, Change::Asks(id) if !journal.inbox.is_new(id)) {
            return Err(AppendError::AskedBefore);
        }
        journal.push(self.frame.as_bytes());
        Ok(journal.inbox.apply(change, id.seq))
    }

    fn check_fence(&self, journal: &Journal) -> Result<(), AppendError> {
        let is_ours = journal.epoch() == self.last.epoch && !journal.is_ended();
        is_ours.then_some(()).ok_or(AppendError::Fenced)
    }
}

impl LogWriter for MemoryWriter {
    fn epoch(&self) -> u64 {
        self.last.epoch
    }

    fn append_with<'a>(
        &'a mut self,
        event: &'a Event,
        change: Change<'a>,
    ) -> LogFuture<'a, Result<EventId, AppendError>> {
        let appended = self.append_now(event, change);
        self.execution.changed.notify_waiters();
        Box::pin(ready(appended))
    }

    fn append_all<'a>(&'a mut self, events: &'a [Event]) -> LogFuture<'a, Result<(), AppendError>> {
        let appended =
            events.iter().try_for_each(|event| self.append_now(event, Change::None).map(drop));
        // Those that were appended before one that was not are there as well.
        self.execution.changed.notify_waiters();
        Box::pin(ready(appended))
    }

    fn posted(&self) -> LogFuture<'static, Result<Vec<(Slot, Event)>, LogError>> {
        let execution = Arc::clone(&self.execution);
        Box::pin(async move {
            loop {
                // Made before looking, so that a post in between wakes it.
                let posted = execution.posted.notified();
                let found = lock(&execution.journal).inbox.posted();
                if !found.is_empty() {
                    return Ok(found);
                }
                posted.await;
            }
        })
    }

    fn untaken(&self) -> LogFuture<'_, Result<Vec<String>, LogError>> {
        Box::pin(ready(Ok(lock(&self.execution.journal).inbox.untaken())))
    }

    fn end(
        mut self: Box<Self>,
        ending: Ending,
        terminal: &Event,
    ) -> LogFuture<'_, Result<EventId, AppendError>> {
        Box::pin(ready(self.end_now(ending, terminal)))
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if !self.is_over {
            self.lose();
        }
    }
}

/// What storing a frame is charged.
fn cost(frame: &FrameBuffer) -> u64 {
    frame.as_bytes().len() as u64 + INDEX
}
