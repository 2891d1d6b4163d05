//! One run of an agent, from its start to its one terminal event, whoever reads it (PROTOCOL 3.1).

mod questions;

use std::{
    any::Any,
    mem,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::Peekable};
use tokio::{
    task::coop,
    time::{self, Instant},
};
use turnkit_agent::{
    AgentError, CANCEL_GRACE, CancelHandle, ErasedAgent, EventStream, Inbox, InboxHandle,
    RunRequest, Said, Takes, code,
};
use turnkit_wire::{
    EncodeError, Event,
    interaction::{self, Outcome as Answered, Question},
    kind::Class,
};

use self::questions::{Due, MAX_PENDING, Questions};
use crate::{
    events,
    log::{
        AppendError, Change, Ending, ExecutionKey, LogError, LogFuture, LogReader, LogWriter, Slot,
        State, Status,
    },
    runs::Permit,
    stop::Stop,
    substrate::Shared,
};

/// Everything that one run needs.
pub(crate) struct Run {
    key: ExecutionKey,
    shared: Arc<Shared>,
    takes: Takes,
    writer: Box<dyn LogWriter>,
    permit: Permit,
    timeout: Duration,
    questions: Questions,
    /// Where the agent takes anything.
    inbox: Option<InboxHandle>,
    /// The inputs that it was told and has not taken.
    untaken: Vec<String>,
    /// Where the events of one step of the log are put together, again and again.
    batch: Vec<Event>,
}

impl Run {
    /// Runs the agent in a task of its own, which no reader holds.
    pub(crate) fn spawn(
        shared: Arc<Shared>,
        key: ExecutionKey,
        agent: Arc<dyn ErasedAgent>,
        request: RunRequest,
        writer: Box<dyn LogWriter>,
        mut permit: Permit,
        timeout: Duration,
    ) {
        let stopped = permit.enlist(&key);
        let name = request.identifier();
        tracing::info!(execution_id = %key.id, scope = %key.scope, agent = name, "run started");
        let questions = Questions::new(Instant::now(), timeout, shared.limits.run_in_all);
        let takes = agent.takes_boxed();
        let (inbox, agents) = takes.any().then(InboxHandle::new).unzip();
        let agents = agents.unwrap_or_else(Inbox::closed);
        let run = Self {
            key,
            shared,
            takes,
            writer,
            permit,
            timeout,
            questions,
            inbox,
            untaken: Vec::new(),
            batch: Vec::new(),
        };
        tokio::spawn(run.drive(agent, request, agents, stopped));
    }

    async fn drive(
        mut self,
        agent: Arc<dyn ErasedAgent>,
        request: RunRequest,
        inbox: Inbox,
        stopped: impl Future<Output = Stop>,
    ) {
        let (handle, cancel) = CancelHandle::new();
        let warning = events::history_omitted(&request);
        let run = turnkit_agent::Run::new(request, cancel).with_inbox(inbox);
        let mut events = match start(&*agent, run) {
            Ok(events) => events,
            Err(outcome) => {
                self.end(outcome).await;
                return;
            }
        };
        let fenced = self.writer.fenced();
        let pump = self.pump(&mut events, warning);
        let outcome = tokio::select! {
            biased;
            stop = stopped => Outcome::Stopped(stop),
            () = fenced => Outcome::Fenced,
            outcome = AssertUnwindSafe(pump).catch_unwind() => outcome.unwrap_or_else(panicked),
        };
        let is_at_work = outcome.is_before_the_agents_end();
        if is_at_work {
            handle.cancel();
        }
        // The place of the run is taken for as long as its agent is.
        let _permit = self.end(outcome).await;
        if is_at_work {
            wind_down(events).await;
        }
    }

    /// Stores the agent's events, and hands it what others have posted, until there is an outcome. An agent that is always ready
    /// leaves its thread to others now and then. `warning` stands before all that it says.
    async fn pump(&mut self, events: &mut EventStream, warning: Option<Event>) -> Outcome {
        let mut events = pin!(events.peekable());
        if let Some(warning) = warning
            && let Err(error) = self.writer.append(&warning).await
        {
            return error.into();
        }
        let mut timer = pin!(time::sleep_until(self.questions.next_due()));
        let mut posted = None;
        loop {
            if posted.is_none() && (self.takes.input || self.questions.are_pending()) {
                posted = Some(self.writer.posted());
            }
            let step = tokio::select! {
                biased;
                // Before the agent: one that is always ready uses up what tokio lets a task do at a time.
                () = &mut timer => self.be_due().await,
                said = said(self.inbox.as_ref()) => self.hear(said).await,
                found = found(&mut posted) => {
                    posted = None;
                    match found {
                        Ok(found) => self.tell(found).await,
                        Err(error) => {
                            tracing::warn!(execution_id = %self.key.id, %error, "an inbox could not be read");
                            posted = Some(Box::pin(async {
                                time::sleep(AGAIN).await;
                                Ok(Vec::new())
                            }));
                            Ok(())
                        }
                    }
                }
                event = events.next() => match event {
                    Some(Ok(event)) => self.take_ready(event, events.as_mut()).await,
                    Some(Err(error)) => Err(error.into()),
                    None => return Outcome::Completed,
                },
            };
            if let Err(outcome) = step {
                return outcome;
            }
            if timer.deadline() != self.questions.next_due() {
                timer.as_mut().reset(self.questions.next_due());
            }
            coop::consume_budget().await;
        }
    }

    /// An event of the agent's, and those that it has ready behind it, in one step of the log. What the log is not simply to hold
    /// stays where it is: its turn comes when all before it is stored.
    async fn take_ready(
        &mut self,
        first: Event,
        mut events: Pin<&mut Peekable<&mut EventStream>>,
    ) -> Result<(), Outcome> {
        if self.treatment(&first) != Treatment::Store {
            return self.take(&first).await;
        }
        let (mut bytes, mut end) = (first.json_len(), Ok(()));
        let mut batch = mem::take(&mut self.batch);
        batch.push(first);
        let until = Instant::now() + BATCH_TIME;
        // To ask the clock takes as long as to store an event: behind the first ones it is asked at every fourth.
        let has_time =
            |taken: usize| (taken > 4 && !taken.is_multiple_of(4)) || Instant::now() < until;
        while batch.len() < BATCH_EVENTS && bytes < BATCH_BYTES && has_time(batch.len()) {
            // What it says by its inbox stands between its events.
            if self.inbox.as_ref().is_some_and(InboxHandle::has_said) {
                break;
            }
            let is_stored = |next: &Result<Event, AgentError>| {
                next.as_ref().is_ok_and(|event| self.treatment(event) == Treatment::Store)
            };
            let next = AssertUnwindSafe(events.as_mut().next_if(is_stored)).catch_unwind();
            match next.now_or_never() {
                Some(Ok(Some(Ok(event)))) => {
                    bytes += event.json_len();
                    batch.push(event);
                }
                // What it had sent before that is stored.
                Some(Err(panic)) => {
                    end = Err(panicked(panic));
                    break;
                }
                _ => break,
            }
        }
        self.writer.append_all(&batch).await?;
        for _ in batch.drain(..) {
            coop::consume_budget().await;
        }
        // A longer one is not kept: thousands of runs would each hold on to their longest.
        batch.shrink_to(16);
        self.batch = batch;
        end
    }

    /// An event of the agent's.
    async fn take(&mut self, event: &Event) -> Result<(), Outcome> {
        match self.treatment(event) {
            Treatment::Store => {
                self.writer.append(event).await?;
                Ok(())
            }
            Treatment::Ask => self.ask(event).await,
            Treatment::RefuseSize => {
                let (length, most) = (event.json_len(), self.shared.limits.event);
                let message =
                    format!("the agent sent an event of {length} bytes; the limit is {most}");
                Err(Outcome::failed(code::EVENT_TOO_LARGE, message))
            }
            Treatment::RefuseKind => {
                let message =
                    format!("the agent sent {}, which is the substrate's own", event.kind());
                Err(Outcome::failed("reserved_event", message))
            }
        }
    }

    fn treatment(&self, event: &Event) -> Treatment {
        let class = event.class();
        if event.json_len() > self.shared.limits.event {
            Treatment::RefuseSize
        } else if class.is_reserved() || (self.takes.any() && class.is_of_inbox()) {
            Treatment::RefuseKind
        } else if class == Class::Interaction && self.takes.answers {
            Treatment::Ask
        } else {
            Treatment::Store
        }
    }

    /// A question: from the event on it is pending, and the run's time stands still.
    async fn ask(&mut self, event: &Event) -> Result<(), Outcome> {
        let invalid = |why: String| Outcome::failed("invalid_event", why);
        let question = Question::read(event)
            .map_err(|error| invalid(format!("the agent's interaction is malformed: {error}")))?;
        if self.questions.are_too_many() {
            return Err(invalid(format!("the agent has {MAX_PENDING} questions pending already")));
        }
        self.writer.append_with(event, Change::Asks(question.id())).await?;
        let (now, limits) = (Instant::now(), &self.shared.limits);
        let asked = |expires_at: u64| {
            Duration::from_millis(expires_at.saturating_sub(self.shared.clock.unix_ms()))
        };
        let time = question.expires_at().map_or(limits.interaction, asked).min(limits.interaction);
        self.questions.ask(question.id(), now + time, now);
        self.permit.wait(limits);
        Ok(())
    }

    /// Something that the agent says by its inbox.
    async fn hear(&mut self, said: Said) -> Result<(), Outcome> {
        match said {
            Said::Asked(event) if self.takes.answers => self.take(&event).await,
            Said::Withdrawn(id) => {
                self.post(&id, Answered::Withdrawn).await;
                Ok(())
            }
            Said::Taken(id) => {
                self.taken(&id).await?;
                Ok(())
            }
            _ => {
                let message =
                    "the agent asked something and does not declare that it takes answers";
                Err(Outcome::failed("invalid_event", message))
            }
        }
    }

    /// The agent has an input, unless it has said so before.
    async fn taken(&mut self, id: &str) -> Result<(), AppendError> {
        if let Some(at) = self.untaken.iter().position(|untaken| untaken == id) {
            self.writer.append_with(&interaction::input_taken(id), Change::Takes(id)).await?;
            self.untaken.remove(at);
        }
        Ok(())
    }

    /// Appends what was posted, and then tells it the agent.
    async fn tell(&mut self, posted: Vec<(Slot, Event)>) -> Result<(), Outcome> {
        for (slot, event) in posted {
            self.writer.append_with(&event, Change::Tells(&slot)).await?;
            match slot {
                Slot::Interaction(id) => {
                    self.questions.answer(&id, Instant::now());
                    if !self.questions.are_pending() {
                        self.permit.go_on();
                    }
                }
                Slot::Input(id) => self.untaken.push(id),
            }
            if let Some(inbox) = &self.inbox {
                inbox.deliver(event);
            }
        }
        Ok(())
    }

    /// Some time is over.
    async fn be_due(&mut self) -> Result<(), Outcome> {
        match self.questions.due(Instant::now(), AGAIN) {
            None => Ok(()),
            Some(Due::Run) => {
                Err(Outcome::TimedOut(format!("the run took longer than {:?}", self.timeout)))
            }
            Some(Due::RunInAll) => {
                let most = self.shared.limits.run_in_all;
                let message = format!("the run took longer than {most:?}, its questions included");
                Err(Outcome::TimedOut(message))
            }
            Some(Due::Question(id)) => {
                self.post(&id, Answered::Expired).await;
                Ok(())
            }
        }
    }

    /// Posts what the substrate itself says of a question: an answer that came before outweighs it.
    async fn post(&mut self, id: &str, outcome: Answered) {
        let slot = Slot::Interaction(id.to_owned());
        let event = interaction::answered(id, outcome, None, None);
        if let Err(error) = self.shared.log.post(&self.key, &slot, &event).await {
            tracing::warn!(execution_id = %self.key.id, %error, "a question could not be closed");
        }
    }

    /// Stores the terminal event.
    async fn end(mut self, outcome: Outcome) -> Permit {
        if let Some(inbox) = self.inbox.take() {
            inbox.close();
            // What the agent has is not told as untaken: it would come to it again.
            while let Some(said) = inbox.try_said().filter(|_| !matches!(outcome, Outcome::Fenced))
            {
                if let Said::Taken(id) = said
                    && let Err(error) = self.taken(&id).await
                {
                    tracing::warn!(execution_id = %self.key.id, %error, "an input that was taken could not be told so");
                }
            }
        }
        if self.takes.input {
            // The log knows best: where the run was stopped, its last append may have been dropped as it was stored.
            match self.writer.untaken().await {
                Ok(untaken) => self.untaken = untaken,
                Err(error) => {
                    tracing::warn!(execution_id = %self.key.id, %error, "the inputs of a run could not be looked up");
                }
            }
        }
        let (id, scope) = (&self.key.id, &self.key.scope);
        let (ending, event) = match outcome.terminal(&self) {
            Ok(Some(terminal)) => terminal,
            Ok(None) => return self.permit,
            Err(error) => {
                tracing::error!(execution_id = %id, %error, "a terminal event could not be encoded");
                return self.permit;
            }
        };
        match self.writer.end(ending, &event).await {
            Ok(last) => {
                tracing::info!(execution_id = %id, %scope, %last, end = event.kind(), "run ended");
            }
            Err(error) => {
                tracing::error!(execution_id = %id, %scope, %error, "a run could not be ended");
            }
        }
        self.permit
    }
}

/// What comes of an event that the agent sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    Store,
    /// It is a question, which is pending once it is stored.
    Ask,
    RefuseSize,
    RefuseKind,
}

/// How much is stored in one step at most: a log that several runs share is busy with it for so long.
const BATCH_EVENTS: usize = 256;
const BATCH_BYTES: usize = 64 * 1024;
/// What an agent has to work for is not ready, although it lets nobody else do anything meanwhile.
const BATCH_TIME: Duration = Duration::from_millis(1);

/// When something is tried again that failed, or that should have been done by now.
const AGAIN: Duration = Duration::from_secs(5);

/// The next thing that the agent says by its inbox; never, where it has none.
async fn said(inbox: Option<&InboxHandle>) -> Said {
    match inbox {
        Some(inbox) => inbox.said().await,
        None => std::future::pending().await,
    }
}

type Posted = LogFuture<'static, Result<Vec<(Slot, Event)>, LogError>>;

/// What was posted; never, where nothing can be.
async fn found(posted: &mut Option<Posted>) -> Result<Vec<(Slot, Event)>, LogError> {
    match posted {
        Some(posted) => posted.await,
        None => std::future::pending().await,
    }
}

/// Waits until the execution has ended, and says how.
pub(crate) async fn ended(reader: &dyn LogReader) -> Result<Status, LogError> {
    loop {
        let status = reader.status().await?;
        if status.state != State::Running {
            return Ok(status);
        }
        reader.next(status.last.seq).await?;
    }
}

/// How a run came to its end.
enum Outcome {
    Completed,
    Failed(AgentError),
    Stopped(Stop),
    /// It took too long; the message says how long that is.
    TimedOut(String),
    /// Someone else ends the log.
    Fenced,
}

impl Outcome {
    fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::Failed(AgentError::new(code, message))
    }

    /// Whether the agent may still be at work.
    fn is_before_the_agents_end(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::TimedOut(_) | Self::Fenced)
    }

    /// The terminal event that tells it; none where it is not this run's to tell.
    fn terminal(&self, run: &Run) -> Result<Option<(Ending, Event)>, EncodeError> {
        let (id, untaken, now) = (&run.key.id, &*run.untaken, run.shared.clock.unix_ms());
        let failed =
            |error: &AgentError| Ok((Ending::Failed, events::failed(id, error, untaken, now)?));
        let terminal = match self {
            Self::Completed => (Ending::Completed, events::completed(id, untaken, now)?),
            Self::Failed(error) => failed(error)?,
            Self::Stopped(Stop::Cancelled) => {
                (Ending::Cancelled, events::cancelled(id, untaken, now)?)
            }
            Self::TimedOut(message) => failed(&AgentError::new("timeout", message.as_str()))?,
            Self::Stopped(Stop::ShuttingDown) => {
                let message = "the substrate is shutting down";
                failed(&AgentError::new("shutting_down", message).temporary())?
            }
            Self::Fenced => return Ok(None),
        };
        Ok(Some(terminal))
    }
}

impl From<AgentError> for Outcome {
    fn from(error: AgentError) -> Self {
        Self::Failed(error)
    }
}

impl From<AppendError> for Outcome {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full(bound) => Self::failed("log_full", format!("{bound} is used up")),
            AppendError::AskedBefore => {
                Self::failed("invalid_event", "the agent used the id of a question again")
            }
            AppendError::Fenced => Self::Fenced,
            AppendError::Frame(error) => Self::failed("invalid_event", error.to_string()),
            AppendError::Store(error) => {
                tracing::error!(%error, "the log's store failed");
                AgentError::new("log_failed", "the log cannot be reached").temporary().into()
            }
        }
    }
}

fn start(agent: &dyn ErasedAgent, run: turnkit_agent::Run) -> Result<EventStream, Outcome> {
    let events = AssertUnwindSafe(|| agent.run_boxed(run));
    std::panic::catch_unwind(events).map_err(panicked)
}

/// Lets a stopped agent come to its own end; nothing that it still says is stored.
async fn wind_down(mut events: EventStream) {
    let rest = async {
        while events.next().await.is_some() {
            coop::consume_budget().await;
        }
    };
    // Whether it ended, panicked or took too long: it is dropped now.
    let _ = time::timeout(CANCEL_GRACE, AssertUnwindSafe(rest).catch_unwind()).await;
}

/// The panic's text may hold anything, so nobody is told.
fn panicked(_: Box<dyn Any + Send>) -> Outcome {
    Outcome::failed("panic", "the agent panicked")
}
