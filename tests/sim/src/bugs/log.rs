//! A log that makes a mistake: a small one of the simulation's own, since the real one cannot be talked into any.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::{pending, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use turnkit_id::LogId;
use turnkit_substrate::{
    Cursor, EventId, ExecutionLog, Limits, Scope,
    log::{
        AppendError, Change, Ending, ExecutionKey, Fingerprint, Found, LogError, LogFuture,
        LogReader, LogWriter, Opening, Page, Position, Post, Slot, SlotState, Start, State, Status,
        Usage,
    },
};
use turnkit_wire::{Event, sse};

use super::Bug;
use crate::world::unix_ms;

/// How many of the newest events are not stored yet when readers see them.
const UNSTORED: usize = 2;

/// An [`ExecutionLog`] with one of the bugs in [`Bug::LOG`]; without one, it keeps its contract.
pub(crate) struct FaultyLog {
    bug: Option<Bug>,
    limits: Limits,
    bound: Mutex<BTreeMap<ExecutionKey, Arc<Execution>>>,
}

impl FaultyLog {
    pub(crate) fn new(bug: impl Into<Option<Bug>>) -> Self {
        let limits = Limits { heartbeat: std::time::Duration::from_secs(2), ..Limits::default() };
        Self { bug: bug.into(), limits, bound: Mutex::default() }
    }

    fn found(&self, key: &ExecutionKey) -> Option<Arc<Execution>> {
        lock(&self.bound).get(key).cloned()
    }

    fn begin(&self, key: &ExecutionKey, opening: &Opening) -> Result<Start, LogError> {
        if let Some(execution) = self.found(key) {
            return Ok(Start::Exists(execution));
        }
        let execution = Arc::new(Execution::new(self.bug, opening.fingerprint));
        lock(&self.bound).insert(key.clone(), Arc::clone(&execution));
        let mut writer = Writer { execution: Arc::clone(&execution), epoch: unix_ms() };
        match writer.push(&opening.first, None) {
            Ok(_) => Ok(Start::Started { writer: Box::new(writer), reader: execution }),
            Err(error) => Err(LogError::Store(error.into())),
        }
    }
}

impl ExecutionLog for FaultyLog {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn id(&self) -> LogFuture<'_, Result<LogId, LogError>> {
        Box::pin(ready(Ok(LogId::from_u128(0))))
    }

    fn start<'a>(
        &'a self,
        key: &'a ExecutionKey,
        opening: Opening,
    ) -> LogFuture<'a, Result<Start, LogError>> {
        Box::pin(ready(self.begin(key, &opening)))
    }

    fn find<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<Found, LogError>> {
        let found = self.found(key).map_or(Found::Unknown, |execution| Found::Retained(execution));
        Box::pin(ready(Ok(found)))
    }

    /// Ends the execution as lost, and gives no writer: nobody here asks for one that it would write with.
    fn take_over<'a>(
        &'a self,
        key: &'a ExecutionKey,
    ) -> LogFuture<'a, Result<Option<Box<dyn LogWriter>>, LogError>> {
        let writer = self.found(key).and_then(Execution::taken_over);
        Box::pin(ready(Ok(writer.map(|writer| Box::new(writer) as Box<dyn LogWriter>))))
    }

    /// Nobody deletes anything where the log is at fault.
    fn erase<'a>(&'a self, _: &'a ExecutionKey) -> LogFuture<'a, Result<bool, LogError>> {
        Box::pin(ready(Ok(false)))
    }

    /// It has no inbox: an agent that asks runs over the real log.
    fn post<'a>(
        &'a self,
        _: &'a ExecutionKey,
        _: &'a Slot,
        _: &'a Event,
    ) -> LogFuture<'a, Result<Post, LogError>> {
        Box::pin(ready(Ok(Post::Unknown)))
    }

    fn sweep(&self) -> LogFuture<'_, Result<(), LogError>> {
        Box::pin(ready(Ok(())))
    }

    fn usage<'a>(&'a self, _: Option<&'a Scope>) -> LogFuture<'a, Result<Usage, LogError>> {
        Box::pin(ready(Ok(Usage::default())))
    }
}

struct Execution {
    bug: Option<Bug>,
    fingerprint: Option<Fingerprint>,
    started_at: u64,
    journal: Mutex<Journal>,
    changed: Notify,
}

#[derive(Default)]
struct Journal {
    frames: Vec<(EventId, Bytes)>,
    epoch: u64,
    ended: Option<(Ending, u64)>,
}

impl Execution {
    fn new(bug: Option<Bug>, fingerprint: Option<Fingerprint>) -> Self {
        let (started_at, journal) = (unix_ms(), Mutex::default());
        Self { bug, fingerprint, started_at, journal, changed: Notify::new() }
    }

    /// The writer of the node that takes over. What its predecessor had not stored yet is gone.
    fn taken_over(self: Arc<Self>) -> Option<Writer> {
        let epoch = {
            let mut journal = lock(&self.journal);
            if journal.ended.is_some() {
                return None;
            }
            if matches!(self.bug, Some(Bug::DeliverBeforeAppend | Bug::IdReused)) {
                let stored = journal.frames.len().saturating_sub(UNSTORED).max(1);
                journal.frames.truncate(stored);
            }
            if self.bug != Some(Bug::IdReused) {
                journal.epoch = unix_ms().max(journal.epoch + 1);
            }
            journal.epoch
        };
        Some(Writer { execution: self, epoch })
    }

    /// What a reader at `after` can have now; nothing at all where it has to wait.
    fn read(&self, after: u64) -> Poll<Option<Page>> {
        let journal = lock(&self.journal);
        let rest =
            journal.frames.get(usize::try_from(after).unwrap_or(usize::MAX)..).unwrap_or_default();
        let Some((last, _)) = rest.last() else {
            return journal.ended.map_or(Poll::Pending, |_| Poll::Ready(None));
        };
        let frames = rest.iter().flat_map(|(_, frame)| frame.iter().copied()).collect();
        Poll::Ready(Some(Page { frames, last: last.seq }))
    }

    fn position(&self, cursor: Cursor) -> Position {
        let journal = lock(&self.journal);
        let Cursor::After(id) = cursor else {
            return Position::After(0);
        };
        let at = journal.frames.iter().position(|(held, _)| *held == id);
        let is_last = at.is_some_and(|at| at + 1 == journal.frames.len());
        match at {
            None => Position::NotHeld,
            Some(_) if self.bug == Some(Bug::InclusiveReplay) => Position::After(id.seq - 1),
            Some(_) if is_last && journal.ended.is_some() => Position::AtEnd,
            Some(_) => Position::After(id.seq),
        }
    }

    fn standing(&self) -> Status {
        let journal = lock(&self.journal);
        let last = journal.frames.last().map_or(EventId { epoch: 0, seq: 0 }, |(id, _)| *id);
        let state = journal.ended.map_or(State::Running, |(ending, _)| State::Ended(ending));
        Status {
            state,
            last,
            started_at: self.started_at,
            ended_at: journal.ended.map(|(_, at)| at),
            takes_input: false,
        }
    }
}

impl LogReader for Execution {
    fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    fn status(&self) -> LogFuture<'_, Result<Status, LogError>> {
        Box::pin(ready(Ok(self.standing())))
    }

    fn locate(&self, cursor: Cursor) -> LogFuture<'_, Result<Position, LogError>> {
        Box::pin(ready(Ok(self.position(cursor))))
    }

    fn slot<'a>(&'a self, _: &'a Slot) -> LogFuture<'a, Result<Option<SlotState>, LogError>> {
        Box::pin(ready(Ok(None)))
    }

    fn pending(&self) -> LogFuture<'_, Result<Vec<u64>, LogError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn next(&self, after: u64) -> LogFuture<'_, Result<Option<Page>, LogError>> {
        Box::pin(async move {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Poll::Ready(page) = self.read(after) {
                    return Ok(page);
                }
                changed.await;
            }
        })
    }
}

struct Writer {
    execution: Arc<Execution>,
    epoch: u64,
}

impl Writer {
    fn push(&mut self, event: &Event, ending: Option<Ending>) -> Result<EventId, AppendError> {
        let mut journal = lock(&self.execution.journal);
        if journal.ended.is_some() || journal.epoch > self.epoch {
            return Err(AppendError::Fenced);
        }
        journal.epoch = self.epoch;
        let id = EventId { epoch: self.epoch, seq: journal.frames.len() as u64 + 1 };
        let (mut frame, mut text) = (BytesMut::new(), String::new());
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{id}");
        sse::write_event(&mut frame, Some(&text), event)?;
        journal.frames.push((id, frame.freeze()));
        journal.ended = ending.map(|ending| (ending, unix_ms()));
        drop(journal);
        self.execution.changed.notify_waiters();
        Ok(id)
    }
}

impl LogWriter for Writer {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn append_with<'a>(
        &'a mut self,
        event: &'a Event,
        _: Change<'a>,
    ) -> LogFuture<'a, Result<EventId, AppendError>> {
        Box::pin(ready(self.push(event, None)))
    }

    fn posted(&self) -> LogFuture<'static, Result<Vec<(Slot, Event)>, LogError>> {
        Box::pin(pending())
    }

    fn untaken(&self) -> LogFuture<'_, Result<Vec<String>, LogError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn end(
        mut self: Box<Self>,
        ending: Ending,
        terminal: &Event,
    ) -> LogFuture<'_, Result<EventId, AppendError>> {
        Box::pin(ready(self.push(terminal, Some(ending))))
    }
}

/// A writer that is gone without an end has lost its run, and the log says so.
impl Drop for Writer {
    fn drop(&mut self) {
        let lost = Event::from_json(LOST);
        // Fenced where it has ended, or where somebody else has it.
        drop(lost.map(|lost| self.push(&lost, Some(Ending::Failed))));
    }
}

const LOST: &[u8] =
    br#"{"type":"execution.failed","data":{"code":"runner_lost","message":"the runner is gone"}}"#;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
