//! This node among all nodes of a log: who of its readers and writers is to be woken, and whose leases it renews.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream};
use redis::Msg;
use tokio::{
    sync::{Notify, futures::Notified},
    time,
};
use uuid::Uuid;

use super::{Heir, Shared, answer::StoreError, name::Name, writer};
use crate::log::Page;

/// What the readers and the writer of one execution wait on.
#[derive(Default)]
pub(super) struct Watch {
    changed: Notify,
    fenced: Notify,
    posted: Notify,
    here: Mutex<Option<Here>>,
}

/// A log whose writer is on this node, and tells the readers of this node by itself what Redis has stored: they need not ask for it.
struct Here {
    /// When it was bound, which tells it from another one of the same name.
    bound_at: u64,
    /// What was stored last, and behind which event.
    latest: Option<(u64, Page)>,
}

/// Larger pages are read from Redis: each running execution holds on to its latest one.
const KEPT: usize = 16 * 1024;

impl Watch {
    /// The log that was bound at this time has its writer here from now on.
    pub(super) fn begin(&self, bound_at: u64) {
        *lock(&self.here) = Some(Here { bound_at, latest: None });
    }

    /// That writer has stored these events behind `after`.
    pub(super) fn tell(&self, bound_at: u64, after: u64, page: Page) {
        if let Some(here) = &mut *lock(&self.here)
            && here.bound_at == bound_at
        {
            here.latest = (page.frames.len() <= KEPT).then_some((after, page));
        }
        self.changed.notify_waiters();
    }

    /// That writer tells nothing any more.
    pub(super) fn leave(&self, bound_at: u64) {
        lock(&self.here).take_if(|here| here.bound_at == bound_at);
        self.changed.notify_waiters();
    }

    /// What was stored last, where that comes next behind `after`.
    pub(super) fn latest(&self, bound_at: u64, after: u64) -> Option<Page> {
        let here = lock(&self.here);
        let latest = here.as_ref().filter(|here| here.bound_at == bound_at)?.latest.as_ref();
        latest.filter(|(behind, _)| *behind == after).map(|(_, page)| page.clone())
    }

    /// The channel says that the log has changed.
    fn change(&self) {
        if lock(&self.here).is_none() {
            self.changed.notify_waiters();
        }
    }

    /// The channel says that another writer has taken over.
    fn take_over(&self) {
        *lock(&self.here) = None;
        self.changed.notify_waiters();
        self.fenced.notify_waiters();
    }

    /// Resolves at the first change after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Resolves when, after this call, there may be another writer.
    pub(super) fn fenced(&self) -> Notified<'_> {
        self.fenced.notified()
    }

    /// Resolves when, after this call, there may be something in the inbox.
    pub(super) fn posted(&self) -> Notified<'_> {
        self.posted.notified()
    }
}

#[derive(Default)]
pub(super) struct Node {
    watches: Mutex<Watches>,
    /// The writers of this node.
    leases: Mutex<HashMap<Uuid, Name>>,
}

#[derive(Default)]
struct Watches {
    by_name: HashMap<Name, Weak<Watch>>,
    /// How many there may be before those that nobody waits on any more are looked for.
    room: usize,
}

impl Watches {
    fn find(&self, name: &Name) -> Option<Arc<Watch>> {
        self.by_name.get(name)?.upgrade()
    }
}

impl Node {
    pub(super) fn watch(&self, name: &Name) -> Arc<Watch> {
        let mut watches = lock(&self.watches);
        if let Some(watch) = watches.find(name) {
            return watch;
        }
        if watches.by_name.len() >= watches.room {
            watches.by_name.retain(|_, watch| watch.strong_count() > 0);
            watches.room = (watches.by_name.len() * 2).max(64);
        }
        let watch = Arc::new(Watch::default());
        watches.by_name.insert(name.clone(), Arc::downgrade(&watch));
        watch
    }

    /// Renews the lease of this writer from now on.
    pub(super) fn hold(&self, writer: Uuid, name: &Name) {
        lock(&self.leases).insert(writer, name.clone());
    }

    pub(super) fn release(&self, writer: Uuid) {
        lock(&self.leases).remove(&writer);
    }

    pub(super) fn held(&self) -> Vec<(Uuid, Name)> {
        let leases = lock(&self.leases);
        leases.iter().map(|(writer, name)| (*writer, name.clone())).collect()
    }

    /// Takes a message of the channel: what happened, as one letter, and the name of the execution.
    fn wake(&self, message: &str) {
        let Some((what, name)) = message.split_at_checked(1) else {
            return;
        };
        let watch = Name::parse(name).and_then(|name| lock(&self.watches).find(&name));
        if let Some(watch) = watch {
            match what {
                "i" => watch.posted.notify_waiters(),
                "w" => watch.take_over(),
                _ => watch.change(),
            }
        }
    }

    fn fence(&self, name: &Name) {
        let watch = lock(&self.watches).find(name);
        if let Some(watch) = watch {
            watch.fenced.notify_waiters();
        }
    }

    fn knock(&self, name: &Name) {
        let watch = lock(&self.watches).find(name);
        if let Some(watch) = watch {
            watch.posted.notify_waiters();
        }
    }

    /// Whatever was missed: everybody looks for it.
    fn wake_all(&self) {
        let watches: Vec<_> =
            lock(&self.watches).by_name.values().filter_map(Weak::upgrade).collect();
        for watch in watches {
            watch.changed.notify_waiters();
            watch.fenced.notify_waiters();
            watch.posted.notify_waiters();
        }
    }
}

/// Lets the node of this log listen and renew for as long as the log lives.
pub(super) fn keep(shared: &Arc<Shared>, lease: Duration) {
    if let Some(thread) = shared.store.thread() {
        thread.spawn(listen(Arc::downgrade(shared), lease));
        thread.spawn(renew(Arc::downgrade(shared), lease / 5));
    }
}

/// How long to wait before subscribing again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Subscribes, and again whenever the channel is silent for as long as a lease: each node's renewals are heard on it.
async fn listen(shared: Weak<Shared>, silence: Duration) {
    let mut is_deaf = false;
    while let Some(listening) = shared.upgrade() {
        match time::timeout(silence, listening.store.subscribe()).await {
            Ok(Ok(mut subscription)) => {
                is_deaf = false;
                listening.node.wake_all();
                drop(listening);
                hear(&shared, subscription.on_message(), silence).await;
            }
            Ok(Err(error)) => tell_once(&mut is_deaf, &error, LATE),
            Err(_) => tell_once(&mut is_deaf, &"Redis does not answer", LATE),
        }
        time::sleep(AGAIN_AFTER).await;
    }
}

const LATE: &str = "wake-ups from Redis cannot be heard: readers are late by up to two seconds";

/// Until it is over.
fn tell_once(is_told: &mut bool, error: &dyn fmt::Display, what: &str) {
    if !std::mem::replace(is_told, true) {
        tracing::warn!(%error, "{what}");
    }
}

async fn hear(shared: &Weak<Shared>, messages: impl Stream<Item = Msg>, silence: Duration) {
    let mut messages = std::pin::pin!(messages);
    while let Ok(Some(message)) = time::timeout(silence, messages.next()).await {
        let (Some(shared), Ok(payload)) = (shared.upgrade(), message.get_payload::<String>())
        else {
            return;
        };
        shared.node.wake(&payload);
    }
}

/// Renews the leases of this node's writers, and ends the runs of nodes that are gone.
///
/// A lease that is over need not be lost: after a time without Redis, or a jump of its clock, none holds, and every node is
/// about to renew its own. So a run is lost when its lease was found over several times in a row, by a node that could renew
/// its own each time; in between all others had the time to do so too.
async fn renew(shared: Weak<Shared>, every: Duration) {
    let (mut suspects, mut is_late) = (Suspects::new(), false);
    loop {
        time::sleep(every).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        suspects = match renew_leases(&shared).await {
            Ok(lost) => {
                is_late = false;
                look_again(&suspects, lost)
            }
            Err(error) => {
                tell_once(&mut is_late, &error, "leases cannot be renewed");
                Suspects::new()
            }
        };
        end_lost_runs(shared, &suspects);
    }
}

/// How often in a row the lease of a run was found over.
type Suspects = HashMap<Name, u32>;

/// How often that is until it counts as lost.
const LOOKS: u32 = 3;

fn look_again(before: &Suspects, lost: Vec<Name>) -> Suspects {
    let looks = |name: &Name| before.get(name).map_or(1, |looks| looks + 1);
    lost.into_iter().map(|name| (name.clone(), looks(&name))).collect()
}

/// Gives the runs of all nodes whose lease is over.
async fn renew_leases(shared: &Shared) -> Result<Vec<Name>, StoreError> {
    let renewed = shared.store.renew(&shared.node.held()).await?;
    for name in renewed.fenced {
        shared.node.fence(&name);
    }
    for name in renewed.posted {
        shared.node.knock(&name);
    }
    shared.store.lost().await
}

/// In a task of its own: a node that was lost may have had thousands of runs, and this one's must be renewed meanwhile.
fn end_lost_runs(shared: Arc<Shared>, suspects: &Suspects) {
    let lost = suspects.iter().filter(|(_, looks)| **looks % LOOKS == 0);
    let lost: Vec<_> = lost.filter_map(|(name, _)| name.key()).collect();
    if let Some(thread) = shared.store.thread().filter(|_| !lost.is_empty()).cloned() {
        thread.spawn(async move {
            let shared = &shared;
            let end = |key| async move { writer::lose(shared, &key, Heir::OfLost).await };
            stream::iter(lost).for_each_concurrent(ENDED_AT_ONCE, end).await;
        });
    }
}

const ENDED_AT_ONCE: usize = 32;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_that_nobody_waits_on_any_more_are_forgotten() {
        let node = Node::default();
        let name = |n: u32| Name::parse(&format!("1:s:e{n}")).unwrap();
        let kept: Vec<_> = (0..100).map(|n| node.watch(&name(n))).collect();
        for n in 100..10_000 {
            node.watch(&name(n));
        }
        assert!(lock(&node.watches).by_name.len() <= 2 * kept.len());
        for (n, watch) in (0..).zip(&kept) {
            assert!(Arc::ptr_eq(&node.watch(&name(n)), watch));
        }
    }

    #[tokio::test]
    async fn a_message_wakes_whom_it_is_for() {
        let node = Node::default();
        let [mine, other] =
            ["1:s:mine", "1:s:other"].map(|name| node.watch(&Name::parse(name).unwrap()));
        let (changed, fenced) = (mine.changed(), mine.fenced());
        let mut others = std::pin::pin!(other.changed());
        node.wake("w1:s:mine");
        tokio::join!(changed, fenced);
        for nobodys in ["", "w", "w1:s:nobody", "é1:s:mine", "w9:s:mine", "w1:s:mi ne"] {
            node.wake(nobodys);
        }
        assert!(futures_util::poll!(&mut others).is_pending());
    }
}
