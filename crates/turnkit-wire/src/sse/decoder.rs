//! Frames to events, pull style (PROTOCOL 1.3).

use alloc::{collections::VecDeque, vec::Vec};

use bytes::Bytes;

use super::{
    frame::{DONE, Frame},
    parser::Parser,
    slot::Slot,
};
use crate::{
    DecodeError, DecodeErrorKind, Event,
    arena::Arena,
    event::{self, DATA_KEY, TYPE_KEY},
    json::{scan, string},
    ndjson::may_share,
};

/// An incremental decoder for adapters: chunks go in as they come, events come out.
///
/// It parses only as far as events are taken, so ids never run ahead of the events handed out. Memory is shared by the rule of
/// [`crate::ndjson::Decoder`]: an event that is the whole data of an unnamed frame is the chunk's own bytes, one of a named
/// frame is put together in a block that it shares with its neighbours.
#[derive(Debug)]
pub struct Decoder {
    parser: Parser,
    chunk: Bytes,
    at: usize,
    waiting: VecDeque<Bytes>,
    arena: Arena,
    head: Head,
    max_event: usize,
    last_event_id: Slot,
    event_has_id: bool,
    done: bool,
    failed: bool,
}

impl Decoder {
    /// A decoder with the bound [`Parser::MAX_EVENT`].
    #[must_use]
    pub fn new() -> Self {
        Decoder::with_max_event(Parser::MAX_EVENT)
    }

    /// A decoder of frames of up to `bytes`: see [`Parser::with_max_event`].
    #[must_use]
    pub fn with_max_event(bytes: usize) -> Self {
        Decoder {
            parser: Parser::with_max_event(bytes),
            chunk: Bytes::new(),
            at: 0,
            waiting: VecDeque::new(),
            arena: Arena::new(bytes.saturating_add(2 * Parser::MAX_ID)),
            head: Head::default(),
            max_event: bytes,
            last_event_id: Slot::new(Parser::MAX_ID),
            event_has_id: false,
            done: false,
            failed: false,
        }
    }

    /// Takes the next chunk of the stream, cut anywhere. Chunks not yet decoded are kept: take the events between pushes.
    /// Behind a frame over the bound they are dropped.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed || chunk.is_empty() {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.waiting.push_back(chunk);
        }
    }

    /// The next event, or error; `None` until more is pushed. `[DONE]` is no event: see [`Decoder::is_done`].
    ///
    /// A frame that is no event gives one error, and decoding goes on with the next frame. Its offset is the place in the
    /// stream; where data was joined from several lines, it counts from the first on as if each LF were one byte. A frame over
    /// the bound ([`DecodeErrorKind::TooLarge`]) gives one error and ends the stream: nothing more comes.
    pub fn next_event(&mut self) -> Option<Result<Event, DecodeError>> {
        loop {
            match self.parser.step(&self.chunk, &mut self.at) {
                Ok(true) => {}
                Ok(false) => {
                    self.drop_chunk();
                    self.chunk = self.waiting.pop_front()?;
                    continue;
                }
                Err(error) => return self.fail().then(|| Err(error.into())),
            }
            match self.event() {
                Ok(Some(event)) => {
                    self.event_has_id = self.parser.take_id_set();
                    if self.event_has_id {
                        self.last_event_id.follow(self.parser.id());
                    }
                    return Some(Ok(event));
                }
                Ok(None) => self.done = true,
                Err(error) => return Some(Err(error.shifted(self.parser.data_start()))),
            }
        }
    }

    /// The id in force at the last event that was handed out; empty before the first, and where the stream gives none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        string::verified(self.last_event_id.get(&self.chunk))
    }

    /// Whether the event that was handed out last came with an id: one of its own, or of a frame without an event before it.
    ///
    /// Ids are sticky, so [`Decoder::last_event_id`] alone does not tell an event without an id from one that came before.
    #[must_use]
    pub fn event_has_id(&self) -> bool {
        self.event_has_id
    }

    /// The id to resume from: [`Decoder::last_event_id`], moved on by frames behind that event that carried an id and no event
    /// (no data, `[DONE]`, or an error that was handed out).
    #[must_use]
    pub fn cursor(&self) -> &str {
        string::verified(self.parser.id().get(&self.chunk))
    }

    /// The reconnection time in force, in milliseconds; `None` until the stream sets one.
    #[must_use]
    pub fn retry_ms(&self) -> Option<u64> {
        self.parser.retry_ms()
    }

    /// Whether the end marker `[DONE]` was met before the event that comes next.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Makes ready for the next connection of the same stream: the unfinished frame and chunks not yet decoded are dropped,
    /// ids and reconnection time stay, offsets count from 0 again.
    pub fn reconnect(&mut self) {
        self.parser.reset(&self.chunk);
        self.drop_chunk();
        self.waiting.clear();
        self.done = false;
        self.failed = false;
    }

    /// The parser has no more use for the chunk.
    #[inline]
    fn drop_chunk(&mut self) {
        self.last_event_id.spill(&self.chunk);
        self.chunk = Bytes::new();
        self.at = 0;
    }

    /// The stream ends here. Whether that is new.
    #[cold]
    fn fail(&mut self) -> bool {
        self.drop_chunk();
        self.waiting.clear();
        !core::mem::replace(&mut self.failed, true)
    }

    /// The event of the frame at hand.
    #[inline]
    fn event(&mut self) -> Result<Option<Event>, DecodeError> {
        let frame = self.parser.frame(&self.chunk);
        if frame.lossy() {
            return Err(DecodeError::new(0, DecodeErrorKind::NotUtf8));
        }
        if frame.data() == DONE {
            return Ok(None);
        }
        if frame.has_event() { self.named_event() } else { self.whole_event() }.map(Some)
    }

    /// A named frame: the name gives the type, the data the data.
    #[inline]
    fn named_event(&mut self) -> Result<Event, DecodeError> {
        let Frame { name, data, .. } = self.parser.frame(&self.chunk);
        let breaks = scan::value(data)?;
        let is_spaced = data.trim_ascii().len() != data.len();
        if self.head.name() != name && !self.head.set(name) || breaks || is_spaced {
            return Ok(Event::compose(string::verified(name), data, breaks));
        }
        self.arena.reserve(self.head.line.len() + data.len() + 2);
        self.arena.put(&self.head.line);
        self.arena.put(data);
        self.arena.put(b"}\n");
        Ok(Event::from_canonical_line(self.arena.take(), name.len()))
    }

    /// An unnamed frame: its data is the event.
    #[inline]
    fn whole_event(&mut self) -> Result<Event, DecodeError> {
        let Frame { data, .. } = self.parser.frame(&self.chunk);
        event::check_size(data, self.max_event)?;
        let data = event::without_line_end(data);
        let layout = scan::event(data)?;
        let length = data.len();
        if let Some(range) = self.parser.data_in_chunk() {
            // A value that stands in the chunk is one line: where LF ends it, the chunk holds the event's line.
            let own_line = self.chunk.get(range.end) == Some(&b'\n') && !layout.breaks;
            if own_line && may_share(length, self.chunk.len()) {
                return Ok(Event::from_layout(self.chunk.slice(range.start..=range.end), &layout));
            }
        }
        self.arena.put(data);
        if layout.breaks {
            event::blank_breaks(self.arena.open_mut());
        }
        self.arena.put(b"\n");
        Ok(Event::from_layout(self.arena.take(), &layout))
    }
}

/// What the line of a named event begins with. Names mostly repeat, so that of the event before is kept.
#[derive(Debug, Default)]
struct Head {
    line: Vec<u8>,
}

impl Head {
    #[inline]
    fn name(&self) -> &[u8] {
        let line = &self.line[..];
        line.get(TYPE_KEY.len()..line.len().saturating_sub(DATA_KEY.len())).unwrap_or_default()
    }

    /// Takes a name. Whether it is spelt as it stands; otherwise nothing is taken.
    #[cold]
    fn set(&mut self, name: &[u8]) -> bool {
        let plain = string::is_plain(name);
        if plain {
            self.line.clear();
            for part in [TYPE_KEY, name, DATA_KEY] {
                self.line.extend_from_slice(part);
            }
        }
        plain
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}
