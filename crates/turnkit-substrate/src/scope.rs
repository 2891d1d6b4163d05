use std::{fmt, sync::Arc};

use http::{HeaderMap, Request, Uri, Version, header, uri::Authority};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{ApiError, BuildError};

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
#[derive(Default)]
pub(crate) struct Guard {
    tokens: Vec<Token>,
    hosts: Vec<String>,
}

impl Guard {
    /// Lets `token` act in `scope`. Only its SHA-256 is kept.
    pub(crate) fn add_token(&mut self, scope: Scope, token: &str) -> Result<(), BuildError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BuildError::Token { scope });
        }
        let digest = Sha256::digest(token).into();
        self.tokens.push(Token { digest, scope });
        Ok(())
    }

    /// Takes requests to this name (`host` or `host:port`) besides the loopback names.
    pub(crate) fn add_host(&mut self, host: &str) {
        self.hosts.push(host.to_ascii_lowercase());
    }

    /// Whether anyone who reaches the server may act: then only this machine may reach it.
    pub(crate) fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The scope in which this request acts.
    pub(crate) fn scope<B>(&self, request: &Request<B>) -> Result<Scope, ApiError> {
        if self.is_open() {
            let host = self.check_host(request)?;
            check_origin(request.headers(), &host)?;
            return Ok(Scope::local());
        }
        bearer(request.headers())
            .and_then(|token| self.scope_of(token))
            .ok_or_else(ApiError::unauthorized)
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

    /// Without tokens a browser on this machine is a way in for any web page: `Host` stops DNS rebinding, `Origin` the rest.
    fn check_host<B>(&self, request: &Request<B>) -> Result<Authority, ApiError> {
        // A request in absolute form names the host a second time (RFC 9112 3.2.2).
        let target = request.uri().authority().map(|target| authority(target.as_str().as_bytes()));
        let target_is_ours =
            target.is_none_or(|target| target.is_some_and(|host| self.is_ours(&host)));
        host(request)?
            .filter(|host| target_is_ours && self.is_ours(host))
            .ok_or_else(|| ApiError::forbidden("the request names another server"))
    }

    fn is_ours(&self, host: &Authority) -> bool {
        let listed = |name: &String| name == host.as_str() || name == host.host();
        is_loopback(host.host()) || self.hosts.iter().any(listed)
    }
}

/// The host that the request is for: of its one `Host`, or of its target, where HTTP/2 puts it (RFC 9113 8.3.1).
/// `None` where that is no authority. A request without one, or with several, is malformed (RFC 9112 3.2).
fn host<B>(request: &Request<B>) -> Result<Option<Authority>, ApiError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let target = request.uri().authority().filter(|_| request.version() >= Version::HTTP_2);
    match (hosts.next(), hosts.next(), target) {
        (Some(host), None, _) => Ok(authority(host.as_bytes())),
        (None, _, Some(target)) => Ok(authority(target.as_str().as_bytes())),
        _ => Err(ApiError::invalid("Host", "a request must name its host, once")),
    }
}

fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), ApiError> {
    let origins = headers.get_all(header::ORIGIN);
    if origins.iter().any(|origin| origin_authority(origin.as_bytes()).as_ref() != Some(host)) {
        return Err(ApiError::forbidden("the Origin header names another site"));
    }
    Ok(())
}

struct Token {
    digest: [u8; 32],
    scope: Scope,
}

/// The token of the one `Authorization` header; two of them are none (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    let one = values.next().is_none();
    (one && scheme.eq_ignore_ascii_case(b"Bearer ")).then(|| token.trim_ascii())
}

fn authority(value: &[u8]) -> Option<Authority> {
    let lower = value.to_ascii_lowercase();
    let authority = Authority::try_from(lower.as_slice()).ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

fn origin_authority(value: &[u8]) -> Option<Authority> {
    let origin = Uri::try_from(value).ok()?;
    matches!(origin.scheme_str(), Some("http" | "https")).then_some(())?;
    authority(origin.authority()?.as_str().as_bytes())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
