//! What a turn asks for, and what it is known by (PROTOCOL 4.2).

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use sha2::{Digest as _, Sha256};

use super::Digest;

/// What is kept of the message and the agent of a turn's first request, once the turn was edited.
pub(crate) trait Fingerprint: PartialEq {
    fn of(message: &str, agent: &str) -> Self;
}

/// What stores in SQL keep. An agent's name holds no NUL, so no two pairs are alike.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl Fingerprint for Digest {
    fn of(message: &str, agent: &str) -> Digest {
        let text = [agent.as_bytes(), b"\0", message.as_bytes()].concat();
        Sha256::digest(text).into()
    }
}

/// What a turn asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked<K = Digest> {
    pub(crate) message: String,
    pub(crate) agent: String,
    pub(crate) after: Option<String>,
    pub(crate) replaces: Option<String>,
    pub(crate) client_id: Option<String>,
    /// What its first request said, where it was edited since.
    pub(crate) known_as: Option<K>,
}

impl<K> AsRef<Asked<K>> for Asked<K> {
    fn as_ref(&self) -> &Asked<K> {
        self
    }
}

impl<K> Asked<K> {
    /// Of a turn that goes on from the newest one, as it was first asked for.
    pub(crate) fn words(message: String, agent: String) -> Asked<K> {
        Asked { message, agent, after: None, replaces: None, client_id: None, known_as: None }
    }

    /// The name of the turn that it is to stand in for, or to follow.
    pub(crate) fn place(&self) -> Option<&str> {
        self.replaces.as_deref().or(self.after.as_deref())
    }
}

impl<K: Fingerprint> Asked<K> {
    /// Whether it says what the first request of a turn said: the turn's message and agent, where it was not edited since.
    pub(crate) fn says_what(&self, message: &str, agent: &str, known_as: Option<&K>) -> bool {
        match known_as {
            Some(known_as) => *known_as == K::of(&self.message, &self.agent),
            None => self.message == message && self.agent == agent,
        }
    }

    /// Takes an edit, and says whether it changes anything: one that is asked again does not. What the turn is known by stays.
    pub(crate) fn edit(&mut self, message: Option<String>, agent: Option<String>) -> bool {
        let message = message.filter(|message| *message != self.message);
        let agent = agent.filter(|agent| *agent != self.agent);
        let changes = message.is_some() || agent.is_some();
        if changes && self.known_as.is_none() {
            self.known_as = Some(K::of(&self.message, &self.agent));
        }
        self.message = message.unwrap_or_else(|| std::mem::take(&mut self.message));
        self.agent = agent.unwrap_or_else(|| std::mem::take(&mut self.agent));
        changes
    }
}
