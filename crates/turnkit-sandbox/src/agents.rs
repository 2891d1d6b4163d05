use serde::Deserialize;

/// What the substrate can run (PROTOCOL 3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AgentList {
    /// Its agents.
    pub agents: Vec<AgentInfo>,
    /// The identifier of the one that answers where a request names none, as far as the substrate tells.
    #[serde(default)]
    pub default: Option<String>,
}

/// One agent of a substrate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AgentInfo {
    /// The name that a [`RunRequest`](crate::RunRequest) chooses it by.
    pub identifier: String,
    /// One line about it; empty where the substrate says none.
    #[serde(default)]
    pub description: String,
    /// What it takes while it runs.
    #[serde(default)]
    pub takes: AgentTakes,
}

/// What an agent takes from outside while it runs (PROTOCOL 3.6): nothing unless the substrate says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AgentTakes {
    /// Answers to its questions.
    #[serde(default)]
    pub answers: bool,
    /// Messages into its running turn.
    #[serde(default)]
    pub input: bool,
}
