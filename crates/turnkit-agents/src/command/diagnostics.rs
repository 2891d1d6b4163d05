//! A program's standard error, on its way to the server's log.

use std::convert::Infallible;

use bytes::BytesMut;
use tokio::{io::AsyncReadExt as _, process::ChildStderr, time::Instant};
use turnkit_wire::text;

use super::{output::PIPE, throttle::Throttle};

/// Lines from a pipe to `tracing`: bounded, thinned where they flood, and without control characters.
pub(super) struct Diagnostics {
    pipe: Option<ChildStderr>,
    /// How much is still read.
    left: usize,
    buffer: BytesMut,
    line: Vec<u8>,
    last: String,
    throttle: Throttle,
    started: Instant,
}

impl Diagnostics {
    pub(super) fn new(pipe: Option<ChildStderr>) -> Self {
        Self {
            pipe,
            left: usize::MAX,
            buffer: BytesMut::with_capacity(CHUNK),
            line: Vec::new(),
            last: String::new(),
            throttle: Throttle::new(),
            started: Instant::now(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Nobody but a stranger writes any more: takes what a pipe may hold.
    pub(super) fn expect_rest(&mut self) {
        self.left = PIPE;
    }

    /// Logs what is still held, and takes no more.
    pub(super) fn close(&mut self) {
        self.pipe = None;
        self.end_line();
        self.tell_left_out();
    }

    /// The last line that was not blank.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// Reads and logs what there is. May be dropped and asked again.
    pub(super) async fn pump(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        self.buffer.clear();
        match pipe.read_buf(&mut self.buffer).await {
            Ok(0) => self.close(),
            Ok(length) => {
                let chunk = std::mem::take(&mut self.buffer);
                self.take(&chunk);
                self.buffer = chunk;
                self.left = self.left.saturating_sub(length);
            }
            Err(error) => {
                tracing::warn!(%error, "a program's standard error broke");
                self.close();
            }
        }
        if self.left == 0 {
            self.close();
        }
    }

    /// Reads and logs until it is dropped.
    pub(super) async fn pump_for_ever(&mut self) -> Infallible {
        while self.is_open() {
            self.pump().await;
        }
        std::future::pending().await
    }

    fn take(&mut self, chunk: &[u8]) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(self.line.trim_ascii());
        let line = text::printable(&line).into_owned();
        self.line.clear();
        if line.is_empty() {
            return;
        }
        if self.throttle.admits(self.started.elapsed()) {
            self.tell_left_out();
            tracing::info!(line, "a program wrote to its standard error");
        }
        self.last = line;
    }

    fn tell_left_out(&mut self) {
        if let Some(lines) = self.throttle.left_out() {
            tracing::warn!(lines, "a program floods its standard error; lines were left out");
        }
    }
}

const CHUNK: usize = 8 * 1024;

/// What is kept of a line, in bytes.
const MAX_LINE: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_control_characters_escaped() {
        let mut diagnostics = Diagnostics::new(None);
        let mut last_after = |text: &[u8]| {
            diagnostics.take(text);
            diagnostics.last().to_owned()
        };
        assert_eq!(last_after(b"one\n\n  two\x1b[31m \xff\r\nthr"), "two\\u{1b}[31m \u{fffd}");
        assert_eq!(last_after(b"ee\n"), "three");
        assert_eq!(last_after(&[b'x'; 5_000]), "three");
        assert_eq!(last_after(b"y\n"), "x".repeat(1_024));
    }
}
