//! A mistake of what runs the agent, made between the two.

use std::future::ready;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, future::Either, stream};
use tokio::time::sleep;
use turnkit_substrate::AgentError;
use turnkit_wire::Event;

use super::Bug;
use crate::{log::RUN_TIMEOUT, world::World};

/// The agent's events; with [`Bug::ClockRunsOn`] until the time of a run is over, whatever it waits for.
pub(crate) fn agent(
    world: &World,
    events: BoxStream<'static, Result<Event, AgentError>>,
) -> BoxStream<'static, Result<Event, AgentError>> {
    if !world.has(Bug::ClockRunsOn) {
        return events;
    }
    let late = stream::once(async {
        sleep(RUN_TIMEOUT).await;
        Either::Right(())
    });
    let end = stream::once(ready(Either::Left(None)));
    let events = events.map(|event| Either::Left(Some(event))).chain(end);
    let until = stream::select(events, late).scan(false, |is_over, next| {
        ready(match next {
            _ if *is_over => None,
            Either::Left(event) => event,
            Either::Right(()) => {
                *is_over = true;
                Some(Err(AgentError::new("timeout", "the run took too long")))
            }
        })
    });
    until.boxed()
}
