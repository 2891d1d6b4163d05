use std::{fmt, sync::Arc};

use http::Request;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use turnkit_http::server::{ApiError, Hosts, bearer_token, is_bearer_token};

use crate::error::BuildError;

/// Whose an execution is: an execution lives at (scope, id), and those of other scopes do not exist (PROTOCOL 3.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The scope of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The scope of every request to a substrate without tokens.
    #[must_use]
    pub fn local() -> Self {
        Self::new("local")
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Decides in which scope a request acts, and whether it may act at all (PROTOCOL 3.3).
pub(crate) struct Guard {
    tokens: Vec<Token>,
    /// Without tokens a browser on this machine is a way in for any web page.
    hosts: Hosts,
}

impl Guard {
    /// Takes requests to these hosts, as long as there is no token.
    pub(crate) fn new(hosts: Hosts) -> Self {
        Self { tokens: Vec::new(), hosts }
    }

    /// Lets `token` act in `scope`. Only its SHA-256 is kept.
    pub(crate) fn add_token(&mut self, scope: Scope, token: &str) -> Result<(), BuildError> {
        if !is_bearer_token(token) {
            return Err(BuildError::Token { scope });
        }
        let digest = Sha256::digest(token).into();
        self.tokens.push(Token { digest, scope });
        Ok(())
    }

    /// Whether anyone who reaches the server may act: then only this machine may reach it.
    pub(crate) fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The scope in which this request acts.
    pub(crate) fn scope<B>(&self, request: &Request<B>) -> Result<Scope, ApiError> {
        if self.is_open() {
            return self.hosts.check(request).map(|()| Scope::local());
        }
        bearer_token(request.headers())
            .and_then(|token| self.scope_of(token))
            .ok_or_else(|| ApiError::unauthorized("a bearer token of this substrate is required"))
    }

    /// Compares with every token, so that the time says nothing about which one, or how much of it, was right.
    fn scope_of(&self, token: &[u8]) -> Option<Scope> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for known in &self.tokens {
            if bool::from(known.digest.ct_eq(&digest)) {
                found = Some(&known.scope);
            }
        }
        found.cloned()
    }
}

struct Token {
    digest: [u8; 32],
    scope: Scope,
}
