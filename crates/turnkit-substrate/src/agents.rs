use std::{collections::BTreeMap, sync::Arc};

use turnkit_agent::ErasedAgent;
use turnkit_id::is_name;

use crate::BuildError;

/// The agent that answers runs that name none (PROTOCOL 3.1).
pub(crate) const DEFAULT: &str = "default";

/// The agents of a substrate, by their names.
pub(crate) struct Agents {
    named: BTreeMap<String, Arc<dyn ErasedAgent>>,
    default: Option<String>,
}

impl Agents {
    /// Checks the names; where `default` is given, it must be one of them.
    pub(crate) fn new(
        agents: Vec<(String, Arc<dyn ErasedAgent>)>,
        default: Option<String>,
    ) -> Result<Self, BuildError> {
        let mut named = BTreeMap::new();
        for (name, agent) in agents {
            if !is_name(&name) {
                return Err(BuildError::AgentName { name });
            }
            if named.insert(name.clone(), agent).is_some() {
                return Err(BuildError::AgentTwice { name });
            }
        }
        if named.is_empty() {
            return Err(BuildError::NoAgent);
        }
        match default {
            Some(name) if !named.contains_key(&name) => Err(BuildError::DefaultAgent { name }),
            Some(name) if name != DEFAULT && named.contains_key(DEFAULT) => {
                Err(BuildError::AgentTwice { name: DEFAULT.to_owned() })
            }
            default => Ok(Self { named, default }),
        }
    }

    /// The agent that a run is of.
    pub(crate) fn find(&self, identifier: &str) -> Option<&Arc<dyn ErasedAgent>> {
        match &self.default {
            Some(name) if identifier == DEFAULT => self.named.get(name),
            _ => self.named.get(identifier),
        }
    }

    /// The name of the one that answers runs that name none, where there is one.
    pub(crate) fn default_name(&self) -> Option<&str> {
        match &self.default {
            Some(name) => Some(name),
            None => self.named.contains_key(DEFAULT).then_some(DEFAULT),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &dyn ErasedAgent)> {
        self.named.iter().map(|(name, agent)| (name.as_str(), &**agent))
    }
}
