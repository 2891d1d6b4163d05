use std::fmt;

use http::HeaderValue;

/// A key of an API: sent as the bearer token, never printed (PROTOCOL 3.4).
///
/// ```
/// # use turnkit_substrate::agents::openai::ApiKey;
/// let key = ApiKey::from("s3cret");
/// assert_eq!(format!("{key:?}"), "ApiKey(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Box<str>);

impl ApiKey {
    /// The value of the `Authorization` header, marked so that HTTP layers do not print it. None where the key is not what
    /// one may be: visible ASCII, and not empty.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let is_valid = !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        is_valid.then_some(value)
    }

    /// `text` without the key. Shorter ones are words like `none`, and no secret.
    pub(super) fn cut_from(&self, text: String) -> String {
        if self.0.len() < SECRET {
            return text;
        }
        text.replace(&*self.0, "[key]")
    }
}

/// How long a key must be to be one, in bytes.
const SECRET: usize = 6;

impl From<&str> for ApiKey {
    fn from(key: &str) -> Self {
        Self(key.into())
    }
}

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}
