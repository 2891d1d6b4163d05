//! One client: a session, a turn in it, and how old each event is when it arrives.

use anyhow::{Context as _, Result, ensure};
use turnkit_client::{Client, NewTurn};
use turnkit_wire::kind;

use crate::agent::age;

/// What a client got of its turn.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) events: u64,
    /// Bytes of their lines.
    pub(crate) bytes: u64,
    /// Microseconds from the agent to here, for each event of the agent.
    pub(crate) delays: Vec<u32>,
}

/// What is asked: the demo agent says much about it.
pub(crate) const MESSAGE: &str = "A long answer, please";

/// Runs a turn from its session to `session.run.completed`, over one connection: what fails is to be seen.
pub(crate) async fn turn(client: &Client, n: u32) -> Result<Taken> {
    let session = client.create_session().await.context("open a session")?;
    let turn = NewTurn::new(format!("load-{n}"), MESSAGE);
    let mut body = client.start(&session, &turn).await.context("start the turn")?;
    let (mut taken, mut last) = (Taken::default(), None);
    while let Some(event) = body.next().await? {
        taken.events += 1;
        taken.bytes += event.as_json().len() as u64 + 1;
        taken.delays.extend(age(&event));
        last = Some(event);
    }
    let last = last.context("the body was empty")?;
    ensure!(last.kind() == kind::RUN_COMPLETED, "the turn ended with {}", last.as_json());
    Ok(taken)
}
