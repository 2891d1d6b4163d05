//! Who may send a request at all: checked before any route.
//!
//! A server on loopback is within reach of every page that its user's browser has open. `Host` tells a page that had its own
//! name point to 127.0.0.1 (DNS rebinding), `Origin` one that posts across sites, and a body has to be JSON, which no plain
//! form can send.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{Version, uri::Authority};
use http_body::Body as _;

use super::{
    ApiError, Origins,
    body::{not_json, says_json},
    single_header,
};
use crate::loopback::is_loopback;

/// The hosts that a server answers to, as requests name them.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Option<Arc<Vec<Box<str>>>>,
    origins: Origins,
}

impl Hosts {
    /// This machine only: `localhost`, 127.0.0.0/8 and `[::1]`, with any port. For servers that know users by nothing else than
    /// that they reach it.
    #[must_use]
    pub fn loopback() -> Self {
        Self { names: Some(Arc::default()), origins: Origins::default() }
    }

    /// Any: for servers whose users have tokens. A page under another name has none of this server's.
    #[must_use]
    pub fn any() -> Self {
        Self { names: None, origins: Origins::default() }
    }

    /// One more: a host for any port, or `host:port` for that one.
    #[must_use]
    pub fn and(mut self, name: &str) -> Self {
        if let Some(names) = &mut self.names {
            Arc::make_mut(names).push(name.to_ascii_lowercase().into());
        }
        self
    }

    /// Lets pages of these origins ask as well as its own.
    #[must_use]
    pub fn allowing(self, origins: &Origins) -> Self {
        Self { origins: origins.clone(), ..self }
    }

    /// Refuses a request to another host, or from a page of another origin than the host that it names.
    ///
    /// # Errors
    /// 400 `invalid_request` where the request does not name one host (RFC 9112, 3.2; in HTTP/2 its target does, RFC 9113,
    /// 8.3.1), or two origins; 403 `forbidden` where it names another one.
    pub fn check<B>(&self, request: &http::Request<B>) -> Result<(), ApiError> {
        let given = single_header(request.headers(), "Host")?;
        let given = given.map(|given| authority(given).ok_or_else(|| no_host("is no host")));
        // A request in absolute form names the host a second time (RFC 9112, 3.2.2).
        let target = request.uri().authority().map(Authority::as_str);
        let target = target.map(|target| authority(target).ok_or_else(|| no_host("is no host")));
        let host = match (given.transpose()?, target.transpose()?) {
            (Some(host), None) => host,
            (None, Some(target)) if request.version() >= Version::HTTP_2 => target,
            (Some(host), Some(target)) => {
                self.check_host(&target)?;
                if target != host && self.is_ours(&host) {
                    return Err(no_host("is not the one that the request's target names"));
                }
                host
            }
            (None, _) => return Err(no_host("is missing")),
        };
        self.check_host(&host)?;
        let Some(origin) = single_header(request.headers(), "Origin")? else {
            return Ok(());
        };
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let is_own = own.is_some_and(|own| own.eq_ignore_ascii_case(host.as_str()));
        if is_own || self.origins.has(origin) {
            Ok(())
        } else {
            Err(ApiError::forbidden("this server does not answer pages of another origin"))
        }
    }

    fn check_host(&self, host: &Authority) -> Result<(), ApiError> {
        if self.is_ours(host) {
            Ok(())
        } else {
            Err(ApiError::forbidden("this server does not answer to the host that was named"))
        }
    }

    fn is_ours(&self, host: &Authority) -> bool {
        let Some(names) = &self.names else {
            return true;
        };
        let mut names = names.iter().map(AsRef::as_ref);
        is_loopback(host.host())
            || names.any(|name: &str| name == host.as_str() || name == host.host())
    }
}

/// In lower case; `None` where it is none, or holds user information, which is no part of a host.
fn authority(text: &str) -> Option<Authority> {
    let authority = text.to_ascii_lowercase().parse::<Authority>().ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

fn no_host(why: &str) -> ApiError {
    ApiError::invalid_request(format!("the header Host {why}")).field("Host")
}

/// A middleware that lets a request pass where [`Hosts::check`] does, and where its method is safe or its body JSON, or none.
///
/// For [`axum::middleware::from_fn_with_state`]. It answers 415 `unsupported_media_type` to other bodies, of any route and also
/// where nobody would read them.
pub async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.check(&request).and_then(|()| check_body(&request)) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn check_body(request: &Request) -> Result<(), ApiError> {
    if request.method().is_safe() || says_json(request.headers())? || request.body().is_end_stream()
    {
        return Ok(());
    }
    Err(not_json())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Request {
        let request = Request::builder().uri(target);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).unwrap()
    }

    /// 200, or the status of the refusal.
    fn status(hosts: &Hosts, target: &str, headers: &[(&str, &str)]) -> u16 {
        let checked = hosts.check(&request(target, headers));
        checked.map_or_else(|refused| refused.status().as_u16(), |()| 200)
    }

    #[test]
    fn loopback_names_are_answered_and_no_others() {
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1:8787", "127.9.9.9", "[::1]:8787", "[::1]"]
        {
            assert_eq!(status(&Hosts::loopback(), "/", &[("host", host)]), 200, "{host}");
        }
        for (host, expected) in [
            ("evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost.", 403),
            ("10.0.0.1", 403),
            ("[::2]", 403),
            ("evil@127.0.0.1", 400),
            ("a b", 400),
            ("", 400),
        ] {
            assert_eq!(status(&Hosts::loopback(), "/", &[("host", host)]), expected, "{host}");
        }
    }

    #[test]
    fn a_name_may_be_added_for_any_port_or_for_one() {
        let hosts = Hosts::loopback().and("Chat.example").and("other.example:81");
        for (host, expected) in [
            ("chat.example", 200),
            ("CHAT.example:8443", 200),
            ("other.example:81", 200),
            ("other.example", 403),
            ("other.example:8", 403),
        ] {
            assert_eq!(status(&hosts, "/", &[("host", host)]), expected, "{host}");
        }
    }

    #[test]
    fn a_request_names_its_host_once() {
        let host = ("host", "localhost");
        for hosts in [Hosts::loopback(), Hosts::any()] {
            assert_eq!(status(&hosts, "/", &[]), 400);
            assert_eq!(status(&hosts, "/", &[host, host]), 400);
            assert_eq!(status(&hosts, "http://localhost/", &[]), 400);
            assert_eq!(status(&hosts, "http://localhost/", &[host]), 200);
            assert_eq!(status(&hosts, "http://localhost:1/", &[host]), 400);
            let mut second = request("http://localhost/", &[]);
            *second.version_mut() = Version::HTTP_2;
            assert_eq!(hosts.check(&second), Ok(()));
        }
        assert_eq!(status(&Hosts::loopback(), "http://evil.example/", &[host]), 403);
        assert_eq!(
            status(&Hosts::loopback(), "http://localhost/", &[("host", "evil.example")]),
            403
        );
        assert_eq!(status(&Hosts::any(), "http://evil.example/", &[host]), 400);
    }

    #[test]
    fn only_pages_of_the_named_host_may_ask() {
        for (hosts, host) in
            [(Hosts::loopback(), "localhost:8787"), (Hosts::any(), "chat.example:8787")]
        {
            let (host, name) = (("host", host), host.split(':').next().unwrap());
            let status = |origins: &[String]| {
                let origins = origins.iter().map(|origin| ("origin", origin.as_str()));
                let headers: Vec<_> = std::iter::once(host).chain(origins).collect();
                status(&hosts, "/", &headers)
            };
            let own = format!("http://{name}:8787");
            let loud = format!("https://{}:8787", name.to_uppercase());
            assert_eq!((status(std::slice::from_ref(&own)), status(&[loud])), (200, 200));
            for other in [
                "null".to_owned(),
                String::new(),
                format!("http://{name}:3000"),
                format!("http://{name}"),
                "http://evil.example".to_owned(),
                format!("{name}:8787"),
                format!("http://{name}:8787.evil"),
                format!("http://{name}:8787/"),
                format!("file://{name}:8787"),
            ] {
                assert_eq!(status(std::slice::from_ref(&other)), 403, "{other}");
            }
            assert_eq!(status(&[own.clone(), own]), 400);
        }
    }

    #[test]
    fn a_body_has_to_be_json_where_a_method_changes_something() {
        let check = |method: &str, headers: &[(&str, &str)], body: &'static str| {
            let (mut head, _) = request("/", headers).into_parts();
            head.method = method.parse().unwrap();
            check_body(&Request::from_parts(head, body.into())).is_ok()
        };
        let text = ("content-type", "text/plain");
        assert!(check("POST", &[], ""), "no body needs no type");
        assert!(check("POST", &[("content-type", "application/json")], "{}"));
        assert!(!check("POST", &[], "{}"));
        assert!(!check("POST", &[text], "{}"));
        assert!(!check("DELETE", &[text], ""));
        assert!(check("GET", &[text], "{}"));
    }
}
