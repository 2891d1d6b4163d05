//! The turns that this process drives at the moment: each one once.
//!
//! A row's lease says which process drives a turn; this says whether it really does. A turn whose lease is this process's
//! and that is not here can be driven anew: its attempt failed in a way that another one may mend.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use turnkit::TurnHandle;
use turnkit_id::ExecutionId;

pub(crate) struct Registry {
    driven: Mutex<HashMap<ExecutionId, Arc<Driven>>>,
    /// How many there are, for those who wait for none.
    count: watch::Sender<usize>,
    limit: usize,
}

impl Registry {
    /// A registry for at most `limit` turns at once.
    pub(crate) fn new(limit: usize) -> Arc<Registry> {
        Arc::new(Registry { driven: Mutex::default(), count: watch::Sender::new(0), limit })
    }

    /// A place for the one who drives this turn; `None` where somebody does already, or where no place is left.
    pub(crate) fn enter(self: &Arc<Self>, id: &ExecutionId) -> Option<Place> {
        let mut driven = self.lock();
        let is_full = driven.len() >= self.limit;
        match driven.entry(id.clone()) {
            Entry::Vacant(vacant) if !is_full => {
                let turn = Arc::clone(vacant.insert(Arc::default()));
                self.count.send_replace(driven.len());
                Some(Place { registry: Arc::clone(self), id: id.clone(), turn })
            }
            _ => None,
        }
    }

    pub(crate) fn find(&self, id: &ExecutionId) -> Option<Arc<Driven>> {
        self.lock().get(id).map(Arc::clone)
    }

    pub(crate) fn len(&self) -> usize {
        *self.count.borrow()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Waits until no turn is driven.
    pub(crate) async fn empty(&self) {
        // The sender lives as long as the registry, so waiting does not fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn leave(&self, id: &ExecutionId) {
        let mut driven = self.lock();
        driven.remove(id);
        self.count.send_replace(driven.len());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, Arc<Driven>>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to drive a turn in this process; given up when dropped.
pub(crate) struct Place {
    registry: Arc<Registry>,
    id: ExecutionId,
    turn: Arc<Driven>,
}

impl Place {
    /// Makes the attempt cancellable; at once, where somebody has cancelled it in the meantime.
    pub(crate) fn driven_by(&self, handle: TurnHandle) {
        self.turn.driven_by(handle);
    }

    pub(crate) fn turn(&self) -> Arc<Driven> {
        Arc::clone(&self.turn)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.leave(&self.id);
        self.turn.ended.send_replace(true);
    }
}

/// A turn that is driven.
#[derive(Default)]
pub(crate) struct Driven {
    control: Mutex<Control>,
    /// An event of the turn's run was read.
    read: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

#[derive(Default)]
enum Control {
    #[default]
    NotYet,
    CancelAtOnce,
    By(TurnHandle),
}

impl Driven {
    /// Cancels the attempt that drives the turn.
    pub(crate) fn cancel(&self) {
        let mut control = self.lock();
        match &*control {
            Control::By(handle) => handle.cancel(),
            Control::NotYet | Control::CancelAtOnce => *control = Control::CancelAtOnce,
        }
    }

    /// Says that an event of the turn's run was read, by whomever.
    pub(crate) fn note_read(&self) {
        self.read.send_replace(true);
    }

    /// Waits until somebody has read an event of the turn's run. Cancel: safe.
    pub(crate) async fn is_read(&self) {
        // As in `ended`.
        let _ = self.read.subscribe().wait_for(|is_read| *is_read).await;
    }

    /// Waits until the attempt has ended.
    pub(crate) async fn ended(&self) {
        // The sender is part of what is waited on, so waiting does not fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn driven_by(&self, handle: TurnHandle) {
        let mut control = self.lock();
        if matches!(*control, Control::CancelAtOnce) {
            handle.cancel();
        }
        *control = Control::By(handle);
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ExecutionId {
        ExecutionId::parse(text).unwrap()
    }

    #[test]
    fn a_turn_is_driven_once_until_its_place_is_given_up() {
        let registry = Registry::new(10);
        let place = registry.enter(&id("a")).unwrap();
        assert!(registry.enter(&id("a")).is_none());
        assert!(registry.find(&id("a")).is_some());
        drop(place);
        assert!(registry.find(&id("a")).is_none());
        assert!(registry.enter(&id("a")).is_some());
    }

    #[test]
    fn there_are_as_many_places_as_the_limit_says() {
        let registry = Registry::new(1);
        let place = registry.enter(&id("a")).unwrap();
        assert!(registry.is_full() && registry.enter(&id("b")).is_none());
        drop(place);
        assert!(registry.enter(&id("b")).is_some());
    }

    #[tokio::test]
    async fn who_waits_for_the_end_is_told() {
        let registry = Registry::new(10);
        let place = registry.enter(&id("a")).unwrap();
        let turn = place.turn();
        let waits = tokio::spawn({
            let registry = Arc::clone(&registry);
            async move { tokio::join!(turn.ended(), registry.empty()) }
        });
        drop(place);
        waits.await.unwrap();
    }
}
