//! The agents of an embedded substrate, and what the product knows of a substrate's agents.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use turnkit_agent::{Agent, ErasedAgent};
use turnkit_sandbox::{AgentList, Error, SandboxClient};
use turnkit_substrate::SubstrateBuilder;

/// The agent that runs where the client names none (PROTOCOL 3.1).
pub(crate) const DEFAULT_AGENT: &str = "default";
/// How long a substrate may take to name its agents.
const PATIENCE: Duration = Duration::from_secs(5);

/// Agents by their names. The first one answers where a client names none.
///
/// ```
/// use turnkit_agents::demo::Demo;
/// use turnkit_server::Agents;
///
/// let agents = Agents::new("demo", Demo::new());
/// # drop(agents);
/// ```
#[derive(Clone)]
pub struct Agents {
    named: Vec<(String, Arc<dyn ErasedAgent>)>,
}

impl Agents {
    /// One agent, that of clients that name none. A name is 1 to 64 of `A-Za-z0-9._-`.
    #[must_use]
    pub fn new(name: impl Into<String>, agent: impl Agent) -> Agents {
        Agents { named: Vec::new() }.with(name, agent)
    }

    /// One more agent.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, agent: impl Agent) -> Agents {
        self.named.push((name.into(), Arc::new(agent)));
        self
    }

    /// Hands them all to a substrate.
    pub(crate) fn join(self, substrate: SubstrateBuilder) -> SubstrateBuilder {
        let substrate = match self.named.first() {
            Some((name, _)) => substrate.default_agent(name),
            None => substrate,
        };
        self.named
            .into_iter()
            .fold(substrate, |substrate, (name, agent)| substrate.erased_agent(name, agent))
    }
}

/// Without any, no substrate can be built.
impl FromIterator<(String, Arc<dyn ErasedAgent>)> for Agents {
    fn from_iter<I: IntoIterator<Item = (String, Arc<dyn ErasedAgent>)>>(agents: I) -> Agents {
        Agents { named: agents.into_iter().collect() }
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.named.iter().map(|(name, _)| name)).finish()
    }
}

/// The agents of the substrate that turns run at, as it tells them.
pub(crate) struct Catalog {
    sandbox: SandboxClient,
    /// What it told last: a turn is not held up by asking again.
    last: Mutex<AgentList>,
}

impl Catalog {
    pub(crate) fn new(sandbox: SandboxClient) -> Catalog {
        Catalog { sandbox, last: Mutex::default() }
    }

    /// Asks the substrate.
    pub(crate) async fn ask(&self) -> Result<AgentList, CatalogError> {
        let list =
            timeout(PATIENCE, self.sandbox.agents()).await.map_err(|_| CatalogError::Slow)??;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&list);
        Ok(list)
    }

    /// Whether a turn of this agent may be accepted. In doubt it may: a substrate that is away for a moment is waited for,
    /// and one that does not know the agent fails the turn.
    pub(crate) async fn may_have(&self, agent: &str) -> bool {
        if agent == DEFAULT_AGENT
            || has(&self.last.lock().unwrap_or_else(PoisonError::into_inner), agent)
        {
            return true;
        }
        self.ask().await.map_or_else(
            |error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot check an agent's name"
                );
                true
            },
            |list| has(&list, agent),
        )
    }
}

fn has(list: &AgentList, agent: &str) -> bool {
    list.agents.iter().any(|known| known.identifier == agent)
}

/// Why the agents are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    #[error("ask the substrate for its agents")]
    Substrate(#[from] Error),
    #[error("ask the substrate for its agents: no answer within {} s", PATIENCE.as_secs())]
    Slow,
}
