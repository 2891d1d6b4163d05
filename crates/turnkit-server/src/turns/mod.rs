//! Turns: how one is accepted, dispatched once, driven, taken up again, stopped and swept (PROTOCOL 4.2).
//!
//! An attempt at a turn is one of two kinds. The **driver** has the row's lease and a [`Place`] in this process: there is one,
//! it goes on when its client leaves, and it ends the turn. **Readers** are all others: they read the same execution for a
//! client that has come back, end with it, and never end the turn. Both may save the answer.

mod cancel;
mod execution;
mod hooks;
mod registry;
mod sweep;
mod trace;

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use turnkit::{ChatTurn, ClientLeft, TurnBody, TurnDriver, TurnIdentity};
use turnkit_sandbox::SandboxClient;
use turnkit_substrate::Substrate;

use self::execution::{Execution, Part};
use self::hooks::Hooks;
pub(crate) use self::registry::{Place, Registry};
use self::trace::{Attempt, Cause};
pub(crate) use self::trace::{AttemptTrace, Traces};
use crate::agents::Catalog;
use crate::metrics::{Metrics, Now};
use crate::outcome;
use crate::store::{Accepted, Claim, Claimed, NewTurn, Store, StoreError, Turn, TurnState};
use crate::worker::Worker;

/// Everything that a turn needs.
pub(crate) struct Turns {
    pub(crate) store: Store,
    pub(crate) sandbox: SandboxClient,
    pub(crate) worker: Worker,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Traces,
    pub(crate) catalog: Catalog,
    /// The substrate inside this process, where there is one.
    pub(crate) embedded: Option<Substrate>,
    /// Wakes the sweep.
    pub(crate) unattended: Notify,
    /// Cuts every attempt.
    pub(crate) cut: CancellationToken,
    /// Last, so that whoever waits for it finds nothing else left.
    pub(crate) _open: TaskTrackerToken,
}

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum Refused {
    NoSession,
    NoAgent,
    Conflict,
    Running { turn_id: String },
    TooMany { limit: usize },
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Store(error)
    }
}

impl Turns {
    /// Accepts a turn and starts it, or takes up the one that was accepted under this id, from its first event.
    pub(crate) async fn start(self: Arc<Self>, new: NewTurn) -> Result<TurnBody, Refused> {
        if self.registry.is_full() && !self.is_known(&new).await? {
            return Err(Refused::TooMany { limit: self.registry.limit() });
        }
        if !self.catalog.may_have(&new.agent).await && !self.is_known(&new).await? {
            return Err(Refused::NoAgent);
        }
        let (turn, cause) = match self.store.accept_turn(new).await? {
            Accepted::New(turn) => {
                self.metrics.turns_accepted.one();
                (turn, Cause::Accepted)
            }
            Accepted::Known(turn) => (turn, Cause::Resumed),
            Accepted::Conflict => return Err(Refused::Conflict),
            Accepted::Running { turn_id } => return Err(Refused::Running { turn_id }),
            Accepted::NoSession => return Err(Refused::NoSession),
        };
        Ok(self.take_up(turn, 0, cause, true).await?)
    }

    /// Takes up a turn after the first `cursor` events of its body. Never starts an agent: where the turn's dispatch is
    /// due, the sweep does it.
    pub(crate) async fn resume(
        self: Arc<Self>,
        turn: Turn,
        cursor: u64,
    ) -> Result<TurnBody, StoreError> {
        self.metrics.clients_resumed.one();
        self.take_up(turn, cursor, Cause::Resumed, false).await
    }

    /// What there is to say of this moment.
    pub(crate) async fn now(&self) -> Now {
        let log = match &self.embedded {
            Some(substrate) => substrate.usage().await.ok(),
            None => None,
        };
        Now { running: self.registry.len(), reconnects: self.sandbox.reconnects(), log }
    }

    async fn is_known(&self, new: &NewTurn) -> Result<bool, StoreError> {
        let (owner, session, id) = (new.owner.clone(), new.session_id.clone(), new.turn_id.clone());
        Ok(self.store.turn(owner, session, id).await?.is_some())
    }

    /// Whether somebody drives the turn: here, or in another living process.
    fn is_driven(&self, turn: &Turn) -> bool {
        self.registry.find(&turn.execution_id).is_some()
            || self.is_held_elsewhere(turn.lease.as_deref())
    }

    fn is_held_elsewhere(&self, lease: Option<&str>) -> bool {
        lease.is_some_and(|lease| lease != self.worker.id() && self.worker.is_alive(lease))
    }

    async fn take_up(
        self: Arc<Self>,
        turn: Turn,
        cursor: u64,
        cause: Cause,
        may_run: bool,
    ) -> Result<TurnBody, StoreError> {
        let claimed = self.claim(&turn, may_run).await?;
        let attempt = self.begin(&turn, cause, cursor);
        Ok(match claimed {
            Some((place, part)) => self.drive(turn, attempt, place, part),
            None => self.read(turn, attempt),
        })
    }

    /// The right to drive the turn, if nobody else has it, and how to.
    async fn claim(&self, turn: &Turn, may_run: bool) -> Result<Option<(Place, Part)>, StoreError> {
        if turn.state != TurnState::Open || self.is_held_elsewhere(turn.lease.as_deref()) {
            return Ok(None);
        }
        let Some(place) = self.registry.enter(&turn.execution_id) else {
            return Ok(None);
        };
        // Asked for before the turn is marked as dispatched: what fails after that is not tried again.
        let history =
            if may_run && !turn.dispatched { self.store.history(turn).await? } else { Vec::new() };
        let claim = Claim {
            execution_id: turn.execution_id.clone(),
            worker: self.worker.id().to_owned(),
            seen: turn.lease.clone(),
            may_run,
        };
        let part = match self.store.claim(claim).await? {
            Claimed::Run => Part::Run(history),
            Claimed::Attach => Part::Attach,
            Claimed::Refused => {
                drop(place);
                self.unattended.notify_one();
                return Ok(None);
            }
        };
        Ok(Some((place, part)))
    }

    fn begin(&self, turn: &Turn, cause: Cause, cursor: u64) -> Arc<Attempt> {
        let attempt = Attempt::new(cause, cursor, self.store.now(), Arc::clone(&self.metrics));
        self.traces.begin(&turn.execution_id, attempt)
    }

    /// Drives the turn to its end, whether or not the body is read.
    fn drive(
        self: Arc<Self>,
        turn: Turn,
        attempt: Arc<Attempt>,
        place: Place,
        part: Part,
    ) -> TurnBody {
        match part {
            Part::Run(_) => self.metrics.attempts_run.one(),
            Part::Attach | Part::Read => self.metrics.attempts_attach.one(),
        }
        let hooks =
            Hooks::driver(self.store.clone(), Arc::clone(&attempt), self.worker.id().to_owned());
        let chat = chat(&turn, &attempt).on_client_left(ClientLeft::Continue);
        let (body, driver) = chat.start(Execution::new(Arc::clone(&self), turn, part), hooks);
        place.driven_by(driver.handle());
        tokio::spawn(async move {
            self.attend(&attempt, driver).await;
            drop(place);
        });
        body
    }

    /// Reads the turn's execution for a client, for as long as the client stays.
    fn read(self: Arc<Self>, turn: Turn, attempt: Arc<Attempt>) -> TurnBody {
        self.metrics.attempts_read.one();
        let hooks = Hooks::reader(self.store.clone(), Arc::clone(&attempt));
        let chat = chat(&turn, &attempt).on_client_left(ClientLeft::Abandon);
        let (body, driver) = chat.start(Execution::new(Arc::clone(&self), turn, Part::Read), hooks);
        tokio::spawn(async move { self.attend(&attempt, driver).await });
        body
    }

    /// Runs an attempt to its end, or until it is cut.
    async fn attend(&self, attempt: &Attempt, driver: TurnDriver) {
        if let Some(outcome) = self.cut.run_until_cancelled(driver).await {
            outcome::note(&self.metrics, &outcome);
            attempt.ended(&outcome, self.store.now());
        }
    }
}

fn chat(turn: &Turn, attempt: &Attempt) -> ChatTurn {
    let identity = TurnIdentity {
        tenant_id: turn.owner.tenant_id.clone(),
        session_id: turn.session_id.clone(),
        user_id: turn.owner.user_id.clone(),
        turn_index: turn.index,
    };
    ChatTurn::new(identity, turn.execution_id.clone()).resume_after(attempt.resumed_after())
}
