//! HTTP plumbing that the servers and clients of turnkit share. It knows no rule of theirs: neither turns nor executions.
//!
//! ```
//! # #[cfg(feature = "client")]
//! assert!(turnkit_http::client::is_transient(503) && !turnkit_http::client::is_transient(404));
//! ```
//!
//! Features, of which none is on by default, because hardly anyone needs both:
//! - **`client`**: base URLs that are checked, bearer tokens that do not print, `Retry-After`, statuses that pass,
//!   what the body of an error says. It brings no HTTP client and no runtime.
//! - **`tls`**: TLS for such a client, with the provider of cryptography that the process has installed, or that of
//!   **`tls-aws-lc`** or **`tls-ring`**.
//! - **`server`**: an accept loop for untrusted peers, checks of `Host` and `Origin`, bodies bounded in size and time, and the
//!   one shape of an error's body. It brings axum, hyper and tokio.
//!
//! # In scope
//! What a second server or client would otherwise copy.
//!
//! # Out of scope
//! Routes, sending requests, retry policies, TLS of servers.

#[cfg(any(feature = "client", feature = "server"))]
mod bearer;
#[cfg(any(feature = "client", feature = "server"))]
mod loopback;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;
