//! A program's standard output: events, and where one is wrong.

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt as _, process::ChildStdout};
use turnkit_wire::{DecodeError, DecodeErrorKind, Event, ndjson::Decoder};

use super::{AgentError, code};

/// Events from a pipe.
pub(super) struct Output {
    pipe: Option<ChildStdout>,
    /// How much is still read.
    left: usize,
    decoder: Decoder,
    buffer: BytesMut,
    place: Place,
}

impl Output {
    pub(super) fn new(pipe: Option<ChildStdout>, max_event: usize) -> Self {
        Self {
            pipe,
            left: usize::MAX,
            decoder: Decoder::with_max_line(max_event),
            buffer: BytesMut::new(),
            place: Place::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Nobody but a stranger writes any more: takes what a pipe may hold.
    pub(super) fn expect_rest(&mut self) {
        self.left = PIPE;
    }

    /// Takes no more than what was read.
    pub(super) fn close(&mut self) {
        self.pipe = None;
    }

    /// Reads what there is. May be dropped and asked again.
    pub(super) async fn pump(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        self.buffer.reserve(CHUNK);
        match pipe.read_buf(&mut self.buffer).await {
            Ok(0) => self.close(),
            Ok(length) => {
                let chunk = self.buffer.split().freeze();
                self.place.go_on(&chunk);
                self.decoder.push(chunk);
                self.left = self.left.saturating_sub(length);
            }
            Err(error) => {
                tracing::warn!(%error, "a program's output broke");
                self.close();
            }
        }
        if self.left == 0 {
            self.close();
        }
    }

    /// The next event of what was read, also the last one without its newline once the pipe is closed.
    pub(super) fn next_event(&mut self) -> Option<Result<Event, AgentError>> {
        let next = if self.is_open() { self.decoder.next_event() } else { self.decoder.finish() };
        next.map(|event| event.map_err(|error| self.invalid(&error)))
    }

    fn invalid(&self, error: &DecodeError) -> AgentError {
        let (offset, line) = (error.offset(), self.place.line_at(error.offset()));
        let message = format!(
            "line {line} of the program's output is no event: {} (byte {offset} of the output)",
            error.kind()
        );
        let code = match error.kind() {
            DecodeErrorKind::TooLarge { .. } => code::EVENT_TOO_LARGE,
            _ => code::INVALID_OUTPUT,
        };
        AgentError::new(code, message)
    }
}

/// The most that a program without privileges can make a pipe hold, in bytes.
pub(super) const PIPE: usize = 1 << 20;

/// How much is read at once: small enough that events may share the memory.
const CHUNK: usize = 16 * 1024;

/// Where in the output the decoder is. Each chunk is decoded before the next is read, so an error lies in the last one, or in
/// the unfinished line before it.
#[derive(Default)]
struct Place {
    chunk: Bytes,
    chunk_start: u64,
    /// Line breaks before the chunk.
    breaks: u64,
}

impl Place {
    fn go_on(&mut self, chunk: &Bytes) {
        self.breaks += breaks(&self.chunk);
        self.chunk_start += self.chunk.len() as u64;
        self.chunk = chunk.clone();
    }

    /// The line of a byte, counted from 1.
    fn line_at(&self, offset: u64) -> u64 {
        let into = offset.saturating_sub(self.chunk_start);
        let into =
            usize::try_from(into).map_or(self.chunk.len(), |into| into.min(self.chunk.len()));
        self.breaks + breaks(&self.chunk[..into]) + 1
    }
}

fn breaks(bytes: &[u8]) -> u64 {
    let breaks = bytes.iter().filter(|byte| **byte == b'\n');
    breaks.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_an_error_is_counted_over_chunks() {
        let text = b"{\"type\":\"a\"}\n\n{\"type\":\"b\"}\nnonsense\n";
        for size in 1..text.len() {
            let mut output = Output::new(None, 100);
            let mut found = None;
            for chunk in text.chunks(size) {
                let chunk = Bytes::from_static(chunk);
                output.place.go_on(&chunk);
                output.decoder.push(chunk);
                while let Some(event) = output.decoder.next_event() {
                    found = event.err().map(|error| output.invalid(&error)).or(found);
                }
            }
            let message = "line 4 of the program's output is no event: not a JSON object (byte 27 of the output)";
            assert_eq!(found, Some(AgentError::new(code::INVALID_OUTPUT, message)), "{size}");
        }
    }
}
