//! Stopping a turn, whoever drives it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Turns;
use super::execution::Part;
use super::registry::{Driven, Place};
use super::trace::Cause;
use crate::store::{Ending, Failure, MessageStatus, StoreError, Turn, TurnState};

/// How long a request to cancel waits for the turn's end. The engine gives a producer 5 s (PROTOCOL 2.3).
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the row of a turn that another process drives is looked at.
const LOOK: Duration = Duration::from_millis(100);

impl Turns {
    /// Stops the turn and waits for its end. The state is `Open` where the end has not come in time.
    pub(crate) async fn cancel(self: Arc<Self>, mut turn: Turn) -> Result<TurnState, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        // Before anything is cancelled: a cancelled execution that nobody asked to stop was bound because it is lost.
        self.store.ask_to_stop(turn.execution_id.clone()).await?;
        while turn.state == TurnState::Open && Instant::now() < deadline {
            Arc::clone(&self).stop(&turn, deadline).await?;
            match self.store.turn_of_execution(turn.execution_id.clone()).await? {
                Some(row) => turn = row,
                None => break,
            }
        }
        Ok(turn.state)
    }

    async fn stop(self: Arc<Self>, turn: &Turn, deadline: Instant) -> Result<(), StoreError> {
        if let Some(driven) = self.registry.find(&turn.execution_id) {
            driven.cancel();
            end_of(&driven, deadline).await;
            return Ok(());
        }
        match self.claim(turn, true).await? {
            Some((place, Part::Run(_))) => self.end_undispatched(turn, place).await?,
            Some((place, _)) => self.stop_unattended(turn, place, deadline).await,
            None => self.stop_elsewhere(turn).await,
        }
        Ok(())
    }

    /// Nobody has asked the substrate to run this turn, and now nobody will.
    async fn end_undispatched(&self, turn: &Turn, place: Place) -> Result<(), StoreError> {
        let message = "the turn was stopped before it began".to_owned();
        let ending = Ending {
            execution_id: turn.execution_id.clone(),
            worker: self.worker.id().to_owned(),
            status: MessageStatus::Stopped,
            failure: Failure { code: Some(turnkit::code::CANCELLED.to_owned()), message },
            partial: String::new(),
        };
        self.store.end_turn(ending).await?;
        drop(place);
        Ok(())
    }

    /// Nobody drives the turn, so it is driven to its end here: first cancelled at the substrate, whose log then tells what
    /// there is of the answer.
    async fn stop_unattended(self: Arc<Self>, turn: &Turn, place: Place, deadline: Instant) {
        let driven = place.turn();
        let is_told = self.cancel_at_substrate(turn).await;
        let attempt = self.begin(turn, Cause::Swept, 0);
        drop(Arc::clone(&self).drive(turn.clone(), attempt, place, Part::Attach));
        if !is_told {
            driven.cancel();
        }
        end_of(&driven, deadline).await;
        // The log did not end in time: the turn is stopped with what was read of it.
        driven.cancel();
    }

    /// Another process drives the turn; it learns from the log.
    async fn stop_elsewhere(&self, turn: &Turn) {
        self.cancel_at_substrate(turn).await;
        sleep(LOOK).await;
    }

    async fn cancel_at_substrate(&self, turn: &Turn) -> bool {
        let told = self.sandbox.cancel(&turn.execution_id).await;
        if let Err(error) = &told {
            tracing::warn!(execution_id = %turn.execution_id, %error, "failed to cancel an execution");
        }
        told.is_ok()
    }
}

async fn end_of(driven: &Driven, deadline: Instant) {
    // Later than the deadline is the caller's business: it looks at the row.
    let _ = timeout_at(deadline, driven.ended()).await;
}
