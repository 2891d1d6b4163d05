//! Calls of code that is someone else's. A panic there ends that call, never the turn.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
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
