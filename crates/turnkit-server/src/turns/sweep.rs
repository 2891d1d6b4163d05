//! The sweep: drives, without any client, each open turn that no living process drives (PROTOCOL 4.2).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use turnkit_id::ExecutionId;

use super::Turns;
use super::trace::Cause;
use crate::store::StoreError;

impl Turns {
    /// Sweeps at once, and from then on every `interval` and whenever a turn is known to be without a driver. Runs until it
    /// is dropped.
    pub(crate) async fn sweep_always(self: Arc<Self>, interval: Duration) {
        loop {
            if let Err(error) = Arc::clone(&self).sweep().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "failed to sweep open turns"
                );
            }
            tokio::select! {
                () = sleep(interval) => {}
                () = self.unattended.notified() => {}
            }
        }
    }

    /// Takes up every open turn that nobody drives. A turn that cannot be taken up is left to the next sweep.
    async fn sweep(self: Arc<Self>) -> Result<(), StoreError> {
        for (execution, lease) in self.store.open_turns(self.registry.limit()).await? {
            let is_driven = self.registry.find(&execution).is_some();
            if !is_driven && !self.is_held_elsewhere(lease.as_deref()) {
                Arc::clone(&self).take_up_unattended(execution).await?;
            }
        }
        Ok(())
    }

    async fn take_up_unattended(self: Arc<Self>, execution: ExecutionId) -> Result<(), StoreError> {
        let Some(turn) = self.store.turn_of_execution(execution).await? else {
            return Ok(());
        };
        if let Some((place, part)) = self.claim(&turn, true).await? {
            tracing::info!(execution_id = %turn.execution_id, "taking up a turn that nobody drives");
            // Without a reader: the attempt goes on all the same.
            let attempt = self.begin(&turn, Cause::Swept, 0);
            drop(self.drive(turn, attempt, place, part));
        }
        Ok(())
    }
}
