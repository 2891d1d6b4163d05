use std::fmt;

use http::HeaderValue;
use thiserror::Error;

use crate::bearer::is_bearer_token;

/// A bearer token, or a key that is sent as one: in `Authorization` (RFC 6750), and never printed.
///
/// ```
/// use turnkit_http::client::BearerToken;
///
/// let token = BearerToken::from("s3cret");
/// assert_eq!(format!("{token:?}"), "BearerToken(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Box<str>);

impl BearerToken {
    /// The value of the `Authorization` header, [marked](HeaderValue::set_sensitive) so that HTTP layers do not print it.
    ///
    /// # Errors
    /// [`InvalidToken`]: it is empty, or holds something else than visible ASCII.
    pub fn header(&self) -> Result<HeaderValue, InvalidToken> {
        if !is_bearer_token(&self.0) {
            return Err(InvalidToken { _private: () });
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .map_err(|_| InvalidToken { _private: () })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// `text` with `[key]` in its place wherever the token stands in it, for what a peer says about a request. A token of fewer
    /// than 6 bytes is a word like `none`, and stays.
    #[must_use]
    pub fn cut_from(&self, text: String) -> String {
        if self.0.len() < SECRET {
            return text;
        }
        text.replace(&*self.0, "[key]")
    }
}

/// How long a token must be to be a secret, in bytes.
const SECRET: usize = 6;

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

/// Why a [`BearerToken`] cannot be sent, to be told after "use the bearer token" or another name for it. The token itself is not
/// told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("it must be visible ASCII, and not empty")]
pub struct InvalidToken {
    _private: (),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_a_header_cannot_carry_is_refused_and_not_told() {
        for token in ["", "s3cret s3cret", "s3cret\r\nX-Evil: 1", "s3cretключ", "s3cret\u{7f}"]
        {
            let error = BearerToken::from(token).header().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        assert_eq!(BearerToken::from("sk-_.~+/=").header().unwrap(), "Bearer sk-_.~+/=");
    }

    #[test]
    fn a_token_is_printed_by_nobody() {
        let token = BearerToken::from("s3cret");
        let shown = format!("{token:?} {:?}", token.header().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(token.cut_from("no s3cret of s3cret.".to_owned()), "no [key] of [key].");
        assert_eq!(BearerToken::from("none").cut_from("none".to_owned()), "none");
    }
}
