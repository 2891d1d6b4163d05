//! Other origins whose pages may ask: Cross-Origin Resource Sharing, as the Fetch standard has it (3.2).

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Uri};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

/// Origins whose pages may use a server's routes, beside those of its own. None by default.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<Vec<HeaderValue>>);

/// Text that is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin must be a scheme, a host and perhaps a port, such as https://app.example:8443, without a path"
)]
pub struct NoOrigin;

impl Origins {
    /// One more: `scheme://host` or `scheme://host:port`, as browsers spell it in `Origin`.
    ///
    /// # Errors
    /// [`NoOrigin`]: text that no browser sends, `*` and `null` among it.
    pub fn and(mut self, origin: &str) -> Result<Self, NoOrigin> {
        let lower = origin.to_ascii_lowercase();
        let uri: Uri = lower.parse().map_err(|_| NoOrigin)?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let spelt =
            uri.authority().map(|host| format!("{}://{host}", uri.scheme_str().unwrap_or("")));
        if !is_web || spelt.as_deref() != Some(&*lower) || lower.contains('@') {
            return Err(NoOrigin);
        }
        let value = HeaderValue::from_str(&lower).map_err(|_| NoOrigin)?;
        Arc::make_mut(&mut self.0).push(value);
        Ok(self)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, origin: &str) -> bool {
        self.0.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    }

    /// Tells browsers that pages of these origins may ask, with credentials, and read the headers `exposed`.
    pub fn layer(&self, exposed: impl IntoIterator<Item = HeaderName>) -> CorsLayer {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.0.iter().cloned()))
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(ExposeHeaders::list(exposed))
            .max_age(std::time::Duration::from_secs(600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_perhaps_a_port() {
        for origin in [
            "https://app.example",
            "http://localhost:3000",
            "HTTPS://App.Example",
            "http://[::1]:80",
        ] {
            let origins = Origins::default().and(origin).unwrap();
            assert!(origins.has(&origin.to_lowercase()), "{origin}");
            assert!(!origins.has("https://evil.example"));
        }
        for none in [
            "",
            "*",
            "null",
            "app.example",
            "https://app.example/",
            "https://a/b",
            "ftp://a",
            "https://u@a",
            "https://",
        ] {
            assert_eq!(Origins::default().and(none).unwrap_err(), NoOrigin, "{none}");
        }
    }
}
