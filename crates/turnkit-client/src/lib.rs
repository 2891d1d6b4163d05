//! A client of turnkit's chat routes: a turn is followed to its end, whatever the network does.
//!
//! ```no_run
//! # async fn chat() -> Result<(), Box<dyn std::error::Error>> {
//! use turnkit_client::{Client, NewTurn, Update};
//!
//! let client = Client::builder("http://127.0.0.1:8787").build()?;
//! let session = client.create_session().await?;
//! let mut turn = client.send(&session, &NewTurn::new("turn-1", "Hello"))?;
//! while let Some(update) = turn.next().await? {
//!     match update {
//!         Update::Connected { cursor: 0, .. } => println!("from the first event: draw anew"),
//!         Update::Event { event, .. } => println!("{}", event.as_json()), // each once, and in order
//!         Update::Completed { .. } => println!("saved"),
//!         Update::Failed { failure, .. } => println!("failed to {failure}"),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! What holds ([PROTOCOL](https://github.com/turnkit/turnkit/blob/main/docs/PROTOCOL.md) 4.4):
//! - A start that nobody answered is sent again under the same `turnId`, so it starts one turn; after a body has come nothing
//!   that is sent can start one.
//! - Each event comes once and in order, over any number of connections, byte for byte as the server sent it.
//! - What is refused for now is waited out, for as long as `Retry-After` says; what is refused for good is told at once.
//! - No redirect is followed, no proxy of the environment is used, and no token is printed.
//! - Lines, answers and waits have bounds.
//!
//! Without the feature `reqwest` (on by default) it brings no HTTP client and no TLS: give it a
//! [`transport`](ClientBuilder::transport), or drive [`follow::Follow`] alone.
//!
//! # In scope
//! The routes of PROTOCOL 4.2 as a user's program calls them, following turns, and the user's feed.
//!
//! # Out of scope
//! Drawing an answer, storing a cursor, the substrate's routes.

mod client;
mod error;
mod feed;
pub mod follow;
mod model;
mod transport;
mod turn;

pub use client::{Client, ClientBuilder};
pub use error::{BoxError, BuildError, Error, Refusal, TurnFailure};
pub use feed::{Feed, FeedEntry};
pub use model::{
    AgentInfo, AgentTakes, Agents, Answered, Cancelled, Me, Message, MessageError, NewAnswer,
    NewTurn, OpenTurn, SessionInfo, SessionState,
};
pub use turn::{Turn, TurnBody, Update};
