//! Who may send a request at all: checked before any route.
//!
//! A server on loopback is within reach of every page that its user's browser has open. `Host` tells a page that had its own
//! name point to 127.0.0.1 (DNS rebinding), `Origin` one that posts across sites, and a body has to be JSON, which no plain
//! form can send.
//!
//! Where users have tokens, any `Host` will do: a page under another name has neither a token nor a cookie of this server.

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

use super::error::ApiError;

/// The names that the server answers to.
#[derive(Clone, Copy)]
pub(super) enum Hosts {
    Loopback,
    Any,
}

/// Lets a request pass to its route.
pub(super) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if let Err(refused) = check(hosts, &request) {
        return refused.into_response();
    }
    next.run(request).await
}

fn check(hosts: Hosts, request: &Request) -> Result<(), ApiError> {
    let host = check_host(hosts, request.uri(), request.headers())?;
    check_origin(request.headers(), &host)?;
    check_content_encoding(request.headers())?;
    let is_empty = http_body::Body::is_end_stream(request.body());
    check_content_type(request.method(), request.headers(), is_empty)
}

fn check_host(hosts: Hosts, uri: &Uri, headers: &HeaderMap) -> Result<Authority, ApiError> {
    let host =
        single(headers, &HOST)?.ok_or_else(|| ApiError::invalid("the header Host is missing"))?;
    let host: Authority =
        host.parse().map_err(|_| ApiError::invalid("the header Host is no host"))?;
    // A request in absolute form names the host a second time (RFC 9112 3.2.2).
    let is_ours = uri.authority().is_none_or(is_loopback) && is_loopback(&host);
    match hosts {
        Hosts::Loopback if !is_ours => {
            Err(ApiError::forbidden("this server answers to localhost and loopback addresses only"))
        }
        Hosts::Any if uri.authority().is_some_and(|target| *target != host) => {
            Err(ApiError::invalid("the request names two hosts"))
        }
        _ => Ok(host),
    }
}

fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), ApiError> {
    let Some(origin) = single(headers, &ORIGIN)? else {
        return Ok(());
    };
    let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if !own.is_some_and(|own| own.eq_ignore_ascii_case(host.as_str())) {
        return Err(ApiError::forbidden("this server does not answer pages of another origin"));
    }
    Ok(())
}

fn check_content_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match single(headers, &CONTENT_ENCODING)? {
        Some(given) if !given.eq_ignore_ascii_case("identity") => Err(ApiError::encoded()),
        _ => Ok(()),
    }
}

fn check_content_type(
    method: &Method,
    headers: &HeaderMap,
    is_empty: bool,
) -> Result<(), ApiError> {
    if method.is_safe() {
        return Ok(());
    }
    match single(headers, &CONTENT_TYPE)? {
        None if is_empty => Ok(()),
        Some(given) if is_json(given) => Ok(()),
        _ => Err(ApiError::not_json()),
    }
}

/// The header's value; where it stands twice, two readers could take different ones.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value)),
        _ => Err(ApiError::invalid(format!(
            "the header {name} must be there once, in visible ASCII"
        ))),
    }
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    if authority.as_str().contains('@') {
        return false;
    }
    host.eq_ignore_ascii_case("localhost")
        || address(host).is_some_and(|address| address.is_loopback())
}

fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => host.parse().ok(),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn verdict(
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Result<(), ApiError> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(Hosts::Loopback, &request.body(Body::from(body)).unwrap())
    }

    fn get_with(headers: &[(&str, &str)]) -> bool {
        verdict("GET", "/api/sessions", headers, "").is_ok()
    }

    #[test]
    fn loopback_names_are_served_and_no_others() {
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1:8787", "127.9.9.9", "[::1]:8787", "[::1]"]
        {
            assert!(get_with(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.",
            "evil@127.0.0.1",
            "10.0.0.1",
            "[::2]",
            "",
        ] {
            assert!(!get_with(&[("host", host)]), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_missing_or_doubled_is_refused() {
        assert!(!get_with(&[]));
        assert!(!get_with(&[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn the_host_of_a_request_in_absolute_form_counts_too() {
        assert!(
            verdict("GET", "http://evil.example/health", &[("host", "localhost")], "").is_err()
        );
        assert!(verdict("GET", "http://localhost/health", &[("host", "localhost")], "").is_ok());
    }

    #[test]
    fn only_the_servers_own_origin_may_ask() {
        let host = ("host", "localhost:8787");
        for origin in ["http://localhost:8787", "https://LOCALHOST:8787"] {
            assert!(get_with(&[host, ("origin", origin)]), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://localhost:3000",
            "http://evil.example",
            "localhost:8787",
            "http://localhost:8787.evil",
        ] {
            assert!(!get_with(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!get_with(&[host, ("origin", "http://localhost:8787"), ("origin", "null")]));
    }

    #[test]
    fn where_users_have_tokens_any_host_will_do_and_still_no_other_origin() {
        let verdict = |uri: &str, headers: &[(&str, &str)]| {
            let request = http::Request::builder().uri(uri);
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            check(Hosts::Any, &request.body(Body::empty()).unwrap()).is_ok()
        };
        let host = ("host", "chat.example");
        assert!(verdict("/", &[host]) && verdict("/", &[host, ("origin", "https://chat.example")]));
        assert!(!verdict("/", &[host, ("origin", "https://chat.example:8443")]));
        assert!(!verdict("/", &[host, ("origin", "null")]));
        assert!(!verdict("/", &[]) && !verdict("/", &[host, host]));
        assert!(verdict("http://chat.example/", &[host]) && !verdict("http://b.example/", &[host]));
    }

    #[test]
    fn a_body_has_to_be_json() {
        let post = |headers: &[(&str, &str)], body| {
            let headers = [&[("host", "localhost")], headers].concat();
            verdict("POST", "/api/sessions", &headers, body).is_ok()
        };
        assert!(post(&[], ""), "no body needs no type");
        assert!(post(&[("content-type", "application/json")], "{}"));
        assert!(post(&[("content-type", "Application/JSON; charset=utf-8")], "{}"));
        assert!(!post(&[], "{}"));
        assert!(!post(&[("content-type", "text/plain")], "{}"));
        assert!(!post(&[("content-type", "application/x-www-form-urlencoded")], ""));
        assert!(!post(
            &[("content-type", "application/json"), ("content-type", "text/plain")],
            "{}"
        ));
    }
}
