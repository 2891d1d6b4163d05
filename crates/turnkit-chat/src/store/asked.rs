//! What a turn asks for, and what it is known by (PROTOCOL 4.2), as stores in SQL keep it.

use sha2::{Digest as _, Sha256};

use super::Digest;

/// What a turn asks for.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) message: String,
    pub(crate) agent: String,
    pub(crate) after: Option<String>,
    pub(crate) replaces: Option<String>,
    pub(crate) client_id: Option<String>,
    /// What its first request said, where it was edited since.
    pub(crate) known_as: Option<Digest>,
}

impl Asked {
    /// Whether a request of `other` is one for this turn, as far as message and agent go.
    pub(crate) fn is_known_as(&self, other: &Asked) -> bool {
        match self.known_as {
            Some(known_as) => known_as == other.digest(),
            None => self.message == other.message && self.agent == other.agent,
        }
    }

    /// Whether a request of `other` is one for this turn, which waits, in its place too where the request names one.
    pub(crate) fn is_asked_again_by(&self, other: &Asked) -> bool {
        let names_place = other.replaces.is_some() || other.after.is_some();
        self.is_known_as(other)
            && (!names_place || (&self.after, &self.replaces) == (&other.after, &other.replaces))
    }

    /// Takes an edit, and says whether it changes anything: one that is asked again does not. What the turn is known by stays.
    pub(crate) fn edit(&mut self, message: Option<String>, agent: Option<String>) -> bool {
        let message = message.filter(|message| *message != self.message);
        let agent = agent.filter(|agent| *agent != self.agent);
        let changes = message.is_some() || agent.is_some();
        if changes {
            self.known_as = Some(self.known_as.unwrap_or_else(|| self.digest()));
        }
        self.message = message.unwrap_or_else(|| std::mem::take(&mut self.message));
        self.agent = agent.unwrap_or_else(|| std::mem::take(&mut self.agent));
        changes
    }

    /// What is kept of a first request. An agent's name holds no NUL, so no two pairs are alike.
    fn digest(&self) -> Digest {
        let text = [self.agent.as_bytes(), b"\0", self.message.as_bytes()].concat();
        Sha256::digest(text).into()
    }
}
