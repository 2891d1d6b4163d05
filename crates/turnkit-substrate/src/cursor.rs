use std::{fmt, str::FromStr};

use thiserror::Error;

/// The id of one event of an execution, `<epoch>-<seq>` (PROTOCOL 3.1).
///
/// Ids order as their events do: a later event has a later `seq`, and never an earlier `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The fencing token of the runner that appended it: the later of Unix milliseconds and the stored epoch plus one.
    pub epoch: u64,
    /// 1, 2, 3 … without gaps inside an execution.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for EventId {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        let (epoch, seq) = text.split_once('-').ok_or(MalformedCursor)?;
        Ok(Self { epoch: decimal(epoch)?, seq: decimal(seq)? })
    }
}

/// What `Last-Event-ID` says: from where a reader goes on (PROTOCOL 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// `0`: from the first event.
    Start,
    /// Strictly after this event.
    After(EventId),
}

impl FromStr for Cursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, MalformedCursor> {
        match text {
            "0" => Ok(Self::Start),
            id => id.parse().map(Self::After),
        }
    }
}

/// A cursor that is neither `0` nor `<epoch>-<seq>` in decimal digits without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a cursor is 0 or <epoch>-<seq>")]
pub struct MalformedCursor;

/// One spelling per number: no sign, no leading zero, no white space.
fn decimal(digits: &str) -> Result<u64, MalformedCursor> {
    let one_spelling = digits == "0" || !digits.starts_with(['0', '+']);
    let number = digits.parse().map_err(|_| MalformedCursor)?;
    one_spelling.then_some(number).ok_or(MalformedCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_spelling() {
        assert_eq!("0".parse(), Ok(Cursor::Start));
        let id = EventId { epoch: 17, seq: 3 };
        assert_eq!("17-3".parse(), Ok(Cursor::After(id)));
        assert_eq!(id.to_string(), "17-3");
        for malformed in [
            "",
            "1",
            "-",
            "1-",
            "-1",
            "1-2-3",
            "01-2",
            "1-02",
            "+1-2",
            "1-+2",
            " 1-2",
            "1-2 ",
            "1_2",
            "a-1",
            "00",
            "18446744073709551616-1",
        ] {
            assert_eq!(malformed.parse::<Cursor>(), Err(MalformedCursor), "{malformed:?}");
        }
    }
}
