//! Frames on their way out (WHATWG HTML 9.2.5, the grammar).

use core::{error::Error, fmt};

use bytes::{BufMut, BytesMut};

use super::Parser;
use crate::Event;

/// Names of more bytes than a parser takes in an `event` line are not written as such.
const MAX_NAME: usize = Parser::MAX_ID - b"event: ".len();

/// Why a frame cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidFrame {
    /// The id holds CR, LF or NUL: it would end its line, or be ignored.
    Id,
    /// The event name holds CR, LF or NUL.
    Event,
    /// The data is not UTF-8: the reader would see something else.
    Data,
}

impl fmt::Display for InvalidFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "write a frame: its id holds CR, LF or NUL",
            Self::Event => "write a frame: its event name holds CR, LF or NUL",
            Self::Data => "write a frame: its data is not UTF-8",
        })
    }
}

impl Error for InvalidFrame {}

/// Appends one frame. Data with line breaks (CR, LF, CRLF) is split over `data` lines, which a reader joins by LF.
///
/// Without `event`, or with an empty one, the reader sees the name `message`; an empty `id` resets the reader's.
///
/// # Errors
///
/// An id or a name with CR, LF or NUL, or data that is not UTF-8. Nothing is appended then.
pub fn write_frame(
    out: &mut BytesMut,
    event: Option<&str>,
    id: Option<&str>,
    data: &[u8],
) -> Result<(), InvalidFrame> {
    core::str::from_utf8(data).map_err(|_| InvalidFrame::Data)?;
    let event = event.unwrap_or_default();
    check(event.as_bytes(), InvalidFrame::Event)?;
    write_head(out, event.as_bytes(), id, data.len())?;
    write_lines(out, data);
    out.put_u8(b'\n');
    Ok(())
}

/// Appends an event as a frame (PROTOCOL 1.3): as a frame named by its type where that loses nothing, as one whose data is the
/// whole object otherwise, and for a type that [`Parser`] would not take as a name.
///
/// # Errors
///
/// An id with CR, LF or NUL. Nothing is appended then.
pub fn write_event(
    out: &mut BytesMut,
    id: Option<&str>,
    event: &Event,
) -> Result<(), InvalidFrame> {
    let line = event.as_line();
    let (name, data) = match event.canonical_parts() {
        Some((name, data)) if name != b"message" && name.len() <= MAX_NAME => (name, data),
        _ => (&b""[..], &line[..line.len() - 1]),
    };
    write_head(out, name, id, data.len())?;
    write_line(out, b"data: ", data);
    out.put_u8(b'\n');
    Ok(())
}

fn write_head(
    out: &mut BytesMut,
    event: &[u8],
    id: Option<&str>,
    data: usize,
) -> Result<(), InvalidFrame> {
    const FIELDS: usize = 32;
    let id = id.map(str::as_bytes);
    check(id.unwrap_or_default(), InvalidFrame::Id)?;
    out.reserve(id.map_or(0, <[u8]>::len) + event.len() + data + FIELDS);
    if let Some(id) = id {
        write_line(out, b"id: ", id);
    }
    if !event.is_empty() {
        write_line(out, b"event: ", event);
    }
    Ok(())
}

fn write_lines(out: &mut BytesMut, mut data: &[u8]) {
    while let Some(end) = memchr::memchr2(b'\r', b'\n', data) {
        write_line(out, b"data: ", &data[..end]);
        let crlf = data[end..].starts_with(b"\r\n");
        data = &data[end + 1 + usize::from(crlf)..];
    }
    write_line(out, b"data: ", data);
}

fn write_line(out: &mut BytesMut, field: &[u8], value: &[u8]) {
    out.put_slice(field);
    out.put_slice(value);
    out.put_u8(b'\n');
}

fn check(value: &[u8], error: InvalidFrame) -> Result<(), InvalidFrame> {
    match memchr::memchr3(b'\r', b'\n', 0, value) {
        Some(_) => Err(error),
        None => Ok(()),
    }
}
