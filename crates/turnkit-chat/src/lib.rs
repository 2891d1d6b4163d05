//! The product side of a chat, as a library: turns that run once, are seen once and saved once (PROTOCOL 4.2, 4.3).
//!
//! ```no_run
//! # #[cfg(all(feature = "axum", feature = "sqlite"))]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use turnkit_chat::{Chat, LocalUser, sqlite::SqliteStore};
//! use turnkit_sandbox::SandboxClient;
//!
//! let agents = SandboxClient::builder("http://127.0.0.1:8788").build()?;
//! let (chat, attendant) = Chat::builder(SqliteStore::open("chat.db")?, agents).build().await?;
//! tokio::spawn(attendant);
//! let routes = chat.router::<(), LocalUser>(); // an `axum::Router`; every call works without HTTP as well
//! # drop(routes);
//! # Ok(()) }
//! ```
//!
//! A turn and its user's message are one transaction. A turn is **dispatched once**: whoever claims its lease first marks it so,
//! and everything later attaches to the same execution. One attempt **drives** a turn, and goes on when its client leaves; all others
//! **read along**. Each of them saves the answer, keyed by execution id, and writes down an ending that the log tells. The
//! [`Attendant`] takes up what a dead process has left. What the product itself writes about a turn is written in the same
//! transactions (`sqlite::InTransaction`, `postgres::InTransaction`).
//!
//! # In scope
//! Sessions, turns, messages, who drives a turn, stopping, shutdown; a store in memory; behind `sqlite`, one in a file for one
//! machine; behind `postgres`, one for many; behind `axum`, the routes and users by tokens.
//!
//! # Out of scope
//! The order of hooks (`turnkit`), reconnecting to the substrate (`turnkit-sandbox`), running agents (`turnkit-substrate`), a login,
//! the page.

mod agents;
mod attendant;
mod chat;
mod feed;
mod hooks;
mod observer;
#[cfg(feature = "postgres")]
pub mod postgres;
mod principal;
mod refusal;
#[cfg(feature = "axum")]
mod router;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod store;
mod title;
#[cfg(feature = "axum")]
pub mod tokens;
#[cfg(feature = "axum")]
mod trusted_header;
mod turn;
mod turns;

pub use self::attendant::Attendant;
pub use self::chat::{BuildError, Chat, ChatBuilder, Ended, Pending, Started, Stopped, TurnStream};
pub use self::feed::Events;
pub use self::hooks::Hooks;
pub use self::observer::{Attempt, AttemptObserver, Cause, Observer, Role as AttemptRole};
pub use self::principal::Principal;
pub use self::refusal::Refusal;
#[cfg(feature = "axum")]
pub use self::router::LocalUser;
pub use self::store::{ChatStore, StoreError, StoreErrorKind};
pub use self::title::first_words;
#[cfg(feature = "axum")]
pub use self::trusted_header::{Network, NoNetwork, TrustedHeader, TrustedUser};
pub use self::turn::{
    Ending, Failure, Message, NewTurn, QueuedTurn, Role, Said, SessionId, SessionInfo, Turn,
    TurnRef, TurnState,
};

/// What is kept of an answer.
pub use turnkit::{Answer, AnswerPart, PartKind, Summary};
/// What the routes answer where they refuse: also for what a product's own extractor rejects.
#[cfg(feature = "axum")]
pub use turnkit_http::server::ApiError;
/// Origins whose pages may use the routes.
#[cfg(feature = "axum")]
pub use turnkit_http::server::{NoOrigin, Origins};

/// The guide, compiled as it is printed.
#[cfg(all(doctest, feature = "axum", feature = "sqlite"))]
#[doc = include_str!("../../../docs/guide/serve-a-turn.md")]
struct Guide;
