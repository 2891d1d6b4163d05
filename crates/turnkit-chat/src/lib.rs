//! The product side of a chat: turns that run once, are seen once and saved once (PROTOCOL 4.2).
//!
//! It knows the turn engine, the adapter and a [`ChatStore`]; agents, and the substrate that runs them, are behind HTTP.

mod agents;
mod attendant;
mod chat;
mod hooks;
mod observer;
mod principal;
mod refusal;
#[cfg(feature = "axum")]
mod router;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod store;
#[cfg(feature = "axum")]
pub mod tokens;
mod turn;
mod turns;

pub use self::attendant::Attendant;
pub use self::chat::{BuildError, Chat, ChatBuilder, Stopped, TurnStream};
pub use self::hooks::Hooks;
pub use self::observer::{Attempt, AttemptObserver, Cause, Observer, Role as AttemptRole};
pub use self::principal::Principal;
pub use self::refusal::Refusal;
#[cfg(feature = "axum")]
pub use self::router::LocalUser;
pub use self::store::{ChatStore, StoreError, StoreErrorKind};
pub use self::turn::{
    Answer, Ending, Failure, Message, NewTurn, Role, Said, SessionId, SessionInfo, Turn, TurnRef,
    TurnState,
};
