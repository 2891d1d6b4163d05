use alloc::{format, string::String, sync::Arc};
use core::{borrow::Borrow, fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::IdError;

/// The name of one agent run, and the idempotency key of everything that a turn writes (PROTOCOL 1.4).
///
/// Always 1 to [`MAX_LEN`](Self::MAX_LEN) bytes of visible ASCII, so it fits into a header, a path segment and a log line
/// as it is. Cloning is a reference count. Two ids are equal when their bytes are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId(Arc<str>);

impl ExecutionId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 256;

    /// The largest turn index, 2^53 − 1: the last integer that a JSON peer with IEEE 754 numbers holds exactly.
    pub const MAX_TURN_INDEX: u64 = (1 << 53) - 1;

    /// The id of turn `turn_index` (counted from 0) of `session` in `project`.
    ///
    /// Pure and injective: the same tuple gives the same id, another tuple another id. The readable form is
    /// `project:session:turn_index`, the names encoded as ECMAScript's `encodeURIComponent` does. Where that is longer than
    /// [`MAX_LEN`](Self::MAX_LEN), the id is `sha256:` and the SHA-256 of the readable form in lower-case hexadecimal
    /// digits. Names are taken as they are, without Unicode normalisation. A product with several tenants puts the tenant
    /// into `project`.
    ///
    /// ```
    /// # use turnkit_id::ExecutionId;
    /// assert_eq!(ExecutionId::derive("a:b", "c d", 0)?.as_str(), "a%3Ab:c%20d:0");
    /// # Ok::<(), turnkit_id::IdError>(())
    /// ```
    ///
    /// # Errors
    /// A blank name (empty, or only Unicode white space), or a turn index over [`MAX_TURN_INDEX`](Self::MAX_TURN_INDEX).
    pub fn derive(project: &str, session: &str, turn_index: u64) -> Result<Self, IdError> {
        check_tuple(project, session, turn_index)?;
        let readable = format!("{}:{}:{turn_index}", encode(project), encode(session));
        let fits = readable.len() <= Self::MAX_LEN;
        Ok(Self(if fits { readable } else { compact(&readable) }.into()))
    }

    /// Takes an id as it came over the wire, derived by anyone.
    ///
    /// What is accepted is what a header may carry, and nothing that could break a header, a log line or an SSE frame.
    ///
    /// # Errors
    /// An empty text, one of more than [`MAX_LEN`](Self::MAX_LEN) bytes, or one with a byte that is not visible ASCII (a
    /// space, a control character, anything beyond ASCII).
    pub fn parse(text: &str) -> Result<Self, IdError> {
        check_text(text)?;
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ExecutionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl AsRef<str> for ExecutionId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ExecutionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What `encodeURIComponent` escapes (ECMA-262, 19.2.6.4).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

fn encode(name: &str) -> impl fmt::Display {
    utf8_percent_encode(name, ESCAPED)
}

fn compact(readable: &str) -> String {
    Sha256::digest(readable)
        .iter()
        .fold(String::from("sha256:"), |id, byte| id + &format!("{byte:02x}"))
}

fn check_tuple(project: &str, session: &str, turn_index: u64) -> Result<(), IdError> {
    if project.trim().is_empty() {
        return Err(IdError::BlankProject);
    }
    if session.trim().is_empty() {
        return Err(IdError::BlankSession);
    }
    if turn_index > ExecutionId::MAX_TURN_INDEX {
        return Err(IdError::TurnIndexTooLarge { turn_index });
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ExecutionId::MAX_LEN {
        return Err(IdError::TooLong { length: text.len() });
    }
    match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
        Some(offset) => Err(IdError::InvalidByte { byte: text.as_bytes()[offset], offset }),
        None => Ok(()),
    }
}
