use std::{error::Error, fmt};

use crate::{BoxError, code};

/// Why a producer gives no more events, with all that can be told of it (PROTOCOL 2.4): the error type that the producers of
/// this crate have, ready for others.
///
/// Displays as its message, which is what the client reads. [`Error::source`] is the cause of the error that it was made of.
///
/// ```
/// use turnkit::producer::Failure;
///
/// let failure = Failure::new("model_overloaded", "the model is overloaded").temporary();
/// assert_eq!(failure.to_string(), "the model is overloaded");
/// assert_eq!((failure.code(), failure.is_temporary()), (Some("model_overloaded"), true));
/// ```
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: Option<String>,
    retryable: bool,
    temporary: bool,
    /// What it was made of, whose own text is the message.
    error: Option<BoxError>,
}

impl Failure {
    /// A failure that neither a retry nor a new turn is known to help against. `code` is for programs, `message` for users.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Some(code.into()),
            retryable: false,
            temporary: false,
            error: None,
        }
    }

    /// The failure that `error` is. A `Failure` stays what it is; any other error gives its `Display` as the message, and no
    /// code.
    pub fn from_error(error: impl Into<BoxError>) -> Self {
        match error.into().downcast() {
            Ok(failure) => *failure,
            Err(error) => Self {
                message: error.to_string(),
                code: None,
                retryable: false,
                temporary: false,
                error: Some(error),
            },
        }
    }

    /// What breaks off before it has said that its answer is whole.
    pub(super) fn cut(message: &str) -> Self {
        Self::new(code::UPSTREAM_CUT, message).temporary()
    }

    /// With another code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The *same* turn may be tried again, under the same execution id.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// A *new* turn may help: the cause is likely to pass. It is told to users, and repeats nothing.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// What failed, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What failed, for programs.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether the same turn may be tried again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Whether a new turn may help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The error that it was made of by [`from_error`](Self::from_error), for those who know its type.
    #[must_use]
    pub fn get_ref(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.error.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_deref().and_then(Error::source)
    }
}
