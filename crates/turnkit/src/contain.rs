//! Calls of code that is someone else's. A panic there ends that call, never the turn.

use std::{
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// It panicked. What it said is for the panic hook alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Runs `call`, and survives it.
#[inline]
pub(crate) fn contain<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        // A payload is a value like any other: it may panic when it is dropped.
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(another);
        }
        Panicked
    })
}

/// Polls a call that has not ended, and survives it.
#[inline]
pub(crate) fn poll<F: Future>(
    mut call: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panicked>> {
    let Some(call) = call.as_mut().as_pin_mut() else {
        return Poll::Pending;
    };
    match contain(|| call.poll(cx)) {
        Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panicked) => Poll::Ready(Err(panicked)),
    }
}

/// Drops a call, whether or not it has ended, and survives it.
#[inline]
pub(crate) fn end<F>(mut call: Pin<&mut Option<F>>) -> Result<(), Panicked> {
    contain(|| call.set(None))
}
