//! The turns that this process drives at the moment: each one once.
//!
//! A row's lease says which worker drives a turn; this says whether it really does, and reaches the attempt.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use turnkit::TurnHandle;
use turnkit_id::ExecutionId;

use crate::store::{Lease, MAX_WAITING};

/// The turns that are driven.
pub(crate) struct Registry {
    driven: Mutex<HashMap<ExecutionId, Arc<Driven>>>,
    /// Turns whose drive here came to no end of the turn, as far as this process knows; not more than `limit`.
    left_open: Mutex<HashSet<ExecutionId>>,
    /// How many there are, for those who wait for none.
    count: watch::Sender<usize>,
    /// How many of them wait for an answer to a question.
    waiting: AtomicUsize,
    limit: usize,
}

impl Registry {
    /// A registry for at most `limit` turns at once. Those that wait for an answer do not count, [`MAX_WAITING`] of them.
    pub(crate) fn new(limit: usize) -> Arc<Registry> {
        Arc::new(Registry {
            driven: Mutex::default(),
            left_open: Mutex::default(),
            count: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            limit,
        })
    }

    /// The permit to drive this turn in this process; `None` where somebody does already, or where there are as many as may be.
    pub(crate) fn enter(self: &Arc<Self>, id: &ExecutionId, is_waiting: bool) -> Option<Permit> {
        let mut driven = self.lock();
        let waiting = self.waiting();
        let is_full = if is_waiting && waiting < MAX_WAITING {
            false
        } else {
            driven.len() - waiting.min(MAX_WAITING) >= self.limit
        };
        match driven.entry(id.clone()) {
            Entry::Vacant(vacant) if !is_full => {
                let turn = Arc::clone(vacant.insert(Arc::default()));
                self.waits(&turn, is_waiting);
                self.count.send_replace(driven.len());
                self.lock_left_open().remove(id);
                Some(Permit { registry: Arc::clone(self), id: id.clone(), turn })
            }
            _ => None,
        }
    }

    pub(crate) fn find(&self, id: &ExecutionId) -> Option<Arc<Driven>> {
        self.lock().get(id).map(Arc::clone)
    }

    /// The leases of the turns that are driven.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.lock().values().filter_map(|driven| driven.lease()).collect()
    }

    /// Notes that the drive of this turn is over, and the turn is not.
    pub(crate) fn leave_open(&self, id: ExecutionId) {
        let mut left_open = self.lock_left_open();
        if left_open.len() < self.limit {
            left_open.insert(id);
        }
    }

    /// The turns that were left open here, and may have ended elsewhere.
    pub(crate) fn left_open(&self) -> Vec<ExecutionId> {
        self.lock_left_open().iter().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        *self.count.borrow()
    }

    /// How many turns wait for an answer to a question.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Notes whether a turn waits for an answer.
    pub(crate) fn waits(&self, turn: &Driven, is_waiting: bool) {
        match (turn.is_waiting.swap(is_waiting, SeqCst), is_waiting) {
            (false, true) => _ = self.waiting.fetch_add(1, SeqCst),
            (true, false) => _ = self.waiting.fetch_sub(1, SeqCst),
            _ => {}
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len().saturating_sub(self.waiting().min(MAX_WAITING)) >= self.limit
    }

    /// Waits until no turn is driven. Cancel: safe.
    pub(crate) async fn empty(&self) {
        // The sender lives as long as the registry, so waiting does not fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, Arc<Driven>>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_left_open(&self) -> MutexGuard<'_, HashSet<ExecutionId>> {
        self.left_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to drive a turn in this process; given up when dropped.
pub(crate) struct Permit {
    registry: Arc<Registry>,
    id: ExecutionId,
    turn: Arc<Driven>,
}

impl Permit {
    pub(crate) fn turn(&self) -> Arc<Driven> {
        Arc::clone(&self.turn)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut driven = self.registry.lock();
        driven.remove(&self.id);
        // For good: an attempt that goes on a moment longer finds nobody under this id.
        self.registry.waits(&self.turn, false);
        self.registry.count.send_replace(driven.len());
        drop(driven);
        self.turn.ended.send_replace(true);
    }
}

/// A turn that is driven.
#[derive(Default)]
pub(crate) struct Driven {
    state: Mutex<State>,
    /// An event of the turn's run was read, by whomever.
    begun: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    /// A question of its agent's is pending.
    is_waiting: AtomicBool,
    /// Drops the attempt where it is, as if its process had died.
    pub(crate) cut: CancellationToken,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    handle: Option<TurnHandle>,
    is_cancelled: bool,
}

impl Driven {
    /// The lease under which it is driven.
    pub(crate) fn held_by(&self, lease: Lease) {
        self.state().lease = Some(lease);
    }

    /// That lease; none before it is claimed.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.state().lease.clone()
    }

    /// Makes the attempt cancellable; cancelled at once, where somebody has asked for that in the meantime.
    pub(crate) fn driven_by(&self, handle: TurnHandle) {
        let mut state = self.state();
        if state.is_cancelled {
            handle.cancel();
        }
        state.handle = Some(handle);
    }

    /// Cancels the attempt that drives the turn.
    pub(crate) fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        if let Some(handle) = &state.handle {
            handle.cancel();
        }
    }

    /// Says that an event of the turn's run was read, by whomever.
    pub(crate) fn note_begun(&self) {
        self.begun.send_replace(true);
    }

    /// Waits until somebody has read an event of the turn's run. Cancel: safe.
    pub(crate) async fn begun(&self) {
        // The sender is part of what is waited on, so waiting does not fail.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }

    /// Waits until the attempt has ended. Cancel: safe.
    pub(crate) async fn ended(&self) {
        // As in `begun`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ExecutionId {
        ExecutionId::parse(text).unwrap()
    }

    #[test]
    fn a_turn_is_driven_once_until_its_permit_is_given_up() {
        let registry = Registry::new(10);
        let permit = registry.enter(&id("a"), false).unwrap();
        assert!(registry.enter(&id("a"), false).is_none());
        assert!(registry.find(&id("a")).is_some());
        drop(permit);
        assert!(registry.find(&id("a")).is_none());
        assert!(registry.enter(&id("a"), false).is_some());
    }

    #[test]
    fn there_are_as_many_permits_as_the_limit_says() {
        let registry = Registry::new(1);
        let permit = registry.enter(&id("a"), false).unwrap();
        assert!(registry.is_full() && registry.enter(&id("b"), false).is_none());
        drop(permit);
        assert!(registry.enter(&id("b"), false).is_some());
    }

    #[test]
    fn a_turn_that_waits_for_an_answer_leaves_its_place_to_another() {
        let registry = Registry::new(1);
        let first = registry.enter(&id("a"), false).unwrap();
        registry.waits(&first.turn(), true);
        let second = registry.enter(&id("b"), false).unwrap();
        assert!(registry.is_full() && registry.enter(&id("c"), false).is_none());
        let third = registry.enter(&id("c"), true).unwrap();
        registry.waits(&first.turn(), false);
        drop((second, third));
        assert!(registry.is_full() && registry.waiting() == 0);
        drop(first);
        assert!(!registry.is_full());
    }

    #[tokio::test]
    async fn who_waits_for_the_end_is_told() {
        let registry = Registry::new(10);
        let permit = registry.enter(&id("a"), false).unwrap();
        let turn = permit.turn();
        let waits = tokio::spawn({
            let registry = Arc::clone(&registry);
            async move { tokio::join!(turn.ended(), registry.empty()) }
        });
        drop(permit);
        waits.await.unwrap();
    }
}
