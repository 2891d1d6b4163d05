//! Hooks that remember what was asked of them, and answer as a test says.

use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use turnkit::{
    Answer, BoxError, Event, ExecutionId, FinalText, Hook, Persisted, RawText, TurnContext,
    TurnError, TurnHooks,
};

type OnCall = Box<dyn Fn(&Call) + Send + Sync>;

/// Hooks over a [`Store`] that record every [`Call`] in order. Share them with `Arc`.
///
/// ```
/// use std::sync::Arc;
/// use turnkit_testkit::Recorder;
///
/// let hooks = Arc::new(Recorder::new());
/// # let (body, driver) = turnkit_testkit::turn().start(turnkit_testkit::Script::new(), hooks.clone());
/// # drop((body, driver));
/// assert!(hooks.calls().is_empty());
/// ```
#[derive(Default)]
pub struct Recorder {
    store: Store,
    looks_up: bool,
    transform: Option<fn(String) -> String>,
    faults: HashMap<Hook, Fault>,
    on_call: Option<OnCall>,
    calls: Mutex<Vec<Call>>,
}

/// How a hook misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It returns an error with this message.
    Error(String),
    /// It panics with this text.
    Panic(&'static str),
    /// It never returns. `on_event`, which is not asynchronous, returns all the same.
    Hang,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `find_completed`
    FindCompleted,
    /// `on_event`, with the event
    Event(Event),
    /// `transform_final_text`, with the raw text
    Transform(String),
    /// `persist_assistant_message`, with the final text
    Persist(String),
    /// `on_turn_complete`, with the final text
    Complete(String),
    /// `on_turn_failed`
    Failed {
        /// The failure's code.
        code: Option<String>,
        /// The failure's message.
        message: String,
        /// The partial text.
        partial: String,
    },
    /// `trace_flush`
    Flush,
}

impl Call {
    /// The hook that was called.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Self::FindCompleted => Hook::FindCompleted,
            Self::Event(_) => Hook::OnEvent,
            Self::Transform(_) => Hook::TransformFinalText,
            Self::Persist(_) => Hook::PersistAssistantMessage,
            Self::Complete(_) => Hook::OnTurnComplete,
            Self::Failed { .. } => Hook::OnTurnFailed,
            Self::Flush => Hook::TraceFlush,
        }
    }
}

/// The hook's name, and what it was called with.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = self.hook();
        match self {
            Self::FindCompleted | Self::Flush => write!(f, "{hook}"),
            Self::Event(event) => write!(f, "{hook} {}", event.kind()),
            Self::Transform(text) | Self::Persist(text) | Self::Complete(text) => {
                write!(f, "{hook} {text:?}")
            }
            Self::Failed { code, partial, .. } => {
                write!(f, "{hook} {} {partial:?}", code.as_deref().unwrap_or("-"))
            }
        }
    }
}

impl Recorder {
    /// Hooks over a store of their own, which look up nothing and never fail.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Over a store that other attempts share.
    #[must_use]
    pub fn store(mut self, store: &Store) -> Self {
        self.store = store.clone();
        self
    }

    /// `find_completed` looks into the store.
    #[must_use]
    pub fn looks_up(mut self) -> Self {
        self.looks_up = true;
        self
    }

    /// `transform_final_text` applies `transform`.
    #[must_use]
    pub fn transform(mut self, transform: fn(String) -> String) -> Self {
        self.transform = Some(transform);
        self
    }

    /// `hook` returns an error with `message`.
    #[must_use]
    pub fn fails(self, hook: Hook, message: &str) -> Self {
        self.fault(hook, Fault::Error(message.into()))
    }

    /// `hook` misbehaves. `persist_assistant_message` saves first, as a commit whose answer is lost.
    #[must_use]
    pub fn fault(mut self, hook: Hook, fault: Fault) -> Self {
        self.faults.insert(hook, fault);
        self
    }

    /// Runs `on_call` at the beginning of each call.
    #[must_use]
    pub fn on_call(mut self, on_call: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        self.on_call = Some(Box::new(on_call));
        self
    }

    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// The calls so far without those of `on_event`, as [`Call`] displays them.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let calls = self.calls();
        let aside = calls.iter().filter(|call| call.hook() != Hook::OnEvent);
        aside.map(Call::to_string).collect()
    }

    /// The events that `on_event` saw.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let event = |call| match call {
            Call::Event(event) => Some(event),
            _ => None,
        };
        self.calls().into_iter().filter_map(event).collect()
    }

    /// What was saved under `id`.
    #[must_use]
    pub fn saved(&self, id: &ExecutionId) -> Option<String> {
        self.store.get(id)
    }

    fn record(&self, call: Call) {
        if let Some(on_call) = &self.on_call {
            on_call(&call);
        }
        lock(&self.calls).push(call);
    }

    fn misbehave(&self, hook: Hook) -> Result<(), BoxError> {
        match self.faults.get(&hook) {
            Some(Fault::Error(message)) => Err(message.clone().into()),
            Some(Fault::Panic(text)) => panic!("{text}"),
            Some(Fault::Hang) | None => Ok(()),
        }
    }

    async fn answer(&self, hook: Hook) -> Result<(), BoxError> {
        if self.faults.get(&hook) == Some(&Fault::Hang) {
            pending::<()>().await;
        }
        self.misbehave(hook)
    }
}

impl TurnHooks for Recorder {
    async fn find_completed(&self, cx: &TurnContext) -> Result<Option<Answer>, BoxError> {
        self.record(Call::FindCompleted);
        self.answer(Hook::FindCompleted).await?;
        Ok(self.saved(cx.execution_id()).filter(|_| self.looks_up).map(Answer::from))
    }

    fn on_event(&self, _: &TurnContext, event: &Event) -> Result<(), BoxError> {
        self.record(Call::Event(event.clone()));
        self.misbehave(Hook::OnEvent)
    }

    async fn transform_final_text(
        &self,
        _: &TurnContext,
        text: RawText,
    ) -> Result<String, BoxError> {
        self.record(Call::Transform(text.as_str().into()));
        self.answer(Hook::TransformFinalText).await?;
        let text = text.into_string();
        Ok(match self.transform {
            Some(transform) => transform(text),
            None => text,
        })
    }

    async fn persist_assistant_message(
        &self,
        cx: &TurnContext,
        text: &FinalText,
    ) -> Result<Persisted, BoxError> {
        self.record(Call::Persist(text.as_str().into()));
        let persisted = self.store.save(cx.execution_id(), text.as_str());
        self.answer(Hook::PersistAssistantMessage).await?;
        Ok(persisted)
    }

    async fn on_turn_complete(&self, _: &TurnContext, text: &FinalText) -> Result<(), BoxError> {
        self.record(Call::Complete(text.as_str().into()));
        self.answer(Hook::OnTurnComplete).await
    }

    async fn on_turn_failed(
        &self,
        _: &TurnContext,
        failure: &TurnError,
        partial: &RawText,
    ) -> Result<(), BoxError> {
        self.record(Call::Failed {
            code: failure.code().map(str::to_owned),
            message: failure.to_string(),
            partial: partial.as_str().into(),
        });
        self.answer(Hook::OnTurnFailed).await
    }

    async fn trace_flush(&self, _: &TurnContext) -> Result<(), BoxError> {
        self.record(Call::Flush);
        self.answer(Hook::TraceFlush).await
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("calls", &lock(&self.calls).len()).finish_non_exhaustive()
    }
}

/// Saved messages by execution id, as a product's database keeps them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<HashMap<ExecutionId, String>>>);

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Saves `text` unless something is saved under `id`.
    #[must_use]
    pub fn save(&self, id: &ExecutionId, text: &str) -> Persisted {
        let mut messages = lock(&self.0);
        if messages.contains_key(id) {
            return Persisted::AlreadySaved;
        }
        messages.insert(id.clone(), text.into());
        Persisted::Saved
    }

    /// What is saved under `id`.
    #[must_use]
    pub fn get(&self, id: &ExecutionId) -> Option<String> {
        lock(&self.0).get(id).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
