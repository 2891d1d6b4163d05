//! A user's feed, for whoever waits for what changes (PROTOCOL 4.2, "A feed").

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::store::{Change, FeedEntry, FeedId, FeedPage, FeedRead};
use crate::turns::Turns;
use crate::{Principal, Refusal, SessionId};

/// How often the store is asked whether anything has changed, while somebody waits. A change is told within 250 ms.
const LOOK: Duration = Duration::from_millis(100);
/// Entries that are read at once.
const PAGE: usize = 100;

/// Tells all who wait in this process that something has changed: the store is asked once for all of them.
#[derive(Default)]
pub(crate) struct Changes {
    times: watch::Sender<u64>,
    is_watched: Mutex<bool>,
}

impl Changes {
    fn is_watched(&self) -> MutexGuard<'_, bool> {
        self.is_watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    fn changes(self: &Arc<Self>) -> watch::Receiver<u64> {
        let mut is_watched = self.changes.is_watched();
        let times = self.changes.times.subscribe();
        if !std::mem::replace(&mut *is_watched, true) {
            tokio::spawn(Arc::clone(self).watch_changes());
        }
        times
    }

    /// Ends when nobody waits any more.
    async fn watch_changes(self: Arc<Self>) {
        let mut known = None;
        loop {
            {
                let mut is_watched = self.changes.is_watched();
                let nobody_waits = self.changes.times.receiver_count() == 0;
                if nobody_waits || self.shutting_down.is_cancelled() {
                    *is_watched = false;
                    return;
                }
            }
            // A store that cannot tell is asked again.
            if let Ok(version) = self.store.version().await
                && known.replace(version) != Some(version)
            {
                self.changes.times.send_modify(|times| *times += 1);
            }
            sleep(LOOK).await;
        }
    }
}

/// What changes for a user, as it happens: see [`Chat::events`](crate::Chat::events).
pub struct Events {
    turns: Arc<Turns>,
    owner: Principal,
    session: Option<SessionId>,
    at: FeedId,
    changes: watch::Receiver<u64>,
    is_over: bool,
}

impl Events {
    pub(crate) async fn new(
        turns: Arc<Turns>,
        owner: Principal,
        session: Option<SessionId>,
        after: Option<FeedId>,
    ) -> Result<Events, Refusal> {
        let read = FeedRead { after, session: session.clone(), limit: 0 };
        let at = match turns.store.feed(owner.clone(), read).await? {
            FeedPage::Entries(_, at) => at,
            FeedPage::Expired => return Err(Refusal::FeedExpired),
        };
        let changes = turns.changes();
        Ok(Events { turns, owner, session, at, changes, is_over: false })
    }

    /// The place in the feed behind what was given out: who goes on from there misses nothing.
    #[must_use]
    pub fn at(&self) -> &FeedId {
        &self.at
    }

    /// The next entries, at least one; waits for one where there is none. `None` where it ends: the process shuts down, the session was
    /// deleted, or the store cannot be read. Who then asks again goes on from [`at`](Self::at). Cancel: safe.
    pub async fn next(&mut self) -> Option<Vec<FeedEntry>> {
        while !self.is_over && !self.turns.shutting_down.is_cancelled() {
            // Before the store is read: what changes meanwhile is read again.
            self.changes.borrow_and_update();
            let (after, session) = (Some(self.at.clone()), self.session.clone());
            let read = FeedRead { after, session, limit: PAGE };
            let Ok(FeedPage::Entries(entries, at)) =
                self.turns.store.feed(self.owner.clone(), read).await
            else {
                break;
            };
            self.at = at;
            if !entries.is_empty() {
                let is_last = |entry: &FeedEntry| entry.change == Change::SessionDeleted;
                self.is_over = self.session.is_some() && entries.iter().any(is_last);
                return Some(entries);
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = self.turns.shutting_down.cancelled() => {}
            }
        }
        self.is_over = true;
        None
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("at", &self.at).finish_non_exhaustive()
    }
}
