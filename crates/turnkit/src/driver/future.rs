//! What the driver waits for: calls of producers and hooks, while the client is looked after.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use super::{
    EVENTS_PER_POLL,
    outlet::{Deadline, Outlet},
};
use crate::{
    BoxError, Produced,
    contain::{Panicked, contain},
    error::HookFault,
    machine::Machine,
};

pin_project! {
    /// A call of someone else's code. A panic there ends the call, also when it is dropped.
    struct Contained<F> {
        // None once it was dropped.
        #[pin]
        call: Option<F>,
    }
}

impl<F> Contained<F> {
    fn new(call: F) -> Self {
        Self { call: Some(call) }
    }

    /// Drops the call, whether or not it has ended, and survives it.
    #[inline]
    fn end(self: Pin<&mut Self>) -> Result<(), Panicked> {
        let mut call = self.project().call;
        contain(|| call.set(None))
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = self.project().call.as_pin_mut() else {
            return Poll::Pending;
        };
        match contain(|| call.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

/// What asking the producer came to.
pub(super) enum Asked<E> {
    Answered(Result<Produced, E>),
    Panicked,
    /// The machine wants no more of it.
    Interrupted,
}

pin_project! {
    /// Waits for the producer's next answer, or for an interrupt.
    pub(super) struct Ask<'a, F> {
        #[pin]
        next: Contained<F>,
        machine: &'a mut Machine,
        outlet: &'a mut Outlet,
        budget: &'a mut u32,
    }
}

impl<'a, F> Ask<'a, F> {
    /// `budget`: how many more events this poll of the driver may take.
    pub(super) fn new(
        next: F,
        machine: &'a mut Machine,
        outlet: &'a mut Outlet,
        budget: &'a mut u32,
    ) -> Self {
        Self { next: Contained::new(next), machine, outlet, budget }
    }

    /// Drops the producer's future, and survives it.
    pub(super) fn end(self: Pin<&mut Self>) -> Result<(), Panicked> {
        self.project().next.end()
    }
}

impl<E, F: Future<Output = Result<Produced, E>>> Future for Ask<'_, F> {
    type Output = Asked<E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Asked<E>> {
        let this = self.project();
        let spent = **this.budget == 0;
        if !spent {
            match this.next.poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    **this.budget -= 1;
                    return Poll::Ready(Asked::Answered(answer));
                }
                Poll::Ready(Err(Panicked)) => return Poll::Ready(Asked::Panicked),
                Poll::Pending => {}
            }
        }
        **this.budget = EVENTS_PER_POLL;
        this.machine.notice(this.outlet.idle(cx));
        if !this.machine.is_producing() {
            return Poll::Ready(Asked::Interrupted);
        }
        if spent {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

pin_project! {
    /// A call that is bounded in time.
    pub(super) struct Bounded<'a, F> {
        #[pin]
        call: Contained<F>,
        limit: Duration,
        deadline: Deadline,
        outlet: &'a mut Outlet,
    }
}

impl<'a, F> Bounded<'a, F> {
    /// `call`, for at most `limit`.
    pub(super) fn new(call: F, limit: Duration, outlet: &'a mut Outlet) -> Self {
        Self { call: Contained::new(call), limit, deadline: Deadline::after(limit), outlet }
    }
}

impl<T, F: Future<Output = Result<T, BoxError>>> Future for Bounded<'_, F> {
    type Output = Result<T, HookFault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let answer = match this.call.as_mut().poll(cx) {
            Poll::Ready(Ok(answer)) => answer.map_err(HookFault::Failed),
            Poll::Ready(Err(Panicked)) => Err(HookFault::Panicked),
            Poll::Pending if this.deadline.has_passed(this.outlet.clock(), cx) => {
                Err(HookFault::TimedOut(*this.limit))
            }
            Poll::Pending => {
                this.outlet.idle(cx);
                return Poll::Pending;
            }
        };
        // The answer stands, whatever its future does when it is dropped.
        this.call.end().ok();
        Poll::Ready(answer)
    }
}
