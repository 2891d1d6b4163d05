//! The product side of a chat: turns that run once, are seen once and saved once (PROTOCOL 4.2).
//!
//! It knows the turn engine, the adapter and a [`ChatStore`]; agents, and the substrate that runs them, are behind HTTP.

mod principal;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod store;
mod turn;

pub use self::principal::Principal;
pub use self::store::{ChatStore, StoreError, StoreErrorKind};
pub use self::turn::{
    Answer, Ending, Failure, Message, NewTurn, Role, Said, SessionId, SessionInfo, Turn, TurnRef,
    TurnState,
};
