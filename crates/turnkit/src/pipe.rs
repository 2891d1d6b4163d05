//! The bounded pipe of bytes between a driver and its body, and the way by which a handle reaches the driver.
//!
//! Lines are copied into blocks, so that all lines that are ready leave as one chunk; a long line leaves as it is, uncopied.
//! The bound counts bytes; [`Writer::try_push`] keeps it.

use std::{
    collections::VecDeque,
    mem,
    sync::PoisonError,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use crate::sync::{Arc, Mutex, MutexGuard};

/// How many bytes a body that is not read may hold back (PROTOCOL 2.4).
pub(crate) const CAPACITY: usize = 256 * 1024;

/// Lines over this many bytes are passed on uncopied.
const LONG_LINE: usize = 4 * 1024;

/// Blocks begin small, for the many turns that are idle, and double up to this size under load.
const MIN_BLOCK: usize = 512;
const MAX_BLOCK: usize = 32 * 1024;

/// A pipe that holds at most `capacity` bytes, or one line where that is longer.
pub(crate) fn pipe(capacity: usize) -> (Writer, Reader) {
    let shared = Shared(Arc::new(Mutex::new(State::new(capacity))));
    (Writer(shared.clone()), Reader(shared))
}

/// The driver's end. Dropping it ends the body after the lines that are ready.
pub(crate) struct Writer(Shared);

/// The body's end. Dropping it tells the driver that the client left.
pub(crate) struct Reader(Shared);

/// How the driver is reached from outside. Any number of clones.
#[derive(Clone)]
pub(crate) struct Canceller(Shared);

/// What the driver must know about the other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signals {
    pub(crate) left: bool,
    pub(crate) cancelled: bool,
}

/// How things stood when the writer began to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) signals: Signals,
    /// Whether there is room for what was wanted.
    pub(crate) room: bool,
    /// How much longer a writer that wants room may wait, in all, where that was set since.
    pub(crate) patience: Option<Duration>,
}

/// What became of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is read, or can be.
    Open,
    /// It was dropped with something left to take.
    Left,
    /// The writer gave it up.
    Cut,
}

impl Writer {
    /// Appends a line of `units` cursor units. Nothing is kept once the body has left or was cut.
    pub(crate) fn push(&self, line: &Bytes, units: u64) {
        let mut state = self.0.lock();
        if state.end == End::Open {
            state.append(line, units);
        }
    }

    /// [`push`](Self::push), if there is room for it, and how things stand at the other ends then. `None` where there is no room.
    pub(crate) fn try_push(&self, line: &Bytes, units: u64) -> Option<Signals> {
        let mut state = self.0.lock();
        if !state.has_room(line.len()) {
            return None;
        }
        if state.end == End::Open {
            state.append(line, units);
        }
        Some(state.signals())
    }

    pub(crate) fn signals(&self) -> Signals {
        self.0.lock().signals()
    }

    /// Lets the body have what was pushed, and wakes this task when the other ends change: when there is room for `wanted`
    /// bytes, the body left, or somebody cancels.
    pub(crate) fn park(&self, cx: &Context<'_>, wanted: Option<usize>) -> Parked {
        let mut state = self.0.lock();
        state.wanted = wanted;
        let former = store(&mut state.writer_waker, cx);
        let parked = Parked {
            signals: state.signals(),
            room: wanted.is_some_and(|len| state.has_room(len)),
            patience: wanted.and_then(|_| state.patience.take()),
        };
        let waker = state.take_reader_waker();
        drop(state);
        drop(former);
        wake(waker);
        parked
    }

    /// Whether the body has taken all there is.
    pub(crate) fn is_drained(&self) -> bool {
        self.0.lock().held == 0
    }

    /// Gives an empty block back, for a turn that has been silent for long.
    pub(crate) fn trim(&self) {
        let mut state = self.0.lock();
        if state.block.is_empty() {
            state.block = BytesMut::new();
            state.block_size = MIN_BLOCK;
        }
    }

    /// Ends the body after the lines that are ready.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock();
        state.finished = true;
        let waker = state.take_reader_waker();
        drop(state);
        wake(waker);
    }

    /// Ends the body at once and drops what it has not taken.
    pub(crate) fn cut(&self) {
        let mut state = self.0.lock();
        let untaken = state.close(End::Cut);
        let waker = state.take_reader_waker();
        drop(state);
        drop(untaken);
        wake(waker);
    }

    /// What became of the body, and how many cursor units it has taken.
    pub(crate) fn reader(&self) -> (End, u64) {
        let state = self.0.lock();
        (state.end, state.taken)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
        // A handle that is kept must not keep the driver's task.
        let own = self.0.lock().writer_waker.take();
        drop(own);
    }
}

impl Reader {
    /// The next chunk of whole lines, or none after the last.
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.0.lock();
        let Some(chunk) = state.take() else {
            if state.finished || state.end == End::Cut {
                return Poll::Ready(None);
            }
            let former = store(&mut state.reader_waker, cx);
            drop(state);
            drop(former);
            return Poll::Pending;
        };
        let waker = state.take_writer_waker();
        drop(state);
        wake(waker);
        Poll::Ready(Some(chunk))
    }

    /// Whether [`poll_take`](Self::poll_take) has nothing more to give.
    pub(crate) fn is_ended(&self) -> bool {
        let state = self.0.lock();
        state.end == End::Cut || (state.finished && state.held == 0)
    }

    pub(crate) fn canceller(&self) -> Canceller {
        Canceller(self.0.clone())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let left = state.end == End::Open && !(state.finished && state.held == 0);
        let end = if left { End::Left } else { state.end };
        let untaken = state.close(end);
        let (waker, own) = (state.writer_waker.take(), state.reader_waker.take());
        drop(state);
        drop((untaken, own));
        wake(waker);
    }
}

impl Canceller {
    pub(crate) fn cancel(&self) {
        let mut state = self.0.lock();
        state.cancelled = true;
        let waker = state.writer_waker.take();
        drop(state);
        wake(waker);
    }

    /// Sets how much longer the writer waits for room, in all.
    pub(crate) fn set_patience(&self, in_all: Duration) {
        let mut state = self.0.lock();
        state.patience = Some(in_all);
        let waker = state.writer_waker.take();
        drop(state);
        wake(waker);
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    /// Nothing of anyone else's runs or is dropped under this lock (a waker or a line may own the other end); wakers are cloned.
    /// So a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    capacity: usize,
    /// Sealed chunks, older than the block.
    sealed: VecDeque<Chunk>,
    /// The block that lines are copied into.
    block: BytesMut,
    block_units: u64,
    block_size: usize,
    /// Bytes in `sealed` and `block`.
    held: usize,
    /// Cursor units that were taken.
    taken: u64,
    end: End,
    finished: bool,
    cancelled: bool,
    /// What the writer is to hear the next time it wants room.
    patience: Option<Duration>,
    /// The length of the line that the writer waits to push.
    wanted: Option<usize>,
    writer_waker: Option<Waker>,
    reader_waker: Option<Waker>,
}

struct Chunk {
    bytes: Bytes,
    units: u64,
}

impl State {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            sealed: VecDeque::new(),
            block: BytesMut::new(),
            block_units: 0,
            block_size: MIN_BLOCK,
            held: 0,
            taken: 0,
            end: End::Open,
            finished: false,
            cancelled: false,
            patience: None,
            wanted: None,
            writer_waker: None,
            reader_waker: None,
        }
    }

    fn append(&mut self, line: &Bytes, units: u64) {
        self.held += line.len();
        if line.len() > LONG_LINE {
            self.seal();
            let bytes = line.clone();
            self.sealed.push_back(Chunk { bytes, units });
        } else {
            self.make_block(line.len());
            self.block.extend_from_slice(line);
            self.block_units += units;
        }
    }

    /// Makes the block fit for `len` more bytes, in its old memory where the body is done with that.
    fn make_block(&mut self, len: usize) {
        if self.block.capacity() - self.block.len() >= len || self.block.try_reclaim(len) {
            return;
        }
        self.seal();
        self.block = BytesMut::with_capacity(self.block_size.max(len));
        self.block_size = MAX_BLOCK.min(self.block_size * 2);
    }

    fn seal(&mut self) {
        if let Some(chunk) = self.take_block() {
            self.sealed.push_back(chunk);
        }
    }

    fn take_block(&mut self) -> Option<Chunk> {
        let filled = !self.block.is_empty();
        filled.then(|| Chunk {
            bytes: self.block.split().freeze(),
            units: mem::take(&mut self.block_units),
        })
    }

    fn take(&mut self) -> Option<Bytes> {
        let chunk = self.sealed.pop_front().or_else(|| self.take_block())?;
        self.held -= chunk.bytes.len();
        self.taken += chunk.units;
        Some(chunk.bytes)
    }

    fn has_room(&self, len: usize) -> bool {
        self.held == 0 || self.held + len <= self.capacity
    }

    /// Gives back what was not taken.
    #[must_use]
    fn close(&mut self, end: End) -> VecDeque<Chunk> {
        self.end = end;
        self.held = 0;
        self.block = BytesMut::new();
        mem::take(&mut self.sealed)
    }

    fn signals(&self) -> Signals {
        Signals { left: self.end == End::Left, cancelled: self.cancelled }
    }

    /// The reader's waker, if there is something for it.
    fn take_reader_waker(&mut self) -> Option<Waker> {
        let ready = self.held > 0 || self.finished || self.end == End::Cut;
        ready.then(|| self.reader_waker.take()).flatten()
    }

    /// The writer's waker, if it waits for room and there is some.
    fn take_writer_waker(&mut self) -> Option<Waker> {
        let fits = self.wanted.is_some_and(|len| self.has_room(len));
        fits.then(|| self.writer_waker.take()).flatten()
    }
}

/// Gives back the waker that was there, if it was another.
#[must_use]
fn store(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    let known = slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
    if known { None } else { slot.replace(cx.waker().clone()) }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
