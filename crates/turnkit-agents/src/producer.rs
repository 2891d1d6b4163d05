//! Agents as producers, and producers as agents.
//!
//! ```
//! use turnkit_agent::RunRequest;
//! use turnkit_agents::{demo::Demo, producer};
//! # use turnkit::{BoxError, ExecutionId, FinalText, Persisted, TurnContext, TurnHooks, TurnIdentity};
//! # struct Hooks;
//! # impl TurnHooks for Hooks {
//! #     async fn persist_assistant_message(&self, _: &TurnContext, _: &FinalText) -> Result<Persisted, BoxError> {
//! #         Ok(Persisted::Saved)
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let (hooks, execution_id) = (Hooks, ExecutionId::derive("project", "s", 0)?);
//! # let identity = TurnIdentity { tenant_id: "t".into(), session_id: "s".into(), user_id: "u".into(), turn_index: 0 };
//! # let demo = Demo::new().pace(std::time::Duration::ZERO);
//! let request = RunRequest::new(execution_id.clone(), "hello");
//! let turn = turnkit::ChatTurn::new(identity, execution_id);
//! let (body, driver) = turn.start(producer::of(demo, request), hooks);
//! # drop(body);
//! # assert!(driver.await.result?.as_str().contains("hello"));
//! # Ok(()) }
//! ```
//!
//! A turn over [`of`] has no substrate: the agent ends with the process, and nobody can attach to it.

use std::{borrow::Cow, fmt};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use turnkit::{BoxError, Produced, TurnProducer};
use turnkit_agent::{Agent, AgentError, CancelHandle, ErasedAgent, EventStream, Run, RunRequest};
use turnkit_wire::{Event, kind::Class, view::Failure, write::TurnResult};

/// A producer out of an agent: the events of one run of `agent`, which starts when the first one is asked for.
///
/// Failures keep their message, their code and whether they are temporary. A turn that is stopped cancels the run and lets it
/// come to its own end; the engine waits 5 s for that. A producer that is dropped ends the run at once: without a substrate
/// there is nothing that it could live on in, so a turn whose process ends is lost. A run that was cancelled has no whole
/// answer, so the end of its stream is then a failure with the code [`CANCELLED`].
pub fn of(agent: impl Agent, request: RunRequest) -> AgentProducer {
    let (cancel, cancelled) = CancelHandle::new();
    let prompt = request.message().to_owned();
    let state = State::Ready(Box::new(agent), Box::new(Run::new(request, cancelled)));
    AgentProducer { state, cancel, prompt }
}

/// The code of a run that was cancelled before its end, where that must be told as a failure.
pub const CANCELLED: &str = "cancelled";

/// See [`of`].
pub struct AgentProducer {
    state: State,
    cancel: CancelHandle,
    prompt: String,
}

enum State {
    Ready(Box<dyn ErasedAgent>, Box<Run>),
    Running(EventStream),
    Over,
}

impl AgentProducer {
    /// What the run says next; none after its end.
    async fn step(&mut self) -> Option<Result<Event, AgentError>> {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Ready(agent, run) => State::Running(agent.run_boxed(*run)),
            state => state,
        };
        let State::Running(events) = &mut self.state else { return None };
        let next = events.next().await;
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Over;
        }
        next
    }
}

impl TurnProducer for AgentProducer {
    type Error = AgentError;

    async fn next(&mut self) -> Result<Produced, AgentError> {
        match self.step().await {
            Some(event) => event.map(Produced::Event),
            None if self.cancel.is_cancelled() => {
                Err(AgentError::new(CANCELLED, "the run was cancelled before its end"))
            }
            None => Ok(Produced::Done { final_text: None }),
        }
    }

    async fn cancel(&mut self) {
        self.cancel.cancel();
        if matches!(self.state, State::Running(_)) {
            while self.step().await.is_some() {}
        }
    }

    fn prompt(&self) -> Option<&str> {
        Some(&self.prompt)
    }

    fn error_code(error: &AgentError) -> Option<&str> {
        Some(error.code())
    }

    fn is_temporary(error: &AgentError) -> bool {
        error.is_temporary()
    }
}

impl fmt::Debug for AgentProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentProducer").finish_non_exhaustive()
    }
}

/// An agent out of producers: `produce` makes one for each run.
///
/// Failures keep their message, whether they are temporary, and their code; without one, it is [`FAILED`]. A run that is
/// cancelled cancels its producer; one that is dropped drops it, which stops what can stop. The text that a producer knows at
/// its end goes on as a `result`. `execution.*` events tell of a substrate's run and `session.run.*` events of a turn, and the
/// agent is neither: they are left out, but for `execution.failed` and `execution.cancelled`, which fail the run as they fail a
/// turn.
///
/// ```
/// use turnkit::{producer::from_events, wire::write::TurnResult};
/// use turnkit_agents::producer;
/// use turnkit_substrate::Substrate;
///
/// let agent = producer::agent_of(|request| {
///     from_events([TurnResult::new().final_text(request.message()).event()])
/// });
/// let substrate = Substrate::builder().agent("echo", agent).build()?;
/// # Ok::<(), turnkit_substrate::BuildError>(())
/// ```
pub fn agent_of<F, P>(produce: F) -> ProducerAgent<F>
where
    F: Fn(&RunRequest) -> P + Send + Sync + 'static,
    P: TurnProducer + 'static,
{
    ProducerAgent { produce, description: String::new() }
}

/// The code of a producer's failure that has none of its own.
pub const FAILED: &str = "producer_failed";

/// See [`agent_of`].
#[derive(Clone)]
pub struct ProducerAgent<F> {
    produce: F,
    description: String,
}

impl<F> ProducerAgent<F> {
    /// What `GET /agents` says about it. Default: nothing.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }
}

impl<F, P> Agent for ProducerAgent<F>
where
    F: Fn(&RunRequest) -> P + Send + Sync + 'static,
    P: TurnProducer + 'static,
{
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let producer = (self.produce)(run.request());
        stream::unfold(Some((producer, run)), async |running| {
            let (mut producer, run) = running?;
            let said = loop {
                let next = tokio::select! {
                    biased;
                    () = run.cancel().cancelled() => {
                        producer.cancel().await;
                        return None;
                    }
                    next = producer.next() => next,
                };
                match next {
                    Ok(Produced::Event(event)) => {
                        if let Some(said) = said(event) {
                            break said;
                        }
                    }
                    Ok(Produced::Done { final_text }) => {
                        let result = TurnResult::new().final_text(&final_text?).event();
                        return Some((Ok(result), None));
                    }
                    Err(error) => return Some((Err(failure::<P>(error)), None)),
                }
            };
            let goes_on = said.is_ok().then_some((producer, run));
            Some((said, goes_on))
        })
    }

    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.description)
    }
}

impl<F> fmt::Debug for ProducerAgent<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerAgent").finish_non_exhaustive()
    }
}

/// What an agent says where a producer gives this event; none where it says nothing.
fn said(event: Event) -> Option<Result<Event, AgentError>> {
    match event.class() {
        // An agent may send an `error` itself.
        Class::Error => Some(Ok(event)),
        class if class.is_failure() => Some(Err(told(&event))),
        class if class.is_reserved() || class.is_envelope() => None,
        _ => Some(Ok(event)),
    }
}

/// The failure that an event tells.
fn told(event: &Event) -> AgentError {
    let (code, message) = match event.class() {
        Class::ExecutionCancelled => (CANCELLED, "the execution was cancelled"),
        _ => (FAILED, "the execution failed"),
    };
    let view = Failure::of(event).unwrap_or_default();
    let code = view.code().map_or(Cow::Borrowed(code), |code| code.to_str());
    let message = view.message().map_or(Cow::Borrowed(message), |message| message.to_str());
    agent_error(&code, message, view.temporary() == Some(true))
}

fn failure<P: TurnProducer>(error: P::Error) -> AgentError {
    let code = P::error_code(&error).unwrap_or(FAILED).to_owned();
    let is_temporary = P::is_temporary(&error);
    let error: BoxError = error.into();
    agent_error(&code, error.to_string(), is_temporary)
}

fn agent_error(code: &str, message: impl Into<String>, is_temporary: bool) -> AgentError {
    let error = AgentError::new(code, message);
    if is_temporary { error.temporary() } else { error }
}
