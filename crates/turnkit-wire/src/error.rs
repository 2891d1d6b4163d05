//! What can be wrong with bytes, and where.

use core::{error::Error, fmt};

/// Bytes that are not an event: what is wrong, and where (PROTOCOL 1.1).
///
/// The message names positions, limits and single bytes, never the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    offset: u64,
    kind: DecodeErrorKind,
}

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The input ends inside the event.
    Truncated,
    /// The event is not a JSON object.
    NotAnObject,
    /// A byte that cannot stand here.
    Unexpected {
        /// The byte.
        found: u8,
        /// What could.
        expected: Expected,
    },
    /// Something other than white space follows the event.
    TrailingBytes,
    /// A raw control character inside a string.
    ControlCharacter(u8),
    /// An escape sequence that RFC 8259 section 7 does not know.
    InvalidEscape,
    /// A number without a digit where one must stand.
    InvalidNumber,
    /// A word that is not `true`, `false` or `null`.
    InvalidLiteral,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// There is no member `type`.
    MissingType,
    /// The member `type` is not a string.
    TypeNotAString,
    /// The member `type` is the empty string.
    EmptyType,
    /// The member of this name is there twice.
    DuplicateMember(&'static str),
    /// More containers inside each other than allowed.
    TooDeep {
        /// How many are.
        limit: usize,
    },
    /// More bytes than allowed.
    TooLarge {
        /// How many are.
        limit: usize,
    },
}

/// What could stand where an unexpected byte was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// A JSON value.
    Value,
    /// A member's key.
    Key,
    /// The colon after a key.
    Colon,
    /// A comma, or the end of the object.
    CommaOrBrace,
    /// A comma, or the end of the array.
    CommaOrBracket,
}

/// Why no event could be made of a value.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// The event's type is empty.
    EmptyKind,
    /// The event's type is longer than 4 GiB.
    KindTooLong,
    /// The value could not be serialised.
    Serialize(serde_json::Error),
    /// The value's own JSON cannot stand in an event, for one because it is nested too deep. The offset counts from its start.
    Invalid(DecodeError),
}

/// Why an event's data is not the value that was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataError {
    /// The event has no data.
    Missing,
    /// The data is of another shape.
    Mismatch(serde_json::Error),
}

impl DecodeError {
    /// The position of the fault in bytes: from the start of the input, or of the whole stream where a decoder reads one.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.kind
    }

    #[cold]
    pub(crate) fn new(offset: u64, kind: DecodeErrorKind) -> Self {
        DecodeError { offset, kind }
    }

    /// The same fault, seen from the start of a stream in which the input begins at `base`.
    #[cold]
    pub(crate) fn shifted(self, base: u64) -> Self {
        DecodeError { offset: self.offset.saturating_add(base), ..self }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode an event: {} at byte {}", self.kind, self.offset)
    }
}

impl Error for DecodeError {}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the input ends inside it"),
            Self::NotAnObject => f.write_str("not a JSON object"),
            Self::Unexpected { found, expected } => {
                write!(f, "found '{}' instead of {expected}", found.escape_ascii())
            }
            Self::TrailingBytes => f.write_str("more bytes after its end"),
            Self::ControlCharacter(byte) => {
                write!(f, "raw control character 0x{byte:02x} in a string")
            }
            Self::InvalidEscape => f.write_str("invalid escape sequence"),
            Self::InvalidNumber => f.write_str("invalid number"),
            Self::InvalidLiteral => f.write_str("invalid literal"),
            Self::NotUtf8 => f.write_str("invalid UTF-8"),
            Self::MissingType => f.write_str("no member \"type\""),
            Self::TypeNotAString => f.write_str("\"type\" is not a string"),
            Self::EmptyType => f.write_str("\"type\" is empty"),
            Self::DuplicateMember(name) => write!(f, "second member \"{name}\""),
            Self::TooDeep { limit } => write!(f, "nested deeper than {limit}"),
            Self::TooLarge { limit } => write!(f, "longer than {limit} bytes"),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "a value",
            Self::Key => "a key",
            Self::Colon => "a colon",
            Self::CommaOrBrace => "a comma or '}'",
            Self::CommaOrBracket => "a comma or ']'",
        })
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyKind => f.write_str("encode an event: its type is empty"),
            Self::KindTooLong => f.write_str("encode an event: its type is longer than 4 GiB"),
            Self::Serialize(_) => f.write_str("encode an event: its data cannot be serialised"),
            Self::Invalid(_) => f.write_str("encode an event: its data cannot stand in an event"),
        }
    }
}

impl Error for EncodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::EmptyKind | Self::KindTooLong => None,
            Self::Serialize(source) => Some(source),
            Self::Invalid(source) => Some(source),
        }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("read an event's data: there is none"),
            Self::Mismatch(_) => f.write_str("read an event's data: it has another shape"),
        }
    }
}

impl Error for DataError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Missing => None,
            Self::Mismatch(source) => Some(source),
        }
    }
}
