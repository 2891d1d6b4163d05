//! A substrate inside this process, which is called and never connected to.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use turnkit_sandbox::{SandboxClient, SandboxClientBuilder};
use turnkit_substrate::{Limits, Substrate};
use uuid::Uuid;

use crate::agents::Agents;
use crate::log::LogChoice;
use crate::server::StartError;

/// A substrate that only this process knows how to talk to.
pub(crate) struct Embedded {
    pub(crate) substrate: Substrate,
    token: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Embedded {
    /// Starts it, with a random token: it names the scope in which the executions of this product live.
    pub(crate) async fn start(
        agents: Agents,
        log: &LogChoice,
        limits: Limits,
    ) -> Result<Embedded, StartError> {
        let token = secret();
        let substrate = build(agents, log, limits, &token).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn({
            let substrate = substrate.clone();
            async move { substrate.run_until(async { drop(stopped.await) }).await }
        });
        Ok(Embedded { substrate, token, stop, running })
    }

    /// A client that asks it without leaving the process.
    pub(crate) fn client(&self) -> SandboxClientBuilder {
        SandboxClient::over(self.substrate.router()).bearer_token(self.token.clone())
    }

    /// Ends what still runs, and waits until the log says how.
    pub(crate) async fn stop(self) {
        // A substrate that has gone already cannot be told, and need not be.
        let _ = self.stop.send(());
        let _ = self.running.await;
    }
}

/// A substrate with these agents and this log, for whoever has the token.
pub(crate) async fn build(
    agents: Agents,
    log: &LogChoice,
    mut limits: Limits,
    token: &str,
) -> Result<Substrate, StartError> {
    // What still runs when it is told to stop has had the product's grace.
    limits.connection.shutdown = Duration::ZERO;
    agents
        .join(Substrate::builder())
        .erased_log(log.open(limits).await?)
        .token("turnkit", token)
        .build()
        .map_err(StartError::Substrate)
}

/// A token that nobody can guess.
pub(crate) fn secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
