use std::{mem, sync::Arc};

use bytes::Bytes;

use super::{
    inbox::Inbox,
    segments::{SEGMENT, Segments},
};
use crate::{
    Cursor, EventId,
    log::{Ending, Page, Position, State, Status},
};

/// The frames of one execution, back to back in segments, with an index of four bytes per event.
///
/// A full segment is sealed: readers get slices of it, without a copy. The last one still grows, so readers get a copy of the
/// part they ask for, which for a live reader is the newest event.
pub(super) struct Journal {
    sealed: Vec<Segment<Bytes>>,
    open: Segment<Vec<u8>>,
    segments: Arc<Segments>,
    /// The first `seq` of each epoch, ascending in both.
    epochs: Vec<EventId>,
    started_at: u64,
    ended: Option<(Ending, u64)>,
    dropped: bool,
    frame_bytes: u64,
    pub(super) inbox: Inbox,
}

impl Journal {
    /// An empty log whose events will carry `epoch`, in memory of these segments.
    pub(super) fn new(epoch: u64, started_at: u64, segments: Arc<Segments>) -> Self {
        Self {
            sealed: Vec::new(),
            open: Segment::after(0),
            segments,
            epochs: vec![EventId { epoch, seq: 1 }],
            started_at,
            ended: None,
            dropped: false,
            frame_bytes: 0,
            inbox: Inbox::default(),
        }
    }

    /// The epoch of the writer that may append.
    pub(super) fn epoch(&self) -> u64 {
        self.epochs.last().map_or(0, |first| first.epoch)
    }

    /// The `seq` of the last event; 0 in an empty log.
    pub(super) fn last(&self) -> u64 {
        self.open.last()
    }

    /// Bytes of all frames.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }

    /// Bytes of all frames, of their index and of the inbox.
    pub(super) fn bytes(&self) -> u64 {
        self.frame_bytes + self.last() * INDEX + self.inbox.bytes()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn status(&self) -> Status {
        let ending = self.ended.map(|(ending, _)| ending);
        Status {
            state: ending.map_or(State::Running, State::Ended),
            last: self.id_of(self.last()),
            started_at: self.started_at,
            ended_at: self.ended.map(|(_, at)| at),
            takes_input: false,
        }
    }

    /// Fences off all earlier writers.
    pub(super) fn begin_epoch(&mut self, epoch: u64) {
        let seq = self.last() + 1;
        self.epochs.push(EventId { epoch, seq });
    }

    pub(super) fn push(&mut self, frame: &[u8]) {
        if self.open.frames.len() + frame.len() > SEGMENT {
            self.seal();
        }
        let held = &mut self.open.frames;
        let needed = held.len() + frame.len();
        // A short log takes what it needs. One that is longer than that gets a segment, and one frame that is longer than a segment
        // its own memory.
        if needed > SEGMENT {
            held.reserve_exact(frame.len());
        } else if needed > SHORT && held.capacity() < SEGMENT {
            let short = mem::replace(held, self.segments.take());
            held.extend_from_slice(&short);
        }
        self.open.push(frame);
        self.frame_bytes += frame.len() as u64;
    }

    /// Gives how many bytes of the inbox are free by that.
    pub(super) fn end(&mut self, ending: Ending, at: u64) -> u64 {
        self.ended = Some((ending, at));
        self.seal();
        self.inbox.close()
    }

    pub(super) fn locate(&self, cursor: Cursor) -> Position {
        match cursor {
            Cursor::Start => Position::After(0),
            Cursor::After(id) if !self.holds(id) => Position::NotHeld,
            Cursor::After(id) if self.is_ended() && id.seq == self.last() => Position::AtEnd,
            Cursor::After(id) => Position::After(id.seq),
        }
    }

    /// The frames after event number `after` that stand in one segment.
    pub(super) fn read(&self, after: u64) -> Option<Page> {
        let segment = self.sealed.partition_point(|segment| segment.last() <= after);
        match self.sealed.get(segment) {
            Some(sealed) => Some(Page {
                frames: sealed.frames.slice(sealed.offset_after(after)..),
                last: sealed.last(),
            }),
            None if after < self.open.last() => Some(Page {
                frames: Bytes::copy_from_slice(&self.open.frames[self.open.offset_after(after)..]),
                last: self.open.last(),
            }),
            None => None,
        }
    }

    /// Frees the frames and the inbox; slices that readers hold stay whole.
    pub(super) fn drop_frames(&mut self) {
        self.dropped = true;
        self.sealed = Vec::new();
        self.open = Segment::after(self.last());
        self.inbox.clear();
    }

    /// Whether the frames are gone.
    pub(super) fn is_dropped(&self) -> bool {
        self.dropped
    }

    fn seal(&mut self) {
        let next = Segment::after(self.open.last());
        let full = mem::replace(&mut self.open, next);
        if !full.ends.is_empty() {
            self.sealed.push(full.sealed(&self.segments));
        }
    }

    fn holds(&self, id: EventId) -> bool {
        (1..=self.last()).contains(&id.seq) && self.id_of(id.seq) == id
    }

    fn id_of(&self, seq: u64) -> EventId {
        let begun = self.epochs.partition_point(|first| first.seq <= seq);
        let epoch = begun.checked_sub(1).map_or(0, |at| self.epochs[at].epoch);
        EventId { epoch, seq }
    }
}

/// What the index takes for each event, in bytes.
pub(super) const INDEX: u64 = size_of::<u32>() as u64;

/// How many bytes of frames are held in memory of their own size: thousands of runs that have said little are not to take a segment
/// each.
const SHORT: usize = 4 * 1024;

struct Segment<B> {
    /// The `seq` before its first event.
    after: u64,
    frames: B,
    /// Where each frame ends.
    ends: Vec<u32>,
}

impl<B> Segment<B> {
    fn last(&self) -> u64 {
        self.after + self.ends.len() as u64
    }

    /// Where the frame after event number `after` begins.
    fn offset_after(&self, after: u64) -> usize {
        let events = usize::try_from(after.saturating_sub(self.after)).unwrap_or(usize::MAX);
        let end = events.checked_sub(1).and_then(|at| self.ends.get(at));
        end.map_or(0, |end| *end as usize)
    }
}

impl Segment<Vec<u8>> {
    fn after(after: u64) -> Self {
        let (frames, ends) = (Vec::new(), Vec::new());
        Self { after, frames, ends }
    }

    fn push(&mut self, frame: &[u8]) {
        self.frames.extend_from_slice(frame);
        // A frame is bounded by `Limits::event`, at most 1 GiB, so a segment ends below 4 GiB.
        self.ends.push(u32::try_from(self.frames.len()).unwrap_or(u32::MAX));
    }

    fn sealed(mut self, segments: &Arc<Segments>) -> Segment<Bytes> {
        self.ends.shrink_to_fit();
        Segment { after: self.after, frames: segments.seal(self.frames), ends: self.ends }
    }
}
