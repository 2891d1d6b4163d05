//! Who attends to a product's turns: joins the store, renews leases, and takes up what nobody drives (PROTOCOL 4.2).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout};
use turnkit_id::LogId;

use crate::chat::BuildError;
use crate::store::{Find, Found, Joined, MAX_WAITING, StoreError, StoreErrorKind, unnamed_log};
use crate::turns::Turns;

/// How often leases are renewed, and how often a process that has not joined tries again.
const RENEW: Duration = Duration::from_secs(5);
/// How long the substrate may take to tell the id of its log.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a process has not joined, in words for its users.
const NO_STORE: &str = "the database cannot be joined";
const OTHER_LOG: &str = "other processes of this database run their turns at another log";
const NO_SUBSTRATE: &str = "the substrate cannot be reached";
const SILENT_SUBSTRATE: &str = "the substrate does not answer";
const NOT_WRITTEN: &str = "the database cannot be written";

/// Attends to a chat's turns; to be spawned. It ends when the chat has [ended](crate::Chat::ended), and never before.
///
/// It joins the store, renews the leases of the turns that this process drives, and drives, without any client, each open turn
/// that no living process drives. Until it is polled, and once it is dropped, no turn is started (503 `unattended`).
///
/// Needs tokio with time enabled.
#[must_use = "no turn is started unless the attendant is spawned"]
pub struct Attendant {
    work: BoxFuture<'static, ()>,
    turns: Arc<Turns>,
    /// What is known of this process before it is polled.
    first: Option<Membership>,
}

/// Whether a process may start turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It dispatches to this log.
    Joined(LogId),
    /// It has not joined the store, or no longer is part of it, and why.
    NotJoined(String),
    /// Nobody renews its leases.
    Unattended,
}

/// What is wrong with something that this process needs, as of when it was last asked. That is said when it begins, and when it is
/// over, and not in between.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<&'static str>>);

impl Trouble {
    /// What is wrong, in words for users; `None` where all is well.
    pub(crate) fn what(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes it; says whether it has begun, or is over, by that.
    fn note(&self, now: Option<&'static str>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, now);
        before.is_some() != now.is_some()
    }
}

impl Attendant {
    /// Joins, if that can be done now.
    pub(crate) async fn new(
        turns: Arc<Turns>,
        sweep_every: Duration,
    ) -> Result<Attendant, BuildError> {
        let first = match turns.log_of_substrate().await {
            Err(why) => Membership::NotJoined(why),
            Ok(log) => match turns.settled(|store| store.join(log.clone())).await {
                Ok(Joined::Member) => Membership::Joined(log),
                Ok(Joined::OtherLog(_)) => return Err(BuildError::OtherLog),
                Err(error) => match error.kind() {
                    StoreErrorKind::Newer | StoreErrorKind::Broken => {
                        return Err(BuildError::Store(error));
                    }
                    _ => Membership::NotJoined(NO_STORE.to_owned()),
                },
            },
        };
        let attending = Arc::clone(&turns);
        // Beside the renewals, which must not wait: a substrate may take long to erase.
        let work = Box::pin(async move {
            tokio::select! {
                // Neither ever ends: no need to draw lots at each poll, and what is simulated is the same each time.
                biased;
                () = Arc::clone(&attending).attend(sweep_every) => {}
                () = attending.clear_when_told() => {}
                () = attending.pass_on_when_told() => {}
            }
        });
        Ok(Attendant { work, turns, first: Some(first) })
    }
}

impl Future for Attendant {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(first) = self.first.take() {
            self.turns.membership.send_replace(first);
        }
        self.work.as_mut().poll(cx)
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.turns.membership.send_replace(Membership::Unattended);
    }
}

impl fmt::Debug for Attendant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attendant").finish_non_exhaustive()
    }
}

impl Turns {
    async fn attend(self: Arc<Self>, sweep_every: Duration) {
        let (mut renew_at, mut sweep_at) = (Instant::now() + RENEW, Instant::now());
        loop {
            if Instant::now() >= renew_at {
                self.renew().await;
                renew_at = Instant::now() + RENEW;
            }
            if self.membership().is_ok() && Instant::now() >= sweep_at {
                sweep_at = Instant::now() + sweep_every;
                if let Err(error) = self.sweep().await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "failed to sweep open turns");
                }
                self.deleted.notify_one();
                self.undecided.notify_one();
            }
            tokio::select! {
                () = sleep_until(renew_at) => {}
                () = sleep_until(sweep_at), if self.membership().is_ok() => {}
                () = self.unattended.notified() => sweep_at = Instant::now(),
                () = self.store.woken() => sweep_at = Instant::now(),
                () = self.log_doubted.notified() => self.follow_log().await,
                () = self.attempts.wait(), if self.shutting_down.is_cancelled() => return,
            }
        }
    }

    /// Renews this worker and its leases, and drops attempts whose lease is another's; joins, where it has not.
    async fn renew(&self) {
        let Membership::Joined(log) = self.membership.borrow().clone() else {
            return self.join().await;
        };
        match self.settled(|store| store.renew(self.driven.leases())).await {
            // Its row is gone: others have taken it for dead, and it begins anew.
            Err(error) if error.kind() == StoreErrorKind::Broken => self.join().await,
            Err(error) => {
                if self.store_trouble.note(Some(NOT_WRITTEN)) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "{NOT_WRITTEN}: leases are not renewed, and nothing is saved"
                    );
                }
            }
            Ok(renewed) => {
                if self.store_trouble.note(None) {
                    tracing::info!("the database can be written again");
                }
                for execution_id in renewed.lost {
                    let Some(driven) = self.driven.find(&execution_id) else { continue };
                    // An attempt whose turn has ended under its own lease ends by itself: it may be telling its client of that at this very
                    // moment. So does one whose session was deleted, as that is erased at the substrate. Where the store does not answer,
                    // the next renewal asks again: an epoch that is over writes nothing.
                    let found = self.store.find(Find::Execution(execution_id.clone())).await;
                    let Ok(Found::Turn(row)) = found else { continue };
                    if driven.lease().is_some_and(|lease| lease.epoch != row.epoch) {
                        tracing::warn!(%execution_id, "another process drives this turn now");
                        driven.cut.cancel();
                    }
                }
                if renewed.log == log {
                    // Who waits to join with the substrate's new log waits for somebody to notice it.
                    self.follow_log().await;
                } else {
                    self.join().await;
                }
            }
        }
    }

    async fn join(&self) {
        let membership = match self.log_of_substrate().await {
            Err(why) => Membership::NotJoined(why),
            Ok(log) => match self.settled(|store| store.join(log.clone())).await {
                Ok(Joined::Member) => {
                    self.store_trouble.note(None);
                    Membership::Joined(log)
                }
                Ok(Joined::OtherLog(_)) => Membership::NotJoined(OTHER_LOG.to_owned()),
                Err(error) => {
                    if self.store_trouble.note(Some(NO_STORE)) {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "{NO_STORE}");
                    }
                    Membership::NotJoined(NO_STORE.to_owned())
                }
            },
        };
        self.become_known(membership);
    }

    /// The substrate has another log than the one that this process dispatches to.
    async fn follow_log(&self) {
        let Membership::Joined(known) = self.membership.borrow().clone() else {
            return;
        };
        // A substrate that is away for a moment may come back with the same log: turns wait for it, or fail by themselves.
        let Ok(log) = self.log_of_substrate().await else {
            return;
        };
        if log == known {
            return;
        }
        match self.settled(|store| store.move_log(known.clone(), log.clone())).await {
            Ok(named) if named == log => self.become_known(Membership::Joined(log)),
            Ok(_) => self.become_known(Membership::NotJoined(OTHER_LOG.to_owned())),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "failed to note the substrate's new log");
            }
        }
    }

    /// What has changed is said once.
    fn become_known(&self, membership: Membership) {
        let before = self.membership.send_replace(membership.clone());
        match membership {
            now if before == now => {}
            Membership::Joined(_) => tracing::info!("turns are started"),
            // Which has been said.
            Membership::NotJoined(_) if self.substrate_trouble.what().is_some() => {}
            Membership::NotJoined(why) => tracing::warn!(why, "no turn is started"),
            Membership::Unattended => {}
        }
    }

    /// The id of the substrate's log, or why it is not known, in words for a user.
    async fn log_of_substrate(&self) -> Result<LogId, String> {
        let (why, error) = match timeout(PATIENCE, self.agents.log_id()).await {
            Ok(Ok(id)) => {
                if self.substrate_trouble.note(None) {
                    tracing::info!("the substrate answers again");
                }
                return Ok(id.unwrap_or_else(unnamed_log));
            }
            Ok(Err(error)) => (NO_SUBSTRATE, Some(error)),
            Err(_) => (SILENT_SUBSTRATE, None),
        };
        if self.substrate_trouble.note(Some(why)) {
            let error = error.as_ref().map(|error| error as &dyn std::error::Error);
            tracing::warn!(error, "{why}: turns wait for it");
        }
        Err(why.to_owned())
    }

    /// Takes up every open turn that nobody drives. A turn that cannot be taken up is left to the next sweep.
    async fn sweep(self: &Arc<Self>) -> Result<(), StoreError> {
        for execution in self.store.unattended(self.driven.limit() + MAX_WAITING).await? {
            if self.driven.find(&execution).is_none()
                && let Found::Turn(row) = self.store.find(Find::Execution(execution)).await?
            {
                match self.take_up_unattended(row).await {
                    // Its session was deleted in this very moment.
                    Err(error) if error.kind() == StoreErrorKind::Gone => {}
                    taken_up => taken_up?,
                }
            }
        }
        Ok(())
    }
}
