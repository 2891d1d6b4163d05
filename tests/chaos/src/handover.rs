//! A server is replaced in calm weather: what it gives up another one takes up at once, without any client.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep, timeout},
};
use turnkit_client::{Client, NewTurn, Update};

use crate::{check::REST, clients::at_rest, stage::Stage};

/// How soon a turn that was given up has come to its end: the rest of its answer, and a look at the database. A sweep that nobody wakes comes every
/// 30 s.
const TAKEN_UP: Duration = Duration::from_secs(12);
/// The same with SQLite, where no process tells another.
const SWEPT: Duration = Duration::from_secs(45);
const TURNS: usize = 6;

/// Replaces both servers, then ends one while turns run in it that nobody reads. Says what was wrong.
pub(crate) async fn take_place(stage: &mut Stage) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for server in &mut stage.servers {
        server.signal("TERM")?;
        wrong.extend(block_in_place(|| server.ended())?);
        server.start()?;
        serves(&Client::builder(format!("http://{}", server.address)).build()?).await?;
    }
    let [one, other] = [0, 1].map(|number| format!("http://{}", stage.servers[number].address));
    let one = Client::builder(one).build()?;
    let mut sessions = Vec::new();
    for number in 0..TURNS {
        let session = one.create_session().await?;
        let mut turn = one.send(&session, &NewTurn::new("given-up", number.to_string()))?;
        while !matches!(turn.next().await?, Some(Update::Event { .. }) | None) {}
        sessions.push(session);
    }
    stage.servers[0].signal("TERM")?;
    wrong.extend(block_in_place(|| stage.servers[0].ended())?);
    let taken_up = if stage.postgres.is_some() { TAKEN_UP } else { SWEPT };
    let (other, until) = (Client::builder(other).build()?, Instant::now() + taken_up);
    for session in sessions {
        let left = until.saturating_duration_since(Instant::now());
        for open in at_rest(&other, &session, left).await?.turns {
            let seconds = taken_up.as_secs();
            let open = open.execution_id;
            wrong.push(format!("{open} was given up, and is still open {seconds} s later"));
        }
    }
    stage.servers[0].start()?;
    // Before that it has no ear for what it is told.
    serves(&one).await?;
    Ok(wrong)
}

/// Waits until a server answers.
pub(crate) async fn serves(client: &Client) -> Result<()> {
    let answers = timeout(REST, async {
        loop {
            match client.create_session().await {
                Ok(_) => return,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    answers.await.context("a server does not start")
}
