//! The streams that everyone gets.

use std::fmt::Write as _;

use bytes::Bytes;

/// One stream, as SSE and as NDJSON.
pub(crate) struct Input {
    pub(crate) size: Size,
    pub(crate) events: usize,
    pub(crate) sse: Bytes,
    pub(crate) ndjson: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// 100,000 frames of 146 bytes: a delta each, with its id.
    Small,
    /// 2,000 frames of 32 KiB: text with an escaped line break every 80 characters.
    Big,
}

impl Size {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Big => "big",
        }
    }

    pub(crate) fn frame(self) -> usize {
        match self {
            Size::Small => 146,
            Size::Big => 32 * 1024,
        }
    }

    fn events(self) -> usize {
        match self {
            Size::Small => 100_000,
            Size::Big => 2_000,
        }
    }
}

impl Input {
    pub(crate) fn new(size: Size) -> Self {
        let (mut sse, mut ndjson) = (String::new(), String::new());
        for number in 0..size.events() {
            let head =
                format!("id: 1767225600000-{number:06}\nevent: message.part.updated\ndata: ");
            let data = data(number, size.frame() - head.len() - 2);
            let _ = write!(sse, "{head}{data}\n\n");
            let _ = writeln!(ndjson, r#"{{"type":"message.part.updated","data":{data}}}"#);
        }
        assert_eq!(sse.len(), size.events() * size.frame());
        Input { size, events: size.events(), sse: sse.into(), ndjson: ndjson.into() }
    }

    /// The stream in chunks, as an HTTP client hands them over: slices of its read buffers.
    pub(crate) fn chunks(stream: &Bytes, size: usize) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        for buffer in stream.chunks(READ_BUFFER) {
            let mut rest = Bytes::copy_from_slice(buffer);
            // The first clone of a `Bytes` allocates its counter: the client's, not the contender's.
            drop(rest.clone());
            while !rest.is_empty() {
                chunks.push(rest.split_to(size.min(rest.len())));
            }
        }
        chunks
    }
}

/// What is read from a socket at once, in bytes.
const READ_BUFFER: usize = 16 * 1024;

/// The data of a text delta, `length` bytes long.
fn data(number: usize, length: usize) -> String {
    const WORDS: &str =
        "The quick brown fox jumps over the lazy dog while five boxing wizards look on, and \\n";
    let (head, tail) = (r#"{"part":{"id":"prt_1","type":"text"},"delta":""#, r#""}"#);
    let text = length - head.len() - tail.len();
    // Starts at another word each time, and never within an escape.
    let words: Vec<&str> = WORDS.split_inclusive(' ').collect();
    let mut delta = String::with_capacity(text);
    for word in words.iter().cycle().skip(number % words.len()) {
        if delta.len() + word.len() > text {
            break;
        }
        delta.push_str(word);
    }
    let padding = ".".repeat(text - delta.len());
    format!("{head}{delta}{padding}{tail}")
}
