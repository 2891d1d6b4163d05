//! What the pipe locks with. The schedule test of the pipe puts a checked lock in its place.

pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
