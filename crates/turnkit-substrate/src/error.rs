use thiserror::Error;

use crate::Scope;

/// Why a [`Substrate`](crate::Substrate) was not built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No agent was given.
    #[error("build a substrate: it has no agent")]
    NoAgent,
    /// A name that is empty, longer than 64 bytes, or holds something else than `A-Za-z0-9._-`.
    #[error("build a substrate: the agent name {name:?} is not 1 to 64 of A-Za-z0-9._-")]
    AgentName {
        /// The name.
        name: String,
    },
    /// Two agents of one name.
    #[error("build a substrate: there are two agents named {name:?}")]
    AgentTwice {
        /// The name.
        name: String,
    },
    /// There is no agent of the name that is to be the default one's.
    #[error("build a substrate: there is no agent named {name:?} to be the default one")]
    DefaultAgent {
        /// The name.
        name: String,
    },
    /// A token that is empty, or that no header can carry. The token itself is not told.
    #[error("build a substrate: the token of scope {scope} must be visible ASCII, and not empty")]
    Token {
        /// Whose token it is.
        scope: Scope,
    },
    /// A limit that cannot be kept.
    #[error("build a substrate: {limit} must be {must}")]
    Limit {
        /// The field of [`Limits`](crate::Limits).
        limit: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

/// Why [`Substrate::serve`](crate::Substrate::serve) stopped, or did not begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Without any token, everyone who reaches the server may use it: it serves loopback only (PROTOCOL 3.3).
    #[error("serve on {address} without any token: only loopback addresses may be open")]
    NotLoopback {
        /// Where the listener is bound.
        address: std::net::SocketAddr,
    },
    /// The listener has no address, or the timer of its process is gone.
    #[error("serve")]
    Io(#[from] std::io::Error),
}
