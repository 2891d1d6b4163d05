//! The stores of this crate keep the contract of all stores (PROTOCOL 4.2), and the contract finds the ones that do not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod in_memory;
#[cfg(all(unix, feature = "postgres"))]
mod in_postgres;
#[cfg(feature = "sqlite")]
mod in_sqlite;
mod mistakes;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod older;
