//! The substrate's log as the simulation keeps it: outside of the node, so that it outlives it, slow where stores are slow,
//! and with everything that it takes written down.

use std::{
    collections::BTreeMap,
    future::{pending, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use turnkit_id::LogId;
use turnkit_substrate::{
    Clock, EventId as StoredId, ExecutionLog, Limits, MemoryLog, Scope,
    log::{
        AppendError, Change, Ending, ExecutionKey, Found, LogError, LogFuture, LogWriter, Opening,
        Page, Post, Slot, Start, Usage,
    },
};
use turnkit_wire::{Event, sse};

use crate::{
    bugs::{Bug, FaultyLog},
    check::is_terminal,
    history::{EventId, Fact},
    world::{World, now, unix_ms},
};

/// Where the substrate's log lives: beside its node, so that a node's death does not end it.
#[derive(Clone)]
pub(crate) struct Logs {
    world: World,
    current: Arc<Mutex<Current>>,
}

struct Current {
    log: Outliving,
    unnoticed: Duration,
}

impl Logs {
    pub(crate) fn new(world: World) -> Self {
        let log = Outliving::new(world.clone());
        let current = Arc::new(Mutex::new(Current { log, unnoticed: Duration::ZERO }));
        Self { world, current }
    }

    /// The log for a node that starts, and how long the runs of the node before it still count as alive.
    pub(crate) fn open(&self) -> (Outliving, Duration) {
        let current = lock(&self.current);
        (current.log.clone(), current.unnoticed)
    }

    /// For how long nobody notices that a node has died.
    pub(crate) fn set_unnoticed(&self, unnoticed: Duration) {
        lock(&self.current).unnoticed = unnoticed;
    }

    /// Another node has taken over all that runs. Its runner is not told so until it writes, and nobody goes on with it: it is told as
    /// lost once that much time of the world has passed.
    pub(crate) fn fence(&self, until: Duration) {
        lock(&self.current).log.fence(until);
    }

    /// Forgets everything.
    pub(crate) fn lose(&self) {
        self.world.add(Fact::LogLost);
        self.world.forget();
        lock(&self.current).log = Outliving::new(self.world.clone());
    }
}

/// A log whose writers, when their node dies, leave the execution running in it until somebody takes over.
#[derive(Clone)]
pub(crate) struct Outliving {
    world: World,
    inner: Arc<dyn ExecutionLog>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What the dead left behind. Kept, because a writer that is dropped ends its log, and the dead say nothing.
    orphans: Vec<(ExecutionKey, Box<dyn LogWriter>)>,
    /// What was taken over from a node that lives, and until when nobody says so.
    fenced: Vec<(Duration, ExecutionKey, Box<dyn LogWriter>)>,
    /// The epoch of each execution's last writer: all before it are fenced off.
    epochs: BTreeMap<ExecutionKey, u64>,
    /// Answers that came later than another one: with [`Bug::LastAnswerWins`].
    late: BTreeMap<ExecutionKey, Vec<(Slot, Event)>>,
    /// Inputs that are to be told once more: with [`Bug::InputTwice`].
    again: BTreeMap<ExecutionKey, Vec<(Slot, Event)>>,
    /// How many events of each execution are written down.
    recorded: BTreeMap<ExecutionKey, u64>,
}

impl Outliving {
    fn new(world: World) -> Self {
        let bug = Bug::LOG.into_iter().find(|bug| world.has(*bug));
        let inner: Arc<dyn ExecutionLog> = match bug {
            Some(bug) => Arc::new(FaultyLog::new(bug)),
            None => Arc::new(MemoryLog::with_clock(limits(), Arc::new(SimClock))),
        };
        Self { world, inner, state: Arc::default() }
    }

    fn fence(&self, until: Duration) {
        let keys: Vec<_> = lock(&self.state).epochs.keys().cloned().collect();
        for key in keys {
            // The log is in memory: it answers at once.
            if let Some(Ok(Some(writer))) = self.inner.take_over(&key).now_or_never() {
                let mut state = lock(&self.state);
                state.epochs.insert(key.clone(), writer.epoch());
                state.fenced.push((until, key, writer));
            }
        }
    }

    /// Ends the runs that have nobody to run them any more, as lost.
    pub(crate) async fn bury(&self) {
        let mut orphans = self.orphans();
        // They came in whatever order their tasks were dropped.
        orphans.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (key, writer) in orphans {
            // The new writer says so where it is dropped; the old one is fenced off by it.
            drop(self.inner.take_over(&key).await);
            drop(writer);
            self.record(&key);
        }
    }

    /// The writers that died. One that was fenced off says nothing any more, and who came after it may be alive.
    fn orphans(&self) -> Vec<(ExecutionKey, Box<dyn LogWriter>)> {
        let state = &mut *lock(&self.state);
        let due = state.fenced.extract_if(.., |(until, ..)| *until <= now());
        state.orphans.extend(due.map(|(_, key, writer)| (key, writer)));
        let epochs = &state.epochs;
        let is_last = |(key, writer): &(_, Box<dyn LogWriter>)| {
            epochs.get(key).is_none_or(|last| *last == writer.epoch())
        };
        let (last, fenced) = std::mem::take(&mut state.orphans).into_iter().partition(is_last);
        drop::<Vec<_>>(fenced);
        last
    }

    fn wrap(&self, key: &ExecutionKey, inner: Box<dyn LogWriter>) -> Box<dyn LogWriter> {
        lock(&self.state).epochs.insert(key.clone(), inner.epoch());
        Box::new(Writer {
            log: self.clone(),
            key: key.clone(),
            inner: Some(inner),
            told: None,
            twice: Vec::new(),
        })
    }

    /// Writes down what the log has taken since it was last asked.
    fn record(&self, key: &ExecutionKey) {
        let found = self.inner.find(key).now_or_never();
        let Some(Ok(Found::Retained(reader))) = found else {
            return;
        };
        let mut state = lock(&self.state);
        let recorded = state.recorded.entry(key.clone()).or_default();
        while let Some(Ok(Some(page))) = reader.next(*recorded).now_or_never() {
            *recorded = page.last;
            self.record_page(key, &page);
        }
    }

    fn record_page(&self, key: &ExecutionKey, page: &Page) {
        for (id, event) in frames(&page.frames) {
            if is_terminal(&event) {
                self.world.ended(&key.id);
            }
            self.world.add(Fact::Appended { execution: key.id.clone(), id, event });
        }
    }
}

impl ExecutionLog for Outliving {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    fn id(&self) -> LogFuture<'_, Result<LogId, LogError>> {
        self.inner.id()
    }

    fn start<'a>(
        &'a self,
        key: &'a ExecutionKey,
        opening: Opening,
    ) -> LogFuture<'a, Result<Start, LogError>> {
        Box::pin(async move {
            self.world.pause().await;
            let start = match self.inner.start(key, opening).await? {
                Start::Started { writer, reader } => {
                    self.world.bound(&key.id);
                    self.record(key);
                    Start::Started { writer: self.wrap(key, writer), reader }
                }
                bound => bound,
            };
            self.world.pause().await;
            Ok(start)
        })
    }

    fn find<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<Found, LogError>> {
        Box::pin(async move {
            self.world.pause().await;
            self.inner.find(key).await
        })
    }

    fn take_over<'a>(
        &'a self,
        key: &'a ExecutionKey,
    ) -> LogFuture<'a, Result<Option<Box<dyn LogWriter>>, LogError>> {
        Box::pin(async move {
            let writer = self.inner.take_over(key).await?;
            Ok(writer.map(|writer| self.wrap(key, writer)))
        })
    }

    fn erase<'a>(&'a self, key: &'a ExecutionKey) -> LogFuture<'a, Result<bool, LogError>> {
        Box::pin(async move {
            self.world.pause().await;
            let erased = self.inner.erase(key).await;
            if let Ok(true) = erased {
                self.world.ended(&key.id);
                self.world.add(Fact::Erased { execution: key.id.clone() });
            }
            self.world.pause().await;
            erased
        })
    }

    fn post<'a>(
        &'a self,
        key: &'a ExecutionKey,
        slot: &'a Slot,
        event: &'a Event,
    ) -> LogFuture<'a, Result<Post, LogError>> {
        Box::pin(async move {
            self.world.pause().await;
            let post = self.inner.post(key, slot, event).await?;
            if post == Post::Occupied && self.world.has(Bug::LastAnswerWins) {
                let late = (slot.clone(), event.clone());
                lock(&self.state).late.entry(key.clone()).or_default().push(late);
            }
            self.world.pause().await;
            Ok(post)
        })
    }

    fn sweep(&self) -> LogFuture<'_, Result<(), LogError>> {
        self.inner.sweep()
    }

    fn usage<'a>(&'a self, scope: Option<&'a Scope>) -> LogFuture<'a, Result<Usage, LogError>> {
        self.inner.usage(scope)
    }
}

struct Writer {
    log: Outliving,
    key: ExecutionKey,
    inner: Option<Box<dyn LogWriter>>,
    /// An answer that the agent has and the log has not: with [`Bug::AnswerBeforeAppend`].
    told: Option<Event>,
    /// What it is told a second time: with [`Bug::InputTwice`].
    twice: Vec<Slot>,
}

impl Writer {
    async fn append_or_err(
        &mut self,
        event: &Event,
        change: Change<'_>,
    ) -> Result<StoredId, AppendError> {
        let inner = self.inner.as_mut().ok_or(AppendError::Fenced)?;
        let world = &self.log.world;
        match change {
            Change::Tells(slot @ Slot::Input(_)) if world.has(Bug::InputTwice) => {
                if self.twice.contains(slot) {
                    return inner.append(event).await;
                }
                let id = inner.append_with(event, change).await?;
                self.twice.push(slot.clone());
                let again = (slot.clone(), event.clone());
                lock(&self.log.state).again.entry(self.key.clone()).or_default().push(again);
                Ok(id)
            }
            Change::Tells(_) if world.has(Bug::AnswerAfterFence) => {
                match inner.append_with(event, change).await {
                    Err(AppendError::Fenced) => {
                        Ok(StoredId { epoch: inner.epoch(), seq: u64::MAX })
                    }
                    appended => appended,
                }
            }
            _ => inner.append_with(event, change).await,
        }
    }
}

impl LogWriter for Writer {
    fn epoch(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.epoch())
    }

    fn append_with<'a>(
        &'a mut self,
        event: &'a Event,
        change: Change<'a>,
    ) -> LogFuture<'a, Result<StoredId, AppendError>> {
        Box::pin(async move {
            let inner = self.inner.as_mut().ok_or(AppendError::Fenced)?;
            if let Some(told) = self.told.take() {
                inner.append(&told).await?;
            }
            let late = lock(&self.log.state).late.remove(&self.key).unwrap_or_default();
            for (_, answer) in &late {
                inner.append(answer).await?;
            }
            let id = if matches!(change, Change::Tells(_))
                && self.log.world.has(Bug::AnswerBeforeAppend)
            {
                // The agent has it, and it is stored along with what comes next.
                self.told = Some(event.clone());
                StoredId { epoch: inner.epoch(), seq: u64::MAX }
            } else {
                self.append_or_err(event, change).await?
            };
            self.log.record(&self.key);
            self.log.world.pause().await;
            Ok(id)
        })
    }

    fn posted(&self) -> LogFuture<'static, Result<Vec<(Slot, Event)>, LogError>> {
        if let Some(again) = lock(&self.log.state).again.remove(&self.key) {
            return Box::pin(ready(Ok(again)));
        }
        self.inner.as_ref().map_or_else(|| Box::pin(pending()) as _, |inner| inner.posted())
    }

    fn untaken(&self) -> LogFuture<'_, Result<Vec<String>, LogError>> {
        match &self.inner {
            Some(inner) => inner.untaken(),
            None => Box::pin(ready(Ok(Vec::new()))),
        }
    }

    fn end(
        mut self: Box<Self>,
        ending: Ending,
        terminal: &Event,
    ) -> LogFuture<'_, Result<StoredId, AppendError>> {
        Box::pin(async move {
            self.log.world.pause().await;
            let inner = self.inner.take().ok_or(AppendError::Fenced)?;
            let id = inner.end(ending, terminal).await?;
            self.log.record(&self.key);
            Ok(id)
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            lock(&self.log.state).orphans.push((self.key.clone(), inner));
        }
    }
}

/// The frames of a stream that have an id, with their events.
fn frames(bytes: &[u8]) -> Vec<(EventId, Event)> {
    let mut found = Vec::new();
    // A log holds no frame over the limit of a parser; where it did, the checks would miss its events.
    let _ = sse::Parser::new().feed(bytes, |frame| {
        let id = EventId::parse(frame.id());
        found.extend(id.zip(frame.to_event().ok().flatten()));
    });
    found
}

/// How long a run may take without the time that it waits for answers: longer than any script, shorter than many waits.
pub(crate) const RUN_TIMEOUT: Duration = Duration::from_secs(45);

/// Silence is broken sooner than by default, so that a world needs less time.
fn limits() -> Limits {
    Limits { heartbeat: Duration::from_secs(2), run_timeout: RUN_TIMEOUT, ..Limits::default() }
}

/// Simulated time.
pub(crate) struct SimClock;

impl Clock for SimClock {
    fn unix_ms(&self) -> u64 {
        unix_ms()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
