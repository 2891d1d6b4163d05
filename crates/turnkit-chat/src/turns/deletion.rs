//! Deleting sessions: what the store has forgotten is erased at the substrate too (PROTOCOL 4.2, "Deletion is two steps").

use std::time::SystemTime;

use futures_util::{StreamExt as _, stream};
use turnkit_id::ExecutionId;
use turnkit_sandbox::Error;

use super::Turns;
use crate::store::{Deletion, Find, Found, StoreError};

/// The code of an attempt at a turn whose session was deleted.
pub(crate) const SESSION_DELETED: &str = "session_deleted";
/// What its client is told.
pub(crate) const DELETED: &str = "this conversation was deleted";

/// Executions that are erased at once.
const AT_ONCE: usize = 8;
/// Executions, and idle sessions, that are read from the store in one piece.
const PIECE: usize = 200;

impl Turns {
    pub(crate) async fn delete(&self, deletion: Deletion) -> Result<bool, StoreError> {
        let is_deleted = self.settled(|store| store.delete_session(deletion.clone())).await?;
        self.deleted.notify_one();
        Ok(is_deleted)
    }

    /// Clears away what was deleted, each time somebody says that there is something. Never ends.
    pub(crate) async fn clear_when_told(&self) {
        loop {
            self.deleted.notified().await;
            self.clear().await;
        }
    }

    /// Erases what is left to erase, deletes sessions that are idle for too long, and sees to it that the store's files hold nothing of
    /// either. What cannot be done now is left to the next time.
    async fn clear(&self) {
        if let Err(error) = self.try_to_clear().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "failed to clear away what was deleted");
        }
    }

    async fn try_to_clear(&self) -> Result<(), StoreError> {
        if let Some(retention) = self.retention
            && let Some(since) = SystemTime::now().checked_sub(retention)
        {
            loop {
                let idle = self.store.idle_sessions(since, PIECE).await?;
                let is_last = idle.len() < PIECE;
                for (owner, session_id) in idle {
                    let if_idle_since = Some(since);
                    let deletion = Deletion { owner, session_id, if_idle_since };
                    self.settled(|store| store.delete_session(deletion.clone())).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        loop {
            let left = self.store.to_erase(PIECE).await?;
            let count = left.len();
            let erased: Vec<_> = stream::iter(left)
                .map(|id| async move { self.erase(&id).await.then_some(id) })
                .buffer_unordered(AT_ONCE)
                .filter_map(std::future::ready)
                .collect()
                .await;
            // Where one could not be erased, the next piece would begin with it.
            let is_last = count < PIECE || erased.len() < count;
            if !erased.is_empty() {
                self.settled(|store| store.erased(erased.clone())).await?;
            }
            if is_last {
                break;
            }
        }
        self.store.scrub().await?;
        Ok(())
    }

    /// Erases a turn that this process has driven, where its session was deleted meanwhile: of a substrate that has lost its log
    /// since the deletion was erased there, the last request may have bound the id anew.
    pub(super) async fn erase_if_deleted(&self, execution_id: &ExecutionId) {
        let found = self.store.find(Find::Execution(execution_id.clone())).await;
        if matches!(found, Ok(Found::Gone)) {
            self.erase(execution_id).await;
        }
    }

    /// Whether the substrate has confirmed it.
    pub(super) async fn erase(&self, execution_id: &ExecutionId) -> bool {
        let error = match self.agents.erase(execution_id).await {
            Ok(()) => return true,
            Err(error) => error,
        };
        // A service without this call keeps events for as long as it does; it is stopped at least.
        if matches!(&error, Error::Refused(refusal) if matches!(refusal.status(), 404 | 405 | 501))
        {
            tracing::warn!(%execution_id, "the substrate cannot erase executions: this one is cancelled");
            let cancelled = self.agents.cancel(execution_id).await;
            return cancelled.is_ok() || matches!(cancelled, Err(Error::Lost(_)));
        }
        tracing::warn!(%execution_id, %error, "failed to erase an execution");
        false
    }
}
