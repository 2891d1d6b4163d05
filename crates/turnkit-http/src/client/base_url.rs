use std::{fmt, str::FromStr};

use thiserror::Error;
use url::Url;

use crate::loopback::is_loopback;

/// The URL that a client appends its paths to: `http` or `https`, without user information, query and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// [`InvalidBaseUrl`]: it can be no base, or would carry a secret into logs.
    pub fn parse(text: &str) -> Result<Self, InvalidBaseUrl> {
        let url = Url::parse(text).map_err(|error| InvalidBaseUrl::Malformed(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidBaseUrl::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidBaseUrl::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidBaseUrl::Query);
        }
        Ok(Self(url))
    }

    /// The URL of what lies under it, its path extended by `segments`, each percent-encoded.
    ///
    /// A segment `.` or `..` is left out, encoded or not: no URL can name it.
    #[must_use]
    pub fn under(&self, segments: &[&str]) -> String {
        let mut url = self.0.clone();
        // Only URLs without a host have no segments, and those were refused.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url.into()
    }

    /// Whether others can read what is sent there: it goes to another machine, and not over TLS.
    #[must_use]
    pub fn is_in_the_clear(&self) -> bool {
        self.0.scheme() == "http" && !is_loopback(self.host())
    }

    /// Its host, without the port; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Its host and port, as the header `Host` has them: without the port where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    /// The whole URL, in its normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// As [`BaseUrl::parse`].
impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBaseUrl> {
        Self::parse(text)
    }
}

/// The URL, which holds no secret.
impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BaseUrl").field(&self.as_str()).finish()
    }
}

/// Why a text is no [`BaseUrl`], to be told after "use the base URL" or another name for it. It never holds the text, in which
/// there may be a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidBaseUrl {
    /// Not a URL, and why not.
    #[error("it is not a URL: {0}")]
    Malformed(String),
    /// A scheme other than `http` and `https`.
    #[error("its scheme {0} is not http or https")]
    Scheme(String),
    /// A user name or a password in the URL: they would reach logs.
    #[error("it must not hold user information")]
    UserInfo,
    /// A query or a fragment in the URL.
    #[error("it must not have a query or a fragment")]
    Query,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_http_or_https_and_carries_no_secret() {
        for (text, why) in [
            ("agents.example", "it is not a URL: relative URL without a base"),
            ("http://", "it is not a URL: empty host"),
            ("file:///etc/passwd", "its scheme file is not http or https"),
            ("localhost:8787", "its scheme localhost is not http or https"),
            ("https://me:s3cret@h", "it must not hold user information"),
            ("https://s3cret@h", "it must not hold user information"),
            ("https://:s3cret@h", "it must not hold user information"),
            ("https://h?key=s3cret", "it must not have a query or a fragment"),
            ("https://h#s3cret", "it must not have a query or a fragment"),
        ] {
            let error = BaseUrl::parse(text).unwrap_err();
            assert_eq!(error.to_string(), why, "{text}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn paths_are_appended_to_its_own() {
        for (base, expected) in [
            ("http://h", "http://h/agents/run"),
            ("http://h/", "http://h/agents/run"),
            ("https://h:8443/v1", "https://h:8443/v1/agents/run"),
            ("https://h/v1/", "https://h/v1/agents/run"),
        ] {
            assert_eq!(BaseUrl::parse(base).unwrap().under(&["agents", "run"]), expected);
        }
    }

    #[test]
    fn a_segment_stays_one_whatever_it_holds() {
        let base = BaseUrl::parse("http://h/e").unwrap();
        assert_eq!(base.under(&["a/b%2F?c#d:0"]), "http://h/e/a%2Fb%252F%3Fc%23d:0");
        assert_eq!(base.under(&["..", "%2e%2E", ".", "a"]), "http://h/e/%252e%252E/a");
    }

    #[test]
    fn only_plain_http_to_others_is_in_the_clear() {
        let is_in_the_clear = |base| BaseUrl::parse(base).unwrap().is_in_the_clear();
        for base in ["http://192.168.0.2:8000/v1", "http://api.example", "http://[2001:db8::1]"] {
            assert!(is_in_the_clear(base), "{base}");
        }
        for base in
            ["http://LOCALHOST:1", "http://127.0.0.9", "http://[::1]:1", "https://api.example"]
        {
            assert!(!is_in_the_clear(base), "{base}");
        }
    }
}
