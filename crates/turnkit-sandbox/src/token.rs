use std::fmt;

use http::HeaderValue;

/// A bearer token: sent in `Authorization`, never printed (PROTOCOL 4.1).
///
/// ```
/// # use turnkit_sandbox::BearerToken;
/// let token = BearerToken::from("s3cret");
/// assert_eq!(format!("{token:?}"), "BearerToken(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Box<str>);

impl BearerToken {
    /// The value of the `Authorization` header, marked so that HTTP layers do not print it. None where the token is not
    /// what one may be: visible ASCII, and not empty.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let is_valid = !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        is_valid.then_some(value)
    }
}

impl From<&str> for BearerToken {
    fn from(token: &str) -> Self {
        Self(token.into())
    }
}

impl From<String> for BearerToken {
    fn from(token: String) -> Self {
        Self(token.into())
    }
}

impl From<&String> for BearerToken {
    fn from(token: &String) -> Self {
        Self(token.as_str().into())
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}
