//! Execution ids: a retry of a turn lands on the same execution.
//!
//! ```
//! use turnkit_id::ExecutionId;
//!
//! let first = ExecutionId::derive("gtm-agent", "thread-abc", 3)?;
//! let retry = ExecutionId::derive("gtm-agent", "thread-abc", 3)?;
//! assert_eq!(first, retry);
//! assert_eq!(first.as_str(), "gtm-agent:thread-abc:3");
//! # Ok::<(), turnkit_id::IdError>(())
//! ```
//!
//! The id is a pure function of *(project, session, turn index)*, and distinct tuples give distinct ids. Whoever starts a
//! turn a second time (a browser that retries, another worker, a new process) derives the same id, and the service that
//! owns the run answers with the run that is already there.
//!
//! # In scope
//! Deriving an id, its compact form, and checking an id that came over the wire (PROTOCOL 1.4); checking the id of a log
//! ([`LogId`], PROTOCOL 3.5); and what can be the name of an agent ([`is_name`]).
//!
//! # Out of scope
//! Permissions: an id is a locator and no secret; who may read an execution is decided by its scope (PROTOCOL 3.3). Random
//! ids: sessions and turns are named by the product. This crate is `no_std`, does no I/O and reads no clock.
#![no_std]

extern crate alloc;

mod error;
mod execution_id;
mod log_id;
mod name;

pub use error::IdError;
pub use execution_id::ExecutionId;
pub use log_id::{InvalidLogId, LogId};
pub use name::is_name;
