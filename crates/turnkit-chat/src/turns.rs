//! Turns: how one is dispatched once, driven, and read along (PROTOCOL 4.2).
//!
//! An attempt at a turn is one of two kinds. The **driver** has the row's lease and a [`Permit`] in this process: there is one, it
//! goes on when its client leaves, and it may end the turn. **Readers** are all others: they read the same execution for a
//! client that has come back, and end with it. Both save the answer, and both write down an ending that the log tells.

mod attempt;
mod deletion;
mod driven;
mod execution;
mod interactions;
mod stop;

use std::convert::Infallible;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turnkit::{ChatTurn, ClientLeft, TurnBody, TurnHandle, TurnIdentity};
use turnkit_id::LogId;
use turnkit_sandbox::SandboxClient;

use self::attempt::{AttemptHooks, Conduct};
use self::driven::Permit;
pub(crate) use self::driven::Registry;
use self::execution::{Execution, Part, Run};
use crate::agents::Catalog;
use crate::attendant::{Membership, Trouble};
use crate::chat::{Lines, TurnStream};
use crate::feed::Changes;
use crate::hooks::ErasedHooks;
use crate::observer::{Attempt, Cause, Observers, Role};
use crate::store::{
    ChatStore, Claim, Claimed, Find, Found, History, HistoryLimits, Lease, StoreError,
    StoreErrorKind, Stored, TurnRow,
};
use crate::{Refusal, Turn, TurnState};

/// How often a store is asked again what became of a write, and the first wait; each is twice the one before.
const ASK_AGAIN: (u32, Duration) = (6, Duration::from_millis(20));

/// How much longer, in all, a body that is not read may hold its turn up once the process is to end.
const LAST_STALL: Duration = Duration::from_secs(1);

/// How many turns are looked up at once when a process ends.
const LOOKED_UP_AT_ONCE: usize = 8;

/// Everything that a turn needs.
pub(crate) struct Turns {
    pub(crate) store: Box<dyn ChatStore>,
    pub(crate) agents: SandboxClient,
    pub(crate) catalog: Catalog,
    pub(crate) hooks: Box<dyn ErasedHooks>,
    pub(crate) observers: Observers,
    pub(crate) history: HistoryLimits,
    pub(crate) session_ids: Box<dyn Fn() -> String + Send + Sync>,
    pub(crate) driven: Arc<Registry>,
    /// What the attendant says of this process.
    pub(crate) membership: watch::Sender<Membership>,
    /// What is wrong with the substrate, and with the store.
    pub(crate) substrate_trouble: Trouble,
    pub(crate) store_trouble: Trouble,
    /// Wakes the sweep.
    pub(crate) unattended: Notify,
    /// For those who wait for a feed.
    pub(crate) changes: Changes,
    /// There is something to erase at the substrate.
    pub(crate) deleted: Notify,
    /// There is something to pass on into turns.
    pub(crate) undecided: Notify,
    /// How long sessions are kept in which nothing happens.
    pub(crate) retention: Option<Duration>,
    /// The substrate has refused the log id that the attendant knows.
    pub(crate) log_doubted: Notify,
    /// The tasks of attempts.
    pub(crate) attempts: TaskTracker,
    pub(crate) shutting_down: CancellationToken,
    /// Cuts every attempt.
    pub(crate) cut: CancellationToken,
}

/// The right to drive a turn: in this process, and against all others.
struct Driver {
    permit: Permit,
    lease: Lease,
    part: Part,
}

impl Turns {
    /// Asks the store; again, where it cannot say what became of the write. From then on a store that is busy or away says nothing of
    /// that write, and is asked again too: a claim that was granted and not heard of is a turn that nobody runs.
    pub(crate) async fn settled<'a, T>(
        &'a self,
        ask: impl Fn(&'a dyn ChatStore) -> Stored<'a, T>,
    ) -> Result<T, StoreError> {
        let (times, mut wait) = ASK_AGAIN;
        let mut is_unknown = false;
        for _ in 0..times {
            match ask(&*self.store).await {
                Err(error) if is_unknown || error.kind() == StoreErrorKind::OutcomeUnknown => {
                    if matches!(
                        error.kind(),
                        StoreErrorKind::Newer | StoreErrorKind::Broken | StoreErrorKind::Gone
                    ) {
                        return Err(error);
                    }
                    is_unknown = true;
                    sleep(wait).await;
                    wait *= 2;
                }
                answer => return answer,
            }
        }
        ask(&*self.store).await
    }

    /// The log that this process dispatches to, or why it starts no turn.
    pub(crate) fn membership(&self) -> Result<LogId, Refusal> {
        if self.shutting_down.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        match &*self.membership.borrow() {
            Membership::Joined(log) => Ok(log.clone()),
            Membership::NotJoined(why) => Err(Refusal::NotReady(why.clone())),
            Membership::Unattended => Err(Refusal::Unattended),
        }
    }

    /// An attempt at a turn for a client: one that drives it, if nobody does, and one that reads along otherwise.
    pub(crate) async fn take_up(
        self: Arc<Self>,
        row: TurnRow,
        lines: Lines,
        cause: Cause,
        may_run: bool,
    ) -> Result<TurnStream, Refusal> {
        let (execution_id, turn_id) = (row.turn.execution_id.clone(), row.turn.turn_id.clone());
        let body = match self.claim(&row, may_run).await? {
            Some(driver) => self.drive(row.turn, driver, cause, lines.after()),
            None => self.read(row, cause, lines, ClientLeft::Abandon),
        };
        Ok(TurnStream { execution_id, turn_id, body })
    }

    /// Takes up an open turn that nobody drives, without any client.
    pub(crate) async fn take_up_unattended(
        self: &Arc<Self>,
        row: TurnRow,
    ) -> Result<(), StoreError> {
        if let Some(driver) = self.claim(&row, true).await? {
            tracing::info!(execution_id = %row.turn.execution_id, "taking up a turn that nobody drives");
            // Without a reader the attempt goes on all the same.
            drop(Arc::clone(self).drive(row.turn, driver, Cause::Swept, 0));
        }
        Ok(())
    }

    /// The right to drive the turn, if nobody else has it.
    async fn claim(&self, row: &TurnRow, may_run: bool) -> Result<Option<Driver>, StoreError> {
        let Ok(log) = self.membership() else {
            return Ok(None);
        };
        if row.state != TurnState::Open || row.is_held {
            return Ok(None);
        }
        let Some(permit) = self.driven.enter(&row.turn.execution_id, row.is_waiting) else {
            return Ok(None);
        };
        // Asked for before the turn is marked as dispatched: what fails after that is not tried again.
        let history = if may_run && !row.dispatched {
            self.store.history(row.turn.clone(), self.history).await?
        } else {
            History::default()
        };
        let (lease, part) = match self.claim_lease(row, may_run).await? {
            Claimed::Run(lease) => (lease, Part::Run(Run { history, log })),
            Claimed::Attach(lease) => (lease, Part::Attach),
            Claimed::Refused => {
                drop(permit);
                self.unattended.notify_one();
                return Ok(None);
            }
        };
        permit.turn().held_by(lease.clone());
        Ok(Some(Driver { permit, lease, part }))
    }

    async fn claim_lease(&self, row: &TurnRow, may_run: bool) -> Result<Claimed, StoreError> {
        let claim = Claim {
            execution_id: row.turn.execution_id.clone(),
            nonce: uuid::Uuid::new_v4().as_u128(),
            seen_epoch: row.epoch,
            may_run,
        };
        self.settled(|store| store.claim(claim.clone())).await
    }

    /// Drives the turn to its end, whether or not the body is read.
    fn drive(self: Arc<Self>, turn: Turn, driver: Driver, cause: Cause, after: u64) -> TurnBody {
        let Driver { permit, lease, part } = driver;
        let role = if matches!(part, Part::Run(_)) { Role::Run } else { Role::Attach };
        let attempt = Attempt::new(cause, role, after);
        let conduct = Conduct::new(Arc::clone(&self), turn, Some(lease.clone()), attempt);
        let producer = Execution::new(Arc::clone(&conduct), part);
        let (body, driver) = chat_turn(&conduct.turn, after, ClientLeft::Continue)
            .start(producer, AttemptHooks(Arc::clone(&conduct)));
        let (turn, handle) = (permit.turn(), driver.handle());
        turn.driven_by(handle.clone());
        let this = Arc::clone(&self);
        self.attempts.spawn(async move {
            let mut is_anothers = false;
            tokio::select! {
                outcome = driver => {
                    conduct.ended(&outcome);
                    if outcome.result.is_err() {
                        this.erase_if_deleted(&conduct.turn.execution_id).await;
                    }
                }
                () = turn.cut.cancelled() => is_anothers = true,
                () = this.cut.cancelled() => {}
                never = this.hurry_at_the_end(handle) => match never {},
            }
            if conduct.has_ended_turn() {
                return;
            }
            if !is_anothers {
                this.driven.leave_open(conduct.turn.execution_id.clone());
            }
            // First here, then in the store: who finds the lease free finds nobody driving either.
            drop(permit);
            if let Err(error) = this.store.release(lease).await {
                // It is released when the worker renews without it, or is dead.
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "failed to release a lease");
            }
        });
        body
    }

    /// Reads the turn's execution along. Who comes with a cursor gets the lines that it lacks, and not a replay, also where the
    /// answer has been saved meanwhile.
    pub(crate) fn read(
        self: Arc<Self>,
        row: TurnRow,
        cause: Cause,
        lines: Lines,
        left: ClientLeft,
    ) -> TurnBody {
        let after = lines.after();
        let attempt = Attempt::new(cause, Role::Read, after);
        let conduct = Conduct::new(Arc::clone(&self), row.turn, None, attempt);
        let is_saved = row.state == TurnState::Complete;
        let producer = Execution::new(Arc::clone(&conduct), Part::Read { is_saved });
        let mut turn = chat_turn(&conduct.turn, after, left);
        if lines != Lines::After(0) {
            turn = turn.prefer_log();
        }
        let (body, driver) = turn.start(producer, AttemptHooks(Arc::clone(&conduct)));
        let (this, handle) = (Arc::clone(&self), driver.handle());
        self.attempts.spawn(async move {
            tokio::select! {
                outcome = driver => conduct.ended(&outcome),
                () = this.cut.cancelled() => {}
                never = this.hurry_at_the_end(handle) => match never {},
            }
        });
        body
    }

    /// Once the process is to end, a body that is not read is cut soon: no answer is to wait for it until there is nobody left to
    /// save it.
    async fn hurry_at_the_end(&self, handle: TurnHandle) -> Infallible {
        self.shutting_down.cancelled().await;
        handle.client_stall(LAST_STALL);
        future::pending().await
    }

    /// How many turns this process has driven and leaves open.
    pub(crate) async fn left_open(&self) -> usize {
        stream::iter(self.driven.left_open())
            .map(|execution| self.store.find(Find::Execution(execution)))
            // One after the other, thousands of them take longer than a process has that ends.
            .buffer_unordered(LOOKED_UP_AT_ONCE)
            .filter(|found| {
                future::ready(match found {
                    Ok(Found::Turn(row)) => row.state == TurnState::Open,
                    Ok(_) => false,
                    // What cannot be asked could not be written either.
                    Err(_) => true,
                })
            })
            .count()
            .await
    }
}

fn chat_turn(turn: &Turn, after: u64, left: ClientLeft) -> ChatTurn {
    let identity = TurnIdentity {
        tenant_id: turn.owner.tenant_id.clone(),
        session_id: turn.session_id.as_str().to_owned(),
        user_id: turn.owner.user_id.clone(),
        turn_index: turn.index,
    };
    ChatTurn::new(identity, turn.execution_id.clone())
        .turn_id(&turn.turn_id)
        .resume_after(after)
        .on_client_left(left)
}
