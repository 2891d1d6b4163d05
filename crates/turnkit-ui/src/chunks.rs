//! What an encoder writes into: frames, their numbers, and which of them the client has already.

use bytes::{BufMut, Bytes, BytesMut};

/// The frames of a response, as bytes (WHATWG HTML 9.2.5; LF only).
///
/// A *counted* chunk belongs to the turn: its number is a pure function of the turn's lines, and stands in its frame as `id:`. A
/// *terminal* chunk belongs to the connection or the attempt: it has no number. A client that comes back with the number of
/// chunks that it has is left what is beyond.
///
/// Frames are kept until [`Chunks::take`] gives them out.
#[derive(Debug, Default)]
pub struct Chunks {
    out: BytesMut,
    framing: Framing,
    /// The chunks that the client has.
    after: u64,
    /// The counted chunks of this response's run, those that were left out among them.
    counted: u64,
    /// The counted chunks before this run: it goes on behind them.
    before: u64,
    /// The terminal chunks that were left out.
    skipped: u64,
    /// The run goes on behind a question.
    goes_on: bool,
    muted: bool,
    ended: bool,
}

/// How chunks are framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    /// `id: 7`, `data: {…}`, and a blank line.
    #[default]
    Sse,
    /// `{"id":"7","chunk":{…}}`, or the bare chunk where it has no number.
    Ndjson,
}

impl Chunks {
    /// Frames of `text/event-stream`, from the first one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lines of `application/x-ndjson` instead, in the envelope `{"id","chunk"}` that TanStack AI reads.
    #[must_use]
    pub fn ndjson() -> Self {
        Self { framing: Framing::Ndjson, ..Self::default() }
    }

    /// Leaves out the first `n` chunks. Where that is more than are counted, the client had terminal ones too: those are left out
    /// as well, but never the last.
    #[must_use]
    pub fn after(self, n: u64) -> Self {
        Self { after: n, ..self }
    }

    /// How many chunks were counted, those that were left out among them. What comes after a question counts from its own start.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Whether the client has chunks of the turn: then it is told nothing that it would have to forget them for.
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.after > 0 || self.goes_on
    }

    /// Whether no frame waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// How many bytes of frames wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether the response is at its end: nothing follows.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The frames that wait.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Writes a counted chunk: the JSON of an object, in pieces, without a line break.
    #[inline]
    pub fn count(&mut self, json: &[&[u8]]) {
        self.counted += 1;
        if !self.muted && self.counted > self.after {
            match self.framing {
                Framing::Sse => {
                    self.out.put_slice(b"id: ");
                    self.number();
                    self.out.put_slice(b"\ndata: ");
                    self.pieces(json);
                    self.out.put_slice(b"\n\n");
                }
                Framing::Ndjson => {
                    self.out.put_slice(b"{\"id\":\"");
                    self.number();
                    self.out.put_slice(b"\",\"chunk\":");
                    self.pieces(json);
                    self.out.put_slice(b"}\n");
                }
            }
        }
    }

    /// Writes a terminal chunk, which is not counted.
    pub fn terminal(&mut self, json: &[&[u8]]) {
        if self.counted + self.skipped < self.after {
            self.skipped += 1;
        } else if !self.muted {
            self.last(json);
        }
    }

    /// Writes a terminal chunk that is never left out.
    pub fn last(&mut self, json: &[&[u8]]) {
        let (before, after): (&[u8], &[u8]) = match self.framing {
            Framing::Sse => (b"data: ", b"\n\n"),
            Framing::Ndjson => (b"", b"\n"),
        };
        self.out.put_slice(before);
        self.pieces(json);
        self.out.put_slice(after);
    }

    /// Writes a sign of life, which no client counts: a comment, or a blank line.
    pub fn comment(&mut self) {
        self.out.put_slice(match self.framing {
            Framing::Sse => b":\n\n",
            Framing::Ndjson => b"\n",
        });
    }

    /// Says that the response is at its end.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Writes nothing until [`Chunks::go_on`]; chunks are counted all the same.
    pub fn mute(&mut self) {
        self.muted = true;
        self.goes_on = true;
    }

    /// Begins a run of its own behind the chunks that were counted so far: its numbers count from its own start.
    pub fn go_on(&mut self) {
        self.muted = false;
        self.before = core::mem::take(&mut self.counted);
    }

    /// How many chunks of the turn stand before this run.
    #[must_use]
    pub fn begins_behind(&self) -> u64 {
        self.before
    }

    /// Leaves out whatever comes, but for the last chunk.
    pub fn leave_out_all_but_the_last(&mut self) {
        self.after = u64::MAX;
    }

    fn pieces(&mut self, json: &[&[u8]]) {
        for piece in json {
            self.out.put_slice(piece);
        }
    }

    fn number(&mut self) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut number = self.counted;
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.put_slice(&digits[at..]);
    }
}
