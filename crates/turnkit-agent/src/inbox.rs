use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;
use tokio::sync::Notify;
use turnkit_wire::{
    Event,
    interaction::{self, Answered, Interaction, Outcome},
    kind,
};

use crate::{AgentError, code};

/// What an agent takes from outside while it runs (PROTOCOL 3.6): nothing unless it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Answers: its `interaction` events are questions that somebody can answer, and its time stands still meanwhile.
    pub answers: bool,
    /// Input: messages into its running turn.
    pub input: bool,
}

impl Takes {
    /// Whether it takes anything.
    #[must_use]
    pub fn any(self) -> bool {
        self.answers || self.input
    }
}

/// What a running agent asks and is told, beside its [`Cancel`](crate::Cancel). Its other end is an [`InboxHandle`].
///
/// ```
/// # use turnkit_agent::{AgentError, Inbox};
/// # async fn clean_up(inbox: Inbox) -> Result<(), AgentError> {
/// use turnkit_wire::interaction::{Interaction, Kind};
///
/// let question = Interaction::new(Kind::Approval, "delete-1").title("Delete the folder build?");
/// if inbox.ask(&question).await?.is_accepted() {
///     // …
/// }
/// # Ok(()) }
/// ```
///
/// It is closed where the agent does not say that it [takes](crate::Agent::takes) anything, where it is asked by hand, and once
/// its run is stopped. Cloning gives another handle to the same inbox.
#[derive(Clone, Debug)]
pub struct Inbox(Arc<Shared>);

impl Inbox {
    /// One into which nothing ever comes.
    #[must_use]
    pub fn closed() -> Self {
        InboxHandle::new().1
    }

    /// Asks, and waits for the answer: sends the `interaction`, which every reader sees, and resolves once its
    /// `interaction.answered` is in the log.
    ///
    /// **Cancellation**: dropping the future, once it was polled, withdraws the question. What is answered all the same is told
    /// nobody.
    ///
    /// # Errors
    /// Where the inbox is closed: [`code::NOT_ANSWERED`]. A question that is not well-formed, or whose id is not new, ends
    /// the run instead (PROTOCOL 3.6).
    pub fn ask(
        &self,
        question: &Interaction<'_>,
    ) -> impl Future<Output = Result<Answer, AgentError>> + Send + use<> {
        let (shared, id, event) = (Arc::clone(&self.0), question.id().to_owned(), question.event());
        async move {
            let asking = shared.begin(id, event)?;
            loop {
                // Made before looking, so that an answer in between wakes it.
                let told = asking.shared.told.notified();
                if let Some(answer) = asking.answer() {
                    return answer;
                }
                told.await;
            }
        }
    }

    /// The next answer that no [`ask`](Self::ask) waits for, or the next input. An input counts as taken by that, and is told so
    /// to everybody. `None` once the inbox is closed.
    ///
    /// **Cancellation**: dropping the future takes nothing.
    pub async fn next(&self) -> Option<Received> {
        let received = self.next_untaken().await;
        if let Some(Received::Input(input)) = &received {
            self.taken(&input.id());
        }
        received
    }

    /// The next answer that no [`ask`](Self::ask) waits for, or the next input, which counts as taken only once that is said by
    /// [`taken`](Self::taken). One that never is may come to the agent again, as a turn of its own.
    pub async fn next_untaken(&self) -> Option<Received> {
        loop {
            let told = self.0.told.notified();
            {
                let mut state = self.0.lock();
                if let Some(event) = state.received.pop_front() {
                    return Some(Received::of(event));
                }
                if state.is_closed {
                    return None;
                }
            }
            told.await;
        }
    }

    /// Says that the agent has the input of this id.
    pub fn taken(&self, id: &str) {
        self.0.say(Said::Taken(id.to_owned()));
    }

    /// Whether nobody is there who could answer, or nobody any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// Takes back a question that was sent as an event.
    pub fn withdraw(&self, id: &str) {
        self.0.say(Said::Withdrawn(id.to_owned()));
    }
}

/// The other end of an [`Inbox`], for whoever runs the agent. Dropping it closes the inbox.
#[derive(Debug)]
pub struct InboxHandle(Arc<Shared>);

impl InboxHandle {
    /// A handle, and what the agent gets.
    #[must_use]
    pub fn new() -> (Self, Inbox) {
        let shared = Arc::new(Shared::default());
        (Self(Arc::clone(&shared)), Inbox(shared))
    }

    /// Tells the agent an `interaction.answered` or an `input`.
    pub fn deliver(&self, event: Event) {
        self.0.deliver(event);
    }

    /// The next thing that the agent says by its inbox. Dropping the future takes nothing.
    pub async fn said(&self) -> Said {
        loop {
            let said = self.0.said.notified();
            if let Some(now) = self.try_said() {
                return now;
            }
            said.await;
        }
    }

    /// What the agent has said by its inbox already: the oldest that [`said`](Self::said) has not given yet.
    #[must_use]
    pub fn try_said(&self) -> Option<Said> {
        self.0.lock().said.pop_front()
    }

    /// Whether [`try_said`](Self::try_said) would give something.
    #[must_use]
    pub fn has_said(&self) -> bool {
        !self.0.lock().said.is_empty()
    }

    /// Lets nothing more in and nothing more out: whoever waits for an answer is told that there will be none.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.received.clear();
        drop(state);
        self.0.told.notify_waiters();
    }
}

impl Drop for InboxHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// What an agent says by its inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// An `interaction`, to be treated as one of the run's events.
    Asked(Event),
    /// It no longer wants the answer to the question of this id.
    Withdrawn(String),
    /// It has the input of this id.
    Taken(String),
}

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// An answer to a question that it has sent as an event.
    Answer(Answer),
    /// A message into its running turn.
    Input(Input),
}

impl Received {
    fn of(event: Event) -> Self {
        if event.kind() == kind::INPUT {
            Self::Input(Input(event))
        } else {
            Self::Answer(Answer(event))
        }
    }

    /// The event as it is in the log.
    #[must_use]
    pub fn event(&self) -> &Event {
        match self {
            Self::Answer(Answer(event)) | Self::Input(Input(event)) => event,
        }
    }
}

/// What came of a question. It is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(Event);

impl Answer {
    /// The question's id.
    #[must_use]
    pub fn id(&self) -> Cow<'_, str> {
        self.view().id().map(|id| id.to_str()).unwrap_or_default()
    }

    /// What came of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        // The substrate makes the event, and knows no other outcome.
        self.view().outcome().unwrap_or(Outcome::Cancelled)
    }

    /// Whether somebody said yes, or answered.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.outcome() == Outcome::Accepted
    }

    /// The answer's data, as JSON. It fits the schema or options of the question where it is accepted.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        std::str::from_utf8(self.view().data()?.json()).ok()
    }

    /// The answer's data, read as a type of the agent's own.
    ///
    /// # Errors
    /// Data that is not of that type; no data counts as `null`.
    pub fn data_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.data().unwrap_or("null"))
    }

    /// The id of the option that was chosen.
    #[must_use]
    pub fn option(&self) -> Option<Cow<'_, str>> {
        Some(self.view().data()?.get("option")?.string()?.to_str())
    }

    /// Who said so.
    #[must_use]
    pub fn by(&self) -> Option<Cow<'_, str>> {
        Some(self.view().by()?.to_str())
    }

    fn view(&self) -> Answered<'_> {
        Answered::of(&self.0).unwrap_or_default()
    }
}

/// A message into the running turn. It is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input(Event);

impl Input {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> Cow<'_, str> {
        self.view().id().map(|id| id.to_str()).unwrap_or_default()
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        self.view().message().map(|message| message.to_str()).unwrap_or_default()
    }

    /// Who sent it.
    #[must_use]
    pub fn by(&self) -> Option<Cow<'_, str>> {
        Some(self.view().by()?.to_str())
    }

    fn view(&self) -> interaction::Input<'_> {
        interaction::Input::of(&self.0).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something came for the agent.
    told: Notify,
    /// The agent said something.
    said: Notify,
}

#[derive(Debug, Default)]
struct State {
    received: VecDeque<Event>,
    /// The questions that [`Inbox::ask`] has asked, by id.
    asked: HashMap<String, Asked>,
    said: VecDeque<Said>,
    is_closed: bool,
}

#[derive(Debug)]
enum Asked {
    Waiting,
    Answered(Event),
    /// Nobody waits any more.
    Withdrawn,
}

impl Shared {
    fn begin(self: Arc<Self>, id: String, event: Event) -> Result<Asking, AgentError> {
        {
            let mut state = self.lock();
            if state.is_closed {
                return Err(not_answered());
            }
            state.asked.insert(id.clone(), Asked::Waiting);
        }
        self.say(Said::Asked(event));
        Ok(Asking { shared: self, id })
    }

    fn deliver(&self, event: Event) {
        {
            let mut state = self.lock();
            if state.is_closed {
                return;
            }
            let id = Answered::of(&event).and_then(|view| Some(view.id()?.to_str().into_owned()));
            match id.as_deref().and_then(|id| state.asked.get_mut(id)) {
                Some(asked @ Asked::Waiting) => *asked = Asked::Answered(event),
                Some(_) => {
                    state.asked.remove(&id.unwrap_or_default());
                }
                None => state.received.push_back(event),
            }
        }
        self.told.notify_waiters();
    }

    fn say(&self, said: Said) {
        self.lock().said.push_back(said);
        self.said.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that [`Inbox::ask`] waits for.
struct Asking {
    shared: Arc<Shared>,
    id: String,
}

impl Asking {
    fn answer(&self) -> Option<Result<Answer, AgentError>> {
        let mut state = self.shared.lock();
        match state.asked.remove(&self.id) {
            Some(Asked::Answered(event)) => return Some(Ok(Answer(event))),
            Some(waiting) => drop(state.asked.insert(self.id.clone(), waiting)),
            None => {}
        }
        state.is_closed.then(|| Err(not_answered()))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let is_closed = state.is_closed;
        match state.asked.get_mut(&self.id) {
            Some(asked @ Asked::Waiting) if !is_closed => *asked = Asked::Withdrawn,
            Some(Asked::Answered(_)) => {
                state.asked.remove(&self.id);
                return;
            }
            _ => return,
        }
        drop(state);
        self.shared.say(Said::Withdrawn(self.id.clone()));
    }
}

fn not_answered() -> AgentError {
    AgentError::new(code::NOT_ANSWERED, "nobody can answer the agent's question")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use turnkit_wire::interaction::{Kind, answered, input};

    use super::*;

    fn question(id: &str) -> Interaction<'_> {
        Interaction::new(Kind::Approval, id)
    }

    #[tokio::test]
    async fn whoever_asks_is_told_its_answer_and_no_other_one() {
        let (handle, inbox) = InboxHandle::new();
        let (mut one, mut two) =
            (Box::pin(inbox.ask(&question("1"))), Box::pin(inbox.ask(&question("2"))));
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        assert_eq!(handle.said().await, Said::Asked(question("1").event()));
        assert_eq!(handle.said().await, Said::Asked(question("2").event()));
        handle.deliver(answered("2", Outcome::Declined, None, Some("ann")));
        assert!((&mut one).now_or_never().is_none());
        let answer = two.await.unwrap();
        assert_eq!((&*answer.id(), answer.outcome()), ("2", Outcome::Declined));
        assert_eq!(answer.by().as_deref(), Some("ann"));
        handle.deliver(answered("1", Outcome::Accepted, None, None));
        assert!(one.await.unwrap().is_accepted());
        assert_eq!(handle.try_said(), None);
        assert!(inbox.next().now_or_never().is_none(), "whoever asked has heard it");
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_is_withdrawn() {
        let (handle, inbox) = InboxHandle::new();
        let mut asking = Box::pin(inbox.ask(&question("1")));
        assert!((&mut asking).now_or_never().is_none());
        drop(asking);
        assert!(matches!(handle.said().await, Said::Asked(_)));
        assert_eq!(handle.said().await, Said::Withdrawn("1".into()));
        handle.deliver(answered("1", Outcome::Accepted, None, None));
        assert!(inbox.next().now_or_never().is_none(), "it came too late");
        drop(inbox.ask(&question("2")));
        assert_eq!(handle.try_said(), None, "what was never polled was never asked");
    }

    #[tokio::test]
    async fn inputs_and_other_answers_come_in_their_order_and_are_taken_by_that() {
        let (handle, inbox) = InboxHandle::new();
        handle.deliver(input("a", "hello", None));
        handle.deliver(answered("q", Outcome::Accepted, None, None));
        handle.deliver(input("b", "again", None));
        let Some(Received::Input(first)) = inbox.next().await else {
            panic!("an input comes first")
        };
        assert_eq!((&*first.id(), &*first.message()), ("a", "hello"));
        assert_eq!(handle.try_said(), Some(Said::Taken("a".into())));
        assert!(matches!(inbox.next().await, Some(Received::Answer(_))));
        assert!(matches!(inbox.next_untaken().await, Some(Received::Input(_))));
        assert_eq!(handle.try_said(), None);
        inbox.taken("b");
        assert_eq!(handle.try_said(), Some(Said::Taken("b".into())));
    }

    #[tokio::test]
    async fn a_closed_inbox_answers_nobody() {
        let (handle, inbox) = InboxHandle::new();
        let mut asking = Box::pin(inbox.ask(&question("1")));
        assert!((&mut asking).now_or_never().is_none());
        handle.close();
        assert_eq!(asking.await.unwrap_err().code(), code::NOT_ANSWERED);
        assert_eq!(inbox.ask(&question("2")).await.unwrap_err().code(), code::NOT_ANSWERED);
        assert!(inbox.next().await.is_none());
        handle.deliver(input("late", "m", None));
        assert!(inbox.next().await.is_none(), "what comes behind the end is nobody's");
        assert!(Inbox::closed().next().await.is_none());
    }
}
