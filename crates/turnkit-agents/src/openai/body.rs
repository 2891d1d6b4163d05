//! The body of an answer, as pieces of JSON: event streams as servers really send them.
//!
//! An own reader and not `turnkit_wire::sse::Parser`, which keeps to the standard. Here JSON counts that stands between frames
//! (a gateway's error), a last frame without its blank line, frames that no blank line parts, and a body that is no event stream
//! at all but one JSON object, or one a line. A line over the limit is skipped, and what comes behind it goes on.

use crate::lenient::Depth;

/// Splits a body into pieces.
pub(super) struct Body {
    max: usize,
    line: Vec<u8>,
    /// The rest of a line that is too long is on its way.
    is_skipping: bool,
    ends_with_cr: bool,
    is_first: bool,
    /// The frame so far.
    event: String,
    data: Json,
    /// JSON outside of frames so far.
    stray: Json,
}

/// JSON that comes line by line.
#[derive(Default)]
struct Json {
    bytes: Vec<u8>,
    depth: Depth,
}

/// What a body is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The data of a frame of this name, empty where it has none.
    Frame { event: &'a str, data: &'a [u8] },
    /// JSON that is in no frame.
    Json(&'a [u8]),
    /// A line that is neither.
    Other(&'a [u8]),
    /// A line or a frame that was longer than the limit. It was skipped.
    TooLong,
}

impl Body {
    /// Of lines and frames of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            is_skipping: false,
            ends_with_cr: false,
            is_first: true,
            event: String::new(),
            data: Json::default(),
            stray: Json::default(),
        }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.ends_with_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.is_skipping {
                // Its rest.
            } else if self.line.len() + piece.len() > self.max {
                self.is_skipping = true;
                self.line = Vec::new();
                take(Piece::TooLong);
            } else {
                self.line.extend_from_slice(piece);
            }
            let Some(end) = end else { return };
            self.ends_with_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if !std::mem::take(&mut self.is_skipping) {
                let line = std::mem::take(&mut self.line);
                self.end_line(&line, &mut take);
                self.line = line;
                self.line.clear();
            }
        }
    }

    /// There is no more: what is whole counts, with or without its last line break.
    pub(super) fn finish(&mut self, mut take: impl FnMut(Piece<'_>)) {
        if !self.is_skipping {
            let line = std::mem::take(&mut self.line);
            self.end_line(&line, &mut take);
        }
        self.end_frame(&mut take);
        if !self.stray.bytes.is_empty() {
            take(Piece::Other(&self.stray.bytes));
            self.stray = Json::default();
        }
    }

    fn end_line(&mut self, line: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(line) if self.is_first => line,
            _ => line,
        };
        let text = line.trim_ascii();
        self.is_first &= text.is_empty();
        let data = text.strip_prefix(b"data:");
        if data.is_some() && !self.stray.bytes.is_empty() {
            // It does not end: frames go on.
            take(Piece::Other(&self.stray.bytes));
            self.stray = Json::default();
        }
        if let Some(data) = data {
            // Frames that no blank line parts.
            if self.data.is_whole() {
                self.tell_data(take);
            }
            if !self.data.push(data.trim_ascii_start(), self.max) {
                take(Piece::TooLong);
            }
        } else if !self.stray.bytes.is_empty() || text.starts_with(b"{") || text.starts_with(b"[") {
            if !self.stray.push(line, self.max) {
                take(Piece::TooLong);
            } else if self.stray.is_whole() {
                take(Piece::Json(&self.stray.bytes));
                self.stray = Json::default();
            }
        } else if text.is_empty() {
            self.end_frame(take);
        } else if let Some(name) = text.strip_prefix(b"event:") {
            let name = String::from_utf8_lossy(name.trim_ascii());
            self.event = name.chars().take(64).collect();
        } else if !(text.starts_with(b":")
            || text.starts_with(b"id:")
            || text.starts_with(b"retry:"))
        {
            take(Piece::Other(text));
        }
    }

    fn end_frame(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        self.tell_data(take);
        self.event.clear();
    }

    fn tell_data(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        let data = std::mem::take(&mut self.data).bytes;
        if !data.trim_ascii().is_empty() {
            take(Piece::Frame { event: &self.event, data: data.trim_ascii() });
        }
    }
}

impl Json {
    /// One more line; where that is too much, all is dropped and it says so.
    fn push(&mut self, line: &[u8], max: usize) -> bool {
        if self.bytes.len() + line.len() >= max {
            *self = Self::default();
            return false;
        }
        if !self.bytes.is_empty() {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(line);
        self.depth.go_on(line);
        true
    }

    fn is_whole(&self) -> bool {
        !self.bytes.is_empty() && self.depth.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces_of(chunks: &[&[u8]]) -> Vec<String> {
        let (mut body, mut pieces) = (Body::new(64), Vec::new());
        let mut take = |piece: Piece<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            pieces.push(match piece {
                Piece::Frame { event, data } => format!("{event}>{}", text(data)),
                Piece::Json(json) => format!("json>{}", text(json)),
                Piece::Other(line) => format!("other>{}", text(line)),
                Piece::TooLong => "too long".to_owned(),
            });
        };
        for chunk in chunks {
            body.feed(chunk, &mut take);
        }
        body.finish(&mut take);
        pieces
    }

    #[test]
    fn bodies_are_read_as_servers_send_them() {
        let cases: [(&str, &[&str]); 12] = [
            ("data: a\n\ndata:b\r\n\r\nevent: x\rdata: c\r\r", &[">a", ">b", "x>c"]),
            (": ping\n\ndata:\n\ndata: {\n\ndata: [DONE]", &[">{", ">[DONE]"]),
            ("data: {}\n", &[">{}"]),
            ("data: {}\ndata: {\ndata: }\n\n", &[">{}", ">{\n}"]),
            ("\u{feff}{\"a\":\n\n{}}", &["json>{\"a\":\n\n{}}"]),
            ("\n  \n [1]\n{}\n{}", &["json> [1]", "json>{}", "json>{}"]),
            ("data: {}\n\n{\n \"error\": 1\n}\n", &[">{}", "json>{\n \"error\": 1\n}"]),
            ("{\"a\":\ndata: 1\n\n", &["other>{\"a\":", ">1"]),
            ("<html>\n\nid: 1\nretry: 2\n", &["other><html>"]),
            (
                "data: 0123456789012345678901234567890123456789012345678901234567890123456789\n\ndata: b\n\n",
                &["too long", ">b"],
            ),
            (
                "{\n\"0123456789012345678901234567890123456789\"\n,\"01234567890123456789\"\n\ndata: x",
                &["too long", ">x"],
            ),
            (
                "event: ping\ndata: {\"type\":\"ping\"}\n\ndata: 1\n\n",
                &["ping>{\"type\":\"ping\"}", ">1"],
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(pieces_of(&[body.as_bytes()]), expected, "{body:?}");
            let single: Vec<_> = body.as_bytes().chunks(1).collect();
            assert_eq!(pieces_of(&single), expected, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(body in "(data: ?|event: |\\{|\\}|\"|\r|\n|\\[|x|: ){0,40}", cut in 0_usize..100) {
            let bytes = body.as_bytes();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(pieces_of(&[first, second]), pieces_of(&[bytes]));
        }
    }
}
