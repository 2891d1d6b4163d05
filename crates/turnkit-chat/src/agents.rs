//! What the product knows of the substrate's agents.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use turnkit_sandbox::{AgentList, AgentTakes, SandboxClient};

use crate::Refusal;

/// The agent that runs where the client names none (PROTOCOL 3.1).
pub(crate) const DEFAULT_AGENT: &str = "default";
/// How long a substrate may take to name its agents.
const PATIENCE: Duration = Duration::from_secs(5);

/// The agents of the substrate that turns run at, as it tells them.
pub(crate) struct Catalog {
    agents: SandboxClient,
    /// What it told last: a turn is not held up by asking again.
    last: Mutex<AgentList>,
}

impl Catalog {
    pub(crate) fn new(agents: SandboxClient) -> Catalog {
        Catalog { agents, last: Mutex::default() }
    }

    /// Asks the substrate.
    pub(crate) async fn ask(&self) -> Result<AgentList, Refusal> {
        let list = match timeout(PATIENCE, self.agents.agents()).await {
            Ok(Ok(list)) => list,
            Ok(Err(error)) => return Err(Refusal::Substrate(error.into())),
            Err(elapsed) => return Err(Refusal::Substrate(elapsed.into())),
        };
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&list);
        Ok(list)
    }

    /// What an agent takes while it runs (PROTOCOL 3.6), as the substrate says now.
    pub(crate) async fn ask_what_it_takes(&self, agent: &str) -> Result<AgentTakes, Refusal> {
        self.ask().await.map(|list| takes(&list, agent).unwrap_or_default())
    }

    /// What an agent takes while it runs, as it was told last; the substrate is asked where it has told nothing yet. Nothing where that cannot
    /// be asked.
    pub(crate) async fn what_it_takes(&self, agent: &str) -> AgentTakes {
        let known = takes(&self.last.lock().unwrap_or_else(PoisonError::into_inner), agent);
        match known {
            Some(takes) => takes,
            None => self.ask_what_it_takes(agent).await.unwrap_or_default(),
        }
    }

    /// Whether a turn of this agent may be accepted. In doubt it may: a substrate that is away for a moment is waited for,
    /// and one that does not know the agent fails the turn.
    pub(crate) async fn may_have(&self, agent: &str) -> bool {
        let has = |list: &AgentList| list.agents.iter().any(|known| known.identifier == agent);
        if agent == DEFAULT_AGENT || has(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
        {
            return true;
        }
        self.ask().await.map_or_else(
            |error| {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot check an agent's name");
                true
            },
            |list| has(&list),
        )
    }
}

/// What the list says of an agent, where it has it.
fn takes(list: &AgentList, agent: &str) -> Option<AgentTakes> {
    let is_named = |name: &str| list.agents.iter().find(|known| known.identifier == name);
    let named = match &list.default {
        Some(default) if agent == DEFAULT_AGENT => is_named(default),
        _ => is_named(agent),
    };
    named.map(|known| known.takes)
}
