//! The agents of an embedded substrate.

use std::fmt;
use std::sync::Arc;

use turnkit_agent::{Agent, ErasedAgent};
use turnkit_substrate::SubstrateBuilder;

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
