//! What runs behind a substrate: the [`Agent`] trait, and those that are built in (PROTOCOL 3.4).

mod cancel;
#[cfg(all(feature = "command", unix))]
pub mod command;
pub mod demo;
mod names;
#[cfg(feature = "openai")]
pub mod openai;
mod request;

use std::{borrow::Cow, pin::Pin, sync::Arc};

use futures_core::Stream;
use thiserror::Error;
use turnkit_wire::Event;

pub use self::{
    cancel::Cancel,
    request::{Backend, RunRequest},
};
pub(crate) use self::{
    cancel::{CancelHandle, Stop},
    names::Agents,
    request::InvalidBody,
};

/// Something that answers a message with events.
///
/// ```
/// use futures_util::stream;
/// use turnkit_substrate::{Agent, AgentError, Cancel, RunRequest};
/// use turnkit_wire::Event;
///
/// struct Echo;
///
/// impl Agent for Echo {
///     fn run(
///         &self,
///         request: RunRequest,
///         _cancel: Cancel,
///     ) -> impl futures_core::Stream<Item = Result<Event, AgentError>> + Send + 'static {
///         let data = serde_json::json!({ "finalText": request.message() });
///         let result = Event::new("result", &data).map_err(|error| AgentError::new("encode", error.to_string()));
///         stream::iter([result])
///     }
/// }
/// ```
pub trait Agent: Send + Sync + 'static {
    /// The events of one run, in order.
    ///
    /// Every event is stored before any reader sees it, and no reader slows the run down. After the end of the stream the
    /// execution is completed, after an `Err` it has failed; nothing is polled after either. `execution.*` events are the
    /// substrate's own: a run that sends one fails with `reserved_event`.
    ///
    /// **Cancelled or timed out**: the execution ends at once, and no later event is stored. The stream is polled on for up
    /// to [`CANCEL_GRACE`], so that an agent that listens to `cancel` can stop its work; then
    /// it is dropped, which must stop whatever is left.
    ///
    /// **Panics** here or in the stream end the execution with `execution.failed`, code `panic`.
    fn run(
        &self,
        request: RunRequest,
        cancel: Cancel,
    ) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static;

    /// One line about it, for `GET /agents`.
    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
}

impl<T: Agent> Agent for Arc<T> {
    fn run(
        &self,
        request: RunRequest,
        cancel: Cancel,
    ) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        T::run(self, request, cancel)
    }

    fn description(&self) -> Cow<'_, str> {
        T::description(self)
    }
}

/// How long a cancelled agent may still work on its own end.
pub const CANCEL_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// The failure of a run, as `execution.failed` tells it to every reader. So no secret belongs into it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct AgentError {
    code: String,
    message: String,
}

impl AgentError {
    /// A failure with this code (a word like `upstream_error`; anything else than 1 to 64 of `A-Za-z0-9._-` becomes
    /// `agent_error`) and this message, of which 500 characters are kept.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let code = if is_name(code) { code } else { "agent_error" };
        Self { code: code.to_owned(), message: bounded(message.into()) }
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Its message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// An [`Agent`] whose type does not matter any more: what a substrate holds.
pub trait ErasedAgent: Send + Sync + 'static {
    /// [`Agent::run`], boxed.
    fn run_boxed(&self, request: RunRequest, cancel: Cancel) -> EventStream;

    /// [`Agent::description`].
    fn description_boxed(&self) -> Cow<'_, str>;
}

/// The events of one run of any agent.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, AgentError>> + Send>>;

impl<A: Agent> ErasedAgent for A {
    fn run_boxed(&self, request: RunRequest, cancel: Cancel) -> EventStream {
        Box::pin(self.run(request, cancel))
    }

    fn description_boxed(&self) -> Cow<'_, str> {
        self.description()
    }
}

/// Whether `name` can be the name of an agent, or a code: 1 to 64 of `A-Za-z0-9._-`.
pub(crate) fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// At most 500 characters of a message.
fn bounded(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(500) {
        message.truncate(end);
    }
    message
}
