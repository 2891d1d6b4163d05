//! The driver's side of the pipe: back-pressure, keep-alives and what became of the client.

use std::{
    future::poll_fn,
    sync::Once,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    error::warn,
    pipe::{End, Signals, Writer},
    timer::{Clock, Sleep},
    turn::Settings,
};

/// A line that says nothing (PROTOCOL 1.2).
const BLANK_LINE: Bytes = Bytes::from_static(b"\n");

/// So that a zero does not make the driver spin.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_millis(1);

pub(super) struct Outlet {
    writer: Writer,
    clock: Clock,
    keep_alive: Duration,
    heartbeat: Deadline,
    /// When the last line went out, as far as it was looked at.
    last_line: Duration,
    /// Whether lines went out since.
    spoken: bool,
    closed: bool,
    /// How much longer, in all, the turn waits for the body to be read.
    patience: Duration,
}

impl Outlet {
    pub(super) fn new(writer: Writer, settings: &Settings) -> Self {
        let clock = settings.clock.clone();
        if clock.is_off() {
            warn_without_time();
        }
        let keep_alive = settings.keep_alive.max(SHORTEST_KEEP_ALIVE);
        Self {
            writer,
            keep_alive,
            heartbeat: Deadline::after(keep_alive),
            last_line: clock.now(),
            spoken: false,
            closed: false,
            patience: settings.client_stall,
            clock,
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sends a line of `units` cursor units if the body has room for it, and says how things stand then. `None` where it has no room.
    #[inline]
    pub(super) fn try_push(&mut self, line: &Bytes, units: u64) -> Option<Signals> {
        self.spoken = true;
        self.writer.try_push(line, units)
    }

    /// Sends a line that must go, whatever is held.
    pub(super) fn push(&mut self, line: &Bytes, units: u64) {
        self.spoken = true;
        self.writer.push(line, units);
    }

    #[inline]
    pub(super) fn signals(&self) -> Signals {
        self.writer.signals()
    }

    /// To be called whenever the driver waits for something: lets the body have what is ready, keeps it alive, and sees to it
    /// that the driver wakes when the other ends change.
    pub(super) fn idle(&mut self, cx: &mut Context<'_>) -> Signals {
        self.beat(cx);
        self.writer.park(cx, None).signals
    }

    /// Waits until `len` bytes more may be held, or `stop` says so. A body that is waited for too long is cut.
    pub(super) async fn wait_for_room(
        &mut self,
        len: usize,
        mut stop: impl FnMut(Signals) -> bool,
    ) {
        let mut since = self.clock.now();
        let mut stall = Deadline::after(self.patience);
        poll_fn(|cx| {
            let parked = self.writer.park(cx, Some(len));
            if parked.room || stop(parked.signals) {
                return Poll::Ready(());
            }
            if let Some(patience) = parked.patience
                && patience < self.patience
            {
                (since, self.patience) = (self.clock.now(), patience);
                stall = Deadline::after(patience);
            }
            if stall.has_passed(&self.clock, cx) {
                self.writer.cut();
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        if self.patience != Duration::MAX {
            let waited = self.clock.now().saturating_sub(since);
            self.patience = self.patience.saturating_sub(waited);
        }
    }

    /// Ends the body.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.writer.finish();
    }

    /// What became of the body, and how many cursor units it has taken.
    pub(super) fn body(&self) -> (End, u64) {
        self.writer.reader()
    }

    /// A blank line after a long silence.
    fn beat(&mut self, cx: &mut Context<'_>) {
        if self.closed {
            return;
        }
        if std::mem::take(&mut self.spoken) {
            self.last_line = self.clock.now();
        }
        if self.heartbeat.has_passed(&self.clock, cx) {
            self.heartbeat = Deadline::after(self.keep_alive_if_silent());
            // The new heartbeat is not being waited for yet.
            cx.waker().wake_by_ref();
        }
    }

    /// Sends a blank line if one is due, and says how long until the next may be.
    fn keep_alive_if_silent(&mut self) -> Duration {
        let silence = self.clock.now().saturating_sub(self.last_line);
        let left = self.keep_alive.saturating_sub(silence);
        if !left.is_zero() {
            return left;
        }
        if self.writer.is_drained() {
            self.writer.trim();
            self.push(&BLANK_LINE, 0);
        }
        self.keep_alive
    }
}

/// A span of time that begins when it is first waited for.
pub(super) struct Deadline {
    after: Duration,
    sleep: Option<Sleep>,
}

impl Deadline {
    pub(super) fn after(after: Duration) -> Self {
        Self { after, sleep: None }
    }

    /// Whether it has passed; if not, the task wakes when it has. Never without time.
    pub(super) fn has_passed(&mut self, clock: &Clock, cx: &mut Context<'_>) -> bool {
        if self.sleep.is_none() {
            self.sleep = clock.sleep(self.after);
        }
        let sleep = self.sleep.as_mut();
        sleep.is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }
}

fn warn_without_time() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        warn("no timer outside of a tokio runtime: time-outs and keep-alives are off (see ChatTurn::timer)");
    });
}
