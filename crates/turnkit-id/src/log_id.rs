use alloc::{format, sync::Arc};
use core::{fmt, str::FromStr};

use thiserror::Error;

/// The name of one execution log, as long as that log remembers what it has bound (PROTOCOL 3.5).
///
/// A log that has forgotten its executions has another id. So a start that names the id under which its turn was dispatched
/// is refused by a log that may have run it before and no longer knows.
///
/// Always 1 to [`MAX_LEN`](Self::MAX_LEN) bytes of visible ASCII, so it fits into a header and a log line as it is. Cloning is
/// a reference count. Nothing else is meant by it: two ids can be compared for equality, and have no order.
///
/// ```
/// # use turnkit_id::LogId;
/// let id = LogId::parse("6f1c2f0e-53a5-4f3c-9a5e-0f6f0f1d2c3b")?;
/// assert_eq!(id.as_str(), "6f1c2f0e-53a5-4f3c-9a5e-0f6f0f1d2c3b");
/// assert!(LogId::parse("two words").is_err());
/// # Ok::<(), turnkit_id::InvalidLogId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogId(Arc<str>);

impl LogId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Takes an id as it came over the wire or out of a store.
    ///
    /// # Errors
    /// [`InvalidLogId`]: a text that is empty, longer than [`MAX_LEN`](Self::MAX_LEN), or holds a byte that is not visible
    /// ASCII.
    pub fn parse(text: &str) -> Result<Self, InvalidLogId> {
        let is_valid = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self(text.into())).ok_or(InvalidLogId)
    }

    /// The id that is this number, as 32 lower-case hexadecimal digits. For a log that makes its own: a random UUID is one.
    #[must_use]
    pub fn from_u128(number: u128) -> Self {
        Self(format!("{number:032x}").into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for LogId {
    type Err = InvalidLogId;

    fn from_str(text: &str) -> Result<Self, InvalidLogId> {
        Self::parse(text)
    }
}

/// A text that is no [`LogId`]. It does not repeat the text, which may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a log id is not 1 to {} bytes of visible ASCII", LogId::MAX_LEN)]
pub struct InvalidLogId;
