//! What all parties of one simulated world share.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Context,
    time::Duration,
};

use fastrand::Rng;
use futures_util::task::AtomicWaker;
use turnkit_id::ExecutionId;

use crate::{
    bugs::Bug,
    history::{Fact, History},
    plan::{ConnectionFault, Link, Plan, host},
};

/// One world. Clones are the same one.
#[derive(Clone)]
pub(crate) struct World {
    shared: Arc<Shared>,
}

struct Shared {
    plan: Plan,
    bug: Option<Bug>,
    history: History,
    state: Mutex<State>,
}

struct State {
    connections: BTreeMap<Link, u64>,
    executions: Vec<ExecutionId>,
    /// Those that the log holds and that have not ended.
    running: BTreeSet<ExecutionId>,
    /// All connections that were opened, both ends of each.
    ends: Vec<End>,
    pauses: Rng,
    late: Rng,
    claims: BTreeMap<u128, u64>,
    ids: u64,
    is_over: bool,
}

/// One end of a connection, for the day on which its other end is killed.
struct End {
    hosts: [String; 2],
    reset: Weak<Reset>,
}

/// What goes wrong with a call of a product's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreFault {
    /// It does nothing, and says so.
    Busy,
    /// It is carried out, and its answer is lost.
    LostAnswer,
    /// It is carried out and answered when so much time has passed.
    Slow(Duration),
    /// Its answer is lost, and it is carried out when so much time has passed.
    Late(Duration),
}

/// Whether a connection was reset because its other end was killed.
#[derive(Default)]
pub(crate) struct Reset {
    has_come: AtomicBool,
    waiting: AtomicWaker,
}

impl Reset {
    /// Whether it has come; where not, `cx` is woken when it does.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> bool {
        self.waiting.register(cx.waker());
        self.has_come.load(Ordering::Relaxed)
    }
}

impl World {
    pub(crate) fn new(plan: Plan, bug: Option<Bug>) -> Self {
        let state = State {
            connections: BTreeMap::new(),
            executions: Vec::new(),
            running: BTreeSet::new(),
            ends: Vec::new(),
            pauses: Rng::with_seed(plan.seed.rotate_left(32)),
            late: Rng::with_seed(plan.seed.rotate_left(16)),
            claims: BTreeMap::new(),
            ids: 0,
            is_over: false,
        };
        let (history, state) = (History::default(), Mutex::new(state));
        Self { shared: Arc::new(Shared { plan, bug, history, state }) }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    pub(crate) fn history(&self) -> &History {
        &self.shared.history
    }

    pub(crate) fn add(&self, fact: Fact) {
        self.shared.history.add(fact);
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.shared.bug == Some(bug)
    }

    /// Whether the log is one into which answers and messages can be posted, and from which executions can be erased: the small one
    /// that makes mistakes is not.
    pub(crate) fn has_inbox(&self) -> bool {
        !Bug::LOG.into_iter().any(|bug| self.has(bug))
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_calm(&self) -> bool {
        now() >= self.plan().calm_at
    }

    /// Counts a connection, and says what will happen to it.
    pub(crate) fn connection(&self, link: Link) -> Option<ConnectionFault> {
        self.add(Fact::Connected(link));
        let number = {
            let mut state = self.lock();
            let count = state.connections.entry(link).or_default();
            *count += 1;
            *count
        };
        let fault = self.plan().connection(link, number).filter(|_| !self.is_calm());
        if let Some(fault @ (ConnectionFault::Late(_) | ConnectionFault::Pieces(_))) = fault {
            self.struck(link, fault);
        }
        fault
    }

    /// Notes an end of a connection between these two hosts.
    pub(crate) fn opened(&self, hosts: [String; 2]) -> Arc<Reset> {
        let reset = Arc::default();
        self.lock().ends.push(End { hosts, reset: Arc::downgrade(&reset) });
        reset
    }

    /// Resets every connection of a host that was killed.
    pub(crate) fn reset(&self, host: &str) {
        let is_its = |end: &mut End| end.hosts.iter().any(|name| name == host);
        let ends: Vec<End> = self.lock().ends.extract_if(.., is_its).collect();
        for reset in ends.into_iter().filter_map(|end| end.reset.upgrade()) {
            reset.has_come.store(true, Ordering::Relaxed);
            reset.waiting.wake();
        }
    }

    /// All hosts of this world.
    pub(crate) fn hosts(&self) -> Vec<&'static str> {
        let workers = host::WORKERS.into_iter().take(self.plan().workers);
        workers.chain([host::SUBSTRATE, host::CLIENTS, host::WATCHER]).collect()
    }

    /// Writes down that a connection's fault struck.
    pub(crate) fn struck(&self, link: Link, fault: ConnectionFault) {
        let detail = format!("{link}: {fault:?}");
        self.add(Fact::Fault { kind: fault.kind(), detail });
    }

    /// Takes as long as one access to a store takes here: a moment in which its caller can be killed.
    pub(crate) fn pause(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let longest = self.plan().pause;
        let pause = longest.mul_f64(self.lock().pauses.f64());
        Box::pin(async move {
            if !longest.is_zero() {
                tokio::time::sleep(pause).await;
            }
        })
    }

    /// Whether the next call of a product's store that reads finds it busy.
    pub(crate) fn store_is_busy(&self) -> bool {
        if self.is_calm() {
            return false;
        }
        let mut state = self.lock();
        let busy_reads = self.plan().busy_reads;
        let is_busy = busy_reads > 0 && state.late.u32(0..1_000) < busy_reads;
        state.pauses.u32(0..1_000) < 30 || is_busy
    }

    /// What goes wrong with the next call of a product's store that writes.
    pub(crate) fn store_fault(&self) -> Option<StoreFault> {
        if self.is_calm() {
            return None;
        }
        let mut state = self.lock();
        match state.pauses.u32(0..1_000) {
            0..10 => Some(StoreFault::Busy),
            10..30 => Some(StoreFault::LostAnswer),
            value if value < self.plan().busy_writes => Some(StoreFault::Busy),
            _ if state.late.u32(0..1_000) < self.plan().late_writes => {
                let after = LATEST.mul_f64(state.late.f64());
                Some(if state.late.bool() {
                    StoreFault::Slow(after)
                } else {
                    StoreFault::Late(after)
                })
            }
            _ => None,
        }
    }

    /// Which claim of a lease this is: the nonce itself differs from run to run.
    pub(crate) fn claim_number(&self, nonce: u128) -> u64 {
        let mut state = self.lock();
        let next = state.claims.len() as u64 + 1;
        *state.claims.entry(nonce).or_insert(next)
    }

    /// An id that no other call gave.
    pub(crate) fn fresh_id(&self) -> String {
        let mut state = self.lock();
        state.ids += 1;
        format!("00000000-0000-7000-8000-{:012}", state.ids)
    }

    /// An execution that the log bound, for the watcher.
    pub(crate) fn bound(&self, execution: &ExecutionId) {
        self.add(Fact::Bound { execution: execution.clone() });
        let mut state = self.lock();
        state.running.insert(execution.clone());
        if !state.executions.contains(execution) {
            state.executions.push(execution.clone());
        }
    }

    /// An execution of which the log holds the end.
    pub(crate) fn ended(&self, execution: &ExecutionId) {
        self.lock().running.remove(execution);
    }

    /// The log has lost every execution.
    pub(crate) fn forget(&self) {
        self.lock().running.clear();
    }

    /// Whether an execution that the log holds has not ended.
    pub(crate) fn is_running(&self) -> bool {
        !self.lock().running.is_empty()
    }

    /// All executions so far, in the order in which they were bound.
    pub(crate) fn executions(&self) -> Vec<ExecutionId> {
        self.lock().executions.clone()
    }

    /// Says that every client is done and the database has come to rest.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store carries a call out within this time, or not at all.
const LATEST: Duration = Duration::from_secs(10);

/// Simulated time since the start of the world.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The same as Unix milliseconds, counted from a fixed day.
pub(crate) fn unix_ms() -> u64 {
    EPOCH_MS + u64::try_from(now().as_millis()).unwrap_or(u64::MAX - EPOCH_MS)
}

/// 2026-01-01.
const EPOCH_MS: u64 = 1_767_225_600_000;
