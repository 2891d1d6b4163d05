//! One line: its field, and the state of a line that is cut by the end of a chunk.

/// The length of `event` and `retry`.
const LONGEST_NAME: usize = 5;

/// The fields that WHATWG HTML 9.2.6 gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Data,
    Event,
    Id,
    Retry,
}

/// What stands in a line, or in a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// ASCII without control characters below 14.
    Plain,
    Ascii,
    /// Not only ASCII, perhaps not UTF-8.
    Mixed,
}

/// What is known of the line at hand from the chunks before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line {
    /// Nothing of it was seen yet.
    Start,
    /// A beginning that may still become a field's name.
    Name { bytes: [u8; LONGEST_NAME], length: u8 },
    /// Behind the colon of a field; `length` bytes of the line were seen, of the value something only when it has begun.
    Value { field: Field, length: usize, begun: bool },
    /// A comment or an unknown field: dropped as it comes.
    Ignored,
}

impl Field {
    fn of(name: &[u8]) -> Option<Field> {
        match name {
            b"data" => Some(Field::Data),
            b"event" => Some(Field::Event),
            b"id" => Some(Field::Id),
            b"retry" => Some(Field::Retry),
            _ => None,
        }
    }
}

/// The field of a whole line, and where its value begins.
#[expect(
    clippy::inline_always,
    reason = "once for each line; left to the compiler, it costs a tenth of parsing in one program and nothing in another"
)]
#[inline(always)]
pub(crate) fn split(line: &[u8]) -> Option<(Field, usize)> {
    let (field, name) = match line.first()? {
        b'd' if line.starts_with(b"data") => (Field::Data, 4),
        b'i' if line.starts_with(b"id") => (Field::Id, 2),
        b'e' if line.starts_with(b"event") => (Field::Event, 5),
        b'r' if line.starts_with(b"retry") => (Field::Retry, 5),
        _ => return None,
    };
    match &line[name..] {
        [] => Some((field, name)),
        [b':', b' ', ..] => Some((field, name + 2)),
        [b':', ..] => Some((field, name + 1)),
        _ => None,
    }
}

impl Line {
    /// Reads the name at the beginning of `piece`. The bytes that it took.
    pub(crate) fn read_name(&mut self, piece: &[u8]) -> usize {
        if matches!(self, Line::Start) && piece.len() > LONGEST_NAME + 1 {
            return self.read_whole_name(piece);
        }
        let (mut bytes, mut length) = match *self {
            Line::Name { bytes, length } => (bytes, usize::from(length)),
            Line::Start | Line::Value { .. } | Line::Ignored => ([0; LONGEST_NAME], 0),
        };
        for (taken, &byte) in piece.iter().enumerate() {
            if byte == b':' {
                *self = Line::after_name(&bytes[..length]);
                return taken + 1;
            }
            let Some(free) = bytes.get_mut(length) else {
                *self = Line::Ignored;
                return taken;
            };
            *free = byte;
            length += 1;
        }
        *self = Line::Name { bytes, length: u8::try_from(length).unwrap_or(u8::MAX) };
        piece.len()
    }

    /// Reads a name that is known to end within `piece`, if it is one.
    fn read_whole_name(&mut self, piece: &[u8]) -> usize {
        let Some((field, value)) = split(piece) else {
            *self = Line::Ignored;
            return piece.len();
        };
        let length = value - usize::from(piece[value - 1] == b' ');
        *self = Line::Value { field, length, begun: false };
        length
    }

    /// The state after a name and its colon.
    fn after_name(name: &[u8]) -> Line {
        match Field::of(name) {
            Some(field) => Line::Value { field, length: name.len() + 1, begun: false },
            None => Line::Ignored,
        }
    }

    /// The field of a line that ended before its colon.
    pub(crate) fn bare_field(&self) -> Option<Field> {
        match self {
            Line::Name { bytes, length } => Field::of(&bytes[..usize::from(*length)]),
            Line::Start | Line::Value { .. } | Line::Ignored => None,
        }
    }
}
