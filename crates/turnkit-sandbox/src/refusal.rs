use std::{fmt, time::Duration};

use turnkit_http::client::{ErrorBody, is_transient};
use turnkit_wire::text;

/// A status other than success, and what its body said (PROTOCOL 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Refused>);

/// Boxed, so that `Result<_, Error>`, which each event passes through, stays small.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    field: Option<String>,
    outcome: Option<String>,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let body = ErrorBody::read(body);
        Self(Box::new(Refused {
            status,
            code: body.code(),
            message: body.message(),
            field: body.member("field", text::MAX_CODE),
            outcome: body.member("outcome", text::MAX_CODE),
            retry_after,
        }))
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The substrate's code, cut to 100 characters.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The substrate's message, cut to 500 characters.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// The place in the request that is wrong, cut to 100 characters.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The outcome that a question has already, where it was answered otherwise (PROTOCOL 3.6).
    #[must_use]
    pub fn outcome(&self) -> Option<&str> {
        self.0.outcome.as_deref()
    }

    /// How long the substrate asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request may be answered later: 408, 425, 429, 502, 503, 504.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        is_transient(self.0.status)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status())?;
        for said in [self.code(), self.message()].into_iter().flatten() {
            write!(f, ", {said}")?;
        }
        Ok(())
    }
}
