//! Stopping a turn, whoever drives it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use turnkit::ClientLeft;

use super::Turns;
use super::execution::Part;
use crate::chat::Lines;
use crate::observer::Cause;
use crate::store::{EndedBy, Find, Found, TurnRow};
use crate::{Ending, Failure, Refusal, TurnState};

/// How long a stop waits for the turn's end. The engine gives a producer 5 s (PROTOCOL 2.3).
const PATIENCE: Duration = Duration::from_secs(10);
/// How long of that the log may take to tell the end, before the driver stops with what it has read.
const LOG_PATIENCE: Duration = Duration::from_secs(4);
/// How often the row of a turn that another process drives is looked at.
const LOOK: Duration = Duration::from_millis(100);

impl Turns {
    /// Stops the turn and waits for its end. The state is `Open` where the end has not come in time.
    pub(crate) async fn stop(self: Arc<Self>, mut row: TurnRow) -> Result<TurnState, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let id = row.turn.execution_id.clone();
        // Before anything is cancelled: a cancelled execution that nobody asked to stop was bound because it is lost.
        self.settled(|store| store.ask_to_stop(id.clone())).await?;
        let mut is_followed = false;
        while row.state == TurnState::Open && Instant::now() < deadline {
            if let Some(driven) = self.driven.find(&id) {
                // First at the substrate, whose log then tells what there is of the answer: its driver may be behind other
                // readers, and what is kept is what they have seen. Where the log does not end in time, it is what was read.
                let until = deadline.min(Instant::now() + LOG_PATIENCE);
                if self.cancel_at_substrate(&row, until).await {
                    let _ = timeout_at(until, driven.ended()).await;
                }
                driven.cancel();
                // Later than the deadline is told by the row.
                let _ = timeout_at(deadline, driven.ended()).await;
            } else if let Some(driver) = self.claim(&row, true).await? {
                if matches!(driver.part, Part::Run(_)) {
                    // Nobody has asked the substrate to run this turn, and now nobody will.
                    let message = "the turn was stopped before it began".to_owned();
                    let code = Some(turnkit::code::CANCELLED.to_owned());
                    let ending = Ending::stopped(Failure { code, message }, "");
                    let by = EndedBy::Lease(driver.lease.clone());
                    self.settled(|store| store.end(by.clone(), ending.clone())).await?;
                    self.hooks.on_turn_ended(&row.turn, &ending).await;
                } else {
                    // Driven to its end here: first cancelled at the substrate, whose log then tells what there is of the
                    // answer. Where the log does not end in time, the turn is stopped with what was read of it.
                    let is_told = self.cancel_at_substrate(&row, deadline).await;
                    let driven = driver.permit.turn();
                    drop(Arc::clone(&self).drive(row.turn.clone(), driver, Cause::Swept, 0));
                    if !is_told {
                        driven.cancel();
                    }
                    let _ = timeout_at(deadline, driven.ended()).await;
                    driven.cancel();
                }
            } else {
                // Another process drives the turn, or hangs. Whoever reads the log writes down what it tells.
                self.cancel_at_substrate(&row, deadline).await;
                if !std::mem::replace(&mut is_followed, true) {
                    let turns = Arc::clone(&self);
                    drop(turns.read(
                        row.clone(),
                        Cause::Swept,
                        Lines::After(0),
                        ClientLeft::Continue,
                    ));
                }
                sleep(LOOK).await;
            }
            row = match self.store.find(Find::Execution(id.clone())).await? {
                Found::Turn(row) => row,
                Found::Gone => {
                    // A cancel that came behind the erasure may have bound the id anew.
                    self.erase(&id).await;
                    return Err(Refusal::NoTurn);
                }
                _ => return Err(Refusal::NoTurn),
            };
        }
        Ok(row.state)
    }

    async fn cancel_at_substrate(&self, row: &TurnRow, deadline: Instant) -> bool {
        let execution_id = &row.turn.execution_id;
        match timeout_at(deadline, self.agents.cancel(execution_id)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => {
                tracing::warn!(%execution_id, %error, "failed to cancel an execution");
            }
            Err(_) => tracing::warn!(%execution_id, "failed to cancel an execution in time"),
        }
        false
    }
}
