//! One line: its field, and the state of a line that is cut by the end of a chunk.

/// The fields that WHATWG HTML 9.2.6 gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Data,
    Event,
    Id,
    Retry,
}

/// What is known of the line at hand from the chunks before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line {
    /// Nothing of it was seen yet.
    Start,
    /// A beginning that may still become a field's name.
    Name { bytes: [u8; 5], length: u8 },
    /// Inside the value of a field; `length` bytes of the line were seen, and a space at the beginning may be stripped.
    Value {
        field: Field,
        length: usize,
        may_strip: bool,
    },
    /// A comment or an unknown field: dropped as it comes.
    Ignored,
}

impl Field {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Field::Data => "data",
            Field::Event => "event",
            Field::Id => "id",
            Field::Retry => "retry",
        }
    }

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
#[inline]
pub(crate) fn split(line: &[u8]) -> Option<(Field, usize)> {
    let (field, name) = match line {
        [b'd', b'a', b't', b'a', ..] => (Field::Data, 4),
        [b'i', b'd', ..] => (Field::Id, 2),
        [b'e', b'v', b'e', b'n', b't', ..] => (Field::Event, 5),
        [b'r', b'e', b't', b'r', b'y', ..] => (Field::Retry, 5),
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
        let (mut bytes, mut length) = match *self {
            Line::Name { bytes, length } => (bytes, usize::from(length)),
            Line::Start | Line::Value { .. } | Line::Ignored => ([0; 5], 0),
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
        *self = Line::Name {
            bytes,
            length: u8::try_from(length).unwrap_or(u8::MAX),
        };
        piece.len()
    }

    /// The state after a name and its colon.
    fn after_name(name: &[u8]) -> Line {
        match Field::of(name) {
            Some(field) => Line::Value {
                field,
                length: name.len() + 1,
                may_strip: true,
            },
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
