//! One attempt at a turn, before it starts.

use std::time::Duration;

use turnkit_id::ExecutionId;

use crate::{
    InlineTurn, Timer, TurnBody, TurnDriver, TurnHooks, TurnProducer, driver::Attempt, pipe,
    timer::Clock,
};

/// Whose turn it is, and which (PROTOCOL 2).
///
/// `tenant_id`, `session_id` and `turn_index` go to the client in `session.run.started`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TurnIdentity {
    /// The tenant.
    pub tenant_id: String,
    /// The session, that is, the conversation.
    pub session_id: String,
    /// The user.
    pub user_id: String,
    /// The turn's place in its session, counted from 0.
    pub turn_index: u64,
}

/// What every hook is told about the turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TurnContext {
    pub(crate) identity: TurnIdentity,
    pub(crate) execution_id: ExecutionId,
    pub(crate) turn_id: Option<String>,
}

impl TurnContext {
    /// Whose turn it is, and which.
    #[must_use]
    pub fn identity(&self) -> &TurnIdentity {
        &self.identity
    }

    /// The idempotency key of everything that the turn writes.
    #[must_use]
    pub fn execution_id(&self) -> &ExecutionId {
        &self.execution_id
    }

    /// The client's own name for the turn, where the product knows one.
    #[must_use]
    pub fn turn_id(&self) -> Option<&str> {
        self.turn_id.as_deref()
    }
}

/// What happens to a turn whose client leaves (PROTOCOL 2.4). Acts until the producer is done; from
/// `transform_final_text` on every attempt runs to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientLeft {
    /// The turn goes on, persists and completes.
    #[default]
    Continue,
    /// The turn is cancelled, as by [`TurnHandle::cancel`](crate::TurnHandle::cancel).
    Cancel,
    /// The attempt ends quietly and no hook runs: for resumed attempts at a turn that another attempt drives.
    Abandon,
}

/// One attempt at a chat turn: values in, a body and a driver out (PROTOCOL 2).
///
/// ```
/// use turnkit::{BoxError, ChatTurn, ExecutionId, TurnIdentity};
/// # use turnkit::{FinalText, Persisted, TurnContext, TurnHooks, producer};
/// # struct Hooks;
/// # impl TurnHooks for Hooks {
/// #     async fn persist_assistant_message(&self, _: &TurnContext, _: &FinalText) -> Result<Persisted, BoxError> {
/// #         Ok(Persisted::Saved)
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let (producer, hooks) = (producer::failed("no_agent", "there is no agent"), Hooks);
/// let identity = TurnIdentity {
///     tenant_id: "acme".into(),
///     session_id: "thread-abc".into(),
///     user_id: "ada".into(),
///     turn_index: 3,
/// };
/// let execution_id = ExecutionId::derive("gtm-agent", &identity.session_id, identity.turn_index)?;
/// let (body, driver) = ChatTurn::new(identity, execution_id).start(producer, hooks);
/// tokio::spawn(driver);
/// # let _ = body;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a turn does nothing until it is started"]
pub struct ChatTurn {
    context: TurnContext,
    settings: Settings,
}

/// How an attempt is run.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) resume_after: u64,
    pub(crate) client_left: ClientLeft,
    pub(crate) keep_alive: Duration,
    pub(crate) client_stall: Duration,
    pub(crate) hook_timeout: Duration,
    pub(crate) max_text: usize,
    pub(crate) max_parts: usize,
    pub(crate) prefers_log: bool,
    pub(crate) clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            resume_after: 0,
            client_left: ClientLeft::Continue,
            keep_alive: Duration::from_secs(15),
            client_stall: Duration::from_secs(60),
            hook_timeout: Duration::from_secs(30),
            max_text: 16 * 1024 * 1024,
            max_parts: 4 * 1024 * 1024,
            prefers_log: false,
            clock: Clock::default(),
        }
    }
}

impl ChatTurn {
    /// An attempt at the turn `identity`, with every setting at its default.
    pub fn new(identity: TurnIdentity, execution_id: ExecutionId) -> Self {
        let context = TurnContext { identity, execution_id, turn_id: None };
        let settings = Settings::default();
        Self { context, settings }
    }

    /// The client's own name for the turn, told in `session.run.started`. Default: none.
    pub fn turn_id(mut self, id: impl Into<String>) -> Self {
        self.context.turn_id = Some(id.into());
        self
    }

    /// Asks the producer before `find_completed`, which then is asked only where the producer [has lost its
    /// events](crate::TurnProducer::is_lost): so a client gets the lines that it lacks, and not a replay, also once the answer is
    /// saved (PROTOCOL 2.5). Only for producers that start nothing. Default: off.
    pub fn prefer_log(mut self) -> Self {
        self.settings.prefers_log = true;
        self
    }

    /// Leaves out the first `events` of `session.run.started` and the producer's events: what the client has (PROTOCOL 2.5).
    /// Terminal lines are always sent. Hooks see every line. Default: 0.
    pub fn resume_after(mut self, events: u64) -> Self {
        self.settings.resume_after = events;
        self
    }

    /// What happens when the body is dropped before its end. Default: [`ClientLeft::Continue`].
    pub fn on_client_left(mut self, policy: ClientLeft) -> Self {
        self.settings.client_left = policy;
        self
    }

    /// How long the body is silent before a blank line is sent, so that no proxy takes it for dead. `Duration::MAX` turns it
    /// off. Default: 15 s.
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.settings.keep_alive = every;
        self
    }

    /// How long the turn waits, in all, for a body that is not read; then the body is cut and the turn goes on.
    /// `Duration::MAX` waits for ever. Default: 60 s.
    pub fn client_stall(mut self, in_all: Duration) -> Self {
        self.settings.client_stall = in_all;
        self
    }

    /// How long each call of an asynchronous hook may take. `Duration::MAX` waits for ever. Default: 30 s.
    pub fn hook_timeout(mut self, after: Duration) -> Self {
        self.settings.hook_timeout = after;
        self
    }

    /// How much text of the answer is held, in bytes. Default: 16 MiB.
    pub fn max_text(mut self, bytes: usize) -> Self {
        self.settings.max_text = bytes;
        self
    }

    /// How much is held of the answer's parts beside its text, in bytes: reasoning, tools, files, sources, data and warnings.
    /// What is beyond it says that it was cut (PROTOCOL 2.3). Default: 4 MiB.
    pub fn max_parts(mut self, bytes: usize) -> Self {
        self.settings.max_parts = bytes;
        self
    }

    /// Where time comes from. Default: the tokio runtime that polls the driver, if there is one.
    ///
    /// Give one in a tokio runtime whose time is not enabled: tokio tells that only by a panic, which the engine catches, but
    /// which the process's panic hook prints.
    pub fn timer(mut self, timer: impl Timer) -> Self {
        self.settings.clock = Clock::new(timer);
        self
    }

    /// The body for the client, and the driver, which must be polled to its end: spawn it, or give it to whoever keeps the
    /// process alive.
    pub fn start<P, H>(self, producer: P, hooks: H) -> (TurnBody, TurnDriver)
    where
        P: TurnProducer + 'static,
        H: TurnHooks + 'static,
    {
        let (writer, reader) = pipe::pipe(pipe::CAPACITY);
        let canceller = reader.canceller();
        let body = TurnBody::new(reader, self.context.execution_id.clone());
        let attempt =
            Attempt { context: self.context, settings: self.settings, producer, hooks, writer };
        (body, TurnDriver::new(attempt, canceller))
    }

    /// One stream that drives the turn itself while it is read, for tests and one-shot programs. Whoever stops reading stops
    /// the turn.
    pub fn start_inline<P, H>(mut self, producer: P, hooks: H) -> InlineTurn
    where
        P: TurnProducer + 'static,
        H: TurnHooks + 'static,
    {
        // Its reader is its driver: a reader that pauses pauses the turn, and cannot stall it.
        self.settings.client_stall = Duration::MAX;
        let (body, driver) = self.start(producer, hooks);
        InlineTurn::new(body, driver)
    }

    /// [`start`](Self::start), with the driver spawned on the current tokio runtime. Needs the feature `tokio`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[cfg(feature = "tokio")]
    pub fn spawn<P, H>(
        self,
        producer: P,
        hooks: H,
    ) -> (TurnBody, crate::TurnHandle, tokio::task::JoinHandle<crate::TurnOutcome>)
    where
        P: TurnProducer + 'static,
        H: TurnHooks + 'static,
    {
        let (body, driver) = self.start(producer, hooks);
        let handle = driver.handle();
        (body, handle, tokio::spawn(driver))
    }
}
