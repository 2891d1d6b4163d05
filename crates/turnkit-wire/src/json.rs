//! Strict JSON (RFC 8259), verified in one pass without building anything.

pub(crate) mod nesting;
pub(crate) mod object;
pub(crate) mod scan;
pub(crate) mod stops;
pub(crate) mod string;
mod surrogate;
pub(crate) mod walk;
