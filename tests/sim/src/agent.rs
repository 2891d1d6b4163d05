//! The agent: does what the script for its message says, and is counted.

use futures_core::Stream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use turnkit_id::ExecutionId;
use turnkit_substrate::{Agent, AgentError, Inbox, Run, Takes};
use turnkit_wire::{
    Event,
    interaction::{Answered, Input, Interaction, Kind, Outcome as Came},
};

use crate::{
    bugs::{self, Bug},
    history::Fact,
    plan::Asked,
    script::{Outcome, Step},
    world::{World, unix_ms},
};

pub(crate) struct Scripted {
    world: World,
}

impl Scripted {
    pub(crate) fn new(world: World) -> Self {
        Self { world }
    }
}

/// An agent at work.
struct Work {
    world: World,
    execution: ExecutionId,
    inbox: Inbox,
    steps: std::vec::IntoIter<Step>,
    taken: usize,
    asks: std::iter::Peekable<std::vec::IntoIter<Asked>>,
    /// The question that it waits for.
    waits_for: Option<String>,
}

impl Work {
    /// Notes what it was told, and gives the id of the question.
    fn told(&self, event: &Event) -> Option<String> {
        if let Some(input) = Input::of(event) {
            let input = input.id()?.to_str().into_owned();
            self.world.add(Fact::Received { execution: self.execution.clone(), input });
            return None;
        }
        let answered = Answered::of(event)?;
        let question = answered.id()?.to_str().into_owned();
        let outcome = answered.outcome().map(Came::as_str).unwrap_or_default();
        let execution = self.execution.clone();
        self.world.add(Fact::Heard { execution, question: question.clone(), outcome });
        Some(question)
    }

    async fn next(&mut self) -> Option<Event> {
        while let Some(question) = self.waits_for.clone() {
            let received = self.inbox.next().await?;
            if self.told(received.event()) == Some(question) {
                self.waits_for = None;
            }
        }
        // One that comes a second time is heard as well.
        while let Some(Some(received)) = self.inbox.next().now_or_never() {
            self.told(received.event());
        }
        if let Some(asked) = self.asks.next_if(|asked| asked.after <= self.taken) {
            let lasts = u64::try_from(asked.lasts.as_millis()).unwrap_or_default();
            let question = Interaction::new(Kind::Approval, &asked.id);
            let event = question.expires_at(unix_ms() + lasts).event();
            self.waits_for = Some(asked.id);
            return Some(event);
        }
        let Step { pause, event } = self.steps.next()?;
        tokio::time::sleep(pause).await;
        self.taken += 1;
        Some(event)
    }
}

impl Agent for Scripted {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let execution = run.request().execution_id().clone();
        self.world.add(Fact::AgentAsked { execution: execution.clone() });
        let found = self.world.plan().script_for(run.request().message());
        let asks = found.map(|(_, asks)| asks.to_vec()).unwrap_or_default();
        let asks = if self.world.has_inbox() { asks } else { Vec::new() };
        let script = found.map(|(script, _)| script.clone());
        let failure = match script.as_ref().map(|script| &script.outcome) {
            Some(Outcome::Answer(_) | Outcome::Error(_)) => None,
            Some(Outcome::Failure(code)) => Some(AgentError::new(code, "as the script says")),
            None => Some(AgentError::new("no_script", "there is no script for this message")),
        };
        let steps = script.map(|script| script.steps).unwrap_or_default();
        let work = Work {
            world: self.world.clone(),
            execution,
            inbox: run.inbox().clone(),
            steps: steps.into_iter(),
            taken: 0,
            asks: asks.into_iter().peekable(),
            waits_for: None,
        };
        let events = stream::unfold(work, async |mut work| Some((Ok(work.next().await?), work)));
        let events = events.boxed().chain(stream::iter(failure.map(Err)));
        bugs::agent(&self.world, events.boxed())
    }

    fn takes(&self) -> Takes {
        // Whoever is told an answer that is not stored is told it again, for as long as there may be input.
        let input = self.world.has_inbox() && !self.world.has(Bug::AnswerBeforeAppend);
        Takes { answers: true, input }
    }
}
