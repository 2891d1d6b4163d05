//! The agent: does what the script for its message says, and is counted.

use std::sync::Arc;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use turnkit_substrate::{Agent, AgentError, Run};
use turnkit_wire::Event;

use crate::{
    history::Fact,
    script::{Outcome, Script, Step},
    world::World,
};

pub(crate) struct Scripted {
    world: World,
}

impl Scripted {
    pub(crate) fn new(world: World) -> Self {
        Self { world }
    }

    fn script(&self, message: &str) -> Option<Script> {
        let turn = self.world.plan().turns().find(|turn| turn.script.message == message);
        turn.map(|turn| turn.script.clone())
    }
}

impl Agent for Scripted {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let execution = run.request().execution_id().clone();
        self.world.add(Fact::AgentAsked { execution });
        let script = self.script(run.request().message()).map(Arc::new);
        let failure = match script.as_deref().map(|script| &script.outcome) {
            Some(Outcome::Answer(_) | Outcome::Error(_)) => None,
            Some(Outcome::Failure(code)) => Some(AgentError::new(code, "as the script says")),
            None => Some(AgentError::new("no_script", "there is no script for this message")),
        };
        let steps = script.map(|script| script.steps.clone()).unwrap_or_default();
        let events = stream::iter(steps).then(|Step { pause, event }| async move {
            tokio::time::sleep(pause).await;
            Ok(event)
        });
        events.chain(stream::iter(failure.map(Err)))
    }
}
