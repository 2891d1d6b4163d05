//! Producers that do what a test says.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use turnkit::{Event, Produced, TurnProducer};

use crate::events;

/// A producer that plays steps one after another, then answers [`Done`](Produced::Done).
///
/// ```
/// use turnkit_testkit::Script;
///
/// let script = Script::new().text("Hello, ").text("world").fail("the model is gone");
/// let probe = script.probe();
/// assert_eq!(probe.asked(), 0);
/// ```
pub struct Script {
    steps: VecDeque<Step>,
    prompt: Option<String>,
    cancel: Option<Pause>,
    probe: Probe,
    watch: Arc<Mutex<Seen>>,
}

enum Step {
    Event(Event),
    Wait(Pause),
    Fail(ScriptError),
    Panic(&'static str),
    Done(Option<String>),
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Script {
    /// A script without steps: it is done at once.
    #[must_use]
    pub fn new() -> Self {
        let watch = Arc::<Mutex<Seen>>::default();
        Self {
            steps: VecDeque::new(),
            prompt: None,
            cancel: None,
            probe: Probe(watch.clone()),
            watch,
        }
    }

    /// Produces `event`.
    #[must_use]
    pub fn event(self, event: Event) -> Self {
        self.step(Step::Event(event))
    }

    /// Produces `events`, one by one.
    #[must_use]
    pub fn events(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.steps.extend(events.into_iter().map(Step::Event));
        self
    }

    /// Produces a `message.part.updated` that appends `delta` to the text part `prt_1`.
    #[must_use]
    pub fn text(self, delta: &str) -> Self {
        self.event(events::delta("prt_1", delta))
    }

    /// Is pending until `pause` is over.
    #[must_use]
    pub fn wait(self, pause: impl Future<Output = ()> + Send + 'static) -> Self {
        self.step(Step::Wait(Box::pin(pause)))
    }

    /// Fails, not retryable and without a code.
    #[must_use]
    pub fn fail(self, message: &str) -> Self {
        self.fail_with(ScriptError::new(message))
    }

    /// Fails with `error`.
    #[must_use]
    pub fn fail_with(self, error: ScriptError) -> Self {
        self.step(Step::Fail(error))
    }

    /// Panics with `text`.
    #[must_use]
    pub fn panic(self, text: &'static str) -> Self {
        self.step(Step::Panic(text))
    }

    /// Is done, and knows the whole answer.
    #[must_use]
    pub fn done_with(self, final_text: &str) -> Self {
        self.step(Step::Done(Some(final_text.into())))
    }

    /// Says that the user's prompt is `prompt`.
    #[must_use]
    pub fn prompt(mut self, prompt: &str) -> Self {
        self.prompt = Some(prompt.into());
        self
    }

    /// Takes `pause` to cancel.
    #[must_use]
    pub fn cancel_takes(mut self, pause: impl Future<Output = ()> + Send + 'static) -> Self {
        self.cancel = Some(Box::pin(pause));
        self
    }

    /// What can be asked about the script while the engine owns it.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    fn see(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl TurnProducer for Script {
    type Error = ScriptError;

    async fn next(&mut self) -> Result<Produced, ScriptError> {
        self.see(|seen| {
            seen.asked += 1;
            seen.asked_after_end |= seen.ended;
        });
        let torn = Torn::new(self.watch.clone());
        let answer = loop {
            match self.steps.pop_front() {
                Some(Step::Event(event)) => break Ok(Produced::Event(event)),
                Some(Step::Wait(pause)) => pause.await,
                Some(Step::Fail(error)) => break Err(error),
                Some(Step::Panic(text)) => panic!("{text}"),
                Some(Step::Done(final_text)) => break Ok(Produced::Done { final_text }),
                None => break Ok(Produced::Done { final_text: None }),
            }
        };
        torn.whole();
        let ended = !matches!(answer, Ok(Produced::Event(_)));
        self.see(|seen| seen.ended |= ended);
        answer
    }

    async fn cancel(&mut self) {
        self.see(|seen| seen.cancelled += 1);
        if let Some(pause) = self.cancel.take() {
            pause.await;
        }
    }

    fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    fn error_code(error: &ScriptError) -> Option<&str> {
        error.code.as_deref()
    }

    fn is_retryable(error: &ScriptError) -> bool {
        error.retryable
    }

    fn is_temporary(error: &ScriptError) -> bool {
        error.temporary
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.see(|seen| seen.dropped = true);
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.len();
        f.debug_struct("Script").field("steps", &steps).finish_non_exhaustive()
    }
}

/// What a [`Script`] fails with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    message: String,
    code: Option<String>,
    retryable: bool,
    temporary: bool,
}

impl ScriptError {
    /// An error without a code, neither retryable nor temporary.
    #[must_use]
    pub fn new(message: &str) -> Self {
        Self { message: message.into(), code: None, retryable: false, temporary: false }
    }

    /// With a code.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.into());
        self
    }

    /// And retryable.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// And temporary: a new turn may help.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ScriptError {}

/// What happened to a [`Script`].
#[derive(Clone, Debug)]
pub struct Probe(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    asked: usize,
    cancelled: usize,
    ended: bool,
    asked_after_end: bool,
    torn: usize,
    dropped: bool,
}

impl Probe {
    /// How often `next` was called.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.look(|seen| seen.asked)
    }

    /// How often `cancel` was called.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.look(|seen| seen.cancelled)
    }

    /// Whether `next` was called after `Done` or an error, which the engine must never do.
    #[must_use]
    pub fn was_asked_after_its_end(&self) -> bool {
        self.look(|seen| seen.asked_after_end)
    }

    /// How many futures of `next` were dropped while they were pending.
    #[must_use]
    pub fn torn(&self) -> usize {
        self.look(|seen| seen.torn)
    }

    /// Whether the script was dropped.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.look(|seen| seen.dropped)
    }

    fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts itself as torn when it is dropped before it is whole.
struct Torn(Option<Arc<Mutex<Seen>>>);

impl Torn {
    fn new(watch: Arc<Mutex<Seen>>) -> Self {
        Self(Some(watch))
    }

    fn whole(mut self) {
        self.0 = None;
    }
}

impl Drop for Torn {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.lock().unwrap_or_else(PoisonError::into_inner).torn += 1;
        }
    }
}
