//! A program's standard output, on its way to events.

use std::time::Duration;

use bytes::BytesMut;
use tokio::{io::AsyncReadExt as _, process::ChildStdout};

use super::{
    Received, code,
    format::{Format, Mapper, Reading},
    lines::{Line, Lines},
    told::Told,
};

/// What comes from a pipe, read by a format.
pub(super) struct Output {
    pipe: Option<ChildStdout>,
    /// How much is still read.
    left: usize,
    buffer: BytesMut,
    lines: Lines,
    max_line: usize,
    reading: Reading,
    is_finished: bool,
    pub(super) told: Told,
}

impl Output {
    pub(super) fn new(
        pipe: Option<ChildStdout>,
        format: Format,
        reading: Reading,
        max_event: usize,
        told: Told,
    ) -> Self {
        // A tool's own line may hold the output of one of its tools, which is cut in its event.
        let max_line =
            if format == Format::Events { max_event } else { max_event.max(MAX_TOOL_LINE) };
        Self {
            pipe,
            left: usize::MAX,
            buffer: BytesMut::new(),
            lines: Lines::new(max_line),
            max_line,
            reading,
            is_finished: false,
            told,
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
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        match &mut self.reading {
            Reading::Text(text) => text.close(&mut self.told),
            Reading::Lines(mapper) => {
                let (told, max) = (&mut self.told, self.max_line);
                self.lines.finish(|line| take(&mut **mapper, told, max, line));
            }
        }
    }

    /// Reads what there is. May be dropped and asked again.
    pub(super) async fn pump(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        self.buffer.clear();
        self.buffer.reserve(CHUNK);
        match pipe.read_buf(&mut self.buffer).await {
            Ok(0) => self.close(),
            Ok(length) => {
                match &mut self.reading {
                    Reading::Text(text) => text.chunk(&self.buffer, &mut self.told),
                    Reading::Lines(mapper) => {
                        let (told, max) = (&mut self.told, self.max_line);
                        self.lines.feed(&self.buffer, |line| take(&mut **mapper, told, max, line));
                    }
                }
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

    /// The program has ended, well or not: what is told only then.
    pub(super) fn end(&mut self, is_good: bool) {
        self.close();
        match &mut self.reading {
            Reading::Text(text) => text.end(is_good, &mut self.told),
            Reading::Lines(mapper) => mapper.end(is_good, &mut self.told),
        }
        self.told.finish();
    }

    /// How long the program must be silent before something else is done, if anything waits for that.
    pub(super) fn patience(&self) -> Option<Duration> {
        match &self.reading {
            Reading::Text(_) => None,
            Reading::Lines(mapper) => mapper.patience(),
        }
    }

    /// The program was silent for that long.
    pub(super) fn quiet(&mut self) {
        if let Reading::Lines(mapper) = &mut self.reading {
            mapper.quiet(&mut self.told);
        }
    }

    /// Something that the program is told while it runs.
    pub(super) fn receive(&mut self, received: &Received) {
        if let Reading::Lines(mapper) = &mut self.reading {
            mapper.receive(received, &mut self.told);
        }
    }

    /// Nobody wants the rest: what the program is told before it is stopped. Whether it is told anything.
    pub(super) fn cancel(&mut self) -> bool {
        match &mut self.reading {
            Reading::Text(_) => false,
            Reading::Lines(mapper) => mapper.cancel(&mut self.told),
        }
    }
}

fn take(mapper: &mut dyn Mapper, told: &mut Told, max: usize, line: Line) {
    match line {
        Line::Whole(line) => mapper.line(&line, told),
        Line::TooLong(number) => {
            let message =
                format!("line {number} of the program's output is longer than {max} bytes");
            told.refuse(code::EVENT_TOO_LARGE, &message);
        }
    }
}

/// The most that a program without privileges can make a pipe hold, in bytes.
pub(super) const PIPE: usize = 1 << 20;

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// The longest line of a tool, in bytes.
const MAX_TOOL_LINE: usize = 16 << 20;
