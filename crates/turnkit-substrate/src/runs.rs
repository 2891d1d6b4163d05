//! The runs of this process: how many there may be, and how to stop them (PROTOCOL 3.2).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;
use turnkit_http::server::ApiError;

use crate::{
    Limits, Scope,
    log::ExecutionKey,
    refusal,
    stop::{Stop, StopHandle},
};

/// The runs of this process.
pub(crate) struct Runs {
    running: Mutex<Running>,
    count: watch::Sender<usize>,
    started: AtomicU64,
}

#[derive(Default)]
struct Running {
    /// How many count as running, of each scope and in all.
    scopes: HashMap<Scope, usize>,
    in_all: usize,
    /// How many wait for an answer, and how many of these do not count as running.
    waiting: usize,
    excused: usize,
    handles: HashMap<ExecutionKey, StopHandle>,
    is_closed: bool,
    is_stopped: bool,
}

impl Runs {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            running: Mutex::default(),
            count: watch::Sender::new(0),
            started: AtomicU64::new(0),
        })
    }

    /// A place for one more run.
    pub(crate) fn admit(
        self: &Arc<Self>,
        scope: &Scope,
        limits: &Limits,
    ) -> Result<Permit, ApiError> {
        let mut running = self.lock();
        if running.is_closed {
            return Err(ApiError::unavailable("the substrate is shutting down"));
        }
        let of_scope = running.scopes.get(scope).copied().unwrap_or_default();
        if of_scope >= limits.running_per_scope {
            return Err(refusal::too_many_executions(limits.running_per_scope, "this scope"));
        }
        if running.in_all >= limits.running_in_all {
            return Err(refusal::too_many_executions(limits.running_in_all, "this server"));
        }
        running.enter(scope);
        self.count.send_modify(|count| *count += 1);
        let (runs, scope) = (Arc::clone(self), scope.clone());
        Ok(Permit { runs, scope, enlisted: None, place: Place::Running })
    }

    /// Tells the runner of `key` to end it as cancelled. `false` where it does not run in this process.
    pub(crate) fn cancel(&self, key: &ExecutionKey) -> bool {
        let running = self.lock();
        let handle = running.handles.get(key);
        handle.inspect(|handle| handle.stop(Stop::Cancelled)).is_some()
    }

    /// How many runs wait for an answer now.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How many runs there are now.
    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// How many agents were asked since the start of the process.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Lets no run begin any more.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Stops every run, because the process ends; also one that has its place and has not begun.
    pub(crate) fn stop_all(&self) {
        let mut running = self.lock();
        running.is_stopped = true;
        for handle in running.handles.values() {
            handle.stop(Stop::ShuttingDown);
        }
    }

    /// Resolves when no run is left.
    pub(crate) async fn drained(&self) {
        let mut count = self.count.subscribe();
        // It cannot fail: the sender lives as long as `self`.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn enter(&mut self, scope: &Scope) {
        self.in_all += 1;
        *self.scopes.entry(scope.clone()).or_default() += 1;
    }

    fn leave(&mut self, scope: &Scope) {
        self.in_all -= 1;
        if let Some(of_scope) = self.scopes.get_mut(scope) {
            *of_scope -= 1;
            if *of_scope == 0 {
                self.scopes.remove(scope);
            }
        }
    }
}

/// One of the runs that the limits allow. Dropping it gives the place back.
pub(crate) struct Permit {
    runs: Arc<Runs>,
    scope: Scope,
    enlisted: Option<ExecutionKey>,
    place: Place,
}

/// As what a run counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Running,
    /// It waits for an answer, and its place is another one's meanwhile.
    Waiting,
    /// It waits for an answer, and there are so many who do that it keeps its place.
    Both,
}

impl Permit {
    /// From now on this is the run of `key`, and can be stopped by it. The future says why, once it is.
    pub(crate) fn enlist(
        &mut self,
        key: &ExecutionKey,
    ) -> impl Future<Output = Stop> + Send + use<> {
        let handle = StopHandle::new();
        let stopped = handle.stopped();
        self.enlisted = Some(key.clone());
        let mut running = self.runs.lock();
        if running.is_stopped {
            handle.stop(Stop::ShuttingDown);
        }
        running.handles.insert(key.clone(), handle);
        self.runs.started.fetch_add(1, Ordering::Relaxed);
        stopped
    }

    /// From now on the run waits for an answer.
    pub(crate) fn wait(&mut self, limits: &Limits) {
        if self.place != Place::Running {
            return;
        }
        let mut running = self.runs.lock();
        running.waiting += 1;
        if running.excused >= limits.waiting_in_all {
            self.place = Place::Both;
            return;
        }
        running.excused += 1;
        running.leave(&self.scope);
        self.place = Place::Waiting;
    }

    /// The run waits no more. It has begun, so it is not refused a place: the bounds may be passed by that.
    pub(crate) fn go_on(&mut self) {
        let mut running = self.runs.lock();
        match self.place {
            Place::Running => return,
            Place::Both => {}
            Place::Waiting => {
                running.excused -= 1;
                running.enter(&self.scope);
            }
        }
        running.waiting -= 1;
        self.place = Place::Running;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.go_on();
        let mut running = self.runs.lock();
        if let Some(key) = &self.enlisted {
            running.handles.remove(key);
        }
        running.leave(&self.scope);
        self.runs.count.send_modify(|count| *count -= 1);
    }
}
